//! An operator's connection over time: what it keeps open, and how it ends.

use std::io::Write as _;
use std::time::Duration;

use rustix::process::Signal;
use shared::wire::admin::TunnelState;
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::gateway::DRAIN;
use tests::openssh::Sshd;
use tests::process::{Log, Process};
use tests::site::{EDGE, Site};
use tests::wait::SOON;

use super::{GW, Operator};

/// The shortest idle time there is.
const IDLE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn quiet_session_holds_the_tunnel_which_closes_after_it() {
    let sshd = Sshd::start().await;
    let site = Site::start_with(&[("ssh", &sshd.address)], |edge| edge.idle_timeout_s = Some(10)).await;
    let operator = Operator::of(&site.gateway).await.knows(&sshd);
    let log = Log::default();
    let (mut session, mut input) =
        Process::start_talking("ssh shop cat", operator.command("ssh", &[EDGE, "cat"]), &log);
    writeln!(input, "before").expect("ssh reads it");
    log.wait_for("before", SOON).await;
    let since = site.gateway.admin.tunnel(EDGE).await.since;
    // That nothing happens can be seen only by waiting for longer than it would take to happen, twice.
    tokio::time::sleep(IDLE * 5 / 2).await;
    writeln!(input, "after").expect("ssh reads it");
    log.wait_for("after", SOON).await;
    assert_eq!(site.gateway.admin.tunnel(EDGE).await.since, since);
    drop(input);
    assert_eq!(session.exit(SOON).await.code(), Some(0));
    site.gateway.admin.wait_tunnel_within(EDGE, TunnelState::Idle, IDLE + SOON).await;
}

#[tokio::test]
async fn gateway_that_stops_lets_operators_finish_and_takes_no_new_streams() {
    let echo = Tcp::echo().await;
    let mut site = Site::with("db", echo.address).await;
    let operator = Operator::of(&site.gateway).await;
    let idle = operator.forwarding(&[]);
    let (busy, mut stream) = operator.connect("db.shop:5432").await;
    assert_echo(&mut stream, b"before").await;
    let logins = site.gateway.log();
    logins.wait_for("operator logged in", SOON).await;

    site.gateway.process().signal(Signal::TERM);
    let mut idle = idle;
    idle.process.exit(SOON).await;
    // What it printed may be read after its end was noticed.
    idle.log.wait_for("shutting down", SOON).await;
    assert_echo(&mut stream, b"while it drains").await;
    let refused = operator.ssh(&["-W", "db.shop:5432", GW]).await;
    assert_ne!(refused.code, 0, "{refused:?}");
    drop(stream);
    let mut busy = busy;
    busy.process.exit(SOON).await;
    assert_eq!(site.gateway.process().exit(DRAIN).await.code(), Some(0));
}
