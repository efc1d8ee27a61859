//! What every store must do, as tests: [`store_suite!`] makes them for one implementation.

use shared::fingerprint::HostKeyFingerprint;
use shared::id::{EdgeId, EndpointId, InstanceId, KeyDigest};
use shared::wire::admin::{EdgeEvent, HistoryEntry};
use shared::wire::snapshot::MAX_COMPRESSED;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{SnapshotBlob, Store};
use crate::domain::authority::Role;
use crate::domain::edge::{Change, EdgeRecord, Records, Settings, StockKey, Timestamp};
use crate::domain::history::KEPT;
use crate::domain::people::{ApiToken, Session, SshKey, User};

/// A place where a store keeps its state, so that it can be opened again.
pub(crate) trait Place {
    /// What is kept there.
    type Store: Store + Clone;
    /// Opens the store.
    async fn open(&self) -> Self::Store;
    /// Closes it, so that it can be opened again.
    async fn close(&self, store: Self::Store);
}

/// The `number`th edge.
pub(crate) fn edge(number: u64) -> EdgeRecord {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    EdgeRecord {
        endpoint: EndpointId::from_bytes(id),
        name: format!("edge-{number}").parse().expect("a label"),
        key: KeyDigest([7; 32]),
        bound: None,
        cluster: false,
        interval: None,
        idle_timeout: None,
        tags: vec!["test".into()],
        created_at: Timestamp(number),
        stock_key: None,
    }
}

/// The `number`th user.
pub(crate) fn user(number: u64) -> User {
    User {
        id: Uuid::from_u64_pair(3, number),
        name: format!("user-{number}").parse().expect("a name"),
        password: Some("$argon2id$".into()),
        role: Role::Operator,
        tags: Some(vec!["test".into()]),
        created_at: Timestamp(number),
    }
}

/// The `number`th session, of this user.
pub(crate) fn session(number: u64, user: Uuid) -> Session {
    let (id, digest) = (Uuid::from_u64_pair(4, number), KeyDigest([4; 32]));
    Session { id, digest, user, created_at: Timestamp(number), expires_at: Timestamp(number + 1) }
}

/// The `number`th token, which allows everything.
pub(crate) fn token(number: u64) -> ApiToken {
    ApiToken {
        id: Uuid::from_u64_pair(1, number),
        label: format!("token {number}"),
        digest: KeyDigest([3; 32]),
        created_at: Timestamp(number),
        role: Role::Admin,
        tags: None,
        expires_at: None,
        owner: None,
    }
}

/// The `number`th token, which this user made for themselves.
pub(crate) fn token_of(number: u64, owner: Uuid) -> ApiToken {
    let (tags, expires_at) = (Some(vec!["web".into()]), Some(Timestamp(number + 1)));
    ApiToken { role: Role::Viewer, tags, expires_at, owner: Some(owner), ..token(number) }
}

/// The `number`th SSH key.
pub(crate) fn ssh_key(number: u64) -> SshKey {
    SshKey {
        id: Uuid::from_u64_pair(2, number),
        label: format!("key {number}"),
        key: format!("ssh-ed25519 {number}"),
        created_at: Timestamp(number),
        owner: None,
    }
}

/// An entry of an edge's history.
pub(crate) fn opened(number: u64) -> HistoryEntry {
    let what = EdgeEvent::TunnelOpened { instance: None };
    HistoryEntry { at: Timestamp(number).to_string(), what, used: None }
}

/// A snapshot of `length` bytes that differ.
pub(crate) fn snapshot(length: usize) -> SnapshotBlob {
    SnapshotBlob {
        received_at: Timestamp(length as u64),
        instance: InstanceId::from_bytes([6; 16]),
        gzip: (0..length).map(|at| (at * 31 + at / 251) as u8).collect(),
    }
}

/// Loads as a program does: not on the runtime's threads.
pub(crate) async fn load(store: &(impl Store + Clone)) -> Records {
    let store = store.clone();
    tokio::task::spawn_blocking(move || store.load()).await.expect("no panic").expect("readable")
}

async fn reopen<P: Place>(place: &P, store: P::Store) -> P::Store {
    place.close(store).await;
    place.open().await
}

pub(crate) async fn a_new_store_has_defaults_only(place: impl Place) {
    let store = place.open().await;
    assert_eq!(load(&store).await, Records::default());
    assert_eq!(store.snapshot(edge(1).endpoint).await.expect("readable"), None);
    store.health().expect("healthy");
}

