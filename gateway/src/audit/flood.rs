//! Many of a kind become one record: refusals, so that whoever is refused can't fill the log, and requests through the
//! HTTP proxy, of which a page makes a hundred. Pure.
//!
//! The first of a kind is told at once. Those that follow within [`WINDOW`] are counted, and the sum is told at the end
//! of it. The rule: what strangers can make the log grow by is bounded, however many addresses they come from: beyond
//! [`MAX_STRANGERS`] kinds at a time their refusals share one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use shared::wire::admin::{AuditActorKind, AuditRecord};

use super::entry::{Entry, stranger};

/// How long is counted. A minute is short enough to see an attack while it goes on.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Kinds of refusals of strangers that are told apart at a time. Each is good for two records in a window: 64 of them are
/// 50 KiB a minute, so that it takes two weeks of attack from everywhere to push other records out of 1 GiB.
const MAX_STRANGERS: usize = 64;
/// Kinds that are told apart at a time of those whom the gateway knows: twice as many as there are edges, so that neither
/// a program that looks at every site nor all agents at once, after a restore, say, have every one of their requests
/// told. Bounds memory, to some 20 MiB. Beyond, refusals are told apart by who was refused what, and no longer by the
/// edges that they name, which are for free; other uses are told one by one.
const MAX_KNOWN: usize = 32_768;

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    actor: (AuditActorKind, String),
    source: Option<IpAddr>,
    action: String,
    edge: Option<String>,
    service: Option<String>,
    code: Option<String>,
}

/// What was counted of a kind.
#[derive(Debug)]
struct Count {
    entry: Entry,
    since: Instant,
    /// Those that were not told.
    more: u64,
    bytes: (u64, u64),
}

/// Counts of all kinds in their windows.
#[derive(Debug, Default)]
pub struct Flood {
    refusals: HashMap<Kind, Count>,
    strangers: usize,
    uses: HashMap<Kind, Count>,
}

impl Flood {
    /// Somebody was refused. Gives back what is to be told now.
    pub fn refused(&mut self, entry: Entry, now: Instant) -> Option<Entry> {
        let is_stranger = entry.record().actor.kind == AuditActorKind::Stranger;
        let mut kind = Kind::of(entry.record(), entry.source());
        if is_stranger {
            // What strangers name may not exist, and names are for free.
            (kind.edge, kind.service) = (None, None);
        }
        if let Some(count) = self.refusals.get_mut(&kind) {
            count.add(&entry);
            return None;
        }
        let known = self.refusals.len() - self.strangers;
        if is_stranger && self.strangers >= MAX_STRANGERS {
            return self.combined(entry, kind, now);
        }
        if !is_stranger && known >= MAX_KNOWN {
            (kind.edge, kind.service) = (None, None);
            if let Some(count) = self.refusals.get_mut(&kind) {
                count.add(&entry);
                return None;
            }
            if known >= 2 * MAX_KNOWN {
                return Some(entry);
            }
            let sum = entry.clone().of_no_edge();
            self.refusals.insert(kind, Count { entry: sum, since: now, more: 0, bytes: (0, 0) });
            return Some(entry);
        }
        self.strangers += usize::from(is_stranger);
        self.refusals.insert(kind, Count { entry: entry.clone(), since: now, more: 0, bytes: (0, 0) });
        Some(entry)
    }

    /// One more of strangers that have no count of their own.
    fn combined(&mut self, entry: Entry, kind: Kind, now: Instant) -> Option<Entry> {
        let (action, code) = ("refusals", "many");
        let anywhere = Kind { source: None, code: None, action: action.to_owned(), ..kind };
        let mut first = None;
        let count = self.refusals.entry(anywhere).or_insert_with(|| {
            self.strangers += 1;
            first = Some(entry.clone());
            let many = Entry::new(stranger(), action)
                .refused(code)
                .detail("from more addresses than are told apart");
            Count { entry: many, since: now, more: 0, bytes: (0, 0) }
        });
        if first.is_none() {
            count.more += 1;
        }
        first
    }

