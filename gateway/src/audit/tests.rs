//! The log as a whole: what it promises, held against what can happen to its files and its disk.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use proptest::prelude::*;
use shared::wire::admin::{AuditOutcome, AuditRecord, AuditVerdict};
use tempfile::TempDir;

use super::entry::stranger;
use super::page::{Query, page};
use super::verify::{verify_file, verify_folder};
use super::*;

const PLENTY: u64 = 1 << 30;
/// The least that a log can be bounded to in a configuration.
const LITTLE: u64 = 1 << 20;
/// Tells the child of the test with the full disk its folder, and, by being set, that it is one.
const FOLDER_VARIABLE: &str = "TIDEGATE_TEST_AUDIT";

fn entry(action: &str) -> Entry {
    Entry::by_gateway(action)
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let dir = data.join(files::FOLDER);
    let segments = files::list(&dir).expect("a log").into_iter();
    segments.map(|segment| files::path(&dir, segment.number)).collect()
}

fn lines(data: &Path) -> Vec<String> {
    let text = |path: PathBuf| fs::read_to_string(path).expect("readable");
    segments(data)
        .into_iter()
        .map(text)
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn records(data: &Path) -> Vec<AuditRecord> {
    lines(data).iter().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

fn verified(data: &Path) -> AuditVerdict {
    verify_folder(data, &[]).expect("readable")
}

#[track_caller]
fn assert_intact(data: &Path) {
    let verdict = verified(data);
    assert!(verdict.intact, "{verdict:#?}");
}

/// Opens the log, records these one after the other, and closes it.
async fn write(data: &Path, max: u64, actions: &[&str]) {
    let audit = Audit::open(data, max).expect("a folder of ours");
    for action in actions {
        audit.record(entry(action)).await.expect("the disk has room");
    }
    audit.close().await;
}

#[tokio::test]
async fn what_is_recorded_is_durable_in_order_and_continues_after_a_restart() {
    let data = folder();
    write(data.path(), PLENTY, &["a", "b"]).await;
    write(data.path(), PLENTY, &["c"]).await;
    let records = records(data.path());
    let told: Vec<_> = records.iter().map(|record| (record.seq, record.action.as_str())).collect();
    assert_eq!(told, [(1, "a"), (2, "b"), (3, "c")]);
    assert_eq!(records[0].prev, Default::default());
    assert_eq!(records[2].prev, records[1].hash);
    assert_intact(data.path());
    let verdict = verified(data.path());
    assert_eq!((verdict.records, verdict.head), (3, AuditHead { seq: 3, hash: records[2].hash }));
}

#[tokio::test]
async fn a_promise_is_kept_also_where_nobody_waits() {
    let data = folder();
    let audit = Audit::open(data.path(), PLENTY).expect("a fresh folder");
    let promise = audit.promise().await.expect("room");
    promise.keep_later(entry("left"));
    audit.note(entry("noted"));
    audit.close().await;
    assert!(matches!(audit.record(entry("late")).await, Err(StoreError::Closed)));
    // Promises go first; both are there.
    let mut told: Vec<_> = records(data.path()).into_iter().map(|record| record.action).collect();
    told.sort();
    assert_eq!(told, ["left", "noted"]);
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let data = folder();
    write(data.path(), PLENTY, &["a"]).await;
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&data.path().join(files::FOLDER)), 0o700);
    for file in fs::read_dir(data.path().join(files::FOLDER)).expect("a folder") {
        let path = file.expect("readable").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn a_log_stays_within_its_bound_and_proves_what_is_left() {
    let data = folder();
    let audit = Audit::open(data.path(), LITTLE).expect("a fresh folder");
    let detail = "x".repeat(300);
    let mut noted = Vec::new();
    for number in 0..6000 {
        let promise = audit.promise().await.expect("room");
        promise.keep_later(entry("fill").detail(&detail));
        if number % 500 == 0 {
            audit.record(entry("mark")).await.expect("room");
            noted.push(audit.head());
        }
    }
    audit.close().await;
    let bytes: u64 = segments(data.path()).iter().map(|path| path.metadata().expect("there").len()).sum();
    assert!(bytes <= LITTLE + 256 * 1024, "{bytes}");
    let verdict = verified(data.path());
    assert!(verdict.intact, "{verdict:#?}");
    assert!(verdict.anchor.seq > 1000 && verdict.head.seq == 6012, "{verdict:?}");
    assert_eq!(verdict.anchor.seq + verdict.records, verdict.head.seq);
    // A place that was noted proves the log if it is still in it, and says so if it is not.
    let kept = noted.last().copied().expect("marks");
    assert!(verify_folder(data.path(), &[kept]).expect("readable").intact);
    let dropped = verify_folder(data.path(), &noted[..1]).expect("readable");
    assert!(dropped.problems[0].what.contains("dropped"), "{dropped:?}");
    // The end can go, too, and pages end where the log does.
    let view = View::of_folder(&data.path().join(files::FOLDER)).expect("readable");
    let all = Query { limit: 10_000, ..Query::default() };
    assert_eq!(page(&view, &all).expect("readable").records.len() as u64, verdict.records);
    // A restart goes on in the same chain.
    write(data.path(), LITTLE, &["after"]).await;
    assert_intact(data.path());
}

#[tokio::test]
async fn an_incomplete_last_record_is_cut_off_and_told() {
    for cut in [1, 5, 200] {
        let data = folder();
        write(data.path(), PLENTY, &["a", "b", "c"]).await;
        fs::remove_file(data.path().join("audit/head.json")).expect("it was written");
        let last = segments(data.path()).pop().expect("a segment");
        let file = OpenOptions::new().write(true).open(&last).expect("ours");
        let length = file.metadata().expect("a file").len();
        file.set_len(length - cut).expect("ours");
        write(data.path(), PLENTY, &["d"]).await;
        let told: Vec<_> = records(data.path()).into_iter().map(|record| record.action).collect();
        assert_eq!(told, ["a", "b", "audit.repair", "d"], "cut by {cut}");
        assert_intact(data.path());
    }
}

#[tokio::test]
async fn a_log_that_was_changed_is_kept_and_goes_on_in_a_new_segment() {
    let data = folder();
    write(data.path(), PLENTY, &["a", "b", "c"]).await;
    let first = segments(data.path()).pop().expect("a segment");
    let text = fs::read_to_string(&first).expect("readable").replace("\"b\"", "\"B\"");
    fs::write(&first, &text).expect("ours");
    write(data.path(), PLENTY, &["d"]).await;
    assert_eq!(fs::read_to_string(&first).expect("readable"), text, "it is evidence");
    let second: Vec<_> = records(data.path()).split_off(3);
    assert_eq!((second[0].action.as_str(), second[0].outcome), ("audit.damage", AuditOutcome::Failed));
    assert!(second[0].detail.as_deref().is_some_and(|text| text.contains("line 2")), "{second:?}");
    let verdict = verified(data.path());
    assert!(!verdict.intact && verdict.damage_noted == 1, "{verdict:?}");
    assert_eq!((verdict.problems.len(), verdict.problems[0].line), (1, 2), "{verdict:?}");
}

#[tokio::test]
async fn a_log_that_lost_its_end_says_so() {
    let data = folder();
    write(data.path(), PLENTY, &["a", "b", "c"]).await;
    let last = segments(data.path()).pop().expect("a segment");
    let text = fs::read_to_string(&last).expect("readable");
    let kept: Vec<_> = text.lines().take(1).collect();
    fs::write(&last, kept.join("\n") + "\n").expect("ours");
    let verdict = verified(data.path());
    assert!(verdict.problems[0].what.contains("had come to record 3"), "{verdict:?}");
    write(data.path(), PLENTY, &["d"]).await;
    assert_eq!(records(data.path())[1].action, "audit.damage");
}

#[tokio::test]
async fn a_restored_log_goes_on_where_the_backup_was_made() {
    let (old, new) = (folder(), folder());
    write(old.path(), PLENTY, &["a", "b"]).await;
    let place = verified(old.path()).head;
    files::write_place(&new.path().join(log::RESTORED), place).expect("ours");
    write(new.path(), PLENTY, &["c"]).await;
    assert!(!new.path().join(log::RESTORED).exists());
    let told: Vec<_> = records(new.path()).into_iter().map(|record| (record.seq, record.action)).collect();
    assert_eq!(told, [(3, "gateway.restore".to_owned()), (4, "c".to_owned())]);
    let verdict = verified(new.path());
    assert!(verdict.intact && verdict.anchor == place, "{verdict:?}");
}

#[tokio::test]
async fn pages_go_backwards_through_all_segments_and_find_what_is_asked_for() {
    let data = folder();
    let audit = Audit::open(data.path(), 4 * LITTLE).expect("a fresh folder");
    for number in 0..3000_u32 {
        let edge = if number % 1000 == 0 { "rare" } else { "shop" };
        let entry = entry(if number % 2 == 0 { "edge.change" } else { "token.create" });
        let entry = entry.edge(&edge.parse().expect("a label")).detail(&"\"edge\":\"rare\"".repeat(10));
        audit.promise().await.expect("room").keep_later(entry);
    }
    audit.close().await;
    let view = View::of_folder(&data.path().join(files::FOLDER)).expect("readable");
    assert!(view.segments.len() > 2, "{view:?}");
    let mut query = Query { limit: 700, ..Query::default() };
    let mut seen = Vec::new();
    loop {
        let page = page(&view, &query).expect("readable");
        seen.extend(page.records.iter().map(|record| record.seq));
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=3000).rev().collect::<Vec<_>>());
    let found = |query: Query| page(&view, &Query { limit: 1000, ..query }).expect("readable").records;
    let rare = found(Query { edge: "rare".parse().ok(), ..Query::default() });
    assert_eq!(rare.iter().map(|record| record.seq).collect::<Vec<_>>(), [2001, 1001, 1]);
    let action = |action: &str| found(Query { action: Some(action.into()), ..Query::default() }).len();
    assert_eq!(
        (action("edge.change"), action("edge."), action("edge"), action("token.")),
        (1000, 1000, 0, 1000)
    );
    let newest = found(Query::default())[0].at;
    assert!(found(Query { since: Some(newest + 1), ..Query::default() }).is_empty());
    assert!(found(Query { until: Some(newest + 1), ..Query::default() }).len() == 1000);
    assert!(found(Query { actor: Some("nobody".into()), ..Query::default() }).is_empty());
}

#[tokio::test]
async fn a_flood_of_refusals_is_a_handful_of_records() {
    let data = folder();
    let audit = Audit::open(data.path(), PLENTY).expect("a fresh folder");
    for number in 0..50_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let from = std::net::SocketAddr::from(([10, a, b, c], 1));
        audit.refused(Entry::new(stranger(), "edge.list").refused("not-authenticated").from(from));
    }
    audit.close().await;
    let records = records(data.path());
    assert!(records.len() < 100, "{}", records.len());
    assert_eq!(records.iter().map(|record| record.count.unwrap_or(1)).sum::<u64>(), 50_000);
}

