//! What the packages grant the programs: the restrictions of `compose.yaml` and of the systemd units, as a test applies them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;

use crate::process::run;
use crate::tool;

/// A file of the repository.
pub fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in a workspace").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The restrictions that `compose.yaml` puts on every service, as arguments of `docker run`.
///
/// # Panics
/// If there is one that this does not know.
pub fn least_rights_of_compose() -> Vec<String> {
    let compose = text("compose.yaml");
    let (_, block) =
        compose.split_once("\nx-least-rights: &least-rights\n").expect("what all services share");
    let mut arguments = Vec::new();
    let lines = block.lines().take_while(|line| line.starts_with("  "));
    for line in lines.filter(|line| !line.trim().starts_with('#')) {
        let (key, value) = line.trim().split_once(": ").expect("a key and a value");
        let value = value.trim_matches(['[', ']', '"']);
        match (key, value) {
            ("read_only", "true") => arguments.push("--read-only".to_owned()),
            ("cap_drop", _) => arguments.push(format!("--cap-drop={value}")),
            ("security_opt", _) => arguments.push(format!("--security-opt={value}")),
            ("user", _) => arguments.push(format!("--user={value}")),
            ("pids_limit", _) => arguments.push(format!("--pids-limit={value}")),
            ("restart", "unless-stopped") => {}
            (_, _) => panic!("what `{line}` is to `docker run` is not known here"),
        }
    }
    assert!(arguments.len() >= 4, "{arguments:?}");
    arguments
}

/// The values of a key of a systemd unit, in order.
pub fn values(unit: &str, key: &str) -> Vec<String> {
    let text = text(&format!("packaging/systemd/{unit}"));
    text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned).collect()
}

/// The system calls that a unit's `SystemCallFilter` lets through, as a seccomp profile for `docker run`.
pub async fn seccomp_of(unit: &str) -> serde_json::Value {
    // systemd allows these without being asked.
    let mut allowed = calls_of("@default").await;
    for filter in values(unit, "SystemCallFilter") {
        let refused = filter.strip_prefix('~');
        for name in refused.unwrap_or(&filter).split_whitespace() {
            let calls = calls_of(name).await;
            match refused {
                Some(_) => allowed.retain(|call| !calls.contains(call)),
                None => allowed.extend(calls),
            }
        }
    }
    assert!(
        allowed.contains("read") && !allowed.contains("mount") && !allowed.contains("chown"),
        "{allowed:?}"
    );
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{ "names": allowed, "action": "SCMP_ACT_ALLOW" }],
    })
}

/// The system calls of a set of systemd's, those of the sets in it too; or the one of this name.
async fn calls_of(name: &str) -> BTreeSet<String> {
    let (mut calls, mut sets) = (BTreeSet::new(), vec![name.to_owned()]);
    while let Some(name) = sets.pop() {
        if !name.starts_with('@') {
            calls.insert(name);
            continue;
        }
        let mut command = tool::command("systemd-analyze", "systemd");
        command.args(["syscall-filter", "--no-pager", &name]);
        let listed = run(command).await.ok().stdout;
        let lines = listed.lines().filter_map(|line| line.strip_prefix("    "));
        sets.extend(lines.filter(|line| !line.starts_with('#')).map(str::to_owned));
    }
    calls
}
