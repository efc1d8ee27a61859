//! The machine of a gateway: data folder, disk, files, process.
//!
//! Everything is found out by looking: the lock is read in `/proc/locks` and not tried, since a gateway that starts in
//! that moment would find it taken.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use http::Uri;
use shared::probe::Certificate as Served;
use shared::report::{Check, Report};

use super::{certificate_end, size};
use crate::config::{Certificate, Config};
use crate::data_dir::{LOCK_FILE, RESTORING};
use crate::identity::{SECRETS, certificate_file};

/// Less than this fills within days on a gateway with snapshots of thousands of edges.
const LITTLE_SPACE: u64 = 1024 * 1024 * 1024;
/// Less than this, and the store refuses to write sooner or later today.
const NO_SPACE: u64 = 64 * 1024 * 1024;
/// Files for a few thousand edges: a connection each for check-ins and for tunnels.
const FEW_FILES: u64 = 16_384;
/// The permission bits of group and others.
const OTHERS: u32 = 0o077;

/// Looks at this machine; `false` if no gateway lives here.
pub(super) fn look(config: &Config, file: Option<&Path>, report: &mut Report) -> bool {
    let folder = config.data_dir.display();
    let metadata = match config.data_dir.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let found = format!(
                "{folder} is not there: no gateway was started here, or --data-dir names another folder"
            );
            report.add(Check::ok("this machine", found));
            return false;
        }
        Err(error) => {
            let next = "run this as the user that the gateway runs as";
            report.add(Check::fail("data folder", format!("can't look at {folder}: {error}"), next));
            return false;
        }
    };
    let origin =
        file.map_or_else(|| "flags, environment and defaults".to_owned(), |file| file.display().to_string());
    report.add(Check::ok("configuration", format!("valid, from {origin}")));
    report.add(data_folder(config, &metadata));
    report.add(disk(config));
    let process = holder(&config.data_dir);
    report.add(match process {
        Some(pid) => Check::ok("process", format!("a gateway runs on {folder}, process {pid}")),
        None => Check::fail(
            "process",
            format!("no gateway runs on {folder}"),
            "start it: `systemctl start tidegate`, `docker compose up -d gateway`, or `tidegate serve`; its log says why it ended",
        ),
    });
    report.add(open_files(process));
    report.add(certificate(config));
    report.add(public_addresses(config));
    true
}

fn data_folder(config: &Config, metadata: &Metadata) -> Check {
    let folder = config.data_dir.display();
    let name = "data folder";
    if !metadata.is_dir() {
        return Check::fail(name, format!("{folder} is no folder"), "name a folder with --data-dir");
    }
    if config.data_dir.join(RESTORING).exists() {
        let next = "empty it, and restore the backup again";
        return Check::fail(name, format!("{folder} is half restored"), next);
    }
    let mut open = Vec::new();
    if metadata.permissions().mode() & OTHERS != 0 {
        open.push((config.data_dir.clone(), "0700"));
    }
    for secret in SECRETS {
        let path = config.data_dir.join(secret);
        if path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & OTHERS != 0) {
            open.push((path, "0600"));
        }
    }
    match open.as_slice() {
        [] => Check::ok(name, format!("{folder}, closed to other users")),
        open => {
            let commands: Vec<_> =
                open.iter().map(|(path, mode)| format!("chmod {mode} '{}'", path.display())).collect();
            let found =
                format!("{folder} or what is in it is open to other users, and holds the gateway's keys");
            Check::fail(name, found, commands.join("; "))
        }
    }
}

fn disk(config: &Config) -> Check {
    let (name, folder) = ("disk", config.data_dir.display());
    let next = "make room on this disk, or move the data folder to a larger one: stop the gateway, copy the folder, start \
                it with --data-dir";
    match rustix::fs::statvfs(&config.data_dir) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let found = format!("{} free below {folder}", size(free));
            if disk.f_files > 0 && disk.f_favail == 0 {
                return Check::fail(name, format!("no more files can be made below {folder}"), next);
            }
            match free {
                ..NO_SPACE => Check::fail(name, found, next),
                NO_SPACE..LITTLE_SPACE => Check::warn(name, found, next),
                LITTLE_SPACE.. => Check::ok(name, found),
            }
        }
        Err(error) => Check::warn(
            name,
            format!("can't tell the free space below {folder}: {error}"),
            "run this as the gateway's user",
        ),
    }
}

/// The process that has locked this data folder.
fn holder(folder: &Path) -> Option<u32> {
    let lock = folder.join(LOCK_FILE).metadata().ok()?;
    locked_by(&std::fs::read_to_string("/proc/locks").ok()?, lock.ino())
}

/// Lines as `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF` (proc_locks(5)): the sixth word ends with the inode, and
/// the fifth is the process. Device numbers are left aside: overlay file systems show others here than `stat` does.
fn locked_by(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = words.as_slice() else { return None };
        let found = file.rsplit(':').next()?.parse::<u64>().ok()?;
        (found == inode).then(|| pid.parse().ok()).flatten()
    })
}

