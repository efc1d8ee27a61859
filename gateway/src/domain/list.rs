//! Lists of edges: filtered, sorted, counted, in pages. Pure.
//!
//! A list looks at every edge, since it counts and sorts them. So that nothing else waits for all of that, it is made in
//! steps: [`look`] takes [`LOOK`] edges and remembers a few bytes of each ([`Row`]); [`EdgeQuery::page`] sorts those, and
//! the edges of one page alone are shown in full. A list is therefore not of one moment: what changes while it is made
//! may be in it as it was or as it is.

use std::cmp::Ordering;
use std::time::Duration;

use shared::id::{EdgeName, EndpointId};
use shared::wire::admin::{self, EdgeCounts, EdgeSort, EdgeStatus, SortOrder};

use super::Now;
use super::authority::Reach;
use super::edge::{EdgeRecord, Timestamp};
use super::registry::{Edge, Registry};
use super::view;

/// Edges of one step: half a millisecond, about as long as a busy gateway's check-ins wait for each other anyway.
pub const LOOK: usize = 1000;

/// Which edges a list has, and in what order.
#[derive(Clone, Debug)]
pub struct EdgeQuery {
    /// Only those that whoever asks may see.
    pub reach: Reach,
    /// Part of a name or a whole tag.
    pub text: Option<String>,
    /// Only those with this status.
    pub status: Option<EdgeStatus>,
    /// Only those that have all of these.
    pub tags: Vec<String>,
    /// By what they are in order; those that are alike are in order of name.
    pub sort: EdgeSort,
    /// Which way.
    pub order: SortOrder,
    /// Only what follows this.
    pub after: Option<Cursor>,
    /// At most so many.
    pub limit: usize,
}

impl EdgeQuery {
    /// The first edges of all within reach, in order of name.
    pub fn first(reach: Reach, limit: usize) -> Self {
        Self {
            reach,
            text: None,
            status: None,
            tags: Vec::new(),
            sort: EdgeSort::Name,
            order: SortOrder::Asc,
            after: None,
            limit,
        }
    }
}

/// What edges are sorted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// Nothing but their names.
    Name,
    Status(EdgeStatus),
    LastSeen(Option<Timestamp>),
    Version(Option<AgentVersion>),
}

/// The version of an agent, by its numbers: 0.9 before 0.10.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AgentVersion(Box<str>);

impl Ord for AgentVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        let parts = |version: &Self| -> Vec<(Option<u64>, String)> {
            let split = |part: &str| {
                let digits = part.bytes().take_while(u8::is_ascii_digit).count();
                (part[..digits].parse().ok(), part[digits..].to_owned())
            };
            version.0.split('.').map(split).collect()
        };
        // What reads alike (01 and 1) still has an order, as whatever is equal must be the same.
        parts(self).cmp(&parts(other)).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for AgentVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Where in a list a page ended: the last edge's name and what it was sorted by at that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    key: Key,
    name: EdgeName,
}

impl Cursor {
    /// Reads the cursor of a list that is sorted by `sort`: a name, after a key and a dot where there is one.
    pub fn parse(text: &str, sort: EdgeSort) -> Option<Self> {
        let (key, name) = match (sort, text.rsplit_once('.')) {
            (EdgeSort::Name, None) => (Key::Name, text),
            (EdgeSort::Name, Some(_)) | (_, None) => return None,
            (EdgeSort::Status, Some((key, name))) => {
                (Key::Status(EdgeStatus::ALL.into_iter().find(|status| status.word() == key)?), name)
            }
            (EdgeSort::LastSeen, Some(("", name))) => (Key::LastSeen(None), name),
            (EdgeSort::LastSeen, Some((key, name))) => {
                (Key::LastSeen(Some(Timestamp(key.parse().ok()?))), name)
            }
            (EdgeSort::Version, Some(("", name))) => (Key::Version(None), name),
            (EdgeSort::Version, Some((key, name))) => (Key::Version(Some(AgentVersion(key.into()))), name),
        };
        Some(Self { key, name: name.parse().ok()? })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, name } = self;
        match key {
            Key::Name => write!(f, "{name}"),
            Key::Status(status) => write!(f, "{}.{name}", status.word()),
            Key::LastSeen(None) | Key::Version(None) => write!(f, ".{name}"),
            Key::LastSeen(Some(at)) => write!(f, "{}.{name}", at.0),
            Key::Version(Some(AgentVersion(version))) => write!(f, "{version}.{name}"),
        }
    }
}

