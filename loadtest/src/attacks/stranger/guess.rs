//! Guesses: public keys, one-time passwords, API tokens, edges' keys, people's passwords. None of them is right, so whatever
//! lets one in is wrong.

use std::time::Duration;

use anyhow::Result;
use fixtures::intruder::Login;
use fixtures::seeded::Seeded;
use shared::wire::check_in::{INSTANCE_HEADER, PATH};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::attacks::account::{Account, Book, Fate};
use crate::attacks::field::{Field, in_time};

/// Connections that offer keys, and that guess passwords, at a time.
const AT_ONCE: u32 = 400;
/// Kinds of passwords: that of a tunnel, and four on port 9000.
const KINDS: u32 = 5;
/// No connection offers more keys than this.
const KEYS_A_ROUND: u64 = 1000;
/// Pause of whoever was sent away.
const AGAIN: Duration = Duration::from_millis(500);

/// What is guessed.
#[derive(Clone, Copy, Debug)]
enum Guess {
    Keys,
    Passwords,
}

/// Public keys, one after the other on each connection, as fast as they are refused.
pub(in crate::attacks) async fn keys(field: Field) -> Result<Account> {
    Ok(all(&field, Guess::Keys).await)
}

/// Passwords for tunnels on port 8000, and for everything else on port 9000.
pub(in crate::attacks) async fn passwords(field: Field) -> Result<Account> {
    Ok(all(&field, Guess::Passwords).await)
}

/// Many at once, each again and again until the attack ends.
async fn all(field: &Field, guess: Guess) -> Account {
    let (book, end) = (Book::default(), field.end());
    let mut tasks = JoinSet::new();
    for number in 0..field.count(AT_ONCE) {
        let (field, book) = (field.clone(), book.clone());
        tasks.spawn(async move {
            for round in 0.. {
                let guessing = async {
                    match (guess, number % KINDS) {
                        (Guess::Keys, _) => probe(&field, &book, number, round).await,
                        (Guess::Passwords, 0) => ssh(&field, &book, number, round).await,
                        (Guess::Passwords, kind) => http(&field, &book, number, kind).await,
                    }
                };
                // What is under way at the end was sent and has no fate.
                let ended = timeout_at(end, guessing).await.is_err();
                sleep_until((Instant::now() + AGAIN).min(end)).await;
                if ended || Instant::now() >= end {
                    return;
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    book.account()
}

async fn probe(field: &Field, book: &Book, number: u32, round: u64) {
    let Ok(mut intruder) = field.greet(field.stranger(number)).await else {
        return book.met(Fate::TurnedAway);
    };
    let seeded = Seeded::new(number.into());
    for key in round * KEYS_A_ROUND.. {
        book.sent();
        match in_time(intruder.probe("admin", &seeded.bytes("probe", key))).await {
            Ok(Login::Refused) => book.met(Fate::Refused),
            Ok(Login::Accepted | Login::KeyWanted) => {
                return book.must(false, || "a random key is wanted".to_owned());
            }
            Err(_) => return book.met(Fate::Closed),
        }
    }
}

async fn ssh(field: &Field, book: &Book, number: u32, round: u64) {
    let Ok(mut intruder) = field.greet(field.stranger(number)).await else {
        return book.met(Fate::TurnedAway);
    };
    for guess in 0_u64.. {
        book.sent();
        match in_time(intruder.password("admin", &format!("guess-{number}-{round}-{guess}"))).await {
            Ok(Login::Refused) => book.met(Fate::Refused),
            Ok(Login::Accepted | Login::KeyWanted) => {
                return book.must(false, || "a guessed password is right".to_owned());
            }
            Err(_) => return book.met(Fate::Closed),
        }
    }
}

async fn http(field: &Field, book: &Book, number: u32, kind: u32) {
    let seeded = Seeded::new(number.into());
    let request = match kind {
        1 => curious("GET /api/v1/edges HTTP/1.1\r\nauthorization: Bearer tga_guess\r\n"),
        2 => {
            let who = seeded.identity(0);
            let (key, instance) = (who.authorization.expose(), who.instance);
            curious(&format!(
                "POST {PATH} HTTP/1.1\r\nauthorization: {key}\r\n{INSTANCE_HEADER}: {instance}\r\n"
            ))
        }
        3 => login("/api/v1/session", number, ""),
        _ => login("/api/v1/login", number, r#","label":"x","role":"viewer""#),
    };
    book.sent();
    match field.tell(field.stranger(number), request.as_bytes()).await {
        Ok(answer) => {
            let fate = Fate::of_answer(&answer);
            book.must(!matches!(fate, Fate::Answered(200..=399)), || {
                format!("a guess was answered: {}", String::from_utf8_lossy(&answer))
            });
            book.met(fate);
        }
        Err(error) => book.met(Fate::of_dialling(&error)),
    }
}

/// A request without a body, after which the connection ends.
fn curious(head: &str) -> String {
    format!("{head}host: gate\r\nconnection: close\r\n\r\n")
}

fn login(path: &str, number: u32, more: &str) -> String {
    let body = format!(r#"{{"name":"ada","password":"guess-{number}"{more}}}"#);
    format!(
        "POST {path} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}
