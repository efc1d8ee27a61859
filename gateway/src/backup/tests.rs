//! A backup comes back as it was, or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use futures_util::StreamExt as _;
use futures_util::stream::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::format::VERSION;
use super::*;
use crate::data_dir::{DataDir, DataDirError, RESTORING};
use crate::domain::edge::{Change, EdgeRecord, Records, Settings, Timestamp};
use crate::store::suite::{edge, load, session, snapshot, ssh_key, token, token_of, user};
use crate::store::{FOLDER, SledStore};

const CACHE: u64 = 16 * 1024 * 1024;

/// A gateway's data folder: keys, three edges, a user, tokens, SSH keys, settings, snapshots.
async fn gateway() -> (TempDir, SledStore) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in
        [("host_key", "secret one"), ("tls_key.pem", "secret two"), (".hidden", "x"), ("lock", "")]
    {
        fs::write(dir.path().join(name), content).expect("written");
    }
    let store = SledStore::open(&dir.path().join(FOLDER), CACHE).expect("opens");
    let settings =
        Settings { public_url: Some("https://gate.example.com:9000".into()), ..Settings::default() };
    let mut changes: Vec<_> = (1..=3).map(|number| Change::PutEdge(edge(number))).collect();
    changes.extend([
        Change::PutUser(user(1)),
        Change::PutSession(session(1, user(1).id)),
        Change::PutToken(token(1)),
        Change::PutToken(token_of(2, user(1).id)),
        Change::PutSshKey(ssh_key(1)),
        Change::PutSshKey(ssh_key(2)),
    ]);
    changes.extend([Change::PutSettings(settings)]);
    store.commit(changes).await.expect("written");
    store.put_last_seen(vec![(edge(2).endpoint, Timestamp(22))]).await.expect("written");
    store.put_snapshot(edge(1).endpoint, snapshot(10)).await.expect("written");
    store.put_snapshot(edge(2).endpoint, snapshot(500)).await.expect("written");
    (dir, store)
}

const SUMMARY: Summary = Summary { edges: 3, users: 1, tokens: 2, ssh_keys: 2, snapshots: 2, files: 2 };

async fn backup(dir: &TempDir, store: &SledStore) -> Vec<u8> {
    let stream =
        begin(Arc::new(store.clone()), dir.path().to_owned(), AuditHead::default()).await.expect("begins");
    let chunks: Vec<Bytes> = stream.try_collect().await.expect("no error on the way");
    chunks.concat()
}

/// All but who is signed in.
async fn expected_of(store: &SledStore) -> Records {
    Records { sessions: Vec::new(), ..load(store).await }
}

/// A folder with the file `backup` in it, and where a data folder may be made.
struct Place {
    dir: TempDir,
}

impl Place {
    fn with(backup: &[u8]) -> Self {
        let place = Self { dir: tempfile::tempdir().expect("a temporary folder") };
        fs::write(place.file(), backup).expect("written");
        place
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("backup")
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    async fn refusal(&self) -> RestoreError {
        let error = restore(&self.file(), &self.data()).await.expect_err("must be refused");
        assert!(!self.data().join("store").exists(), "{error}, but something was restored");
        error
    }
}

#[tokio::test]
async fn a_backup_comes_back_as_it_was() {
    let (dir, store) = gateway().await;
    let place = Place::with(&backup(&dir, &store).await);
    assert_eq!(verify(&place.file()).expect("good"), SUMMARY);
    assert_eq!(restore(&place.file(), &place.data()).await.expect("good"), SUMMARY);

    for (name, content) in [("host_key", "secret one"), ("tls_key.pem", "secret two")] {
        let path = place.data().join(name);
        assert_eq!(fs::read_to_string(&path).expect("restored"), content);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
    assert!(!place.data().join(".hidden").exists());
    assert!(!place.data().join(RESTORING).exists());
    DataDir::open(&place.data()).expect("a gateway can start on it");
    let restored = SledStore::open(&place.data().join(FOLDER), CACHE).expect("opens");
    assert_eq!(load(&restored).await, expected_of(&store).await);
    for number in 1..=3 {
        let of = edge(number).endpoint;
        assert_eq!(restored.snapshot(of).await.expect("read"), store.snapshot(of).await.expect("read"));
    }
}

#[tokio::test]
async fn a_backup_shows_one_moment_of_a_gateway_that_goes_on() {
    let (dir, store) = gateway().await;
    let mut stream = Box::pin(
        begin(Arc::new(store.clone()), dir.path().to_owned(), AuditHead::default()).await.expect("begins"),
    );
    store
        .commit(vec![Change::DeleteEdge(edge(1).endpoint), Change::PutEdge(edge(4))])
        .await
        .expect("written");
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.expect("no error on the way"));
    }
    let place = Place::with(&bytes);
    restore(&place.file(), &place.data()).await.expect("good");
    let restored = SledStore::open(&place.data().join(FOLDER), CACHE).expect("opens");
    assert_eq!(load(&restored).await.edges, [edge(1), edge(2), edge(3)]);
}

