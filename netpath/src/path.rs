//! A link with an end in this machine's own network namespace and one in a namespace of its own.
//!
//! Making a path runs `ip` of iproute2 a dozen times, which takes some tens of milliseconds and blocks.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::link::{Both, Count, Link};
use crate::weather::Weather;

/// Addresses are taken from 10.214.0.0/16, four for each path.
const BASE: u32 = u32::from_be_bytes([10, 214, 0, 0]);
const PATHS: u32 = 16_384;
/// Paths that one process makes, so that another one's are told apart by its process id.
const OF_A_PROCESS: u32 = 16;
/// Packets that a device keeps for the link's thread, which gets no processor for some milliseconds where others are
/// busy. The default of 500 is what a fast sender sends in less than that, and the rest would be lost.
const DEVICE_QUEUE: &str = "20000";

/// A path to a namespace of its own.
#[derive(Debug)]
pub struct Path {
    // Dropped first: its devices vanish with it.
    link: Option<Link>,
    name: String,
    /// First address of its four.
    first: u32,
}

impl Path {
    /// Makes one with the same weather in both directions.
    ///
    /// # Errors
    /// If this is not run by root, or `/dev/net/tun`, network namespaces or iproute2 are missing.
    pub fn lay(weather: Weather, seed: u64) -> Result<Self> {
        Self::lay_both(Both { there: weather, back: weather }, seed)
    }

    /// Makes one.
    ///
    /// # Errors
    /// As for [`Path::lay`].
    pub fn lay_both(weather: Both, seed: u64) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let process = std::process::id().wrapping_mul(OF_A_PROCESS);
        let number = process.wrapping_add(NUMBER.fetch_add(1, Ordering::Relaxed)) % PATHS;
        let name = format!("np{number}");
        let (near, far) = (format!("{name}n"), format!("{name}f"));
        ip(&["netns", "add", &name])?;
        // From here on, dropping it takes the namespace away again.
        let mut path = Self { link: None, name, first: BASE + number * 4 };
        path.link = Some(Link::start(&near, &far, weather, seed)?);
        let name = path.name.as_str();
        ip(&["link", "set", &far, "netns", name])?;
        let (here, there) = (format!("{}/30", path.near()), format!("{}/30", path.far()));
        ip(&["address", "add", &here, "dev", &near])?;
        ip(&["-n", name, "address", "add", &there, "dev", &far])?;
        ip(&["link", "set", &near, "txqueuelen", DEVICE_QUEUE, "up"])?;
        ip(&["-n", name, "link", "set", &far, "txqueuelen", DEVICE_QUEUE, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(path)
    }

    /// Address of this machine's end.
    pub fn near(&self) -> IpAddr {
        Ipv4Addr::from(self.first + 1).into()
    }

    /// Address of the other end.
    pub fn far(&self) -> IpAddr {
        Ipv4Addr::from(self.first + 2).into()
    }

    /// Changes the weather in both directions, for packets that come from now on.
    pub fn change(&self, weather: Weather) {
        self.change_both(Both { there: weather, back: weather });
    }

    /// Changes the weather.
    pub fn change_both(&self, weather: Both) {
        self.link().change(weather);
    }

    /// What happened to packets until now, there and back.
    pub fn counts(&self) -> [Count; 2] {
        self.link().counts()
    }

    /// A command that runs the program at the far end. The process is the program: `ip` replaces itself with it.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// A listener at the far end, for a task of this process: a socket stays in the namespace that it was made in. It is
    /// not blocking, as runtimes want it.
    ///
    /// # Errors
    /// If the namespace can't be entered, or the address is taken or is not of the far end.
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        // A thread that ends afterwards: this one stays where it is.
        thread::scope(|scope| scope.spawn(|| self.listen_from_a_thread_of_its_own(address)).join())
            .map_err(|_| anyhow!("the thread that listens at the far end panicked"))?
    }

    fn listen_from_a_thread_of_its_own(&self, address: SocketAddr) -> Result<TcpListener> {
        let file = File::open(format!("/run/netns/{}", self.name)).context("can't open the namespace")?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .context("can't enter the namespace")?;
        let listener = TcpListener::bind(address).with_context(|| format!("can't listen on {address}"))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    fn link(&self) -> &Link {
        self.link.as_ref().expect("a path that was laid has its link until it is dropped")
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        drop(self.link.take());
        // It is gone already where somebody else removed it, and then there is nothing left to do.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output();
    let output = output.context("can't run ip: apt-get install iproute2")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {} failed: {} (it takes root)", args.join(" "), said.trim());
    Ok(())
}
