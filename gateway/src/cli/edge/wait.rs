//! Waiting for an edge: `edge open --wait`, `edge create --wait`, and what is said meanwhile.
//!
//! Times of an edge are the gateway's, so they are compared with the time of its answers and never with this machine's.

use std::time::{Duration, SystemTime};

use clap::Args;
use http::Method;
use shared::id::EdgeName;
use shared::wire::admin::{Edge, EdgeStatus, Tunnel, TunnelState};
use shared::wire::parse_rfc3339;
use tokio::time::{Instant, sleep};

use super::super::access::How;
use super::super::client::{Client, Dated, NOTHING};
use super::super::exit::CliError;
use super::super::output::print;
use super::super::progress::{Progress, TICK};
use super::super::units::seconds;
use super::{path, tunnel_shown};

/// How often the flag is raised again while somebody waits. The gateway leaves it up for 70 s at least.
const RAISE_EVERY: Duration = Duration::from_secs(30);
/// Two intervals and this: as long as the gateway lets a request wait for a tunnel.
const PATIENCE: Duration = Duration::from_secs(10);

/// `tidegate edge open`.
#[derive(Args, Debug)]
pub(super) struct Open {
    /// Name of the edge
    name: EdgeName,
    /// Wait until the tunnel is open; exits with 5 if it does not open in time
    #[arg(long)]
    wait: bool,
    /// How long to wait at most: a number and s, m, h or d [default: two check-in intervals and 10s]
    #[arg(long, value_name = "TIME", value_parser = seconds, requires = "wait")]
    timeout: Option<u32>,
    #[command(flatten)]
    how: How,
}

impl Open {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), CliError> {
        let client = self.how.access.client()?;
        let mut tunnel = raise(&client, &self.name).await?;
        if self.wait {
            let patience = self.timeout.map(|s| Duration::from_secs(s.into()));
            tunnel = until_open(&client, &self.name, patience).await?;
        }
        print(self.how.output, &tunnel, tunnel_shown)
    }
}

async fn raise(client: &Client, name: &EdgeName) -> Result<Tunnel, CliError> {
    client.call(Method::POST, &format!("{}/tunnel", path(name)), NOTHING).await
}

async fn until_open(
    client: &Client,
    name: &EdgeName,
    patience: Option<Duration>,
) -> Result<Tunnel, CliError> {
    let (started, mut raised) = (Instant::now(), Instant::now());
    let mut progress = Progress::new();
    loop {
        let edge: Dated<Edge> = client.look(&path(name)).await?;
        match edge.value.tunnel.state {
            TunnelState::Open => return Ok(edge.value.tunnel),
            TunnelState::Idle => {
                return Err(CliError::Failed(format!("somebody lowered the flag of {name} meanwhile")));
            }
            TunnelState::Wanted | TunnelState::Offered => {}
        }
        let interval = Duration::from_secs(edge.value.interval_s.into());
        if started.elapsed() >= patience.unwrap_or(2 * interval + PATIENCE) {
            let waited = started.elapsed().as_secs();
            let why = stuck(&edge.value);
            return Err(CliError::Unreachable(format!("{name} opened no tunnel within {waited} s: {why}")));
        }
        progress.show(&connecting(&edge));
        sleep(TICK).await;
        if raised.elapsed() >= RAISE_EVERY {
            raise(client, name).await?;
            raised = Instant::now();
        }
    }
}

/// Waits until an agent of the edge checks in.
pub(super) async fn until_joined(
    client: &Client,
    name: &EdgeName,
    patience: Option<Duration>,
) -> Result<Edge, CliError> {
    let started = Instant::now();
    let mut progress = Progress::new();
    loop {
        let edge: Edge = client.call(Method::GET, &path(name), NOTHING).await?;
        match edge.status {
            EdgeStatus::Online | EdgeStatus::TunnelOpen => return Ok(edge),
            EdgeStatus::NeverJoined | EdgeStatus::Offline => {}
        }
        let waited = started.elapsed();
        if patience.is_some_and(|patience| waited >= patience) {
            return Err(CliError::Unreachable(format!(
                "no agent joined {name} within {} s",
                waited.as_secs()
            )));
        }
        progress.show(&format!("waiting for the agent of {name} to join, {} s", waited.as_secs()));
        sleep(TICK).await;
    }
}

