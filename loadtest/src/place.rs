//! Where everything runs: all of it on the loopback interface, or the agent's side at the far end of a path.
//!
//! Peers' clients, the agent and the service stand on the agent's side; servers and operators on this one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// Where everything runs.
#[derive(Debug)]
pub enum Place {
    /// On the loopback interface.
    Loopback,
    /// On both sides of this.
    Path(fixtures::netpath::Path),
}

impl Place {
    /// Where servers listen for agents.
    pub fn server(&self) -> IpAddr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
            Self::Path(path) => path.near(),
        }
    }

    /// A command that runs the program on the agent's side.
    pub fn agents_side(&self, program: &Path) -> Command {
        match self {
            Self::Loopback => Command::new(program),
            Self::Path(path) => path.inside(program),
        }
    }

    /// A listener on a free port of the agent's side. Loopback there reaches it, and so does [`Place::service`].
    ///
    /// # Errors
    /// If there is none.
    pub fn listen(&self) -> Result<TcpListener> {
        match self {
            Self::Loopback => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
                let listener = listener.context("the loopback interface has no free port")?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            }
            Self::Path(path) => path.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
        }
    }

    /// Where an operator reaches the service without any tunnel, by its port.
    pub fn service(&self, port: u16) -> SocketAddr {
        match self {
            Self::Loopback => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            Self::Path(path) => SocketAddr::new(path.far(), port),
        }
    }

    /// An address of servers that nobody listens on. Programs that can't choose one and say which need it; another program
    /// could take it first, and then the start fails.
    ///
    /// # Errors
    /// If there is none.
    pub fn free_address(&self) -> Result<SocketAddr> {
        free_address(self.server())
    }
}

/// A free port of this machine's address, for a program that will listen there.
///
/// # Errors
/// If there is none.
pub fn free_address(address: IpAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind((address, 0)).with_context(|| format!("{address} has no free port"))?;
    Ok(listener.local_addr()?)
}
