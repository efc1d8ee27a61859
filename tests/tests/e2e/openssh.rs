//! Stock OpenSSH on either end: a server behind an edge, and a client in the place of an agent.

use std::process::Command;

use shared::wire::admin::TunnelState;
use tempfile::TempDir;
use tests::bulk::{self, Pattern};
use tests::fakes::http::Web;
use tests::gateway::Gateway;
use tests::liar::Liar;
use tests::openssh::{Sshd, give_password};
use tests::process::{Log, Process, binary, run};
use tests::site::{EDGE, Site};
use tests::tool;
use tests::wait::SOON;

/// Big enough that windows, credit and rekeying all have their turn.
const FILE: u64 = 256 * 1024 * 1024;

/// `ssh` or `scp` that reaches the server by the gateway alone.
fn client(sshd: &Sshd, program: &str, gateway: &Gateway) -> Command {
    let mut command = tool::command(program, "openssh-client");
    let proxy = format!("ProxyCommand={} connect %h/ssh --stdio", binary("tidegate").display());
    let known = format!("UserKnownHostsFile={}", sshd.folder().join("known").display());
    for option in [&proxy, &known, "StrictHostKeyChecking=accept-new", "BatchMode=yes", "IdentitiesOnly=yes"]
    {
        command.args(["-o", option]);
    }
    command.arg("-i").arg(&sshd.key).args(["-F", "none"]);
    for (name, value) in gateway.cli(&[]).get_envs() {
        command.env(name, value.expect("the gateway's variables are set"));
    }
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ssh_and_scp_reach_a_server_by_proxy_command() {
    let sshd = Sshd::start().await;
    let site = Site::with("ssh", sshd.address).await;
    let mut ssh = client(&sshd, "ssh", &site.gateway);
    ssh.args([EDGE, "echo through the tunnel; exit 7"]);
    let ended = run(ssh).await;
    assert_eq!((ended.stdout.as_str(), ended.code), ("through the tunnel\n", 7), "{ended:?}");

    let (there, back) = (sshd.folder().join("there"), sshd.folder().join("back"));
    let big = sshd.folder().join("big");
    let mut file = tokio::fs::File::create(&big).await.expect("the folder is ours");
    let sum = bulk::send(Pattern::new(1, FILE), &mut file).await.expect("the disk has room");
    let mut up = client(&sshd, "scp", &site.gateway);
    up.arg(&big).arg(format!("{EDGE}:{}", there.display()));
    run(up).await.ok();
    let mut down = client(&sshd, "scp", &site.gateway);
    down.arg(format!("{EDGE}:{}", there.display())).arg(&back);
    run(down).await.ok();
    for copy in [there, back] {
        let mut file = tokio::fs::File::open(&copy).await.expect("scp made it");
        assert_eq!(
            bulk::receive(&mut file).await.expect("it can be read"),
            (FILE, sum),
            "{}",
            copy.display()
        );
    }
}

#[tokio::test]
async fn stock_client_with_the_credentials_of_an_offer_is_a_valid_agent() {
    let web = Web::start().await;
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create(EDGE).await;
    let liar = Liar::new(&gateway.admin.http, &edge);
    liar.check_in(&Liar::hello(&["web"])).await.expect(200);
    gateway.admin.raise(EDGE).await;
    let credentials = liar.open(&liar.offer(&["web"]).await);

    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let mut ssh = tool::command("ssh", "openssh-client");
    give_password(&mut ssh, folder.path(), credentials.password.expose());
    ssh.args([
        "-v",
        "-N",
        "-F",
        "none",
        "-o",
        "ExitOnForwardFailure=yes",
        "-o",
        "StrictHostKeyChecking=accept-new",
    ]);
    ssh.args(["-o", &format!("UserKnownHostsFile={}", folder.path().join("known").display())]);
    ssh.args(["-R", &format!("web:80:{}", web.address), "-p", &gateway.ssh().port().to_string()]);
    ssh.arg(format!("{}@127.0.0.1", credentials.username));
    let mut ssh = Process::start("ssh as an agent", ssh, &Log::default());

    gateway.admin.wait_tunnel(EDGE, TunnelState::Open).await;
    let get = async |rest: &str| gateway.admin.get(&Gateway::proxy_path(EDGE, "web", rest)).await.expect(200);
    assert_eq!(get("/hello").await.text(), "hello");
    let length = 8 * 1024 * 1024;
    assert_eq!(get(&format!("/bytes/9/{length}")).await.body, bulk::bytes(9, length));
    gateway.admin.lower(EDGE).await;
    ssh.exit(SOON).await;
}

/// What `ssh -vv` says that the server proposed for `what`.
fn proposal<'a>(log: &'a str, what: &str) -> Vec<&'a str> {
    let (_, server) = log.split_once("peer server KEXINIT proposal").expect("the server proposed something");
    let line =
        server.lines().find_map(|line| line.strip_prefix("debug2: ")?.strip_prefix(what)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {what} in {server}")).trim().split(',').collect()
}

#[tokio::test]
async fn tunnel_server_offers_strong_algorithms_only_and_the_host_key_of_the_join_token() {
    let gateway = Gateway::start().await;
    let mut ssh = tool::command("ssh", "openssh-client");
    ssh.args(["-vv", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]);
    ssh.args([
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-p",
        &gateway.ssh().port().to_string(),
        "nobody@127.0.0.1",
        "true",
    ]);
    let refused = run(ssh).await;
    assert_eq!(refused.code, 255, "nobody gets in: {refused:?}");
    let log = refused.stderr.replace('\r', "");
    for algorithm in proposal(&log, "KEX algorithms") {
        let strong = ["mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"];
        let marker = ["kex-strict-s-v00@openssh.com", "ext-info-s"];
        assert!(strong.contains(&algorithm) || marker.contains(&algorithm), "{algorithm}");
    }
    assert!(proposal(&log, "KEX algorithms").contains(&"kex-strict-s-v00@openssh.com"), "Terrapin's counter");
    assert_eq!(proposal(&log, "host key algorithms"), ["ssh-ed25519"]);
    for what in ["ciphers ctos", "ciphers stoc"] {
        for cipher in proposal(&log, what) {
            assert!(cipher.contains("gcm") || cipher.contains("chacha20-poly1305"), "{cipher}");
        }
    }
    assert_eq!(proposal(&log, "compression stoc"), ["none"]);
    let token: shared::join_token::JoinToken =
        gateway.admin.create(EDGE).await.join_token.parse().expect("a good token");
    let pinned = token.host_keys[0].to_string();
    assert!(log.contains(&pinned), "ssh saw another host key than {pinned}:\n{log}");
}
