//! What the admin API shows of edges, settings and roles. Pure.

use shared::wire::admin;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Now;
use super::authority::Role;
use super::edge::{Settings, Timestamp};
use super::event::{Cause, Event, What};
use super::instances::Instance;
use super::registry::{Edge, Registry};
use super::tunnel::{Phase, Tunnel};

/// RFC 3339 in UTC, to the second.
pub fn rfc3339(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "after the year 9999".to_owned())
}

impl From<Role> for admin::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Operator => Self::Operator,
            Role::Admin => Self::Admin,
        }
    }
}

impl From<admin::Role> for Role {
    fn from(role: admin::Role) -> Self {
        match role {
            admin::Role::Viewer => Self::Viewer,
            admin::Role::Operator => Self::Operator,
            admin::Role::Admin => Self::Admin,
        }
    }
}

/// One edge.
pub fn edge(registry: &Registry, edge: &Edge, now: Now) -> admin::Edge {
    let rule = registry.rule(edge);
    let instances: Vec<_> = edge.instances.live(rule, now).map(|it| instance(it, now)).collect();
    let stock_client = edge.stock_services().map(|services| {
        let mut services = services.to_vec();
        services.sort();
        admin::StockClient { services }
    });
    admin::Edge {
        name: edge.record.name.clone(),
        endpoint_id: edge.record.endpoint,
        cluster: edge.record.cluster,
        tags: edge.record.tags.clone(),
        interval_s: seconds(rule.interval),
        idle_timeout_s: seconds(registry.idle_timeout(edge)),
        created_at: rfc3339(edge.record.created_at),
        bound: edge.record.bound.is_some(),
        status: status(registry, edge, now),
        // Its keep-alives answer, or there would be no link.
        last_seen: stock_client.as_ref().map(|_| now.wall).or(edge.last_seen(now)).map(rfc3339),
        instances,
        duplicate: edge.instances.duplicate(rule, now).map(|duplicate| admin::Duplicate {
            present: duplicate.present.clone(),
            refused: duplicate.refused.clone(),
            at: rfc3339(duplicate.at),
        }),
        stranger: edge.instances.stranger(now).map(|stranger| admin::Stranger {
            hostname: stranger.hostname.clone(),
            address: stranger.address.to_string(),
            at: rfc3339(stranger.at),
        }),
        tunnel: tunnel(&edge.tunnel),
        stock_client,
        offers: offers(edge, now),
    }
}

/// What the operator wants to know first.
pub fn status(registry: &Registry, edge: &Edge, now: Now) -> admin::EdgeStatus {
    let live = edge.instances.live(registry.rule(edge), now).next().is_some();
    match (edge.tunnel.phase(), live, edge.last_seen(now)) {
        (Phase::Open | Phase::Closing, _, _) => admin::EdgeStatus::TunnelOpen,
        (Phase::Idle | Phase::Wanted | Phase::Offered, true, _) => admin::EdgeStatus::Online,
        (Phase::Idle | Phase::Wanted | Phase::Offered, false, Some(_)) => admin::EdgeStatus::Offline,
        // When it was seen is noted now and then; that somebody joined is durable.
        (Phase::Idle | Phase::Wanted | Phase::Offered, false, None) if edge.record.bound.is_some() => {
            admin::EdgeStatus::Offline
        }
        (Phase::Idle | Phase::Wanted | Phase::Offered, false, None) => admin::EdgeStatus::NeverJoined,
    }
}

fn offers(edge: &Edge, now: Now) -> Vec<admin::StandingOffer> {
    let once = edge.one_time(now).map(|one_time| admin::StandingOffer {
        fingerprint: None,
        services: one_time.services().to_vec(),
        expires_at: rfc3339(one_time.expires_at()),
    });
    let key = edge.record.stock_key.as_ref().filter(|key| key.expires_at > now.wall);
    let key = key.map(|key| admin::StandingOffer {
        fingerprint: Some(key.fingerprint),
        services: key.services.clone(),
        expires_at: rfc3339(key.expires_at),
    });
    once.into_iter().chain(key).collect()
}

