//! The registry as the driver sees it: events in, commands out, commits in between.

use std::net::{IpAddr, Ipv4Addr};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use shared::id::{EdgeId, EdgeKey, InstanceId};
use shared::wire::admin;
use shared::wire::check_in::{Authorization, CheckIn, FailedOffer, Hello, Service, ServiceKind, TunnelState};

use super::*;
use crate::domain::edge::Change;
use crate::domain::event;
use crate::domain::refusal::{OpenError, StoreError};
use crate::domain::tunnel::{Offer, digest};

struct Bench {
    registry: Registry,
    now: Now,
    rng: StdRng,
    next: u64,
    /// What the store was asked to commit and has not done yet.
    commits: VecDeque<(Ticket, Vec<Change>)>,
    check_ins: Vec<(Token, Result<Decision, CheckInRefusal>)>,
    changes: Vec<(Token, Result<(), AdminError>)>,
    /// How the instances stood whose check-ins were accepted.
    stands: Vec<Stands>,
    others: Vec<Command>,
    events: Vec<event::Event>,
}

mod enrolment;
mod news;
mod standing;

impl Bench {
    fn new() -> Self {
        let now = Now { instant: Instant::now(), wall: Timestamp(1_000_000) };
        Self {
            registry: Registry::new(Records::default(), now),
            now,
            rng: StdRng::seed_from_u64(7),
            next: 0,
            commits: VecDeque::new(),
            check_ins: Vec::new(),
            changes: Vec::new(),
            stands: Vec::new(),
            others: Vec::new(),
            events: Vec::new(),
        }
    }

