//! What connections cost on the wire, as the kernel counted it: TCP_INFO of every socket, asked for through netlink
//! (sock_diag(7)), which needs no privilege, no access to the sockets themselves, and no packet capture.
//!
//! A socket knows its payload bytes and its segments in both directions; each segment has an IP and a TCP header, whose
//! length the options of the connection decide. What was sent in the SYN beyond that is left out: 8 bytes a connection.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::{Add, Sub};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// AF_NETLINK of linux/socket.h.
const AF_NETLINK: i32 = 16;
/// NETLINK_SOCK_DIAG of linux/netlink.h.
const NETLINK_SOCK_DIAG: i32 = 4;
/// SOCK_DIAG_BY_FAMILY of linux/sock_diag.h, the type of both question and answer.
const BY_FAMILY: u16 = 20;
/// NLMSG_ERROR and NLMSG_DONE of linux/netlink.h.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// NLM_F_REQUEST, and NLM_F_DUMP for all sockets that match.
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
/// AF_INET and AF_INET6.
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
/// TCP_ESTABLISHED of the kernel's states, as a bit.
const ESTABLISHED: u32 = 1 << 1;
/// INET_DIAG_INFO: attach struct tcp_info. As a bit, it is counted from 1.
const INFO: u16 = 2;
/// Lengths of struct nlmsghdr, struct inet_diag_req_v2 and struct inet_diag_msg.
const HEADER: usize = 16;
const QUESTION: usize = 56;
const MESSAGE: usize = 72;
/// Where in struct tcp_info (linux/tcp.h) stand: the options, tcpi_bytes_acked, tcpi_bytes_received, tcpi_segs_out and
/// tcpi_segs_in. The kernel only ever appends to it.
const OPTIONS: usize = 5;
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;
const SEGMENTS_OUT: usize = 136;
const SEGMENTS_IN: usize = 140;
/// TCPI_OPT_TIMESTAMPS, with which every segment has 12 bytes of options.
const TIMESTAMPS: u8 = 1;
const TIMESTAMP_BYTES: u64 = 12;
const TCP_HEADER: u64 = 20;
const IPV4_HEADER: u64 = 20;
const IPV6_HEADER: u64 = 40;
/// The kernel answers with at most 32 KiB at a time.
const BUFFER: usize = 64 * 1024;
/// Longest wait for the kernel, which answers within the call.
const ANSWER: Duration = Duration::from_secs(2);

/// What went over one connection, or several, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes in IP packets.
    pub bytes: u64,
    /// IP packets.
    pub packets: u64,
    /// Bytes of TCP payload.
    pub payload: u64,
}

impl Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            packets: self.packets + other.packets,
            payload: self.payload + other.payload,
        }
    }
}

impl Sub for Traffic {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            packets: self.packets.saturating_sub(other.packets),
            payload: self.payload.saturating_sub(other.payload),
        }
    }
}