    /// Somebody uses a service. Gives back what is to be told now; what was carried is told at the end of the window.
    pub fn used(&mut self, entry: Entry, now: Instant) -> Option<Entry> {
        let kind = Kind::of(entry.record(), None);
        if let Some(count) = self.uses.get_mut(&kind) {
            count.more += 1;
            return None;
        }
        if self.uses.len() < MAX_KNOWN {
            self.uses.insert(kind, Count { entry: entry.clone(), since: now, more: 1, bytes: (0, 0) });
        }
        Some(entry)
    }

    /// What a use carried. Its window may be over: then there is one for the bytes alone.
    pub fn carried(&mut self, entry: &Entry, inward: u64, outward: u64, now: Instant) {
        let kind = Kind::of(entry.record(), None);
        if self.uses.len() >= MAX_KNOWN && !self.uses.contains_key(&kind) {
            return;
        }
        let fresh = || Count { entry: entry.clone(), since: now, more: 0, bytes: (0, 0) };
        let count = self.uses.entry(kind).or_insert_with(fresh);
        count.bytes = (count.bytes.0.saturating_add(inward), count.bytes.1.saturating_add(outward));
    }

    /// The sums of windows that are over at `now`; with `all`, of every one.
    pub fn due(&mut self, now: Instant, all: bool) -> Vec<Entry> {
        let over = |count: &Count| all || now.saturating_duration_since(count.since) >= WINDOW;
        let sum = |count: Count| {
            let lasted = now.saturating_duration_since(count.since);
            count.entry.at_now().count(count.more).took(lasted)
        };
        let mut due = Vec::new();
        for (kind, count) in self.refusals.extract_if(|_, count| over(count)) {
            self.strangers -= usize::from(kind.actor.0 == AuditActorKind::Stranger);
            if count.more > 0 {
                due.push(sum(count).and_detail("further ones, counted"));
            }
        }
        for (_, count) in self.uses.extract_if(|_, count| over(count)) {
            let (inward, outward) = count.bytes;
            due.push(sum(count).bytes(inward, outward).and_detail("all requests, counted"));
        }
        // Maps have no order; a log that is read should.
        due.sort_by(|one, other| one.record().action.cmp(&other.record().action));
        due
    }
}

impl Count {
    /// One more. The sum says no more than what is so for all of them.
    fn add(&mut self, entry: &Entry) {
        self.more += 1;
        if self.entry.record().detail != entry.record().detail {
            self.entry = self.entry.clone().detail("");
        }
    }
}

impl Kind {
    fn of(record: &AuditRecord, source: Option<IpAddr>) -> Self {
        Self {
            actor: (record.actor.kind, record.actor.name.clone()),
            source: source.map(network),
            action: record.action.clone(),
            edge: record.edge.as_ref().map(ToString::to_string),
            service: record.service.as_ref().map(ToString::to_string),
            code: record.code.clone(),
        }
    }
}

