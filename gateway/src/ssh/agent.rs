//! An agent's connection after its login: which forwards it may ask for, and when they are complete.

use std::sync::Arc;

use russh::server::Session;
use shared::id::ServiceName;
use shared::tunnel::carry::{Flow, Meter};
use shared::tunnel::pool::Pool;
use shared::tunnel::socket::Backlog;
use shared::tunnel::ssh;
use shared::wire::check_in::MAX_SERVICES;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::control;
use super::stock::{Forwards, Stock};
use crate::link::{Closer, Parts};
use crate::tunnels::{Admitted, Tunnels};

/// How agents of ours introduce themselves in the SSH version exchange.
const OUR_AGENTS: &[u8] = b"SSH-2.0-Tidegate";

/// What belongs to a connection, whoever is at its other end.
#[derive(Clone)]
pub(super) struct Wires {
    /// Ends it.
    pub(super) closer: Closer,
    /// What it has still to write.
    pub(super) backlog: Arc<Backlog>,
    /// What its streams carried.
    pub(super) meter: Arc<Meter>,
    /// What its streams share.
    pub(super) pool: Arc<Pool>,
    /// Cancelled when it is over.
    pub(super) gone: CancellationToken,
}

/// An agent that logged in.
pub(super) struct Agent {
    admitted: Admitted,
    tunnels: Tunnels,
    wires: Wires,
    permits: Arc<Semaphore>,
    retired: CancellationToken,
    services: Forwards,
    /// Tells them to the task that announces them; of a stock client, from its first one on.
    announcing: Option<watch::Sender<Forwards>>,
    /// The control forward was accepted: the agent has announced all it has.
    complete: bool,
}

impl Agent {
    pub(super) fn new(admitted: Admitted, tunnels: Tunnels, wires: Wires) -> Self {
        let permits = Arc::new(Semaphore::new(ssh::MAX_STREAMS));
        let services = Forwards::new();
        let retired = CancellationToken::new();
        Self { admitted, tunnels, wires, permits, retired, services, announcing: None, complete: false }
    }

    /// Decides a `tcpip-forward` request.
    pub(super) fn forward(&mut self, address: &str, port: u32, session: &Session) -> bool {
        let accepted = if address == ssh::CONTROL_NAME {
            self.control_forward(port, session)
        } else {
            self.service_forward(address, port, session)
        };
        if !accepted {
            tracing::debug!(edge = %self.admitted.edge, name = ?address, "a forward was refused");
        }
        accepted
    }

    /// An agent of ours says with the control forward that it has announced everything.
    fn control_forward(&mut self, version: u32, session: &Session) -> bool {
        let Some(terms) = ssh::terms(version) else { return false };
        if self.complete {
            return false;
        }
        self.complete = true;
        let (closer, admitted) = (self.wires.closer.clone(), self.admitted.clone());
        let parts = Parts { flow: Flow::Credit(terms, Arc::clone(&self.wires.pool)), ..self.parts(session) };
        // On a task of its own: opening a channel waits for the loop that is waiting for us.
        tokio::spawn(control::run(parts, version, self.tunnels.clone(), closer, admitted));
        true
    }

    fn service_forward(&mut self, name: &str, port: u32, session: &Session) -> bool {
        let Ok(name) = name.parse::<ServiceName>() else { return false };
        if self.complete || !self.admitted.services.contains(&name) || self.services.len() >= MAX_SERVICES {
            return false;
        }
        self.services.insert(name, port);
        if !session.remote_sshid().starts_with(OUR_AGENTS) {
            self.announce(session);
        }
        true
    }

    fn announce(&mut self, session: &Session) {
        if let Some(announcing) = &self.announcing {
            announcing.send_replace(self.services.clone());
            return;
        }
        let (announcing, forwards) = watch::channel(self.services.clone());
        self.announcing = Some(announcing);
        let (admitted, tunnels) = (self.admitted.clone(), self.tunnels.clone());
        let stock = Stock { admitted, tunnels, parts: self.parts(session), forwards };
        // On a task of its own, as above.
        tokio::spawn(stock.run());
    }

    fn parts(&self, session: &Session) -> Parts {
        Parts {
            id: self.admitted.link,
            handle: session.handle(),
            backlog: Arc::clone(&self.wires.backlog),
            meter: Arc::clone(&self.wires.meter),
            services: self.services.clone(),
            flow: Flow::Plain,
            control: None,
            permits: Arc::clone(&self.permits),
            gone: self.wires.gone.clone(),
            retired: self.retired.clone(),
        }
    }
}
