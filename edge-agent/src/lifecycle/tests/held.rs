//! An agent whose questions are held: by gateways that do, that don't, that go away, and behind what cuts them off.

use super::*;

const WAIT: Duration = Duration::from_secs(50);
const INTERVAL: Duration = Duration::from_secs(60);

fn held(interval: Option<u64>, offer: Option<Offer>) -> Event {
    let interval = interval.map(Duration::from_secs);
    Event::CheckedIn(Outcome::Answered { interval, offer, holds: true, rerouted: false })
}

fn cut(after: Duration) -> Event {
    Event::CheckedIn(Outcome::Cut { reason: "reset".into(), after })
}

impl Bench {
    /// Goes on to the next question; how it is asked.
    fn asks(&mut self) -> (Pace, Option<Duration>) {
        let out = self.next();
        let [Command::CheckIn { pace, wait, .. }] = out[..] else { panic!("{out:?}") };
        (pace, wait)
    }

    /// The question that is out is cut off after so long.
    fn cut_after(&mut self, after: Duration) -> Vec<Command> {
        self.now += after;
        self.send(cut(after))
    }

    /// A question is out that its gateway holds, whose interval is a minute.
    fn held() -> Self {
        let mut bench = Self::new(Start::Joined);
        bench.lifecycle = Lifecycle::new(Start::Joined, bench.now, HALF);
        bench.asks();
        bench.send(answered(Some(60), None));
        bench.asks();
        bench.now += Duration::from_secs(5);
        bench.send(held(None, None));
        assert_eq!(bench.asks(), (Pace::Following, Some(WAIT)));
        bench
    }
}

#[test]
fn agent_whose_gateway_holds_is_out_with_a_question_from_its_second_one_on() {
    let mut bench = Bench::held();
    assert_eq!(bench.elapsed(), Duration::from_secs(5));
    assert_eq!(bench.lifecycle.deadline(), None, "only an answer can bring anything on");
    assert_eq!(bench.lifecycle.holding().held, Some(WAIT));
    for _ in 0..100 {
        bench.now += WAIT;
        assert_eq!(bench.send(held(None, None)), []);
        assert_eq!(bench.wait(), Duration::ZERO);
        assert_eq!(bench.asks(), (Pace::Following, Some(WAIT)));
    }
}

#[test]
fn offer_in_the_answer_opens_the_tunnel_and_questions_come_at_the_interval_until_it_is_closed() {
    let mut bench = Bench::held();
    bench.now += Duration::from_secs(7);
    let out = bench.send(answered(Some(60), Some(offer())));
    let [Command::OpenTunnel(attempt, _)] = out[..] else { panic!("{out:?}") };
    bench.tunnel(attempt, TunnelEvent::Opened { idle_timeout: IDLE });
    assert_eq!((bench.wait(), bench.asks()), (INTERVAL, (Pace::Usual, None)));
    bench.send(answered(None, None));
    assert_eq!(bench.wait(), INTERVAL);
    let out = bench.tunnel(attempt, TunnelEvent::Ended { reason: "reset".into() });
    assert_eq!(out, [Command::Tell(Notice::TunnelLost { reason: "reset".into() })]);
    assert_eq!(bench.wait(), Duration::ZERO);
    assert_eq!(bench.asks(), (Pace::Eager, None), "somebody may be waiting: no time to be held");
    bench.send(answered(None, None));
    assert_eq!((bench.wait(), bench.asks().1), (Duration::ZERO, Some(WAIT)), "nobody is");
}

#[test]
fn gateway_that_does_not_hold_is_asked_at_the_interval_as_ever() {
    let mut bench = Bench::new(Start::Joined);
    bench.lifecycle = Lifecycle::new(Start::Joined, bench.now, HALF);
    bench.asks();
    bench.send(answered(Some(60), None));
    assert_eq!(bench.wait(), Duration::ZERO, "it had something to say, so it could not have held that one");
    bench.asks();
    bench.send(answered(None, None));
    assert_eq!(bench.wait(), INTERVAL);
    for interval in [None, None, Some(60), Some(60)] {
        bench.asks();
        bench.send(answered(interval, None));
        assert_eq!(bench.wait(), INTERVAL);
    }
    assert_eq!(bench.lifecycle.holding(), Holding::default());
}

#[test]
fn gateway_that_ceases_to_hold_answers_all_at_once_and_is_asked_by_each_at_another_moment() {
    let mut bench = Bench::held();
    bench.send(held(None, None));
    bench.asks();
    bench.send(answered(None, None));
    assert_eq!(
        bench.wait(),
        Duration::from_millis(2500),
        "it may be on its way out, and another on its way in"
    );
    assert_eq!(bench.asks(), (Pace::Usual, Some(Duration::from_secs(5))));
    bench.send(answered(None, None));
    assert_eq!(bench.wait(), INTERVAL / 2);
    bench.asks();
    bench.send(answered(None, None));
    assert_eq!(bench.wait(), INTERVAL);
}

