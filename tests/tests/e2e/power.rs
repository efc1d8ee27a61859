//! The power goes, again and again, under a gateway whose disk forgets everything that was not synced (the disk's model is in
//! `fixtures::disk`): whatever the gateway acknowledged is there afterwards, and so are the keys that agents pin.
//!
//! `TIDEGATE_TEST_POWER_CUTS` is how many times.

use std::fs::File;
use std::time::{Duration, Instant};

use fixtures::disk::{Disk, Fault, Left};
use tests::gateway::{Gateway, GatewayOptions};
use tests::setting::setting;
use tests::site::Site;
use tests::wait::{SOON, until};

use crate::crash::witness::Witness;

const CUTS_VARIABLE: &str = "TIDEGATE_TEST_POWER_CUTS";
const CUTS: usize = 6;
/// First starts that the power ends, and how long the longest of them lasts: about as long as a start takes.
const STARTS: usize = 20;
const LONGEST_START: Duration = Duration::from_millis(300);
/// Bytes of the disk.
const CAPACITY: u64 = 256 * 1024 * 1024;
/// Acknowledged writes before each cut.
const ACKNOWLEDGED: [usize; 4] = [60, 3, 150, 20];

fn disk() -> Disk {
    Disk::mount(CAPACITY).expect("this test mounts a file system: it needs /dev/fuse, and root")
}

/// A gateway whose data folder is on a disk that forgets.
async fn on_a_disk() -> (Disk, Gateway) {
    let disk = disk();
    let gateway = GatewayOptions::default().data(disk.path().join("state/data")).start().await;
    (disk, gateway)
}

/// Of a gateway that was killed: its disk loses what was not synced, and both come back.
async fn cut(disk: &mut Disk, gateway: &mut Gateway, left: Left) {
    disk.cut_power(left).expect("nobody uses it any more");
    gateway.resume().await;
}

async fn survives(cuts: usize, left: impl Fn(u64) -> Left) {
    let started = Instant::now();
    let (mut disk, mut gateway) = on_a_disk().await;
    let pin = gateway.pin();
    let mut witness = Witness::new();
    // At once, when nothing but the start itself is there to be lost.
    gateway.kill();
    cut(&mut disk, &mut gateway, left(0)).await;
    for round in 0..cuts {
        let working = witness.begin(&gateway.admin);
        working.acknowledged(ACKNOWLEDGED[round % ACKNOWLEDGED.len()]).await;
        gateway.kill();
        witness.end(working).await;
        cut(&mut disk, &mut gateway, left(round as u64 + 1)).await;
        assert_eq!(gateway.pin(), pin, "agents pin this key");
        witness.compare(&gateway, round + 1 == cuts).await;
    }
    let recorded = witness.assert_recorded(&gateway.data());
    println!(
        "{cuts} power cuts, {recorded} recorded changes, edges {:?}, {:?}",
        witness.edges(),
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_power_goes() {
    survives(setting(CUTS_VARIABLE).unwrap_or(CUTS), |_| Left::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_a_part_of_what_was_not_synced_gets_to_the_disk() {
    survives(setting(CUTS_VARIABLE).unwrap_or(CUTS), Left::Some).await;
}

/// However far its first starts came: keys that are half there, a database without its format, an empty log.
async fn starts_in_the_end(left: impl Fn(u64) -> Left) {
    let (mut disk, mut gateway) = on_a_disk().await;
    gateway.kill();
    // As if it had never been there.
    std::fs::remove_dir_all(disk.path().join("state")).expect("nobody uses it any more");
    File::open(disk.path()).and_then(|root| root.sync_all()).expect("a folder can be synced");
    for start in 0..setting(CUTS_VARIABLE).unwrap_or(STARTS) {
        gateway.start_in_vain(LONGEST_START.mul_f64(start as f64 % 20.0 / 20.0)).await;
        disk.cut_power(left(start as u64)).expect("nobody uses it any more");
    }
    // The token of a life that is forgotten.
    std::fs::remove_file(gateway.folder().join("token")).ok();
    gateway.resume().await;
    gateway.admin.create("shop").await;
    gateway.kill();
    cut(&mut disk, &mut gateway, left(u64::MAX)).await;
    gateway.admin.edge("shop").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_power_goes_while_it_starts_for_the_first_time_starts_in_the_end() {
    starts_in_the_end(|_| Left::Nothing).await;
    starts_in_the_end(Left::Some).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_the_one_that_it_was_when_its_power_went() {
    let mut disk = disk();
    let data = disk.path().join("state/data");
    let mut site = Site::at(Gateway::start().await, &[], |_| (), |agent| agent.data(data)).await;
    for _ in 0..2 {
        site.agent.kill();
        disk.cut_power(Left::Nothing).expect("nobody uses it any more");
        site.agent.resume();
        site.wait_check_in().await;
    }
    assert!(!site.agent.log().contains("another edge ID"), "it proves itself with what it kept");
}

/// The worst of both: a disk that fails to sync, gets well, and loses its power before anybody knows how well. In every
/// second round the gateway is killed in between, so that nobody is left who knows what the kernel forgot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_power_goes_after_failed_syncs() {
    let (mut disk, mut gateway) = on_a_disk().await;
    let mut witness = Witness::new();
    for round in 0..setting(CUTS_VARIABLE).unwrap_or(CUTS).div_ceil(2) {
        let mut working = witness.begin(&gateway.admin);
        working.acknowledged(ACKNOWLEDGED[round % ACKNOWLEDGED.len()]).await;
        disk.set(Fault::SyncFails);
        working.refused(20).await;
        if round % 2 == 1 {
            gateway.kill();
            disk.set(Fault::None);
            witness.end(working).await;
            gateway.resume().await;
            witness.compare(&gateway, false).await;
            working = witness.begin(&gateway.admin);
        }
        disk.set(Fault::None);
        working.acknowledged(60).await;
        gateway.kill();
        witness.end(working).await;
        cut(&mut disk, &mut gateway, Left::Nothing).await;
        witness.compare(&gateway, true).await;
    }
    witness.assert_recorded(&gateway.data());
    until(SOON, "the gateway is ready", async || {
        let ready = gateway.admin.get("/readyz").await;
        ready.status.is_success().then_some(())
    })
    .await;
}
