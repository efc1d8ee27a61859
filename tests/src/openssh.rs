//! OpenSSH as Debian ships it: a server for one key, and what its clients need to run without a person.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::process::{Log, Process, run};
use crate::tool::{self, free_address};
use crate::wait::{SOON, until};

/// An SSH server on a free loopback port that lets one key in, as the user that runs the test.
#[derive(Debug)]
pub struct Sshd {
    /// Where it listens.
    pub address: SocketAddr,
    /// The private key that it lets in.
    pub key: PathBuf,
    folder: TempDir,
    _process: Process,
}

/// Makes a key pair, `file` and `file.pub`, without a passphrase.
pub async fn keygen(file: &Path) {
    let mut command = tool::command("ssh-keygen", "openssh-client");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file);
    run(command).await.ok();
}

/// Gives `ssh` its password, which it takes from a program only; `folder` is for that program.
pub fn give_password(command: &mut Command, folder: &Path, password: &str) {
    let askpass = folder.join("askpass");
    std::fs::write(&askpass, "#!/bin/sh\nprintf '%s\\n' \"$SSH_PASSWORD\"\n").expect("the folder is ours");
    std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700)).expect("the file is ours");
    command.env("SSH_ASKPASS", &askpass).env("SSH_ASKPASS_REQUIRE", "force").env("SSH_PASSWORD", password);
}

impl Sshd {
    /// Starts it and waits until it listens.
    pub async fn start() -> Self {
        let folder = TempDir::new().expect("the folder for temporary files is writable");
        let at = |name: &str| folder.path().join(name);
        keygen(&at("host")).await;
        keygen(&at("key")).await;
        std::fs::copy(at("key.pub"), at("authorized")).expect("the folder is ours");
        // Where root runs sshd, its folder for the unprivileged part must be there; Debian makes it at boot only.
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir_all("/run/sshd").expect("root may make it");
        }
        let address = free_address();
        // By default it drops logins at random once ten are under way.
        let config = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             MaxStartups 100\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
             Subsystem sftp internal-sftp\n",
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

    /// Its own folder; free for a test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
