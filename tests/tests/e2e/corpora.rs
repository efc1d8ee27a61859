//! What the fuzzer found worth keeping is replayed here, by the code that the fuzzer runs (`docs/fuzzing.md`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use shared::fuzz::Target;

/// So many bytes the corpora of all targets may have: every checkout carries them.
const MOST: u64 = 600 * 1024;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in a workspace").join("fuzz")
}

fn targets() -> impl Iterator<Item = &'static Target> {
    [shared::fuzz::TARGETS, gateway::fuzz::TARGETS, edge_agent::fuzz::TARGETS].into_iter().flatten()
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("listed").file_name().into_string().expect("a plain name")).collect()
}

#[test]
fn every_input_that_was_worth_keeping_keeps_its_promises() {
    let mut bytes = 0;
    for target in targets() {
        let corpus = folder().join("corpus").join(target.name);
        let inputs = names_in(&corpus);
        assert!(!inputs.is_empty(), "{} has no corpus: run the fuzzer, see docs/fuzzing.md", target.name);
        for input in inputs {
            let path = corpus.join(input);
            let content = fs::read(&path).expect("readable");
            bytes += content.len() as u64;
            let run = std::panic::catch_unwind(|| (target.run)(&content));
            assert!(run.is_ok(), "{} breaks a promise of {}", path.display(), target.name);
        }
    }
    assert!(bytes <= MOST, "the corpora have {bytes} bytes: minimise them, see docs/fuzzing.md");
}

#[test]
fn the_fuzzer_runs_the_targets_that_are_replayed_and_no_others() {
    let listed: BTreeSet<String> = targets().map(|target| target.name.to_owned()).collect();
    assert_eq!(listed.len(), targets().count(), "each has a name of its own");
    assert_eq!(names_in(&folder().join("corpus")), listed, "folders of corpora");
    let files = names_in(&folder().join("fuzz_targets"));
    assert_eq!(files, listed.iter().map(|name| format!("{name}.rs")).collect(), "programs of the fuzzer");
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).expect("readable");
    for name in &listed {
        let program = fs::read_to_string(folder().join(format!("fuzz_targets/{name}.rs"))).expect("readable");
        assert!(program.contains(&format!("fuzz::{name}(")), "{name}.rs runs another target");
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} is not in fuzz/Cargo.toml");
    }
}
