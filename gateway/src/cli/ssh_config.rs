//! `tidegate ssh-config`: what stock OpenSSH needs to know to reach every edge through the gateway.
//!
//! How the text is made is in [`blocks`]. The rule: nothing that the gateway answers gets into a configuration as text:
//! in one, a line of somebody else's would be a command. Names, addresses and keys are parsed and written anew.

mod blocks;

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use russh::keys::PublicKey;
use shared::host_port::HostPort;
use shared::id::EdgeName;
use shared::wire::admin::{Edge, Gateway};

use super::access::Access;
use super::client::NOTHING;
use super::edge;
use super::exit::{CliError, complain};
use super::output::print_own;
use crate::data_dir::write_secret;
use blocks::{Blocks, EdgeBlock};

const PATH: &str = "/api/v1/gateway";
/// Where the printed blocks look for the gateway's host key; the line that belongs there is printed with them.
const KNOWN_HOSTS: &str = "~/.ssh/tidegate_known_hosts";
/// At the end of the name of the file with the host key, beside a file with blocks.
const KNOWN_HOSTS_SUFFIX: &str = ".known_hosts";

/// `tidegate ssh-config`.
#[derive(Args, Debug)]
#[command(
    after_help = "Either append what is printed to ~/.ssh/config, or let it be written to a file with -f and put \
    `Include FILE` on top of ~/.ssh/config; then run it again when there are new edges."
)]
pub struct SshConfigArgs {
    /// User name to log in to the gateway with; any will do, since it knows you by your key [default: your own]
    #[arg(long, value_name = "NAME", value_parser = word)]
    user: Option<String>,
    /// Private key to log in to the gateway with [default: those that ssh tries by itself]
    #[arg(long, value_name = "FILE", value_parser = path)]
    identity_file: Option<String>,
    /// What ssh shall call the gateway
    #[arg(long, value_name = "NAME", default_value = "tidegate")]
    gateway_name: EdgeName,
    /// Write the blocks to FILE, and the gateway's host key to FILE.known_hosts
    #[arg(short, long, value_name = "FILE", value_parser = path)]
    file: Option<String>,
    #[command(flatten)]
    access: Access,
}

impl SshConfigArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), CliError> {
        let client = self.access.client()?;
        let gateway: Gateway = client.call(Method::GET, PATH, NOTHING).await?;
        let edges = edge::all(&client).await?;
        let known_hosts = match &self.file {
            Some(file) => format!("{file}{KNOWN_HOSTS_SUFFIX}"),
            None => KNOWN_HOSTS.to_owned(),
        };
        let blocks = Blocks {
            gateway_name: self.gateway_name,
            address: address(&gateway)?,
            host_keys: host_keys(&gateway)?,
            user: self.user,
            identity_file: self.identity_file,
            known_hosts: known_hosts.clone(),
            edges: edges.iter().map(edge_block).collect(),
        };
        if blocks.edges.iter().any(|edge| edge.name == blocks.gateway_name) {
            return Err(CliError::Failed(format!(
                "there is an edge named {}, which ssh could not tell from the gateway; call the gateway something else \
                 with --gateway-name",
                blocks.gateway_name
            )));
        }
        match self.file {
            Some(file) => {
                refuse_to_replace_others(&file)?;
                write(&known_hosts, &blocks.known_hosts_lines())?;
                write(&file, &blocks.to_string())?;
                complain(&format!(
                    "wrote {file} and {known_hosts}; ~/.ssh/config needs `Include {file}` on top"
                ));
                Ok(())
            }
            None => print_own(&format!("{}{blocks}", blocks.how_to_pin())),
        }
    }
}

