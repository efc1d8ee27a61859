//! What a stolen agent does to the streams of operators, and what an operator does who reads none.

use std::time::Duration;

use anyhow::{Context as _, Result};
use fixtures::intruder::Intruder;
use fixtures::intruder::message::{self, Fields, Message};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Thief, confirm, opened};
use crate::agents::tunnel::{SERVICE, Tunnel};
use crate::attacks::account::{Account, Book, Fate};
use crate::attacks::field::{Field, Stolen, in_time};
use crate::service::{Order, Work};

/// Streams that nobody reads.
const DEAF: u32 = 1000;
/// Bytes that each of them asks for: more than anybody holds.
const MUCH: u64 = 1 << 30;
/// Rounds of all windows and packet sizes.
const ROUNDS: u32 = 5;
/// A window and a packet size as honest clients have them.
const WINDOW: u32 = 2 << 20;
const PACKET: u32 = 32_768;
/// Longest look at what became of a connection.
const LOOK: Duration = Duration::from_secs(1);

/// How a stolen agent answers the gateway's channel, and what it sends on it.
#[derive(Clone, Copy, Debug)]
struct Oddity {
    window: u32,
    packet: u32,
    /// Added to the window, so often.
    grown: (u32, usize),
    /// Bytes of each data message, and how many.
    data: (usize, usize),
}

const ODDITIES: [Oddity; 8] = [
    // Packets of no size: a sender that counts down by them never ends.
    Oddity { window: WINDOW, packet: 0, grown: (0, 0), data: (0, 0) },
    Oddity { window: 0, packet: 0, grown: (WINDOW, 2), data: (0, 0) },
    Oddity { window: u32::MAX, packet: 1, grown: (0, 0), data: (0, 0) },
    // RFC 4254, 5.2: no window is larger than 2^32 - 1.
    Oddity { window: u32::MAX, packet: u32::MAX, grown: (u32::MAX, 3), data: (0, 0) },
    Oddity { window: 1, packet: PACKET, grown: (1, 1000), data: (0, 0) },
    // More than the gateway's window and its packets, whoever reads at the other end.
    Oddity { window: WINDOW, packet: PACKET, grown: (0, 0), data: (PACKET as usize, 2000) },
    Oddity { window: WINDOW, packet: PACKET, grown: (0, 0), data: (200_000, 100) },
    Oddity { window: WINDOW, packet: PACKET, grown: (0, 0), data: (0, 10_000) },
];

/// All of them, each on a tunnel of its own, with an operator's stream that sends a little and reads nothing.
pub(in crate::attacks) async fn windows(field: Field) -> Result<Account> {
    let (book, end) = (Book::default(), field.end());
    for _ in 0..field.count(ROUNDS) {
        for (number, oddity) in ODDITIES.into_iter().enumerate() {
            let thief = Thief::with(&field, number);
            let mut intruder = thief.tunnel().await?;
            let (field, name) = (field.clone(), thief.edge().clone());
            let operator = tokio::spawn(async move { timeout_at(end, send(&field, &name)).await });
            book.sent();
            let odd = timeout(LOOK, be_odd(&mut intruder, oddity)).await;
            book.met(match odd {
                Ok(Ok(())) => Fate::Granted,
                Ok(Err(_)) => Fate::Closed,
                Err(_) => Fate::Unanswered,
            });
            operator.abort();
            thief.leave().await?;
        }
    }
    Ok(book.account())
}

/// An operator's stream: the order of an honest one, and then more.
async fn send(field: &Field, edge: &Stolen) -> Result<()> {
    let mut io = field.admin().connect().await?;
    let path = format!("/api/v1/edges/{}/services/{SERVICE}/stream", edge.name);
    io.write_all(field.admin().upgrade_request(&path).expose().as_bytes()).await?;
    loop {
        io.write_all(&[7; 4096]).await?;
    }
}

