//! The check-in decision: who is it, is the key theirs, are they needed.

use std::time::Duration;

use shared::id::{EdgeId, InstanceId, OfferId};
use shared::secret::Secret;
use shared::wire::check_in::{CheckIn, FailedOffer, Identity, PROTOCOL_VERSION};
use subtle::ConstantTimeEq as _;

use super::changes::Pending;
use super::presence::Noted;
use super::{Accepted, BUSY_RETRY_S, Command, Decision, Event, MAX_PARKED, Origin, Registry, Stands, Token};
use crate::domain::Now;
use crate::domain::edge::Change;
use crate::domain::refusal::CheckInRefusal;
use crate::domain::tunnel::{self, Offer};

/// A check-in.
pub(super) struct Question {
    pub(super) token: Token,
    pub(super) who: Identity,
    pub(super) body: CheckIn,
    pub(super) origin: Origin,
}

/// Edge IDs are secrets: how much of one was right must not show in the time that the answer takes.
pub(super) fn same_edge_id(one: &EdgeId, other: &EdgeId) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

impl Registry {
    pub(super) fn check_in(
        &mut self,
        question: Question,
        now: Now,
        rng: &mut impl rand::Rng,
        out: &mut Vec<Command>,
    ) {
        let token = question.token;
        let Some(endpoint) = self.by_key.get(&question.who.authorization.key.digest()).copied() else {
            out.push(Command::CheckIn { token, answer: Err(CheckInRefusal::UnknownKey) });
            return;
        };
        let edge = self.edges.get_mut(&endpoint).expect("the key index holds keys of edges that are there");
        if edge.busy.is_some() {
            if edge.parked.len() < MAX_PARKED {
                let Question { token, who, body, origin } = question;
                edge.parked.push_back(Event::CheckIn { token, who, body, origin });
            } else {
                let answer = Err(CheckInRefusal::Busy { retry_after_s: BUSY_RETRY_S });
                out.push(Command::CheckIn { token, answer });
            }
            return;
        }
        match edge.record.bound {
            Some(bound) if same_edge_id(&bound, &question.who.authorization.edge_id) => {
                let answer = self.answer(endpoint, question, now, rng, out);
                out.push(Command::CheckIn { token, answer });
            }
            Some(_) => {
                edge.instances.refuse_stranger(question.body.hello, question.origin.address, now);
                out.push(Command::CheckIn { token, answer: Err(CheckInRefusal::BoundToAnother) });
            }
            None => self.bind(endpoint, question, out),
        }
    }

    /// The key is free: the first edge ID that presents it claims it. The check-in itself is answered once that is
    /// durable, as are all that came meanwhile.
    fn bind(&mut self, endpoint: shared::id::EndpointId, question: Question, out: &mut Vec<Command>) {
        if let Err(refusal) = check_protocol(&question.body) {
            // An agent that we can't talk to must not take the key from one that we can.
            out.push(Command::CheckIn { token: question.token, answer: Err(refusal) });
            return;
        }
        let ticket = self.ticket();
        let edge = self.edges.get_mut(&endpoint).expect("the caller looked it up");
        let mut record = edge.record.clone();
        record.bound = Some(question.who.authorization.edge_id);
        edge.busy = Some(ticket);
        let Question { token, who, body, origin } = question;
        edge.parked.push_front(Event::CheckIn { token, who, body, origin });
        self.pending.insert(ticket, Pending::Bind { record: record.clone() });
        out.push(Command::Commit { ticket, batch: vec![Change::PutEdge(record)] });
    }

    fn answer(
        &mut self,
        endpoint: shared::id::EndpointId,
        question: Question,
        now: Now,
        rng: &mut impl rand::Rng,
        out: &mut Vec<Command>,
    ) -> Result<Accepted, CheckInRefusal> {
        check_protocol(&question.body)?;
        let CheckIn { hello, failed } = question.body;
        let instance = question.who.instance;
        let rule = self.rule(&self.edges[&endpoint]);
        let edge = self.edges.get_mut(&endpoint).expect("the caller looked it up");
        let refused_before = edge.instances.duplicate(rule, now).is_some();
        let known = match edge.instances.admit(instance, hello, question.origin.address, rule, now) {
            Ok(known) => known,
            Err(hostname) => {
                if !refused_before {
                    self.tell_duplicate(endpoint, now, out);
                }
                return Err(CheckInRefusal::SecondInstance { hostname });
            }
        };
        let told = known.told.replace(rule.interval);
        let hello_wanted = known.hello.is_none();
        edge.noted_seen = Some(Noted::at(now));
        let is_news = !edge.presence.is_online() || told != Some(rule.interval);
        self.seen.insert(endpoint, now.wall);
        if is_news {
            self.arrived(endpoint, instance, now, out);
        }
        if let Some(failed) = failed {
            let FailedOffer { offer, reason } = failed;
            let event = tunnel::Event::OfferFailed { instance, offer, reason };
            self.on_tunnel(endpoint, event, now, out);
        }
        self.offer(endpoint, instance, now, rng, out);
        let edge = &self.edges[&endpoint];
        let standing = &edge.instances.find(instance).expect("it was admitted").standing;
        let decision = if let Some((offer, expires_in)) = edge.tunnel.offer_of(instance, now) {
            let (interval, ssh) = (rule.interval, question.origin.ssh);
            Decision::Needed { interval, offer: offer.clone(), expires_in, ssh }
        } else if hello_wanted {
            Decision::NotNeeded { interval: rule.interval, hello_wanted }
        } else {
            // From now on the same question has the same answer, until something happens.
            standing.open();
            match told {
                Some(told) if told == rule.interval => Decision::Unchanged,
                Some(_) | None => Decision::NotNeeded { interval: rule.interval, hello_wanted },
            }
        };
        let hold = if self.draining { Duration::ZERO } else { self.settings.hold };
        Ok(Accepted { decision, stands: Stands { standing: standing.share(), hold } })
    }

    /// Makes an offer where one is wanted and this instance said what it has.
    fn offer(
        &mut self,
        endpoint: shared::id::EndpointId,
        instance: InstanceId,
        now: Now,
        rng: &mut impl rand::Rng,
        out: &mut Vec<Command>,
    ) {
        let edge = &self.edges[&endpoint];
        let said_hello = edge.instances.find(instance).is_some_and(|instance| instance.hello.is_some());
        if edge.tunnel.wants_an_offer() && said_hello && !self.draining {
            let event = tunnel::Event::Offer { instance, offer: fresh_offer(rng) };
            self.on_tunnel(endpoint, event, now, out);
        }
    }
}

fn check_protocol(body: &CheckIn) -> Result<(), CheckInRefusal> {
    match &body.hello {
        Some(hello) if hello.protocol != PROTOCOL_VERSION => {
            Err(CheckInRefusal::Protocol { supported: PROTOCOL_VERSION, offered: hello.protocol })
        }
        Some(_) | None => Ok(()),
    }
}

fn fresh_offer(rng: &mut impl rand::Rng) -> Offer {
    let mut id = [0; 16];
    rng.fill_bytes(&mut id);
    let (username, password) = fresh_login(rng);
    Offer {
        id: OfferId::from_bytes(uuid::Builder::from_random_bytes(id).into_uuid().into_bytes()),
        username,
        password,
    }
}

/// User name and password of 96 and 192 random bits, in hexadecimal: no character of theirs needs quoting anywhere.
pub fn fresh_login(rng: &mut impl rand::Rng) -> (String, Secret<String>) {
    let mut bytes = [0; 36];
    rng.fill_bytes(&mut bytes);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    (hex(&bytes[..12]), Secret::new(hex(&bytes[12..])))
}
