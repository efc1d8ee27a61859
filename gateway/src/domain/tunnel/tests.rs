//! The transition table, line by line, and what must hold for any sequence of events.

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;

/// A tunnel with a clock of its own and a record of everything that it ordered.
struct Bench {
    tunnel: Tunnel,
    now: Now,
    next: u8,
}

const ONE: InstanceId = InstanceId::from_bytes([1; 16]);
const TWO: InstanceId = InstanceId::from_bytes([2; 16]);
const PATIENCE: Duration = Duration::from_secs(20);

impl Bench {
    fn new() -> Self {
        let now = Now { instant: Instant::now(), wall: Timestamp(0) };
        Self { tunnel: Tunnel::new(now), now, next: 0 }
    }

    fn pass(&mut self, time: Duration) -> Vec<Command> {
        self.now.instant += time;
        self.now.wall.0 += time.as_millis() as u64;
        self.handle(Event::Tick)
    }

    fn handle(&mut self, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        self.tunnel.handle(event, self.now, &mut out);
        out
    }

    fn want(&mut self, waiter: u64) -> Vec<Command> {
        self.handle(Event::Want { waiter: WaiterId(waiter), deadline: self.now.instant + PATIENCE })
    }

    /// The instance checks in and gets an offer, if one is due.
    fn offer(&mut self, instance: InstanceId) -> Offer {
        self.next += 1;
        let offer = Offer {
            id: OfferId::from_bytes([self.next; 16]),
            username: format!("user-{}", self.next),
            password: Secret::new(format!("password-{}", self.next)),
        };
        self.handle(Event::Offer { instance, offer: offer.clone() });
        offer
    }

    fn log_in(&mut self, offer: &Offer, link: u64) -> Vec<Command> {
        self.handle(Event::LogIn { password: digest(&offer.password), link: LinkId(link) })
    }

    fn log_in_stock(&mut self, link: u64) -> Vec<Command> {
        self.handle(Event::LogInStock { link: LinkId(link) })
    }

    /// From wanted to open.
    fn open(&mut self, link: u64) -> Vec<Command> {
        let offer = self.offer(ONE);
        assert_eq!(self.log_in(&offer, link), [Command::Admit { link: LinkId(link) }]);
        self.handle(Event::LinkUp { link: LinkId(link) })
    }
}

fn grant(waiter: u64, link: u64) -> Command {
    Command::Grant { waiter: WaiterId(waiter), link: LinkId(link) }
}

fn failed(instance: InstanceId, offer: OfferId, reason: &str) -> Event {
    Event::OfferFailed { instance, offer, reason: reason.into() }
}

fn down(link: u64) -> Event {
    Event::LinkDown { link: LinkId(link), reason: "its cable was pulled".into() }
}

#[test]
fn request_wakes_the_edge_and_gets_through() {
    let mut bench = Bench::new();
    assert_eq!(bench.want(7), []);
    assert_eq!(bench.tunnel.phase(), Phase::Wanted);
    assert_eq!(bench.open(1), [grant(7, 1)]);
    assert_eq!((bench.tunnel.phase(), bench.tunnel.holds()), (Phase::Open, 1));
    assert_eq!(bench.want(8), [grant(8, 1)], "an open tunnel lets through at once");
    bench.handle(Event::StreamEnded { link: LinkId(1) });
    bench.handle(Event::StreamEnded { link: LinkId(1) });
    assert_eq!(bench.tunnel.holds(), 0);
}

#[test]
fn offer_goes_to_one_instance_and_stays_the_same_until_it_is_used() {
    let mut bench = Bench::new();
    bench.want(1);
    let offer = bench.offer(ONE);
    bench.offer(TWO);
    assert!(bench.tunnel.offer_of(TWO, bench.now).is_none(), "the claim is taken");
    bench.pass(Duration::from_secs(5));
    let (again, left) = bench.tunnel.offer_of(ONE, bench.now).expect("its answer may have been lost");
    assert_eq!((again.id, left), (offer.id, OFFER_LIFETIME - Duration::from_secs(5)));
}

#[test]
fn unused_offer_expires_and_the_next_instance_takes_over() {
    let mut bench = Bench::new();
    bench.want(1);
    let stale = bench.offer(ONE);
    bench.pass(OFFER_LIFETIME);
    assert_eq!(bench.tunnel.phase(), Phase::Wanted);
    assert!(bench.tunnel.failure().is_some());
    let fresh = bench.offer(TWO);
    assert_eq!(bench.log_in(&stale, 1), [], "the old credentials are dead");
    assert_eq!(bench.log_in(&fresh, 2), [Command::Admit { link: LinkId(2) }]);
}

