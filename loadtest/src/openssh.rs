//! The peer, up and with its forwards open: Debian's `sshd` on a loopback port with a configuration of its own,
//! `ssh -R` in the agent's place, and `ssh -L` in the place of `tidegate connect`.
//!
//! Both ends are held to aes256-gcm, which is what Tidegate agrees on; left alone they would take ChaCha20, at half the
//! speed.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::place::{Place, free_address};
use crate::process::{Process, installed, wait_for_listener};

/// The one cipher of both ends.
const CIPHER: &str = "aes256-gcm@openssh.com";
/// What `ssh -R` prints before the port that the server chose.
const ALLOCATED: &str = "Allocated port ";

/// All processes of OpenSSH, dropped in this order. A server's session ends with its client's connection.
#[derive(Debug)]
pub struct OpenSsh {
    local: Process,
    remote: Process,
    sshd: Process,
    /// The port that `ssh -R` opened at the server.
    pub remote_address: SocketAddr,
    /// The port that `ssh -L` opened at the operator.
    pub local_address: SocketAddr,
}

impl OpenSsh {
    /// Starts everything in `folder`, in front of `service`.
    ///
    /// # Errors
    /// If a program is missing or does not come up.
    pub async fn start(place: &Place, folder: &Path, service: u16) -> Result<Self> {
        let folder = folder.join("openssh");
        fs::create_dir(&folder).context("can't make a folder for OpenSSH")?;
        let (sshd, server) = start_server(place, &folder).await?;

        let mut command = place.agents_side(&installed("ssh", "openssh-client")?);
        to_server(&mut command, &folder, server);
        command.args(["-R", &format!("127.0.0.1:0:127.0.0.1:{service}")]);
        let mut remote = Process::start("ssh -R", command, folder.join("remote.log"))?;
        let port = remote.printed("which port the server chose", allocated_port).await?;
        let remote_address = SocketAddr::from(([127, 0, 0, 1], port));

        let local_address = free_address(Ipv4Addr::LOCALHOST.into())?;
        let mut command = Command::new(installed("ssh", "openssh-client")?);
        to_server(&mut command, &folder, server);
        command.args(["-L", &format!("{local_address}:{remote_address}")]);
        let local = Process::start("ssh -L", command, folder.join("local.log"))?;
        wait_for_listener(&local, local_address).await?;
        Ok(Self { local, remote, sshd, remote_address, local_address })
    }

    /// Processes of a stream to the port at the server.
    pub fn remote_processes(&self) -> Vec<u32> {
        vec![self.sshd.id(), self.remote.id()]
    }

    /// Processes of a stream to the port at the operator.
    pub fn local_processes(&self) -> Vec<u32> {
        vec![self.sshd.id(), self.remote.id(), self.local.id()]
    }
}

async fn start_server(place: &Place, folder: &Path) -> Result<(Process, SocketAddr)> {
    for key in ["host", "key"] {
        let mut command = Command::new(installed("ssh-keygen", "openssh-client")?);
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(key));
        let output = command.output().context("can't run ssh-keygen")?;
        ensure!(output.status.success(), "ssh-keygen failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    // Where root runs sshd, its folder for the unprivileged part must be there; Debian makes it at boot only.
    if rustix::process::geteuid().is_root() {
        fs::create_dir_all("/run/sshd").context("can't make /run/sshd")?;
    }
    let address = place.free_address()?;
    let config = format!(
        "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nCiphers {CIPHER}\nPidFile none\nUsePAM no\n\
         StrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\n",
        folder.join("host").display(),
        folder.join("key.pub").display(),
    );
    fs::write(folder.join("config"), config).context("can't write sshd's configuration")?;
    let mut command = Command::new(installed("sshd", "openssh-server")?);
    command.args(["-D", "-e", "-f"]).arg(folder.join("config"));
    let sshd = Process::start("sshd", command, folder.join("sshd.log"))?;
    wait_for_listener(&sshd, address).await?;
    Ok((sshd, address))
}

fn to_server(command: &mut Command, folder: &Path, server: SocketAddr) {
    command.args(["-N", "-F", "none", "-p", &server.port().to_string(), "-i"]).arg(folder.join("key"));
    let known = format!("UserKnownHostsFile={}", folder.join("known").display());
    let ciphers = format!("Ciphers={CIPHER}");
    for option in [
        known.as_str(),
        ciphers.as_str(),
        "StrictHostKeyChecking=accept-new",
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "ExitOnForwardFailure=yes",
    ] {
        command.args(["-o", option]);
    }
    command.arg(server.ip().to_string());
}

fn allocated_port(log: &str) -> Option<u16> {
    let rest = &log[log.find(ALLOCATED)? + ALLOCATED.len()..];
    // Up to the space: a line that is still being written may end in half a number.
    rest.split_once(' ')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_that_the_server_chose_is_read_once_it_is_whole() {
        let line = "Warning: added.\r\nAllocated port 40123 for remote forward to 127.0.0.1:1\r\n";
        assert_eq!(allocated_port(line), Some(40123));
        assert_eq!(allocated_port("Allocated port 401"), None);
        assert_eq!(allocated_port("nothing yet"), None);
    }
}