/// Asks the kernel.
#[derive(Debug)]
pub struct Diagnosis {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Diagnosis {
    /// Ready to ask.
    ///
    /// # Errors
    /// Where there is no sock_diag.
    pub fn new() -> io::Result<Self> {
        let socket =
            Socket::new(Domain::from(AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
        socket.set_read_timeout(Some(ANSWER))?;
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    /// All connections to `remote` that are open on this machine, by their other end. Takes some ten milliseconds for
    /// ten thousand.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn connections(&mut self, remote: SocketAddr) -> io::Result<HashMap<SocketAddr, Traffic>> {
        let local = match remote {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        self.socket.send(&question(local, remote, REQUEST | DUMP))?;
        let mut all = HashMap::new();
        loop {
            let length = self.socket.read(&mut self.buffer)?;
            for (kind, body) in Messages(&self.buffer[..length]) {
                match kind {
                    DONE => return Ok(all),
                    ERROR => return Err(io::Error::other("the kernel refuses to list its sockets")),
                    _ => all.extend(
                        parse(body)
                            .filter(|(_, to, _)| *to == remote)
                            .map(|(from, _, traffic)| (from, traffic)),
                    ),
                }
            }
        }
    }

    /// One connection.
    ///
    /// # Errors
    /// Those of the kernel, also where there is no such connection.
    pub fn connection(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<Traffic> {
        self.socket.send(&question(local, remote, REQUEST))?;
        let length = self.socket.read(&mut self.buffer)?;
        Messages(&self.buffer[..length])
            .find(|(kind, _)| *kind == BY_FAMILY)
            .and_then(|(_, body)| parse(body))
            .map(|(_, _, traffic)| traffic)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// What connections cost that are closed by now: asked for right before they close, so that nothing but the closing itself
/// is missing.
#[derive(Debug)]
pub struct Ledger {
    remote: SocketAddr,
    /// Guards the socket to the kernel and the sum.
    state: Mutex<(Option<Diagnosis>, Traffic, u64)>,
}

impl Ledger {
    /// Of connections to `remote`.
    pub fn new(remote: SocketAddr) -> Self {
        Self { remote, state: Mutex::new((Diagnosis::new().ok(), Traffic::default(), 0)) }
    }

    /// The connection from `local` is about to be closed.
    pub fn close(&self, local: SocketAddr) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (diagnosis, sum, count) = &mut *state;
        if let Some(Ok(traffic)) =
            diagnosis.as_mut().map(|diagnosis| diagnosis.connection(local, self.remote))
        {
            *sum = *sum + traffic;
            *count += 1;
        }
    }

    /// What they cost together, and how many they were.
    pub fn sum(&self) -> (Traffic, u64) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.1, state.2)
    }
}

/// struct nlmsghdr and struct inet_diag_req_v2: addresses and ports in network order, all else in the machine's.
fn question(local: SocketAddr, remote: SocketAddr, flags: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + QUESTION);
    bytes.extend(u32::try_from(HEADER + QUESTION).expect("72 fits").to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and sender: one question at a time needs neither.
    bytes.extend([0; 8]);
    let family = if remote.is_ipv4() { INET } else { INET6 };
    bytes.extend([family, TCP, 1 << (INFO - 1), 0]);
    bytes.extend(ESTABLISHED.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(remote.port().to_be_bytes());
    for address in [local.ip(), remote.ip()] {
        let mut field = [0; 16];
        match address {
            IpAddr::V4(address) => field[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => field = address.octets(),
        }
        bytes.extend(field);
    }
    // Any interface, any cookie (INET_DIAG_NOCOOKIE).
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([0xff; 8]);
    bytes
}

/// The messages in a datagram: type and body.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::try_from(u32_at(self.0, 0)?).ok()?;
        let kind = u16_at(self.0, 4)?;
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    }
}

/// struct inet_diag_msg and its attributes: both ends and what went between them.
fn parse(body: &[u8]) -> Option<(SocketAddr, SocketAddr, Traffic)> {
    let ipv4 = *body.first()? == INET;
    let end = |port: usize, address: usize| {
        let port = u16::from_be_bytes(*body.get(port..)?.first_chunk()?);
        let address: [u8; 16] = *body.get(address..)?.first_chunk()?;
        let [a, b, c, d, ..] = address;
        let address = if ipv4 { IpAddr::from([a, b, c, d]) } else { IpAddr::from(address) };
        Some(SocketAddr::new(address, port))
    };
    let (from, to) = (end(4, 8)?, end(6, 24)?);
    let mut attributes = body.get(MESSAGE..)?;
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        if u16_at(attributes, 2)? == INFO {
            return Some((from, to, traffic(attributes.get(4..length)?, ipv4)?));
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn traffic(info: &[u8], ipv4: bool) -> Option<Traffic> {
    let header = if ipv4 { IPV4_HEADER } else { IPV6_HEADER } + TCP_HEADER;
    let options = if *info.get(OPTIONS)? & TIMESTAMPS == 0 { 0 } else { TIMESTAMP_BYTES };
    let packets = u64::from(u32_at(info, SEGMENTS_OUT)?) + u64::from(u32_at(info, SEGMENTS_IN)?);
    let payload = u64_at(info, BYTES_ACKED)? + u64_at(info, BYTES_RECEIVED)?;
    Some(Traffic { bytes: payload + packets * (header + options), packets, payload })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn bytes_and_packets_of_a_connection_are_those_that_went_over_it() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let remote = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(remote).expect("it listens");
        let (mut server, local) = listener.accept().expect("a connection");
        let mut diagnosis = Diagnosis::new().expect("needs sock_diag in the kernel (CONFIG_INET_DIAG)");
        let before = diagnosis.connections(remote).expect("a list")[&local];
        client.write_all(&[1; 100]).expect("room");
        server.read_exact(&mut [0; 100]).expect("all of it");
        server.write_all(&[2; 23]).expect("room");
        client.read_exact(&mut [0; 23]).expect("all of it");
        let after = diagnosis.connection(local, remote).expect("it is open");
        let spent = after - before;
        // The 23 bytes are acknowledged with the next segment or 40 ms later; the 100 were by the answer.
        assert_eq!(spent.payload, 123);
        assert!((2..=4).contains(&spent.packets), "{spent:?}");
        assert_eq!(
            spent.bytes,
            123 + spent.packets * 52,
            "Linux uses timestamps unless told otherwise: {spent:?}"
        );
    }

    #[test]
    fn a_connection_that_is_gone_is_an_error_and_not_in_the_list() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let remote = listener.local_addr().expect("bound");
        let mut diagnosis = Diagnosis::new().expect("needs sock_diag in the kernel (CONFIG_INET_DIAG)");
        assert_eq!(diagnosis.connections(remote).expect("a list").len(), 0);
        assert!(diagnosis.connection(SocketAddr::from(([127, 0, 0, 1], 9)), remote).is_err());
        // And what follows an error is not confused by it.
        assert_eq!(diagnosis.connections(remote).expect("a list").len(), 0);
    }

    #[test]
    fn messages_that_are_cut_off_are_no_messages() {
        let whole =
            question(SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)), REQUEST);
        assert_eq!(Messages(&whole).count(), 1);
        for length in 0..whole.len() {
            assert_eq!(Messages(&whole[..length]).count(), 0, "{length}");
            assert!(parse(&whole[..length]).is_none());
        }
    }
}