pub(crate) async fn what_was_committed_is_there_after_a_restart(place: impl Place) {
    let store = place.open().await;
    let stock_key = StockKey {
        fingerprint: HostKeyFingerprint::from_bytes([5; 32]),
        services: vec!["web".parse().expect("a label")],
        expires_at: Timestamp(8),
    };
    let bound =
        EdgeRecord { bound: Some(EdgeId::from_bytes([2; 16])), stock_key: Some(stock_key), ..edge(1) };
    let settings = Settings {
        public_ssh: Some("gate.example.com:8000".into()),
        service_domain: Some("svc.example.com".into()),
        ..Settings::default()
    };
    store.commit(vec![Change::PutEdge(edge(1)), Change::PutEdge(edge(2))]).await.expect("written");
    store
        .commit(vec![Change::PutEdge(bound.clone()), Change::PutSettings(settings.clone())])
        .await
        .expect("written");
    let owner = user(1).id;
    let batch = [user(1), user(2)].map(Change::PutUser).into_iter();
    let batch = batch.chain([session(1, owner), session(2, owner)].map(Change::PutSession));
    store.commit(batch.collect()).await.expect("written");
    let batch = vec![Change::DeleteUser(user(2).id), Change::DeleteSession(session(1, owner).id)];
    store.commit(batch).await.expect("written");
    let tokens = [token(1), token(2), token_of(3, owner)];
    store.commit(tokens.map(Change::PutToken).into()).await.expect("written");
    store.commit(vec![Change::DeleteToken(token(1).id)]).await.expect("written");
    store.commit(vec![Change::PutSshKey(ssh_key(1)), Change::PutSshKey(ssh_key(2))]).await.expect("written");
    store.commit(vec![Change::DeleteSshKey(ssh_key(1).id)]).await.expect("written");
    store.put_last_seen(vec![(bound.endpoint, Timestamp(5))]).await.expect("written");
    store.put_last_seen(vec![(bound.endpoint, Timestamp(6))]).await.expect("written");
    let store = reopen(&place, store).await;
    let expected = Records {
        edges: vec![bound.clone(), edge(2)],
        settings,
        users: vec![user(1)],
        sessions: vec![session(2, owner)],
        tokens: vec![token(2), token_of(3, owner)],
        ssh_keys: vec![ssh_key(2)],
        last_seen: vec![(bound.endpoint, Timestamp(6))],
    };
    assert_eq!(load(&store).await, expected);
}

pub(crate) async fn a_batch_is_applied_in_its_order(place: impl Place) {
    let store = place.open().await;
    let renamed = EdgeRecord { name: "renamed".parse().expect("a label"), ..edge(1) };
    let batch = vec![
        Change::PutEdge(edge(1)),
        Change::DeleteEdge(edge(1).endpoint),
        Change::PutEdge(renamed.clone()),
    ];
    store.commit(batch).await.expect("written");
    assert_eq!(load(&store).await.edges, [renamed]);
}

pub(crate) async fn a_deleted_edge_takes_all_that_is_its_own_along(place: impl Place) {
    let store = place.open().await;
    store.commit(vec![Change::PutEdge(edge(1)), Change::PutEdge(edge(2))]).await.expect("written");
    for number in [1, 2] {
        store.put_last_seen(vec![(edge(number).endpoint, Timestamp(1))]).await.expect("written");
        store.put_snapshot(edge(number).endpoint, snapshot(10_000)).await.expect("written");
        store.put_history(vec![(edge(number).endpoint, opened(1))]).await.expect("written");
    }
    store.commit(vec![Change::DeleteEdge(edge(1).endpoint)]).await.expect("written");
    for _ in 0..2 {
        assert_eq!(store.snapshot(edge(1).endpoint).await.expect("readable"), None);
        assert_eq!(store.snapshot(edge(2).endpoint).await.expect("readable"), Some(snapshot(10_000)));
        assert_eq!(store.history(edge(1).endpoint, 9).await.expect("readable"), []);
        assert_eq!(store.history(edge(2).endpoint, 9).await.expect("readable"), [opened(1)]);
    }
    let store = reopen(&place, store).await;
    let records = load(&store).await;
    assert_eq!(records.edges, [edge(2)]);
    assert_eq!(records.last_seen, [(edge(2).endpoint, Timestamp(1))]);
}

pub(crate) async fn what_comes_late_for_a_deleted_edge_is_gone_after_a_restart(place: impl Place) {
    let store = place.open().await;
    store.put_last_seen(vec![(edge(1).endpoint, Timestamp(1))]).await.expect("written");
    store.put_snapshot(edge(1).endpoint, snapshot(5_000)).await.expect("written");
    let late = [1, 3, 2].map(|number| (edge(number).endpoint, opened(number)));
    store.put_history(late.into()).await.expect("written");
    let store = reopen(&place, store).await;
    assert_eq!(load(&store).await, Records::default());
    assert_eq!(store.snapshot(edge(1).endpoint).await.expect("readable"), None);
    for number in 1..=3 {
        assert_eq!(store.history(edge(number).endpoint, 9).await.expect("readable"), []);
    }
}

