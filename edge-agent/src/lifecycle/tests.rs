use proptest::prelude::*;
use shared::id::OfferId;

use super::check_ins::{EAGER_TIME, HURRY_TIME};
use super::*;

mod held;
mod spread;

const IDLE: Duration = Duration::from_secs(300);
const HALF: Roll = Roll(0.5);
const AGAIN: Start = Start::Again { last_offer: None };

/// A lifecycle with a clock that stands still until it is told to go on.
struct Bench {
    lifecycle: Lifecycle,
    start: Instant,
    now: Instant,
    roll: Roll,
}

impl Bench {
    /// Its gateway does not hold questions, and that is known.
    fn new(start: Start) -> Self {
        let now = Instant::now();
        let mut lifecycle = Lifecycle::new(start, now, HALF);
        lifecycle.patience.not_held(Some(Duration::from_secs(5)), false);
        Self { lifecycle, start: now, now, roll: HALF }
    }

    fn send(&mut self, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        self.lifecycle.handle(event, self.now, self.roll, &mut out);
        out
    }

    /// Goes on to the next deadline and ticks there.
    fn next(&mut self) -> Vec<Command> {
        self.now = self.lifecycle.deadline().expect("something is due").max(self.now);
        self.send(Event::Tick)
    }

    /// Time until the next deadline.
    fn wait(&self) -> Duration {
        self.lifecycle.deadline().expect("something is due").saturating_duration_since(self.now)
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn answer(&mut self, offer: Option<Offer>) -> Vec<Command> {
        self.send(answered(Some(5), offer))
    }

    fn tunnel(&mut self, attempt: Attempt, event: TunnelEvent) -> Vec<Command> {
        self.send(Event::Tunnel(attempt, event))
    }

    /// Checks in and is offered a tunnel.
    fn offered(&mut self) -> Attempt {
        assert!(is_check_in(&self.next()));
        let out = self.answer(Some(offer()));
        let [Command::OpenTunnel(attempt, _)] = out[..] else { panic!("{out:?}") };
        attempt
    }

    /// Has an open tunnel.
    fn open() -> (Self, Attempt) {
        let mut bench = Self::new(Start::Joined);
        let attempt = bench.offered();
        bench.tunnel(attempt, TunnelEvent::Opened { idle_timeout: IDLE });
        (bench, attempt)
    }

    /// Has a tunnel that is being snapshot before it closes; check-ins go on meanwhile.
    fn closing() -> (Self, Attempt) {
        let (mut bench, attempt) = Self::open();
        loop {
            let out = bench.next();
            if out.contains(&Command::TakeSnapshot) {
                return (bench, attempt);
            }
            bench.answer(None);
        }
    }
}

fn answered(interval: Option<u64>, offer: Option<Offer>) -> Event {
    let interval = interval.map(Duration::from_secs);
    Event::CheckedIn(Outcome::Answered { interval, offer, holds: false, rerouted: false })
}

fn offer() -> Offer {
    Offer {
        id: OfferId::random(),
        ssh: "gate.test:8000".into(),
        credentials: "sealed".into(),
        expires_in_s: 30,
    }
}

fn is_check_in(out: &[Command]) -> bool {
    out.iter().any(|command| matches!(command, Command::CheckIn { .. }))
}

fn trouble(retry_after: Option<u64>) -> Event {
    let retry_after = retry_after.map(Duration::from_secs);
    Event::CheckedIn(Outcome::Trouble { reason: "away".into(), retry_after, reached: false })
}

/// The gateway's machine is there, and the gateway is not.
fn gateway_away() -> Event {
    Event::CheckedIn(Outcome::Trouble { reason: "refused".into(), retry_after: None, reached: true })
}

fn refused(kind: RefusalKind) -> Event {
    Event::CheckedIn(Outcome::Refused(Refusal { kind, detail: "no".into() }))
}

/// What comes of a snapshot that is delivered.
const STORED: Command = Command::Tell(Notice::SnapshotStored);

fn stored() -> Event {
    Event::Snapshot(Sent::Stored)
}

fn not_sent() -> Event {
    Event::Snapshot(Sent::Failed { reason: "busy".into(), retry_after: None })
}

fn failed(reason: &str, lasting: bool) -> TunnelEvent {
    TunnelEvent::Failed(Failure { reason: reason.into(), lasting })
}

#[test]
fn agent_that_has_just_joined_checks_in_at_once_and_one_that_restarts_does_not() {
    assert_eq!(Bench::new(Start::Joined).wait(), Duration::ZERO);
    assert_eq!(Bench::new(AGAIN).wait(), FIRST_INTERVAL / 2);
}

#[test]
fn check_ins_come_at_the_interval_that_the_gateway_says_last() {
    let mut bench = Bench::new(Start::Joined);
    bench.next();
    bench.answer(None);
    assert_eq!(bench.wait(), Duration::from_secs(5));
    assert!(is_check_in(&bench.next()));
    bench.send(answered(Some(60), None));
    assert_eq!(bench.wait(), Duration::from_secs(60));
    bench.next();
    bench.send(answered(None, None));
    assert_eq!(bench.wait(), Duration::from_secs(60), "204 changes nothing");
}

#[test]
fn trouble_backs_off_up_to_a_minute_and_is_told_once() {
    let mut bench = Bench::new(Start::Joined);
    let mut waits = Vec::new();
    for round in 0..9 {
        bench.next();
        let out = bench.send(trouble(None));
        let told = Notice::Trouble { reason: "away".into(), first: round == 0 };
        assert_eq!(out, [Command::Tell(told)]);
        waits.push(bench.wait().as_millis());
    }
    assert_eq!(waits, [2750, 7500, 15_000, 30_000, 45_000, 45_000, 45_000, 45_000, 45_000]);
    bench.next();
    assert_eq!(bench.answer(None), [Command::Tell(Notice::Reached)]);
    assert_eq!(
        bench.wait(),
        Duration::from_millis(2500),
        "some moment of the interval, not all agents at once"
    );
    bench.next();
    assert_eq!(bench.answer(None), []);
    assert_eq!(bench.wait(), Duration::from_secs(5));
}

#[test]
fn retry_after_is_honoured_but_not_for_ever() {
    for (asked, least) in [(20, 20), (1_000_000, 300)] {
        let mut bench = Bench::new(Start::Joined);
        bench.next();
        bench.send(trouble(Some(asked)));
        let least = Duration::from_secs(least);
        assert!(bench.wait() >= least && bench.wait() <= least + least / 10, "{:?}", bench.wait());
    }
}

#[test]
fn refusal_is_told_when_it_changes_and_retried_in_minutes() {
    let mut bench = Bench::new(Start::Joined);
    for (kind, told, least) in [
        (RefusalKind::UnknownKey, true, 300),
        (RefusalKind::UnknownKey, false, 300),
        (RefusalKind::BoundToAnother, true, 300),
        (RefusalKind::SecondInstance, true, 5),
        (RefusalKind::SecondInstance, false, 5),
        (RefusalKind::Protocol, true, 300),
        (RefusalKind::TlsPin, true, 300),
    ] {
        assert!(is_check_in(&bench.next()));
        let out = bench.send(refused(kind));
        assert_eq!(!out.is_empty(), told, "{kind:?}");
        let least = Duration::from_secs(least);
        assert!(bench.wait() >= least && bench.wait() <= least + least / 10, "{kind:?} {:?}", bench.wait());
    }
    bench.next();
    assert_eq!(bench.answer(None), [Command::Tell(Notice::Reached)]);
}

#[test]
fn failed_offer_is_reported_at_once_and_the_report_survives_trouble() {
    let mut bench = Bench::new(Start::Joined);
    let attempt = bench.offered();
    bench.tunnel(attempt, failed("connection refused", false));
    assert_eq!(bench.wait(), Duration::ZERO);
    let report = |out: Vec<Command>| match &out[..] {
        [Command::CheckIn { tunnel: TunnelState::Closed, failed, .. }] => {
            failed.as_ref().map(|failed| failed.reason.clone())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(report(bench.next()).as_deref(), Some("connection refused"));
    bench.send(trouble(None));
    assert_eq!(report(bench.next()).as_deref(), Some("connection refused"), "the first report got lost");
    bench.answer(None);
    assert_eq!(report(bench.next()), None, "it arrived");
}

#[test]
fn tunnels_that_fail_again_are_reported_after_a_back_off_and_told_when_the_reason_changes() {
    let mut bench = Bench::new(Start::Joined);
    let interval = Duration::from_secs(60);
    let slow = |offer| answered(Some(interval.as_secs()), offer);
    for (reason, wait, told) in [("a", 0, true), ("a", 750, false), ("b", 1500, true), ("b", 3000, false)] {
        assert!(is_check_in(&bench.next()));
        let out = bench.send(slow(Some(offer())));
        let [Command::OpenTunnel(attempt, _)] = out[..] else { panic!("{out:?}") };
        let out = bench.tunnel(attempt, failed(reason, false));
        assert_eq!(out, [Command::Tell(Notice::TunnelFailed { reason: reason.into(), changed: told })]);
        assert_eq!(bench.wait(), Duration::from_millis(wait));
    }
}

#[test]
fn wrong_host_key_is_reported_once_and_then_retried_in_minutes() {
    let mut bench = Bench::new(Start::Joined);
    let attempt = bench.offered();
    bench.tunnel(attempt, failed("host key", true));
    assert_eq!(bench.wait(), Duration::ZERO);
    let attempt = bench.offered();
    bench.tunnel(attempt, failed("host key", true));
    assert_eq!(bench.wait(), REFUSED_RETRY);
}

#[test]
fn check_ins_go_on_while_the_tunnel_is_open() {
    let (mut bench, _) = Bench::open();
    for _ in 0..10 {
        assert_eq!(bench.wait(), Duration::from_secs(5));
        assert!(is_check_in(&bench.next()));
        bench.answer(None);
    }
}

#[test]
fn idle_tunnel_is_snapshot_asked_closed_and_followed_by_a_check_in() {
    let (mut bench, attempt) = Bench::closing();
    assert_eq!(bench.elapsed(), IDLE);
    assert_eq!(bench.lifecycle.tunnel_state(), TunnelState::Closing);
    assert_eq!(bench.send(stored()), [STORED, Command::AskToClose(attempt)]);
    assert_eq!(bench.tunnel(attempt, TunnelEvent::CloseGranted), [Command::CloseTunnel(attempt)]);
    let out = bench.tunnel(attempt, TunnelEvent::Ended { reason: "closed".into() });
    assert_eq!(out, [Command::Tell(Notice::TunnelClosed)]);
    assert_eq!(bench.lifecycle.tunnel_state(), TunnelState::Closed);
    if !matches!(bench.lifecycle.check_ins, CheckIns::Running { .. }) {
        assert_eq!(bench.wait(), Duration::ZERO);
    } else {
        bench.answer(None);
        assert_eq!(bench.wait(), Duration::ZERO);
    }
}

#[test]
fn open_stream_keeps_the_tunnel_open_for_ever_and_its_end_starts_the_idle_time_anew() {
    let (mut bench, attempt) = Bench::open();
    bench.tunnel(attempt, TunnelEvent::StreamStarted);
    for _ in 0..1000 {
        assert!(is_check_in(&bench.next()));
        bench.answer(None);
    }
    assert!(bench.elapsed() > IDLE * 10);
    bench.tunnel(attempt, TunnelEvent::StreamEnded);
    let ended = bench.now;
    while !bench.next().contains(&Command::TakeSnapshot) {
        bench.answer(None);
    }
    assert_eq!(bench.now - ended, IDLE);
}

#[test]
fn stream_that_is_told_of_before_the_welcome_counts() {
    let mut bench = Bench::new(Start::Joined);
    let attempt = bench.offered();
    bench.tunnel(attempt, TunnelEvent::StreamStarted);
    bench.tunnel(attempt, TunnelEvent::Opened { idle_timeout: IDLE });
    bench.now += IDLE * 2;
    assert!(!bench.send(Event::Tick).contains(&Command::TakeSnapshot));
    bench.tunnel(attempt, TunnelEvent::StreamEnded);
    bench.now += IDLE;
    assert!(bench.send(Event::Tick).contains(&Command::TakeSnapshot));
}

#[test]
fn hold_puts_closing_off_and_a_new_idle_time_counts_at_once() {
    let (mut bench, attempt) = Bench::open();
    bench.now += IDLE - Duration::from_secs(1);
    bench.tunnel(attempt, TunnelEvent::Held);
    bench.now += Duration::from_secs(60);
    assert!(!bench.send(Event::Tick).contains(&Command::TakeSnapshot));
    bench.tunnel(attempt, TunnelEvent::IdleTimeout(Duration::from_secs(30)));
    assert!(bench.send(Event::Tick).contains(&Command::TakeSnapshot), "the new idle time is over already");
}

#[test]
fn work_that_arrives_during_the_snapshot_keeps_the_tunnel_open() {
    for event in [TunnelEvent::StreamStarted, TunnelEvent::Held] {
        let (mut bench, attempt) = Bench::closing();
        bench.tunnel(attempt, event);
        assert_eq!(bench.lifecycle.tunnel_state(), TunnelState::Open);
        assert_eq!(bench.send(stored()), [STORED], "nobody asks to close");
    }
}

#[test]
fn refused_close_leaves_the_tunnel_open_for_another_idle_time() {
    let (mut bench, attempt) = Bench::closing();
    bench.send(stored());
    assert_eq!(bench.tunnel(attempt, TunnelEvent::CloseRefused), [Command::Tell(Notice::CloseRefused)]);
    assert_eq!(bench.lifecycle.tunnel_state(), TunnelState::Open);
    let refused_at = bench.now;
    bench.answer(None);
    while !bench.next().contains(&Command::TakeSnapshot) {
        bench.answer(None);
    }
    assert_eq!(bench.now - refused_at, IDLE);
}

#[test]
fn snapshot_that_never_ends_and_a_gateway_that_never_answers_do_not_stop_the_close() {
    let (mut bench, attempt) = Bench::closing();
    bench.now += SNAPSHOT_LIMIT;
    assert!(bench.send(Event::Tick).contains(&Command::AskToClose(attempt)));
    bench.now += ASK_LIMIT;
    assert!(bench.send(Event::Tick).contains(&Command::CloseTunnel(attempt)));
    bench.now += LEAVE_LIMIT;
    assert!(bench.send(Event::Tick).contains(&Command::Tell(Notice::TunnelClosed)));
}

#[test]
fn closing_waits_for_a_snapshot_that_is_sent_again_and_asks_once_it_is_stored() {
    let (mut bench, attempt) = Bench::closing();
    bench.answer(None);
    let idle_at = bench.now;
    let delayed = Command::Tell(Notice::SnapshotDelayed { reason: "busy".into() });
    for _ in 0..3 {
        assert_eq!(bench.send(not_sent()), std::slice::from_ref(&delayed));
        while !bench.next().contains(&Command::SendSnapshot) {
            bench.answer(None);
        }
    }
    assert!(bench.now - idle_at < Duration::from_secs(10));
    assert_eq!(bench.send(stored()), [STORED, Command::AskToClose(attempt)]);
}

#[test]
fn closing_goes_on_without_a_snapshot_that_is_refused_or_was_tried_for_a_minute() {
    let (mut bench, attempt) = Bench::closing();
    let refused = Event::Snapshot(Sent::Refused { reason: "too large".into() });
    let told = Command::Tell(Notice::SnapshotGivenUp { reason: "too large".into(), tries: 1 });
    assert_eq!(bench.send(refused), [told, Command::AskToClose(attempt)]);

    let (mut bench, attempt) = Bench::closing();
    bench.answer(None);
    bench.roll = Roll(1.0);
    let idle_at = bench.now;
    bench.send(not_sent());
    while bench.lifecycle.tunnel_state() == TunnelState::Closing {
        let out = bench.next();
        if out.contains(&Command::AskToClose(attempt)) {
            assert!(out.contains(&Command::Tell(Notice::SnapshotLate)), "{out:?}");
            break;
        } else if out.contains(&Command::SendSnapshot) {
            bench.send(not_sent());
        } else {
            bench.answer(None);
        }
    }
    assert_eq!(bench.now - idle_at, SNAPSHOT_LIMIT);
}

#[test]
fn snapshot_on_demand_is_taken_once_at_a_time() {
    let (mut bench, attempt) = Bench::open();
    assert_eq!(bench.tunnel(attempt, TunnelEvent::SnapshotWanted), [Command::TakeSnapshot]);
    assert_eq!(bench.tunnel(attempt, TunnelEvent::SnapshotWanted), [], "one is on its way");
    assert_eq!(bench.send(stored()), [STORED]);
    assert_eq!(bench.tunnel(attempt, TunnelEvent::SnapshotWanted), [Command::TakeSnapshot]);
    assert_eq!(bench.lifecycle.tunnel_state(), TunnelState::Open);
}

#[test]
fn dropped_tunnel_checks_in_at_once_and_backs_off_when_it_drops_again_soon() {
    let (mut bench, attempt) = Bench::open();
    let out = bench.tunnel(attempt, TunnelEvent::Ended { reason: "reset".into() });
    assert_eq!(out, [Command::Tell(Notice::TunnelLost { reason: "reset".into() })]);
    assert_eq!(bench.wait(), Duration::ZERO);
    let attempt = bench.offered();
    bench.tunnel(attempt, TunnelEvent::Opened { idle_timeout: IDLE });
    bench.tunnel(attempt, TunnelEvent::Ended { reason: "reset".into() });
    assert_eq!(bench.wait(), Duration::from_millis(750));
    let attempt = bench.offered();
    bench.tunnel(attempt, TunnelEvent::Opened { idle_timeout: IDLE });
    bench.now += SETTLED * 2;
    bench.tunnel(attempt, TunnelEvent::Ended { reason: "reset".into() });
    assert_eq!(bench.wait(), Duration::ZERO, "it was a good one");
}

/// What the next check-in reports.
fn report(bench: &mut Bench) -> Option<FailedOffer> {
    let out = bench.next();
    let Some(Command::CheckIn { failed, .. }) = out.into_iter().next() else { panic!("no check-in") };
    failed
}

#[test]
fn tunnel_that_was_lost_is_reported_with_its_offer_until_the_report_gets_through() {
    let mut bench = Bench::new(Start::Joined);
    bench.next();
    let offer = offer();
    let out = bench.answer(Some(offer.clone()));
    let [Command::OpenTunnel(attempt, _)] = out[..] else { panic!("{out:?}") };
    bench.tunnel(attempt, TunnelEvent::Opened { idle_timeout: IDLE });
    bench.tunnel(attempt, TunnelEvent::Ended { reason: "reset".into() });
    let expected = FailedOffer { offer: offer.id, reason: "its tunnel was lost: reset".into() };
    for _ in 0..2 {
        assert_eq!(report(&mut bench), Some(expected.clone()));
        bench.send(trouble(None));
    }
    assert_eq!(report(&mut bench), Some(expected));
    bench.answer(None);
    assert_eq!(report(&mut bench), None);
}

#[test]
fn tunnel_that_closed_in_order_is_not_reported() {
    let (mut bench, attempt) = Bench::closing();
    bench.answer(None);
    bench.send(stored());
    bench.tunnel(attempt, TunnelEvent::CloseGranted);
    bench.tunnel(attempt, TunnelEvent::Ended { reason: "closed".into() });
    assert_eq!(report(&mut bench), None);
}

#[test]
fn tunnel_that_the_gateway_closed_is_no_loss_and_is_not_reported() {
    for closing in [false, true] {
        let (mut bench, attempt) = if closing { Bench::closing() } else { Bench::open() };
        let reason = "an operator closed the tunnel".to_owned();
        let out = bench.tunnel(attempt, TunnelEvent::Dismissed { reason: reason.clone() });
        assert_eq!(out, [Command::Tell(Notice::TunnelDismissed { reason })]);
        assert_eq!(bench.lifecycle.tunnel_state(), TunnelState::Closed);
        bench.answer(None);
        assert_eq!(report(&mut bench), None);
    }
}

#[test]
fn agent_that_starts_again_reports_the_last_offer_of_its_earlier_life() {
    let last = OfferId::random();
    let mut bench = Bench::new(Start::Again { last_offer: Some(last) });
    assert_eq!(report(&mut bench).expect("reported").offer, last);
}

#[test]
fn open_tunnel_is_probed_when_the_network_seems_to_be_another_one() {
    let (mut bench, attempt) = Bench::open();
    bench.next();
    assert_eq!(bench.answer(None), [], "all is as it was");
    bench.next();
    let rerouted = Outcome::Answered { interval: None, offer: None, holds: false, rerouted: true };
    assert_eq!(bench.send(Event::CheckedIn(rerouted)), [Command::ProbeTunnel(attempt)]);
    bench.next();
    bench.send(trouble(None));
    bench.next();
    assert_eq!(bench.answer(None), [Command::Tell(Notice::Reached), Command::ProbeTunnel(attempt)]);
}

/// Whether the check-in that is due next is an eager one; it meets trouble `after` it began.
fn troubled(bench: &mut Bench, after: Duration) -> bool {
    let out = bench.next();
    let [Command::CheckIn { pace, .. }] = out[..] else { panic!("{out:?}") };
    bench.now += after;
    bench.send(trouble(None));
    pace == Pace::Eager
}

#[test]
fn tunnel_lost_in_use_makes_hurry_for_two_minutes_and_eager_for_ten_or_until_the_gateway_answers() {
    let (mut bench, attempt) = Bench::open();
    bench.tunnel(attempt, TunnelEvent::StreamStarted);
    for _ in 0..100 {
        bench.next();
        bench.answer(None);
    }
    bench.tunnel(attempt, TunnelEvent::Ended { reason: "silence".into() });
    let lost = bench.now;
    assert_eq!(bench.wait(), Duration::ZERO);
    while bench.now + bench.wait() < lost + HURRY_TIME {
        assert!(troubled(&mut bench, Duration::from_millis(100)), "after {:?}", bench.now - lost);
        assert!(bench.now >= lost + HURRY_TIME || bench.wait() <= Duration::from_millis(1400));
    }
    while bench.now + bench.wait() < lost + EAGER_TIME {
        assert!(!troubled(&mut bench, Duration::from_millis(100)), "after {:?}", bench.now - lost);
        assert!(bench.now >= lost + EAGER_TIME || bench.wait() <= Duration::from_secs(5));
    }
    assert!(!troubled(&mut bench, Duration::ZERO));
    assert!(bench.wait() > Duration::from_secs(20), "it fell back: {:?}", bench.wait());
    bench.next();
    bench.answer(None);
    assert!(!troubled(&mut bench, Duration::ZERO), "the next trouble is another one");
}

#[test]
fn eager_agent_leaves_room_while_it_is_the_gateway_that_is_away() {
    let (mut bench, attempt) = Bench::open();
    bench.tunnel(attempt, TunnelEvent::StreamStarted);
    bench.tunnel(attempt, TunnelEvent::Ended { reason: "reset".into() });
    bench.roll = Roll(1.0);
    for _ in 0..10 {
        bench.next();
        bench.send(gateway_away());
        assert_eq!(bench.wait(), Duration::from_secs(5));
    }
    assert!(!troubled(&mut bench, Duration::ZERO), "it has patience, too");
    assert!(troubled(&mut bench, Duration::ZERO), "now it is the network");
    assert_eq!(bench.wait(), Duration::from_millis(1500));
}

#[test]
fn eager_check_in_that_took_long_is_followed_by_another_at_once_unless_the_gateway_asks_for_time() {
    let (mut bench, attempt) = Bench::open();
    bench.tunnel(attempt, TunnelEvent::Ended { reason: "silence".into() });
    assert!(troubled(&mut bench, Duration::from_secs(10)));
    assert_eq!(bench.wait(), Duration::ZERO);
    bench.next();
    bench.send(trouble(Some(20)));
    assert!(bench.wait() >= Duration::from_secs(20), "{:?}", bench.wait());
}

#[test]
fn trouble_while_the_tunnel_is_in_use_makes_eager_before_the_tunnel_is_known_to_be_lost() {
    let (mut bench, attempt) = Bench::open();
    bench.tunnel(attempt, TunnelEvent::StreamStarted);
    assert!(!troubled(&mut bench, Duration::from_secs(20)));
    assert!(troubled(&mut bench, Duration::from_secs(10)));
    assert_eq!(bench.wait(), Duration::ZERO);
}

#[test]
fn offer_that_could_not_be_used_makes_eager_and_a_wrong_host_key_does_not() {
    for lasting in [false, true] {
        let mut bench = Bench::new(Start::Joined);
        let attempt = bench.offered();
        bench.tunnel(attempt, failed("no", lasting));
        assert_eq!(troubled(&mut bench, Duration::ZERO), !lasting);
    }
}

#[test]
fn loss_of_a_tunnel_that_nobody_used_is_no_reason_to_hurry() {
    let (mut bench, attempt) = Bench::open();
    while bench.elapsed() <= IN_USE {
        bench.next();
        bench.answer(None);
    }
    bench.now += Duration::from_secs(1);
    bench.tunnel(attempt, TunnelEvent::Ended { reason: "reset".into() });
    assert_eq!(bench.wait(), Duration::from_millis(2500), "some moment of the interval");
    assert!(!troubled(&mut bench, Duration::ZERO));
}

#[test]
fn tunnel_that_drops_during_a_check_in_is_followed_by_another_at_once() {
    let (mut bench, attempt) = Bench::open();
    bench.next();
    bench.tunnel(attempt, TunnelEvent::Ended { reason: "reset".into() });
    assert_eq!(bench.lifecycle.deadline(), None, "one is on its way");
    bench.answer(None);
    assert_eq!(bench.wait(), Duration::ZERO);
}

#[test]
fn offer_while_there_is_a_tunnel_only_probes_it() {
    let mut bench = Bench::new(Start::Joined);
    let attempt = bench.offered();
    bench.next();
    assert_eq!(bench.answer(Some(offer())), [Command::Tell(Notice::OfferIgnored)]);
    bench.tunnel(attempt, TunnelEvent::Opened { idle_timeout: IDLE });
    bench.next();
    let ignored = [Command::Tell(Notice::OfferIgnored), Command::ProbeTunnel(attempt)];
    assert_eq!(bench.answer(Some(offer())), ignored);
    assert_eq!(bench.lifecycle.tunnel_state(), TunnelState::Open);
}

#[test]
fn offer_while_leaving_opens_the_next_tunnel_and_the_old_ones_end_is_stale() {
    let (mut bench, old) = Bench::closing();
    bench.send(stored());
    bench.tunnel(old, TunnelEvent::CloseGranted);
    if bench.lifecycle.deadline().is_some() && !matches!(bench.lifecycle.check_ins, CheckIns::Running { .. })
    {
        bench.next();
    }
    let out = bench.answer(Some(offer()));
    let [Command::OpenTunnel(new, _)] = out[..] else { panic!("{out:?}") };
    assert_eq!(bench.tunnel(old, TunnelEvent::Ended { reason: "closed".into() }), []);
    bench.tunnel(new, TunnelEvent::Opened { idle_timeout: IDLE });
    assert_eq!(bench.lifecycle.tunnel_state(), TunnelState::Open);
}

#[test]
fn stale_and_repeated_events_change_nothing() {
    let (mut bench, attempt) = Bench::open();
    let stale = Attempt(99);
    for event in [
        TunnelEvent::Opened { idle_timeout: Duration::ZERO },
        failed("x", true),
        TunnelEvent::Ended { reason: "x".into() },
        TunnelEvent::SnapshotWanted,
        TunnelEvent::CloseGranted,
        TunnelEvent::StreamStarted,
    ] {
        assert_eq!(bench.tunnel(stale, event), []);
    }
    for event in [TunnelEvent::CloseGranted, TunnelEvent::CloseRefused, failed("x", false)] {
        assert_eq!(bench.tunnel(attempt, event), []);
    }
    assert_eq!(bench.send(stored()), []);
    assert_eq!(bench.answer(Some(offer())), [], "no question was asked");
    assert_eq!(bench.lifecycle.tunnel_state(), TunnelState::Open);
    assert_eq!(bench.wait(), Duration::from_secs(5));
}

#[test]
fn stop_closes_an_open_tunnel_first_and_checks_in_no_more() {
    let (mut bench, attempt) = Bench::open();
    assert_eq!(bench.send(Event::Stop), [Command::CloseTunnel(attempt)]);
    assert_eq!(bench.send(Event::Stop), [], "told twice");
    assert_eq!(bench.wait(), LEAVE_LIMIT, "nothing else is due");
    let out = bench.tunnel(attempt, TunnelEvent::Ended { reason: "closed".into() });
    assert_eq!(out, [Command::Tell(Notice::TunnelClosed), Command::Exit]);
}

#[test]
fn stop_without_an_open_tunnel_exits_at_once() {
    assert_eq!(Bench::new(AGAIN).send(Event::Stop), [Command::Exit]);
    let mut bench = Bench::new(Start::Joined);
    bench.offered();
    assert_eq!(bench.send(Event::Stop), [Command::Exit]);
}

#[test]
fn stop_during_any_part_of_closing_ends_in_bounded_time() {
    for asked in [false, true] {
        let (mut bench, _) = Bench::closing();
        if asked {
            bench.send(stored());
        }
        let mut out = bench.send(Event::Stop);
        while !out.contains(&Command::Exit) {
            assert!(bench.wait() <= LEAVE_LIMIT);
            out = bench.next();
        }
    }
}

/// What the model knows of the world that the commands are carried out in.
#[derive(Default)]
struct World {
    /// Whether a question is out, and for how long it may be held.
    asking: Option<Option<Duration>>,
    snapshot: bool,
    attempts: Vec<Attempt>,
    streams: usize,
    exited: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Answer {
        interval: Option<u64>,
        offer: bool,
        held: bool,
    },
    Cut(u64),
    Woke,
    Trouble(Option<u64>),
    Refused(u8),
    Tunnel {
        age: usize,
        event: TunnelEvent,
    },
    /// Whether the snapshot is stored; if not, whether another try may help.
    Snapshot(Option<bool>),
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    let tunnel_event = prop_oneof![
        3 => (1u64..1000).prop_map(|s| TunnelEvent::Opened { idle_timeout: Duration::from_secs(s) }),
        1 => any::<bool>().prop_map(|lasting| failed("failed", lasting)),
        1 => (1u64..1000).prop_map(|s| TunnelEvent::IdleTimeout(Duration::from_secs(s))),
        2 => Just(TunnelEvent::StreamStarted),
        2 => Just(TunnelEvent::StreamEnded),
        1 => Just(TunnelEvent::Held),
        1 => Just(TunnelEvent::SnapshotWanted),
        2 => Just(TunnelEvent::CloseGranted),
        1 => Just(TunnelEvent::CloseRefused),
        1 => Just(TunnelEvent::Ended { reason: "ended".into() }),
        1 => Just(TunnelEvent::Dismissed { reason: "dismissed".into() }),
    ];
    prop_oneof![
        8 => (0u64..400).prop_map(Step::Wait),
        6 => (proptest::option::of(1u64..100), any::<bool>(), any::<bool>())
            .prop_map(|(interval, offer, held)| Step::Answer { interval, offer, held }),
        3 => (0u64..70).prop_map(Step::Cut),
        1 => Just(Step::Woke),
        2 => proptest::option::of(0u64..10_000).prop_map(Step::Trouble),
        1 => (0u8..5).prop_map(Step::Refused),
        10 => (0usize..2, tunnel_event).prop_map(|(age, event)| Step::Tunnel { age, event }),
        3 => proptest::option::of(any::<bool>()).prop_map(Step::Snapshot),
        1 => Just(Step::Stop),
    ]
}

impl World {
    /// The event that a step is, if it can happen now.
    fn event(&mut self, step: Step) -> Option<Event> {
        match step {
            Step::Wait(_) => Some(Event::Tick),
            Step::Stop => Some(Event::Stop),
            Step::Woke => {
                // Whoever waits to be held no longer knows for what.
                self.asking = self.asking.filter(Option::is_none);
                Some(Event::Woke)
            }
            Step::Snapshot(_) if !std::mem::take(&mut self.snapshot) => None,
            Step::Snapshot(None) => Some(stored()),
            Step::Snapshot(Some(true)) => Some(not_sent()),
            Step::Snapshot(Some(false)) => Some(Event::Snapshot(Sent::Refused { reason: "no".into() })),
            Step::Tunnel { age, event } => {
                let index = self.attempts.len().checked_sub(1 + age)?;
                match (&event, age) {
                    (TunnelEvent::StreamStarted, 0) => self.streams += 1,
                    (TunnelEvent::StreamEnded, 0) => self.streams = self.streams.checked_sub(1)?,
                    _ => {}
                }
                Some(Event::Tunnel(self.attempts[index], event))
            }
            Step::Answer { interval, offer: offered, held } => {
                let may_be_held = self.asking.take()?.is_some();
                let (interval, offer) = (interval.map(Duration::from_secs), offered.then(offer));
                let holds = held && may_be_held;
                Some(Event::CheckedIn(Outcome::Answered { interval, offer, holds, rerouted: false }))
            }
            Step::Cut(after) => {
                self.asking.take()?;
                let after = Duration::from_secs(after);
                Some(Event::CheckedIn(Outcome::Cut { reason: "cut".into(), after }))
            }
            Step::Trouble(_) | Step::Refused(_) if self.asking.take().is_none() => None,
            Step::Trouble(retry_after) => Some(trouble(retry_after)),
            Step::Refused(kind) => Some(refused(match kind {
                0 => RefusalKind::UnknownKey,
                1 => RefusalKind::BoundToAnother,
                2 => RefusalKind::SecondInstance,
                3 => RefusalKind::Protocol,
                _ => RefusalKind::TlsPin,
            })),
        }
    }

    fn carry_out(&mut self, command: Command, was: TunnelState) -> Result<(), TestCaseError> {
        match command {
            Command::CheckIn { tunnel, pace, wait, .. } => {
                prop_assert!(self.asking.is_none(), "one question at a time");
                if wait.is_some() {
                    prop_assert_eq!(tunnel, TunnelState::Closed, "one that has a tunnel is reached");
                    prop_assert_ne!(pace, Pace::Eager, "who is eager wants an answer");
                }
                self.asking = Some(wait);
            }
            Command::OpenTunnel(attempt, _) => {
                prop_assert!(
                    matches!(was, TunnelState::Closed | TunnelState::Closing),
                    "one tunnel at a time, but it was {was:?}"
                );
                prop_assert!(
                    self.attempts.last().is_none_or(|last| *last < attempt),
                    "attempts are told apart"
                );
                self.attempts.push(attempt);
                self.streams = 0;
            }
            Command::TakeSnapshot | Command::SendSnapshot => {
                prop_assert!(!self.snapshot, "one snapshot at a time");
                self.snapshot = true;
            }
            Command::AskToClose(attempt) => {
                prop_assert_eq!(Some(&attempt), self.attempts.last());
            }
            Command::ProbeTunnel(attempt) | Command::CloseTunnel(attempt) => {
                prop_assert_eq!(Some(&attempt), self.attempts.last(), "commands are for the current tunnel");
            }
            Command::Exit => {
                prop_assert!(!self.exited, "it exits once");
                self.exited = true;
            }
            Command::Tell(_) => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: one question, one tunnel and one snapshot at a time, always a next deadline
    /// or an answer to wait for, never a deadline that a tick does not move, and no idle close under an open stream.
    #[test]
    fn promises_hold_in_any_order_of_events(steps in proptest::collection::vec(step(), 1..200), roll in 0.0..1.0f64) {
        let mut now = Instant::now();
        let mut lifecycle = Lifecycle::new(AGAIN, now, Roll(roll));
        let mut world = World::default();
        for step in steps {
            if let Step::Wait(seconds) = step {
                now += Duration::from_secs(seconds);
            }
            let Some(event) = world.event(step) else { continue };
            let ticked = matches!(event, Event::Tick);
            let was = lifecycle.tunnel_state();
            let mut out = Vec::new();
            lifecycle.handle(event, now, Roll(roll), &mut out);
            let asks_while_working = out.iter().any(|command| {
                matches!(command, Command::TakeSnapshot) && ticked && world.streams > 0
            });
            prop_assert!(!asks_while_working, "an idle close began under an open stream");
            for command in out {
                world.carry_out(command, was)?;
            }
            if world.exited {
                break;
            }
            if ticked {
                prop_assert!(lifecycle.deadline().is_none_or(|at| at > now), "a tick moves the deadline");
            }
            prop_assert!(lifecycle.deadline().is_some() || world.asking.is_some(), "it would sleep for ever");
        }
    }
}
