//! Whether this machine can hold what was asked for: open files, ports, memory. What needs are is pure; what there is, is
//! read from the system.
//!
//! The rule: a run that could not finish is not begun, and who asked for it hears which limit to raise.

use std::fs;

use anyhow::{Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a process has open besides its connections, with room for what comes and goes.
const RESERVE: u64 = 300;
/// A gateway takes connections on 24 of 25 of its files.
const CONNECTIONS_TO_REST: u64 = 24;
/// Memory of one agent's connection at the harness's end, and at the gateway's: measured with TLS and HTTP/2, rounded up.
const AGENT_KIB: u64 = 60;
const CONNECTION_KIB: u64 = 60;
/// Memory of one tunnel at the harness's end, and at the gateway's.
const TUNNEL_KIB: u64 = 100;
const LINK_KIB: u64 = 100;
/// How long the kernel blocks a port after its connection was closed (TCP_TIMEWAIT_LEN).
const TIME_WAIT_S: f64 = 60.0;

/// What a run takes at its worst moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Needs {
    /// Check-in connections, those of agents that fell silent included.
    pub connections: u64,
    /// Tunnels open at a time.
    pub tunnels: u64,
    /// Operators' streams at a time.
    pub streams: u64,
    /// Connections made anew each second.
    pub reconnects_per_s: f64,
    /// Addresses that connections come from.
    pub sources: u64,
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Files that a process may have open.
    pub files: u64,
    /// Ports of one address.
    pub ports: u64,
    /// Memory that is free for programs.
    pub available_kib: u64,
}

impl Needs {
    /// Files of the gateway: one end of everything. It gives a part of them to connections, operators' included, and the
    /// rest to tunnels and the store.
    pub fn gateway_files(&self) -> u64 {
        let (connections, tunnels) = (self.connections + self.streams, self.tunnels + RESERVE);
        (connections + tunnels).max(connections + connections.div_ceil(CONNECTIONS_TO_REST))
    }

    /// Processes that agents with their connections and tunnels must be split into. Streams are the first one's.
    pub fn workers(&self, machine: &Machine) -> u64 {
        let room = machine.files.saturating_sub(RESERVE).max(1);
        if self.connections + self.tunnels + self.streams <= room {
            return 1;
        }
        (self.connections + self.tunnels).div_ceil(room).max(2)
    }

    /// Memory of both.
    pub fn memory_kib(&self) -> u64 {
        self.connections * (AGENT_KIB + CONNECTION_KIB) + self.tunnels * (TUNNEL_KIB + LINK_KIB)
    }

    /// Ports of each source address.
    pub fn ports(&self) -> u64 {
        let blocked = (self.reconnects_per_s * TIME_WAIT_S).ceil() as u64;
        (self.connections + self.tunnels + blocked).div_ceil(self.sources.max(1))
    }

    /// Whether all fits.
    ///
    /// # Errors
    /// Which limit to raise.
    pub fn fit(&self, machine: &Machine, starts_gateway: bool) -> Result<()> {
        let files = if starts_gateway { self.gateway_files() } else { self.streams + RESERVE };
        if files > machine.files {
            bail!(
                "this run needs {files} open files in one process, and this machine allows {}: raise the hard limit \
                 (`ulimit -Hn {files}` as root, nofile in /etc/security/limits.conf, LimitNOFILE in a unit), or ask for \
                 fewer agents or tunnels",
                machine.files
            );
        }
        let ports = self.ports();
        ensure!(
            ports <= machine.ports,
            "this run needs {ports} ports of each of its {} source addresses, and this machine gives {}: widen \
             net.ipv4.ip_local_port_range, or ask for fewer agents or a longer interval",
            self.sources,
            machine.ports
        );
        let memory = if starts_gateway { self.memory_kib() } else { self.memory_kib() / 2 };
        ensure!(
            memory <= machine.available_kib,
            "this run needs about {} MiB of memory, and {} MiB are free: stop something else, or ask for fewer agents \
             or tunnels",
            memory / 1024,
            machine.available_kib / 1024
        );
        Ok(())
    }
}

impl Machine {
    /// This one, after its limit of open files was raised as far as this process may.
    pub fn this() -> Self {
        Self { files: raise_open_files(), ports: ports(), available_kib: available() }
    }
}

fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    // Where that is refused the current limit holds.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn ports() -> u64 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    // Where it can't be read, the kernel's default.
    port_range(&text).unwrap_or(60_999 - 32_768 + 1)
}

fn port_range(text: &str) -> Option<u64> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let (low, high) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (high + 1).checked_sub(low)
}

fn available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    mem_available(&text).unwrap_or(u64::MAX)
}

fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Machine = Machine { files: 20_000, ports: 28_232, available_kib: 8 << 20 };

    fn needs(connections: u64, tunnels: u64) -> Needs {
        Needs { connections, tunnels, sources: connections.div_ceil(250), ..Needs::default() }
    }

    #[test]
    fn what_fits_is_begun() {
        for (connections, tunnels) in [(1, 0), (15_000, 0), (19_000, 0), (9000, 9000)] {
            needs(connections, tunnels).fit(&SMALL, true).expect("it fits");
        }
    }

    #[test]
    fn agents_are_split_into_as_many_processes_as_their_files_need() {
        for (connections, tunnels, workers) in
            [(1, 0, 1), (19_000, 0, 1), (9000, 9000, 1), (15_000, 9000, 2), (20_000, 0, 2), (250_000, 0, 13)]
        {
            assert_eq!(needs(connections, tunnels).workers(&SMALL), workers, "{connections} {tunnels}");
        }
    }

    #[test]
    fn what_does_not_fit_names_the_limit() {
        let says = |needs: Needs, machine: &Machine, word: &str| {
            let text = needs.fit(machine, true).expect_err("too much").to_string();
            assert!(text.contains(word), "{text}");
        };
        says(needs(15_000, 9000), &SMALL, "LimitNOFILE");
        says(needs(19_400, 0), &SMALL, "LimitNOFILE");
        says(needs(15_000, 0), &Machine { available_kib: 100_000, ..SMALL }, "memory");
        let reconnecting = Needs { reconnects_per_s: 3000.0, sources: 2, ..needs(15_000, 0) };
        says(reconnecting, &SMALL, "ip_local_port_range");
    }

    #[test]
    fn the_system_is_read() {
        assert_eq!(port_range("32768\t60999\n"), Some(28_232));
        assert_eq!(port_range("x"), None);
        assert_eq!(mem_available("MemTotal: 5 kB\nMemAvailable:   1234 kB\n"), Some(1234));
        assert!(Machine::this().files > 0);
    }
}
