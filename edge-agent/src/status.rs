//! How the agent of this machine is: what `tidegate-agent status` shows and `ready` judges.
//!
//! The agent notes it on a [`Board`] as it happens, in memory, and whoever has the data folder may ask for it over a
//! socket in there ([`socket`]). It is no file that is written with every check-in: many agents live on flash cards,
//! which that would wear out.

pub mod socket;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use shared::id::InstanceId;
use shared::terminal::{Cell, Style, Text};
use shared::wire::check_in::{Service, TunnelState};
use shared::wire::rfc3339;

use crate::lifecycle::{Holding, Notice, Outcome};

/// An agent whose last answer is not older than three intervals and this is ready: a lost check-in or two, with their
/// own time limits, are nothing to restart a container for. Those that are held take up to a minute each.
const READY_GRACE: Duration = Duration::from_secs(150);
/// Interval until the gateway says another.
const FIRST_INTERVAL: Duration = Duration::from_secs(5);

/// How the agent is, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Which installation it is.
    pub instance: InstanceId,
    /// Since when it runs.
    pub started_at: String,
    /// The gateway that it joined; absent while it waits for a join token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Whether the gateway answered lately.
    pub ready: bool,
    /// Seconds since its last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_s_ago: Option<u64>,
    /// The last check-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_in: Option<CheckIn>,
    /// Seconds between check-ins, unless the gateway holds them.
    pub interval_s: u64,
    /// The gateway holds check-ins for up to so many seconds, so it reaches this agent at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_s: Option<u64>,
    /// Something on the way cuts off check-ins that are held for longer than so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_after_s: Option<u64>,
    /// The tunnel.
    pub tunnel: Tunnel,
    /// What it exposes.
    pub services: Vec<Service>,
}

/// A check-in that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckIn {
    /// When.
    pub at: String,
    /// What came of it.
    pub result: Answer,
    /// Why it went wrong, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What came of a check-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The gateway answered.
    Answered,
    /// It refuses this agent until somebody does something.
    Refused,
    /// It was not reached, or can't answer now.
    Unreachable,
}

/// The agent's end of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Where in its life it is.
    pub state: TunnelState,
    /// Since when.
    pub since: String,
    /// Why the last one failed or was lost, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where the agent notes how it is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Board(Arc<Mutex<Noted>>);

/// Behind a mutex that is held for a few assignments.
#[derive(Debug)]
struct Noted {
    instance: InstanceId,
    started: SystemTime,
    services: Vec<Service>,
    gateway: Option<String>,
    interval: Duration,
    answered: Option<Instant>,
    check_in: Option<CheckIn>,
    holding: Holding,
    tunnel: Tunnel,
}

