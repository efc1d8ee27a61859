//! A snapshot as people read it. Programs take `-o json`, which has all of it.

use shared::terminal::Text;
use shared::wire::admin::StoredSnapshot;
use shared::wire::snapshot::{Docker, Snapshot};

use super::units::{bytes, span};

/// The most useful of a snapshot.
pub(super) fn shown(stored: &StoredSnapshot) -> Text {
    let snapshot = &stored.snapshot;
    let shown = host(stored).then(services(snapshot));
    let shown = snapshot.docker.iter().fold(shown, |shown, engine| shown.then(docker(engine)));
    if snapshot.problems.is_empty() {
        return shown;
    }
    let problems = snapshot.problems.iter().map(|problem| [problem.as_str()]);
    shown.then(Text::table(["COULD NOT FIND OUT"], problems))
}

fn host(stored: &StoredSnapshot) -> Text {
    let (host, agent) = (&stored.snapshot.host, &stored.snapshot.agent);
    let disks = host
        .disks
        .iter()
        .map(|disk| format!("{} {} of {} free", disk.mount, bytes(disk.available), bytes(disk.total)));
    let addresses = host.addresses.iter().map(|address| format!("{} {}", address.interface, address.address));
    Text::facts([
        ("host", host.name.clone()),
        ("system", format!("{}, {} {}", host.os, host.kernel, host.architecture)),
        ("cpus", host.cpus.to_string()),
        ("memory", format!("{} of {} free", bytes(host.memory_available), bytes(host.memory_total))),
        ("load", host.load.map(|load| format!("{load:.2}")).join(" ")),
        ("uptime", span(host.uptime_s)),
        ("disks", disks.collect::<Vec<_>>().join(", ")),
        ("addresses", addresses.collect::<Vec<_>>().join(", ")),
        ("agent", format!("{}, up {}", agent.version, span(agent.uptime_s))),
        ("taken", format!("{} by the agent's clock", stored.snapshot.taken_at)),
        ("received", stored.received_at.clone()),
        ("instance", stored.instance.to_string()),
    ])
}

fn services(snapshot: &Snapshot) -> Text {
    let rows = snapshot.agent.services.iter().map(|health| {
        let state = match (health.answers, &health.reason) {
            (true, _) => "answers".to_owned(),
            (false, Some(reason)) => reason.clone(),
            (false, None) => "does not answer".to_owned(),
        };
        [health.service.name.to_string(), health.service.target.clone(), state]
    });
    Text::table(["SERVICE", "TARGET", "STATE"], rows)
}

fn docker(engine: &Docker) -> Text {
    let counts = format!(
        "Docker {} behind {}: {} images, {} volumes, {} networks",
        engine.version,
        engine.service,
        engine.images.len(),
        engine.volumes.len(),
        engine.networks.len()
    );
    let rows = engine.containers.iter().map(|container| {
        [container.name.clone(), container.image.clone(), container.status.clone(), container.ports.join(" ")]
    });
    Text::facts([("engine", counts)]).and(Text::table(["CONTAINER", "IMAGE", "STATUS", "PORTS"], rows))
}

#[cfg(test)]
mod tests {
    use shared::id::InstanceId;
    use shared::wire::snapshot::{Container, Host};

    use super::*;

    #[test]
    fn snapshot_is_shown_with_what_people_ask_first() {
        let snapshot = Snapshot {
            host: Host { name: "till-3".into(), memory_total: 8 << 30, uptime_s: 90_061, ..Host::default() },
            docker: vec![Docker {
                version: "26.1".into(),
                containers: vec![Container {
                    name: "web".into(),
                    status: "Up 3 hours".into(),
                    ..Container::default()
                }],
                ..Docker::default()
            }],
            problems: vec!["disks: permission denied".into()],
            ..Snapshot::default()
        };
        let stored = StoredSnapshot { received_at: "now".into(), instance: InstanceId::random(), snapshot };
        let text = shown(&stored).render(false);
        for part in ["till-3", "8.0 GiB", "1 d 1 h", "Docker 26.1", "Up 3 hours", "disks: permission denied"]
        {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
    }
}
