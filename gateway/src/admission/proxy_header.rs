//! The PROXY header, versions 1 and 2, in which a TCP load balancer says for whom it speaks
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! The rule: it is read from trusted proxies only, it is the first thing on the connection, and not one byte after it is
//! taken. Finding its end is ours, and never reads more than [`MAX_V2`] bytes; what it says is parsed by a library.

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

/// A load balancer sends it along with its first packet.
const TIME: Duration = Duration::from_secs(5);
/// First bytes of version 2; those of version 1 are `PROXY `.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1_PREFIX: &[u8] = b"PROXY ";
/// Longest line of version 1, its end included.
const MAX_V1: usize = 107;
/// Signature, version, family and length of version 2.
const V2_HEAD: usize = 16;
/// Longest header of version 2 that is read: addresses of unix sockets have 216 bytes, the rest is for additions that
/// load balancers make, which are not looked at.
const MAX_V2: usize = V2_HEAD + 1024;

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The connection ended, or stayed silent.
    #[error("no PROXY header came: {0}")]
    Io(#[from] io::Error),
    /// Something else came.
    #[error("what came first is no PROXY header; is the load balancer set to send one (send-proxy)?")]
    None,
    /// It is one, and wrong.
    #[error("the PROXY header can't be understood: {0}")]
    Wrong(String),
}

/// Which peers begin their connections with a PROXY header.
#[derive(Clone, Debug, Default)]
pub struct ProxyHeaders(Vec<IpNet>);

