//! Smuggling through the proxy, in both directions: a request of a client with a second one hidden in it, and the answer of
//! a hostile service with more in it than one answer.
//!
//! The agent at the other end of the tunnel is the attackers' own, and so is the service: it hears every byte that the
//! gateway sends, and answers whatever it wants.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use fixtures::intruder::dial;
use fixtures::intruder::message::{self, Fields, Message};
use fixtures::intruder::{Intruder, Reading};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use super::{Thief, confirm, opened};
use crate::agents::tunnel::SERVICE;
use crate::attacks::account::{Account, Book, Fate};
use crate::attacks::field::{Field, answer};

/// What is hidden: nobody may hear it as a request, or as an answer.
const HIDDEN: &str = "smuggled";
/// Rounds of all forms.
const ROUNDS: u32 = 5;
/// The service's answer to honest requests.
const PLAIN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Longest wait for an answer: a service that answers nothing usable is told of at once.
const LONGEST: Duration = Duration::from_secs(5);
/// Window and packet size of the agent.
const WINDOW: u32 = 64 << 20;
const PACKET: u32 = 32_768;

/// Requests with a second one in them: the service must hear one request, whose length is beyond doubt.
pub(in crate::attacks) async fn requests(field: Field) -> Result<Account> {
    let (book, thief, end) = (Book::default(), Thief::with(&field, 0), field.end());
    let hostile = Hostile::play(thief.tunnel().await?, PLAIN.into());
    let inner = format!("GET /{HIDDEN} HTTP/1.1\r\nhost: inner\r\n\r\n");
    let length = inner.len();
    let forms = [
        format!("content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("transfer-encoding: chunked\r\ncontent-length: {}\r\n\r\n0\r\n\r\n{inner}", length + 5),
        format!("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{inner}"),
        format!("transfer-encoding: identity, chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n{inner}"),
        format!("transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("transfer-encoding : chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("transfer-encoding:\u{b}chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("content-length: 0\r\ncontent-length: {length}\r\n\r\n{inner}"),
        format!("content-length: 0, {length}\r\n\r\n{inner}"),
        format!("content-length: +{length}\r\n\r\n{inner}"),
        format!("content-length: 0x10\r\n\r\n{inner}"),
        format!("x: y\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("x: y\ntransfer-encoding: chunked\n\n0\r\n\r\n{inner}"),
        format!("upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMA\r\n\r\n{inner}"),
        format!("connection: content-length\r\ncontent-length: {length}\r\n\r\n{inner}"),
        format!("transfer-encoding: chunked\r\n\r\n5;x=\r\nHELLO\r\n0\r\n\r\n{inner}"),
        format!("transfer-encoding: chunked\r\n\r\n100000000000000000\r\n\r\n{inner}"),
        format!("transfer-encoding: chunked\r\n\r\n0\r\ncontent-length: {length}\r\n\r\n{inner}"),
        format!("expect: 100-continue\r\ncontent-length: {length}\r\n\r\n{inner}"),
    ];
    let path = format!("/api/v1/edges/{}/services/{SERVICE}/proxy/first", thief.edge().name);
    let head = head(&field, "POST", &path);
    for _ in 0..field.count(ROUNDS) {
        for form in &forms {
            book.sent();
            let request = format!("{head}connection: close\r\n{form}");
            let answer = ask(&field, field.newcomer(3000), request.as_bytes()).await;
            book.met(Fate::of_answer(&answer));
        }
        if Instant::now() >= end {
            break;
        }
    }
    for heard in hostile.heard() {
        let lines = heard.lines().filter(|line| line.ends_with(" HTTP/1.1")).count();
        let (head, _) = heard.split_once("\r\n\r\n").unwrap_or((&heard, ""));
        let head = head.to_lowercase();
        let (length, coding) = (head.contains("content-length:"), head.contains("transfer-encoding:"));
        book.must(lines == 1 || length || coding, || format!("a service heard two requests: {heard}"));
        book.must(!(length && coding), || format!("a service heard two lengths: {heard}"));
        book.must(!head.contains("h2c"), || format!("a service was asked to switch: {heard}"));
    }
    book.must(!hostile.heard().is_empty(), || "the service heard nothing at all".to_owned());
    thief.leave().await?;
    Ok(book.account())
}

/// Answers with a second one in them, and answers that are none: whoever asks next on the same connection gets the
/// gateway's own answer.
pub(in crate::attacks) async fn answers(field: Field) -> Result<Account> {
    let (book, thief, end) = (Book::default(), Thief::with(&field, 1), field.end());
    let second = format!("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{HIDDEN}");
    let long = "x".repeat(1 << 20);
    let forms: Vec<String> = vec![
        format!("{PLAIN}{second}"),
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{second}"
        ),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{second}"),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n{second}"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 100\r\n\r\nok{second}"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{second}"),
        format!("HTTP/1.1 204 No Content\r\ncontent-length: 100\r\n\r\n{second}"),
        format!("HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n{second}"),
        format!("HTTP/1.1 100 Continue\r\n\r\n{second}"),
        format!("{}{second}", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000)),
        format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n{second}"),
        format!("HTTP/1.1 200 OK\r\nx: y\r{second}\r\ncontent-length: 0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nx: y\n\n{second}"),
        format!("HTTP/1.1 200 OK\r\n{long}: x\r\n\r\n{second}"),
        format!("HTTP/1.1 200 OK\r\n{}\r\n{second}", "x: y\r\n".repeat(10_000)),
        format!("HTTP/9.9 999 {long}\r\n\r\n"),
        "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nshort".to_owned(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_owned(),
        format!("SSH-2.0-{HIDDEN}\r\n"),
        String::new(),
    ];
    let path = format!("/api/v1/edges/{}/services/{SERVICE}/proxy/first", thief.edge().name);
    let (first, second) = (head(&field, "GET", &path), head(&field, "GET", "/api/v1/edges?limit=1"));
    for _ in 0..field.count(ROUNDS) {
        for form in &forms {
            book.sent();
            let hostile = Hostile::play(thief.tunnel().await?, form.clone());
            let request = format!("{first}\r\n{second}connection: close\r\n\r\n");
            let answers = ask(&field, field.newcomer(3001), request.as_bytes()).await;
            book.met(Fate::of_answer(&answers));
            judge(&book, form, &answers);
            drop(hostile);
            thief.leave().await?;
        }
        if Instant::now() >= end {
            break;
        }
    }
    Ok(book.account())
}

/// What comes after the first answer is the gateway's own, or nothing.
fn judge(book: &Book, form: &str, answers: &[u8]) {
    let answers = String::from_utf8_lossy(answers);
    let next = answers.match_indices("HTTP/1.1 ").skip(1).last().map(|(at, _)| &answers[at..]);
    book.must(next.is_none_or(|next| !next.contains(HIDDEN)), || {
        format!("an answer was smuggled: {form:.100} led to {answers:.1000}")
    });
}

fn head(field: &Field, method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer {}\r\n", field.token().expose())
}

/// An operator's request over plain HTTP, as it is, and all that is answered.
async fn ask(field: &Field, from: Ipv4Addr, request: &[u8]) -> Vec<u8> {
    let asking = async {
        let mut stream = dial(field.api(), from).await?;
        stream.write_all(request).await?;
        std::io::Result::Ok(answer(&mut stream).await)
    };
    timeout(LONGEST, asking).await.map_or_else(|_| Vec::new(), Result::unwrap_or_default)
}

/// An agent and its service in one: hears what comes through its tunnel, and answers always the same.
struct Hostile {
    /// What was heard on each channel.
    heard: Arc<Mutex<Vec<String>>>,
    playing: tokio::task::JoinHandle<()>,
}

impl Hostile {
    fn play(intruder: Intruder, answer: String) -> Self {
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let ears = Arc::clone(&heard);
        let playing = tokio::spawn(async move {
            // The end of the tunnel is the end of it.
            let _ = serve(intruder, &answer, &ears).await;
        });
        Self { heard, playing }
    }

    /// All that was heard, of each channel on which anything was.
    fn heard(&self) -> Vec<String> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        heard.retain(|heard| !heard.is_empty());
        heard
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.playing.abort();
    }
}

/// Takes each channel, hears all that comes on it, and answers the first of it. Channels keep the number that the gateway
/// gave them.
async fn serve(mut intruder: Intruder, answer: &str, heard: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut open: HashMap<u32, usize> = HashMap::new();
    loop {
        let payload = next(&mut intruder.reading).await?;
        let mut fields = Fields::of(&payload);
        match payload.first() {
            Some(&message::CHANNEL_OPEN) => {
                let Some(channel) = opened(&payload) else { continue };
                {
                    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                    open.insert(channel, heard.len());
                    heard.push(String::new());
                }
                intruder.writing.send(&confirm(channel, channel, WINDOW, PACKET)).await?;
            }
            Some(&message::CHANNEL_DATA) => {
                let (channel, data) = (fields.number()?, fields.bytes()?);
                let Some(place) = open.get(&channel) else { continue };
                let begins = {
                    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                    let begins = heard[*place].is_empty();
                    heard[*place].push_str(&String::from_utf8_lossy(data));
                    begins
                };
                if !begins {
                    continue;
                }
                for part in answer.as_bytes().chunks(PACKET as usize) {
                    let data = Message::new(message::CHANNEL_DATA).number(channel).bytes(part).done();
                    intruder.writing.send(&data).await?;
                }
                for kind in [message::CHANNEL_EOF, message::CHANNEL_CLOSE] {
                    intruder.writing.send(&Message::new(kind).number(channel).done()).await?;
                }
            }
            Some(_) | None => {}
        }
    }
}

async fn next(reading: &mut Reading) -> std::io::Result<Vec<u8>> {
    reading.expect_one_of(&[message::CHANNEL_OPEN, message::CHANNEL_DATA]).await
}