/// Who names ~/.ssh/config itself wants to keep it.
fn refuse_to_replace_others(file: &str) -> Result<(), CliError> {
    let failed = |error| CliError::failed(format!("can't read {file}"), error);
    match std::fs::read_to_string(file) {
        Ok(text) if text.is_empty() || blocks::is_ours(&text) => Ok(()),
        Ok(_) => Err(CliError::Failed(format!(
            "{file} was not written by this command and is left alone; name another file with -f, and put `Include` \
             with its name on top of ~/.ssh/config"
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn write(file: &str, text: &str) -> Result<(), CliError> {
    // No secret, but ssh refuses what others may write, and a half-written file would break every ssh of the user.
    write_secret(Path::new(file), text.as_bytes())
        .map_err(|error| CliError::failed(format!("can't write {file}"), error))
}

fn address(gateway: &Gateway) -> Result<HostPort, CliError> {
    gateway.public_ssh.parse().map_err(|error| CliError::failed("the gateway's SSH address", error))
}

fn host_keys(gateway: &Gateway) -> Result<Vec<PublicKey>, CliError> {
    let parsed: Result<Vec<_>, _> =
        gateway.host_keys.iter().map(|key| PublicKey::from_openssh(&key.public_key)).collect();
    match parsed {
        Ok(keys) if !keys.is_empty() => Ok(keys),
        Ok(_) => Err(CliError::Failed("the gateway names no host key to know it by".to_owned())),
        Err(error) => Err(CliError::failed("the gateway's host key can't be read", error)),
    }
}

fn edge_block(edge: &Edge) -> EdgeBlock {
    let services = edge.instances.iter().flat_map(|instance| &instance.services);
    let mut services: Vec<_> = services.map(|service| service.name.clone()).collect();
    services.sort();
    services.dedup();
    EdgeBlock { name: edge.name.clone(), services }
}

/// One word without anything that a configuration or a shell takes for more than that.
fn word(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@+".contains(c);
    if text.is_empty() || text.starts_with('-') || !text.chars().all(plain) {
        return Err("a user name has letters, digits and . _ - @ + only".to_owned());
    }
    Ok(text.to_owned())
}

/// An absolute path, since ssh takes others from wherever it is started. A shell has resolved a `~` in front.
fn path(text: &str) -> Result<String, String> {
    // What ssh has no way to quote, or resolves to something else.
    if text.is_empty() || text.contains(['"', '%', '$', '\\']) || text.chars().any(char::is_control) {
        return Err("a path must not have any of \" % $ \\ in it, which mean something to ssh".to_owned());
    }
    if text.starts_with('~') {
        return Err(
            "the shell resolves a ~ only at the beginning of a word: write --OPTION ~/FILE".to_owned()
        );
    }
    let path = std::path::absolute(PathBuf::from(text)).map_err(|error| error.to_string())?;
    path.into_os_string().into_string().map_err(|_| "a path must be UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_and_paths_can_not_carry_a_command_into_the_configuration() {
        for bad in ["", "-oProxyCommand=x", "a b", "a\nProxyCommand x", "a\"", "$(x)", "a%h"] {
            assert!(word(bad).is_err(), "{bad:?}");
        }
        assert_eq!(word("ada.l@corp").as_deref(), Ok("ada.l@corp"));
        for bad in ["", "a\nProxyCommand x", "a\"", "%h", "${HOME}/x", "~/x"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        assert_eq!(path("/a b/c").as_deref(), Ok("/a b/c"));
        assert!(path("key").expect("a path").ends_with("/key"));
    }

    #[test]
    fn a_file_of_somebody_else_s_is_left_alone_and_one_of_ours_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config");
        let name = file.to_str().expect("UTF-8");
        refuse_to_replace_others(name).expect("nothing is there");
        let blocks = blocks::tests::blocks("gate:8000").to_string();
        write(name, &blocks).expect("written");
        refuse_to_replace_others(name).expect("it is ours");
        std::fs::write(&file, format!("Host mine\n{blocks}")).expect("written");
        let error = refuse_to_replace_others(name).expect_err("it is somebody's").to_string();
        assert!(error.contains(name) && error.contains("Include"), "{error}");
    }

    #[test]
    fn what_a_gateway_answers_is_parsed_and_never_copied() {
        let gateway = |ssh: &str, key: &str| Gateway {
            version: String::new(),
            public_url: String::new(),
            public_ssh: ssh.to_owned(),
            host_keys: vec![shared::wire::admin::HostKey {
                algorithm: String::new(),
                fingerprint: "SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE".parse().expect("one"),
                public_key: key.to_owned(),
            }],
            tls_pins: vec![],
        };
        assert!(address(&gateway("gate:8000\nProxyCommand x", "")).is_err());
        assert!(address(&gateway("gate", "")).is_err());
        let injected = format!("{}\n* {}", blocks::tests::HOST_KEY, blocks::tests::HOST_KEY);
        for bad in ["", "ssh-ed25519 AAAA", &injected] {
            assert!(host_keys(&gateway("gate:8000", bad)).is_err(), "{bad:?}");
        }
    }
}
