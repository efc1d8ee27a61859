//! Attacks of those who have an edge's key: a stolen box, or an agent that was changed.
//!
//! | room | what lives there |
//! | --- | --- |
//! | this file | a stolen agent; names, channels and messages that it may not have |
//! | [`credentials`] | one-time credentials again, and under other names |
//! | [`streams`] | what it does to streams, and operators who read none |
//! | [`flood`] | messages and key exchanges without end |
//! | [`proxied`] | requests and answers with others hidden in them |

pub mod credentials;
pub mod flood;
pub mod proxied;
pub mod streams;

use anyhow::{Context as _, Result, bail};
use fixtures::intruder::message::{self, Fields, Message};
use fixtures::intruder::{Intruder, Login};
use hyper::body::Bytes;
use shared::envelope::{self, Credentials};
use shared::line::Caller;
use shared::wire::check_in::{
    Answer, CheckIn, Hello, Offer, PROTOCOL_VERSION, Service, ServiceKind, TunnelState,
};
use tokio::time::{Instant, sleep, timeout_at};

use super::account::{Account, Book, Fate};
use super::field::{Field, PATIENCE, Stolen, in_time};
use crate::agents::connection::Connection;
use crate::agents::tunnel::SERVICE;
use crate::process::PAUSE;

/// Channels that are opened one after the other.
const CHANNELS: u32 = 10_000;
/// Names that are asked for.
const NAMES: u32 = 1000;
/// Window and packet size that an honest client gives.
const WINDOW: u32 = 2 << 20;
const PACKET: u32 = 32_768;

/// A stolen edge's agent, played by hand.
pub(super) struct Thief {
    field: Field,
    edge: Stolen,
    caller: Caller,
}

impl Thief {
    /// With this stolen edge, whose services are HTTP.
    pub(super) fn with(field: &Field, number: usize) -> Self {
        let edge = field.stolen()[number].clone();
        let caller = field.endpoint().caller(&edge.identity);
        Self { field: field.clone(), edge, caller }
    }

    pub(super) fn edge(&self) -> &Stolen {
        &self.edge
    }

    /// One check-in; the answer where it is 200, nothing of a 204.
    pub(super) async fn check_in(&self, report: &CheckIn) -> Result<Option<Answer>> {
        let mut connection = Connection::open(self.field.endpoint(), Some(self.edge.source.into()))
            .await
            .map_err(|kind| anyhow::anyhow!("a stolen edge can't connect: {}", kind.name()))?;
        let body = Bytes::from(serde_json::to_vec(report)?);
        let answer = connection.ask(self.field.endpoint(), &self.caller, false, Some(body)).await;
        let answer = answer.map_err(|kind| anyhow::anyhow!("no answer to a check-in: {}", kind.name()))?;
        match answer.status.as_u16() {
            200 => Ok(Some(serde_json::from_slice(&answer.body)?)),
            204 => Ok(None),
            status => bail!("a check-in was answered {status}: {}", String::from_utf8_lossy(&answer.body)),
        }
    }

    /// Says hello until the answer has an offer. The flag is raised.
    pub(super) async fn offer(&self) -> Result<(Offer, Credentials)> {
        let begun = Instant::now();
        loop {
            self.field.admin().raise(&self.edge.name).await?;
            let answer = self.check_in(&CheckIn { hello: Some(hello()), failed: None }).await?;
            if let Some(offer) = answer.and_then(|answer| answer.offer) {
                let edge_id = &self.edge.identity.authorization.edge_id;
                let credentials = envelope::open(&offer.credentials, edge_id, &offer.id)
                    .map_err(|_| anyhow::anyhow!("an offer is not sealed for its edge"))?;
                return Ok((offer, credentials));
            }
            if begun.elapsed() > PATIENCE {
                bail!("no offer within {} s", PATIENCE.as_secs());
            }
            sleep(PAUSE).await;
        }
    }