#[tokio::test]
async fn a_large_backup_takes_many_chunks_and_comes_back() {
    let (dir, store) = gateway().await;
    let large = |number| EdgeRecord { tags: vec!["x".repeat(4000)], ..edge(number) };
    store.commit((0..600).map(|number| Change::PutEdge(large(number))).collect()).await.expect("written");
    store.put_snapshot(edge(7).endpoint, snapshot(1_000_000)).await.expect("written");
    let stream =
        begin(Arc::new(store.clone()), dir.path().to_owned(), AuditHead::default()).await.expect("begins");
    let chunks: Vec<Bytes> = stream.try_collect().await.expect("no error on the way");
    assert!(chunks.len() > 20, "{} chunks", chunks.len());
    let place = Place::with(&chunks.concat());
    restore(&place.file(), &place.data()).await.expect("good");
    let restored = SledStore::open(&place.data().join(FOLDER), CACHE).expect("opens");
    assert_eq!(load(&restored).await, expected_of(&store).await);
    assert_eq!(restored.snapshot(edge(7).endpoint).await.expect("read"), Some(snapshot(1_000_000)));
}

#[tokio::test]
async fn a_store_that_can_not_be_read_fails_before_the_stream_begins() {
    let (dir, store) = gateway().await;
    store.close().await;
    let error = begin(Arc::new(store), dir.path().to_owned(), AuditHead::default())
        .await
        .map(drop)
        .expect_err("closed");
    assert!(matches!(error, BackupError::Store(StoreError::Closed)), "{error}");
}

#[tokio::test]
async fn a_backup_that_is_cut_off_anywhere_is_called_so() {
    let (dir, store) = gateway().await;
    let whole = backup(&dir, &store).await;
    let place = Place::with(b"");
    for length in 0..whole.len() {
        fs::write(place.file(), &whole[..length]).expect("written");
        match verify(&place.file()) {
            Err(RestoreError::Truncated { length: told, .. }) => assert_eq!(told, length as u64),
            other => panic!("cut off after {length} of {} bytes: {other:?}", whole.len()),
        }
    }
    place.refusal().await;
}

#[tokio::test]
async fn a_changed_byte_anywhere_is_noticed() {
    let (dir, store) = gateway().await;
    let whole = backup(&dir, &store).await;
    let place = Place::with(b"");
    for position in 0..whole.len() {
        for flip in [0x01, 0x80] {
            let mut changed = whole.clone();
            changed[position] ^= flip;
            fs::write(place.file(), &changed).expect("written");
            let error = verify(&place.file()).expect_err("changed");
            assert!(
                !matches!(error, RestoreError::Read { .. } | RestoreError::Content { .. }),
                "{position}: {error}"
            );
        }
    }
    place.refusal().await;
    fs::write(place.file(), [whole.as_slice(), b"\n"].concat()).expect("written");
    assert!(matches!(place.refusal().await, RestoreError::Changed { .. }), "bytes behind the end");
}

#[tokio::test]
async fn an_end_that_says_it_has_content_is_none() {
    let mut file = [format::header().as_bytes(), &[0, 0, 0, 0, 0, 0, 5]].concat();
    file.extend_from_slice(&Sha256::digest(&file));
    assert!(matches!(Place::with(&file).refusal().await, RestoreError::Changed { .. }));
}

