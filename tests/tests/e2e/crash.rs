//! `kill -9` of the gateway, again and again in the middle of enrolments, bindings, settings, API tokens and snapshots, all at
//! once: whatever it acknowledged is there afterwards, every start succeeds, and the audit log is whole and has all of it.
//!
//! `TIDEGATE_TEST_KILLS` is how many times.

pub(crate) mod witness;

use std::process::Command;
use std::time::Instant;

use tests::gateway::Gateway;
use tests::process::{binary, run};
use tests::setting::setting;

use self::witness::Witness;

/// The same name as of the store's own test beside the code.
const KILLS_VARIABLE: &str = "TIDEGATE_TEST_KILLS";
const KILLS: usize = 12;
/// The gateway dies once this many more writes were acknowledged: sooner in one round, later in the next, so that the
/// blow falls on batches of every size.
const ACKNOWLEDGED: [usize; 5] = [3, 40, 90, 7, 150];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_torn_however_often_the_gateway_is_killed() {
    let kills = setting(KILLS_VARIABLE).unwrap_or(KILLS);
    let started = Instant::now();
    let mut gateway = Gateway::start().await;
    let mut witness = Witness::new();
    for round in 0..kills {
        let working = witness.begin(&gateway.admin);
        working.acknowledged(ACKNOWLEDGED[round % ACKNOWLEDGED.len()]).await;
        gateway.kill();
        witness.end(working).await;
        assert_only_the_last_line_is_torn(&gateway).await;
        gateway.resume().await;
        witness.compare(&gateway, round + 1 == kills).await;
    }
    let recorded = witness.assert_recorded(&gateway.data());
    let edges = witness.edges();
    println!(
        "{kills} kills, {recorded} recorded changes, edges free, bound, deleted: {edges:?}, {:?}",
        started.elapsed()
    );
    assert!(edges.iter().all(|count| *count >= kills / 2), "{edges:?}: the test proves too little");
}

/// A kill may leave an incomplete last record, which nobody was told of; nothing else is wrong with the log.
async fn assert_only_the_last_line_is_torn(gateway: &Gateway) {
    let mut command = Command::new(binary("tidegate"));
    command.args(["audit", "verify", "--data-dir"]).arg(gateway.data());
    let ended = run(command).await;
    let wrong = ended.stdout.matches(".jsonl").count();
    assert_eq!(wrong, ended.stdout.matches("it ends within a record").count(), "{ended:?}");
}