#[test]
fn offer_is_dead_at_its_expiry_even_before_the_tick() {
    let mut bench = Bench::new();
    bench.want(1);
    let offer = bench.offer(ONE);
    bench.now.instant += OFFER_LIFETIME;
    assert!(bench.tunnel.offer_of(ONE, bench.now).is_none());
    assert_eq!(bench.log_in(&offer, 1), []);
}

#[test]
fn credentials_work_once() {
    let mut bench = Bench::new();
    bench.want(1);
    let offer = bench.offer(ONE);
    assert_eq!(bench.log_in(&offer, 1), [Command::Admit { link: LinkId(1) }]);
    assert_eq!(bench.log_in(&offer, 2), [], "while joining");
    bench.handle(Event::LinkUp { link: LinkId(1) });
    assert_eq!(bench.log_in(&offer, 2), [], "while open");
    bench.handle(down(1));
    assert_eq!(bench.log_in(&offer, 2), [], "after the close");
}

#[test]
fn wrong_password_leaves_the_offer_as_it_was() {
    let mut bench = Bench::new();
    bench.want(1);
    let offer = bench.offer(ONE);
    let wrong = Offer { password: "guess".into(), ..offer.clone() };
    assert_eq!(bench.log_in(&wrong, 1), []);
    assert_eq!(bench.log_in(&offer, 2), [Command::Admit { link: LinkId(2) }]);
}

#[test]
fn failed_offer_says_why_and_leads_to_the_next() {
    let mut bench = Bench::new();
    bench.want(1);
    let offer = bench.offer(ONE);
    bench.handle(failed(ONE, OfferId::from_bytes([99; 16]), "stale"));
    assert_eq!(bench.tunnel.phase(), Phase::Offered, "that was another offer");
    bench.handle(failed(TWO, offer.id, "a lie"));
    assert_eq!(bench.tunnel.phase(), Phase::Offered, "that was another instance");
    bench.handle(failed(ONE, offer.id, "host key refused"));
    assert_eq!((bench.tunnel.phase(), bench.tunnel.failure()), (Phase::Wanted, Some("host key refused")));
    assert_eq!(bench.log_in(&offer, 1), []);
}

#[test]
fn giving_up_lowers_the_flag_unless_others_want_it() {
    let mut bench = Bench::new();
    bench.want(1);
    bench.want(2);
    bench.handle(Event::GiveUp { waiter: WaiterId(1) });
    assert_eq!(bench.tunnel.phase(), Phase::Wanted);
    let offer = bench.offer(ONE);
    bench.handle(Event::GiveUp { waiter: WaiterId(2) });
    assert_eq!(bench.tunnel.phase(), Phase::Idle);
    assert_eq!(bench.log_in(&offer, 1), [], "the offer went with the flag");
    bench.handle(Event::GiveUp { waiter: WaiterId(2) });
}

#[test]
fn waiter_is_turned_away_at_its_deadline_and_told_how_far_it_came() {
    let mut bench = Bench::new();
    bench.want(1);
    bench.pass(Duration::from_secs(10));
    bench.want(2);
    let denied = |waiter, phase| Command::Deny { waiter: WaiterId(waiter), phase };
    assert_eq!(bench.pass(Duration::from_secs(10)), [denied(1, Phase::Wanted)]);
    bench.offer(ONE);
    assert_eq!(bench.pass(Duration::from_secs(10)), [denied(2, Phase::Offered)]);
    assert_eq!(bench.tunnel.phase(), Phase::Idle);
}

#[test]
fn lease_raises_the_flag_holds_the_tunnel_and_runs_out() {
    let mut bench = Bench::new();
    bench.handle(Event::Raise { until: bench.now.instant + Duration::from_secs(90) });
    assert_eq!(bench.open(1), []);
    assert_eq!(bench.tunnel.holds(), 1);
    let told = bench.pass(HOLD_EVERY);
    assert_eq!(told, [Command::Tell { link: LinkId(1), message: ToAgent::Hold }]);
    bench.pass(Duration::from_secs(30));
    assert_eq!((bench.tunnel.holds(), bench.tunnel.deadline()), (0, None));
}