fn open_files(process: Option<u32>) -> Check {
    let name = "open files";
    let (whose, limits) = match process.map(|pid| std::fs::read_to_string(format!("/proc/{pid}/limits"))) {
        Some(Ok(limits)) => ("the gateway may have", limits),
        // Without its own, those of this shell are the best guess.
        Some(Err(_)) | None => (
            "a process started here may have",
            std::fs::read_to_string("/proc/self/limits").unwrap_or_default(),
        ),
    };
    match hard_limit(&limits) {
        Some(limit) if limit < FEW_FILES => Check::warn(
            name,
            format!("{whose} {limit} open files, one for each connection and each tunnel"),
            "raise the hard limit: LimitNOFILE=1048576 in the systemd unit, `ulimits: nofile` in compose, `ulimit -Hn` in a shell",
        ),
        Some(limit) => Check::ok(name, format!("{whose} {limit} open files")),
        None => Check::warn(
            name,
            "the limit of open files can't be read",
            "run this as the gateway's user, on Linux",
        ),
    }
}

/// From a line as `Max open files  1024  1048576  files`; `unlimited` is a very large number.
fn hard_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn certificate(config: &Config) -> Check {
    let (name, file) = ("certificate file", certificate_file(config));
    let renew = match &config.certificate {
        Certificate::OwnMade => "restart the gateway: it makes a new certificate around the same key",
        Certificate::Given { .. } => {
            "renew it, and tell the gateway with `systemctl reload tidegate` (SIGHUP)"
        }
    };
    let served = match Served::from_pem_file(&file) {
        Ok(served) => served,
        Err(problem) => {
            let found = format!("can't use {}: {problem}", file.display());
            return Check::fail(
                name,
                found,
                "start the gateway once to have its own made, or correct --tls-cert",
            );
        }
    };
    let host = config.public_url.as_ref().and_then(|url| url.parse::<Uri>().ok()?.host().map(str::to_owned));
    // Whoever pins the key does not look at names.
    if let (Certificate::Given { pin: false, .. }, Some(host)) = (&config.certificate, host)
        && !served.is_for(host.trim_matches(['[', ']']))
    {
        let found = format!("{} is not for {host}, the host of --public-url", file.display());
        return Check::fail(name, found, "get a certificate for that name, or pin its key with --pin-tls");
    }
    certificate_end(name, &file.display().to_string(), served.not_after(), SystemTime::now(), renew)
}

fn public_addresses(config: &Config) -> Check {
    let name = "public addresses";
    match (&config.public_url, &config.public_ssh) {
        (Some(url), Some(ssh)) => Check::ok(name, format!("{url} and {ssh}")),
        (_, _) => Check::warn(
            name,
            "not both are configured: a join token has the address by which whoever made it reached the gateway",
            "give --public-url and --public-ssh, or set them with `tidegate settings set`, unless agents can use that address too",
        ),
    }
}

#[cfg(test)]
mod tests {
    use shared::report::Outcome;

    use super::*;
    use crate::config::Options;
    use crate::data_dir::DataDir;

    fn config(folder: &Path) -> Config {
        let file = format!("data_dir = '{}'", folder.display());
        let options: Options = toml::from_str(&file).expect("valid TOML");
        Config::new(&options).expect("a valid configuration")
    }

    fn check<'a>(report: &'a Report, name: &str) -> &'a Check {
        report
            .checks
            .iter()
            .find(|check| check.name == name)
            .unwrap_or_else(|| panic!("no {name}: {report:?}"))
    }

    #[test]
    fn a_machine_without_a_gateway_is_no_fault() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut report = Report::default();
        assert!(!look(&config(&folder.path().join("nothing")), None, &mut report));
        assert_eq!(report.worst(), Outcome::Ok);
    }

    #[test]
    fn a_folder_that_others_can_read_comes_with_the_command_that_closes_it() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join("data");
        let held = DataDir::open(&folder).expect("nobody else is there");
        std::fs::write(folder.join("host_key"), "key").expect("written");
        for (path, mode) in [(folder.clone(), 0o755), (folder.join("host_key"), 0o644)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
        }
        let mut report = Report::default();
        assert!(look(&config(&folder), None, &mut report));
        let found = check(&report, "data folder");
        assert_eq!(found.outcome, Outcome::Failure);
        let next = found.next.as_ref().expect("what to do");
        assert!(
            next.contains("chmod 0700") && next.contains("chmod 0600") && next.contains("host_key"),
            "{next}"
        );
        let process = check(&report, "process");
        assert!(process.found.ends_with(&format!("process {}", std::process::id())), "{process:?}");
        drop(held);
        assert_eq!(holder(&folder), None);
    }

    #[test]
    fn locks_and_limits_are_read_as_the_kernel_writes_them() {
        let locks =
            "1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 4242 00:2f:77 0 EOF\n";
        assert_eq!(locked_by(locks, 77), Some(4242));
        assert_eq!(locked_by(locks, 7), None);
        let limits = "Limit   Soft Limit   Hard Limit   Units\nMax open files            1024                 1048576              files\n";
        assert_eq!(hard_limit(limits), Some(1_048_576));
        assert_eq!(hard_limit("Max open files  unlimited  unlimited  files"), Some(u64::MAX));
        assert_eq!(hard_limit(""), None);
    }
}
