//! Upgrades with steps of this file's own: what is left wherever they end, what is kept of the store before.

use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;

const CACHE: u64 = 16 * 1024 * 1024;
const KEYS: u32 = 2000;

/// Every value gets an `a` behind it.
fn append_a(tree: &sled::Tree) -> sled::Result<sled::Batch> {
    append(tree, b'a')
}

fn append_b(tree: &sled::Tree) -> sled::Result<sled::Batch> {
    append(tree, b'b')
}

fn append(tree: &sled::Tree, byte: u8) -> sled::Result<sled::Batch> {
    let mut batch = sled::Batch::default();
    for entry in tree.scan_prefix(b"k") {
        let (key, mut value) = entry.map(|(key, value)| (key, value.to_vec()))?;
        value.push(byte);
        batch.insert(key, value);
    }
    Ok(batch)
}

fn fails(_: &sled::Tree) -> sled::Result<sled::Batch> {
    Err(sled::Error::Unsupported("what this step needs is not there".to_owned()))
}

const fn part(steps: &'static [Step]) -> Part {
    Part { folder: "records", on_damage: OnDamage::Refuse, steps }
}

/// A data folder with a store of format 1.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary folder"));
        let instance = Instance::open_as_it_is(&place.database(), CACHE).expect("opens");
        let fill: Build = Box::new(|_| {
            let mut batch = sled::Batch::default();
            batch.insert(FORMAT_KEY, b"1");
            for number in 0..KEYS {
                batch.insert(format!("k{number}").as_bytes(), b"v");
            }
            Ok(batch)
        });
        assert!(instance.write(vec![fill]).is_ok());
        instance.close();
        place
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn database(&self) -> PathBuf {
        self.store().join("records")
    }

    fn copies(&self) -> Vec<Copy> {
        finished(&self.0.path().join(COPIES)).unwrap_or_default()
    }

    fn upgrade(&self, steps: &'static [Step]) -> Result<(), OpenError> {
        upgrade(&self.store(), CACHE, &[part(steps)], |_| Ok(u64::MAX))
    }

    /// The format, and the one value that all keys have.
    fn seen(&self) -> (Option<u32>, String) {
        seen(&self.database())
    }
}

fn seen(database: &Path) -> (Option<u32>, String) {
    let instance = Instance::open_as_it_is(database, CACHE).expect("opens");
    let format = instance.format(database).expect("a number");
    let values = instance.read(|tree| {
        let values = tree.scan_prefix(b"k").values();
        values.map(|value| value.map(|value| String::from_utf8_lossy(&value).into_owned())).collect()
    });
    let values: sled::Result<Vec<String>> = values.map_or_else(|_| panic!("read"), Ok);
    let mut values = values.expect("read");
    assert_eq!(values.len(), KEYS as usize);
    values.dedup();
    assert_eq!(values.len(), 1, "a step is there as a whole or not at all");
    instance.close();
    (format, values.remove(0))
}

#[test]
fn steps_run_in_order_and_once_and_the_store_before_them_is_kept() {
    const STEPS: &[Step] = &[append_a, append_b];
    let place = Place::new();
    place.upgrade(STEPS).expect("upgraded");
    assert_eq!(place.seen(), (Some(3), "vab".to_owned()));
    let copies = place.copies();
    assert_eq!(copies.iter().map(|copy| copy.format).collect::<Vec<_>>(), [1]);
    assert_eq!(seen(&copies[0].path.join("records")), (Some(1), "v".to_owned()));

    place.upgrade(STEPS).expect("nothing to do");
    assert_eq!(place.seen(), (Some(3), "vab".to_owned()));
    assert_eq!(place.copies().len(), 1, "a store that is not upgraded is not copied");
}

#[test]
fn an_upgrade_that_ended_between_two_steps_goes_on_with_the_second() {
    let place = Place::new();
    let error = place.upgrade(&[append_a, fails]).expect_err("the second step fails").to_string();
    assert!(error.contains("what this step needs"), "{error}");
    assert_eq!(place.seen(), (Some(2), "va".to_owned()));
    place.upgrade(&[append_a, append_b]).expect("upgraded");
    assert_eq!(place.seen(), (Some(3), "vab".to_owned()));
    let copies = place.copies();
    assert_eq!(copies.iter().map(|copy| copy.format).collect::<Vec<_>>(), [1, 2], "each start made its own");
    assert_eq!(seen(&copies[0].path.join("records")), (Some(1), "v".to_owned()));
}

