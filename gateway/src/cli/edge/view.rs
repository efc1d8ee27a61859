//! Edges as people read them. Programs take `-o json`, which has all of it.

use shared::terminal::{Cell, Style, Text};
use shared::wire::admin::{Edge, EdgeCreated, EdgeStatus, Tunnel, TunnelState};

/// What an agent needs to become this edge.
pub(super) fn enrolment(created: &EdgeCreated) -> Text {
    let mut text = Text::facts([
        ("name", created.name.to_string()),
        ("endpoint id", created.endpoint_id.to_string()),
        ("edge id", created.edge_id.clone()),
        ("join token", created.join_token.clone()),
    ]);
    let commands = &created.commands;
    text = text.then(Text::lines(
        "The join token is shown this once and is a secret. Start the agent in one of these ways:\n",
    ));
    for (way, command) in [
        ("container", &commands.container),
        ("binary", &commands.binary),
        ("compose", &commands.compose),
        ("systemd", &commands.systemd),
    ] {
        let heading = Text::line(Style::Heading, &format!("--- {way} ---"));
        text = text.then(heading).and(Text::lines(&format!("{}\n", command.trim_end())));
    }
    text
}

/// One line for each edge.
pub(super) fn listed(edges: &[Edge]) -> Text {
    let rows = edges.iter().map(|edge| {
        let services: Vec<_> = services(edge).map(|service| service.0).collect();
        [
            edge.name.as_str().into(),
            status(edge.status),
            edge.last_seen.as_deref().unwrap_or("never").into(),
            services.join(",").into(),
            edge.tags.join(",").into(),
        ]
    });
    Text::table(["NAME", "STATUS", "LAST SEEN", "SERVICES", "TAGS"], rows)
}

/// Name and target of what the edge's instances expose, each name once.
fn services(edge: &Edge) -> impl Iterator<Item = (String, String)> + use<> {
    let all = edge.instances.iter().flat_map(|instance| &instance.services);
    let mut services: Vec<_> =
        all.map(|service| (service.name.to_string(), service.target.clone())).collect();
    let stock = edge.stock_client.iter().flat_map(|client| &client.services);
    services.extend(stock.map(|name| (name.to_string(), "behind a stock SSH client".to_owned())));
    services.sort();
    services.dedup_by(|one, other| one.0 == other.0);
    services.into_iter()
}

/// All of one edge.
pub(super) fn shown(edge: &Edge) -> Text {
    let duplicate = edge.duplicate.as_ref().map(|duplicate| {
        let refused = duplicate.refused.as_deref().unwrap_or("an unnamed host");
        format!(
            "an agent on {refused} was refused at {}, since one runs on {}",
            duplicate.at, duplicate.present
        )
    });
    let stranger = edge.stranger.as_ref().map(|stranger| {
        let host = stranger.hostname.as_deref().unwrap_or("an unnamed host");
        format!(
            "an agent on {host} ({}) was refused at {}: the edge is bound to another edge ID; to let it in: tidegate edge \
             dissociate {}",
            stranger.address, stranger.at, edge.name
        )
    });
    let mut text = Text::facts::<Cell>([
        ("name", edge.name.as_str().into()),
        ("endpoint id", edge.endpoint_id.to_string().into()),
        ("status", status(edge.status)),
        ("last seen", edge.last_seen.as_deref().unwrap_or("never").into()),
        ("tunnel", tunnel_line(&edge.tunnel).into()),
        ("client", edge.stock_client.as_ref().map_or("", |_| "a stock SSH client, without snapshots").into()),
        ("duplicate", Cell::styled(Style::Warning, &duplicate.unwrap_or_default())),
        ("stranger", Cell::styled(Style::Warning, &stranger.unwrap_or_default())),
        ("bound", if edge.bound { "yes" } else { "no" }.into()),
        ("cluster", if edge.cluster { "yes" } else { "no" }.into()),
        ("interval", format!("{} s", edge.interval_s).into()),
        ("idle timeout", format!("{} s", edge.idle_timeout_s).into()),
        ("tags", edge.tags.join(", ").into()),
        ("created", edge.created_at.as_str().into()),
    ]);
    if !edge.offers.is_empty() {
        let rows = edge.offers.iter().map(|offer| {
            let what = offer.fingerprint.map_or_else(|| "password, once".to_owned(), |key| key.to_string());
            let names: Vec<_> = offer.services.iter().map(|name| name.as_str()).collect();
            [what, offer.expires_at.clone(), names.join(",")]
        });
        text = text.then(Text::table(["OFFER", "UNTIL", "SERVICES"], rows));
    }
    if !edge.instances.is_empty() {
        let rows = edge.instances.iter().map(|instance| {
            let (id, host) = (instance.instance.to_string(), instance.hostname.clone());
            [id, host, instance.agent.clone(), instance.address.clone(), instance.last_seen.clone()]
        });
        text = text.then(Text::table(["INSTANCE", "HOST", "AGENT", "ADDRESS", "LAST SEEN"], rows));
    }
    let services: Vec<_> = services(edge).map(|(name, target)| [name, target]).collect();
    if !services.is_empty() {
        text = text.then(Text::table(["SERVICE", "TARGET"], services));
    }
    text
}

/// Where in its life a tunnel is.
pub(super) fn tunnel_line(tunnel: &Tunnel) -> String {
    let state = match tunnel.state {
        TunnelState::Idle => "idle",
        TunnelState::Wanted => "wanted",
        TunnelState::Offered => "offered",
        TunnelState::Open => "open",
    };
    let holds = match tunnel.holds {
        0 => String::new(),
        1 => ", held by 1".to_owned(),
        holds => format!(", held by {holds}"),
    };
    let reason = tunnel.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    format!("{state} since {}{holds}{reason}", tunnel.since)
}

fn status(status: EdgeStatus) -> Cell {
    let style = match status {
        EdgeStatus::NeverJoined => Style::Faint,
        EdgeStatus::Offline => Style::Bad,
        EdgeStatus::Online | EdgeStatus::TunnelOpen => Style::Good,
    };
    Cell::styled(style, status.word())
}