#[test]
fn close_is_granted_only_when_nobody_is_there_and_then_nobody_gets_in() {
    let mut bench = Bench::new();
    bench.want(1);
    bench.open(1);
    let ask = || Event::AskClose { link: LinkId(1) };
    let told = |message| [Command::Tell { link: LinkId(1), message }];
    assert_eq!(bench.handle(ask()), told(ToAgent::CloseRefused), "a stream is open");
    bench.handle(Event::StreamEnded { link: LinkId(1) });
    assert_eq!(bench.handle(ask()), told(ToAgent::CloseGranted));
    assert_eq!(bench.want(2), [], "it waits for the next tunnel");
    bench.handle(down(1));
    assert_eq!(bench.tunnel.phase(), Phase::Wanted);
    assert_eq!(bench.open(2), [grant(2, 2)]);
}

#[test]
fn granted_close_that_does_not_happen_is_done_by_the_gateway() {
    let mut bench = Bench::new();
    bench.handle(Event::Raise { until: bench.now.instant });
    bench.open(1);
    bench.pass(Duration::ZERO);
    bench.handle(Event::AskClose { link: LinkId(1) });
    let closed = bench.pass(CLOSE_TIME);
    assert!(matches!(closed[..], [Command::Close { link: LinkId(1), .. }]));
    assert_eq!(bench.tunnel.phase(), Phase::Idle);
}

#[test]
fn login_without_services_is_closed() {
    let mut bench = Bench::new();
    bench.want(1);
    let offer = bench.offer(ONE);
    bench.log_in(&offer, 1);
    let closed = bench.pass(JOIN_TIME);
    assert!(matches!(closed[..], [Command::Close { link: LinkId(1), .. }]));
    assert_eq!(bench.tunnel.phase(), Phase::Wanted, "the waiter still waits");
    assert_eq!(bench.handle(Event::LinkUp { link: LinkId(1) }), [], "too late");
    assert_eq!(bench.open(2), [grant(1, 2)]);
}

#[test]
fn dropped_link_with_somebody_waiting_goes_back_to_wanted() {
    let mut bench = Bench::new();
    bench.want(1);
    let offer = bench.offer(ONE);
    bench.log_in(&offer, 1);
    bench.handle(down(1));
    assert_eq!((bench.tunnel.phase(), bench.tunnel.failure()), (Phase::Wanted, Some("its cable was pulled")));
}

#[test]
fn stale_link_down_does_not_close_new_link() {
    let mut bench = Bench::new();
    bench.want(1);
    bench.open(1);
    bench.handle(down(1));
    bench.want(2);
    bench.open(2);
    for event in [down(1), Event::StreamEnded { link: LinkId(1) }, Event::LinkUp { link: LinkId(1) }] {
        bench.handle(event);
    }
    assert_eq!(bench.handle(Event::AskClose { link: LinkId(1) }), []);
    let of_both = "a stream, and the lease of those who were cut off";
    assert_eq!((bench.tunnel.link(), bench.tunnel.holds()), (Some(LinkId(2)), 2), "{of_both}");
}

#[test]
fn agent_that_lost_its_tunnel_has_the_dead_link_retired_before_its_keep_alives_fail() {
    for up in [false, true] {
        let mut bench = Bench::new();
        bench.want(1);
        let offer = bench.offer(ONE);
        bench.log_in(&offer, 1);
        if up {
            bench.handle(Event::LinkUp { link: LinkId(1) });
        }
        let closed = bench.handle(failed(ONE, offer.id, "its address changed"));
        assert!(matches!(closed[..], [Command::Close { link: LinkId(1), .. }]), "{closed:?}");
        assert_eq!(bench.tunnel.failure(), Some("its address changed"));
        assert_eq!(bench.tunnel.phase(), Phase::Wanted, "somebody waits, or was cut off");
        assert_eq!(bench.log_in(&offer, 2), [], "the offer was used");
        bench.open(3);
        assert_eq!(bench.handle(down(1)), [], "its end comes later and is stale");
        assert_eq!(bench.tunnel.link(), Some(LinkId(3)));
    }
}

