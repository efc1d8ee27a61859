//! `HOST:PORT` as people write it: a name, an IPv4 address, or an IPv6 address in brackets.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A host to look up or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Name or address, without brackets.
    pub host: String,
    /// 1 to 65,535.
    pub port: u16,
}

/// The text is no `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not HOST:PORT, as in db.local:5432 or [::1]:5432")]
pub struct HostPortError(pub String);

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let wrong = || HostPortError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) if address.parse::<Ipv6Addr>().is_ok() => address,
            Some(_) => return Err(wrong()),
            None => host,
        };
        // A bare IPv6 address would be cut at its last group, and a path or a user name is not ours to drop.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_address = host.parse::<Ipv6Addr>().is_ok() && text.starts_with('[');
        if host.is_empty() || host.len() > 253 || !(is_address || host.chars().all(plain)) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_survive_their_text() {
        for (text, host) in
            [("gate.example.com:9000", "gate.example.com"), ("10.0.0.1:1", "10.0.0.1"), ("[::1]:80", "::1")]
        {
            let parsed: HostPort = text.parse().expect("valid");
            assert_eq!((parsed.host.as_str(), parsed.to_string().as_str()), (host, text));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "",
            "host",
            ":80",
            "host:",
            "host:0",
            "host:65536",
            "::1:80",
            "[::1]",
            "[x]:80",
            "a b:80",
            "u@h:80",
            "h/p:80",
        ] {
            assert_eq!(bad.parse::<HostPort>(), Err(HostPortError(bad.into())));
        }
    }
}
