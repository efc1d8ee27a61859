//! Thousands of sockets that are slow at one stage each: they take a place and then next to nothing happens.
//!
//! Who is turned away comes back a while later, so that the crowd presses until the attack ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use fixtures::intruder::{Intruder, dial};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::attacks::account::{Account, Book, Fate};
use crate::attacks::field::Field;

/// Sockets at a stage.
const SOCKETS: u32 = 10_000;
/// The same on each port, from the address of honest agents: more than any honest row of agents behind one address.
const NEIGHBOURS: u32 = 1000;
/// From one attempt of a socket to the next. All of them together press at 2,000 a second.
const AGAIN: Duration = Duration::from_secs(5);
/// From one byte of a trickle to the next.
const TRICKLE: Duration = Duration::from_secs(1);
/// A connection that is closed without a word within this time was turned away at the door.
const AT_THE_DOOR: Duration = Duration::from_millis(500);
/// All of the crowd have come when this part of the attack is over.
const ARRIVED: f64 = 0.3;
/// Places before the login that the gateway has at most: on port 8000, and on port 9000 (docs/operations.md).
const SSH_PLACES: u64 = 1024;
const HTTP_PLACES: u64 = 4096;

/// Where sockets get slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before a word of SSH.
    Banner,
    /// In the middle of the first packet of the key exchange.
    KeyExchange,
    /// After the key exchange.
    Login,
    /// In the middle of the client's first TLS message.
    Tls,
    /// In the head of a request.
    Head,
    /// In the body of a request.
    Body,
}

impl Stage {
    fn port(self, field: &Field) -> SocketAddr {
        match self {
            Self::Banner | Self::KeyExchange | Self::Login => field.ssh(),
            Self::Tls | Self::Head | Self::Body => field.api(),
        }
    }

    fn places(self) -> u64 {
        match self {
            Self::Banner | Self::KeyExchange | Self::Login => SSH_PLACES,
            Self::Tls | Self::Head | Self::Body => HTTP_PLACES,
        }
    }

    /// What is said before it gets slow.
    fn opening(self) -> &'static [u8] {
        match self {
            Self::Banner | Self::Login => b"",
            Self::KeyExchange => b"SSH-2.0-slow\r\n\0\0\x04\xfc\x06\x14",
            Self::Tls => b"\x16\x03\x01\x02\0\x01",
            Self::Head => b"POST /api/v1/login HTTP/1.1\r\nhost: gate\r\nx: ",
            Self::Body => {
                b"POST /api/v1/login HTTP/1.1\r\nhost: gate\r\ncontent-type: application/json\r\n\
                  content-length: 60000\r\n\r\n{"
            }
        }
    }

    /// A byte that goes on with it, a second later.
    fn trickle(self) -> &'static [u8] {
        match self {
            // Lines before the banner are allowed (RFC 4253, 4.2), for servers; and a login is slowest in silence.
            Self::Banner | Self::Login => b"",
            Self::KeyExchange | Self::Tls => b"\0",
            Self::Head => b"x",
            Self::Body => b" ",
        }
    }
}

/// A crowd of strangers that gets slow at this stage.
pub(in crate::attacks) async fn crowd(field: Field, stage: Stage) -> Result<Account> {
    let book = Book::default();
    let count = field.count(SOCKETS);
    press(&field, &book, stage, count, |number| field.stranger(number)).await;
    let mut account = book.account();
    let held = account.count(Fate::Unanswered);
    account.must(held <= stage.places(), || {
        format!("{held} connections were there at the end, of {} places before the login", stage.places())
    });
    Ok(account)
}

/// A crowd from the address of honest agents, on both ports.
pub(in crate::attacks) async fn neighbours(field: Field) -> Result<Account> {
    let book = Book::default();
    let count = field.count(NEIGHBOURS);
    let neighbour = |_| field.neighbour();
    tokio::join!(
        press(&field, &book, Stage::KeyExchange, count, neighbour),
        press(&field, &book, Stage::Head, count, neighbour),
    );
    Ok(book.account())
}

/// So many sockets press until the attack ends. Counted as unanswered are those that were there then.
async fn press(field: &Field, book: &Book, stage: Stage, count: u32, from: impl Fn(u32) -> Ipv4Addr) {
    let (begin, end) = (Instant::now(), field.end());
    let mut crowd = JoinSet::new();
    for number in 0..count {
        let (field, book, from) = (field.clone(), book.clone(), from(number));
        let arrival = begin + field.length().mul_f64(ARRIVED * f64::from(number) / f64::from(count));
        crowd.spawn(async move {
            sleep_until(arrival).await;
            while Instant::now() < end {
                book.sent();
                book.met(one(stage, &field, from, end).await);
                tokio::select! {
                    () = sleep(AGAIN) => {}
                    () = sleep_until(end) => {}
                }
            }
        });
    }
    while crowd.join_next().await.is_some() {}
}

/// One socket, until it is closed or the attack ends.
async fn one(stage: Stage, field: &Field, from: Ipv4Addr, end: Instant) -> Fate {
    let stream = match dial(stage.port(field), from).await {
        Ok(stream) => stream,
        Err(error) => return Fate::of_dialling(&error),
    };
    if stage == Stage::Login {
        return match timeout_at(end, silent_login(stream)).await {
            Ok(fate) => fate,
            Err(_) => Fate::Unanswered,
        };
    }
    timeout_at(end, linger(stage, stream)).await.unwrap_or(Fate::Unanswered)
}

/// Exchanges keys, and then nothing.
async fn silent_login(stream: TcpStream) -> Fate {
    match Intruder::greet(stream).await {
        Ok(mut intruder) => {
            intruder.reading.until_the_end().await;
            Fate::Closed
        }
        Err(_) => Fate::TurnedAway,
    }
}

/// The opening and a trickle, until the other end closes.
async fn linger(stage: Stage, mut stream: TcpStream) -> Fate {
    let begun = Instant::now();
    if stream.write_all(stage.opening()).await.is_err() {
        return Fate::TurnedAway;
    }
    let (mut reading, mut writing) = stream.split();
    let mut answer = Vec::new();
    let trickle = async {
        loop {
            sleep(TRICKLE).await;
            if writing.write_all(stage.trickle()).await.is_err() {
                // The other half sees the end.
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        // A reset is an end too.
        _ = reading.read_to_end(&mut answer) => {}
        () = trickle => {}
    }
    match Fate::of_answer(&answer) {
        Fate::Closed if answer.is_empty() && begun.elapsed() < AT_THE_DOOR => Fate::TurnedAway,
        fate => fate,
    }
}
