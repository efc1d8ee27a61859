//! Whoever wants a stream: let in line, let through, or turned away with a reason.

use std::time::{Duration, Instant};

use shared::id::{EdgeName, EndpointId, ServiceName};

use super::{Command, Edge, Registry};
use crate::domain::refusal::OpenError;
use crate::domain::tunnel::{self, LinkId, Phase, WaiterId};
use crate::domain::{Now, view};

/// Who asks for a tunnel waits for two check-ins and this.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody who waits for a tunnel.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) endpoint: EndpointId,
    since: Instant,
    service: Option<ServiceName>,
}

impl Registry {
    /// How long somebody waits for this edge's tunnel.
    pub(super) fn patience(&self, edge: &Edge) -> Duration {
        self.rule(edge).interval * 2 + PATIENCE
    }

    pub(super) fn want(
        &mut self,
        waiter: WaiterId,
        name: EdgeName,
        service: Option<ServiceName>,
        now: Now,
        out: &mut Vec<Command>,
    ) {
        let refusal = match self.endpoint(&name) {
            Err(_) => Some(OpenError::NoSuchEdge(name)),
            Ok(_) if self.draining => Some(shutting_down()),
            Ok(endpoint) => {
                let edge = &self.edges[&endpoint];
                let missing = service.as_ref().and_then(|service| self.missing_service(edge, service, now));
                if missing.is_none() {
                    let deadline = now.instant + self.patience(edge);
                    self.waiters.insert(waiter, Waiter { endpoint, since: now.instant, service });
                    self.on_tunnel(endpoint, tunnel::Event::Want { waiter, deadline }, now, out);
                }
                missing
            }
        };
        if let Some(error) = refusal {
            out.push(Command::Deny { waiter, error });
        }
    }

    /// What somebody who wants the edge's tunnel now would wait for, and how long at most; `None` where it is open.
    pub fn outlook(&self, name: &EdgeName, now: Now) -> Option<String> {
        let edge = self.edge(name).ok()?;
        let for_what = match edge.tunnel.phase() {
            Phase::Open => return None,
            Phase::Offered => "to connect".to_owned(),
            Phase::Closing => "to close its last tunnel and open another".to_owned(),
            Phase::Idle | Phase::Wanted => {
                let live = edge.instances.live(self.rule(edge), now).next().is_some();
                match (live, edge.last_seen(now)) {
                    (true, _) => "to check in".to_owned(),
                    (false, Some(seen)) => {
                        format!("to check in, which was last seen at {}", view::rfc3339(seen))
                    }
                    (false, None) if edge.record.bound.is_some() => "to check in".to_owned(),
                    (false, None) => "to check in, which has never joined".to_owned(),
                }
            }
        };
        Some(format!("waiting for {name} {for_what}, up to {} s", self.patience(edge).as_secs()))
    }

    /// The service that stands behind a port of the edge, for clients that can say a port only: `ssh` behind 22, else
    /// the one whose target has it.
    pub fn service_at(&self, name: &EdgeName, port: u16, now: Now) -> Result<ServiceName, OpenError> {
        let edge = self.edge(name).map_err(|_| OpenError::NoSuchEdge(name.clone()))?;
        let hellos = edge.instances.live(self.rule(edge), now).filter_map(|instance| instance.hello.as_ref());
        let services: Vec<_> = hellos.flat_map(|hello| &hello.services).collect();
        let ssh: ServiceName = "ssh".parse().expect("a DNS label");
        if port == 22 && (services.is_empty() || services.iter().any(|service| service.name == ssh)) {
            return Ok(ssh);
        }
        let suffix = format!(":{port}");
        let mut behind =
            services.iter().filter(|service| service.target.trim_end_matches('/').ends_with(&suffix));
        match behind.next() {
            Some(service) => Ok(service.name.clone()),
            None => Err(OpenError::Refused {
                reason: format!(
                    "edge {name} has no known service on port {port}; name one, as in SERVICE.{name}"
                ),
            }),
        }
    }

