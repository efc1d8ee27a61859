//! A machine of its own for an agent: a network namespace, joined with this one by a pair of virtual interfaces whose
//! cable a test can pull, whose packets it can drop, and whose address it can change. Needs root, iproute2 and iptables.
//!
//! Rules stand in the agent's namespace only, so nothing of this machine's own network is touched, and dropping a
//! [`Network`] leaves nothing of it behind.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::run;
use crate::tool;

/// Addresses are taken from 10.213.0.0/16, eight for each network.
const BASE: u32 = u32::from_be_bytes([10, 213, 0, 0]);
const NETWORKS: u32 = 8192;
/// Networks that one process makes, so that another one's are told apart by its process id.
const OF_A_PROCESS: u32 = 16;

/// What happens to the agent's packets.
#[derive(Clone, Copy, Debug)]
pub enum Weather {
    /// They arrive.
    Fine,
    /// They vanish, in both directions, and nobody is told.
    Silent,
    /// One of so many vanishes, in each direction.
    LosesOneIn(u32),
    /// What leaves for this port of the gateway is reset at once, and all else that leaves vanishes: the agent knows that
    /// its connection is gone, and the gateway does not.
    Resets(u16),
    /// They arrive, except for resets: whoever has forgotten a connection does not say so.
    Forgetful,
}

/// An agent's machine and its cable.
#[derive(Debug)]
pub struct Network {
    name: String,
    /// First address of its eight; the gateway's side has the next one.
    first: u32,
}

impl Network {
    /// Makes one.
    ///
    /// # Panics
    /// If this is not run by root, or a tool is missing, or the kernel has no network namespaces.
    pub async fn lay() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes network namespaces and drops packets in them: run it as root"
        );
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let process = std::process::id().wrapping_mul(OF_A_PROCESS);
        let number = process.wrapping_add(NUMBER.fetch_add(1, Ordering::Relaxed)) % NETWORKS;
        let network = Self { name: format!("tg{number}"), first: BASE + number * 8 };
        let (name, near, far) = (&network.name, network.near(), network.far());
        network.ip(&["netns", "add", name]).await;
        network.ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", name]).await;
        network.ip(&["address", "add", &format!("{}/29", network.gateway()), "dev", &near]).await;
        network.ip(&["link", "set", &near, "up"]).await;
        network.ip(&["-n", name, "link", "set", "lo", "up"]).await;
        network.move_to(None, 2).await;
        network.ip(&["-n", name, "link", "set", &far, "up"]).await;
        network
    }

    /// Address on the gateway's side.
    pub fn gateway(&self) -> IpAddr {
        self.address(1)
    }

    /// A command that runs the program on the agent's machine.
    pub fn inside(&self, program: &std::path::Path) -> Command {
        let mut command = tool::command("ip", "iproute2");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Pulls the cable: both interfaces lose their carrier.
    pub async fn unplug(&self) {
        self.ip(&["link", "set", &self.near(), "down"]).await;
    }

    /// Puts it back.
    pub async fn plug_in(&self) {
        self.ip(&["link", "set", &self.near(), "up"]).await;
    }

    /// Gives the agent's machine another address and takes the one that it has.
    pub async fn renumber(&self) {
        self.move_to(Some(2), 3).await;
    }

    /// Changes the weather.
    pub async fn weather(&self, weather: Weather) {
        let drop: &[&str] = &["-j", "DROP"];
        for chain in ["INPUT", "OUTPUT"] {
            self.iptables(&["-F", chain]).await;
            match weather {
                Weather::Fine => {}
                Weather::Silent => self.iptables(&[&["-A", chain], drop].concat()).await,
                Weather::LosesOneIn(count) => {
                    let share = format!("{}", 1.0 / f64::from(count));
                    let random = ["-m", "statistic", "--mode", "random", "--probability", &share];
                    self.iptables(&[&["-A", chain], &random[..], drop].concat()).await;
                }
                Weather::Resets(_) | Weather::Forgetful if chain == "INPUT" => {}
                Weather::Resets(port) => {
                    let port = port.to_string();
                    // The reset itself comes to the sender over the loopback interface.
                    self.iptables(&["-A", chain, "-o", "lo", "-j", "ACCEPT"]).await;
                    let reset = ["-p", "tcp", "--dport", &port, "-j", "REJECT", "--reject-with", "tcp-reset"];
                    self.iptables(&[&["-A", chain], &reset[..]].concat()).await;
                    self.iptables(&[&["-A", chain], drop].concat()).await;
                }
                Weather::Forgetful => {
                    let resets = ["-p", "tcp", "--tcp-flags", "RST", "RST"];
                    self.iptables(&[&["-A", chain], &resets[..], drop].concat()).await;
                }
            }
        }
    }

    async fn move_to(&self, from: Option<u32>, to: u32) {
        let far = self.far();
        if let Some(from) = from {
            let address = format!("{}/29", self.address(from));
            self.ip(&["-n", &self.name, "address", "del", &address, "dev", &far]).await;
        }
        let address = format!("{}/29", self.address(to));
        self.ip(&["-n", &self.name, "address", "add", &address, "dev", &far]).await;
    }

    fn address(&self, host: u32) -> IpAddr {
        Ipv4Addr::from(self.first + host).into()
    }

    fn near(&self) -> String {
        format!("{}g", self.name)
    }

    fn far(&self) -> String {
        format!("{}a", self.name)
    }

    async fn ip(&self, args: &[&str]) {
        let mut command = tool::command("ip", "iproute2");
        command.args(args);
        run(command).await.ok();
    }

    async fn iptables(&self, args: &[&str]) {
        let mut command = self.inside(&tool::path("iptables", "iptables"));
        command.arg("--wait").args(args);
        run(command).await.ok();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The second interface of the pair goes with the first.
        for args in [["link", "del", &self.near()], ["netns", "del", &self.name]] {
            let _ = tool::command("ip", "iproute2").args(args).output();
        }
    }
}
