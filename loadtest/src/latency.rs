//! Small requests: how many a second, and how long each takes.
//!
//! A request is 64 bytes to the service and the same 64 bytes back; on each connection the next begins when the last is
//! answered. A stream's set-up is measured the same way: its first bytes and the service's word that they are there. So this measures what a program that waits for its answers gets, and not what a queue does under a load
//! that does not wait.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::bench::{Bench, Entry};
use crate::pattern::Pattern;
use crate::plan::{Requests, Way};
use crate::report::RequestSample;
use crate::service::{Order, Work, YES};
use crate::stream::{self, ANSWER};
use crate::units::MIB;

/// Bytes of a request: a keystroke, a query by key, the head of a small frame.
const REQUEST: usize = 64;
/// Requests before the clock runs, on each connection.
const WARM_UP: u32 = 5;
/// Every stream of a latency measurement is one of these.
const ECHO: Order = Order { work: Work::Echo, start: 0, length: 0 };

/// Latencies of the requests that were answered rightly, and how many were not.
#[derive(Debug, Default)]
struct Tally {
    latencies: Vec<Duration>,
    failures: u64,
}

/// Asks for as long as `each`.
pub async fn measure(bench: &Bench, way: Way, case: Requests, each: Duration) -> RequestSample {
    let Ok(entry) = bench.entry(way) else {
        return RequestSample { failures: 1, ..RequestSample::default() };
    };
    match case {
        Requests::One | Requests::ThirtyTwo => on_kept_connections(&entry, case.connections(), each).await,
        Requests::BesideBulk => beside_bulk(&entry, &bench.pattern, each).await,
        Requests::SetUp => new_streams(&entry, each).await,
    }
}

async fn on_kept_connections(entry: &Entry, connections: u32, each: Duration) -> RequestSample {
    let opened = join_all((0..connections).map(|_| warmed_up(entry))).await;
    let begun = Instant::now();
    let asking = opened.into_iter().zip(0..).map(|(stream, number)| async move {
        match stream {
            Ok(mut stream) => ask(&mut stream, number, begun + each).await,
            Err(_) => Tally { failures: 1, ..Tally::default() },
        }
    });
    sample(join_all(asking).await, begun.elapsed())
}

/// While these requests are asked, a bulk stream takes all it can, and what it gets is counted too. If it fails, that is a
/// failure.
async fn beside_bulk(entry: &Entry, pattern: &Pattern, each: Duration) -> RequestSample {
    let endless = Order { work: Work::Send, start: 0, length: u64::MAX };
    let Ok(mut bulk) = stream::open(entry, endless).await else {
        return RequestSample { failures: 1, ..RequestSample::default() };
    };
    let arrived = Cell::new(0);
    let begun = Instant::now();
    let carrying = async {
        bulk.write_all(&[YES]).await?;
        pattern.receive_counting(&mut bulk, 0, u64::MAX, |bytes| arrived.set(arrived.get() + bytes)).await
    };
    tokio::select! {
        sample = on_kept_connections(entry, 1, each) => {
            let rate = arrived.get() as f64 / MIB as f64 / begun.elapsed().as_secs_f64();
            RequestSample { bulk_mib_per_second: Some(rate), ..sample }
        }
        _ended = carrying => RequestSample { failures: 1, ..RequestSample::default() },
    }
}

/// Opens one stream after the other. Each ends when the next begins.
async fn new_streams(entry: &Entry, each: Duration) -> RequestSample {
    let mut tally = Tally::default();
    let (begun, mut now) = (Instant::now(), Instant::now());
    while begun.elapsed() < each {
        match stream::open(entry, ECHO).await {
            Ok(_) => tally.latencies.push(now.elapsed()),
            Err(_) => tally.failures += 1,
        }
        now = Instant::now();
    }
    sample(vec![tally], begun.elapsed())
}

async fn warmed_up(entry: &Entry) -> Result<TcpStream> {
    let mut stream = stream::open(entry, ECHO).await?;
    for number in 0..WARM_UP {
        request(&mut stream, number.into()).await?;
    }
    Ok(stream)
}

/// Asks until `end`. A failure ends it: the connection is of no more use.
async fn ask(stream: &mut TcpStream, connection: u64, end: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut number = connection << 32;
    loop {
        let begun = Instant::now();
        if begun >= end {
            return tally;
        }
        if request(stream, number).await.is_err() {
            tally.failures += 1;
            return tally;
        }
        tally.latencies.push(begun.elapsed());
        number += 1;
    }
}

/// One request, with its number in it: an answer to another one would be noticed.
async fn request(stream: &mut TcpStream, number: u64) -> Result<()> {
    let mut question = [0x55; REQUEST];
    question[..8].copy_from_slice(&number.to_be_bytes());
    let asking = async {
        stream.write_all(&question).await?;
        let mut answer = [0; REQUEST];
        stream.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    ensure!(timeout(ANSWER, asking).await?? == question, "another answer than the question");
    Ok(())
}

fn sample(tallies: Vec<Tally>, elapsed: Duration) -> RequestSample {
    let failures = tallies.iter().map(|tally| tally.failures).sum();
    let latencies: Vec<Duration> = tallies.into_iter().flat_map(|tally| tally.latencies).collect();
    RequestSample {
        requests: latencies.len() as u64,
        seconds: elapsed.as_secs_f64(),
        failures,
        latencies,
        bulk_mib_per_second: None,
    }
}