    fn handle(&mut self, event: Event) {
        let mut out = Vec::new();
        self.registry.handle(event, self.now, &mut self.rng, &mut out);
        for command in out {
            match command {
                Command::Commit { ticket, batch } => self.commits.push_back((ticket, batch)),
                Command::CheckIn { token, answer } => {
                    let decide = |Accepted { decision, stands }| {
                        self.stands.push(stands);
                        decision
                    };
                    self.check_ins.push((token, answer.map(decide)));
                }
                Command::Change { token, answer } => self.changes.push((token, answer)),
                Command::Publish(event) => self.events.push(event),
                other => self.others.push(other),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.wall.0 += time.as_millis() as u64;
        self.handle(Event::Tick);
    }

    fn token(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }

    fn commit(&mut self, result: Result<(), StoreError>) {
        let (ticket, _) = self.commits.pop_front().expect("a commit is under way");
        self.handle(Event::Committed { ticket, result });
    }

    fn change(&mut self, request: Request) -> Token {
        let token = self.token();
        self.handle(Event::Change { token, condition: Condition::None, request });
        token
    }

    fn create(&mut self, text: &str) -> EdgeKey {
        let key = EdgeKey::from_bytes([self.next as u8 + 1; 32]);
        let new = admin::CreateEdge {
            name: name(text),
            cluster: false,
            interval_s: None,
            idle_timeout_s: None,
            tags: vec![],
        };
        self.change(Request::Create { new, endpoint: EndpointId::random(), key: key.digest() });
        self.commit(Ok(()));
        assert!(self.changes.pop().expect("answered").1.is_ok());
        key
    }

    fn send(&mut self, agent: &Agent, body: CheckIn) -> Token {
        let token = self.token();
        let who = agent.identity();
        let origin = Origin { address: IpAddr::V4(Ipv4Addr::LOCALHOST), ssh: "gate:8000".into() };
        self.handle(Event::CheckIn { token, who, body, origin });
        token
    }

    fn answer(&mut self, token: Token) -> Option<Result<Decision, CheckInRefusal>> {
        let position = self.check_ins.iter().position(|(of, _)| *of == token)?;
        Some(self.check_ins.remove(position).1)
    }

    /// A check-in that is answered at once.
    fn check_in(&mut self, agent: &Agent, body: CheckIn) -> Result<Decision, CheckInRefusal> {
        let token = self.send(agent, body);
        self.answer(token).expect("answered at once")
    }

    fn joined(&mut self, text: &str) -> Agent {
        let agent = Agent::new(self.create(text));
        let token = self.send(&agent, agent.hello());
        self.commit(Ok(()));
        assert!(matches!(self.answer(token), Some(Ok(Decision::NotNeeded { .. }))));
        agent
    }

    fn want(&mut self, edge: &str, service: &str) -> WaiterId {
        self.next += 1;
        let waiter = WaiterId(self.next);
        let service = Some(service.parse().expect("a label"));
        self.handle(Event::Want { waiter, edge: name(edge), service });
        waiter
    }

    fn log_in(&mut self, offer: &Offer) -> Option<Admitted> {
        let token = self.token();
        let (username, password) = (offer.username.clone(), digest(&offer.password));
        self.handle(Event::LogIn { token, username, password });
        match self.others.pop() {
            Some(Command::LogIn { token: of, answer }) if of == token => answer,
            other => panic!("a login is answered at once, not with {other:?}"),
        }
    }

    /// A joined agent's tunnel, open, with one waiter let through.
    fn open(&mut self, edge: &str, agent: &Agent) -> LinkId {
        let waiter = self.want(edge, "web");
        let Ok(Decision::Needed { offer, .. }) = self.check_in(agent, CheckIn::default()) else {
            panic!("it is needed")
        };
        let admitted = self.log_in(&offer).expect("the offer is good");
        let link = admitted.link;
        self.handle(Event::LinkUp { link, services: admitted.services });
        assert!(self.take(|command| matches!(command, Command::Grant { waiter: of, .. } if *of == waiter)));
        link
    }

    fn offer_once(&mut self, edge: &str, services: &[&str]) -> Offer {
        self.next += 1;
        let offer = Offer {
            id: shared::id::OfferId::random(),
            username: format!("user-{}", self.next),
            password: format!("password-{}", self.next).as_str().into(),
        };
        let terms = Terms::once(labels(services), None).expect("good terms");
        let one_time = terms.one_time(offer.username.clone(), digest(&offer.password), self.now);
        self.registry.offer_once(&name(edge), one_time).expect("the edge is there");
        offer
    }

    /// Asks for a key to be allowed; its commit is under way then.
    fn allow_key(&mut self, edge: &str, seed: u8, services: &[&str]) -> HostKeyFingerprint {
        let fingerprint = HostKeyFingerprint::from_bytes([seed; 32]);
        let key = Terms::renewing(labels(services), None).expect("good terms").key(fingerprint, self.now);
        self.change(Request::AllowKey { edge: name(edge), key });
        fingerprint
    }

    fn log_in_by_key(&mut self, key: HostKeyFingerprint) -> Option<Admitted> {
        let token = self.token();
        self.handle(Event::LogInByKey { token, key });
        match self.others.pop() {
            Some(Command::LogIn { token: of, answer }) if of == token => answer,
            other => panic!("a login is answered at once, not with {other:?}"),
        }
    }

    fn take(&mut self, which: impl Fn(&Command) -> bool) -> bool {
        let before = self.others.len();
        self.others.retain(|command| !which(command));
        self.others.len() < before
    }

    fn denied(&mut self, waiter: WaiterId) -> OpenError {
        let position = self
            .others
            .iter()
            .position(|command| matches!(command, Command::Deny { waiter: of, .. } if *of == waiter))
            .expect("denied");
        match self.others.remove(position) {
            Command::Deny { error, .. } => error,
            other => panic!("looked for a denial, found {other:?}"),
        }
    }
}

#[derive(Clone)]
struct Agent {
    edge_id: EdgeId,
    key: EdgeKey,
    instance: InstanceId,
}

impl Agent {
    fn new(key: EdgeKey) -> Self {
        Self { edge_id: EdgeId::random(), key, instance: InstanceId::random() }
    }

    fn identity(&self) -> Identity {
        let authorization = Authorization { edge_id: self.edge_id, key: self.key.clone() };
        Identity { authorization, instance: self.instance }
    }

    fn hello(&self) -> CheckIn {
        let service = Service {
            name: "web".parse().expect("a label"),
            kind: ServiceKind::Http,
            target: "http://x".into(),
        };
        let hello = Hello {
            agent: "0.1.0".into(),
            protocol: 1,
            hostname: "till".into(),
            services: vec![service],
            tunnel: TunnelState::Closed,
        };
        CheckIn { hello: Some(hello), failed: None }
    }
}

fn name(text: &str) -> EdgeName {
    text.parse().expect("a label")
}

fn full() -> Result<(), StoreError> {
    Err(StoreError::Full)
}

#[test]
fn first_of_many_racing_agents_is_bound_and_the_others_are_refused_after_its_commit() {
    let mut bench = Bench::new();
    let key = bench.create("shop");
    let agents: Vec<_> = (0..100).map(|_| Agent::new(key.clone())).collect();
    let tokens: Vec<_> = agents.iter().map(|agent| bench.send(agent, agent.hello())).collect();
    assert!(bench.check_ins.is_empty(), "nobody is answered before the binding is durable");
    assert_eq!(bench.commits.len(), 1);
    bench.commit(Ok(()));
    for (number, token) in tokens.into_iter().enumerate() {
        let answer = bench.answer(token).expect("answered");
        match number {
            0 => assert!(matches!(answer, Ok(Decision::NotNeeded { .. }))),
            _ => assert!(matches!(answer, Err(CheckInRefusal::BoundToAnother)), "agent {number}"),
        }
    }
}

#[test]
fn binding_that_could_not_be_stored_binds_nobody_and_the_next_may_try() {
    let mut bench = Bench::new();
    let key = bench.create("shop");
    let (first, second) = (Agent::new(key.clone()), Agent::new(key));
    let one = bench.send(&first, first.hello());
    let two = bench.send(&second, second.hello());
    bench.commit(full());
    assert!(matches!(bench.answer(one), Some(Err(CheckInRefusal::Store(StoreError::Full)))));
    bench.commit(Ok(()));
    assert!(matches!(bench.answer(two), Some(Ok(_))));
    assert!(matches!(bench.check_in(&first, CheckIn::default()), Err(CheckInRefusal::BoundToAnother)));
}

#[test]
fn too_many_waiting_for_one_binding_are_told_to_come_again() {
    let mut bench = Bench::new();
    let key = bench.create("shop");
    let tokens: Vec<_> = (0..MAX_PARKED + 1)
        .map(|_| {
            let agent = Agent::new(key.clone());
            bench.send(&agent, agent.hello())
        })
        .collect();
    let last = *tokens.last().expect("many");
    assert!(matches!(bench.answer(last), Some(Err(CheckInRefusal::Busy { .. }))));
}

#[test]
fn unknown_keys_other_protocols_and_second_instances_are_refused() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let stranger = Agent::new(EdgeKey::from_bytes([99; 32]));
    assert!(matches!(bench.check_in(&stranger, CheckIn::default()), Err(CheckInRefusal::UnknownKey)));
    let mut newer = agent.hello();
    newer.hello.as_mut().expect("a hello").protocol = 2;
    let refused = bench.check_in(&agent, newer);
    assert!(matches!(refused, Err(CheckInRefusal::Protocol { supported: 1, offered: 2 })));
    let twin = Agent { edge_id: agent.edge_id, key: agent.key.clone(), instance: InstanceId::random() };
    let refused = bench.check_in(&twin, twin.hello());
    assert!(matches!(refused, Err(CheckInRefusal::SecondInstance { hostname }) if hostname == "till"));
    bench.pass(Duration::from_secs(16));
    assert!(bench.check_in(&twin, twin.hello()).is_ok(), "the first fell silent");
}

#[test]
fn protocol_that_is_not_ours_takes_no_free_key() {
    let mut bench = Bench::new();
    let agent = Agent::new(bench.create("shop"));
    let mut newer = agent.hello();
    newer.hello.as_mut().expect("a hello").protocol = 2;
    assert!(matches!(bench.check_in(&agent, newer), Err(CheckInRefusal::Protocol { .. })));
    assert!(bench.commits.is_empty());
}

#[test]
fn answer_is_short_while_nothing_changes() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    assert!(matches!(bench.check_in(&agent, CheckIn::default()), Ok(Decision::Unchanged)));
    assert!(
        matches!(bench.check_in(&agent, agent.hello()), Ok(Decision::NotNeeded { .. })),
        "a new connection"
    );
    bench
        .change(Request::Settings { change: admin::Settings { interval_s: Some(30), ..Default::default() } });
    assert!(matches!(bench.check_in(&agent, CheckIn::default()), Ok(Decision::Unchanged)), "not stored yet");
    bench.commit(Ok(()));
    let answer = bench.check_in(&agent, CheckIn::default());
    assert!(
        matches!(answer, Ok(Decision::NotNeeded { interval, .. }) if interval == Duration::from_secs(30))
    );
    assert!(matches!(bench.check_in(&agent, CheckIn::default()), Ok(Decision::Unchanged)));
}

