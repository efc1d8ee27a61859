//! The PROXY header as a target for the fuzzer ([`crate::fuzz`]).

use std::net::SocketAddr;

use futures_util::FutureExt as _;

use super::{MAX_V2, V2_SIGNATURE, parse, whole};

/// What comes first on a connection of a trusted load balancer.
pub fn proxy_header(bytes: &[u8]) {
    let mut left = bytes;
    let header = whole(&mut left).now_or_never().expect("bytes are always there");
    let read = bytes.len() - left.len();
    assert!(read <= MAX_V2, "{read} bytes were read");
    let client = parse(bytes);
    let Ok(header) = header else { return };
    assert_eq!(header, bytes[..read], "what is read is the header");
    match parse(&header) {
        Ok(Some(client)) => assert_eq!(parse(&v2(client)).expect("a header"), Some(client)),
        Ok(None) => assert!(!matches!(client, Ok(Some(_))), "what follows the header says nothing"),
        Err(_) => {}
    }
}

/// The header that says the same, without additions.
fn v2(client: SocketAddr) -> Vec<u8> {
    let (family, address) = match client {
        SocketAddr::V4(client) => (0x11, [client.ip().octets(), [0; 4]].concat()),
        SocketAddr::V6(client) => (0x21, [client.ip().octets(), [0; 16]].concat()),
    };
    let body = [address.as_slice(), &client.port().to_be_bytes(), &[0, 0]].concat();
    let length = u16::try_from(body.len()).expect("36 bytes at most");
    [V2_SIGNATURE.as_slice(), &[0x21, family], &length.to_be_bytes(), &body].concat()
}