async fn be_odd(intruder: &mut Intruder, oddity: Oddity) -> std::io::Result<()> {
    let open = intruder.reading.expect(message::CHANNEL_OPEN).await?;
    let Some(theirs) = opened(&open) else { return Ok(()) };
    intruder.writing.send(&confirm(theirs, 0, oddity.window, oddity.packet)).await?;
    let grown = Message::new(message::CHANNEL_WINDOW_ADJUST).number(theirs).number(oddity.grown.0).done();
    intruder.writing.repeat(&grown, oddity.grown.1).await?;
    let data = Message::new(message::CHANNEL_DATA).number(theirs).bytes(&vec![7; oddity.data.0]).done();
    for _ in 0..oddity.data.1 {
        intruder.writing.send(&data).await?;
    }
    // Whatever still comes, as long as it comes: the gateway sends what the window allows.
    let answered = Message::new(message::GLOBAL_REQUEST).text("keepalive@openssh.com").byte(1).done();
    intruder.writing.send(&answered).await?;
    intruder.reading.expect_one_of(&[message::REQUEST_FAILURE, message::REQUEST_SUCCESS]).await.map(drop)
}

/// An operator opens streams to a service that sends without end, on one connection, and stops reading.
pub(in crate::attacks) async fn deaf(field: Field) -> Result<Account> {
    let (book, end) = (Book::default(), field.end());
    let (over, mut agents) = (CancellationToken::new(), JoinSet::new());
    let mut operators = Vec::new();
    // A tunnel has 512 streams at most.
    for number in 0..2 {
        let thief = Thief::with(&field, number);
        let tunnel = serve(&field, &thief).await?;
        let over = over.clone();
        agents.spawn(async move { tunnel.live(&over).await });
        let mut operator = field.operator(field.newcomer(2000)).await?;
        open_all(&mut operator, &book, &thief.edge().clone(), field.count(DEAF) / 2).await?;
        operators.push((operator, thief));
    }
    sleep_until(end).await;
    for (operator, thief) in operators {
        drop(operator);
        thief.leave().await?;
    }
    over.cancel();
    while agents.join_next().await.is_some() {}
    Ok(book.account())
}

/// The tunnel of an honest agent, with a service that does what it is ordered.
async fn serve(field: &Field, thief: &Thief) -> Result<Tunnel> {
    let (offer, _) = thief.offer().await?;
    let (edge_id, source) = (&thief.edge().identity.authorization.edge_id, thief.edge().source.into());
    let opened = Tunnel::open(field.ground(), &offer, edge_id, Some(source)).await;
    opened.map_err(|kind| anyhow::anyhow!("a tunnel of the attackers does not open: {}", kind.name()))
}

/// Opens them all, orders very much through each, and reads nothing more.
async fn open_all(operator: &mut Intruder, book: &Book, edge: &Stolen, count: u32) -> Result<()> {
    let host = format!("{SERVICE}.{}", edge.name);
    for number in 0..count.max(1) {
        book.sent();
        operator.writing.send(&message::open_direct(number, u32::MAX, PACKET, &host, 80)).await?;
    }
    let mut open = Vec::new();
    for _ in 0..count.max(1) {
        let kinds = [message::CHANNEL_OPEN_CONFIRMATION, message::CHANNEL_OPEN_FAILURE];
        let answer =
            in_time(operator.reading.expect_one_of(&kinds)).await.context("a stream has no answer")?;
        if answer.first() == Some(&message::CHANNEL_OPEN_FAILURE) {
            book.met(Fate::Refused);
            continue;
        }
        book.met(Fate::Granted);
        let mut fields = Fields::of(&answer);
        let (_ours, theirs) = (fields.number()?, fields.number()?);
        open.push(theirs);
    }
    for channel in open {
        let order = Order { work: Work::Send, start: 0, length: MUCH };
        let go = [&order.encode()[..], b"!"].concat();
        let data = Message::new(message::CHANNEL_DATA).number(channel).bytes(&go).done();
        operator.writing.send(&data).await?;
    }
    Ok(())
}
