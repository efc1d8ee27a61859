//! What the systemd units and `compose.yaml` leave the programs: held to a score, and to the work that they still must do.
//! The containers are in `docker`.

use tests::packaging::{file, least_rights_of_compose, values};
use tests::process::{binary, run};
use tests::tool;

/// Each unit, its program, and the exposure that `systemd-analyze security` may give it, in tenths: what is left is that it
/// talks to the network and to unix sockets. The agent lists addresses (netlink) and the memory of its host (`/proc`) too.
const UNITS: [(&str, &str, u32); 2] =
    [("tidegate.service", "tidegate", 11), ("tidegate-agent.service", "tidegate-agent", 13)];

#[tokio::test]
async fn systemd_units_are_valid_and_leave_little_exposed() {
    let folder = tempfile::tempdir().expect("a folder");
    for (unit, program, most) in UNITS {
        let text = std::fs::read_to_string(file("packaging/systemd").join(unit)).expect("readable");
        let installed = format!("/usr/bin/{program} ");
        assert!(text.contains(&installed), "{unit} starts another program");
        let here = folder.path().join(unit);
        let built = format!("{} ", binary(program).display());
        std::fs::write(&here, text.replace(&installed, &built)).expect("written");

        let mut verify = tool::command("systemd-analyze", "systemd");
        verify.args(["verify", "--man=no"]).arg(&here);
        let verified = run(verify).await.ok();
        assert_eq!(verified.stderr.trim(), "", "{unit}");

        let mut security = tool::command("systemd-analyze", "systemd");
        security
            .args(["security", "--no-pager", "--offline=true", &format!("--threshold={most}")])
            .arg(&here);
        let judged = run(security).await;
        assert_eq!(judged.code, 0, "{unit} is more exposed than it was: {}", judged.stdout);
    }
}

#[test]
fn no_package_grants_what_the_programs_do_without() {
    for (unit, _, _) in UNITS {
        for (key, wanted) in [
            ("CapabilityBoundingSet", ""),
            ("AmbientCapabilities", ""),
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("MemoryDenyWriteExecute", "yes"),
            ("SystemCallErrorNumber", "EPERM"),
            ("UMask", "0077"),
        ] {
            assert_eq!(values(unit, key), [wanted], "{key} of {unit}");
        }
        assert_eq!(
            values(unit, "SystemCallFilter"),
            ["@system-service", "~@privileged @resources"],
            "{unit}"
        );
        assert_eq!(values(unit, "LimitNOFILE").len(), 1, "{unit}");
    }
    for wanted in [
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges:true",
        "--user=65532:65532",
        "--pids-limit=512",
    ] {
        assert!(
            least_rights_of_compose().iter().any(|argument| argument == wanted),
            "{wanted} in compose.yaml"
        );
    }
}
