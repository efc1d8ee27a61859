//! `tidegate status`: how the gateway is, at a glance.

use clap::Args;
use http::Method;
use shared::terminal::{Cell, Style, Text};
use shared::wire::admin::{EdgeCounts, GatewayStatus, HealthStatus, Status};

use super::access::How;
use super::client::NOTHING;
use super::exit::CliError;
use super::output::print;
use super::units::{bytes, span};

const PATH: &str = "/api/v1/status";

/// `tidegate status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    how: How,
}

impl StatusArgs {
    /// Shows it.
    pub async fn run(self) -> Result<(), CliError> {
        let status: Status = self.how.access.client()?.call(Method::GET, PATH, NOTHING).await?;
        print(self.how.output, &status, shown)
    }
}

fn shown(status: &Status) -> Text {
    let EdgeCounts { never_joined, offline, online, tunnel_open } = status.edges;
    let counted = |style: Style, count: usize| {
        let style = if count == 0 { Style::Plain } else { style };
        Cell::styled(style, &count.to_string())
    };
    let text = Text::facts::<Cell>([
        ("version", status.version.as_str().into()),
        ("up", format!("{}, since {}", span(status.uptime_s), status.started_at).into()),
        ("edges", status.edges.total().to_string().into()),
        ("online", counted(Style::Good, online + tunnel_open)),
        ("tunnel open", counted(Style::Good, tunnel_open)),
        ("offline", counted(Style::Bad, offline)),
        ("never joined", counted(Style::Faint, never_joined)),
    ]);
    match &status.gateway {
        Some(gateway) => text.then(whole(gateway)).then(parts(gateway)),
        // Whoever is bound to some tags sees their edges only.
        None => text,
    }
}

fn whole(gateway: &GatewayStatus) -> Text {
    let of = |used: Option<u64>, all: Option<u64>, shown: fn(u64) -> String, between: &str| match (used, all)
    {
        (Some(used), Some(all)) => format!("{} {between} {}", shown(used), shown(all)),
        (Some(used), None) => shown(used),
        (None, _) => String::new(),
    };
    let number = |count: u64| count.to_string();
    Text::facts([
        ("agents", gateway.agents.to_string()),
        ("check-ins", format!("{:.1} a second", gateway.check_ins_per_s)),
        ("tunnels wanted", gateway.tunnels_wanted.to_string()),
        ("streams", gateway.streams.to_string()),
        (
            "bytes",
            format!(
                "{} a second from edges, {} to edges",
                bytes(gateway.from_edges_per_s),
                bytes(gateway.to_edges_per_s)
            ),
        ),
        ("connections", gateway.connections.to_string()),
        ("watchers", gateway.watchers.to_string()),
        ("memory", gateway.memory_bytes.map_or_else(String::new, bytes)),
        ("open files", of(gateway.open_files, gateway.max_open_files, number, "of")),
        ("disk free", of(gateway.disk_free_bytes, gateway.disk_total_bytes, bytes, "of")),
    ])
}

fn parts(gateway: &GatewayStatus) -> Text {
    let rows = gateway.parts.iter().map(|(name, part)| {
        let state = match (part.status, &part.reason) {
            (HealthStatus::Ok, _) => Cell::styled(Style::Good, "ok"),
            (HealthStatus::Unavailable, Some(reason)) => Cell::styled(Style::Bad, reason),
            (HealthStatus::Unavailable, None) => Cell::styled(Style::Bad, "unavailable"),
        };
        [name.as_str().into(), state]
    });
    Text::table(["PART", "STATE"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_sees_some_edges_only_is_shown_those() {
        let edges = EdgeCounts { never_joined: 1, offline: 2, online: 3, tunnel_open: 4 };
        let status = Status {
            version: "0.1.0".into(),
            started_at: "2026-11-09T08:00:00Z".into(),
            uptime_s: 3_660,
            edges,
            gateway: None,
        };
        let text = shown(&status).render(false);
        for part in ["1 h 1 min", "edges:        10", "online:       7", "offline:      2"] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(!text.contains("PART"), "{text}");
    }
}
