//! An operator with nothing but stock OpenSSH: it logs in to the gateway with a key or a token, and reaches services of
//! edges through it as if the gateway were a jump host. The gateway's `tidegate` program is not on this operator's machine.

mod audited;
mod configured;
mod endings;
mod life;
mod refusals;
mod tools;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use hyper::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::gateway::Gateway;
use tests::openssh::{Sshd, keygen};
use tests::process::{Ended, Log, Process, run};
use tests::site::{EDGE, Site};
use tests::tool::{self, free_address};
use tests::wait::{SOON, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What the operator calls the gateway.
const GW: &str = "gw";

/// An operator's machine.
struct Operator {
    folder: TempDir,
    /// The id of its key, at the gateway.
    key_id: String,
}

impl Operator {
    /// With a key that the gateway knows and a configuration that pins the gateway's host key.
    async fn of(gateway: &Gateway) -> Self {
        Self::with(gateway, &Value::Null).await
    }

    /// As [`Operator::of`], with a key that is this user's; nobody's, for null.
    async fn with(gateway: &Gateway, user: &Value) -> Self {
        let folder = TempDir::new().expect("the folder for temporary files is writable");
        keygen(&folder.path().join("key")).await;
        let public = std::fs::read_to_string(folder.path().join("key.pub")).expect("it was made");
        let add = json!({ "label": "ada", "public_key": public, "user": user });
        let added = gateway.admin.http.send_json(Method::POST, "/api/v1/ssh-keys", &add).await;
        let added: Value = added.expect("an answer").expect(201).json();
        let key_id = added["id"].as_str().expect("an id").to_owned();
        let operator = Self { folder, key_id };
        let about: Value = gateway.admin.get("/api/v1/gateway").await.expect(200).json();
        let mut known = String::new();
        for key in about["host_keys"].as_array().expect("a list") {
            let key = key["public_key"].as_str().expect("a key");
            writeln!(known, "gateway {key}").expect("a String takes everything");
        }
        std::fs::write(operator.path("known"), known).expect("the folder is ours");
        let config = format!(
            "Host {GW}\n  HostName 127.0.0.1\n  Port {}\n  User ada\n  HostKeyAlias gateway\n  IdentityFile {}\n\
             Host *\n  IdentitiesOnly yes\n  BatchMode yes\n  StrictHostKeyChecking yes\n  UserKnownHostsFile {}\n",
            gateway.ssh().port(),
            operator.path("key").display(),
            operator.path("known").display(),
        );
        std::fs::write(operator.path("config"), config).expect("the folder is ours");
        operator
    }

    /// Adds the edge's server to the configuration, behind the gateway.
    fn knows(self, sshd: &Sshd) -> Self {
        let config = std::fs::read_to_string(self.path("config")).expect("it was written");
        // The first value of an option counts.
        let edge = format!(
            "Host {EDGE}\n  ProxyJump {GW}\n  IdentityFile {}\n  StrictHostKeyChecking accept-new\n  \
             UserKnownHostsFile {}\n",
            sshd.key.display(),
            self.path("known-edges").display(),
        );
        std::fs::write(self.path("config"), edge + &config).expect("the folder is ours");
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A client program with this operator's configuration and nothing of the machine's.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = tool::command(program, "openssh-client");
        command
            .arg("-F")
            .arg(self.path("config"))
            .args(args)
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("DISPLAY");
        command
    }

    /// Runs `ssh` to its end.
    async fn ssh(&self, args: &[&str]) -> Ended {
        run(self.command("ssh", args)).await
    }

    /// Forwards local ports or sockets until it is dropped, as `-L` and the like.
    fn forwarding(&self, args: &[&str]) -> Forwarding {
        let log = Log::default();
        let mut command = self.command("ssh", &["-N", "-o", "ExitOnForwardFailure=yes"]);
        command.args(args).arg(GW);
        Forwarding { process: Process::start("ssh -N", command, &log), log }
    }

    /// `-L` from a free port to this destination, and a connection through it.
    async fn connect(&self, destination: &str) -> (Forwarding, TcpStream) {
        let local = free_address();
        let forwarding = self.forwarding(&["-L", &format!("{local}:{destination}")]);
        let stream = until(SOON, "ssh listens", async || TcpStream::connect(local).await.ok()).await;
        (forwarding, stream)
    }
}

/// A running `ssh -N` to the gateway.
struct Forwarding {
    process: Process,
    log: Log,
}

/// A site whose service `ssh` is a real server, and an operator who knows it.
async fn server_and_operator() -> (Sshd, Site, Operator) {
    let sshd = Sshd::start().await;
    let site = Site::with("ssh", sshd.address).await;
    let operator = Operator::of(&site.gateway).await.knows(&sshd);
    (sshd, site, operator)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of temporary files are plain")
}

/// Asks a SOCKS5 proxy (RFC 1928), which `ssh -D` is, for a connection. It ends where it can't be had.
async fn socks(stream: &mut TcpStream, host: &str, port: u16) -> io::Result<()> {
    let mut request = vec![5, 1, 0, 5, 1, 0, 3];
    request.push(u8::try_from(host.len()).expect("names are short"));
    request.extend(host.as_bytes());
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await?;
    // Method, then the reply with an IPv4 address.
    stream.read_exact(&mut [0; 2 + 10]).await.map(drop)
}
