//! Many edges at once, and changes that depend on what was seen.

use super::*;
use crate::domain::version::Version;

impl Bench {
    fn create_many(&mut self, names: &[&str]) -> Token {
        let fresh = |text: &&str| Fresh {
            name: name(text),
            endpoint: EndpointId::random(),
            key: EdgeKey::random().digest(),
        };
        let (token, edges) = (self.token(), names.iter().map(fresh).collect());
        self.handle(Event::CreateMany { token, edges, like: Like::default() });
        token
    }

    /// Names that were taken.
    fn created_many(&mut self, token: Token) -> Option<Result<Vec<String>, AdminError>> {
        let ours =
            |command: &Command| matches!(command, Command::CreatedMany { token: of, .. } if *of == token);
        let position = self.others.iter().position(ours)?;
        let Command::CreatedMany { answer, .. } = self.others.remove(position) else { return None };
        Some(answer.map(|taken| taken.iter().map(ToString::to_string).collect()))
    }

    fn version(&self, text: &str) -> Version {
        Version::of(&self.registry.edge(&name(text)).expect("there").record)
    }

    fn change_if(&mut self, seen: Version, request: Request) {
        let token = self.token();
        self.handle(Event::Change { token, condition: Condition::OneOf(vec![seen]), request });
    }
}

fn tagged(edge: &str, tag: &str) -> Request {
    let change = admin::ChangeEdge { tags: Some(vec![tag.into()]), ..Default::default() };
    Request::Update { edge: name(edge), change }
}

#[test]
fn many_edges_are_one_commit_without_those_whose_names_are_taken() {
    let mut bench = Bench::new();
    bench.create("a");
    let (first, second) = (bench.create_many(&["a", "b", "c"]), bench.create_many(&["c", "d"]));
    assert!(bench.registry.edge(&name("b")).is_err(), "not before they are stored");
    assert_eq!(bench.commits.iter().map(|(_, batch)| batch.len()).collect::<Vec<_>>(), [2, 1]);
    bench.commit(Ok(()));
    bench.commit(Ok(()));
    assert_eq!(bench.created_many(first).expect("answered").expect("stored"), ["a"]);
    assert_eq!(bench.created_many(second).expect("answered").expect("stored"), ["c"], "it was reserved");
    for there in ["a", "b", "c", "d"] {
        assert!(bench.registry.edge(&name(there)).is_ok(), "{there}");
    }
    let none = bench.create_many(&["a", "b"]);
    assert_eq!(bench.created_many(none).expect("answered").expect("nothing to store"), ["a", "b"]);
    assert!(bench.commits.is_empty());
}

#[test]
fn many_edges_that_could_not_be_stored_are_none_and_their_names_are_free() {
    let mut bench = Bench::new();
    let token = bench.create_many(&["a", "b"]);
    bench.commit(Err(StoreError::Full));
    assert!(matches!(bench.created_many(token), Some(Err(AdminError::Store(StoreError::Full)))));
    assert!(bench.registry.edge(&name("a")).is_err());
    bench.create_many(&["a", "b"]);
    let (_, batch) = bench.commits.front().expect("a commit");
    let deletions = batch.iter().filter(|change| matches!(change, Change::DeleteEdge(_))).count();
    assert_eq!((batch.len(), deletions), (4, 2), "the store may have the first ones all the same");
}

#[test]
fn of_two_changes_that_depend_on_the_same_version_one_is_made() {
    let mut bench = Bench::new();
    bench.create("shop");
    let seen = bench.version("shop");
    bench.change_if(seen, tagged("shop", "one"));
    bench.change_if(seen, tagged("shop", "two"));
    assert_eq!(bench.commits.len(), 1, "the second waits for the first");
    bench.commit(Ok(()));
    assert!(matches!(bench.changes.pop(), Some((_, Err(AdminError::Stale)))));
    assert!(matches!(bench.changes.pop(), Some((_, Ok(())))));
    assert_eq!(bench.registry.edge(&name("shop")).expect("there").record.tags, ["one"]);

    let seen = Version::of(bench.registry.settings());
    for interval_s in [7, 8] {
        let change = admin::Settings { interval_s: Some(interval_s), ..Default::default() };
        bench.change_if(seen, Request::Settings { change });
    }
    bench.commit(Ok(()));
    assert!(matches!(bench.changes.pop(), Some((_, Err(AdminError::Stale)))));
    assert_eq!(bench.registry.settings().interval, Duration::from_secs(7));
}

#[test]
fn a_change_that_was_not_stored_makes_nothing_stale() {
    let mut bench = Bench::new();
    bench.create("shop");
    let seen = bench.version("shop");
    bench.change_if(seen, tagged("shop", "one"));
    bench.change_if(seen, tagged("shop", "two"));
    bench.commit(Err(StoreError::Full));
    bench.commit(Ok(()));
    assert_eq!(bench.registry.edge(&name("shop")).expect("there").record.tags, ["two"]);
    assert_ne!(bench.version("shop"), seen);
}