#[test]
fn agent_that_the_gateway_forgot_is_asked_for_its_hello_before_it_gets_an_offer() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let records = Records {
        edges: vec![bench.registry.edge(&name("shop")).expect("there").record.clone()],
        ..Records::default()
    };
    bench.registry = Registry::new(records, bench.now);
    bench.want("shop", "web");
    let answer = bench.check_in(&agent, CheckIn::default());
    assert!(matches!(answer, Ok(Decision::NotNeeded { hello_wanted: true, .. })));
    assert!(matches!(bench.check_in(&agent, agent.hello()), Ok(Decision::Needed { .. })));
}

#[test]
fn request_waits_for_the_tunnel_and_goes_through_it() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let link = bench.open("shop", &agent);
    let edge = bench.registry.edge(&name("shop")).expect("there");
    assert_eq!(edge.tunnel.link(), Some(link));
    assert_eq!(view_status(&bench), admin::EdgeStatus::TunnelOpen);
    bench.handle(Event::StreamEnded { link });
    bench.handle(Event::AskClose { link });
    assert!(bench.take(|command| matches!(command, Command::Tell { message: ToAgent::CloseGranted, .. })));
    bench.handle(Event::LinkDown { link, reason: "idle".into() });
    assert_eq!(view_status(&bench), admin::EdgeStatus::Online);
}

