//! What russh asks about one connection: is the login right, may this be forwarded. Everything that has no method here
//! is refused by russh's defaults: sessions, direct-tcpip, X11, agent forwarding, unix-socket forwards, public keys.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::Error;
use russh::server::{self, Auth, Session};
use shared::id::ServiceName;
use shared::tunnel::carry::Meter;
use shared::tunnel::socket::Backlog;
use shared::tunnel::ssh;
use shared::wire::check_in::MAX_SERVICES;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::control;
use crate::link::{Closer, Link, Parts};
use crate::tunnels::{Admitted, Tunnels};

/// How agents of ours introduce themselves in the SSH version exchange.
const OUR_AGENTS: &[u8] = b"SSH-2.0-Tidegate";

/// Whether the connection has logged in, and as whom. Shared between the handler and the connection's task.
#[derive(Clone, Default)]
pub(super) struct Login {
    admitted: Arc<OnceLock<Admitted>>,
    happened: CancellationToken,
}

impl Login {
    pub(super) fn admitted(&self) -> Option<&Admitted> {
        self.admitted.get()
    }

    pub(super) async fn happened(&self) {
        self.happened.cancelled().await;
    }

    /// Waits until the grace has passed without a login; for ever, if there is one.
    pub(super) async fn missed(&self, grace: Duration) {
        if tokio::time::timeout(grace, self.happened()).await.is_ok() {
            std::future::pending().await
        }
    }

    fn set(&self, admitted: Admitted) {
        let _ = self.admitted.set(admitted);
        self.happened.cancel();
    }
}

/// One connection's handler.
pub(super) struct Handler {
    tunnels: Tunnels,
    closer: Closer,
    login: Login,
    backlog: Arc<Backlog>,
    meter: Arc<Meter>,
    gone: CancellationToken,
    permits: Arc<Semaphore>,
    /// Forwards so far, with the port that the agent gave each.
    services: HashMap<ServiceName, u32>,
    /// The control forward was accepted: the agent has announced all it has.
    complete: bool,
}

impl Handler {
    pub(super) fn new(
        tunnels: Tunnels,
        closer: Closer,
        login: Login,
        backlog: Arc<Backlog>,
        meter: Arc<Meter>,
        gone: CancellationToken,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(ssh::MAX_STREAMS));
        let services = HashMap::new();
        Self { tunnels, closer, login, backlog, meter, gone, permits, services, complete: false }
    }

    fn parts(&self, admitted: &Admitted, session: &Session) -> Parts {
        Parts {
            id: admitted.link,
            handle: session.handle(),
            backlog: Arc::clone(&self.backlog),
            meter: Arc::clone(&self.meter),
            services: self.services.clone(),
            control: None,
            permits: Arc::clone(&self.permits),
            gone: self.gone.clone(),
        }
    }

    /// An agent of ours says with the control forward that it has announced everything.
    fn control_forward(&mut self, version: u32, admitted: Admitted, session: &Session) -> bool {
        if self.complete || version != ssh::CONTROL_VERSION {
            return false;
        }
        self.complete = true;
        let parts = self.parts(&admitted, session);
        // On a task of its own: opening a channel waits for the loop that is waiting for us.
        tokio::spawn(control::run(parts, self.tunnels.clone(), self.closer.clone(), admitted));
        true
    }

    fn service_forward(&mut self, name: &str, port: u32, admitted: &Admitted, session: &Session) -> bool {
        let Ok(name) = name.parse::<ServiceName>() else { return false };
        if self.complete || !admitted.services.contains(&name) || self.services.len() >= MAX_SERVICES {
            return false;
        }
        self.services.insert(name, port);
        if !session.remote_sshid().starts_with(OUR_AGENTS) {
            let link = Link::new(self.parts(admitted, session));
            let first = self.services.len() == 1;
            tokio::spawn(control::run_stock(link, first, self.watch(admitted)));
        }
        true
    }

    fn watch(&self, admitted: &Admitted) -> control::Watch {
        control::Watch {
            tunnels: self.tunnels.clone(),
            meter: Arc::clone(&self.meter),
            gone: self.gone.clone(),
            services: self.services.keys().cloned().collect(),
            idle_timeout: admitted.idle_timeout,
        }
    }
}

impl server::Handler for Handler {
    type Error = Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Error> {
        match self.tunnels.log_in(user, password, self.closer.clone()).await {
            Some(admitted) => {
                tracing::debug!(edge = %admitted.edge, link = admitted.link.0, "tunnel login");
                self.login.set(admitted);
                Ok(Auth::Accept)
            }
            None => Ok(Auth::reject()),
        }
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Error> {
        // Requests before the login don't get here; if they did, there would be nothing to allow.
        let Some(admitted) = self.login.admitted().cloned() else { return Ok(false) };
        let accepted = if address == ssh::CONTROL_NAME {
            self.control_forward(*port, admitted.clone(), session)
        } else {
            self.service_forward(address, *port, &admitted, session)
        };
        if !accepted {
            tracing::debug!(edge = %admitted.edge, name = ?address, "a forward was refused");
        }
        Ok(accepted)
    }
}