#[test]
fn a_disk_without_room_for_the_copy_leaves_everything_as_it_is() {
    let place = Place::new();
    let full = |_: &Path| Ok(RESERVE);
    let error = upgrade(&place.store(), CACHE, &[part(&[append_a])], full).expect_err("no room");
    assert!(matches!(error, OpenError::NoRoom { free: RESERVE, .. }), "{error}");
    assert!(error.to_string().contains("make room"), "{error}");
    assert_eq!((place.seen(), place.copies().len()), ((Some(1), "v".to_owned()), 0));
}

#[test]
fn a_copy_that_was_cut_short_is_made_anew() {
    let place = Place::new();
    let torn = place.0.path().join(COPIES).join(format!("{UNFINISHED}2026"));
    fs::create_dir_all(&torn).expect("made");
    fs::write(torn.join("db"), "half").expect("written");
    place.upgrade(&[append_a]).expect("upgraded");
    assert!(!torn.exists());
    assert_eq!(place.copies().len(), 1);
}

#[test]
fn a_store_of_the_future_is_refused_with_the_copy_to_go_back_to() {
    let place = Place::new();
    place.upgrade(&[append_a, append_b]).expect("upgraded");
    let copy = place.copies().remove(0).path;
    for error in [
        place.upgrade(&[append_a]).expect_err("too new"),
        Instance::open(&place.database(), CACHE, 2).expect_err("too new"),
    ] {
        assert!(matches!(error, OpenError::Newer { found: 3, newest: 2, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(RELEASE) && text.contains(&copy.display().to_string()), "{text}");
    }
    assert_eq!(place.seen(), (Some(3), "vab".to_owned()));
    // What it says is done: the older release opens the copy.
    fs::remove_dir_all(place.store()).expect("removed");
    copy_folder(&copy, &place.store()).expect("copied");
    place.upgrade(&[append_a]).expect("upgraded");
    assert_eq!(place.seen(), (Some(2), "va".to_owned()));
}

#[test]
fn the_newest_copies_are_kept() {
    let place = Place::new();
    let copies = place.0.path().join(COPIES);
    for day in 1..=4 {
        fs::create_dir_all(copies.join(format!("format-1-2026-11-0{day}T000000Z"))).expect("made");
    }
    fs::create_dir(copies.join("notes")).expect("made");
    place.upgrade(&[append_a]).expect("upgraded");
    let times: Vec<_> = place.copies().into_iter().map(|copy| copy.time).collect();
    assert_eq!(times.len(), KEPT);
    assert_eq!(times[..2], ["2026-11-03T000000Z", "2026-11-04T000000Z"]);
    assert!(copies.join("notes").exists(), "what is not ours stays");
}

#[test]
fn a_part_that_can_be_had_again_holds_up_no_upgrade() {
    static RAN: AtomicBool = AtomicBool::new(false);
    const STEPS: &[Step] = &[|_| {
        RAN.store(true, Ordering::Relaxed);
        Ok(sled::Batch::default())
    }];
    let place = Place::new();
    let snapshots = place.store().join("snapshots");
    fs::create_dir_all(&snapshots).expect("made");
    fs::write(snapshots.join("conf"), "no configuration of sled's").expect("written");
    let damaged = Part { folder: "snapshots", on_damage: OnDamage::Remake, steps: STEPS };
    upgrade(&place.store(), CACHE, &[part(STEPS), damaged], |_| Ok(u64::MAX)).expect("upgraded");
    assert!(RAN.load(Ordering::Relaxed));
    assert_eq!(place.seen().0, Some(2));
}

#[test]
fn a_full_disk_is_told_from_one_with_room() {
    let here = free(&std::env::temp_dir()).expect("it is a file system");
    assert!(here > 0 && free(Path::new("/does/not/exist")).is_err());
}
