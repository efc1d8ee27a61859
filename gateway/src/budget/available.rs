//! How much memory this process may have: what the machine has, or less where its control group is bounded.

use std::fs;
use std::path::Path;

/// Of what there is, the part that the gateway takes: the rest is for the kernel's socket buffers, which nobody counts
/// here, and for whatever else runs.
const PART: (u64, u64) = (3, 4);
/// What is assumed where nothing can be read: a small machine.
const UNKNOWN: u64 = 1024 * 1024 * 1024;

/// The budget in bytes, where none is given.
pub fn budget() -> u64 {
    let limits = control_groups(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup"));
    let least = limits.into_iter().chain(total()).min();
    // Whole MiB, as it is given and shown.
    (least.unwrap_or(UNKNOWN) / PART.1 * PART.0) >> 20 << 20
}

/// The limits of the process's control group and of those around it, version 2; of version 1 the one that a container
/// sees.
fn control_groups(root: &Path, membership: &str) -> Vec<u64> {
    let own = membership.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let groups = Path::new(own).ancestors().map(|group| root.join(group).join("memory.max"));
    let files = groups.chain([root.join("memory/memory.limit_in_bytes")]);
    // `max` is no number: no limit.
    files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).collect()
}

/// Memory of the machine, by sysinfo(2): `/proc/meminfo` is not there for a service that sees processes only, as our
/// systemd unit has it (`ProcSubset=pid`).
#[expect(clippy::useless_conversion, reason = "a long of C has 32 bits on some machines")]
fn total() -> Option<u64> {
    let machine = rustix::system::sysinfo();
    let units = u64::try_from(machine.totalram).ok()?;
    units.checked_mul(machine.mem_unit.into()).filter(|bytes| *bytes > 0)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_control_group_around_the_process_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let group = root.path().join("system.slice/tidegate.service");
        fs::create_dir_all(&group).expect("made");
        fs::write(group.join("memory.max"), "max\n").expect("written");
        fs::write(root.path().join("system.slice/memory.max"), "536870912\n").expect("written");
        let limits = control_groups(root.path(), "0::/system.slice/tidegate.service\n");
        assert_eq!(limits, [512 << 20]);
        fs::write(group.join("memory.max"), "1048576\n").expect("written");
        assert_eq!(
            control_groups(root.path(), "0::/system.slice/tidegate.service\n").into_iter().min(),
            Some(1 << 20)
        );
        // Inside a container the group is the root.
        fs::write(root.path().join("memory.max"), "2097152\n").expect("written");
        assert_eq!(control_groups(root.path(), "0::/\n"), [2 << 20]);
        assert!(control_groups(Path::new("/nowhere"), "").is_empty());
    }

    #[test]
    fn the_machine_has_what_its_kernel_says() {
        let shown = read("/proc/meminfo");
        let shown = shown
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .expect("this test sees all of /proc");
        let kib: u64 = shown.trim_end_matches("kB").trim().parse().expect("a number");
        assert_eq!(total(), Some(kib * 1024));
        assert!(budget() > 64 << 20, "this machine has some");
    }
}
