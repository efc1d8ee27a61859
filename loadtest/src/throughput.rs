//! Bulk data: how many MiB a second a way carries, and what processor time it takes for that.
//!
//! The clock runs from the moment when all streams are open and told to go, until the last byte was compared with the
//! one that was sent, at its far end. A stream that fails, or carried other bytes, is a failure, and its bytes count as
//! not carried.

use std::io;
use std::time::Duration;

use anyhow::Result;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::bench::Bench;
use crate::pattern::Pattern;
use crate::plan::{Bulk, Direction, Way};
use crate::process::cpu_time;
use crate::report::BulkSample;
use crate::service::{Order, Work, YES};
use crate::stream;

/// Longest time for one measurement. A tunnel that locks up counts as failures after it, and the run goes on.
const DEADLINE: Duration = Duration::from_secs(90);
/// Distance in the pattern between two streams of one measurement, so that bytes which end up in another stream differ.
const STRIDE: u64 = 10_007;

/// Carries `total` bytes once.
pub async fn measure(bench: &Bench, way: Way, case: Bulk, total: u64) -> BulkSample {
    let work = match case.direction {
        Direction::EdgeToOperator => Work::Send,
        Direction::OperatorToEdge => Work::Receive,
    };
    let orders = case.shares(total).into_iter().zip((0..).step_by(STRIDE as usize));
    let orders: Vec<Order> = orders.map(|(length, start)| Order { work, start, length }).collect();

    let Ok(entry) = bench.entry(way) else {
        return BulkSample { bytes: 0, seconds: 0.0, cpu_seconds: 0.0, failures: case.streams.into() };
    };
    let opened = join_all(orders.iter().map(|order| stream::open(&entry, *order))).await;
    let processes = bench.processes(way);
    let (cpu_before, begun) = (cpu_time(&processes), Instant::now());
    let carrying =
        opened.into_iter().zip(&orders).map(|(stream, order)| carry_all(stream, &bench.pattern, *order));
    let carried: Vec<Option<u64>> = join_all(carrying).await;
    let elapsed = begun.elapsed();
    let cpu = cpu_time(&processes).saturating_sub(cpu_before);

    BulkSample {
        bytes: carried.iter().flatten().sum(),
        seconds: elapsed.as_secs_f64(),
        cpu_seconds: cpu.as_secs_f64(),
        failures: carried.iter().filter(|carried| carried.is_none()).count() as u64,
    }
}

/// The bytes that were carried, where all were.
async fn carry_all(stream: Result<TcpStream>, pattern: &Pattern, order: Order) -> Option<u64> {
    let mut stream = stream.ok()?;
    timeout(DEADLINE, carry(&mut stream, pattern, order)).await.ok()?.ok()?;
    Some(order.length)
}

/// The client's half of an order.
async fn carry(stream: &mut TcpStream, pattern: &Pattern, order: Order) -> io::Result<()> {
    match order.work {
        Work::Echo => Ok(()),
        Work::Send => {
            stream.write_all(&[YES]).await?;
            pattern.receive(stream, order.start, order.length).await?;
            stream::ends(stream).await
        }
        Work::Receive => {
            pattern.send(stream, order.start, order.length).await?;
            let verdict = stream.read_u8().await?;
            if verdict == YES { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
        }
    }
}
