//! `tidegate events`: what happens to edges, while it happens.
//!
//! The rule: nothing is missed without a word. Where the connection ends (the gateway ends each after some minutes, and
//! restarts some day), it is made anew behind the last event that was seen; and where the gateway does not remember that
//! far back, it says so.

mod stream;

use std::time::Duration;

use clap::{Args, ValueEnum};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use shared::id::EdgeName;
use shared::terminal::{Style, Text, json_line};
use shared::wire::admin::{EdgeEvent, Event, RESYNC};
use tokio::time::{Instant, sleep, timeout};

use super::access::How;
use super::exit::{CliError, complain};
use super::output::{Format, print_own, print_text};
use stream::{Message, Parser};

const PATH: &str = "/api/v1/events";
/// The gateway says something every 15 s, be it a comment: a connection that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(45);
/// Pause before the next try to reach a gateway that is away: doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// `tidegate events`.
#[derive(Args, Debug)]
pub struct EventsArgs {
    #[command(flatten)]
    end: End,
    /// Only those of this edge, under whatever name it has later
    #[arg(long, value_name = "NAME")]
    edge: Option<EdgeName>,
    #[command(flatten)]
    how: How,
}

#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
struct End {
    /// Go on until interrupted
    #[arg(short, long)]
    follow: bool,
    /// End with the first event of this kind, such as online or tunnel-closed
    #[arg(long, value_enum, value_name = "EVENT")]
    until: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Created,
    Changed,
    Deleted,
    Joined,
    Dissociated,
    Online,
    Offline,
    Duplicate,
    TunnelWanted,
    TunnelOffered,
    TunnelOpened,
    TunnelClosed,
    TunnelUnwanted,
    SnapshotReceived,
}

/// From where the next connection goes on.
struct Seen {
    /// The edge that was asked for, by the name that it has now.
    edge: Option<EdgeName>,
    /// The last event.
    last: Option<String>,
}

impl Seen {
    /// Keeps up with the edge's name.
    fn follow(&mut self, event: &Event) {
        if let Some(name) = &mut self.edge {
            name.clone_from(&event.edge);
        }
    }

    fn path(&self) -> String {
        let edge = self.edge.as_ref().map(|edge| format!("edge={edge}"));
        let after = self.last.as_ref().map(|id| format!("after={id}"));
        let query: Vec<_> = edge.into_iter().chain(after).collect();
        if query.is_empty() { PATH.to_owned() } else { format!("{PATH}?{}", query.join("&")) }
    }
}

/// How one connection ended.
enum Ended {
    /// With the event that was waited for.
    AsWanted,
    /// By itself; there is more to come.
    Broken,
}

impl EventsArgs {
    /// Prints events as they come.
    pub async fn run(self) -> Result<(), CliError> {
        let client = self.how.access.client()?;
        let mut seen = Seen { edge: self.edge.clone(), last: None };
        let mut pause = FIRST_PAUSE;
        loop {
            match client.download(&seen.path()).await {
                Ok(body) => {
                    let began = Instant::now();
                    match self.read(body, &mut seen).await? {
                        Ended::AsWanted => return Ok(()),
                        // At once: after minutes this is its usual end.
                        Ended::Broken if began.elapsed() > LAST_PAUSE => {
                            pause = FIRST_PAUSE;
                            continue;
                        }
                        Ended::Broken => {}
                    }
                }
                // The first time it is a wrong address; later it is a restart.
                Err(error @ CliError::Unreachable(_)) if seen.last.is_some() => complain(&error),
                Err(CliError::Problem(problem)) if problem.status == 503 => complain(&problem.detail),
                Err(error) => return Err(error),
            }
            sleep(pause).await;
            pause = (2 * pause).min(LAST_PAUSE);
        }
    }

    async fn read(&self, mut body: Incoming, seen: &mut Seen) -> Result<Ended, CliError> {
        let mut parser = Parser::default();
        while let Ok(Some(Ok(frame))) = timeout(SILENCE, body.frame()).await {
            let Some(bytes) = frame.data_ref() else { continue };
            for message in parser.push(bytes) {
                if self.take(&message, seen)? {
                    return Ok(Ended::AsWanted);
                }
                seen.last = message.id.or(seen.last.take());
            }
        }
        Ok(Ended::Broken)
    }