fn view_status(bench: &Bench) -> admin::EdgeStatus {
    let edge = bench.registry.edge(&name("shop")).expect("there");
    crate::domain::view::edge(&bench.registry, edge, bench.now).status
}

#[test]
fn unknown_service_is_refused_without_waking_the_edge() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let waiter = bench.want("shop", "db");
    let error = bench.denied(waiter);
    assert!(matches!(error, OpenError::NoSuchService { available, .. } if available == "web"));
    assert!(
        matches!(bench.check_in(&agent, CheckIn::default()), Ok(Decision::Unchanged)),
        "the flag is down"
    );
    let waiter = bench.want("nowhere", "web");
    assert!(matches!(bench.denied(waiter), OpenError::NoSuchEdge(_)));
}

#[test]
fn who_waited_in_vain_learns_why() {
    let mut bench = Bench::new();
    let reason = |bench: &mut Bench| {
        let waiter = bench.want("shop", "web");
        bench.pass(Duration::from_secs(20));
        match bench.denied(waiter) {
            OpenError::NoTunnel { waited_s: 20, reason, .. } => reason,
            other => panic!("{other}"),
        }
    };
    let agent = Agent::new(bench.create("shop"));
    assert!(reason(&mut bench).contains("no agent has ever joined"));
    bench.send(&agent, agent.hello());
    bench.commit(Ok(()));
    bench.pass(Duration::from_secs(60));
    assert_eq!(reason(&mut bench), "its agent was last seen at 1970-01-01T00:17:00Z");
    let waiter = bench.want("shop", "web");
    let Ok(Decision::Needed { offer, .. }) = bench.check_in(&agent, CheckIn::default()) else {
        panic!("needed")
    };
    let failed = Some(FailedOffer { offer: offer.id, reason: "its host key is not pinned".into() });
    let answer = bench.check_in(&agent, CheckIn { hello: None, failed });
    assert!(matches!(answer, Ok(Decision::Needed { offer: next, .. }) if next.id != offer.id));
    bench.pass(Duration::from_secs(20));
    let OpenError::NoTunnel { reason, .. } = bench.denied(waiter) else { panic!("no tunnel") };
    assert!(reason.contains("its host key is not pinned"), "{reason}");
}

