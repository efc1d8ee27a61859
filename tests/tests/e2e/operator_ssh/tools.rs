//! What people do with SSH, done through the gateway.

use std::path::Path;
use std::process::Command;

use futures_util::future::join_all;
use shared::wire::admin::TunnelState;
use tempfile::TempDir;
use tests::bulk;
use tests::fakes::tcp::{Tcp, UnixEcho, assert_echo};
use tests::openssh::give_password;
use tests::process::{Log, Process, run, run_with};
use tests::site::{EDGE, Site};
use tests::tool;
use tests::wait::{SOON, until};
use tokio::net::{TcpStream, UnixStream};

use super::{GW, Operator, server_and_operator, text};

/// Copied there and back: many windows of every layer on the way.
const LENGTH: u64 = 50 * 1024 * 1024;

fn write(path: &Path, seed: u8) {
    std::fs::write(path, bulk::bytes(seed, LENGTH)).expect("the folder is ours");
}

#[track_caller]
fn assert_same(path: &Path, seed: u8) {
    let same = std::fs::read(path).expect("it was copied") == bulk::bytes(seed, LENGTH);
    assert!(same, "{} differs from what was sent", path.display());
}

#[tokio::test]
async fn jump_wakes_a_sleeping_edge_and_runs_a_command_on_its_server() {
    let (_sshd, site, operator) = server_and_operator().await;
    assert_eq!(site.gateway.admin.tunnel(EDGE).await.state, TunnelState::Idle);
    let ended = operator.ssh(&[EDGE, "echo through the tunnel; exit 7"]).await;
    assert_eq!((ended.stdout.as_str(), ended.code), ("through the tunnel\n", 7), "{ended:?}");
    site.wait_tunnel(TunnelState::Open).await;
    // Without the edge's block in the configuration, as one types it.
    let config = text(&operator.path("known-edges")).to_owned();
    let known = format!("UserKnownHostsFile={config}");
    let ended = operator.ssh(&["-J", GW, "-o", &known, EDGE, "echo again"]).await.ok();
    assert_eq!(ended.stdout, "again\n");
}

#[tokio::test]
async fn api_token_is_a_password() {
    let (_sshd, site, operator) = server_and_operator().await;
    let authorization = site.http().authorization().expect("an admin has one").to_owned();
    let token = authorization.strip_prefix("Bearer ").expect("a bearer token");
    let ask = async |password: &str| {
        let mut ssh = operator.command("ssh", &["-o", "BatchMode=no", "-o", "PubkeyAuthentication=no"]);
        ssh.args(["-o", "NumberOfPasswordPrompts=1", GW]);
        give_password(&mut ssh, operator.folder.path(), password);
        run(ssh).await
    };
    assert!(ask(token).await.ok().stdout.contains(EDGE));
    let refused = ask(&token.replace(|last: char| last.is_ascii_digit(), "x")).await;
    assert!(refused.code == 255 && refused.stderr.contains("Permission denied"), "{refused:?}");
}

#[tokio::test]
async fn login_without_a_command_prints_the_edges_and_how_to_reach_them() {
    let (_sshd, site, operator) = server_and_operator().await;
    site.gateway.admin.create("depot").await;
    for (arguments, end) in [(["-T", GW], "\n"), (["-tt", GW], "\r\n")] {
        let ended = operator.ssh(&arguments).await.ok();
        let listed = |edge: &str, status: &str| {
            ended.stdout.split(end).any(|line| line.starts_with(edge) && line.contains(status))
        };
        assert!(listed(EDGE, "online") && listed("depot", "never joined"), "{ended:?}");
        assert!(ended.stdout.contains("ssh -J"), "{ended:?}");
        assert_eq!(ended.stdout.matches('\r').count() > 0, end == "\r\n", "{ended:?}");
    }
}

#[tokio::test]
async fn standard_input_and_output_reach_a_tcp_service() {
    let echo = Tcp::echo().await;
    let site = Site::with("echo", echo.address).await;
    let operator = Operator::of(&site.gateway).await;
    let long = operator.path("long");
    std::fs::write(&long, "all of it\n".repeat(100_000)).expect("the folder is ours");
    let input = std::fs::File::open(&long).expect("it was written");
    // The echo ends only after it has heard the end.
    let ended = run_with(input, operator.command("ssh", &["-W", "echo.shop:7", GW])).await.ok();
    assert!(ended.stdout == "all of it\n".repeat(100_000), "{} bytes came back", ended.stdout.len());
}