    /// Prints the event; `true` if it is the one that was waited for.
    fn take(&self, message: &Message, seen: &mut Seen) -> Result<bool, CliError> {
        if message.event == RESYNC {
            // What happened before the first connection was not asked for.
            if seen.last.is_some() {
                complain(&"some events were missed: the gateway does not remember that far back");
            }
            return Ok(false);
        }
        let event: Event = serde_json::from_str(&message.data).map_err(|error| {
            CliError::failed("an event makes no sense; is the gateway of another version?", error)
        })?;
        seen.follow(&event);
        match self.how.output {
            Format::Table => print_text(&line(&event))?,
            // As it came, so that what this program does not know is not lost.
            Format::Json => {
                let value: serde_json::Value = serde_json::from_str(&message.data)
                    .map_err(|error| CliError::failed("can't read JSON", error))?;
                print_own(&json_line(&value).map_err(|error| CliError::failed("can't write JSON", error))?)?;
            }
        }
        let wanted = self.end.until.and_then(|kind| kind.to_possible_value());
        Ok(wanted.is_some_and(|wanted| wanted.get_name() == event.what.kind()))
    }
}

fn line(event: &Event) -> Text {
    let (style, detail) = describe(&event.what);
    let head = format!("{}  {}  ", event.at, event.edge);
    Text::words(&[(Style::Plain, &head), (style, event.what.kind()), (Style::Plain, &detail)])
}

/// How it looks, and what else is known, with two spaces in front.
fn describe(what: &EdgeEvent) -> (Style, String) {
    let detail = |text: &str| if text.is_empty() { String::new() } else { format!("  {text}") };
    match what {
        EdgeEvent::Created | EdgeEvent::Deleted | EdgeEvent::Dissociated => (Style::Warning, String::new()),
        EdgeEvent::Changed { name_before } => (Style::Plain, detail(&format!("name before: {name_before}"))),
        EdgeEvent::Joined => (Style::Good, String::new()),
        EdgeEvent::Online { hostname, .. } => (Style::Good, detail(hostname.as_deref().unwrap_or_default())),
        EdgeEvent::Offline { last_seen } => {
            let seen = last_seen.as_ref().map_or_else(String::new, |seen| format!("last seen {seen}"));
            (Style::Bad, detail(&seen))
        }
        EdgeEvent::Duplicate { present, refused } => {
            let refused = refused.as_deref().unwrap_or("an unnamed host");
            (Style::Bad, detail(&format!("{refused} was refused, since one runs on {present}")))
        }
        EdgeEvent::TunnelWanted | EdgeEvent::TunnelOffered { .. } | EdgeEvent::SnapshotReceived { .. } => {
            (Style::Faint, String::new())
        }
        EdgeEvent::TunnelOpened { .. } => (Style::Good, String::new()),
        EdgeEvent::TunnelClosed { reason, open_s, .. } => {
            (Style::Plain, detail(&format!("{reason}, after {open_s} s")))
        }
        EdgeEvent::TunnelUnwanted { reason } => {
            (Style::Warning, detail(reason.as_deref().unwrap_or_default()))
        }
        EdgeEvent::Other => (Style::Faint, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_the_command_line_are_those_of_the_wire() {
        for kind in Kind::value_variants() {
            let name = kind.to_possible_value().expect("none is hidden").get_name().to_owned();
            let fields = serde_json::json!({
                "event": name, "name_before": "a", "present": "a", "cause": "idle", "reason": "", "open_s": 1,
                "instance": uuid::Uuid::nil(),
            });
            let event: EdgeEvent =
                serde_json::from_value(fields).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(event.kind(), name);
        }
    }

    #[test]
    fn an_edge_that_is_renamed_is_asked_for_by_its_new_name() {
        let mut seen = Seen { edge: Some("shop".parse().expect("a label")), last: None };
        assert_eq!(seen.path(), "/api/v1/events?edge=shop");
        let renamed = Event {
            at: "2026-11-09T08:00:00Z".into(),
            edge: "mall".parse().expect("a label"),
            endpoint_id: shared::id::EndpointId::random(),
            what: EdgeEvent::Changed { name_before: "shop".parse().expect("a label") },
        };
        seen.follow(&renamed);
        seen.last = Some("7-1".into());
        assert_eq!(seen.path(), "/api/v1/events?edge=mall&after=7-1");
        let mut every = Seen { edge: None, last: None };
        every.follow(&renamed);
        assert_eq!(every.path(), "/api/v1/events");
    }

    #[test]
    fn what_hosts_are_called_is_no_command_of_the_terminal() {
        let what = EdgeEvent::Online {
            instance: shared::id::InstanceId::random(),
            hostname: Some("till\u{1b}[2J".to_owned()),
        };
        let event = Event {
            at: "2026-11-09T08:00:00Z".into(),
            edge: "shop".parse().expect("a label"),
            endpoint_id: shared::id::EndpointId::random(),
            what,
        };
        assert_eq!(line(&event).render(false), "2026-11-09T08:00:00Z  shop  online  till\\u{1b}[2J\n");
    }
}
