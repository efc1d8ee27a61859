//! Passes: what lets a browser into one service, from the moment that its operator opened it.
//!
//! A pass is a secret of 256 random bits, of which the gateway keeps the SHA-256. A ticket is a secret too: it carries
//! the right to a pass from the gateway's origin to the service's, once and soon. The rule: a pass allows nothing of its
//! own. It remembers by which credential it was made, and what that allows is asked anew for every request.
//!
//! In memory: a restart of the gateway ends all passes, and whoever is still signed in opens the service again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use shared::id::{EdgeName, EndpointId, KeyDigest, ServiceName};
use shared::secret::Secret;
use tokio::time::Instant;

use crate::access::Credential;

/// A redirect takes a second; the rest is for a slow line.
const TICKET_LIFE: Duration = Duration::from_secs(30);
/// A working day. The session that it hangs on ends no later than that.
const PASS_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// Tickets on their way: each is one click.
const MAX_TICKETS: usize = 1000;
/// Passes in all, a few hundred bytes each. The oldest makes place.
const MAX_PASSES: usize = 10_000;
/// Passes by one credential: more services than anybody has open. The oldest makes place.
const MAX_EACH: usize = 200;
/// What passes and tickets begin with, so that secret scanners know one when they see it.
const PREFIX: &str = "tgp_";

/// Which service may be used, and by whose leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// By which it was made.
    pub credential: Credential,
    /// Name of the edge, as the operator asked for it.
    pub edge: EdgeName,
    /// The edge of that name at that moment: another that gets the name later is another.
    pub endpoint: EndpointId,
    /// Of the edge.
    pub service: ServiceName,
}

/// Tickets and passes.
#[derive(Debug)]
pub struct Passes {
    /// Guards both tables; never held across an await.
    tables: Mutex<Tables>,
}

#[derive(Debug)]
struct Tables {
    tickets: Table,
    passes: Table,
}

/// What secrets stand for.
#[derive(Debug)]
struct Table {
    life: Duration,
    most: usize,
    entries: HashMap<KeyDigest, (Pass, Instant)>,
}

impl Default for Passes {
    fn default() -> Self {
        let table = |life, most| Table { life, most, entries: HashMap::new() };
        let (tickets, passes) = (table(TICKET_LIFE, MAX_TICKETS), table(PASS_LIFE, MAX_PASSES));
        Self { tables: Mutex::new(Tables { tickets, passes }) }
    }
}

impl Passes {
    /// A ticket for this pass, to be shown elsewhere.
    pub fn ticket(&self, pass: Pass) -> Secret<String> {
        self.with(|tables| tables.tickets.issue(pass))
    }

    /// The pass for a ticket that nobody has used, if `admits` says that it is for the service where it was shown.
    pub fn enter(&self, ticket: &str, admits: impl FnOnce(&Pass) -> bool) -> Option<(Pass, Secret<String>)> {
        self.with(|tables| {
            let pass = tables.tickets.take(ticket).filter(admits)?;
            let secret = tables.passes.issue(pass.clone());
            Some((pass, secret))
        })
    }

    /// A pass right here.
    pub fn issue(&self, pass: Pass) -> Secret<String> {
        self.with(|tables| tables.passes.issue(pass))
    }

    /// What this secret lets in to.
    pub fn find(&self, secret: &str) -> Option<Pass> {
        self.with(|tables| tables.passes.find(secret).cloned())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Tables) -> T) -> T {
        work(&mut self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Table {
    fn issue(&mut self, pass: Pass) -> Secret<String> {
        let now = Instant::now();
        self.entries.retain(|_, (_, until)| *until > now);
        let same = |other: &Pass| other.credential == pass.credential;
        if self.entries.values().filter(|(other, _)| same(other)).count() >= MAX_EACH {
            self.remove_oldest(same);
        }
        if self.entries.len() >= self.most {
            self.remove_oldest(|_| true);
        }
        let bytes: [u8; 32] = rand::random();
        let secret = Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)));
        self.entries.insert(KeyDigest::of(secret.expose().as_bytes()), (pass, now + self.life));
        secret
    }

    fn find(&self, secret: &str) -> Option<&Pass> {
        let (pass, until) = self.entries.get(&KeyDigest::of(secret.as_bytes()))?;
        (*until > Instant::now()).then_some(pass)
    }

    fn take(&mut self, secret: &str) -> Option<Pass> {
        let (pass, until) = self.entries.remove(&KeyDigest::of(secret.as_bytes()))?;
        (until > Instant::now()).then_some(pass)
    }

    fn remove_oldest(&mut self, of: impl Fn(&Pass) -> bool) {
        let oldest =
            self.entries.iter().filter(|(_, (pass, _))| of(pass)).min_by_key(|(_, (_, until))| *until);
        if let Some(digest) = oldest.map(|(digest, _)| *digest) {
            self.entries.remove(&digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn pass(credential: u128) -> Pass {
        Pass {
            credential: Credential::Session(Uuid::from_u128(credential)),
            edge: "shop".parse().expect("a name"),
            endpoint: EndpointId::from_bytes([1; 16]),
            service: "web".parse().expect("a name"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_once_and_soon_and_for_its_own_service_only() {
        let passes = Passes::default();
        let ticket = passes.ticket(pass(1));
        let (entered, secret) = passes.enter(ticket.expose(), |_| true).expect("the first use");
        assert_eq!((entered, passes.find(secret.expose())), (pass(1), Some(pass(1))));
        assert!(passes.enter(ticket.expose(), |_| true).is_none(), "the second use");
        assert!(passes.find(ticket.expose()).is_none(), "a ticket is no pass");
        assert!(passes.enter(secret.expose(), |_| true).is_none(), "a pass is no ticket");

        let elsewhere = passes.ticket(pass(1));
        assert!(passes.enter(elsewhere.expose(), |_| false).is_none());
        assert!(passes.enter(elsewhere.expose(), |_| true).is_none(), "it was shown, and is used up");

        let late = passes.ticket(pass(1));
        tokio::time::advance(TICKET_LIFE).await;
        assert!(passes.enter(late.expose(), |_| true).is_none());
        tokio::time::advance(PASS_LIFE).await;
        assert!(passes.find(secret.expose()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_makes_place_first_among_those_of_the_same_credential() {
        let passes = Passes::default();
        let other = passes.issue(pass(0));
        let mut secrets = Vec::new();
        for _ in 0..=MAX_EACH {
            tokio::time::advance(Duration::from_millis(1)).await;
            secrets.push(passes.issue(pass(1)));
        }
        assert!(passes.find(secrets[0].expose()).is_none());
        assert!(secrets[1..].iter().all(|secret| passes.find(secret.expose()).is_some()));
        assert!(passes.find(other.expose()).is_some());
        let kept = passes.with(|tables| {
            tables.passes.most = MAX_EACH;
            tables.passes.issue(pass(2));
            tables.passes.entries.len()
        });
        assert!(kept <= MAX_EACH + 1 && passes.find(other.expose()).is_none(), "the oldest of all");
    }
}