pub(crate) async fn a_snapshot_is_replaced_as_a_whole(place: impl Place) {
    let store = place.open().await;
    let of = edge(1).endpoint;
    store.commit(vec![Change::PutEdge(edge(1))]).await.expect("written");
    let mut before = None;
    for length in [MAX_COMPRESSED, 0, 4096, 4097, 300_000, 1] {
        store.put_snapshot(of, snapshot(length)).await.expect("written");
        assert_eq!(store.snapshot(of).await.expect("readable"), Some(snapshot(length)), "{length} bytes");
        assert_eq!(store.snapshot_before(of).await.expect("readable"), before, "{length} bytes");
        before = Some(snapshot(length));
    }
    let store = reopen(&place, store).await;
    assert_eq!(store.snapshot(of).await.expect("readable"), Some(snapshot(1)));
    assert_eq!(store.snapshot_before(of).await.expect("readable"), Some(snapshot(300_000)));
    store.commit(vec![Change::DeleteEdge(of)]).await.expect("written");
    assert_eq!(store.snapshot_before(of).await.expect("readable"), None, "it goes with its edge");
}

pub(crate) async fn the_newest_of_what_happened_to_an_edge_is_kept(place: impl Place) {
    let store = place.open().await;
    let of = edge(1).endpoint;
    store.commit(vec![Change::PutEdge(edge(1)), Change::PutEdge(edge(2))]).await.expect("written");
    store.put_history(vec![(edge(2).endpoint, opened(1))]).await.expect("written");
    for batch in [1..=1, 2..=40, 41..=41, 42..=130, 131..=135] {
        let entries = batch.map(|number| (of, opened(number))).collect();
        store.put_history(entries).await.expect("written");
    }
    let newest = |count: u64| (0..count).map(|back| opened(135 - back)).collect::<Vec<_>>();
    assert_eq!(store.history(of, 3).await.expect("readable"), newest(3));
    let store = reopen(&place, store).await;
    assert_eq!(store.history(of, 1000).await.expect("readable"), newest(KEPT));
    assert_eq!(store.history(edge(2).endpoint, 1000).await.expect("readable"), [opened(1)]);
}

pub(crate) async fn presence_that_did_not_change_adds_nothing(place: impl Place) {
    let store = place.open().await;
    let of = edge(1).endpoint;
    store.commit(vec![Change::PutEdge(edge(1))]).await.expect("written");
    let online = HistoryEntry {
        what: EdgeEvent::Online { instance: InstanceId::from_bytes([7; 16]), hostname: None },
        ..opened(1)
    };
    let offline = HistoryEntry { what: EdgeEvent::Offline { last_seen: None }, ..opened(2) };
    let entries = [&online, &online, &opened(3)].map(|entry| (of, entry.clone()));
    store.put_history(entries.into()).await.expect("written");
    let store = reopen(&place, store).await;
    let entries = [&online, &offline, &offline, &online].map(|entry| (of, entry.clone()));
    store.put_history(entries.into()).await.expect("written");
    let expected = [online.clone(), offline, opened(3), online];
    assert_eq!(store.history(of, 10).await.expect("readable"), expected);
}

pub(crate) async fn what_is_too_large_is_refused_and_harms_nothing_else(place: impl Place) {
    let store = place.open().await;
    let long = EdgeRecord { tags: vec!["x".repeat(100_000)], ..edge(1) };
    store.commit(vec![Change::PutEdge(edge(2)), Change::PutEdge(long)]).await.expect_err("too long");
    store.put_snapshot(edge(1).endpoint, snapshot(MAX_COMPRESSED + 1)).await.expect_err("too large");
    store.health().expect("the store itself is well");
    assert_eq!(load(&store).await, Records::default(), "the batch is refused as a whole");
    store.commit(vec![Change::PutEdge(edge(2))]).await.expect("written");
}

pub(crate) async fn concurrent_commits_are_all_kept(place: impl Place) {
    const WRITERS: u64 = 64;
    const EACH: u64 = 20;
    let store = place.open().await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for number in writer * EACH..(writer + 1) * EACH {
                store.commit(vec![Change::PutEdge(edge(number))]).await.expect("written");
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.expect("no panic");
    }
    let store = reopen(&place, store).await;
    let expected: Vec<_> = (0..WRITERS * EACH).map(edge).collect();
    assert_eq!(load(&store).await.edges, expected);
}

/// Makes a test of every function above for the place that `$place` makes.
macro_rules! store_suite {
    ($place:expr) => {
        $crate::store::suite::store_suite! { $place =>
            a_new_store_has_defaults_only,
            what_was_committed_is_there_after_a_restart,
            a_batch_is_applied_in_its_order,
            a_deleted_edge_takes_all_that_is_its_own_along,
            what_comes_late_for_a_deleted_edge_is_gone_after_a_restart,
            a_snapshot_is_replaced_as_a_whole,
            the_newest_of_what_happened_to_an_edge_is_kept,
            presence_that_did_not_change_adds_nothing,
            what_is_too_large_is_refused_and_harms_nothing_else,
            concurrent_commits_are_all_kept,
        }
    };
    ($place:expr => $($name:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            $crate::store::suite::$name($place).await;
        }
    )*};
}
pub(crate) use store_suite;