#[test]
fn report_that_is_stale_or_false_closes_no_link() {
    let mut bench = Bench::new();
    bench.want(1);
    let old = bench.offer(ONE);
    bench.log_in(&old, 1);
    bench.handle(Event::LinkUp { link: LinkId(1) });
    bench.handle(down(1));
    bench.want(2);
    let new = bench.offer(ONE);
    bench.log_in(&new, 2);
    for phase in [Phase::Offered, Phase::Open] {
        assert_eq!(bench.tunnel.phase(), phase);
        assert_eq!(bench.handle(failed(ONE, old.id, "stale")), []);
        assert_eq!(bench.handle(failed(TWO, new.id, "a lie")), []);
        assert_eq!(bench.tunnel.link(), Some(LinkId(2)));
        bench.handle(Event::LinkUp { link: LinkId(2) });
    }
}

#[test]
fn tunnel_that_breaks_under_streams_is_wanted_for_a_minute_and_one_that_was_quiet_is_not() {
    let broken = |quiet: Option<Duration>| {
        let mut bench = Bench::new();
        bench.want(1);
        bench.open(1);
        if let Some(quiet) = quiet {
            bench.handle(Event::StreamEnded { link: LinkId(1) });
            bench.pass(quiet);
        }
        bench.handle(down(1));
        bench
    };
    for just_before in [None, Some(Duration::ZERO), Some(JUST_BEFORE)] {
        let mut bench = broken(just_before);
        assert_eq!((bench.tunnel.phase(), bench.tunnel.holds()), (Phase::Wanted, 1));
        bench.pass(RETURN_TIME);
        assert_eq!(bench.tunnel.phase(), Phase::Idle, "nobody came");
    }
    assert_eq!(broken(Some(JUST_BEFORE * 2)).tunnel.phase(), Phase::Idle);
}

#[test]
fn stock_client_gets_in_without_a_flag_and_holds_nothing() {
    let mut bench = Bench::new();
    assert_eq!(bench.log_in_stock(1), [Command::Admit { link: LinkId(1) }]);
    assert_eq!(bench.want(7), [], "it has announced nothing yet");
    assert_eq!(bench.handle(Event::LinkUp { link: LinkId(1) }), [grant(7, 1)]);
    assert_eq!((bench.tunnel.party(), bench.tunnel.instance()), (Some(Party::Stock), None));
    bench.handle(Event::StreamEnded { link: LinkId(1) });
    let granted = Command::Tell { link: LinkId(1), message: ToAgent::CloseGranted };
    assert_eq!(bench.handle(Event::AskClose { link: LinkId(1) }), [granted]);
}

#[test]
fn stock_client_that_comes_first_takes_the_place_of_an_offered_agent() {
    let mut bench = Bench::new();
    bench.want(7);
    let offer = bench.offer(ONE);
    assert_eq!(bench.log_in_stock(1), [Command::Admit { link: LinkId(1) }]);
    assert_eq!(bench.log_in(&offer, 2), [], "the offer went with it");
    assert_eq!(bench.handle(Event::LinkUp { link: LinkId(1) }), [grant(7, 1)]);
}

#[test]
fn stock_client_is_refused_while_there_is_a_link() {
    let mut bench = Bench::new();
    bench.want(7);
    let offer = bench.offer(ONE);
    bench.log_in(&offer, 1);
    assert_eq!(bench.log_in_stock(2), [], "while joining");
    bench.handle(Event::LinkUp { link: LinkId(1) });
    assert_eq!(bench.log_in_stock(2), [], "while open");
    bench.handle(Event::StreamEnded { link: LinkId(1) });
    bench.handle(Event::AskClose { link: LinkId(1) });
    assert_eq!(bench.log_in_stock(2), [], "while closing");
    bench.handle(down(1));
    assert_eq!(bench.log_in_stock(2), [Command::Admit { link: LinkId(2) }]);
    assert_eq!(bench.log_in_stock(3), [], "another one of its own kind has it");
}

#[test]
fn revoking_stock_clients_ends_theirs_and_leaves_an_agent_alone() {
    let mut bench = Bench::new();
    bench.want(1);
    bench.open(1);
    assert_eq!(bench.handle(Event::RevokeStock), [], "an agent has it");
    bench.handle(down(1));
    bench.log_in_stock(2);
    bench.want(3);
    let closed = bench.handle(Event::RevokeStock);
    assert!(matches!(closed[..], [Command::Close { link: LinkId(2), .. }]));
    assert_eq!(bench.tunnel.phase(), Phase::Wanted, "an agent may still come for the waiter");
}

