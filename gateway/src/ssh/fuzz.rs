//! Where operators' SSH clients want to go, as a target for the fuzzer ([`crate::fuzz`]).

use super::operator::Destination;

/// The host of a forward, the path of a forwarded socket, the command of a session.
pub fn ssh_destination(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for destination in [Destination::of_tcp(&text, 22), Destination::of_socket(&text)] {
        match destination {
            Some(Destination::Service(edge, service)) => {
                let host = format!("{service}.{edge}");
                assert_eq!(Destination::of_tcp(&host, 0), Some(Destination::Service(edge, service)));
            }
            Some(Destination::Port(edge, port)) => {
                assert_eq!((edge.as_str(), port), (text.strip_suffix('.').unwrap_or(&text), 22));
            }
            None => {}
        }
    }
    assert_eq!(
        Destination::of_tcp(&text, 70_000).is_some(),
        Destination::of_tcp(&text, 0).is_some_and(is_named)
    );
    let _ = Destination::of_command(bytes);
}

fn is_named(destination: Destination) -> bool {
    matches!(destination, Destination::Service(_, _))
}