#[test]
fn check_in_that_reports_a_lost_tunnel_brings_the_next_offer_in_its_answer() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let waiter = bench.want("shop", "web");
    let Ok(Decision::Needed { offer, .. }) = bench.check_in(&agent, CheckIn::default()) else {
        panic!("it is wanted")
    };
    let link = bench.log_in(&offer).expect("the credentials are right").link;
    bench.handle(Event::LinkUp { link, services: labels(&["web"]) });
    assert!(bench.take(|command| matches!(command, Command::Grant { waiter: of, .. } if *of == waiter)));
    let report = || {
        let failed = Some(FailedOffer { offer: offer.id, reason: "its address changed".into() });
        CheckIn { hello: None, failed }
    };
    let Ok(Decision::Needed { offer: next, .. }) = bench.check_in(&agent, report()) else {
        panic!("a stream was cut off")
    };
    assert!(bench.take(|command| matches!(command, Command::Close { link: of, .. } if *of == link)));
    assert_ne!(next.id, offer.id);
    let new = bench.log_in(&next).expect("the credentials are right").link;
    bench.handle(Event::LinkUp { link: new, services: labels(&["web"]) });
    bench.handle(Event::LinkDown { link, reason: "severed".into() });
    assert!(matches!(bench.check_in(&agent, report()), Ok(Decision::NotNeeded { .. } | Decision::Unchanged)));
    assert_eq!(bench.registry.edge(&name("shop")).expect("there").tunnel.link(), Some(new), "it was stale");
}

#[test]
fn whoever_has_to_wait_can_be_told_for_what_and_how_long() {
    let mut bench = Bench::new();
    bench.create("depot");
    let agent = bench.joined("shop");
    let outlook = |bench: &Bench, edge: &str| bench.registry.outlook(&name(edge), bench.now);
    assert_eq!(outlook(&bench, "nowhere"), None);
    let never = "waiting for depot to check in, which has never joined, up to 20 s";
    assert_eq!(outlook(&bench, "depot").as_deref(), Some(never));
    assert_eq!(outlook(&bench, "shop").as_deref(), Some("waiting for shop to check in, up to 20 s"));
    bench.want("shop", "web");
    let Ok(Decision::Needed { offer, .. }) = bench.check_in(&agent, CheckIn::default()) else {
        panic!("it is wanted")
    };
    assert_eq!(outlook(&bench, "shop").as_deref(), Some("waiting for shop to connect, up to 20 s"));
    let link = bench.log_in(&offer).expect("the credentials are right").link;
    bench.handle(Event::LinkUp { link, services: labels(&["web"]) });
    assert_eq!(outlook(&bench, "shop"), None);
    bench.handle(Event::LinkDown { link, reason: "gone".into() });
    bench.pass(Duration::from_secs(600));
    let away = outlook(&bench, "shop").expect("it has no tunnel");
    assert!(away.contains("last seen at 1970-01-01T00:16:40Z"), "{away}");
}

#[test]
fn deleted_edge_is_gone_from_everywhere_and_its_name_is_free() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let link = bench.open("shop", &agent);
    let token = bench.change(Request::Delete { edge: name("shop") });
    assert!(bench.take(|command| matches!(command, Command::Close { link: of, .. } if *of == link)));
    let parked = bench.send(&agent, CheckIn::default());
    assert!(bench.check_ins.is_empty() && bench.changes.is_empty(), "not durable yet");
    bench.commit(Ok(()));
    assert!(matches!(bench.changes.pop(), Some((of, Ok(()))) if of == token));
    assert!(matches!(bench.answer(parked), Some(Err(CheckInRefusal::UnknownKey))));
    bench.handle(Event::LinkDown { link, reason: "revoked".into() });
    let registry = &bench.registry;
    assert!(registry.edges.is_empty() && registry.by_name.is_empty() && registry.by_key.is_empty());
    assert!(registry.by_username.is_empty() && registry.by_link.is_empty() && registry.deadlines.is_empty());
    bench.create("shop");
}

#[test]
fn deletion_that_could_not_be_stored_leaves_the_edge() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    bench.change(Request::Delete { edge: name("shop") });
    bench.commit(full());
    assert!(matches!(bench.changes.pop(), Some((_, Err(AdminError::Store(StoreError::Full))))));
    assert!(bench.check_in(&agent, CheckIn::default()).is_ok());
}

#[test]
fn dissociated_key_can_be_claimed_anew_by_another_and_not_used_by_the_first() {
    let mut bench = Bench::new();
    let first = bench.joined("shop");
    let link = bench.open("shop", &first);
    bench.change(Request::Dissociate { edge: name("shop") });
    assert!(bench.take(|command| matches!(command, Command::Close { link: of, .. } if *of == link)));
    bench.commit(Ok(()));
    let second = Agent::new(first.key.clone());
    let token = bench.send(&second, second.hello());
    bench.commit(Ok(()));
    assert!(matches!(bench.answer(token), Some(Ok(_))));
    assert!(matches!(bench.check_in(&first, CheckIn::default()), Err(CheckInRefusal::BoundToAnother)));
}