#[tokio::test]
async fn client_that_waits_is_told_for_what_where_ssh_allows_it() {
    let (_sshd, site, operator) = server_and_operator().await;
    let waiting = format!("waiting for {EDGE} to check in, up to ");
    // A forward: with -v only.
    let verbose = operator.ssh(&["-v", "-W", "ssh.shop:22", GW]).await.ok();
    assert!(verbose.stderr.contains(&waiting), "{verbose:?}");
    site.gateway.admin.lower(EDGE).await;
    site.wait_tunnel(TunnelState::Idle).await;
    // A session that is the stream: always, and nothing of it gets into the stream.
    let through = format!("ProxyCommand=ssh -F {} {GW} connect %h", operator.path("config").display());
    let ended = operator.ssh(&["-o", "ProxyJump=none", "-o", &through, EDGE, "echo landed"]).await.ok();
    assert_eq!(ended.stdout, "landed\n", "{ended:?}");
    assert!(ended.stderr.contains(&waiting), "{ended:?}");
    let again = operator.ssh(&["-o", "ProxyJump=none", "-o", &through, EDGE, "echo landed"]).await.ok();
    assert!(!again.stderr.contains("waiting"), "the tunnel is open: {again:?}");
    let nowhere = operator.ssh(&[GW, "connect nowhere"]).await;
    assert_eq!((nowhere.code, nowhere.stderr.contains("no edge named nowhere")), (1, true), "{nowhere:?}");
}

#[tokio::test]
async fn local_forwards_lead_to_tcp_services_by_name_and_by_port() {
    let echo = Tcp::echo().await;
    let site = Site::with("db", echo.address).await;
    let operator = Operator::of(&site.gateway).await;
    for destination in ["db.shop:5432".to_owned(), format!("{EDGE}:{}", echo.address.port())] {
        let (_forwarding, mut stream) = operator.connect(&destination).await;
        assert_echo(&mut stream, b"through a forward").await;
        assert_echo(&mut stream, &bulk::bytes(4, 1_000_000)).await;
    }
}

