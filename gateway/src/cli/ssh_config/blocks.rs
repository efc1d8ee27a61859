//! Blocks of an ssh_config (ssh_config(5)) and lines of a known_hosts file (sshd(8)), as text.
//!
//! The rule: every block begins with its own `Host` and leaves nothing in force behind it but blocks of ours, so that the
//! text works wherever in a configuration it is put.

use std::fmt;

use russh::keys::{PublicKey, PublicKeyBase64 as _};
use shared::host_port::HostPort;
use shared::id::{EdgeName, ServiceName};

/// Port of SSH, which known_hosts leaves out.
const SSH_PORT: u16 = 22;
/// The service that `ssh EDGE` lands on.
const SSH_SERVICE: &str = "ssh";

/// How the text begins.
const HEAD: &str = "# Edges of the Tidegate gateway at";

/// Whether a text was made here.
pub(super) fn is_ours(text: &str) -> bool {
    text.starts_with(HEAD)
}

/// What the blocks say.
pub(super) struct Blocks {
    /// What ssh calls the gateway.
    pub(super) gateway_name: EdgeName,
    /// Where its SSH server is.
    pub(super) address: HostPort,
    /// What it shows.
    pub(super) host_keys: Vec<PublicKey>,
    /// User name at the gateway.
    pub(super) user: Option<String>,
    /// Key to log in with; a path that needs no escapes.
    pub(super) identity_file: Option<String>,
    /// File with [`Blocks::known_hosts_lines`]; a path that needs no escapes.
    pub(super) known_hosts: String,
    /// All edges.
    pub(super) edges: Vec<EdgeBlock>,
}

/// One edge.
pub(super) struct EdgeBlock {
    /// Its name.
    pub(super) name: EdgeName,
    /// What its agents exposed when asked; empty where none checks in.
    pub(super) services: Vec<ServiceName>,
}

impl Blocks {
    /// Pins the gateway's host keys, for a known_hosts file.
    pub(super) fn known_hosts_lines(&self) -> String {
        let HostPort { host, port } = &self.address;
        let name = if *port == SSH_PORT { host.clone() } else { format!("[{host}]:{port}") };
        let line = |key: &PublicKey| format!("{name} {} {}\n", key.algorithm(), key.public_key_base64());
        self.host_keys.iter().map(line).collect()
    }

    /// Says, as comments, where those lines belong.
    pub(super) fn how_to_pin(&self) -> String {
        let lines: String = self.known_hosts_lines().lines().map(|line| format!("#   {line}\n")).collect();
        format!(
            "# The gateway's host key is pinned. Put this into {}, without the #:\n{lines}\n",
            self.known_hosts
        )
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gateway = &self.gateway_name;
        writeln!(f, "{HEAD} {}, by `tidegate ssh-config`.", self.address)?;
        writeln!(f, "# A service without ssh: ssh -N -L 5432:SERVICE.EDGE:5432 {gateway}")?;
        writeln!(f, "Host {gateway}")?;
        writeln!(f, "    HostName {}", self.address.host)?;
        writeln!(f, "    Port {}", self.address.port)?;
        if let Some(user) = &self.user {
            writeln!(f, "    User {user}")?;
        }
        if let Some(file) = &self.identity_file {
            writeln!(f, "    IdentityFile \"{file}\"")?;
            writeln!(f, "    IdentitiesOnly yes")?;
        }
        writeln!(f, "    UserKnownHostsFile \"{}\"", self.known_hosts)?;
        // Else a system's file could name another key for the same address.
        writeln!(f, "    GlobalKnownHostsFile /dev/null")?;
        writeln!(f, "    StrictHostKeyChecking yes")?;
        self.edges.iter().try_for_each(|edge| edge.write(f, gateway))
    }
}