#[test]
fn rotated_key_is_dead_once_it_is_stored_and_the_new_one_can_be_claimed() {
    let mut bench = Bench::new();
    let first = bench.joined("shop");
    let link = bench.open("shop", &first);
    let key = EdgeKey::from_bytes([99; 32]);
    bench.change(Request::Rotate { edge: name("shop"), key: key.digest() });
    assert!(bench.take(|command| matches!(command, Command::Close { link: of, .. } if *of == link)));
    let parked = bench.send(&first, first.hello());
    bench.commit(Ok(()));
    assert!(matches!(bench.changes.pop(), Some((_, Ok(())))));
    assert!(bench.answer(parked).is_some(), "who asked meanwhile is answered");
    assert!(matches!(bench.check_in(&first, CheckIn::default()), Err(CheckInRefusal::UnknownKey)));
    let second = Agent::new(key);
    let token = bench.send(&second, second.hello());
    bench.commit(Ok(()));
    assert!(matches!(bench.answer(token), Some(Ok(_))));
    assert_eq!(bench.registry.by_key.len(), 1, "nothing is left of the old key");
}

#[test]
fn rotation_that_could_not_be_stored_leaves_the_old_key_in_force() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    bench.change(Request::Rotate { edge: name("shop"), key: KeyDigest([99; 32]) });
    bench.commit(full());
    assert!(matches!(bench.changes.pop(), Some((_, Err(AdminError::Store(StoreError::Full))))));
    assert!(bench.check_in(&agent, CheckIn::default()).is_ok());
}

#[test]
fn name_belongs_to_one_edge_also_while_its_creation_is_being_stored() {
    let mut bench = Bench::new();
    bench.create("shop");
    let request = |key: u8, text: &str| Request::Create {
        new: admin::CreateEdge {
            name: name(text),
            cluster: false,
            interval_s: None,
            idle_timeout_s: None,
            tags: vec![],
        },
        endpoint: EndpointId::random(),
        key: KeyDigest([key; 32]),
    };
    bench.change(request(50, "shop"));
    assert!(matches!(bench.changes.pop(), Some((_, Err(AdminError::NameTaken(_))))));
    bench.change(request(51, "depot"));
    bench.change(request(52, "depot"));
    assert!(matches!(bench.changes.pop(), Some((_, Err(AdminError::NameTaken(_))))));
    bench.commit(full());
    bench.changes.clear();
    bench.change(request(53, "depot"));
    bench.commit(Ok(()));
    assert!(matches!(bench.changes.pop(), Some((_, Ok(())))), "a failed creation frees its name");
    let rename = admin::ChangeEdge { name: Some(name("shop")), ..Default::default() };
    bench.change(Request::Update { edge: name("depot"), change: rename });
    assert!(matches!(bench.changes.pop(), Some((_, Err(AdminError::NameTaken(_))))));
}

#[test]
fn creation_that_failed_leaves_nothing_under_its_name_when_the_name_is_taken_again() {
    let mut bench = Bench::new();
    let ghost = EndpointId::random();
    let request = |endpoint| Request::Create {
        new: admin::CreateEdge {
            name: name("shop"),
            cluster: false,
            interval_s: None,
            idle_timeout_s: None,
            tags: vec![],
        },
        endpoint,
        key: KeyDigest([1; 32]),
    };
    bench.change(request(ghost));
    bench.commit(full());
    bench.change(request(EndpointId::random()));
    let (_, batch) = bench.commits.front().expect("under way");
    assert!(matches!(batch[..], [Change::DeleteEdge(gone), Change::PutEdge(_)] if gone == ghost));
    bench.commit(Ok(()));
    assert!(bench.registry.ghosts.is_empty());
}

#[test]
fn renamed_edge_keeps_its_agent_and_its_tunnel() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let link = bench.open("shop", &agent);
    let change = admin::ChangeEdge { name: Some(name("store")), ..Default::default() };
    bench.change(Request::Update { edge: name("shop"), change });
    bench.commit(Ok(()));
    assert!(bench.registry.edge(&name("shop")).is_err());
    assert_eq!(bench.registry.edge(&name("store")).expect("renamed").tunnel.link(), Some(link));
    assert!(bench.check_in(&agent, CheckIn::default()).is_ok());
}

