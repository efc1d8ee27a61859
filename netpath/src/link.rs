//! Two TUN devices, and a thread of its own that carries packets between them as the weather has it.
//!
//! A packet that is due leaves up to a millisecond late, which is as fine as the runtime's timers are. What happens when
//! a queue is full: the packet is dropped and counted, as in a network.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc as blocking};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tokio_tun::Tun;

use crate::weather::{Direction, Fate, Weather};

/// Largest packet: what IP can say. The devices' MTU keeps them far smaller.
const LARGEST: usize = 65_535;
/// Packets under way in one direction. At 1,500 bytes this holds 192 MiB: what a gigabyte a second has on a path of
/// 200 ms; the harness's machines send less.
const UNDER_WAY: usize = 131_072;

/// The weather both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Both {
    /// From the near end to the far one.
    pub there: Weather,
    /// From the far end to the near one.
    pub back: Weather,
}

/// What happened to the packets of one direction until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets that arrived.
    pub arrived: u64,
    /// Bytes of them, with IP headers.
    pub bytes: u64,
    /// Packets that the weather took.
    pub lost: u64,
    /// Packets that a full queue took.
    pub crowded: u64,
}

#[derive(Debug, Default)]
struct Counters {
    arrived: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
    crowded: AtomicU64,
}

impl Counters {
    fn now(&self) -> Count {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Count {
            arrived: read(&self.arrived),
            bytes: read(&self.bytes),
            lost: read(&self.lost),
            crowded: read(&self.crowded),
        }
    }
}

/// A link between two devices. It ends, and the devices vanish, when it is dropped.
#[derive(Debug)]
pub struct Link {
    weather: watch::Sender<Both>,
    counters: [Arc<Counters>; 2],
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Makes the devices `near` and `far` and carries packets between them. They have no addresses and are down.
    ///
    /// # Errors
    /// If the devices can't be made: without `/dev/net/tun`, without the right to administer the network, or where there
    /// are devices of that name.
    pub fn start(near: &str, far: &str, weather: Both, seed: u64) -> Result<Self> {
        let (weather, watched) = watch::channel(weather);
        let counters = [Arc::<Counters>::default(), Arc::default()];
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = blocking::channel();
        let carrier =
            Carrier { names: [near.to_owned(), far.to_owned()], watched, counters: counters.clone(), seed };
        let thread = thread::Builder::new().name("netpath".to_owned()).spawn(move || {
            if let Err(error) = carrier.run(&ready, stopped) {
                // The one who started it has gone only if it is stopped already.
                let _ = ready.send(Err(error));
            }
        });
        let thread = thread.context("can't start a thread")?;
        let link = Self { weather, counters, stop: Some(stop), thread: Some(thread) };
        started.recv().map_err(|_| anyhow!("the link's thread ended"))??;
        Ok(link)
    }

    /// Changes the weather for packets that come from now on.
    pub fn change(&self, weather: Both) {
        self.weather.send_replace(weather);
    }

    /// What happened until now, from the near end to the far one and back.
    pub fn counts(&self) -> [Count; 2] {
        [self.counters[0].now(), self.counters[1].now()]
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics for nobody, and there is nobody to tell.
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Carrier {
    names: [String; 2],
    watched: watch::Receiver<Both>,
    counters: [Arc<Counters>; 2],
    seed: u64,
}

impl Carrier {
    fn run(self, ready: &blocking::Sender<Result<()>>, stopped: oneshot::Receiver<()>) -> Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("can't make a runtime")?.block_on(async {
            let (near, far) = (device(&self.names[0])?, device(&self.names[1])?);
            let _ = ready.send(Ok(()));
            let seed = self.seed.wrapping_mul(2);
            let (there, back) = (Direction::new(seed), Direction::new(seed.wrapping_add(1)));
            let there = carry(&near, &far, there, &self.counters[0], || self.watched.borrow().there);
            let back = carry(&far, &near, back, &self.counters[1], || self.watched.borrow().back);
            tokio::select! {
                _ = stopped => Ok(()),
                // They end only when a device is gone, and then the other direction is of no use either.
                ended = there => ended.context("the way there ended"),
                ended = back => ended.context("the way back ended"),
            }
        })
    }
}

fn device(name: &str) -> Result<Tun> {
    let built = Tun::builder().name(name).build();
    let mut devices = built.with_context(|| {
        format!("can't make the TUN device {name}: it takes /dev/net/tun and root, or CAP_NET_ADMIN")
    })?;
    devices.pop().context("no TUN device was made")
}

async fn carry(
    from: &Tun,
    to: &Tun,
    mut direction: Direction,
    counters: &Counters,
    weather: impl Fn() -> Weather,
) -> io::Result<()> {
    let add = |counter: &AtomicU64, count: usize| counter.fetch_add(count as u64, Ordering::Relaxed);
    let (sender, mut receiver) = mpsc::channel::<(Instant, Box<[u8]>)>(UNDER_WAY);
    let taking = async {
        let mut buffer = vec![0; LARGEST];
        loop {
            let length = from.recv(&mut buffer).await?;
            match direction.packet(Instant::now(), length, &weather()) {
                Fate::Arrives(at) => {
                    if sender.try_send((at, buffer[..length].into())).is_err() {
                        add(&counters.crowded, 1);
                    }
                }
                Fate::Lost => drop(add(&counters.lost, 1)),
                Fate::Crowded => drop(add(&counters.crowded, 1)),
            }
        }
    };
    let giving = async {
        while let Some((at, packet)) = receiver.recv().await {
            if at > Instant::now() {
                sleep_until(at.into()).await;
            }
            // A device that is down refuses it: then it is lost, as at any interface that is down.
            match to.send(&packet).await {
                Ok(_) => {
                    add(&counters.arrived, 1);
                    add(&counters.bytes, packet.len());
                }
                Err(_) => drop(add(&counters.lost, 1)),
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = taking => ended,
        ended = giving => ended,
    }
}