impl EdgeBlock {
    fn write(&self, f: &mut fmt::Formatter<'_>, gateway: &EdgeName) -> fmt::Result {
        let name = &self.name;
        let services: Vec<_> = self.services.iter().map(ServiceName::as_str).collect();
        let known = match services.as_slice() {
            [] => "not known while no agent checks in".to_owned(),
            services if services.contains(&SSH_SERVICE) => services.join(", "),
            services => format!("{} (none named {SSH_SERVICE}: use SERVICE.{name})", services.join(", ")),
        };
        writeln!(f, "\n# {name}: services {known}")?;
        // ssh SERVICE.EDGE is for services that speak SSH under another name.
        writeln!(f, "Host {name} *.{name}")?;
        writeln!(f, "    ProxyJump {gateway}")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    pub(crate) const HOST_KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    pub(crate) fn blocks(address: &str) -> Blocks {
        let edge = |name: &str, services: &[&str]| EdgeBlock {
            name: name.parse().expect("a label"),
            services: services.iter().map(|name| name.parse().expect("a label")).collect(),
        };
        Blocks {
            gateway_name: "tidegate".parse().expect("a label"),
            address: address.parse().expect("an address"),
            host_keys: vec![PublicKey::from_openssh(&format!("{HOST_KEY} a comment")).expect("a key")],
            user: Some("ada".into()),
            identity_file: Some("/home/ada/my keys/id".into()),
            known_hosts: "/home/ada/.ssh/tide gate.known_hosts".into(),
            edges: vec![edge("shop-17", &["db", "ssh"]), edge("shop-18", &[]), edge("till", &["web"])],
        }
    }

    /// What ssh makes of `config` for `host`: `ssh -G` prints every option that would be in force.
    fn in_force(config: &str, host: &str) -> HashMap<String, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), config).expect("written");
        let ssh = Path::new("/usr/bin/ssh");
        assert!(ssh.is_file(), "this test needs ssh: apt-get install openssh-client");
        let out =
            Command::new(ssh).args(["-T", "-G", "-F"]).arg(file.path()).arg(host).output().expect("ssh runs");
        let complaint = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && complaint.is_empty(), "{complaint}\n{config}");
        let text = String::from_utf8(out.stdout).expect("text");
        let options = text.lines().filter_map(|line| line.split_once(' '));
        options.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// At the end of a configuration that has blocks already, as people append it.
    fn appended(blocks: &Blocks) -> String {
        format!("Host old\n    User root\n    Port 2222\nMatch host older\n    User root\n{blocks}")
    }

    #[test]
    fn ssh_understands_the_gateway_s_block() {
        let options = in_force(&appended(&blocks("gate.example.com:8000")), "tidegate");
        for (name, value) in [
            ("hostname", "gate.example.com"),
            ("port", "8000"),
            ("user", "ada"),
            ("identityfile", "/home/ada/my keys/id"),
            ("identitiesonly", "yes"),
            ("userknownhostsfile", "/home/ada/.ssh/tide gate.known_hosts"),
            ("globalknownhostsfile", "/dev/null"),
            ("stricthostkeychecking", "true"),
        ] {
            assert_eq!(options.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!(options.get("proxyjump"), None);
    }

    #[test]
    fn ssh_jumps_through_the_gateway_to_every_edge_and_nowhere_else() {
        let config = appended(&blocks("gate.example.com:8000"));
        for host in ["shop-17", "shop-18", "till", "other.shop-17"] {
            let options = in_force(&config, host);
            assert_eq!(options.get("proxyjump").map(String::as_str), Some("tidegate"), "{host}");
            assert_eq!(options["hostname"], host);
            assert_eq!(options["port"], "22", "{host}");
            assert_ne!(options["user"], "ada", "the user at the gateway is not the one at {host}");
        }
        for host in ["shop-1", "old", "example.com", "shop-17.example.com"] {
            assert_eq!(in_force(&config, host).get("proxyjump"), None, "{host}");
        }
    }

    #[test]
    fn ssh_gets_along_without_the_options() {
        let bare = Blocks { user: None, identity_file: None, ..blocks("[::1]:22") };
        let options = in_force(&appended(&bare), "tidegate");
        assert_eq!((options["hostname"].as_str(), options["port"].as_str()), ("::1", "22"));
        assert_eq!(options["identitiesonly"], "no");
    }

    #[test]
    fn known_hosts_lines_are_found_by_ssh_keygen() {
        for (address, name) in [
            ("gate.example.com:8000", "[gate.example.com]:8000"),
            ("gate.example.com:22", "gate.example.com"),
            ("[2001:db8::1]:8000", "[2001:db8::1]:8000"),
        ] {
            let file = tempfile::NamedTempFile::new().expect("a file");
            let lines = blocks(address).known_hosts_lines();
            assert_eq!(lines, format!("{name} {HOST_KEY}\n"));
            std::fs::write(file.path(), &lines).expect("written");
            let keygen = Path::new("/usr/bin/ssh-keygen");
            assert!(keygen.is_file(), "this test needs ssh-keygen: apt-get install openssh-client");
            let found =
                Command::new(keygen).args(["-F", name, "-f"]).arg(file.path()).output().expect("it runs");
            assert!(String::from_utf8_lossy(&found.stdout).contains(HOST_KEY), "{name}");
        }
    }

    #[test]
    fn services_and_the_pin_are_told_in_comments() {
        let blocks = blocks("gate.example.com:8000");
        let text = format!("{}{blocks}", blocks.how_to_pin());
        for line in [
            "# shop-17: services db, ssh",
            "# shop-18: services not known while no agent checks in",
            "# till: services web (none named ssh: use SERVICE.till)",
            &format!("#   [gate.example.com]:8000 {HOST_KEY}"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let options = in_force(&text, "shop-17");
        assert_eq!(options["proxyjump"], "tidegate");
    }
}
