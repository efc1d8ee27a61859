//! Crashes and full disks, on a process of its own: a test starts this program again with itself alone and a variable
//! that makes it the child, kills that or limits its files, and looks at what is left.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use shared::id::{EdgeId, EndpointId};
use uuid::Uuid;

use super::*;
use crate::domain::edge::EdgeRecord;
use crate::domain::people::ApiToken;
use crate::store::suite::{edge, load, token};

/// Tells the child its folder, and, by being set, that it is one.
const FOLDER_VARIABLE: &str = "TIDEGATE_TEST_STORE";
/// How many times the crash test kills; 5 where unset.
const KILLS_VARIABLE: &str = "TIDEGATE_TEST_KILLS";
const CACHE: u64 = 16 * 1024 * 1024;
const WRITERS: u64 = 64;
/// How much each writer of the test with the full disk writes at a time; 300 records take more than sled's buffer.
const EDGES_OF_A_BATCH: [u64; 5] = [1, 1, 7, 150, 300];

/// The folder to work in, if this is the child.
fn child_folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from)
}

/// What the child says, on a line of its own: the test harness writes to the same output.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    write!(out, "\n> {line}\n").and_then(|()| out.flush()).expect("the parent reads");
}

/// What the child said, until it is gone. The last line may be cut.
fn heard(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let out = BufReader::new(child.stdout.take().expect("piped"));
    out.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("> ").map(str::to_owned))
}

