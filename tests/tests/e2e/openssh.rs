//! Stock OpenSSH on either end: a server behind an edge, and a client in the place of an agent.

use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use shared::wire::admin::TunnelState;
use tempfile::TempDir;
use tests::bulk::{self, Pattern};
use tests::fakes::http::Web;
use tests::gateway::Gateway;
use tests::liar::Liar;
use tests::process::{Log, Process, binary, run};
use tests::site::{EDGE, Site};
use tests::tool;
use tests::wait::{SOON, until};
use tokio::net::TcpStream;

/// Big enough that windows, credit and rekeying all have their turn.
const FILE: u64 = 256 * 1024 * 1024;

/// An SSH server on a free loopback port that lets one key in, as the user that runs the test.
struct Sshd {
    address: SocketAddr,
    key: PathBuf,
    folder: TempDir,
    _process: Process,
}

async fn keygen(file: &Path) {
    let mut command = tool::command("ssh-keygen", "openssh-client");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file);
    run(command).await.ok();
}

impl Sshd {
    async fn start() -> Self {
        let folder = TempDir::new().expect("the folder for temporary files is writable");
        let at = |name: &str| folder.path().join(name);
        keygen(&at("host")).await;
        keygen(&at("key")).await;
        std::fs::copy(at("key.pub"), at("authorized")).expect("the folder is ours");
        // Where root runs sshd, its folder for the unprivileged part must be there; Debian makes it at boot only.
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir_all("/run/sshd").expect("root may make it");
        }
        let address = StdTcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let address = address.expect("loopback has free ports");
        let config = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n",
            at("host").display(),
            at("authorized").display(),
        );
        std::fs::write(at("config"), config).expect("the folder is ours");
        let mut command = tool::command("sshd", "openssh-server");
        command.args(["-D", "-e", "-f"]).arg(at("config"));
        let process = Process::start("sshd", command, &Log::default());
        until(SOON, "sshd listens", async || TcpStream::connect(address).await.ok()).await;
        Self { address, key: at("key"), folder, _process: process }
    }

    /// `ssh` or `scp` that reaches the server by the gateway alone.
    fn client(&self, program: &str, gateway: &Gateway) -> Command {
        let mut command = tool::command(program, "openssh-client");
        let proxy = format!("ProxyCommand={} connect %h/ssh --stdio", binary("tidegate").display());
        let known = format!("UserKnownHostsFile={}", self.folder.path().join("known").display());
        for option in
            [&proxy, &known, "StrictHostKeyChecking=accept-new", "BatchMode=yes", "IdentitiesOnly=yes"]
        {
            command.args(["-o", option]);
        }
        command.arg("-i").arg(&self.key).args(["-F", "none"]);
        for (name, value) in gateway.cli(&[]).get_envs() {
            command.env(name, value.expect("the gateway's variables are set"));
        }
        command
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ssh_and_scp_reach_a_server_by_proxy_command() {
    let sshd = Sshd::start().await;
    let site = Site::with("ssh", sshd.address).await;
    let mut ssh = sshd.client("ssh", &site.gateway);
    ssh.args([EDGE, "echo through the tunnel; exit 7"]);
    let ended = run(ssh).await;
    assert_eq!((ended.stdout.as_str(), ended.code), ("through the tunnel\n", 7), "{ended:?}");

    let (there, back) = (sshd.folder.path().join("there"), sshd.folder.path().join("back"));
    let big = sshd.folder.path().join("big");
    let mut file = tokio::fs::File::create(&big).await.expect("the folder is ours");
    let sum = bulk::send(Pattern::new(1, FILE), &mut file).await.expect("the disk has room");
    let mut up = sshd.client("scp", &site.gateway);
    up.arg(&big).arg(format!("{EDGE}:{}", there.display()));
    run(up).await.ok();
    let mut down = sshd.client("scp", &site.gateway);
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

    // ssh takes a password from a program only.
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let askpass = folder.path().join("askpass");
    std::fs::write(&askpass, "#!/bin/sh\nprintf '%s\\n' \"$OFFER_PASSWORD\"\n").expect("the folder is ours");
    std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700)).expect("the file is ours");
    let mut ssh = tool::command("ssh", "openssh-client");
    ssh.env("SSH_ASKPASS", &askpass)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env("OFFER_PASSWORD", credentials.password.expose());
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