#[tokio::test]
async fn notes_beyond_the_queue_are_counted() {
    let data = folder();
    let audit = Audit::open(data.path(), PLENTY).expect("a fresh folder");
    let many = 4 * NOTES as u64;
    // Nothing awaits in between, and one round is a sync of the disk.
    for _ in 0..many {
        audit.note(entry("note"));
    }
    audit.close().await;
    let records = records(data.path());
    let dropped: u64 =
        records.iter().filter(|record| record.action == "audit.dropped").filter_map(|it| it.count).sum();
    let kept = records.iter().filter(|record| record.action == "note").count() as u64;
    assert_eq!(kept + dropped, many);
    assert!(kept >= NOTES as u64, "{kept}");
    assert_intact(data.path());
}

/// A log of a few records, as one file.
fn sample() -> Vec<String> {
    let mut head = AuditHead::default();
    let actions = [
        "gateway.start",
        "edge.create",
        "stream.open",
        "stream.close",
        "token.revoke",
        "edge.delete",
        "x",
        "y",
    ];
    let lines = actions.iter().map(|action| {
        let (line, place) = line::seal(&entry(action).detail("a, \"b\"").after(head));
        head = place;
        line
    });
    lines.collect()
}

fn verdict_of(text: &[u8], noted: AuditHead) -> AuditVerdict {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text).expect("written");
    verify_file(file.path(), &[noted]).expect("readable")
}

