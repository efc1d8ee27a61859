//! `tidegate ssh-key` and `tidegate ssh-config` on an operator's machine, and stock `ssh` with what they wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tests::gateway::Gateway;
use tests::openssh::{Sshd, keygen};
use tests::process::{Ended, run};
use tests::site::{EDGE, Site};
use tests::tool;

use super::text;

/// A folder in the place of `~/.ssh`.
struct Home(TempDir);

impl Home {
    async fn new() -> Self {
        let home = Self(TempDir::new().expect("the folder for temporary files is writable"));
        keygen(&home.path("id_ed25519")).await;
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn tidegate(&self, gateway: &Gateway, args: &[&str]) -> Ended {
        run(gateway.cli(args)).await.ok()
    }

    /// As the commands' help says: the blocks in a file, which the configuration includes.
    async fn configure(&self, gateway: &Gateway) {
        let (blocks, key) = (self.path("tidegate"), self.path("id_ed25519"));
        self.tidegate(
            gateway,
            &["ssh-config", "-f", text(&blocks), "--identity-file", text(&key), "--user", "ada"],
        )
        .await;
        let config = format!("Include {}\nHost *\n  BatchMode yes\n", blocks.display());
        std::fs::write(self.path("config"), config).expect("the folder is ours");
    }

    /// `ssh` with that configuration, which says nothing yet of how to log in on an edge's own server.
    fn ssh(&self, key: &Path, args: &[&str]) -> Command {
        let mut ssh = tool::command("ssh", "openssh-client");
        ssh.arg("-F").arg(self.path("config")).arg("-i").arg(key).env_remove("SSH_AUTH_SOCK").args(args);
        ssh
    }

    /// As [`Home::ssh`], for an edge that was never seen before.
    fn ssh_to_edge(&self, sshd: &Sshd, args: &[&str]) -> Command {
        let known = format!("UserKnownHostsFile={}", self.path("known_hosts").display());
        let mut ssh = self.ssh(&sshd.key, &["-o", "StrictHostKeyChecking=accept-new", "-o", &known]);
        ssh.args(args);
        ssh
    }
}

#[tokio::test]
async fn written_configuration_leads_to_the_gateway_and_to_every_edge() {
    let sshd = Sshd::start().await;
    let site = Site::start(&[("ssh", &sshd.address), ("rescue", &sshd.address)]).await;
    let home = Home::new().await;
    let key = home.path("id_ed25519");
    home.tidegate(&site.gateway, &["ssh-key", "add", &format!("{}.pub", key.display()), "--label", "ada"])
        .await;
    home.configure(&site.gateway).await;

    let listed = run(home.ssh(&key, &["tidegate"])).await.ok();
    assert!(listed.stdout.contains(EDGE), "{listed:?}");
    for name in [EDGE, "rescue.shop"] {
        let ended = run(home.ssh_to_edge(&sshd, &[name, "echo landed"])).await.ok();
        assert_eq!(ended.stdout, "landed\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ansible_reaches_a_sleeping_edge_with_the_written_configuration() {
    let (sshd, home) = (Sshd::start().await, Home::new().await);
    let site = Site::with("ssh", sshd.address).await;
    let key = format!("{}.pub", home.path("id_ed25519").display());
    home.tidegate(&site.gateway, &["ssh-key", "add", &key, "--label", "ada"]).await;
    home.configure(&site.gateway).await;
    let [inventory, here, there] = ["inventory", "here", "there"].map(|name| home.path(name));
    std::fs::write(&inventory, EDGE).expect("the folder is ours");
    std::fs::write(&here, "from the operator").expect("the folder is ours");
    let ansible = async |module: &[&str]| {
        let mut ansible = tool::command("ansible", "ansible-core");
        ansible.args(["-i", text(&inventory), EDGE, "--private-key", text(&sshd.key)]).args(module);
        let (config, known) = (home.path("config"), home.path("known_hosts"));
        let options = format!(
            "-F {} -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={}",
            config.display(),
            known.display()
        );
        // Its master connections would outlive the test.
        let shared = "-o ControlMaster=auto -o ControlPersist=1s";
        ansible.args(["--ssh-common-args", &options]).env("ANSIBLE_SSH_ARGS", shared);
        ansible
            .env("HOME", home.0.path())
            .env("ANSIBLE_REMOTE_TEMP", home.path("remote"))
            .env_remove("SSH_AUTH_SOCK");
        run(ansible).await.ok()
    };
    let ping = ansible(&["-m", "ping"]).await;
    assert!(ping.stdout.contains("pong"), "{ping:?}");
    ansible(&["-m", "copy", "-a", &format!("src={} dest={}", here.display(), there.display())]).await;
    assert_eq!(std::fs::read_to_string(there).expect("it was copied"), "from the operator");
}

#[tokio::test]
async fn removed_key_and_changed_host_key_end_the_access() {
    let (gateway, home) = (Gateway::start().await, Home::new().await);
    let key = home.path("id_ed25519");
    let public = format!("{}.pub", key.display());
    home.tidegate(&gateway, &["ssh-key", "add", &public, "--label", "ada"]).await;
    home.configure(&gateway).await;
    run(home.ssh(&key, &["tidegate"])).await.ok();

    let pins = home.path("tidegate.known_hosts");
    let pinned = std::fs::read_to_string(&pins).expect("it was written");
    let own = std::fs::read_to_string(&public).expect("it was made");
    let (address, _) = pinned.split_once(' ').expect("an address and a key");
    std::fs::write(&pins, format!("{address} {own}")).expect("the folder is ours");
    let ended = run(home.ssh(&key, &["tidegate"])).await;
    assert!(ended.code == 255 && ended.stderr.contains("Host key verification failed"), "{ended:?}");

    std::fs::write(&pins, pinned).expect("the folder is ours");
    let listed = home.tidegate(&gateway, &["ssh-key", "list"]).await;
    let line = listed.stdout.lines().find(|line| line.contains("ada")).expect("it is listed");
    let id = line.split_whitespace().next().expect("the id comes first");
    home.tidegate(&gateway, &["ssh-key", "remove", id]).await;
    let ended = run(home.ssh(&key, &["tidegate"])).await;
    assert!(ended.code == 255 && ended.stderr.contains("Permission denied"), "{ended:?}");
}
