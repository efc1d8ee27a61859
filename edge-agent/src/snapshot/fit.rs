//! Making a snapshot smaller: its longest list loses its second half, and a line says so.

use shared::wire::snapshot::Snapshot;

/// Shortens the longest list by half; `false` once all are empty. Problems stay: there are a few for each service.
pub fn shorten(snapshot: &mut Snapshot) -> bool {
    let mut longest = (0, None);
    let mut consider = |list: List, length: usize| {
        if length > longest.0 {
            longest = (length, Some(list));
        }
    };
    consider(List::Disks, snapshot.host.disks.len());
    consider(List::Addresses, snapshot.host.addresses.len());
    for (engine, docker) in snapshot.docker.iter().enumerate() {
        consider(List::Containers(engine), docker.containers.len());
        consider(List::Images(engine), docker.images.len());
        consider(List::Volumes(engine), docker.volumes.len());
        consider(List::Networks(engine), docker.networks.len());
    }
    let (length, Some(list)) = longest else { return false };
    let kept = length / 2;
    let name = match list {
        List::Disks => {
            snapshot.host.disks.truncate(kept);
            "disks".to_owned()
        }
        List::Addresses => {
            snapshot.host.addresses.truncate(kept);
            "addresses".to_owned()
        }
        List::Containers(engine) => {
            snapshot.docker[engine].containers.truncate(kept);
            format!("containers of {}", snapshot.docker[engine].service)
        }
        List::Images(engine) => {
            snapshot.docker[engine].images.truncate(kept);
            format!("images of {}", snapshot.docker[engine].service)
        }
        List::Volumes(engine) => {
            snapshot.docker[engine].volumes.truncate(kept);
            format!("volumes of {}", snapshot.docker[engine].service)
        }
        List::Networks(engine) => {
            snapshot.docker[engine].networks.truncate(kept);
            format!("networks of {}", snapshot.docker[engine].service)
        }
    };
    let note = format!("{name}: cut, since the snapshot would be too large");
    if !snapshot.problems.contains(&note) {
        snapshot.problems.push(note);
    }
    true
}

enum List {
    Disks,
    Addresses,
    Containers(usize),
    Images(usize),
    Volumes(usize),
    Networks(usize),
}

#[cfg(test)]
mod tests {
    use shared::wire::snapshot::{Container, Docker, Image};

    use super::*;

    #[test]
    fn the_longest_list_is_halved_and_said_to_be_cut_once() {
        let mut snapshot = Snapshot {
            docker: vec![Docker {
                service: "engine".into(),
                containers: vec![Container::default(); 8],
                images: vec![Image::default(); 100],
                ..Docker::default()
            }],
            ..Snapshot::default()
        };
        for images in [50, 25, 12, 6] {
            assert!(shorten(&mut snapshot));
            assert_eq!((snapshot.docker[0].images.len(), snapshot.docker[0].containers.len()), (images, 8));
        }
        assert_eq!(snapshot.problems, ["images of engine: cut, since the snapshot would be too large"]);
    }

    #[test]
    fn shortening_ends_when_nothing_is_left() {
        let docker = Docker { containers: vec![Container::default(); 1000], ..Docker::default() };
        let mut snapshot = Snapshot { docker: vec![docker], ..Snapshot::default() };
        let rounds = std::iter::from_fn(|| shorten(&mut snapshot).then_some(())).take(100).count();
        assert_eq!(rounds, 10);
        assert_eq!(snapshot.problems.len(), 1);
    }
}
