//! Attacks of those who have no credential: slow sockets ([`slow`]), guesses ([`guess`]), what is no SSH ([`wire`]), and
//! connections without end.

pub mod guess;
pub mod slow;
pub mod wire;

use std::time::Duration;

use anyhow::Result;
use fixtures::intruder::dial;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::account::{Account, Book, Fate};
use super::field::{Field, answer};

/// New connections a second on each port.
const RATE: u32 = 1000;
/// They come in bursts of this length: timers are no finer.
const BURST: Duration = Duration::from_millis(10);
const BURSTS_A_SECOND: u32 = 100;
/// What somebody asks who is curious.
const CURIOUS: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n";

/// New connections on both ports at a steady rate, each gone when it was answered.
pub(super) async fn connections(field: Field) -> Result<Account> {
    let (book, end) = (Book::default(), field.end());
    let mut bursts = interval(BURST);
    // A machine that is late catches up: the rate is what was asked for.
    bursts.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tasks = JoinSet::new();
    let mut number = 0;
    let each = (field.count(RATE) / BURSTS_A_SECOND).max(1);
    while Instant::now() < end {
        bursts.tick().await;
        for _ in 0..each {
            number += 1;
            for port in [field.ssh(), field.api()] {
                let (field, book) = (field.clone(), book.clone());
                tasks.spawn(async move {
                    book.sent();
                    book.met(knock(&field, port == field.ssh(), number, end).await);
                });
            }
        }
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
    Ok(book.account())
}

/// One connection.
async fn knock(field: &Field, ssh: bool, number: u32, end: Instant) -> Fate {
    let port = if ssh { field.ssh() } else { field.api() };
    let mut stream = match dial(port, field.stranger(number)).await {
        Ok(stream) => stream,
        Err(error) => return Fate::of_dialling(&error),
    };
    let talk = async {
        if ssh {
            return match stream.read_u8().await {
                Ok(_) => Fate::Granted,
                Err(_) => Fate::TurnedAway,
            };
        }
        if stream.write_all(CURIOUS).await.is_err() {
            return Fate::TurnedAway;
        }
        match Fate::of_answer(&answer(&mut stream).await) {
            Fate::Closed => Fate::TurnedAway,
            other => other,
        }
    };
    timeout_at(end, talk).await.unwrap_or(Fate::Unanswered)
}
