//! What is no SSH, or SSH as nobody honest speaks it, before a login: inserted packets, impossible lengths, compression,
//! messages that are not yet allowed.
//!
//! Each of them must end the connection or be refused; none may be obeyed.

use std::io;
use std::net::Ipv4Addr;

use anyhow::Result;
use fixtures::intruder::message::{self, Message};
use fixtures::intruder::packet::clear;
use fixtures::intruder::{Intruder, Proposal, dial};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::attacks::account::{Account, Book, Fate};
use crate::attacks::field::{Field, in_time};

/// Each way to be wrong is tried so often.
const TIMES: u32 = 100;
/// Messages of a flood that go out in one write.
const BATCH: usize = 256;

/// Where a packet is inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first packet of the key exchange.
    First,
    /// Between the client's two packets of it.
    Between,
    /// Before the client's NEWKEYS.
    Last,
}

/// The Terrapin prefix (CVE-2023-48795): a packet that shifts sequence numbers, where both keep to strict key exchange.
pub(in crate::attacks) async fn terrapin(field: Field) -> Result<Account> {
    let book = Book::default();
    let ignore = Message::new(message::IGNORE).text("shift").done();
    let extensions = Message::new(message::EXT_INFO).number(0).done();
    let debug = Message::new(4).byte(0).text("shift").text("").done();
    let unimplemented = Message::new(3).number(0).done();
    for number in 0..field.count(TIMES) {
        for inserted in [&ignore, &extensions, &debug, &unimplemented] {
            for place in [Place::First, Place::Between, Place::Last] {
                book.sent();
                let outcome = in_time(insert(&field, field.stranger(number), inserted, place)).await;
                book.must(outcome.is_err(), || format!("a packet of kind {} passed, {place:?}", inserted[0]));
                book.met(if outcome.is_ok() { Fate::Granted } else { Fate::Closed });
            }
        }
    }
    Ok(book.account())
}

/// Exchanges keys with a packet inserted, as far as a service.
async fn insert(field: &Field, from: Ipv4Addr, inserted: &[u8], place: Place) -> io::Result<()> {
    let mut intruder = Intruder::new(dial(field.ssh(), from).await?);
    intruder.identify().await?;
    match place {
        Place::First => {
            intruder.writing.send(inserted).await?;
            intruder.exchange_keys(Proposal::default(), &[]).await?;
        }
        Place::Between => {
            // The key exchange of its own end, step by step: what follows is never answered where all is well.
            intruder.writing.send(&message::key_exchange_init(Proposal::default())).await?;
            intruder.writing.send(inserted).await?;
            intruder.writing.send(&Message::new(message::KEX_ECDH_INIT).bytes(&[9; 32]).done()).await?;
            intruder.reading.expect(message::KEX_ECDH_REPLY).await?;
            return Ok(());
        }
        Place::Last => intruder.exchange_keys(Proposal::default(), &[inserted]).await?,
    }
    intruder.writing.send(&Message::new(message::SERVICE_REQUEST).text("ssh-userauth").done()).await?;
    intruder.reading.expect(message::SERVICE_ACCEPT).await.map(drop)
}

/// Lengths that no packet has, in the clear and under keys.
pub(in crate::attacks) async fn packet_sizes(field: Field) -> Result<Account> {
    let (book, end) = (Book::default(), field.end());
    let banner = b"SSH-2.0-intruder\r\n";
    let mut openings: Vec<Vec<u8>> = [0_u32, 1, 5, 11, 35_001, 262_145, 1 << 31, u32::MAX]
        .into_iter()
        .map(|length| [&banner[..], &length.to_be_bytes(), &[0xff; 64]].concat())
        .collect();
    // A line without an end, and padding that is longer than its packet.
    openings.push(vec![b'S'; 1 << 20]);
    openings.push([&banner[..], &12_u32.to_be_bytes(), &[255], &[0; 64]].concat());
    // KEXINIT with lists that end beyond the packet, or claim 4 GiB.
    for length in [u32::MAX, 70_000] {
        openings.push([&banner[..], &clear(&Message::new(message::KEXINIT).number(length).done())].concat());
    }
    let mut tasks = JoinSet::new();
    for number in 0..field.count(TIMES) {
        let from = field.stranger(number);
        for opening in openings.clone() {
            let (field, book) = (field.clone(), book.clone());
            tasks.spawn(async move {
                book.sent();
                book.met(say(&field, from, &opening, end).await);
            });
        }
        for length in [0_u32, 1, 15, 17, 262_145, u32::MAX] {
            let (field, book) = (field.clone(), book.clone());
            tasks.spawn(async move {
                book.sent();
                book.met(seal(&field, from, length, end).await);
            });
        }
    }
    while tasks.join_next().await.is_some() {}
    Ok(book.account())
}

/// The head of a packet of this length where everything is under keys, and what is no packet.
async fn seal(field: &Field, from: Ipv4Addr, length: u32, end: Instant) -> Fate {
    let Ok(mut intruder) = field.greet(from).await else { return Fate::TurnedAway };
    let packet = [&length.to_be_bytes()[..], &[0xff; 64]].concat();
    // Whoever closes meanwhile has understood enough.
    let _ = intruder.writing.raw(&packet).await;
    match timeout_at(end, intruder.reading.skip_all()).await {
        Ok(()) => Fate::Closed,
        Err(_) => Fate::Unanswered,
    }
}