/// Its tunnel.
pub fn tunnel(tunnel: &Tunnel) -> admin::Tunnel {
    admin::Tunnel {
        state: match tunnel.phase() {
            Phase::Idle => admin::TunnelState::Idle,
            Phase::Wanted => admin::TunnelState::Wanted,
            Phase::Offered => admin::TunnelState::Offered,
            // The agent has its word that nothing new will come; until it is gone the connection is there.
            Phase::Open | Phase::Closing => admin::TunnelState::Open,
        },
        since: rfc3339(tunnel.since()),
        instance: tunnel.instance(),
        holds: tunnel.holds(),
        reason: tunnel.failure().map(str::to_owned),
    }
}

/// What happened.
pub fn event(event: &Event) -> admin::Event {
    admin::Event {
        at: event.at.to_string(),
        edge: event.edge.clone(),
        endpoint_id: event.endpoint,
        what: what(&event.what),
    }
}

/// The same, without when and where.
pub fn what(what: &What) -> admin::EdgeEvent {
    match what.clone() {
        What::Created => admin::EdgeEvent::Created,
        What::Changed { name, .. } => admin::EdgeEvent::Changed { name_before: name },
        What::Deleted => admin::EdgeEvent::Deleted,
        What::Joined => admin::EdgeEvent::Joined,
        What::Dissociated => admin::EdgeEvent::Dissociated,
        What::Online { instance, hostname } => admin::EdgeEvent::Online { instance, hostname },
        What::Offline { last_seen } => admin::EdgeEvent::Offline { last_seen: last_seen.map(rfc3339) },
        What::Duplicate { present, refused } => admin::EdgeEvent::Duplicate { present, refused },
        What::TunnelWanted => admin::EdgeEvent::TunnelWanted,
        What::TunnelOffered { instance } => admin::EdgeEvent::TunnelOffered { instance },
        What::TunnelOpened { instance } => admin::EdgeEvent::TunnelOpened { instance },
        What::TunnelClosed { cause, reason, open_ms, .. } => {
            let cause = match cause {
                Cause::Idle => admin::CloseCause::Idle,
                Cause::Operator => admin::CloseCause::Operator,
                Cause::Revoked => admin::CloseCause::Revoked,
                Cause::Shutdown => admin::CloseCause::Shutdown,
                Cause::Lost => admin::CloseCause::Lost,
            };
            admin::EdgeEvent::TunnelClosed { cause, reason, open_s: open_ms / 1000 }
        }
        What::TunnelUnwanted { reason } => admin::EdgeEvent::TunnelUnwanted { reason },
        What::SnapshotReceived { instance } => admin::EdgeEvent::SnapshotReceived { instance },
    }
}

/// The settings.
pub fn settings(settings: &Settings) -> admin::Settings {
    admin::Settings {
        interval_s: Some(seconds(settings.interval)),
        idle_timeout_s: Some(seconds(settings.idle_timeout)),
        hold_s: Some(seconds(settings.hold)),
        public_url: settings.public_url.clone(),
        public_ssh: settings.public_ssh.clone(),
        service_domain: settings.service_domain.clone(),
    }
}

fn instance(instance: &Instance, now: Now) -> admin::Instance {
    let hello = instance.hello.as_ref();
    admin::Instance {
        instance: instance.id,
        hostname: hello.map(|hello| hello.hostname.clone()).unwrap_or_default(),
        agent: hello.map(|hello| hello.agent.clone()).unwrap_or_default(),
        address: instance.address.to_string(),
        last_seen: rfc3339(instance.last_seen(now)),
        services: hello.map(|hello| hello.services.clone()).unwrap_or_default(),
    }
}

fn seconds(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(Timestamp(1_795_000_000_999)), "2026-11-18T11:06:40Z");
        assert_eq!(rfc3339(Timestamp(u64::MAX)), "after the year 9999");
    }
}