    /// That no agent of the edge has the service, where that is known without waking one.
    fn missing_service(&self, edge: &Edge, service: &ServiceName, now: Now) -> Option<OpenError> {
        let mut available: Vec<&ServiceName> = match edge.tunnel.phase() {
            Phase::Open => edge.services.iter().collect(),
            Phase::Idle | Phase::Wanted | Phase::Offered | Phase::Closing => {
                let mut hellos = edge.instances.live(self.rule(edge), now).peekable();
                hellos.peek()?;
                let mut known = Vec::new();
                for instance in hellos {
                    // One that has not said hello may have anything.
                    known.extend(instance.hello.as_ref()?.services.iter().map(|service| &service.name));
                }
                known
            }
        };
        if available.contains(&service) {
            return None;
        }
        available.sort();
        available.dedup();
        let available: Vec<&str> = available.into_iter().map(ServiceName::as_str).collect();
        Some(OpenError::NoSuchService {
            edge: edge.record.name.clone(),
            service: service.clone(),
            available: if available.is_empty() { "none".to_owned() } else { available.join(", ") },
        })
    }

    /// Only now is it known what the link carries; a waiter whose service is not there is turned away.
    pub(super) fn grant(&mut self, waiter: WaiterId, link: LinkId, now: Now, out: &mut Vec<Command>) {
        let Some(Waiter { endpoint, service, .. }) = self.waiters.remove(&waiter) else { return };
        let edge = &self.edges[&endpoint];
        match service.and_then(|service| self.missing_service(edge, &service, now)) {
            None => out.push(Command::Grant { waiter, link }),
            Some(error) => {
                out.push(Command::Deny { waiter, error });
                self.on_tunnel(endpoint, tunnel::Event::StreamEnded { link }, now, out);
            }
        }
    }

    pub(super) fn deny(&mut self, waiter: WaiterId, phase: Phase, now: Now, out: &mut Vec<Command>) {
        let Some(Waiter { endpoint, since, .. }) = self.waiters.remove(&waiter) else { return };
        let edge = &self.edges[&endpoint];
        let waited = now.instant.saturating_duration_since(since);
        let error = OpenError::NoTunnel {
            edge: edge.record.name.clone(),
            waited_s: u32::try_from(waited.as_secs()).unwrap_or(u32::MAX),
            reason: self.why_not(edge, phase, now),
        };
        out.push(Command::Deny { waiter, error });
    }

    /// Why the edge has no tunnel, for the operator who waited for one.
    fn why_not(&self, edge: &Edge, phase: Phase, now: Now) -> String {
        if let Some(failure) = edge.tunnel.failure() {
            return failure.to_owned();
        }
        let rule = self.rule(edge);
        if let Some(duplicate) = edge.instances.duplicate(rule, now) {
            let (refused, present) =
                (duplicate.refused.as_deref().unwrap_or("an unnamed host"), &duplicate.present);
            return format!("two agents have this edge ID, on {present} and on {refused}; stop one of them");
        }
        let live = edge.instances.live(rule, now).next();
        if let (None, Some(stranger)) = (live, edge.instances.stranger(now)) {
            let host = stranger.hostname.clone().unwrap_or_else(|| stranger.address.to_string());
            return format!(
                "the agent on {host} is refused: the edge is bound to another edge ID; dissociate the edge to let it in"
            );
        }
        if let (None, Some(key)) = (live, &edge.record.stock_key) {
            let end = view::rfc3339(key.expires_at);
            return if key.expires_at > now.wall {
                format!("the SSH client on its box is not connected; its key is good until {end}")
            } else {
                format!("the key of the SSH client on its box expired at {end}; make a new offer")
            };
        }
        match (phase, live, edge.last_seen(now)) {
            (Phase::Offered, _, _) => "its agent was offered a tunnel and has not connected yet".to_owned(),
            (Phase::Closing, _, _) => "its last tunnel has not closed yet".to_owned(),
            (Phase::Idle | Phase::Wanted | Phase::Open, Some(_), _) => {
                format!("its agent checks in every {} s and has not come by yet", rule.interval.as_secs())
            }
            (Phase::Idle | Phase::Wanted | Phase::Open, None, Some(seen)) => {
                format!("its agent was last seen at {}", view::rfc3339(seen))
            }
            (Phase::Idle | Phase::Wanted | Phase::Open, None, None) if edge.record.bound.is_some() => {
                "its agent has not come by since the gateway was started".to_owned()
            }
            (Phase::Idle | Phase::Wanted | Phase::Open, None, None) => {
                "no agent has ever joined with its token".to_owned()
            }
        }
    }
}

pub(super) fn shutting_down() -> OpenError {
    OpenError::Refused { reason: "the gateway is shutting down; try again in a minute".to_owned() }
}