/// What is remembered of an edge that may be on the page.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub endpoint: EndpointId,
    key: Key,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Found {
    /// Edges that follow the cursor, in order of name.
    pub rows: Vec<Row>,
    /// Of every edge that the query matches, but for its status.
    pub counts: EdgeCounts,
    /// Of every edge that the query matches.
    pub total: usize,
}

impl Found {
    /// Adds what the next step found.
    pub fn add(&mut self, mut next: Self) {
        self.rows.append(&mut next.rows);
        self.total += next.total;
        for status in EdgeStatus::ALL {
            *self.counts.of_mut(status) += next.counts.of(status);
        }
    }
}

/// Looks at the edges after `from`, [`LOOK`] at most. Also returns from where to go on, unless that was all.
pub fn look(
    registry: &Registry,
    query: &EdgeQuery,
    from: Option<&EdgeName>,
    now: Now,
) -> (Found, Option<EdgeName>) {
    let mut found = Found::default();
    let mut last = None;
    for (looked, edge) in registry.edges_after(from).enumerate() {
        if looked == LOOK {
            return (found, last);
        }
        last = Some(edge.record.name.clone());
        if !query.has(&edge.record) {
            continue;
        }
        let status = view::status(registry, edge, now);
        *found.counts.of_mut(status) += 1;
        if query.status.is_some_and(|wanted| wanted != status) {
            continue;
        }
        found.total += 1;
        let key = key(registry, edge, query.sort, status, now);
        if query.after.as_ref().is_none_or(|after| query.follows(&key, &edge.record.name, after)) {
            found.rows.push(Row { endpoint: edge.record.endpoint, key });
        }
    }
    (found, None)
}

impl EdgeQuery {
    /// The rows of the page, and whether more follow.
    pub fn page(&self, mut rows: Vec<Row>) -> (Vec<Row>, bool) {
        match (self.sort, self.order) {
            (EdgeSort::Name, SortOrder::Asc) => {}
            (EdgeSort::Name, SortOrder::Desc) => rows.reverse(),
            // Those that are alike stay in order of name.
            (EdgeSort::Status | EdgeSort::LastSeen | EdgeSort::Version, SortOrder::Asc) => {
                rows.sort_by(|one, other| one.key.cmp(&other.key));
            }
            (EdgeSort::Status | EdgeSort::LastSeen | EdgeSort::Version, SortOrder::Desc) => {
                rows.sort_by(|one, other| other.key.cmp(&one.key));
            }
        }
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        (rows, more)
    }

    /// The rows as they are shown. An edge that is gone since, or out of reach, is left out.
    pub fn show(&self, registry: &Registry, rows: Vec<Row>, now: Now) -> (Vec<admin::Edge>, Option<Cursor>) {
        let mut shown = Vec::with_capacity(rows.len());
        let mut cursor = None;
        for Row { endpoint, key } in rows {
            if let Some(edge) = registry.edge_of(endpoint).filter(|edge| self.reach.covers(&edge.record.tags))
            {
                shown.push(view::edge(registry, edge, now));
                cursor = Some(Cursor { key, name: edge.record.name.clone() });
            }
        }
        (shown, cursor)
    }

    fn has(&self, record: &EdgeRecord) -> bool {
        let has_tag = |tag: &String| record.tags.contains(tag);
        self.reach.covers(&record.tags)
            && self
                .text
                .as_ref()
                .is_none_or(|text| record.name.as_str().contains(text.as_str()) || has_tag(text))
            && self.tags.iter().all(has_tag)
    }