#[test]
fn changes_of_one_edge_happen_one_after_the_other() {
    let mut bench = Bench::new();
    bench.create("shop");
    let tagged = |tag: &str| Request::Update {
        edge: name("shop"),
        change: admin::ChangeEdge { tags: Some(vec![tag.to_owned()]), ..Default::default() },
    };
    bench.change(tagged("one"));
    bench.change(tagged("two"));
    assert_eq!(bench.commits.len(), 1);
    bench.commit(Ok(()));
    bench.commit(Ok(()));
    assert_eq!(bench.registry.edge(&name("shop")).expect("there").record.tags, ["two"]);
    assert_eq!(bench.changes.len(), 2);
}

#[test]
fn values_out_of_bounds_are_refused_with_their_name() {
    let mut bench = Bench::new();
    bench.create("shop");
    for (change, field) in [
        (admin::ChangeEdge { interval_s: Some(Some(0)), ..Default::default() }, "interval_s"),
        (admin::ChangeEdge { idle_timeout_s: Some(Some(9)), ..Default::default() }, "idle_timeout_s"),
        (admin::ChangeEdge { tags: Some(vec!["a,b".into()]), ..Default::default() }, "tags"),
    ] {
        bench.change(Request::Update { edge: name("shop"), change });
        let answer = bench.changes.pop().expect("answered").1;
        assert!(matches!(&answer, Err(AdminError::Invalid(text)) if text.contains(field)), "{answer:?}");
    }
    let change = admin::Settings { hold_s: Some(56), ..Default::default() };
    bench.change(Request::Settings { change });
    assert!(
        matches!(bench.changes.pop(), Some((_, Err(AdminError::Invalid(text)))) if text.contains("hold_s"))
    );
    assert!(bench.commits.is_empty());
}

#[test]
fn drain_turns_away_who_waits_and_who_comes() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let waiting = bench.want("shop", "web");
    bench.handle(Event::Drain);
    assert!(matches!(bench.denied(waiting), OpenError::Refused { .. }));
    let late = bench.want("shop", "web");
    assert!(matches!(bench.denied(late), OpenError::Refused { .. }));
    let answer = bench.check_in(&agent, CheckIn::default());
    assert!(!matches!(answer, Ok(Decision::Needed { .. })), "no new tunnels");
}

#[test]
fn tick_touches_only_edges_that_are_due() {
    let mut bench = Bench::new();
    for number in 0..50 {
        bench.create(&format!("shop-{number}"));
    }
    assert_eq!(bench.registry.deadline(), None);
    bench.want("shop-7", "web");
    assert_eq!(bench.registry.deadlines.len(), 1);
    assert_eq!(bench.registry.deadline(), Some(bench.now.instant + Duration::from_secs(20)));
    bench.pass(Duration::from_secs(20));
    assert_eq!(bench.registry.deadline(), None);
}

fn labels(texts: &[&str]) -> Vec<ServiceName> {
    texts.iter().map(|text| text.parse().expect("a label")).collect()
}

#[test]
fn one_time_credentials_of_a_stock_client_let_in_once_and_only_what_they_name() {
    let mut bench = Bench::new();
    bench.create("kiosk");
    let offer = bench.offer_once("kiosk", &["web", "db"]);
    let wrong = Offer { password: "guess".into(), ..offer.clone() };
    assert!(bench.log_in(&wrong).is_none());
    let admitted = bench.log_in(&offer).expect("they are good");
    assert_eq!(admitted.services, labels(&["web", "db"]));
    assert!(bench.log_in(&offer).is_none(), "while the tunnel is there");
    let link = admitted.link;
    bench.handle(Event::LinkUp { link, services: labels(&["web"]) });
    let edge = bench.registry.edge(&name("kiosk")).expect("it is there");
    assert_eq!(edge.stock_services(), Some(&labels(&["web"])[..]));
    assert_eq!(edge.last_seen(bench.now), Some(bench.now.wall));
    let waiter = bench.want("kiosk", "db");
    assert!(matches!(bench.denied(waiter), OpenError::NoSuchService { available, .. } if available == "web"));
    bench.handle(Event::LinkDown { link, reason: "cut".into() });
    assert!(bench.log_in(&offer).is_none(), "and afterwards");
    assert_eq!(bench.registry.edge(&name("kiosk")).expect("it is there").stock_services(), None);
}

