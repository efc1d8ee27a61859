//! The suite for the embedded store, and what is its own: damage, locks, formats. Crashes and full disks: `survival`.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::domain::edge::EdgeRecord;
use crate::store::codec::MAX_VALUE;
use crate::store::suite::{Place, edge, load, snapshot, store_suite};

const CACHE: u64 = 16 * 1024 * 1024;

impl Place for TempDir {
    type Store = SledStore;

    async fn open(&self) -> SledStore {
        SledStore::open(self.path(), CACHE).expect("opens")
    }

    async fn close(&self, store: SledStore) {
        store.close().await;
    }
}

fn place() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

store_suite!(place());

/// Writes one raw record, as damage or another release would.
fn write_raw(place: &TempDir, key: &[u8], value: &[u8]) {
    let sled = sled::open(place.path().join("records")).expect("opens");
    let tree = sled.open_tree("records").expect("opens");
    tree.insert(key, value).expect("written");
    sled.flush().expect("flushed");
}

async fn with_one_edge() -> TempDir {
    let place = place();
    let store = place.open().await;
    store.commit(vec![Change::PutEdge(edge(1))]).await.expect("written");
    store.put_snapshot(edge(1).endpoint, snapshot(20_000)).await.expect("written");
    store.close().await;
    place
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let place = place();
    let store = place.open().await;
    store.close().await;
    store.close().await;
    let error = store.commit(vec![Change::PutEdge(edge(1))]).await.expect_err("closed");
    assert!(matches!(error, StoreError::Closed), "{error}");
    assert!(matches!(store.load(), Err(StoreError::Closed)));
}

#[tokio::test]
async fn closing_finishes_what_was_asked_before() {
    let place = place();
    let store = place.open().await;
    let commits: Vec<_> =
        (0..200).map(|number| tokio::spawn(store.commit(vec![Change::PutEdge(edge(number))]))).collect();
    tokio::task::yield_now().await;
    store.close().await;
    let mut acknowledged = Vec::new();
    for (number, commit) in (0..).zip(commits) {
        match commit.await.expect("no panic") {
            Ok(()) => acknowledged.push(edge(number)),
            Err(error) => assert!(matches!(error, StoreError::Closed), "{error}"),
        }
    }
    let store = place.open().await;
    assert_eq!(load(&store).await.edges, acknowledged);
}

#[tokio::test]
async fn a_second_opener_hears_that_the_store_is_in_use() {
    let place = place();
    let _store = place.open().await;
    let error = SledStore::open(place.path(), CACHE).expect_err("locked");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let place = with_one_edge().await;
    write_raw(&place, FORMAT_KEY, b"99");
    write_raw(&place, RELEASE_KEY, b"9.8.7\x1b[2J");
    let error = SledStore::open(place.path(), CACHE).expect_err("too new");
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    let error = error.to_string();
    for word in ["9.8.7", env!("CARGO_PKG_VERSION"), "restore a backup"] {
        assert!(error.contains(word), "{error} lacks {word}");
    }
    assert!(!error.contains('\u{1b}'), "it is fit to show: {error}");
}

#[tokio::test]
async fn a_damaged_record_is_named() {
    for (key, value, name) in [
        (
            b"edge/1/0123456789abcdef".as_slice(),
            b"\x01{}".as_slice(),
            "edge/1/30313233-3435-3637-3839-616263646566",
        ),
        (b"edge/1/0123456789abcdef", b"\x09{}", "version 9"),
        (b"edge/1/short", b"\x01{}", "edge/1/short"),
        (b"seen/1/0123456789abcdef", b"\x01123", "seen/1/30313233"),
        (b"unknown", b"", "unknown"),
    ] {
        let place = with_one_edge().await;
        write_raw(&place, key, value);
        let error = SledStore::open(place.path(), CACHE).expect_err("damaged").to_string();
        assert!(error.contains(name) && error.contains("restore a backup"), "{error}");
    }
}