impl ProxyHeaders {
    /// Those of these networks, each of them and always.
    pub fn from_peers_in(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whose connection this is. Reads the header where `peer` sends one.
    pub async fn client(
        &self,
        connection: &mut (impl AsyncRead + Unpin),
        peer: SocketAddr,
    ) -> Result<SocketAddr, ProxyHeaderError> {
        let address = peer.ip().to_canonical();
        if self.0.iter().any(|network| network.contains(&address)) {
            read(connection, peer).await
        } else {
            Ok(peer)
        }
    }
}

/// Reads the header and says who is behind `proxy`; the proxy itself where it speaks for nobody, as for its own checks.
async fn read(
    connection: &mut (impl AsyncRead + Unpin),
    proxy: SocketAddr,
) -> Result<SocketAddr, ProxyHeaderError> {
    let header =
        timeout(TIME, whole(connection)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    parse(&header).map(|client| client.unwrap_or(proxy))
}

/// The bytes of the header, and none beyond.
async fn whole(connection: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, ProxyHeaderError> {
    let mut header = vec![0; V2_SIGNATURE.len()];
    connection.read_exact(&mut header).await?;
    if header == V2_SIGNATURE {
        header.resize(V2_HEAD, 0);
        connection.read_exact(&mut header[V2_SIGNATURE.len()..]).await?;
        let length = V2_HEAD + usize::from(u16::from_be_bytes([header[14], header[15]]));
        if length > MAX_V2 {
            return Err(ProxyHeaderError::Wrong(format!("it has {length} bytes; {MAX_V2} are the most")));
        }
        header.resize(length, 0);
        connection.read_exact(&mut header[V2_HEAD..]).await?;
        return Ok(header);
    }
    if !header.starts_with(V1_PREFIX) {
        return Err(ProxyHeaderError::None);
    }
    while !header.ends_with(b"\r\n") {
        if header.len() == MAX_V1 {
            return Err(ProxyHeaderError::Wrong(format!("it has no end within {MAX_V1} bytes")));
        }
        header.push(connection.read_u8().await?);
    }
    Ok(header)
}

/// Who the header speaks for; `None` where for nobody. Takes any bytes.
pub fn parse(header: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let wrong = |error: &dyn std::fmt::Display| ProxyHeaderError::Wrong(error.to_string());
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(tcp) => Some((tcp.source_address, tcp.source_port).into()),
            v1::Addresses::Tcp6(tcp) => Some((tcp.source_address, tcp.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) => Ok(match (header.command, header.addresses) {
            (v2::Command::Local, _) => None,
            (v2::Command::Proxy, v2::Addresses::IPv4(tcp)) => {
                Some((tcp.source_address, tcp.source_port).into())
            }
            (v2::Command::Proxy, v2::Addresses::IPv6(tcp)) => {
                Some((tcp.source_address, tcp.source_port).into())
            }
            (v2::Command::Proxy, v2::Addresses::Unix(_) | v2::Addresses::Unspecified) => None,
        }),
        HeaderResult::V1(Err(error)) => Err(wrong(&error)),
        HeaderResult::V2(Err(error)) => Err(wrong(&error)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIENT: &str = "192.0.2.7:4711";

    fn proxy() -> SocketAddr {
        "10.0.0.1:5".parse().expect("an address")
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short");
        [V2_SIGNATURE.as_slice(), &[0x20 | command, family], &length.to_be_bytes(), body].concat()
    }

    fn v2_of_client(additions: &[u8]) -> Vec<u8> {
        let addresses = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0x1f, 0x40];
        v2(1, 0x11, &[addresses.as_slice(), additions].concat())
    }

    /// What is read of these bytes, and what is left of them.
    async fn read_of(mut bytes: &[u8]) -> (Result<String, ProxyHeaderError>, &[u8]) {
        let address = read(&mut bytes, proxy()).await.map(|address| address.to_string());
        (address, bytes)
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_what_follows() {
        let additions = [4, 0, 3, 1, 2, 3];
        for header in [
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 8000\r\n".to_vec(),
            v2_of_client(&[]),
            v2_of_client(&additions),
        ] {
            let bytes = [header.as_slice(), b"SSH-2.0-x\r\n"].concat();
            let (address, rest) = read_of(&bytes).await;
            assert_eq!((address.expect("a header").as_str(), rest), (CLIENT, b"SSH-2.0-x\r\n".as_slice()));
        }
        let (address, _) = read_of(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 8000\r\n").await;
        assert_eq!(address.expect("a header"), "[2001:db8::7]:4711");
    }

    #[tokio::test]
    async fn a_proxy_that_speaks_for_nobody_speaks_for_itself() {
        for header in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0, 0, &[]), v2(1, 0x31, &[0; 216])] {
            assert_eq!(read_of(&header).await.0.expect("a header"), "10.0.0.1:5", "{header:?}");
        }
    }

    #[tokio::test]
    async fn whatever_else_comes_is_an_error_and_no_more_of_it_is_read_than_a_header_has() {
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 4096]].concat();
        let huge = [V2_SIGNATURE.as_slice(), &[0x21, 0x11, 0xff, 0xff], &[0; 70_000]].concat();
        for bytes in [
            &b"SSH-2.0-OpenSSH_9.2p1\r\n"[..],
            b"GET / HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n",
            b"PROXY TCP4 example.com 10.0.0.1 4711 8000\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 99999\r\n",
            b"PROXY",
            b"",
            &v2(1, 0x11, &[1, 2, 3]),
            &[V2_SIGNATURE.as_slice(), &[0x31, 0x11, 0, 12], &[0; 12]].concat(),
            &endless,
            &huge,
        ] {
            let (address, rest) = read_of(bytes).await;
            assert!(address.is_err(), "{bytes:?}");
            assert!(bytes.len() - rest.len() <= MAX_V2, "{} bytes were read", bytes.len() - rest.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_proxy_is_not_waited_for() {
        let (mut ours, _theirs) = tokio::io::duplex(64);
        let begun = tokio::time::Instant::now();
        assert!(matches!(read(&mut ours, proxy()).await, Err(ProxyHeaderError::Io(_))));
        assert!(begun.elapsed() <= TIME);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_address_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
            let _ = parse(&[V2_SIGNATURE.as_slice(), &bytes].concat());
            let _ = parse(&[b"PROXY TCP4 ".as_slice(), &bytes].concat());
        }
    }
}