    /// Logs in with an offer's credentials.
    pub(super) async fn log_in(&self) -> Result<Intruder> {
        let (_, credentials) = self.offer().await?;
        let mut intruder =
            self.field.greet(self.edge.source).await.context("port 8000 does not speak SSH")?;
        match try_in(&mut intruder, &credentials).await.context("no answer to a login")? {
            Login::Accepted => Ok(intruder),
            Login::Refused | Login::KeyWanted => bail!("a fresh offer was refused"),
        }
    }

    /// The same with its service announced, so that operators can open streams.
    pub(super) async fn tunnel(&self) -> Result<Intruder> {
        let mut intruder = self.log_in().await?;
        intruder.writing.send(&message::forward(SERVICE, 80)).await?;
        in_time(intruder.reading.expect(message::REQUEST_SUCCESS)).await.context("no forward")?;
        Ok(intruder)
    }

    /// Gives the edge back as it was: no flag, no tunnel.
    pub(super) async fn leave(&self) -> Result<()> {
        self.field.admin().lower(&self.edge.name).await?;
        Ok(())
    }
}

/// Tries these credentials.
pub(super) async fn try_in(intruder: &mut Intruder, credentials: &Credentials) -> std::io::Result<Login> {
    in_time(intruder.password(&credentials.username, credentials.password.expose())).await
}

/// A hello like that of an honest agent, with one HTTP service.
pub(super) fn hello() -> Hello {
    Hello {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL_VERSION,
        hostname: "stolen".to_owned(),
        services: vec![Service {
            name: SERVICE.parse().expect("lower-case letters are a name"),
            kind: ServiceKind::Http,
            target: "http://127.0.0.1:9".to_owned(),
        }],
        tunnel: TunnelState::Closed,
    }
}

/// Asks to forward names that are not its own, until it is sent away.
pub(super) async fn names(field: Field) -> Result<Account> {
    let (book, thief) = (Book::default(), Thief::with(&field, 0));
    let others =
        ["docker", "edge-000000", "echo.edge-000000", "", "*", "0.0.0.0", "localhost", "::", "127.0.0.1"];
    let odd = ["control@tidegate ", "CONTROL@TIDEGATE", "../echo", "echo\0", "ECHO", "echo ", "xn--echo"];
    let mut names: Vec<String> = others.into_iter().chain(odd).map(str::to_owned).collect();
    names.push("a".repeat(30_000));
    let mut asked = 0;
    while asked < field.count(NAMES) {
        let mut intruder = thief.log_in().await?;
        for name in names.iter().cycle() {
            asked += 1;
            book.sent();
            if intruder.writing.send(&message::forward(name, 80)).await.is_err() {
                book.met(Fate::Closed);
                break;
            }
            let kinds = [message::REQUEST_SUCCESS, message::REQUEST_FAILURE];
            match in_time(intruder.reading.expect_one_of(&kinds)).await {
                Ok(answer) if answer.first() == Some(&message::REQUEST_FAILURE) => book.met(Fate::Refused),
                Ok(_) => book.must(false, || format!("{name:?} can be announced")),
                Err(_) => {
                    book.met(Fate::Closed);
                    break;
                }
            }
        }
        thief.leave().await?;
    }
    Ok(book.account())
}

