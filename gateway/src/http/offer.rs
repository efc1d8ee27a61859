//! What an operator pastes on a box on which nothing can be installed, so that its own SSH client stands in for an agent.
//!
//! The rule: a script is one paste for a POSIX shell. It pins the gateway's host key in a file of its own and asks nobody;
//! a private key goes into a file of mode 0600 and a password nowhere, so that no secret is ever an argument.

use std::fmt::Write as _;

use russh::keys::{PublicKey, PublicKeyBase64 as _};
use shared::host_port::HostPort;
use shared::id::EdgeName;
use shared::wire::admin::OfferedService;

use super::commands::quote;

/// Port of SSH, which known_hosts leaves out.
const SSH_PORT: u16 = 22;

/// The client finds out within 45 s that the gateway is gone, as the gateway finds out of the client, and gives up rather
/// than stay without a forward.
const OPTIONS: &str = "-o ExitOnForwardFailure=yes -o ServerAliveInterval=15 -o ServerAliveCountMax=3";

/// What all scripts say.
pub struct Script<'a> {
    /// Which edge.
    pub edge: &'a EdgeName,
    /// Where the gateway's SSH server is.
    pub gateway: &'a HostPort,
    /// What it shows.
    pub host_keys: &'a [PublicKey],
    /// Who logs in.
    pub username: &'a str,
    /// What the client announces.
    pub services: &'a [OfferedService],
}

impl Script<'_> {
    /// Lines for a known_hosts file (sshd(8)).
    pub fn known_hosts(&self) -> String {
        let HostPort { host, port } = self.gateway;
        let name = if *port == SSH_PORT { host.clone() } else { format!("[{host}]:{port}") };
        let line = |key: &PublicKey| format!("{name} {} {}\n", key.algorithm(), key.public_key_base64());
        self.host_keys.iter().map(line).collect()
    }

    /// For credentials that let in once: `ssh` asks for the password.
    pub fn with_password(&self) -> String {
        let client = format!(
            "ssh -N {OPTIONS} \\\n  -o PreferredAuthentications=password -o PubkeyAuthentication=no -o NumberOfPasswordPrompts=1"
        );
        self.folder() + &self.known_hosts_file() + &self.client(&client)
    }

    /// For a key: `autossh` comes back by itself, also after a first login that failed.
    pub fn with_key(&self, private_key: &str) -> String {
        let key_file = format!("{}.key", self.files());
        let client = format!(
            "AUTOSSH_GATETIME=0 autossh -M 0 -N {OPTIONS} \\\n  -o BatchMode=yes -o IdentitiesOnly=yes -i {key_file}"
        );
        let key = here_document(&key_file, private_key);
        self.folder() + &self.known_hosts_file() + &key + &self.client(&client)
    }

    fn client(&self, client: &str) -> String {
        let mut text = format!(
            "{client} \\\n  -o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null -o UserKnownHostsFile={}.known_hosts",
            self.files()
        );
        for service in self.services {
            let port = service.target.port;
            // Writing to a String does not fail.
            let _ =
                write!(text, " \\\n  -R {}", quote(&format!("{}:{port}:{}", service.name, service.target)));
        }
        let (port, user) = (self.gateway.port, quote(&format!("{}@{}", self.username, self.gateway.host)));
        let _ = writeln!(text, " \\\n  -p {port} {user}");
        text
    }

    fn folder(&self) -> String {
        "mkdir -p -m 700 \"$HOME/.ssh\"\n".to_owned()
    }

    fn known_hosts_file(&self) -> String {
        here_document(&format!("{}.known_hosts", self.files()), &self.known_hosts())
    }

    /// What the names of the files begin with; an edge's name needs no quoting.
    fn files(&self) -> String {
        format!("\"$HOME\"/.ssh/tidegate-{}", self.edge)
    }
}

/// Writes `content` to `file`, which nobody else can read from its first byte on.
fn here_document(file: &str, content: &str) -> String {
    format!("(umask 077; rm -f {file}; cat >{file}) <<'END'\n{content}END\n")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const HOST_KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ gate";
    const PRIVATE_KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n$HOME `id` \\\n-----END-----\n";

    /// Runs a script in a shell whose `ssh` and `autossh` only print their arguments, one a line.
    fn run(script: &str, home: &std::path::Path) -> Vec<String> {
        let functions = "ssh() { printf '%s\\n' \"$@\"; }; autossh() { printf '%s\\n' \"$@\"; }\n";
        let output = Command::new("/bin/sh")
            .args(["-c", &format!("set -e\n{functions}{script}")])
            .env("HOME", home)
            .output();
        let output = output.expect("every system that we build on has a shell");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
    }

    fn scripts(gateway: &str, make: impl FnOnce(&Script<'_>) -> String) -> String {
        let service = |name: &str, target: &str| OfferedService {
            name: name.parse().expect("a label"),
            target: target.parse().expect("a target"),
        };
        make(&Script {
            edge: &"kiosk".parse().expect("a label"),
            gateway: &gateway.parse().expect("an address"),
            host_keys: &[PublicKey::from_openssh(HOST_KEY).expect("a key")],
            username: "user",
            services: &[service("web", "localhost:8080"), service("db", "[::1]:5432")],
        })
    }

    #[test]
    fn host_key_is_pinned_by_the_name_that_ssh_looks_up() {
        let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ\n";
        for (gateway, name) in [
            ("gate.example.com:8000", "[gate.example.com]:8000"),
            ("gate:22", "gate"),
            ("[::1]:8000", "[::1]:8000"),
        ] {
            assert_eq!(scripts(gateway, |script| script.known_hosts()), format!("{name} {line}"));
        }
    }

    #[test]
    fn script_with_a_password_announces_the_services_and_pins_the_host_key() {
        let home = tempfile::tempdir().expect("a folder");
        let script = scripts("gate.example.com:8000", |script| script.with_password());
        let arguments = run(&script, home.path());
        for expected in ["web:8080:localhost:8080", "db:5432:[::1]:5432", "8000", "user@gate.example.com"] {
            assert!(arguments.iter().any(|argument| argument == expected), "{expected} in {arguments:?}");
        }
        let pinned = std::fs::read_to_string(home.path().join(".ssh/tidegate-kiosk.known_hosts"));
        assert_eq!(pinned.expect("written"), scripts("gate.example.com:8000", |script| script.known_hosts()));
    }

    #[test]
    fn script_with_a_key_writes_it_as_it_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().expect("a folder");
        let script = scripts("[::1]:8000", |script| script.with_key(PRIVATE_KEY));
        for _ in 0..2 {
            let arguments = run(&script, home.path());
            assert!(arguments.contains(&"user@::1".to_owned()), "{arguments:?}");
            assert!(!arguments.iter().any(|argument| argument.contains("PRIVATE")), "{arguments:?}");
            let file = home.path().join(".ssh/tidegate-kiosk.key");
            assert_eq!(std::fs::read_to_string(&file).expect("written"), PRIVATE_KEY);
            assert_eq!(file.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
        }
    }
}