/// Whose address this is: of IPv6 a site's, since a single machine has 2^64 of its own (RFC 6177).
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::audit::entry::agent;

    fn refusal(action: &str, from: impl Into<SocketAddr>) -> Entry {
        Entry::new(stranger(), action).refused("not-authenticated").from(from.into())
    }

    fn peer(last: u8, port: u16) -> SocketAddr {
        ([192, 0, 2, last], port).into()
    }

    #[test]
    fn one_source_is_told_once_and_then_counted() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        assert!(flood.refused(refusal("edge.list", peer(1, 1)), start).is_some());
        for port in 2..1026 {
            assert_eq!(flood.refused(refusal("edge.list", peer(1, port)), start), None);
        }
        assert!(flood.refused(refusal("edge.show", peer(1, 1)), start).is_some(), "another action");
        assert!(flood.refused(refusal("edge.list", peer(2, 1)), start).is_some(), "another source");
        assert_eq!(flood.due(start + WINDOW - Duration::from_millis(1), false), []);
        let due = flood.due(start + WINDOW, false);
        assert_eq!(due.len(), 1, "{due:?}");
        let record = due[0].record();
        assert_eq!((record.count, record.duration_ms), (Some(1024), Some(60_000)));
        assert!(flood.refused(refusal("edge.list", peer(1, 1)), start + WINDOW).is_some(), "a new window");
    }

    #[test]
    fn a_sum_says_what_is_so_for_all_of_it() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        let sum = |flood: &mut Flood, names: [&str; 3]| {
            for name in names {
                flood.refused(refusal("sign-in", peer(1, 1)).detail(name), start);
            }
            flood.due(start, true)[0].record().detail.clone()
        };
        assert_eq!(sum(&mut flood, ["as ada"; 3]).as_deref(), Some("as ada; further ones, counted"));
        assert_eq!(sum(&mut flood, ["as ada", "as bob", "as ada"]).as_deref(), Some("further ones, counted"));
    }

    #[test]
    fn strangers_from_everywhere_share_a_record() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        let mut told = 0;
        for number in 0..10_000_u16 {
            let [high, low] = number.to_be_bytes();
            let entry = refusal("edge.list", ([10, 0, high, low], 1));
            told += usize::from(flood.refused(entry, start).is_some());
        }
        assert_eq!(told, MAX_STRANGERS + 1);
        let due = flood.due(start + WINDOW, false);
        assert_eq!(
            due.iter().map(|entry| entry.record().count.unwrap_or(1)).sum::<u64>() as usize,
            10_000 - told
        );
        assert_eq!(flood.strangers, 0);
        let known = |number: usize| {
            Entry::new(agent(&format!("e{number}").parse().expect("a label")), "agent.check-in")
        };
        for number in 0..MAX_KNOWN + 5 {
            assert!(flood.refused(known(number), start).is_some(), "those who are known are all told");
        }
        assert!(flood.refusals.len() <= 2 * MAX_KNOWN);
    }

    #[test]
    fn who_names_edges_at_random_is_counted_all_the_same() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        let viewer = agent(&"viewer".parse().expect("a label"));
        let refused = |number: usize| {
            let edge = format!("e{number}").parse().expect("a label");
            Entry::new(viewer.clone(), "edge.delete").edge(&edge).refused("not-allowed")
        };
        let told =
            (0..MAX_KNOWN + 1000).filter(|number| flood.refused(refused(*number), start).is_some()).count();
        assert_eq!(told, MAX_KNOWN + 1);
        let due = flood.due(start + WINDOW, false);
        let [sum] = &due[..] else { panic!("{}", due.len()) };
        assert_eq!((sum.record().count, &sum.record().edge), (Some(999), &None));
    }

    #[test]
    fn one_ipv6_site_is_one_source() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        let peer = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert!(flood.refused(refusal("x", peer("[2001:db8::1]:1")), start).is_some());
        assert!(flood.refused(refusal("x", peer("[2001:db8::ffff:2]:1")), start).is_none());
        assert!(flood.refused(refusal("x", peer("[2001:db8:0:1::1]:1")), start).is_some());
    }

    #[test]
    fn requests_of_a_minute_are_one_sum_with_their_bytes() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        let entry = Entry::new(stranger(), "service.proxy").edge(&"shop".parse().expect("a label"));
        assert!(flood.used(entry.clone(), start).is_some());
        flood.carried(&entry, 10, 100, start);
        assert!(flood.used(entry.clone(), start).is_none());
        flood.carried(&entry, 1, 2, start);
        let due = flood.due(start, true);
        let record = due[0].record();
        assert_eq!((record.count, record.bytes_in, record.bytes_out), (Some(2), Some(11), Some(102)));
        // An answer that takes longer than its window.
        flood.carried(&entry, 5, 6, start + WINDOW);
        let due = flood.due(start + WINDOW, true);
        assert_eq!((due[0].record().count, due[0].record().bytes_in), (Some(0), Some(5)));
    }
}