fn joined(lines: &[String]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
}

fn head_of(lines: &[String]) -> AuditHead {
    lines.last().and_then(|line| line::placed(line.as_bytes())).expect("a record").head
}

#[test]
fn an_unchanged_export_is_intact_wherever_it_begins() {
    let lines = sample();
    for begin in 0..lines.len() {
        let verdict = verdict_of(&joined(&lines[begin..]), head_of(&lines));
        assert!(verdict.intact, "{verdict:?}");
        assert_eq!((verdict.anchor.seq, verdict.records), (begin as u64, (lines.len() - begin) as u64));
    }
}

proptest! {
    #[test]
    fn any_changed_byte_is_found(at in any::<prop::sample::Index>(), flip in 1_u8..=255) {
        let lines = sample();
        let mut text = joined(&lines);
        let at = at.index(text.len());
        text[at] ^= flip;
        prop_assert!(!verdict_of(&text, head_of(&lines)).intact, "byte {at}");
    }

    #[test]
    fn any_removed_or_added_bytes_are_found(
        at in any::<prop::sample::Index>(), remove in 0_usize..300, add in prop::collection::vec(any::<u8>(), 0..40)
    ) {
        let lines = sample();
        let before = joined(&lines);
        let at = at.index(before.len());
        let mut text = before.clone();
        let end = (at + remove).min(text.len());
        text.splice(at..end, add);
        // What begins later is intact in itself, as an export may; everything else shows.
        prop_assume!(text != before);
        let begins_later = before.ends_with(&text) && (text.is_empty() || before[before.len() - text.len() - 1] == b'\n');
        prop_assume!(!begins_later);
        prop_assert!(!verdict_of(&text, head_of(&lines)).intact);
    }

    #[test]
    fn any_record_that_is_missing_doubled_or_moved_is_found(one in 0_usize..8, other in 0_usize..8) {
        let lines = sample();
        let mut moved = lines.clone();
        let line = moved.remove(one);
        if one > 0 {
            prop_assert!(!verdict_of(&joined(&moved), head_of(&lines)).intact, "missing {one}");
        }
        let mut doubled = lines.clone();
        doubled.insert(other, line.clone());
        prop_assert!(!verdict_of(&joined(&doubled), head_of(&lines)).intact, "doubled {one} at {other}");
        moved.insert(other.min(moved.len()), line);
        prop_assume!(moved != lines);
        prop_assert!(!verdict_of(&joined(&moved), head_of(&lines)).intact, "moved {one} to {other}");
    }

    #[test]
    fn a_record_that_was_written_anew_with_all_that_follow_shows_by_a_noted_place(from in 0_usize..8) {
        let lines = sample();
        let mut forged = lines[..from].to_vec();
        let mut head = forged.last().map_or_else(AuditHead::default, |_| head_of(&forged));
        for line in &lines[from..] {
            let record: AuditRecord = serde_json::from_str(line).expect("a record");
            let lie = AuditRecord { at: record.at + 1, prev: head.hash, ..record };
            let (line, place) = line::seal(&lie);
            head = place;
            forged.push(line);
        }
        prop_assert!(verdict_of(&joined(&forged), head).intact, "the chain alone can't tell");
        prop_assert!(!verdict_of(&joined(&forged), head_of(&lines)).intact);
    }
}

