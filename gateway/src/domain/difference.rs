//! What changed at a site between two snapshots, in words for people. Pure.
//!
//! The rule: what changes all the time (load, memory in use, uptime as it goes on) is no change; what somebody would look
//! into is: a reboot, a disk that fills, a service that stopped to answer, a container that came or went.

use std::collections::BTreeMap;

use shared::wire::admin::SiteChange;
use shared::wire::snapshot::{Container, Disk, Docker, Host, ServiceHealth, Snapshot};

/// Changes that are told at most: a page. A site that changed more is another site.
pub const MOST: usize = 200;
/// By how much of its size the free space of a disk must have changed to be told, in percent.
const DISK_STEP: u64 = 10;

/// What is different in `now`, at most [`MOST`] of it.
pub fn between(before: &Snapshot, now: &Snapshot) -> Vec<SiteChange> {
    let mut found = Found(Vec::new());
    host(&before.host, &now.host, &mut found);
    found.value("agent", &before.agent.version, &now.agent.version);
    let by_name = |all: &'_ [ServiceHealth]| {
        all.iter()
            .map(|health| (health.service.name.to_string(), answers(health)))
            .collect::<BTreeMap<_, _>>()
    };
    found.maps("service", &by_name(&before.agent.services), &by_name(&now.agent.services));
    let engines = |snapshot: &Snapshot| {
        snapshot.docker.iter().map(|engine| (engine.service.clone(), engine.version.clone())).collect()
    };
    found.maps("Docker Engine behind", &engines(before), &engines(now));
    found.maps("container", &containers(&before.docker), &containers(&now.docker));
    found.0
}

fn host(before: &Host, now: &Host, found: &mut Found) {
    for (what, before, now) in [
        ("host name", &before.name, &now.name),
        ("operating system", &before.os, &now.os),
        ("kernel", &before.kernel, &now.kernel),
    ] {
        found.value(what, before, now);
    }
    found.value("processors", &before.cpus.to_string(), &now.cpus.to_string());
    found.value("bytes of memory", &before.memory_total.to_string(), &now.memory_total.to_string());
    if now.uptime_s < before.uptime_s {
        found.add("host", None, Some("was started anew".to_owned()));
    }
    let addresses = |host: &Host| {
        host.addresses.iter().map(|it| (it.address.clone(), it.interface.clone())).collect::<BTreeMap<_, _>>()
    };
    found.maps("address", &addresses(before), &addresses(now));
    // In whole steps, so that a disk that fills slowly is told now and then, and one that breathes is not.
    let (before, now) = (by_mount(&before.disks), by_mount(&now.disks));
    for (mount, disk) in &now {
        match before.get(mount) {
            None => found.add(&format!("disk {mount}"), None, Some(free(disk))),
            Some(was) if free_percent(was).abs_diff(free_percent(disk)) >= DISK_STEP => {
                found.add(&format!("disk {mount}"), Some(free(was)), Some(free(disk)));
            }
            Some(_) => {}
        }
    }
    for (mount, disk) in before.iter().filter(|(mount, _)| !now.contains_key(*mount)) {
        found.add(&format!("disk {mount}"), Some(free(disk)), None);
    }
}

fn by_mount(disks: &[Disk]) -> BTreeMap<String, &Disk> {
    disks.iter().map(|disk| (disk.mount.clone(), disk)).collect()
}

fn free_percent(disk: &Disk) -> u64 {
    let percent = u128::from(disk.available) * 100 / u128::from(disk.total.max(1));
    u64::try_from(percent).unwrap_or(100)
}

fn free(disk: &Disk) -> String {
    format!("{} % free", free_percent(disk))
}

fn answers(health: &ServiceHealth) -> String {
    if health.answers { "answers".to_owned() } else { "does not answer".to_owned() }
}

/// By engine and name: state and image.
fn containers(engines: &[Docker]) -> BTreeMap<String, String> {
    let shown = |container: &Container| format!("{}, {}", container.state, container.image);
    engines.iter().flat_map(|engine| &engine.containers).map(|it| (it.name.clone(), shown(it))).collect()
}

struct Found(Vec<SiteChange>);

impl Found {
    fn add(&mut self, what: &str, before: Option<String>, now: Option<String>) {
        if self.0.len() < MOST {
            self.0.push(SiteChange { what: what.to_owned(), before, now });
        }
    }

