//! A peer: rathole, over plain TCP, TLS or Noise, as it comes: what its configuration does not say stays at its default.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::place::{Place, free_address};
use crate::process::{Process, installed, wait_for_listener};

/// What a new connection proves itself with; no secret, on a port of this machine for some minutes.
const TOKEN: &str = "loadtest";
/// The name in the certificate.
const HOST: &str = "localhost";

/// What carries the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Nothing but TCP.
    Plain,
    /// TLS by OpenSSL.
    Tls,
    /// Noise, in rathole's default pattern: ChaCha20.
    Noise,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "tcp",
            Self::Tls => "tls",
            Self::Noise => "noise",
        }
    }
}

/// Server and client, dropped in this order.
#[derive(Debug)]
pub struct Rathole {
    client: Process,
    server: Process,
    /// The port that it opens at the server.
    pub address: SocketAddr,
}

impl Rathole {
    /// Starts both in `folder`, in front of the agent's side's port of the service.
    ///
    /// # Errors
    /// If they do not come up; with their last words.
    pub async fn start(
        program: &Path,
        transport: Transport,
        place: &Place,
        folder: &Path,
        service: u16,
    ) -> Result<Self> {
        let name = format!("rathole-{}", transport.name());
        let folder = folder.join(&name);
        fs::create_dir(&folder).context("can't make a folder for rathole")?;
        let control = place.free_address()?;
        let address = free_address(Ipv4Addr::LOCALHOST.into())?;
        let (servers, clients) = settings(program, transport, &folder)?;
        let server = format!(
            "[server]\nbind_addr = \"{control}\"\ndefault_token = \"{TOKEN}\"\n\
             [server.services.bench]\nbind_addr = \"{address}\"\n\
             [server.transport]\ntype = \"{}\"\n{servers}",
            transport.name(),
        );
        let client = format!(
            "[client]\nremote_addr = \"{control}\"\ndefault_token = \"{TOKEN}\"\n\
             [client.services.bench]\nlocal_addr = \"127.0.0.1:{service}\"\n\
             [client.transport]\ntype = \"{}\"\n{clients}",
            transport.name(),
        );
        let start = |mut command: Command, side: &str, settings: &str| {
            let file = folder.join(format!("{side}.toml"));
            fs::write(&file, settings).context("can't write rathole's configuration")?;
            command.arg(format!("--{side}")).arg(file).env_remove("RUST_LOG");
            Process::start(&format!("{name} --{side}"), command, folder.join(format!("{side}.log")))
        };
        let server = start(Command::new(program), "server", &server)?;
        wait_for_listener(&server, control).await?;
        let client = start(place.agents_side(program), "client", &client)?;
        // The server opens the port once the client has asked for it.
        wait_for_listener(&client, address).await?;
        Ok(Self { client, server, address })
    }

    /// Its processes.
    pub fn processes(&self) -> Vec<u32> {
        vec![self.server.id(), self.client.id()]
    }
}

/// What the server's and the client's configuration say about the transport.
fn settings(program: &Path, transport: Transport, folder: &Path) -> Result<(String, String)> {
    match transport {
        Transport::Plain => Ok(Default::default()),
        Transport::Tls => {
            let identity = make_certificate(folder)?;
            let server =
                format!("[server.transport.tls]\npkcs12 = \"{identity}\"\npkcs12_password = \"{TOKEN}\"\n");
            let root = folder.join("certificate.pem");
            let client = format!(
                "[client.transport.tls]\ntrusted_root = \"{}\"\nhostname = \"{HOST}\"\n",
                root.display()
            );
            Ok((server, client))
        }
        Transport::Noise => {
            let output = Command::new(program).arg("--genkey").output().context("can't run rathole")?;
            let said = String::from_utf8_lossy(&output.stdout);
            let (private, public) = keys(&said).context("rathole --genkey prints no keys")?;
            let server = format!("[server.transport.noise]\nlocal_private_key = \"{private}\"\n");
            let client = format!("[client.transport.noise]\nremote_public_key = \"{public}\"\n");
            Ok((server, client))
        }
    }
}

/// A certificate for [`HOST`] in `folder`, and the path of its key with it in the only form that rathole reads.
fn make_certificate(folder: &Path) -> Result<String> {
    let at = |name: &str| folder.join(name).display().to_string();
    let (key, certificate, identity) = (at("key.pem"), at("certificate.pem"), at("identity.pfx"));
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    let subject = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    let made =
        [&["req", "-x509", "-nodes", "-keyout", &key, "-out", &certificate], &curve[..], &subject].concat();
    let password = format!("pass:{TOKEN}");
    let sealed =
        ["pkcs12", "-export", "-inkey", &key, "-in", &certificate, "-out", &identity, "-passout", &password];
    for arguments in [&made[..], &sealed] {
        let output = Command::new(installed("openssl", "openssl")?).args(arguments).output();
        let output = output.context("can't run openssl")?;
        ensure!(output.status.success(), "openssl failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(identity)
}

/// The private and the public key, each on the line below its name.
fn keys(said: &str) -> Option<(&str, &str)> {
    let below = |name: &str| {
        let mut lines = said.lines().skip_while(|line| !line.starts_with(name)).skip(1);
        lines.next().map(str::trim).filter(|key| !key.is_empty())
    };
    Some((below("Private Key")?, below("Public Key")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_below_their_names() {
        let said = "Private Key:\nAAAA=\n\nPublic Key:\nBBBB=\n";
        assert_eq!(keys(said), Some(("AAAA=", "BBBB=")));
        assert_eq!(keys("Private Key:\nAAAA=\n"), None);
        assert_eq!(keys(""), None);
    }
}