#[test]
fn revocation_ends_everything_from_every_state() {
    type Prepare = fn(&mut Bench) -> Option<u64>;
    let states: [Prepare; 7] = [
        |_| None,
        |bench| {
            bench.log_in_stock(1);
            Some(1)
        },
        |bench| {
            bench.want(1);
            None
        },
        |bench| {
            bench.want(1);
            bench.offer(ONE);
            None
        },
        |bench| {
            bench.want(1);
            let offer = bench.offer(ONE);
            bench.log_in(&offer, 1);
            Some(1)
        },
        |bench| {
            bench.want(1);
            bench.open(1);
            Some(1)
        },
        |bench| {
            bench.want(1);
            bench.open(1);
            bench.handle(Event::StreamEnded { link: LinkId(1) });
            bench.handle(Event::AskClose { link: LinkId(1) });
            Some(1)
        },
    ];
    for (number, prepare) in states.into_iter().enumerate() {
        let mut bench = Bench::new();
        let link = prepare(&mut bench);
        let out = bench.handle(Event::Revoke);
        let closed = out.iter().any(|command| matches!(command, Command::Close { .. }));
        assert_eq!(closed, link.is_some(), "state {number}");
        assert_eq!((bench.tunnel.phase(), bench.tunnel.link()), (Phase::Idle, None), "state {number}");
        assert_eq!((bench.tunnel.username(), bench.tunnel.deadline()), (None, None), "state {number}");
    }
}

/// What may happen, in small numbers so that things meet.
#[derive(Clone, Debug)]
enum Step {
    Want,
    GiveUp(u64),
    Raise(u64),
    Lower,
    Revoke,
    CheckIn(bool),
    OfferFailed { one: bool, newest: bool },
    LogIn { newest: bool, right: bool },
    LogInStock,
    RevokeStock,
    LinkUp(u64),
    LinkDown(u64),
    AskClose(u64),
    StreamEnded(u64),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Want),
        2 => (0..4u64).prop_map(Step::GiveUp),
        1 => (0..120u64).prop_map(Step::Raise),
        1 => Just(Step::Lower),
        1 => Just(Step::Revoke),
        6 => any::<bool>().prop_map(Step::CheckIn),
        2 => any::<(bool, bool)>().prop_map(|(one, newest)| Step::OfferFailed { one, newest }),
        6 => (any::<bool>(), prop::bool::weighted(0.8)).prop_map(|(newest, right)| Step::LogIn { newest, right }),
        2 => Just(Step::LogInStock),
        1 => Just(Step::RevokeStock),
        6 => (0..3u64).prop_map(Step::LinkUp),
        2 => (0..3u64).prop_map(Step::LinkDown),
        3 => (0..3u64).prop_map(Step::AskClose),
        4 => (0..3u64).prop_map(Step::StreamEnded),
        3 => (0..40u64).prop_map(Step::Pass),
    ]
}

/// What an outsider knows of the tunnel, from its commands alone.
#[derive(Default)]
struct Outside {
    waiting: BTreeSet<WaiterId>,
    answered: HashSet<WaiterId>,
    /// Links that were admitted and neither closed nor gone.
    up: BTreeSet<LinkId>,
    used: HashSet<OfferId>,
    offers: Vec<Offer>,
    next_waiter: u64,
    next_link: u64,
}