/// Opens channels that an agent may not have, until it is sent away.
pub(super) async fn channels(field: Field) -> Result<Account> {
    let (book, thief) = (Book::default(), Thief::with(&field, 0));
    let (api, ssh) = (u32::from(field.api().port()), u32::from(field.ssh().port()));
    let open = |kind: &str, number| message::open(kind, number, WINDOW, PACKET);
    let kinds = |number: u32| match number % 8 {
        0 => message::open_direct(number, WINDOW, PACKET, "127.0.0.1", api),
        1 => message::open_direct(number, WINDOW, PACKET, "echo.edge-000000", ssh),
        2 => open("session", number).done(),
        3 => open("x11", number).text("127.0.0.1").number(6000).done(),
        4 => open("auth-agent@openssh.com", number).done(),
        5 => open("direct-streamlocal@openssh.com", number)
            .text("/var/run/docker.sock")
            .text("")
            .number(0)
            .done(),
        6 => open("forwarded-tcpip", number).text(SERVICE).number(80).text("127.0.0.1").number(1).done(),
        _ => open("tun@openssh.com", number).number(1).number(0).done(),
    };
    let mut number = 0;
    while number < field.count(CHANNELS) {
        let mut intruder = thief.log_in().await?;
        loop {
            number += 1;
            book.sent();
            if intruder.writing.send(&kinds(number)).await.is_err() {
                book.met(Fate::Closed);
                break;
            }
            let answers = [message::CHANNEL_OPEN_CONFIRMATION, message::CHANNEL_OPEN_FAILURE];
            match in_time(intruder.reading.expect_one_of(&answers)).await {
                Ok(answer) if answer.first() == Some(&message::CHANNEL_OPEN_FAILURE) => {
                    book.met(Fate::Refused)
                }
                Ok(_) => book.must(false, || format!("an agent may open a channel: kind {}", number % 8)),
                Err(_) => {
                    book.met(Fate::Closed);
                    break;
                }
            }
        }
        thief.leave().await?;
    }
    Ok(book.account())
}

/// Every message about a channel, about channels that there are not.
pub(super) async fn unknown_channels(field: Field) -> Result<Account> {
    let (book, thief, end) = (Book::default(), Thief::with(&field, 1), field.end());
    let mut wanted = field.count(10);
    while wanted > 0 {
        wanted -= 1;
        for channel in [0, 1, 7, i32::MAX.unsigned_abs(), u32::MAX] {
            let about = |kind| Message::new(kind).number(channel);
            let messages = [
                about(message::CHANNEL_OPEN_CONFIRMATION).number(1).number(u32::MAX).number(u32::MAX),
                about(message::CHANNEL_OPEN_FAILURE).number(1).text("no").text(""),
                about(message::CHANNEL_WINDOW_ADJUST).number(u32::MAX),
                about(message::CHANNEL_DATA).bytes(&[7; 30_000]),
                about(message::CHANNEL_EXTENDED_DATA).number(0xFE61_636B).bytes(&[0xff; 4]),
                about(message::CHANNEL_EOF),
                about(message::CHANNEL_CLOSE),
                about(message::CHANNEL_REQUEST).text("exec").byte(1).text("id"),
                about(99),
                about(100),
            ];
            for unknown in messages {
                let mut intruder = thief.log_in().await?;
                book.sent();
                let payload = unknown.done();
                let _ = intruder.writing.send(&payload).await;
                book.met(still_there(&mut intruder, end).await);
                thief.leave().await?;
                if Instant::now() >= end {
                    return Ok(book.account());
                }
            }
        }
    }
    Ok(book.account())
}

/// Whether a connection still answers: `Refused` if it does, which is a right answer to nonsense.
async fn still_there(intruder: &mut Intruder, end: Instant) -> Fate {
    let keep_alive = Message::new(message::GLOBAL_REQUEST).text("keepalive@openssh.com").byte(1).done();
    let asking = async {
        intruder.writing.send(&keep_alive).await?;
        let kinds = [message::REQUEST_SUCCESS, message::REQUEST_FAILURE];
        intruder.reading.expect_one_of(&kinds).await
    };
    match timeout_at(end.max(Instant::now() + PATIENCE), asking).await {
        Ok(Ok(_)) => Fate::Refused,
        Ok(Err(_)) => Fate::Closed,
        Err(_) => Fate::Unanswered,
    }
}

/// The number that the gateway gave to the channel that it opens with this message.
pub(super) fn opened(payload: &[u8]) -> Option<u32> {
    let mut fields = Fields::of(payload);
    fields.bytes().ok()?;
    fields.number().ok()
}

/// Says yes to the gateway's channel, which this end calls `ours`.
pub(super) fn confirm(theirs: u32, ours: u32, window: u32, packet: u32) -> Vec<u8> {
    let message = Message::new(message::CHANNEL_OPEN_CONFIRMATION).number(theirs).number(ours);
    message.number(window).number(packet).done()
}