#[test]
fn one_time_credentials_die_by_expiry_replacement_and_revocation() {
    let mut bench = Bench::new();
    bench.create("kiosk");
    let expired = bench.offer_once("kiosk", &["web"]);
    bench.pass(Duration::from_secs(600));
    assert!(bench.log_in(&expired).is_none());
    let replaced = bench.offer_once("kiosk", &["web"]);
    let revoked = bench.offer_once("kiosk", &["web"]);
    assert!(bench.log_in(&replaced).is_none());
    bench.change(Request::RevokeStock { edge: name("kiosk") });
    assert!(bench.log_in(&revoked).is_none(), "at once, not only when it is stored");
    bench.commit(Ok(()));
    for end in [Request::Dissociate { edge: name("kiosk") }, Request::Delete { edge: name("kiosk") }] {
        let offer = bench.offer_once("kiosk", &["web"]);
        bench.change(end);
        assert!(bench.log_in(&offer).is_none());
        bench.commit(Ok(()));
        assert!(bench.log_in(&offer).is_none());
    }
    assert!(bench.registry.by_username.is_empty(), "nothing is left of any");
}

#[test]
fn key_lets_in_again_and_again_but_one_at_a_time_and_not_after_its_end() {
    let mut bench = Bench::new();
    bench.create("kiosk");
    let key = bench.allow_key("kiosk", 1, &["web"]);
    assert!(bench.log_in_by_key(key).is_none(), "not before it is stored");
    bench.commit(Ok(()));
    for _ in 0..3 {
        assert!(bench.registry.knows_key(&key, bench.now));
        let link = bench.log_in_by_key(key).expect("it is good").link;
        assert!(bench.log_in_by_key(key).is_none(), "there is a link");
        bench.handle(Event::LinkUp { link, services: labels(&["web"]) });
        assert!(bench.log_in_by_key(key).is_none(), "there is a link");
        bench.handle(Event::LinkDown { link, reason: "cut".into() });
    }
    let waiter = bench.want("kiosk", "web");
    bench.pass(Duration::from_secs(20));
    let told = bench.denied(waiter).to_string();
    assert!(told.contains("not connected; its key is good until 1970-01-31T"), "{told}");
    bench.pass(Duration::from_secs(31 * 86_400));
    assert!(!bench.registry.knows_key(&key, bench.now));
    assert!(bench.log_in_by_key(key).is_none());
}

#[test]
fn key_goes_with_its_replacement_its_revocation_its_binding_and_its_edge() {
    let mut bench = Bench::new();
    bench.create("kiosk");
    let first = bench.allow_key("kiosk", 1, &["web"]);
    bench.commit(Ok(()));
    let mut key = bench.allow_key("kiosk", 2, &["web"]);
    bench.commit(Ok(()));
    assert!(bench.log_in_by_key(first).is_none());
    for (seed, end) in [
        (3, Request::RevokeStock { edge: name("kiosk") }),
        (4, Request::Dissociate { edge: name("kiosk") }),
        (5, Request::Delete { edge: name("kiosk") }),
    ] {
        let link = bench.log_in_by_key(key).expect("it is good").link;
        bench.change(end);
        assert!(bench.take(|command| matches!(command, Command::Close { link: of, .. } if *of == link)));
        bench.handle(Event::LinkDown { link, reason: "closed".into() });
        assert!(bench.log_in_by_key(key).is_none(), "while that is being stored");
        bench.commit(Ok(()));
        assert!(bench.log_in_by_key(key).is_none());
        if seed < 5 {
            key = bench.allow_key("kiosk", seed, &["web"]);
            bench.commit(Ok(()));
        }
    }
    assert!(bench.registry.by_stock_key.is_empty(), "nothing is left of any");
}

#[test]
fn terms_of_a_stock_client_are_bounded() {
    for (services, valid) in [(vec![], None), (labels(&["a", "a"]), None), (labels(&["a"]), Some(59))] {
        assert!(matches!(Terms::once(services.clone(), valid), Err(AdminError::Invalid(_))), "{services:?}");
        assert!(matches!(Terms::renewing(services, valid), Err(AdminError::Invalid(_))));
    }
    assert!(Terms::once(labels(&["a"]), Some(86_401)).is_err());
    assert!(Terms::renewing(labels(&["a"]), Some(86_401)).is_ok());
    assert!(Terms::renewing(labels(&["a"]), Some(91 * 86_400)).is_err());
}