impl Outside {
    fn see(&mut self, commands: &[Command], closing: &mut bool) {
        for command in commands {
            match command {
                Command::Grant { waiter, link } => {
                    assert!(self.waiting.remove(waiter) && self.answered.insert(*waiter), "answered once");
                    assert!(self.up.contains(link) && !*closing, "only an open link lets through");
                }
                Command::Deny { waiter, .. } => {
                    assert!(self.waiting.remove(waiter) && self.answered.insert(*waiter), "answered once");
                }
                Command::Admit { link } => {
                    assert!(self.up.is_empty(), "at most one link");
                    self.up.insert(*link);
                    *closing = false;
                }
                Command::Close { link, .. } => {
                    assert!(self.up.remove(link), "closed once");
                    *closing = false;
                }
                Command::Tell { link, message } => {
                    assert!(self.up.contains(link));
                    if *message == ToAgent::CloseGranted {
                        assert!(!*closing && self.waiting.is_empty());
                        *closing = true;
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_events_keeps_the_rules(steps in prop::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new();
        let mut outside = Outside::default();
        let mut closing = false;
        for step in steps {
            // Links and waiters are named by how long ago they were made: mostly live ones, some stale.
            let link = |age: u64, outside: &Outside| LinkId(outside.next_link.saturating_sub(age));
            let commands = match step {
                Step::Want => {
                    outside.next_waiter += 1;
                    outside.waiting.insert(WaiterId(outside.next_waiter));
                    bench.want(outside.next_waiter)
                }
                Step::GiveUp(age) => {
                    let waiter = WaiterId(outside.next_waiter.saturating_sub(age));
                    outside.waiting.remove(&waiter);
                    bench.handle(Event::GiveUp { waiter })
                }
                Step::Raise(seconds) => {
                    bench.handle(Event::Raise { until: bench.now.instant + Duration::from_secs(seconds) })
                }
                Step::Lower => bench.handle(Event::Lower),
                Step::Revoke => bench.handle(Event::Revoke),
                Step::CheckIn(one) => {
                    if bench.tunnel.wants_an_offer() {
                        let offer = bench.offer(if one { ONE } else { TWO });
                        outside.offers.push(offer);
                    }
                    Vec::new()
                }
                Step::OfferFailed { one, newest } => {
                    let offer = if newest { outside.offers.last() } else { outside.offers.first() };
                    let Some(offer) = offer.map(|offer| offer.id) else { continue };
                    let commands = bench.handle(failed(if one { ONE } else { TWO }, offer, "x"));
                    let last = outside.offers.last().map(|last| last.id);
                    prop_assert!(commands.is_empty() || Some(offer) == last, "a stale report closes nothing");
                    commands
                }
                Step::LogIn { newest, right } => {
                    let offer = if newest { outside.offers.last() } else { outside.offers.first() };
                    let Some(mut offer) = offer.cloned() else { continue };
                    if !right {
                        offer.password = "guess".into();
                    }
                    outside.next_link += 1;
                    let commands = bench.log_in(&offer, outside.next_link);
                    if !commands.is_empty() {
                        prop_assert!(right && outside.used.insert(offer.id), "each offer lets in once");
                        prop_assert_eq!(Some(offer.id), outside.offers.last().map(|last| last.id));
                    }
                    commands
                }
                Step::LogInStock => {
                    outside.next_link += 1;
                    bench.log_in_stock(outside.next_link)
                }
                Step::RevokeStock => bench.handle(Event::RevokeStock),
                Step::LinkUp(age) => {
                    let link = link(age, &outside);
                    bench.handle(Event::LinkUp { link })
                }
                Step::LinkDown(age) => {
                    let link = link(age, &outside);
                    if outside.up.remove(&link) {
                        closing = false;
                    }
                    bench.handle(down(link.0))
                }
                Step::AskClose(age) => {
                    let link = link(age, &outside);
                    bench.handle(Event::AskClose { link })
                }
                Step::StreamEnded(age) => {
                    let link = link(age, &outside);
                    bench.handle(Event::StreamEnded { link })
                }
                Step::Pass(seconds) => bench.pass(Duration::from_secs(seconds)),
            };
            outside.see(&commands, &mut closing);
            let tunnel = &bench.tunnel;
            prop_assert_eq!(tunnel.link(), outside.up.first().copied(), "the one link is the one that is up");
            prop_assert_eq!(&outside.waiting.iter().copied().collect::<Vec<_>>(),
                &tunnel.waiters.keys().copied().collect::<Vec<_>>(), "nobody is forgotten");
            let flag = matches!(tunnel.phase(), Phase::Wanted);
            prop_assert!(!flag || tunnel.is_wanted(), "the flag is up for somebody");
            prop_assert!(tunnel.phase() != Phase::Idle || !tunnel.is_wanted(), "who wants it has the flag up");
            prop_assert!(tunnel.phase() != Phase::Open || tunnel.waiters.is_empty(), "an open tunnel lets through");
        }
        // Left alone, it comes to rest: everybody is answered, nothing is offered, nothing is due.
        for _ in 0..4 {
            let commands = bench.pass(Duration::from_secs(200));
            outside.see(&commands, &mut closing);
        }
        prop_assert!(outside.waiting.is_empty());
        prop_assert!(matches!(bench.tunnel.phase(), Phase::Idle | Phase::Open));
    }
}
