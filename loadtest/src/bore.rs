//! A peer: bore, over plain TCP. Its server's control port can't be chosen, so on the loopback interface it has an address
//! of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::place::{Place, free_address};
use crate::process::{Process, wait_for_listener};

/// The control port of bore 0.6.
const CONTROL: u16 = 7835;

/// Server and client, dropped in this order.
#[derive(Debug)]
pub struct Bore {
    client: Process,
    server: Process,
    /// The port that it opens at the server.
    pub address: SocketAddr,
}

impl Bore {
    /// Starts both, in front of the agent's side's port of the service.
    ///
    /// # Errors
    /// If they do not come up; with their last words.
    pub async fn start(program: &Path, place: &Place, folder: &Path, service: u16) -> Result<Self> {
        let address = match place {
            Place::Loopback => own_loopback_address(),
            Place::Path(_) => place.server(),
        };
        let mut command = Command::new(program);
        command.args(["server", "--bind-addr", &address.to_string()]).env_remove("RUST_LOG");
        let server = Process::start("bore server", command, folder.join("bore-server.log"))?;
        wait_for_listener(&server, SocketAddr::new(address, CONTROL)).await?;

        let opened = free_address(address)?;
        let mut command = place.agents_side(program);
        command.args(["local", &service.to_string(), "--local-host", "127.0.0.1"]);
        command
            .args(["--to", &address.to_string(), "--port", &opened.port().to_string()])
            .env_remove("RUST_LOG");
        let client = Process::start("bore local", command, folder.join("bore-local.log"))?;
        wait_for_listener(&client, opened).await?;
        Ok(Self { client, server, address: opened })
    }

    /// Its processes.
    pub fn processes(&self) -> Vec<u32> {
        vec![self.server.id(), self.client.id()]
    }
}

/// An address of 127.0.0.0/8 that differs between processes of the harness.
fn own_loopback_address() -> IpAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (high & 63), middle, low.max(1)).into()
}
