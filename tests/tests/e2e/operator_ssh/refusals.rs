//! What an operator does not get, and what `ssh` says then.

use hyper::Method;
use shared::wire::admin::EdgeStatus;
use tests::fakes::tcp::Tcp;
use tests::gateway::Gateway;
use tests::openssh::keygen;
use tests::process::{Ended, run};
use tests::site::{EDGE, Site};
use tests::tool::free_address;
use tests::wait::{SOON, until};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::{GW, Operator, server_and_operator, socks, text};

#[track_caller]
fn assert_refused(ended: &Ended, reason: &str) {
    assert_ne!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains(reason), "no {reason:?} in {ended:#?}");
}

#[tokio::test]
async fn gateway_gives_no_shell_no_command_and_no_files() {
    let gateway = Gateway::start().await;
    let operator = Operator::of(&gateway).await;
    for arguments in [[GW, "id"].as_slice(), &["-tt", GW, "id"]] {
        assert_refused(&operator.ssh(arguments).await, "runs no commands");
    }
    let sftp = run(operator.command("sftp", &["-b", "/dev/null", GW])).await;
    assert_refused(&sftp, "subsystem request failed");
    let copy =
        run(operator.command("scp", &[&format!("{GW}:/etc/passwd"), text(&operator.path("stolen"))])).await;
    assert_ne!(copy.code, 0, "{copy:?}");
    assert!(!operator.path("stolen").exists());
}

#[tokio::test]
async fn forwards_to_the_gateways_own_network_are_refused() {
    let echo = Tcp::echo().await;
    let gateway = Gateway::start().await;
    let operator = Operator::of(&gateway).await;
    let (echo_port, api_port) = (echo.address.port(), gateway.api().port());
    for destination in [
        format!("127.0.0.1:{echo_port}"),
        format!("localhost:{echo_port}"),
        format!("[::1]:{echo_port}"),
        format!("0.0.0.0:{echo_port}"),
        format!("127.0.0.1:{api_port}"),
    ] {
        let ended = operator.ssh(&["-W", &destination, GW]).await;
        assert_refused(&ended, "open failed");
    }
    assert_refused(&operator.ssh(&["-W", &format!("127.0.0.1:{echo_port}"), GW]).await, "SERVICE.EDGE");

    let data = gateway.data().join("store");
    for destination in [echo.address.to_string(), data.display().to_string(), "/var/run/docker.sock".into()] {
        let (forwarding, mut stream) = operator.connect(&destination).await;
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "{destination} answered");
        forwarding.log.wait_for("open failed", SOON).await;
    }

    let local = free_address();
    let forwarding = operator.forwarding(&["-D", &local.to_string()]);
    let mut stream = until(SOON, "ssh listens", async || TcpStream::connect(local).await.ok()).await;
    socks(&mut stream, "127.0.0.1", echo_port).await.expect_err("it leads nowhere");
    forwarding.log.wait_for("open failed", SOON).await;
    assert_eq!(echo.connections(), 0);
}

#[tokio::test]
async fn operators_announce_nothing() {
    let gateway = Gateway::start().await;
    let operator = Operator::of(&gateway).await;
    for remote in
        ["0:127.0.0.1:1", "web:80:127.0.0.1:1", "127.0.0.1:8080:127.0.0.1:1", "/tmp/tg.sock:127.0.0.1:1", "0"]
    {
        let mut forwarding = operator.forwarding(&["-R", remote]);
        let ended = forwarding.process.exit(SOON).await;
        assert_eq!(ended.code(), Some(255), "-R {remote}: {}", forwarding.log.text());
        // What a process wrote last may be read after its end was noticed.
        until(SOON, "ssh says why", async || {
            let log = &forwarding.log;
            let said = log.contains("remote port forwarding failed") || log.contains("remote forward");
            said.then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn neither_windows_nor_keys_of_the_operator_are_taken() {
    let gateway = Gateway::start().await;
    let operator = Operator::of(&gateway).await;
    let mut ssh = operator.command("ssh", &["-Y", "-A", "-T", GW]);
    ssh.env("DISPLAY", ":99");
    let ended = run(ssh).await.ok();
    assert!(ended.stderr.contains("X11 forwarding request failed"), "{ended:?}");
    assert!(ended.stdout.contains("EDGE"), "{ended:?}");
}

#[tokio::test]
async fn reason_why_there_is_no_stream_is_printed() {
    let closed = free_address();
    let mut site = Site::with("gone", closed).await;
    let operator = Operator::of(&site.gateway).await;
    let ask = async |destination: &str| operator.ssh(&["-W", destination, GW]).await;
    assert_refused(&ask("ssh.nowhere:22").await, "there is no edge named nowhere");
    assert_refused(&ask("nowhere:22").await, "there is no edge named nowhere");
    assert_refused(&ask("web.shop:80").await, "edge shop has no service named web; it has: gone");
    assert_refused(&ask("shop:4711").await, "no known service on port 4711");
    assert_refused(&ask("gone.shop:1").await, "onnection refused");
    // As people will meet it: behind -J, where the reason comes from the jump.
    assert_refused(&operator.ssh(&["-J", GW, EDGE, "true"]).await, "edge shop");

    site.agent.kill();
    until(SOON, "the edge counts as offline", async || {
        (site.gateway.admin.edge(EDGE).await.status == EdgeStatus::Offline).then_some(())
    })
    .await;
    assert_refused(&ask("gone.shop:1").await, "no tunnel to shop within");
}

#[tokio::test]
async fn stranger_is_refused_and_so_is_a_key_from_its_revocation_on() {
    let gateway = Gateway::start().await;
    let operator = Operator::of(&gateway).await;
    let stranger = operator.path("stranger");
    keygen(&stranger).await;
    let config = std::fs::read_to_string(operator.path("config")).expect("it was written");
    let other = config.replace(text(&operator.path("key")), text(&stranger));
    std::fs::write(operator.path("config"), other).expect("the folder is ours");
    assert_refused(&operator.ssh(&[GW]).await, "Permission denied");

    std::fs::write(operator.path("config"), config).expect("the folder is ours");
    operator.ssh(&[GW]).await.ok();
    let path = format!("/api/v1/ssh-keys/{}", operator.key_id);
    gateway.admin.call(Method::DELETE, &path).await.expect(204);
    assert_refused(&operator.ssh(&[GW]).await, "Permission denied");
}

#[tokio::test]
async fn gateway_with_another_host_key_is_refused_by_the_client() {
    let (_sshd, site, operator) = server_and_operator().await;
    let impostor = operator.path("impostor");
    keygen(&impostor).await;
    let public = std::fs::read_to_string(operator.path("impostor.pub")).expect("it was made");
    std::fs::write(operator.path("known"), format!("gateway {public}")).expect("the folder is ours");
    assert_refused(&operator.ssh(&[GW]).await, "Host key verification failed");
    assert_refused(&operator.ssh(&[EDGE, "true"]).await, "Host key verification failed");
    assert_eq!(site.gateway.log().count("operator logged in"), 0);
}
