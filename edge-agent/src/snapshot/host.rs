//! Facts about the host: from `/proc`, `/etc/os-release`, `uname`, `statvfs` and `getifaddrs`. Blocking; a container sees
//! those that its runtime shows it.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::statvfs::statvfs;
use nix::sys::utsname::uname;
use shared::wire::snapshot::{Address, Disk, Host};

/// Most disks and addresses that are listed. A container host has hundreds of interfaces; nobody reads thousands.
const MAX_LISTED: usize = 256;

/// The host, and what could not be found out of it.
#[derive(Debug, Default)]
pub struct Facts {
    /// Without disks.
    pub host: Host,
    /// For the snapshot.
    pub problems: Vec<String>,
}

/// Name of this host.
pub fn name() -> String {
    uname().map(|names| names.nodename().to_string_lossy().into_owned()).unwrap_or_default()
}

/// Everything but the disks.
pub fn facts() -> Facts {
    let mut problems = Vec::new();
    let mut read = |path: &'static str| {
        fs::read_to_string(path).unwrap_or_else(|error| {
            problems.push(format!("{path} could not be read: {error}"));
            String::new()
        })
    };
    let memory = read("/proc/meminfo");
    let uptime = read("/proc/uptime");
    let load = read("/proc/loadavg");
    let cpus = read("/proc/stat");
    // os-release(5): the second is where the first points to, and the only one in some images.
    let os = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    let mut host = Host {
        name: name(),
        os: os_name(&os.unwrap_or_default()),
        cpus: count_cpus(&cpus),
        memory_total: memory_field(&memory, "MemTotal:"),
        memory_available: memory_field(&memory, "MemAvailable:"),
        uptime_s: first_number(&uptime) as u64,
        load: load_averages(&load),
        ..Host::default()
    };
    match uname() {
        Ok(names) => {
            let (system, release) = (names.sysname().to_string_lossy(), names.release().to_string_lossy());
            host.kernel = format!("{system} {release}");
            host.architecture = names.machine().to_string_lossy().into_owned();
        }
        Err(error) => problems.push(format!("the kernel's name could not be read: {error}")),
    }
    match addresses() {
        Ok(addresses) => host.addresses = addresses,
        Err(error) => problems.push(format!("the addresses could not be read: {error}")),
    }
    Facts { host, problems }
}

/// Mounted file systems on real devices. Network mounts are not asked: a dead one answers never.
pub fn disks() -> Vec<Disk> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut disks = local_mounts(&mounts);
    disks.retain_mut(|disk| match statvfs(disk.mount.as_str()) {
        Ok(sizes) => {
            let unit = u128::from(sizes.fragment_size());
            let bytes = |blocks: u64| u64::try_from(u128::from(blocks) * unit).unwrap_or(u64::MAX);
            disk.total = bytes(sizes.blocks());
            disk.available = bytes(sizes.blocks_available());
            disk.total > 0
        }
        Err(_) => false,
    });
    disks
}

/// One mount for each device: the first, which is the file system itself and not a bind mount into it.
fn local_mounts(mounts: &str) -> Vec<Disk> {
    let mut disks: Vec<Disk> = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').map(unescape);
        let (Some(device), Some(mount), Some(file_system)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // squashfs: images of packages, always full.
        let real = device.starts_with("/dev/") && file_system != "squashfs";
        if real && disks.len() < MAX_LISTED && !disks.iter().any(|disk| disk.device == device) {
            disks.push(Disk { mount, device, file_system, ..Disk::default() });
        }
    }
    disks
}

/// Spaces and the like are octal in `/proc/self/mounts`: `\040` (see getmntent(3)).
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = rest.get(1..4).and_then(|digits| str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            Some(_) | None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn addresses() -> nix::Result<Vec<Address>> {
    let mut addresses = Vec::new();
    for interface in getifaddrs()? {
        let Some(socket) = interface.address else { continue };
        let address = match (socket.as_sockaddr_in(), socket.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (None, Some(v6)) => IpAddr::V6(v6.ip()),
            (None, None) => continue,
        };
        let loopback = interface.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        if !loopback && is_worth_listing(address) && addresses.len() < MAX_LISTED {
            addresses.push(Address { interface: interface.interface_name, address: address.to_string() });
        }
    }
    Ok(addresses)
}

fn is_worth_listing(address: IpAddr) -> bool {
    let link_local = |v6: Ipv6Addr| v6.is_unicast_link_local();
    !address.is_loopback()
        && match address {
            IpAddr::V4(v4) => !v4.is_link_local(),
            IpAddr::V6(v6) => !link_local(v6),
        }
}

fn os_name(os_release: &str) -> String {
    let field = |name: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches(['"', '\'']).to_owned())
    };
    field("PRETTY_NAME").or_else(|| field("NAME")).unwrap_or_else(|| "unknown".to_owned())
}

fn count_cpus(stat: &str) -> u32 {
    let cpus = stat.lines().filter(|line| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    u32::try_from(cpus.count()).unwrap_or(u32::MAX)
}

/// `/proc/meminfo` counts in KiB.
fn memory_field(memory: &str, name: &str) -> u64 {
    let line = memory.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    (first_number(line) as u64).saturating_mul(1024)
}

fn first_number(text: &str) -> f64 {
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn load_averages(text: &str) -> [f64; 3] {
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or_default());
    std::array::from_fn(|_| numbers.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_name_a_kernel_cpus_and_memory() {
        let facts = facts();
        assert_eq!(facts.problems, Vec::<String>::new());
        let host = facts.host;
        assert!(!host.name.is_empty() && host.kernel.starts_with("Linux "), "{host:?}");
        assert!(host.cpus > 0 && host.memory_total >= host.memory_available, "{host:?}");
        assert!(host.memory_available > 0 && host.uptime_s > 0, "{host:?}");
        assert!(host.addresses.iter().all(|address| address.address != "127.0.0.1"));
    }

    #[test]
    fn only_real_devices_are_disks_and_each_is_listed_once() {
        let mounts = "proc /proc proc rw 0 0\n\
                      /dev/sda1 / ext4 rw 0 0\n\
                      nas:/export /mnt/nas nfs4 rw 0 0\n\
                      /dev/sda1 /etc/hosts ext4 rw 0 0\n\
                      /dev/loop3 /snap/core squashfs ro 0 0\n\
                      /dev/sdb1 /media/my\\040disk xfs rw 0 0\n\
                      broken\n";
        let mounts: Vec<_> = local_mounts(mounts).into_iter().map(|disk| disk.mount).collect();
        assert_eq!(mounts, ["/", "/media/my disk"]);
    }

    #[test]
    fn escapes_in_mounts_are_undone_and_others_left() {
        assert_eq!(unescape(r"a\040b\134c"), r"a b\c");
        assert_eq!(unescape(r"end\04"), r"end\04");
        assert_eq!(unescape(r"\x40"), r"\x40");
    }

    #[test]
    fn files_of_proc_are_read_as_they_are() {
        assert_eq!(memory_field("MemTotal:  16 kB\nMemFree: 1 kB\n", "MemTotal:"), 16 * 1024);
        assert_eq!(count_cpus("cpu  1 2\ncpu0 1\ncpu1 1\nintr 5\n"), 2);
        assert_eq!(load_averages("0.10 0.20 0.30 1/200 4242"), [0.1, 0.2, 0.3]);
        assert_eq!(os_name("ID=debian\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        assert_eq!(os_name(""), "unknown");
    }
}
