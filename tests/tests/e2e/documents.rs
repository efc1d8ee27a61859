//! What the documents say of the code and its tests.

use std::path::{Path, PathBuf};

/// Folders of the workspace that have tests.
const CRATES: [&str; 6] = ["edge-agent", "fixtures", "gateway", "loadtest", "shared", "tests"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in a workspace").to_owned()
}

/// All Rust below `folder`, as (path, text).
fn sources(folder: &Path, into: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("Rust is text");
            into.push((path, text));
        }
    }
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let mut all = Vec::new();
    for name in CRATES {
        sources(&workspace().join(name).join("src"), &mut all);
        sources(&workspace().join(name).join("tests"), &mut all);
    }
    let model = std::fs::read_to_string(workspace().join("docs/security.md")).expect("it is there");
    let (_, rows) = model.split_once("\n## Row by row\n").expect("the table");
    let (rows, _) = rows.split_once("\n## ").expect("what follows the table");
    let mut named = 0;
    for row in rows.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().expect("a last column");
        let tests: Vec<_> = tests.split(", ").map(|test| test.trim_matches('`')).collect();
        for test in tests {
            named += 1;
            let (room, function) = test.rsplit_once("::").unwrap_or(("", test));
            let found = all.iter().any(|(path, text)| {
                let in_room =
                    room.is_empty() || path.to_string_lossy().contains(&format!("tests/tests/e2e/{room}"));
                in_room && text.contains(&format!("fn {function}("))
            });
            assert!(found, "docs/security.md names {test}, which is not there: {row}");
        }
    }
    assert!(named > 40, "{named} tests");
}