/// What the child says, on a line of its own: the test harness writes to the same output.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    write!(out, "\n> {line}\n").and_then(|()| out.flush()).expect("the parent reads");
}

/// Promises records until the disk is full, notes some then, and goes on until it is not full any more.
async fn record_on_a_full_disk(data: &Path) {
    let audit = Audit::open(data, PLENTY).expect("a fresh folder");
    let detail = "x".repeat(300);
    let full = loop {
        match audit.promise().await {
            Ok(promise) => {
                promise.keep(entry("fill").detail(&detail)).await.expect("what was promised is kept")
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Full), "{full}");
    assert!(audit.health().is_err());
    audit.note(entry("while-full"));
    say("full");
    let end = Instant::now() + Duration::from_secs(30);
    while audit.promise().await.is_err() {
        assert!(Instant::now() < end, "it finds its way back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    audit.record(entry("again")).await.expect("there is room");
    audit.close().await;
    say("done");
}

fn start_child(name: &str, data: &Path) -> Child {
    let module = module_path!().split_once("::").expect("a module of the crate").1;
    // Without the trap, the limit's signal would end the process; with it, writes fail as on a full disk.
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -S -f 8192; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this test program"))
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg(format!("{module}::{name}"))
        .env(FOLDER_VARIABLE, data)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("needs sh")
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_promised_what_was_is_kept_and_it_goes_on_when_there_is_room() {
    if let Some(data) = std::env::var_os(FOLDER_VARIABLE) {
        return record_on_a_full_disk(Path::new(&data)).await;
    }
    let data = folder();
    let name = "on_a_full_disk_nothing_is_promised_what_was_is_kept_and_it_goes_on_when_there_is_room";
    let mut child = start_child(name, data.path());
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let mut said = Vec::new();
    for line in out.lines().map_while(Result::ok) {
        let Some(line) = line.strip_prefix("> ") else { continue };
        if line == "full" {
            let lifted = Command::new("prlimit")
                .args(["--fsize=unlimited", "--pid", &child.id().to_string()])
                .status()
                .expect("needs prlimit, of the package util-linux");
            assert!(lifted.success());
        }
        said.push(line.to_owned());
    }
    assert!(child.wait().expect("a child").success(), "{said:?}");
    assert_eq!(said, ["full", "done"]);
    assert_intact(data.path());
    let told: Vec<_> = records(data.path()).into_iter().map(|record| record.action).collect();
    assert!(told.ends_with(&["while-full".to_owned(), "again".to_owned()]), "{:?}", &told[told.len() - 3..]);
}

#[test]
fn a_line_of_any_length_takes_the_memory_of_a_record_only() {
    use super::line::MAX_LINE;
    use super::log::next_line;
    for (content, kept) in
        [(0, 0), (MAX_LINE, MAX_LINE), (MAX_LINE + 1, MAX_LINE + 1), (99 * MAX_LINE, MAX_LINE + 1)]
    {
        let file = [vec![b'x'; content].as_slice(), b"\nnext\ntorn"].concat();
        let mut reader = file.as_slice();
        let mut next = || next_line(&mut reader).expect("readable");
        let line = next().expect("the first line");
        assert_eq!((line.bytes.len(), line.is_ended, line.length), (kept, true, content as u64 + 1));
        assert_eq!(next().expect("the second").bytes, b"next");
        let torn = next().expect("the third");
        assert_eq!((torn.bytes.as_slice(), torn.is_ended, torn.length), (b"torn".as_slice(), false, 4));
        assert!(next().is_none());
    }
}