/// Says this, and waits for the end.
async fn say(field: &Field, from: Ipv4Addr, bytes: &[u8], end: Instant) -> Fate {
    let stream = match dial(field.ssh(), from).await {
        Ok(stream) => stream,
        Err(error) => return Fate::of_dialling(&error),
    };
    let mut intruder = Intruder::new(stream);
    let talk = async {
        // What it answers before it hangs up is its own KEXINIT.
        let (sent, ()) = tokio::join!(intruder.writing.raw(bytes), intruder.reading.skip_all());
        sent
    };
    match timeout_at(end, talk).await {
        Ok(_) => Fate::Closed,
        Err(_) => Fate::Unanswered,
    }
}

/// Compression, which a small packet makes large.
pub(in crate::attacks) async fn compression(field: Field) -> Result<Account> {
    let book = Book::default();
    for number in 0..field.count(TIMES) {
        for offered in ["zlib", "zlib@openssh.com", "zlib,zlib@openssh.com", "zlib@openssh.com,zlib,none"] {
            book.sent();
            let proposal = Proposal { compression: offered, ..Proposal::default() };
            let agreed = in_time(agree(&field, field.stranger(number), proposal)).await;
            match (agreed.is_ok(), offered.ends_with("none")) {
                // The service was asked for and accepted in packets that are not compressed.
                (true, true) => book.met(Fate::Granted),
                (true, false) => book.must(false, || format!("{offered} was agreed on")),
                (false, true) => book.met(Fate::TurnedAway),
                (false, false) => book.met(Fate::Closed),
            }
        }
    }
    Ok(book.account())
}

async fn agree(field: &Field, from: Ipv4Addr, proposal: Proposal) -> io::Result<()> {
    let mut intruder = Intruder::new(dial(field.ssh(), from).await?);
    intruder.identify().await?;
    intruder.exchange_keys(proposal, &[]).await?;
    intruder.writing.send(&Message::new(message::SERVICE_REQUEST).text("ssh-userauth").done()).await?;
    intruder.reading.expect(message::SERVICE_ACCEPT).await.map(drop)
}

/// Messages of after the login, before it: one of each, and floods whose answers nobody reads.
pub(in crate::attacks) async fn before_login(field: Field) -> Result<Account> {
    let (book, end) = (Book::default(), field.end());
    let premature: Vec<Vec<u8>> = vec![
        message::open_direct(0, 1 << 20, 32_768, "127.0.0.1", u32::from(field.api().port())),
        message::open("session", 0, 1 << 20, 32_768).done(),
        message::forward("web", 80),
        Message::new(message::CHANNEL_DATA).number(0).text("early").done(),
        Message::new(message::CHANNEL_REQUEST).number(0).text("exec").byte(1).text("id").done(),
        Message::new(message::USERAUTH_SUCCESS).done(),
        Message::new(message::REQUEST_SUCCESS).done(),
        Message::new(message::NEWKEYS).done(),
        Message::new(message::SERVICE_REQUEST).text("ssh-connection").done(),
    ];
    let kinds = [message::REQUEST_SUCCESS, message::CHANNEL_OPEN_CONFIRMATION, message::USERAUTH_SUCCESS];
    for number in 0..field.count(TIMES) {
        for early in &premature {
            book.sent();
            let Ok(mut intruder) = field.greet(field.stranger(number)).await else {
                book.met(Fate::TurnedAway);
                continue;
            };
            let _ = intruder.writing.send(early).await;
            // A refused login afterwards shows that nothing was obeyed, and that what was sent has been dealt with.
            let _ = intruder.writing.send(&message::password("admin", "early")).await;
            let answered = [&kinds[..], &[message::USERAUTH_FAILURE]].concat();
            let answer = in_time(intruder.reading.expect_one_of(&answered)).await;
            let kind = answer.as_ref().ok().and_then(|payload| payload.first().copied());
            book.must(!kind.is_some_and(|kind| kinds.contains(&kind)), || {
                format!("a message of kind {} was obeyed before the login", early[0])
            });
            book.met(if kind.is_some() { Fate::Refused } else { Fate::Closed });
        }
        if Instant::now() >= end {
            break;
        }
    }
    flood_before_login(&field, &book).await;
    Ok(book.account())
}

/// Whatever makes the gateway answer, again and again, without reading.
async fn flood_before_login(field: &Field, book: &Book) {
    let end = field.end();
    let floods: [Vec<u8>; 5] = [
        Message::new(message::SERVICE_REQUEST).text("ssh-userauth").done(),
        Message::new(message::EXT_INFO).number(1).text("server-sig-algs").text("x").done(),
        Message::new(message::PING).bytes(&[7; 512]).done(),
        Message::new(message::IGNORE).bytes(&[7; 1024]).done(),
        message::none("admin"),
    ];
    let mut tasks = JoinSet::new();
    for (number, flood) in (0..field.count(TIMES)).zip(floods.iter().cycle()) {
        let (field, book, flood) = (field.clone(), book.clone(), flood.clone());
        tasks.spawn(async move {
            let Ok(mut intruder) = field.greet(field.stranger(number)).await else {
                return book.met(Fate::TurnedAway);
            };
            let flooding = async {
                while intruder.writing.repeat(&flood, BATCH).await.is_ok() {
                    book.sent_many(BATCH as u64);
                }
            };
            match timeout_at(end, flooding).await {
                Ok(()) => book.met(Fate::Closed),
                Err(_) => book.met(Fate::Unanswered),
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}