#[tokio::test]
async fn what_is_no_backup_of_ours_is_refused_by_its_kind() {
    let newer = format!("tidegate-backup {}\n", VERSION + 1);
    assert!(matches!(Place::with(newer.as_bytes()).refusal().await, RestoreError::Newer { found: 2, .. }));
    for other in [
        b"PK\x03\x04 an archive of something".as_slice(),
        b"tidegate-backup one\n",
        b"tidegate-backup 0\n",
        &[0; 99],
    ] {
        let error = Place::with(other).refusal().await;
        assert!(matches!(error, RestoreError::NotABackup { .. }), "{error}");
    }
    let place = Place::with(b"");
    fs::remove_file(place.file()).expect("removed");
    assert!(matches!(place.refusal().await, RestoreError::Read { .. }));
}

#[tokio::test]
async fn entries_that_no_gateway_wrote_are_refused_though_the_checksum_fits() {
    let file = |name: &str| Entry::File { name: name.to_owned(), content: b"x".to_vec() };
    let record = |key: &[u8], value: &[u8]| Entry::Record { key: key.to_vec(), value: value.to_vec() };
    for entry in [
        file("../escape"),
        file("/etc/passwd"),
        file(".restoring"),
        file("lock"),
        file(""),
        record(b"unknown", b""),
        record(b"settings/1/", b"\x02{}"),
    ] {
        let mut encoder = Encoder::new();
        encoder.add(&entry);
        let place = Place::with(&encoder.finish());
        let error = place.refusal().await;
        assert!(matches!(error, RestoreError::Content { .. }), "{entry:?}: {error}");
        assert!(!place.data().exists(), "nothing may be made for {entry:?}");
    }
}

#[tokio::test]
async fn a_data_folder_with_something_in_it_is_left_alone() {
    let (dir, store) = gateway().await;
    let place = Place::with(&backup(&dir, &store).await);
    fs::create_dir(place.data()).expect("made");
    fs::write(place.data().join("notes"), "mine").expect("written");
    assert!(matches!(place.refusal().await, RestoreError::NotEmpty { .. }));
    assert_eq!(fs::read_to_string(place.data().join("notes")).expect("there"), "mine");

    fs::remove_file(place.data().join("notes")).expect("removed");
    restore(&place.file(), &place.data()).await.expect("an empty folder, with nothing but an old lock");
}

#[tokio::test]
async fn a_data_folder_in_use_is_left_alone() {
    let (dir, store) = gateway().await;
    let place = Place::with(&backup(&dir, &store).await);
    let _running = DataDir::open(&place.data()).expect("nobody else is there");
    let error = place.refusal().await;
    assert!(matches!(error, RestoreError::DataDir(DataDirError::InUse { .. })), "{error}");
}

#[tokio::test]
async fn a_restore_that_was_cut_short_keeps_gateways_out() {
    let (dir, store) = gateway().await;
    let place = Place::with(&backup(&dir, &store).await);
    fs::create_dir_all(place.data().join(RESTORING)).expect("made, as by a restore that was killed");
    let error = place.refusal().await;
    assert!(matches!(error, RestoreError::DataDir(DataDirError::HalfRestored { .. })), "{error}");
    let error = DataDir::open(&place.data()).expect_err("half restored");
    assert!(error.to_string().contains("restore the backup again"), "{error}");
}

#[tokio::test]
async fn a_restore_that_fails_leaves_an_empty_folder() {
    let (dir, store) = gateway().await;
    let place = Place::with(&backup(&dir, &store).await);
    // A file name that no file system takes makes the filling fail half-way.
    let mut encoder = Encoder::new();
    encoder.add(&Entry::File { name: "host_key".into(), content: b"x".to_vec() });
    encoder.add(&Entry::File { name: "n".repeat(300), content: b"x".to_vec() });
    fs::write(place.file(), encoder.finish()).expect("written");
    assert!(matches!(place.refusal().await, RestoreError::Write { .. }));
    let left: Vec<_> = fs::read_dir(place.data())
        .expect("there")
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    assert_eq!(left, ["lock"]);
}
