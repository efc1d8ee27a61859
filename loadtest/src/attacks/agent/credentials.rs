//! One-time credentials, more than once: exactly one login comes of each, and none at all when their time is over.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use fixtures::intruder::{Login, message};
use shared::envelope::Credentials;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Thief, try_in};
use crate::attacks::account::{Account, Book, Fate};
use crate::attacks::field::{Field, PATIENCE, in_time};

/// Logins at the same moment.
const AT_ONCE: u32 = 1000;
/// Rounds of names.
const ROUNDS: u32 = 10;
/// Past the life of an offer, which says in whole seconds how long that is.
const LATER: Duration = Duration::from_secs(2);

/// Tries credentials that must not work, from an address of its own.
async fn must_fail(field: &Field, book: &Book, number: u32, credentials: &Credentials, when: &str) {
    book.sent();
    let Ok(mut intruder) = field.greet(field.newcomer(number)).await else {
        return book.met(Fate::TurnedAway);
    };
    match try_in(&mut intruder, credentials).await {
        Ok(Login::Refused) => book.met(Fate::Refused),
        Ok(Login::Accepted | Login::KeyWanted) => book.must(false, || format!("credentials work {when}")),
        Err(_) => book.met(Fate::Closed),
    }
}

/// While they are in use, after the tunnel's end, too late, and very many at once.
pub(in crate::attacks) async fn replay(field: Field) -> Result<Account> {
    let book = Book::default();
    let thief = Thief::with(&field, 2);

    let (_, credentials) = thief.offer().await?;
    let mut first = field.greet(thief.edge().source).await?;
    ensure!(try_in(&mut first, &credentials).await? == Login::Accepted, "a fresh offer was refused");
    must_fail(&field, &book, 1, &credentials, "a second time").await;
    thief.leave().await?;
    // The gateway closes the tunnel.
    let _ = timeout(PATIENCE, first.reading.until_the_end()).await;
    must_fail(&field, &book, 2, &credentials, "after the tunnel was closed").await;

    let (_, credentials) = thief.offer().await?;
    thief.leave().await?;
    must_fail(&field, &book, 3, &credentials, "after the flag was lowered").await;

    let late = Thief::with(&field, 3);
    let (offer, credentials) = late.offer().await?;
    let ((), raced) = tokio::join!(
        async {
            sleep(Duration::from_secs(offer.expires_in_s.into()) + LATER).await;
            must_fail(&field, &book, 4, &credentials, "when their time is over").await;
        },
        race(&field, &book),
    );
    raced?;
    late.leave().await?;
    Ok(book.account())
}

/// Very many at the same moment: exactly one is let in.
async fn race(field: &Field, book: &Book) -> Result<()> {
    let thief = Thief::with(field, 4);
    // Everybody is past the key exchange before the offer is made, so that its time is for logins only.
    let mut greeting = JoinSet::new();
    for number in 0..field.count(AT_ONCE).max(2) {
        let field = field.clone();
        greeting.spawn(async move { field.greet(field.stranger(number)).await });
    }
    let mut ready = Vec::new();
    while let Some(greeted) = greeting.join_next().await {
        book.sent();
        match greeted? {
            Ok(intruder) => ready.push(intruder),
            Err(_) => book.met(Fate::TurnedAway),
        }
    }
    let (_, credentials) = thief.offer().await?;
    let (line, credentials) = (Arc::new(Barrier::new(ready.len())), Arc::new(credentials));
    let mut racing = JoinSet::new();
    for mut intruder in ready {
        let (line, credentials, book) = (Arc::clone(&line), Arc::clone(&credentials), book.clone());
        racing.spawn(async move {
            line.wait().await;
            let fate = match try_in(&mut intruder, &credentials).await {
                Ok(Login::Accepted) => Fate::Granted,
                Ok(Login::Refused | Login::KeyWanted) => Fate::Refused,
                Err(_) => Fate::Closed,
            };
            book.met(fate);
            (fate == Fate::Granted).then_some(intruder)
        });
    }
    let mut inside = Vec::new();
    while let Some(ended) = racing.join_next().await {
        inside.extend(ended?);
    }
    book.must(inside.len() == 1, || format!("{} of many logins at once were let in", inside.len()));
    thief.leave().await
}

/// A login that begins as one and goes on as another.
pub(in crate::attacks) async fn user_switch(field: Field) -> Result<Account> {
    let book = Book::default();
    let (thief, other) = (Thief::with(&field, 2), Thief::with(&field, 3));
    for round in 0..field.count(ROUNDS) {
        let (_, credentials) = thief.offer().await?;
        let (_, others) = other.offer().await?;
        for (number, user) in (1..).zip(["admin", "", others.username.as_str()]) {
            book.sent();
            let Ok(mut intruder) = field.greet(field.newcomer(round * 16 + number)).await else {
                book.met(Fate::TurnedAway);
                continue;
            };
            // The right name first, without a credential, and then its password under another one.
            intruder.writing.send(&message::none(&credentials.username)).await?;
            let _ = in_time(intruder.reading.login()).await;
            match in_time(intruder.password(user, credentials.password.expose())).await {
                Ok(Login::Refused) => book.met(Fate::Refused),
                Ok(Login::Accepted | Login::KeyWanted) => {
                    book.must(false, || format!("the password of one name opens {user:?}"));
                }
                Err(_) => book.met(Fate::Closed),
            }
        }
        // And the name that it belongs to, after a wrong one: that is a login like any other, or none.
        book.sent();
        let mut intruder = field.greet(thief.edge().source).await?;
        let _ = in_time(intruder.password("admin", "wrong")).await;
        match try_in(&mut intruder, &credentials).await {
            Ok(Login::Accepted) => book.met(Fate::Granted),
            Ok(Login::Refused | Login::KeyWanted) => book.met(Fate::Refused),
            Err(_) => book.met(Fate::Closed),
        }
        thief.leave().await?;
        other.leave().await?;
    }
    Ok(book.account())
}

/// Credentials that were good when the gateway went down.
pub(in crate::attacks) async fn after_restart(field: Field) -> Result<Account> {
    let book = Book::default();
    let (used, unused) = (Thief::with(&field, 5), Thief::with(&field, 6));
    let (_, spent) = used.offer().await?;
    let mut tunnel = field.greet(used.edge().source).await?;
    ensure!(try_in(&mut tunnel, &spent).await? == Login::Accepted, "a fresh offer was refused");
    let (_, fresh) = unused.offer().await?;
    field.restart().await?;
    must_fail(&field, &book, 5, &spent, "a second time, after a restart").await;
    must_fail(&field, &book, 6, &fresh, "after a restart").await;
    Ok(book.account())
}
