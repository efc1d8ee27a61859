//! Bodies that are not what they should be, on port 9000: JSON of strangers and of stolen agents, packed bodies, snapshots
//! without end. What an agent may say and a browser must not obey is in [`html`].

pub mod html;

use std::io::Write as _;
use std::net::Ipv4Addr;

use anyhow::Result;
use fixtures::intruder::dial;
use flate2::Compression;
use flate2::write::GzEncoder;
use shared::wire::check_in::{INSTANCE_HEADER, PATH, SNAPSHOT_PATH};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::account::{Account, Book, Fate};
use super::field::{Field, Stolen, answer};
use crate::units::{GIB, MIB};

/// Rounds of all bodies.
const ROUNDS: u32 = 20;
/// Bytes of a snapshot that is too large.
const SNAPSHOT: u64 = GIB;
/// Written at a time.
const CHUNK: usize = 64 * 1024;

/// The head of a stolen agent's request.
fn head(edge: &Stolen, path: &str) -> String {
    let (authorization, instance) = (edge.identity.authorization.expose(), edge.identity.instance);
    format!(
        "POST {path} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\ncontent-type: application/json\r\n\
         authorization: {authorization}\r\n{INSTANCE_HEADER}: {instance}\r\n"
    )
}

/// JSON of an agent and of strangers who log in.
pub(super) async fn json(field: Field) -> Result<Account> {
    let (book, end) = (Book::default(), field.end());
    let edge = &field.stolen()[0];
    let deep = |open: &str, close: &str| [open.repeat(30_000), close.repeat(30_000)].concat();
    let hello = |field: &str, value: &str| {
        let rest = [("agent", r#""1""#), ("protocol", "1"), ("hostname", r#""h""#), ("services", "[]")];
        let rest = rest.iter().filter(|(name, _)| *name != field);
        let fields: String = rest.map(|(name, value)| format!(r#""{name}":{value},"#)).collect();
        format!(r#"{{"hello":{{{fields}"{field}":{value},"tunnel":"closed"}}}}"#)
    };
    let service = r#"{"name":"a","kind":"tcp","target":"x"}"#;
    let bodies: Vec<Vec<u8>> = vec![
        b"{".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        b"{\"hello\":\"\\ud800\"}".to_vec(),
        deep("[", "]").into_bytes(),
        deep(r#"{"hello":"#, "}").into_bytes(),
        format!("{{{}}}", vec![r#""a":1"#; 10_000].join(",")).into_bytes(),
        format!(r#"{{"hello":{}}}"#, "9".repeat(60_000)).into_bytes(),
        format!(r#"{{"x":"{}"}}"#, "a".repeat(65_000)).into_bytes(),
        vec![b' '; 2 << 20],
        hello("hostname", &format!(r#""{}""#, "h".repeat(60_000))).into_bytes(),
        hello("hostname", r#""\u0000\u001b[2J""#).into_bytes(),
        hello("protocol", "-1").into_bytes(),
        hello("protocol", "1e400").into_bytes(),
        hello("services", &format!("[{}]", vec![service; 200].join(","))).into_bytes(),
        hello("services", r#"[{"name":"../x","kind":"tcp","target":"x"}]"#).into_bytes(),
        br#"{"failed":{"offer":"no","reason":"x"}}"#.to_vec(),
        br#"{"name":{"$ne":null},"password":["a"]}"#.to_vec(),
    ];
    for round in 0..field.count(ROUNDS) {
        for (number, body) in bodies.iter().enumerate() {
            for head in [head(edge, PATH), login_head("/api/v1/login"), login_head("/api/v1/session")] {
                let from = field.stranger(round * 100 + u32::try_from(number)?);
                book.sent();
                let length = format!("content-length: {}\r\n\r\n", body.len());
                let request = [head.as_bytes(), length.as_bytes(), body].concat();
                let fate = told(&field, from, &request).await;
                // An agent's words of the future are passed over: a check-in with them is a check-in.
                let harmless = head.contains(PATH) && matches!(fate, Fate::Answered(200 | 204));
                book.must(harmless || refused(fate), || {
                    format!("JSON was {fate}: {:.60}", String::from_utf8_lossy(body))
                });
                book.met(fate);
            }
        }
        if Instant::now() >= end {
            break;
        }
    }
    Ok(book.account())
}

fn login_head(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\ncontent-type: application/json\r\n")
}

/// A gateway says no with a status, or closes on a body that is too long.
fn refused(fate: Fate) -> bool {
    matches!(fate, Fate::Answered(400..=499) | Fate::Closed | Fate::TurnedAway)
}

async fn told(field: &Field, from: Ipv4Addr, request: &[u8]) -> Fate {
    match field.tell(from, request).await {
        Ok(answer) => Fate::of_answer(&answer),
        Err(error) => Fate::of_dialling(&error),
    }
}

/// Spaces, packed: small on the wire and large in memory for whoever unpacks them.
fn packed(bytes: u64, times: u32) -> Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    let chunk = vec![b' '; CHUNK];
    for _ in 0..bytes / CHUNK as u64 {
        packed.write_all(&chunk)?;
    }
    let mut packed = packed.finish()?;
    for _ in 1..times {
        packed = pack(&packed)?;
    }
    Ok(packed)
}

/// These bytes, packed.
fn pack(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes)?;
    Ok(packed.finish()?)
}

/// Packed bodies where nothing packed belongs, and under every name of a coding.
pub(super) async fn packed_bodies(field: Field) -> Result<Account> {
    let (book, end) = (Book::default(), field.end());
    let edge = &field.stolen()[0];
    // What fits into a check-in unpacks to a thousand times its limit; packed twice, to a million times.
    let (once, twice) = (packed(48 * MIB, 1)?, packed(u64::from(field.count(1024)) * MIB, 2)?);
    for round in 0..field.count(ROUNDS) {
        for (coding, body) in [("gzip", &once), ("gzip, gzip", &twice), ("br", &once), ("x-gzip", &twice)] {
            for head in [head(edge, PATH), head(edge, SNAPSHOT_PATH), login_head("/api/v1/login")] {
                book.sent();
                let coded = format!("content-encoding: {coding}\r\ncontent-length: {}\r\n\r\n", body.len());
                let request = [head.as_bytes(), coded.as_bytes(), body].concat();
                let fate = told(&field, field.stranger(round), &request).await;
                book.must(refused(fate), || format!("a body packed as {coding} was {fate}"));
                book.met(fate);
            }
        }
        if Instant::now() >= end {
            break;
        }
    }
    Ok(book.account())
}

/// A snapshot of a GiB, in three forms.
pub(super) async fn snapshot(field: Field) -> Result<Account> {
    let (book, edge) = (Book::default(), &field.stolen()[0]);
    let bytes = u64::from(field.count(u32::try_from(SNAPSHOT / MIB)?)) * MIB;
    let head = format!("{}content-encoding: gzip\r\n", head(edge, SNAPSHOT_PATH));
    let packed = packed(bytes.max(16 * MIB), 1)?;
    let whole = format!("{head}content-length: {}\r\n\r\n", packed.len());
    book.sent();
    let fate = told(&field, edge.source, &[whole.as_bytes(), &packed].concat()).await;
    book.must(refused(fate), || format!("a packed snapshot of {bytes} bytes was {fate}"));
    book.met(fate);
    for framing in [format!("content-length: {bytes}"), "transfer-encoding: chunked".to_owned()] {
        book.sent();
        let head = format!("{head}{framing}\r\n\r\n");
        let fate = pour(&field, edge.source, &head, bytes.max(4 * MIB), framing.ends_with("chunked")).await;
        book.must(refused(fate), || format!("a snapshot of {bytes} bytes was {fate}"));
        book.met(fate);
    }
    Ok(book.account())
}

/// Sends so many bytes after the head, or as many as are taken.
async fn pour(field: &Field, from: Ipv4Addr, head: &str, bytes: u64, chunked: bool) -> Fate {
    let mut stream = match dial(field.api(), from).await {
        Ok(stream) => stream,
        Err(error) => return Fate::of_dialling(&error),
    };
    let mut chunk = vec![0x1f; CHUNK];
    if chunked {
        chunk = [format!("{CHUNK:x}\r\n").as_bytes(), &chunk, b"\r\n"].concat();
    }
    if stream.write_all(head.as_bytes()).await.is_err() {
        return Fate::Closed;
    }
    for _ in 0..bytes / CHUNK as u64 {
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    Fate::of_answer(&answer(&mut stream).await)
}