/// Runs the test `name` of this file as a child on `dir`, after the shell did `first`.
fn start_child(name: &str, dir: &Path, first: &str) -> Child {
    let module = module_path!().split_once("::").expect("a module of the crate").1;
    Command::new("sh")
        .args(["-c", &format!("{first} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().expect("this test program"))
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg(format!("{module}::{name}"))
        .env(FOLDER_VARIABLE, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("needs sh")
}

/// What a writer of the crash test does to each of its edges, in this order; the numbers are what it says when done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Enrolled = 1,
    Bound = 2,
    Deleted = 3,
}

fn bound(number: u64) -> EdgeRecord {
    EdgeRecord { bound: Some(EdgeId::from_bytes(*edge(number).endpoint.as_bytes())), ..edge(number) }
}

/// Enrols, binds (a token is written in the same batch, to see a torn one) and deletes every third.
async fn write_for_ever(store: SledStore, first: u64) {
    for number in (first..).step_by(WRITERS as usize) {
        store.commit(vec![Change::PutEdge(edge(number))]).await.expect("written");
        say(&format!("{number} 1"));
        store
            .commit(vec![Change::PutEdge(bound(number)), Change::PutToken(token(number))])
            .await
            .expect("written");
        say(&format!("{number} 2"));
        if number.is_multiple_of(3) {
            let gone = vec![Change::DeleteToken(token(number).id), Change::DeleteEdge(edge(number).endpoint)];
            store.commit(gone).await.expect("written");
            say(&format!("{number} 3"));
        }
    }
}

async fn write_until_killed(dir: &Path) {
    let store = SledStore::open(dir, CACHE).expect("opens after every kill");
    let next = load(&store).await.edges.iter().map(|edge| edge.created_at.0 + 1).max().unwrap_or(0);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_for_ever(store.clone(), next.next_multiple_of(WRITERS) + writer));
    }
    writers.join_next().await.expect("there are writers").expect("writers only end by a failure");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    if let Some(dir) = child_folder() {
        return write_until_killed(&dir).await;
    }
    let kills: usize =
        std::env::var(KILLS_VARIABLE).map_or(5, |kills| kills.parse().expect("a number of kills"));
    let place = tempfile::tempdir().expect("a temporary folder");
    let mut acknowledged: HashMap<u64, u8> = HashMap::new();
    for kill in 0..kills {
        let mut child =
            start_child("nothing_acknowledged_is_lost_when_the_process_is_killed", place.path(), "");
        let mut said = heard(&mut child);
        // Another moment each time: early after the open, and well into the work.
        let mut patience = 20 + kill * 397 % 1500;
        let mut take = |line: String| {
            if let Some((number, step)) = line.split_once(' ') {
                let number = number.parse().expect("a number");
                if let Ok(step) = step.parse() {
                    acknowledged.insert(number, step);
                }
            }
        };
        for line in said.by_ref() {
            take(line);
            patience -= 1;
            if patience == 0 {
                break;
            }
        }
        let ended = child.try_wait().expect("asked");
        assert!(patience == 0 && ended.is_none(), "the child ended by itself: {}", complaint(&mut child));
        child.kill().expect("killed");
        said.for_each(take);
        child.wait().expect("reaped");

        let store = SledStore::open(place.path(), CACHE).expect("opens after every kill");
        check(&load(&store).await, &acknowledged, kill);
        store.close().await;
    }
    assert!(acknowledged.len() > 100, "only {} edges: the test tests little", acknowledged.len());
}

fn complaint(child: &mut Child) -> String {
    let mut text = String::new();
    child.kill().expect("killed");
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    text
}

/// Everything acknowledged is there, or what came after it; no batch is half there.
fn check(records: &Records, acknowledged: &HashMap<u64, u8>, kill: usize) {
    let edges: HashMap<EndpointId, &EdgeRecord> =
        records.edges.iter().map(|edge| (edge.endpoint, edge)).collect();
    let tokens: HashMap<Uuid, &ApiToken> = records.tokens.iter().map(|token| (token.id, token)).collect();
    for (&number, &step) in acknowledged {
        let found = match edges.get(&edge(number).endpoint) {
            Some(found) if found.bound.is_some() => Step::Bound,
            Some(_) => Step::Enrolled,
            None if number.is_multiple_of(3) && step >= Step::Bound as u8 => Step::Deleted,
            None => panic!("kill {kill}: edge {number} was acknowledged (step {step}) and is gone"),
        };
        assert!(
            found as u8 >= step,
            "kill {kill}: edge {number} is at {found:?}, acknowledged was step {step}"
        );
        assert_eq!(
            tokens.contains_key(&token(number).id),
            found == Step::Bound,
            "kill {kill}: the batch of edge {number} is torn"
        );
    }
}

/// Writes until the disk is full and then until it is not. In the first way every flush is small; in the others sled's
/// buffer fills up, and fails, while a batch is being applied.
async fn fill_the_disk(store: SledStore, edges_of_a_batch: u64, first: u64) {
    let mut is_full = false;
    for batch in 0.. {
        let numbers = first + batch * edges_of_a_batch..first + (batch + 1) * edges_of_a_batch;
        let long = |number| EdgeRecord { tags: vec!["x".repeat(4000)], ..edge(number) };
        match store.commit(numbers.clone().map(|number| Change::PutEdge(long(number))).collect()).await {
            Ok(()) => {
                numbers.for_each(|number| say(&format!("{number} written")));
                if is_full {
                    return;
                }
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Full), "{error}");
                if !is_full {
                    say("full");
                }
                is_full = true;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn write_on_a_full_disk(dir: &Path) {
    let store = SledStore::open(dir, CACHE).expect("opens");
    let mut writers = tokio::task::JoinSet::new();
    for (writer, edges_of_a_batch) in (0..).zip(EDGES_OF_A_BATCH) {
        writers.spawn(fill_the_disk(store.clone(), edges_of_a_batch, writer * 1_000_000));
    }
    while let Some(done) = writers.join_next().await {
        done.expect("no panic");
    }
    store.health().expect("healthy again");
    say("recovered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_commits_and_they_go_on_when_there_is_room() {
    if let Some(dir) = child_folder() {
        return write_on_a_full_disk(&dir).await;
    }
    let place = tempfile::tempdir().expect("a temporary folder");
    // A limit on the size of files stands for the disk: it needs no privilege, and it can be lifted from outside.
    let limit = "trap '' XFSZ; ulimit -S -f 8192;";
    let mut child =
        start_child("a_full_disk_fails_commits_and_they_go_on_when_there_is_room", place.path(), limit);
    let mut written = Vec::new();
    let mut full = 0;
    let mut recovered = false;
    for line in heard(&mut child) {
        if let Some(number) = line.strip_suffix(" written") {
            written.push(number.parse::<u64>().expect("a number"));
        } else if line == "full" {
            full += 1;
            if full < EDGES_OF_A_BATCH.len() {
                continue;
            }
            let lifted = Command::new("prlimit")
                .args(["--fsize=unlimited", "--pid", &child.id().to_string()])
                .status()
                .expect("needs prlimit, of the package util-linux");
            assert!(lifted.success());
        } else {
            recovered = line == "recovered";
        }
    }
    assert!(recovered, "{}", complaint(&mut child));
    child.wait().expect("reaped");
    let store = SledStore::open(place.path(), CACHE).expect("opens");
    let edges: Vec<u64> = load(&store).await.edges.iter().map(|edge| edge.created_at.0).collect();
    let lost: Vec<_> = written.iter().filter(|number| !edges.contains(number)).collect();
    assert!(lost.is_empty() && written.len() > 100, "lost {lost:?} of {}", written.len());
}