/// Does `work`, which has the gateway wait for the edge's tunnel, and says meanwhile how far that is.
pub async fn narrated<T>(client: &Client, name: &EdgeName, work: impl Future<Output = T>) -> T {
    let narration = async {
        let mut progress = Progress::new();
        // The first look a little later: most tunnels are open, and then there is nothing to say.
        while progress.is_seen() {
            sleep(TICK).await;
            match client.look::<Edge>(&path(name)).await {
                Ok(edge) if edge.value.tunnel.state == TunnelState::Open => progress.clear(),
                Ok(edge) => progress.show(&connecting(&edge)),
                // What is wrong shows at the work itself.
                Err(_) => progress.clear(),
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        done = work => done,
        never = narration => never,
    }
}

/// How far the tunnel of an edge is that somebody waits for.
fn connecting(edge: &Dated<Edge>) -> String {
    let (at, edge) = (edge.at, &edge.value);
    let name = &edge.name;
    let step = match (edge.tunnel.state, edge.status) {
        (TunnelState::Offered, _) => format!("connecting, the agent of {name} is opening the tunnel"),
        (_, EdgeStatus::NeverJoined) => format!("waiting for the first agent of {name}"),
        (_, EdgeStatus::Offline) => {
            let since = edge.last_seen.as_deref().unwrap_or("it was last restarted");
            format!("{name} is offline since {since}, waiting for it")
        }
        (_, EdgeStatus::Online | EdgeStatus::TunnelOpen) => match next_check_in(edge, at) {
            Some(left) if left >= Duration::from_secs(1) => {
                format!("connecting, next check-in in {} s", left.as_secs())
            }
            Some(_) | None => "connecting, next check-in is due".to_owned(),
        },
    };
    match &edge.tunnel.reason {
        Some(reason) => format!("{step} (last time: {reason})"),
        None => step,
    }
}

/// Time until the next check-in of the instance that is due first; `None` where that is over.
fn next_check_in(edge: &Edge, at: SystemTime) -> Option<Duration> {
    let interval = Duration::from_secs(edge.interval_s.into());
    let seen = edge.instances.iter().filter_map(|instance| parse_rfc3339(&instance.last_seen));
    seen.filter_map(|seen| (seen + interval).duration_since(at).ok()).min()
}

/// Why a tunnel did not open in time.
fn stuck(edge: &Edge) -> String {
    let last =
        edge.tunnel.reason.as_ref().map_or_else(String::new, |reason| format!("; last time: {reason}"));
    let now = match (edge.status, &edge.last_seen) {
        (EdgeStatus::NeverJoined, _) => "no agent has ever joined".to_owned(),
        (EdgeStatus::Offline, Some(seen)) => format!("its agent was last seen at {seen}"),
        (EdgeStatus::Offline, None) => "its agent does not check in".to_owned(),
        (EdgeStatus::Online | EdgeStatus::TunnelOpen, _) => {
            "its agent checks in; its log says more".to_owned()
        }
    };
    format!("{now}{last}")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use shared::id::{EndpointId, InstanceId};
    use shared::wire::admin::Instance;
    use shared::wire::rfc3339;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_000_000);

    fn edge(status: EdgeStatus, state: TunnelState, seen_ago: u64) -> Dated<Edge> {
        let seen = rfc3339(UNIX_EPOCH + NOW - Duration::from_secs(seen_ago));
        let instance = Instance {
            instance: InstanceId::random(),
            hostname: "till".into(),
            agent: "0.1.0".into(),
            address: "192.0.2.7".into(),
            last_seen: seen.clone(),
            services: vec![],
        };
        let value = serde_json::json!({
            "name": "shop", "endpoint_id": EndpointId::random(), "cluster": false, "tags": [], "interval_s": 5,
            "idle_timeout_s": 300, "created_at": seen, "bound": true, "status": status, "last_seen": seen,
            "instances": [instance], "tunnel": { "state": state, "since": seen, "holds": 0 },
        });
        Dated { value: serde_json::from_value(value).expect("an edge"), at: UNIX_EPOCH + NOW, version: None }
    }

    #[test]
    fn the_next_check_in_is_counted_by_the_gateways_clock() {
        let said = |ago| connecting(&edge(EdgeStatus::Online, TunnelState::Wanted, ago));
        assert_eq!(said(2), "connecting, next check-in in 3 s");
        assert_eq!(said(5), "connecting, next check-in is due");
        assert_eq!(said(9), "connecting, next check-in is due");
    }

    #[test]
    fn what_is_waited_for_is_said_with_what_went_wrong_before() {
        let offered = connecting(&edge(EdgeStatus::Online, TunnelState::Offered, 1));
        assert!(offered.contains("opening the tunnel"), "{offered}");
        let mut offline = edge(EdgeStatus::Offline, TunnelState::Wanted, 600);
        offline.value.tunnel.reason = Some("its host key is not pinned".into());
        let said = connecting(&offline);
        assert!(said.contains("offline since") && said.contains("not pinned"), "{said}");
        let why = stuck(&offline.value);
        assert!(why.contains("last seen at") && why.contains("not pinned"), "{why}");
    }
}