#[tokio::test]
async fn a_left_over_of_an_interrupted_open_is_cleared() {
    let place = with_one_edge().await;
    let left_over = place.path().join("records/snap.0000000000000FFF.generating");
    fs::write(&left_over, b"half").expect("written");
    let store = place.open().await;
    assert_eq!(load(&store).await.edges, [edge(1)]);
    assert!(!left_over.exists());
}

/// Every way in which a file of a database may be damaged that we can think of.
fn damage_everything(database: &Path) {
    for entry in fs::read_dir(database).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_file() {
            let mut bytes = fs::read(&path).expect("readable");
            for byte in bytes.iter_mut().skip(20) {
                *byte ^= 0x5a;
            }
            fs::write(&path, bytes).expect("written");
        }
    }
}

#[tokio::test]
async fn damaged_records_are_an_error_and_stay_as_they_are() {
    let place = with_one_edge().await;
    damage_everything(&place.path().join("records"));
    let before = fs::read(place.path().join("records/conf")).expect("readable");
    let error = SledStore::open(place.path(), CACHE).expect_err("damaged");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(fs::read(place.path().join("records/conf")).expect("readable"), before);
}

#[tokio::test]
async fn damaged_snapshots_are_thrown_away_and_the_records_live_on() {
    let place = with_one_edge().await;
    damage_everything(&place.path().join("snapshots"));
    let store = place.open().await;
    assert_eq!(load(&store).await.edges, [edge(1)]);
    assert_eq!(store.snapshot(edge(1).endpoint).await.expect("readable"), None);
    store.put_snapshot(edge(1).endpoint, snapshot(9_000)).await.expect("written");
    assert_eq!(store.snapshot(edge(1).endpoint).await.expect("readable"), Some(snapshot(9_000)));
}

#[tokio::test]
async fn damage_at_any_one_place_is_never_a_panic() {
    const PLACES: usize = 60;
    let place = place();
    let store = place.open().await;
    for number in 0..300 {
        store.commit(vec![Change::PutEdge(edge(number))]).await.expect("written");
    }
    store.close().await;
    let file = place.path().join("records/db");
    let whole = fs::read(&file).expect("readable");
    for at in (0..PLACES).map(|number| number * whole.len() / PLACES) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        fs::write(&file, damaged).expect("written");
        match SledStore::open(place.path(), CACHE) {
            Ok(store) => store.close().await,
            Err(error) => {
                assert!(matches!(error, OpenError::Damaged { .. } | OpenError::Io { .. }), "{error}")
            }
        }
    }
}

/// sled writes pages over 128 KiB to files of their own, which it never syncs.
#[tokio::test]
async fn no_page_is_ever_so_long_that_sled_keeps_it_in_an_unsynced_file() {
    const EDGES: u64 = 150;
    let place = place();
    let store = place.open().await;
    for round in 0..4 {
        for step in 0..EDGES {
            // Not in order: pages that are filled at random places grow fuller before they split.
            let number = step * 37 % EDGES;
            let empty = EdgeRecord { tags: vec![String::new()], ..edge(number) };
            let writes = codec::writes(&Change::PutEdge(empty)).expect("short");
            let room = MAX_VALUE - writes[0].1.as_ref().map_or(0, Vec::len);
            let longest = EdgeRecord { tags: vec!["x".repeat(room)], ..edge(number) };
            store.commit(vec![Change::PutEdge(longest)]).await.expect("written");
            if number.is_multiple_of(15) {
                store
                    .put_snapshot(edge(number).endpoint, snapshot(1_000_000 - round))
                    .await
                    .expect("written");
            }
        }
    }
    for database in ["records", "snapshots"] {
        let unsynced =
            fs::read_dir(place.path().join(database).join("blobs")).expect("sled's folder").count();
        assert_eq!(unsynced, 0, "{database}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_the_folders() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = place();
    let _store = place.open().await;
    for database in ["records", "snapshots"] {
        let mode = fs::metadata(place.path().join(database)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{database}");
    }
}
