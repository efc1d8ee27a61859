//! Messages and key exchanges without end, of an agent that is logged in and reads no answers.

use anyhow::Result;
use fixtures::intruder::message::{self, Message};
use fixtures::intruder::{Intruder, Proposal};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout, timeout_at};

use super::Thief;
use crate::agents::tunnel::SERVICE;
use crate::attacks::account::{Account, Book, Fate};
use crate::attacks::field::{Field, PATIENCE};

/// Messages of a flood, each; an attack is over with them or with its time, whichever comes first.
const MESSAGES: u32 = 1_000_000;
/// Messages that go out in one write.
const BATCH: usize = 256;
/// Streams that operators ask for while an agent stalls a key exchange.
const STREAMS: u32 = 20;

/// One flood at a time on each stolen edge.
pub(in crate::attacks) async fn messages(field: Field) -> Result<Account> {
    let (book, end) = (Book::default(), field.end());
    let request = |name: &str| Message::new(message::GLOBAL_REQUEST).text(name).byte(1);
    let floods = [
        Message::new(message::EXT_INFO).number(1).text("server-sig-algs").text("x").done(),
        Message::new(message::PING).bytes(&[7; 512]).done(),
        request("keepalive@openssh.com").done(),
        request("hostkeys-prove-00@openssh.com").bytes(&[7; 64]).done(),
        request("cancel-tcpip-forward").text(SERVICE).number(80).done(),
        Message::new(message::IGNORE).bytes(&[7; 1024]).done(),
    ];
    let (mut tasks, mut thieves) = (JoinSet::new(), Vec::new());
    for (number, flood) in floods.into_iter().enumerate() {
        let thief = Thief::with(&field, number);
        let mut intruder = thief.tunnel().await?;
        thieves.push(thief);
        let (book, rounds) = (book.clone(), usize::try_from(field.count(MESSAGES))?.div_ceil(BATCH));
        tasks.spawn(async move {
            let flooding = async {
                for _ in 0..rounds {
                    if intruder.writing.repeat(&flood, BATCH).await.is_err() {
                        return false;
                    }
                    book.sent_many(BATCH as u64);
                }
                true
            };
            match timeout_at(end, flooding).await {
                Ok(true) => book.met(Fate::Granted),
                Ok(false) => book.met(Fate::Closed),
                // The gateway reads no faster than it can answer.
                Err(_) => book.met(Fate::Unanswered),
            }
            // Held until the end of the attack, with all that waits to be read.
            sleep_until(end).await;
            drop(intruder);
        });
    }
    while tasks.join_next().await.is_some() {}
    for thief in thieves {
        thief.leave().await?;
    }
    Ok(book.account())
}

/// A key exchange that is begun and never ended, with operators waiting behind it; and one after the other.
pub(in crate::attacks) async fn rekeys(field: Field) -> Result<Account> {
    let (book, end) = (Book::default(), field.end());
    let (stalling, storming) = (Thief::with(&field, 0), Thief::with(&field, 1));
    let mut stalled = stalling.tunnel().await?;
    let mut storm = storming.tunnel().await?;
    stalled.writing.send(&message::key_exchange_init(Proposal::default())).await?;
    book.sent();
    let mut waiting = JoinSet::new();
    for _ in 0..field.count(STREAMS) {
        let (field, name, book) = (field.clone(), stalling.edge().name.clone(), book.clone());
        waiting.spawn(async move {
            book.sent();
            let from = field.newcomer(900);
            let path = format!("/api/v1/edges/{name}/services/{SERVICE}/stream");
            let request = field.admin().upgrade_request(&path);
            let asked = timeout_at(end, field.tell(from, request.expose().as_bytes())).await;
            match asked {
                Ok(Ok(answer)) => book.met(Fate::of_answer(&answer)),
                Ok(Err(error)) => book.met(Fate::of_dialling(&error)),
                Err(_) => book.met(Fate::Unanswered),
            }
        });
    }
    let again = async {
        while storm.exchange_keys(Proposal::default(), &[]).await.is_ok() {
            book.sent();
        }
    };
    match timeout_at(end, again).await {
        Ok(()) => book.met(Fate::Closed),
        Err(_) => book.met(Fate::Granted),
    }
    while waiting.join_next().await.is_some() {}
    sleep_until(end).await;
    stalling.leave().await?;
    storming.leave().await?;
    // Told to leave, a connection that is in the middle of a key exchange has to end too.
    book.must(ends(&mut stalled).await, || "a stalled key exchange outlives its tunnel".to_owned());
    Ok(book.account())
}

async fn ends(intruder: &mut Intruder) -> bool {
    timeout(PATIENCE, intruder.reading.skip_all()).await.is_ok()
}