#[test]
fn gateway_that_says_goodbye_is_asked_again_within_seconds_and_not_by_all_at_once() {
    let mut bench = Bench::held();
    bench.now += Duration::from_secs(20);
    bench.send(held(None, None));
    assert_eq!(bench.asks().0, Pace::Following);
    assert_eq!(bench.send(cut(Duration::ZERO)), [], "the connection was gone: that is no trouble");
    assert_eq!(bench.wait(), Duration::from_millis(2500));
    assert_eq!(bench.asks(), (Pace::Usual, Some(WAIT)));
    let told = Notice::Trouble { reason: "refused".into(), first: true };
    assert_eq!(bench.send(gateway_away()), [Command::Tell(told)]);
    assert_eq!(bench.wait(), Duration::from_millis(2750), "not after a minute, though that is its interval");
    assert_eq!(bench.asks(), (Pace::Usual, None), "it wants to know, now");
    assert_eq!(bench.send(answered(Some(60), None)), [Command::Tell(Notice::Reached)]);
    assert_eq!((bench.wait(), bench.asks().1), (Duration::ZERO, Some(WAIT)));
}

#[test]
fn question_that_is_cut_off_once_is_asked_again_within_seconds_and_told_to_nobody_but_the_log() {
    let mut bench = Bench::held();
    let out = bench.cut_after(Duration::from_secs(30));
    assert_eq!(out, [Command::Tell(Notice::Cut { reason: "reset".into() })]);
    assert_eq!(bench.wait(), Duration::from_millis(2500));
    let (pace, wait) = bench.asks();
    assert_eq!(pace, Pace::Usual);
    assert!(wait.is_some_and(|wait| wait < WAIT), "those who were cut off together part: {wait:?}");
    bench.now += WAIT;
    bench.send(held(None, None));
    assert_eq!(bench.asks().1, Some(WAIT), "it was chance");
}

#[test]
fn middlebox_is_learned_told_once_and_respected_from_then_on() {
    let mut bench = Bench::held();
    bench.cut_after(Duration::from_secs(30));
    bench.asks();
    let limited = Holding { held: Some(Duration::from_millis(22_500)), cut: Some(Duration::from_secs(30)) };
    let told = bench.cut_after(Duration::from_secs(30));
    assert_eq!(told, [Command::Tell(Notice::WayLimited(limited))]);
    assert_eq!(bench.lifecycle.holding(), limited);
    for _ in 0..10 {
        assert_eq!(bench.asks().1, Some(Duration::from_secs(22)));
        bench.now += Duration::from_secs(22);
        assert_eq!(bench.send(held(None, None)), []);
    }
    bench.now += Duration::from_secs(24 * 3600);
    assert_eq!(bench.asks().1, Some(WAIT), "a day later it is tried");
    bench.now += WAIT;
    assert_eq!(bench.send(held(None, None)), [Command::Tell(Notice::WayFree)]);
    assert_eq!(bench.lifecycle.holding(), Holding { held: Some(WAIT), cut: None });
}

#[test]
fn way_that_cuts_off_everything_leaves_the_agent_at_its_interval() {
    let mut bench = Bench::held();
    for _ in 0..2 {
        bench.cut_after(Duration::from_secs(2));
        assert_eq!(bench.wait(), Duration::from_millis(2500));
        bench.asks();
    }
    for _ in 0..3 {
        bench.send(answered(None, None));
        assert_eq!((bench.wait(), bench.asks()), (INTERVAL, (Pace::Usual, None)));
    }
}

#[test]
fn question_that_gets_no_ear_at_all_is_trouble() {
    let mut bench = Bench::held();
    bench.cut_after(Duration::from_secs(30));
    assert_eq!(bench.asks().0, Pace::Usual);
    let told = Notice::Trouble { reason: "reset".into(), first: true };
    assert_eq!(bench.cut_after(Duration::from_millis(100)), [Command::Tell(told)]);
}

#[test]
fn report_of_a_question_that_was_cut_off_travels_with_the_next() {
    let last = OfferId::random();
    let mut bench = Bench::new(Start::Again { last_offer: Some(last) });
    for _ in 0..3 {
        assert_eq!(report(&mut bench).expect("reported").offer, last);
        bench.cut_after(Duration::from_secs(3));
    }
    assert_eq!(report(&mut bench).expect("reported").offer, last);
    bench.answer(None);
    assert_eq!(report(&mut bench), None);
}

#[test]
fn agent_that_wakes_gives_up_its_question_and_asks_another_on_a_new_connection() {
    let mut bench = Bench::held();
    bench.now += Duration::from_secs(10);
    assert_eq!(bench.send(Event::Woke), []);
    assert_eq!(bench.wait(), Duration::from_millis(2500), "others wake with it");
    assert_eq!(bench.send(held(None, None)), [], "the answer to a question that was given up");
    assert_eq!(bench.asks(), (Pace::Eager, None));
    bench.send(answered(None, None));
    assert_eq!((bench.wait(), bench.asks().1), (Duration::ZERO, Some(WAIT)));
}

#[test]
fn agent_that_wakes_does_not_sleep_its_interval_out_and_probes_its_tunnel() {
    let (mut bench, attempt) = Bench::open();
    assert_eq!(bench.send(Event::Woke), [Command::ProbeTunnel(attempt)]);
    assert_eq!((bench.wait(), bench.asks().0), (Duration::from_millis(2500), Pace::Eager));
}

#[test]
fn gateway_that_only_claims_to_hold_is_asked_once_a_second() {
    let mut bench = Bench::held();
    let start = bench.now;
    for _ in 0..100 {
        bench.send(held(None, None));
        bench.asks();
    }
    assert!(bench.now - start >= Duration::from_secs(90), "{:?}", bench.now - start);
}

#[test]
fn stop_does_not_wait_for_a_question_that_is_held() {
    assert_eq!(Bench::held().send(Event::Stop), [Command::Exit]);
}