    fn follows(&self, key: &Key, name: &EdgeName, after: &Cursor) -> bool {
        let by_key = match self.order {
            SortOrder::Asc => key.cmp(&after.key),
            SortOrder::Desc => after.key.cmp(key),
        };
        let by_name = match (self.sort, self.order) {
            (EdgeSort::Name, SortOrder::Desc) => after.name.cmp(name),
            (_, SortOrder::Asc | SortOrder::Desc) => name.cmp(&after.name),
        };
        by_key.then(by_name).is_gt()
    }
}

fn key(registry: &Registry, edge: &Edge, sort: EdgeSort, status: EdgeStatus, now: Now) -> Key {
    match sort {
        EdgeSort::Name => Key::Name,
        EdgeSort::Status => Key::Status(status),
        // To the second, as it is shown: what was seen in the same one stands in order of name.
        EdgeSort::LastSeen => Key::LastSeen(edge.last_seen(now).map(|at| Timestamp(at.0 / SECOND * SECOND))),
        EdgeSort::Version => {
            let instance = edge.instances.live(registry.rule(edge), now).next();
            let hello = instance.and_then(|instance| instance.hello.as_ref());
            Key::Version(hello.map(|hello| AgentVersion(hello.agent.as_str().into())))
        }
    }
}

/// In the unit of timestamps.
const SECOND: u64 = Duration::from_secs(1).as_millis() as u64;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use shared::id::EdgeKey;

    use super::*;
    use crate::domain::edge::Records;

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    /// Edges that were seen at these seconds, or never.
    fn registry(edges: &[(&str, &str, Option<u64>)]) -> (Registry, Now) {
        let now = Now { instant: Instant::now(), wall: NOW };
        let mut records = Records::default();
        for (name, tags, seen) in edges {
            let record = record(name, tags);
            if let Some(second) = seen {
                records.last_seen.push((record.endpoint, Timestamp(second * SECOND + 7)));
            }
            records.edges.push(record);
        }
        (Registry::new(records, now), now)
    }

    fn record(name: &str, tags: &str) -> EdgeRecord {
        EdgeRecord {
            endpoint: EndpointId::random(),
            name: name.parse().expect("a label"),
            key: EdgeKey::random().digest(),
            bound: None,
            cluster: false,
            interval: None,
            idle_timeout: None,
            tags: tags.split_whitespace().map(str::to_owned).collect(),
            created_at: NOW,
            stock_key: None,
        }
    }

    fn all(registry: &Registry, query: &EdgeQuery, now: Now) -> Found {
        let (mut found, mut from) = look(registry, query, None, now);
        while let Some(last) = from {
            let (more, next) = look(registry, query, Some(&last), now);
            found.add(more);
            from = next;
        }
        found
    }

    /// Names on every page.
    fn pages(registry: &Registry, mut query: EdgeQuery, now: Now) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        loop {
            let found = all(registry, &query, now);
            let (rows, more) = query.page(found.rows);
            let (edges, last) = query.show(registry, rows, now);
            pages.push(edges.iter().map(|edge| edge.name.to_string()).collect());
            if !more {
                return pages;
            }
            let text = last.expect("a page that is not the last one has an edge").to_string();
            query.after = Some(Cursor::parse(&text, query.sort).expect("a cursor of ours"));
        }
    }

    #[test]
    fn pages_follow_each_other_in_every_order_without_gap_or_repetition() {
        let (registry, now) = registry(&[
            ("a", "", Some(30)),
            ("b", "", None),
            ("c", "", Some(10)),
            ("d", "", Some(30)),
            ("e", "", None),
        ]);
        for (sort, order, expected) in [
            (EdgeSort::Name, SortOrder::Asc, "a b|c d|e"),
            (EdgeSort::Name, SortOrder::Desc, "e d|c b|a"),
            (EdgeSort::LastSeen, SortOrder::Asc, "b e|c a|d"),
            (EdgeSort::LastSeen, SortOrder::Desc, "a d|c b|e"),
            (EdgeSort::Status, SortOrder::Asc, "b e|a c|d"),
            (EdgeSort::Status, SortOrder::Desc, "a c|d b|e"),
            (EdgeSort::Version, SortOrder::Desc, "a b|c d|e"),
        ] {
            let query = EdgeQuery { sort, order, ..EdgeQuery::first(Reach::all(), 2) };
            let pages: Vec<_> = pages(&registry, query, now).iter().map(|page| page.join(" ")).collect();
            assert_eq!(pages.join("|"), expected, "{sort:?} {order:?}");
        }
    }

    #[test]
    fn counts_are_of_all_that_match_whatever_their_status_and_page() {
        let (registry, now) =
            registry(&[("a", "x", Some(1)), ("b", "x y", None), ("c", "y x", None), ("d", "y", None)]);
        let tags = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let query = EdgeQuery {
            tags: tags("x"),
            status: Some(EdgeStatus::NeverJoined),
            ..EdgeQuery::first(Reach::all(), 1)
        };
        let found = all(&registry, &query, now);
        assert_eq!((found.total, found.counts.offline, found.counts.never_joined), (2, 1, 2));
        let both = EdgeQuery { tags: tags("y x"), ..EdgeQuery::first(Reach::all(), 9) };
        assert_eq!(all(&registry, &both, now).total, 2);
        let within = EdgeQuery::first(Reach::tagged(tags("y")), 9);
        assert_eq!(pages(&registry, within, now), [["b", "c", "d"]]);
        let text = EdgeQuery { text: Some("y".into()), ..EdgeQuery::first(Reach::all(), 9) };
        assert_eq!(all(&registry, &text, now).total, 3);
    }

    #[test]
    fn every_edge_is_looked_at_once_however_many_steps_it_takes() {
        let names: Vec<_> = (0..2 * LOOK + 1).map(|number| format!("e{number:05}")).collect();
        for count in [0, 1, LOOK, LOOK + 1, 2 * LOOK + 1] {
            let edges: Vec<_> = names[..count].iter().map(|name| (name.as_str(), "", None)).collect();
            let (registry, now) = registry(&edges);
            let found = all(&registry, &EdgeQuery::first(Reach::all(), 9), now);
            assert_eq!((found.total, found.rows.len()), (count, count));
        }
    }

    #[test]
    fn versions_are_in_order_of_their_numbers() {
        let version = |text: &str| AgentVersion(text.into());
        let mut versions = ["0.10.0", "1.0.0-rc1", "0.9.12", "dev", "0.9", "1.0.0"].map(version);
        versions.sort();
        let texts = versions.map(|AgentVersion(text)| text.into_string());
        assert_eq!(texts, ["dev", "0.9", "0.9.12", "0.10.0", "1.0.0", "1.0.0-rc1"]);
    }

    #[test]
    fn a_cursor_is_of_its_own_order_only() {
        for (text, sort) in [
            ("offline.shop", EdgeSort::Name),
            ("shop", EdgeSort::Status),
            ("asleep.shop", EdgeSort::Status),
            ("1.0.shop", EdgeSort::LastSeen),
            ("0.1.0.Shop", EdgeSort::Version),
        ] {
            assert_eq!(Cursor::parse(text, sort), None, "{text}");
        }
        for (text, sort) in [
            ("shop", EdgeSort::Name),
            ("offline.shop", EdgeSort::Status),
            (".shop", EdgeSort::LastSeen),
            ("1795000000000.shop", EdgeSort::LastSeen),
            (".shop", EdgeSort::Version),
            ("0.1.0.shop", EdgeSort::Version),
        ] {
            assert_eq!(Cursor::parse(text, sort).map(|cursor| cursor.to_string()).as_deref(), Some(text));
        }
    }
}