    fn value(&mut self, what: &str, before: &str, now: &str) {
        if before != now {
            self.add(what, Some(before.to_owned()), Some(now.to_owned()));
        }
    }

    /// What came, what went, and what is there in another way.
    fn maps(&mut self, kind: &str, before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) {
        for (name, value) in now {
            let was = before.get(name);
            if was != Some(value) {
                self.add(&format!("{kind} {name}"), was.cloned(), Some(value.clone()));
            }
        }
        for (name, value) in before.iter().filter(|(name, _)| !now.contains_key(*name)) {
            self.add(&format!("{kind} {name}"), Some(value.clone()), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::snapshot::Address;

    use super::*;

    fn site() -> Snapshot {
        let container = |name: &str, state: &str| Container {
            name: name.to_owned(),
            state: state.to_owned(),
            image: "nginx:1".to_owned(),
            ..Container::default()
        };
        let disk = Disk { mount: "/".to_owned(), total: 1000, available: 500, ..Disk::default() };
        Snapshot {
            host: Host {
                name: "till-3".to_owned(),
                uptime_s: 1000,
                memory_available: 10,
                disks: vec![disk],
                addresses: vec![Address { interface: "eth0".to_owned(), address: "10.0.0.7".to_owned() }],
                ..Host::default()
            },
            docker: vec![Docker {
                service: "docker".to_owned(),
                version: "26.1".to_owned(),
                containers: vec![container("web", "running"), container("db", "running")],
                ..Docker::default()
            }],
            ..Snapshot::default()
        }
    }

    fn told(change: impl FnOnce(&mut Snapshot)) -> Vec<(String, Option<String>, Option<String>)> {
        let (before, mut now) = (site(), site());
        change(&mut now);
        between(&before, &now).into_iter().map(|it| (it.what, it.before, it.now)).collect()
    }

    fn one(
        what: &str,
        before: Option<&str>,
        now: Option<&str>,
    ) -> Vec<(String, Option<String>, Option<String>)> {
        vec![(what.to_owned(), before.map(str::to_owned), now.map(str::to_owned))]
    }

    #[test]
    fn what_changes_all_the_time_is_no_change() {
        assert_eq!(told(|_| {}), []);
        let usual = told(|now| {
            now.taken_at = "later".to_owned();
            now.host.uptime_s += 500;
            now.host.memory_available = 5;
            now.host.load = [3.0; 3];
            now.host.disks[0].available = 450;
            now.docker[0].containers[0].status = "Up 9 minutes".to_owned();
            now.docker[0].containers.reverse();
        });
        assert_eq!(usual, []);
    }

    #[test]
    fn what_somebody_would_look_into_is_told() {
        let reboot = told(|now| now.host.uptime_s = 10);
        assert_eq!(reboot, one("host", None, Some("was started anew")));
        let full = told(|now| now.host.disks[0].available = 20);
        assert_eq!(full, one("disk /", Some("50 % free"), Some("2 % free")));
        let stopped = told(|now| now.docker[0].containers[1].state = "exited".to_owned());
        assert_eq!(stopped, one("container db", Some("running, nginx:1"), Some("exited, nginx:1")));
        let gone = told(|now| drop(now.docker[0].containers.remove(0)));
        assert_eq!(gone, one("container web", Some("running, nginx:1"), None));
        let moved = told(|now| now.host.addresses[0].address = "10.0.0.8".to_owned());
        assert_eq!(moved.len(), 2, "one came and one went: {moved:?}");
        let renamed = told(|now| now.host.name = "till-4".to_owned());
        assert_eq!(renamed, one("host name", Some("till-3"), Some("till-4")));
    }

    #[test]
    fn another_site_is_told_within_bounds() {
        let many = |prefix: &str| {
            let container = |number| Container { name: format!("{prefix}{number}"), ..Container::default() };
            Docker { containers: (0..1000).map(container).collect(), ..Docker::default() }
        };
        let before = Snapshot { docker: vec![many("a")], ..Snapshot::default() };
        let now = Snapshot { docker: vec![many("b")], ..Snapshot::default() };
        assert_eq!(between(&before, &now).len(), MOST);
        let odd = Disk { total: 0, available: u64::MAX, ..Disk::default() };
        assert_eq!(free_percent(&odd), 100, "sizes that make no sense do no harm");
    }
}