#[tokio::test]
async fn unix_sockets_work_on_both_ends_of_a_forward() {
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let echo = UnixEcho::start(&folder.path().join("echo.sock"));
    let site = Site::start(&[("echo", &echo)]).await;
    let operator = Operator::of(&site.gateway).await;
    let (_forwarding, mut stream) = operator.connect("/echo.shop").await;
    assert_echo(&mut stream, b"to a socket").await;

    for (name, destination) in [("first", "/echo.shop"), ("second", "echo.shop:1")] {
        let local = operator.path(name);
        let _forwarding = operator.forwarding(&["-L", &format!("{}:{destination}", local.display())]);
        let mut stream = until(SOON, "ssh listens", async || UnixStream::connect(&local).await.ok()).await;
        assert_echo(&mut stream, b"from a socket").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scp_and_sftp_copy_both_ways_without_a_difference() {
    let (_sshd, _site, operator) = server_and_operator().await;
    let [here, there, back] = ["here", "there", "back"].map(|name| operator.path(name));
    write(&here, 1);
    let remote = format!("{EDGE}:{}", there.display());
    run(operator.command("scp", &["-q", text(&here), &remote])).await.ok();
    assert_same(&there, 1);
    run(operator.command("scp", &["-q", &remote, text(&back)])).await.ok();
    assert_same(&back, 1);

    write(&here, 2);
    let batch = operator.path("batch");
    let (h, t, b) = (here.display(), there.display(), back.display());
    std::fs::write(&batch, format!("put {h} {t}\nget {t} {b}\nrm {t}\n")).expect("the folder is ours");
    run(operator.command("sftp", &["-q", "-b", text(&batch), EDGE])).await.ok();
    assert_same(&back, 2);
    assert!(!there.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rsync_copies_a_tree_and_then_only_what_changed() {
    let (_sshd, _site, operator) = server_and_operator().await;
    let [here, there, back] = ["here", "there", "back"].map(|name| operator.path(name));
    std::fs::create_dir(&here).expect("the folder is ours");
    write(&here.join("big"), 3);
    for number in 0..50 {
        std::fs::write(here.join(format!("small-{number}")), number.to_string()).expect("the folder is ours");
    }
    let rsync = async |from: &str, to: &str| {
        let mut command = tool::command("rsync", "rsync");
        let shell = format!("ssh -F {}", operator.path("config").display());
        command.args(["--archive", "--checksum", "--stats", "--rsh", &shell, from, to]);
        run(command).await.ok()
    };
    let remote = format!("{EDGE}:{}/", there.display());
    rsync(&format!("{}/", here.display()), &remote).await;
    rsync(&remote, text(&back)).await;
    assert_same(&back.join("big"), 3);
    assert_eq!(std::fs::read_to_string(back.join("small-49")).expect("it was copied"), "49");

    std::fs::write(here.join("small-7"), "changed").expect("the folder is ours");
    let again = rsync(&format!("{}/", here.display()), &remote).await;
    assert!(again.stdout.contains("files transferred: 1\n"), "{again:?}");
    assert_eq!(std::fs::read_to_string(there.join("small-7")).expect("it was copied"), "changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_clones_from_a_server_behind_an_edge_and_pushes_to_it() {
    let (_sshd, _site, operator) = server_and_operator().await;
    let (work, bare, copy) = (operator.path("work"), operator.path("bare.git"), operator.path("copy"));
    let git = |args: &[&str]| {
        let mut command = Command::new(tool::path("git", "git"));
        let shell = format!("ssh -F {}", operator.path("config").display());
        command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]).args(args);
        command
            .env("GIT_SSH_COMMAND", shell)
            .env("HOME", operator.folder.path())
            .env("GIT_CONFIG_NOSYSTEM", "1");
        run(command)
    };
    git(&["init", "-q", text(&work)]).await.ok();
    write(&work.join("big"), 4);
    git(&["-C", text(&work), "add", "big"]).await.ok();
    git(&["-C", text(&work), "commit", "-q", "-m", "something big"]).await.ok();
    git(&["clone", "-q", "--bare", text(&work), text(&bare)]).await.ok();

    git(&["clone", "-q", &format!("{EDGE}:{}", bare.display()), text(&copy)]).await.ok();
    assert_same(&copy.join("big"), 4);
    git(&["-C", text(&copy), "commit", "-q", "--allow-empty", "-m", "pushed"]).await.ok();
    git(&["-C", text(&copy), "push", "-q", "origin", "HEAD"]).await.ok();
    let log = git(&["-C", text(&bare), "log", "-1", "--format=%s"]).await.ok();
    assert_eq!(log.stdout, "pushed\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_master_connection_carries_many_sessions_at_once() {
    let (_sshd, site, operator) = server_and_operator().await;
    let master = |socket: &Path, host: &str| {
        let command = operator.command("ssh", &["-N", "-M", "-S", text(socket), host]);
        Process::start("ssh -M", command, &Log::default())
    };
    // At the gateway: one login, and each stream opened by another process.
    let (at_gateway, at_edge) = (operator.path("cg"), operator.path("ce"));
    let _first = master(&at_gateway, GW);
    let _second = master(&at_edge, EDGE);
    for socket in [&at_gateway, &at_edge] {
        until(SOON, "the master listens", async || socket.exists().then_some(())).await;
    }
    let logins = site.gateway.log().count("operator logged in");
    let sessions = join_all((0..8).map(async |number| {
        let command = format!("echo {number}; sleep 1; echo {number}");
        let mut ssh = operator.command("ssh", &["-S", text(&at_edge), "-o", "ProxyJump=none", EDGE]);
        ssh.arg(command);
        assert_eq!(run(ssh).await.ok().stdout, format!("{number}\n{number}\n"));
    }));
    let streams = join_all((0..8).map(async |_| {
        let ended = operator.ssh(&["-S", text(&at_gateway), "-W", "ssh.shop:22", GW]).await.ok();
        assert!(ended.stdout.starts_with("SSH-2.0-OpenSSH"), "{ended:?}");
    }));
    let ((), ()) = (drop(sessions.await), drop(streams.await));
    assert_eq!(site.gateway.log().count("operator logged in"), logins, "a session made a login of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_operators_at_once_each_get_their_own_answer() {
    let (_sshd, _site, operator) = server_and_operator().await;
    // All of them wait for the same tunnel.
    join_all((0..20).map(async |number| {
        let ended = operator.ssh(&[EDGE, &format!("echo {number}")]).await.ok();
        assert_eq!(ended.stdout, format!("{number}\n"));
    }))
    .await;
}

#[tokio::test]
async fn dynamic_forward_reaches_services_by_name() {
    let echo = Tcp::echo().await;
    let site = Site::with("db", echo.address).await;
    let operator = Operator::of(&site.gateway).await;
    let local = tool::free_address();
    let _forwarding = operator.forwarding(&["-D", &local.to_string()]);
    let mut stream = until(SOON, "ssh listens", async || TcpStream::connect(local).await.ok()).await;
    super::socks(&mut stream, "db.shop", 5432).await.expect("a connection");
    assert_echo(&mut stream, b"by SOCKS").await;
}