impl Board {
    /// An agent that has just started.
    pub fn new(instance: InstanceId, services: Vec<Service>, now: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(Noted {
            instance,
            started: now,
            services,
            gateway: None,
            interval: FIRST_INTERVAL,
            answered: None,
            check_in: None,
            holding: Holding::default(),
            tunnel: Tunnel { state: TunnelState::Closed, since: rfc3339(now), reason: None },
        })))
    }

    /// It has a join token.
    pub fn joined(&self, gateway: &str) {
        self.note(|noted| noted.gateway = Some(gateway.to_owned()));
    }

    /// A check-in is done.
    pub fn checked_in(&self, outcome: &Outcome, now: Instant, wall: SystemTime) {
        let (result, reason) = match outcome {
            Outcome::Answered { .. } => (Answer::Answered, None),
            Outcome::Refused(refusal) => (Answer::Refused, Some(refusal.detail.clone())),
            Outcome::Trouble { reason, .. } => (Answer::Unreachable, Some(reason.clone())),
            // The next one will tell.
            Outcome::Cut { .. } => return,
        };
        self.note(|noted| {
            if let Outcome::Answered { interval, .. } = outcome {
                noted.answered = Some(now);
                noted.interval = interval.unwrap_or(noted.interval);
            }
            noted.check_in = Some(CheckIn { at: rfc3339(wall), result, reason });
        });
    }

    /// The gateway holds check-ins so.
    pub fn holding(&self, holding: Holding) {
        self.note(|noted| noted.holding = holding);
    }

    /// The tunnel is in this state now.
    pub fn tunnel(&self, state: TunnelState, wall: SystemTime) {
        self.note(|noted| {
            if noted.tunnel.state != state {
                noted.tunnel.state = state;
                noted.tunnel.since = rfc3339(wall);
            }
        });
    }

    /// What the log is told of the tunnel is of interest here too.
    pub fn told(&self, notice: &Notice) {
        match notice {
            Notice::TunnelOpened => self.note(|noted| noted.tunnel.reason = None),
            Notice::TunnelFailed { reason, .. }
            | Notice::TunnelLost { reason }
            | Notice::TunnelDismissed { reason } => {
                self.note(|noted| noted.tunnel.reason = Some(reason.clone()));
            }
            Notice::Refused(_)
            | Notice::Trouble { .. }
            | Notice::Reached
            | Notice::Cut { .. }
            | Notice::WayLimited(_)
            | Notice::WayFree
            | Notice::Idle
            | Notice::SnapshotStored
            | Notice::SnapshotDelayed { .. }
            | Notice::SnapshotGivenUp { .. }
            | Notice::SnapshotLate
            | Notice::CloseRefused
            | Notice::TunnelClosed
            | Notice::OfferIgnored => {}
        }
    }

    /// All of it, as of now.
    pub fn status(&self, now: Instant) -> Status {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = noted.answered.map(|at| now.saturating_duration_since(at));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            instance: noted.instance,
            started_at: rfc3339(noted.started),
            gateway: noted.gateway.clone(),
            ready: age.is_some_and(|age| age <= 3 * noted.interval + READY_GRACE),
            answered_s_ago: age.map(|age| age.as_secs()),
            check_in: noted.check_in.clone(),
            interval_s: noted.interval.as_secs(),
            held_s: noted.holding.held.map(|held| held.as_secs()),
            cut_after_s: noted.holding.cut.map(|cut| cut.as_secs()),
            tunnel: noted.tunnel.clone(),
            services: noted.services.clone(),
        }
    }

    fn note(&self, change: impl FnOnce(&mut Noted)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Status {
    /// As people read it.
    pub fn text(&self) -> Text {
        let check_in = match &self.check_in {
            None => Cell::styled(Style::Faint, "none yet"),
            Some(CheckIn { at, result, reason }) => {
                let (style, word) = match result {
                    Answer::Answered => (Style::Good, "answered"),
                    Answer::Refused => (Style::Bad, "refused"),
                    Answer::Unreachable => (Style::Bad, "not answered"),
                };
                let reason = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
                Cell::styled(style, &format!("{word} at {at}{reason}"))
            }
        };
        let state = match self.tunnel.state {
            TunnelState::Closed => "closed",
            TunnelState::Connecting => "connecting",
            TunnelState::Open => "open",
            TunnelState::Closing => "closing",
        };
        let held = self
            .held_s
            .map(|held| format!("by the gateway, for up to {held} s: it reaches this agent at once"));
        let cut = self.cut_after_s.map(|cut| {
            format!("something between agent and gateway cuts off what it holds for longer than {cut} s")
        });
        let held = match (held, cut) {
            (Some(held), Some(cut)) => format!("{held}; {cut}"),
            (Some(known), None) | (None, Some(known)) => known,
            (None, None) => "no".to_owned(),
        };
        let reason = self.tunnel.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
        let facts = Text::facts::<Cell>([
            ("agent", format!("{}, process {}, since {}", self.version, self.pid, self.started_at).into()),
            ("instance", self.instance.to_string().into()),
            ("gateway", self.gateway.as_deref().unwrap_or("none yet: it waits for a join token").into()),
            (
                "ready",
                if self.ready { Cell::styled(Style::Good, "yes") } else { Cell::styled(Style::Bad, "no") },
            ),
            ("check-in", check_in),
            ("interval", format!("{} s", self.interval_s).into()),
            ("held", held.into()),
            ("tunnel", format!("{state} since {}{reason}", self.tunnel.since).into()),
        ]);
        if self.services.is_empty() {
            return facts;
        }
        let rows = self.services.iter().map(|service| [service.name.as_str(), service.target.as_str()]);
        facts.then(Text::table(["SERVICE", "TARGET"], rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{Refusal, RefusalKind};

    fn board() -> (Board, Instant) {
        (Board::new(InstanceId::random(), vec![], SystemTime::now()), Instant::now())
    }

    fn answered(seconds: u64) -> Outcome {
        Outcome::Answered {
            interval: Some(Duration::from_secs(seconds)),
            offer: None,
            holds: false,
            rerouted: false,
        }
    }

    #[test]
    fn an_agent_is_ready_while_its_last_answer_is_young() {
        let (board, start) = board();
        assert!(!board.status(start).ready, "it has not checked in yet");
        board.checked_in(&answered(10), start, SystemTime::now());
        let age = |seconds| board.status(start + Duration::from_secs(seconds));
        assert!(age(0).ready && age(180).ready && !age(181).ready);
        assert_eq!((age(7).answered_s_ago, age(7).interval_s), (Some(7), 10));
    }

    #[test]
    fn how_check_ins_are_held_is_shown_and_one_that_is_cut_off_is_no_trouble() {
        let (board, start) = board();
        assert!(board.status(start).text().render(false).contains("held"));
        board.checked_in(&answered(5), start, SystemTime::now());
        board.checked_in(
            &Outcome::Cut { reason: "reset".into(), after: Duration::from_secs(30) },
            start + Duration::from_secs(30),
            SystemTime::now(),
        );
        let limited = Holding { held: Some(Duration::from_secs(22)), cut: Some(Duration::from_secs(30)) };
        board.holding(limited);
        let status = board.status(start + Duration::from_secs(31));
        assert_eq!(status.check_in.as_ref().map(|last| last.result), Some(Answer::Answered));
        assert_eq!((status.held_s, status.cut_after_s), (Some(22), Some(30)));
        let shown = status.text().render(false);
        assert!(shown.contains("up to 22 s") && shown.contains("longer than 30 s"), "{shown}");
    }

    #[test]
    fn trouble_of_a_moment_leaves_it_ready_and_is_shown() {
        let (board, start) = board();
        board.checked_in(&answered(5), start, SystemTime::now());
        let trouble = Outcome::Trouble { reason: "no route".into(), retry_after: None, reached: false };
        board.checked_in(&trouble, start + Duration::from_secs(5), SystemTime::now());
        let status = board.status(start + Duration::from_secs(6));
        assert!(status.ready);
        assert!(status.text().render(false).contains("no route"));
        assert!(!board.status(start + Duration::from_secs(600)).ready);
    }

    #[test]
    fn an_agent_that_was_only_ever_refused_is_not_ready() {
        let (board, start) = board();
        let refusal = Refusal { kind: RefusalKind::UnknownKey, detail: "no edge has this key".into() };
        board.checked_in(&Outcome::Refused(refusal), start, SystemTime::now());
        let status = board.status(start);
        assert!(!status.ready && status.text().render(false).contains("no edge has this key"));
    }

    #[test]
    fn the_tunnel_is_shown_with_why_the_last_one_failed_until_one_opens() {
        let (board, start) = board();
        board.told(&Notice::TunnelFailed { reason: "wrong host key".into(), changed: true });
        assert_eq!(board.status(start).tunnel.reason.as_deref(), Some("wrong host key"));
        board.tunnel(TunnelState::Open, SystemTime::now());
        board.told(&Notice::TunnelOpened);
        let tunnel = board.status(start).tunnel;
        assert_eq!((tunnel.state, tunnel.reason), (TunnelState::Open, None));
    }
}
