//! The gateway's configuration, checked: what [`crate::start`] and the listeners run on.
//!
//! [`options`] has what was given; here it becomes real types, or a list of everything that is wrong with it, each
//! with the name of the option as its giver wrote it. No file but the configuration file itself is opened here.

pub mod options;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use shared::host_port::HostPort;
use shared::id::ServiceName;
use shared::log::{DEFAULT_FILTER, check_filter};

use crate::budget::available;

pub use options::{Options, Source, Text};

/// Where the container's volume and the packages keep it.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/tidegate";
const DEFAULT_API_ADDR: &str = "0.0.0.0:9000";
const DEFAULT_SSH_ADDR: &str = "0.0.0.0:8000";
const DEFAULT_METRICS_ADDR: &str = "127.0.0.1:9100";
const DEFAULT_PLAIN_HTTP: &str = "loopback";
const DEFAULT_DRAIN_GRACE: &str = "30";
const DEFAULT_STORE_CACHE_MIB: &str = "64";
/// Instead of an address: serve no metrics.
const NOWHERE: &str = "none";
const DEFAULT_AUDIT_MAX_MIB: &str = "1024";
/// An hour: whoever needs more wants no shutdown.
const MAX_DRAIN_GRACE_S: u64 = 3600;
/// Far more than any number of edges fills.
const MAX_STORE_CACHE_MIB: u64 = 16 * 1024;

/// Below this nothing but check-ins would find room.
const MIN_MEMORY_MIB: u64 = 192;
/// Far more than any gateway's machine has.
const MAX_MEMORY_MIB: u64 = 1024 * 1024;

/// A thousand times what two million records take; a log that nobody can read any more is no use.
const MAX_AUDIT_MIB: u64 = 1024 * 1024;

/// The configuration of one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Folder for the store, the host key and the TLS key.
    pub data_dir: PathBuf,
    /// Where check-ins, the admin API and the page are served.
    pub api_addr: SocketAddr,
    /// Where the tunnel server listens.
    pub ssh_addr: SocketAddr,
    /// Where metrics are served; nowhere, if `None`.
    pub metrics_addr: Option<SocketAddr>,
    /// Where agents and browsers reach the API: scheme, host and port, no path.
    pub public_url: Option<String>,
    /// Where agents reach the tunnel server, `host:port`.
    pub public_ssh: Option<String>,
    /// Below which services have host names of their own, for browsers.
    pub service_domain: Option<String>,
    /// Whose certificate is served.
    pub certificate: Certificate,
    /// Who may speak plain HTTP.
    pub plain_http: PlainHttp,
    /// Proxies that may speak plain HTTP and whose word about a client is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether every trusted proxy begins its connections with a PROXY header.
    pub proxy_protocol: bool,
    /// Who is neither limited before login nor penalised.
    pub exempt: Vec<IpNet>,
    /// Where to write an admin API token on first start.
    pub bootstrap_token_file: Option<PathBuf>,
    /// How long live streams may go on after a shutdown began.
    pub drain_grace: Duration,
    /// Memory for the store's cache, in bytes.
    pub store_cache: u64,
    /// Memory that the gateway may use in all, in bytes.
    pub memory_budget: u64,
    /// What the audit log may take on disk, in bytes; beyond, its oldest part is dropped.
    pub audit_max: u64,
    /// What to log.
    pub log: String,
    /// Whether to log in JSON.
    pub json: bool,
}

/// Whose certificate the API serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// One that the gateway makes and keeps; its key is pinned in join tokens.
    OwnMade,
    /// The operator's.
    Given {
        /// Certificate chain, PEM.
        certificate: PathBuf,
        /// Private key, PEM.
        key: PathBuf,
        /// Whether its key is pinned in join tokens; otherwise agents verify it by their system's roots.
        pin: bool,
    },
}

/// Who may speak plain HTTP with the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// This machine, and trusted proxies.
    Loopback,
    /// Everybody.
    Any,
    /// Nobody.
    Never,
}

impl FromStr for PlainHttp {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "loopback" => Ok(Self::Loopback),
            "any" => Ok(Self::Any),
            "never" => Ok(Self::Never),
            _ => Err("choose one of loopback, any, never"),
        }
    }
}

impl fmt::Display for PlainHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Any => "any",
            Self::Never => "never",
        })
    }
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {problem}")]
pub struct Mistake {
    /// The option as its giver wrote it.
    pub option: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

/// Everything that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<Mistake>);

impl Config {
    /// Checks the options. An error names everything that is wrong, not only the first.
    pub fn new(options: &Options) -> Result<Self, ConfigError> {
        let mut check = Check::default();
        let config = Self {
            data_dir: check.option("data_dir", &options.data_dir, DEFAULT_DATA_DIR, path),
            api_addr: check.option("api_addr", &options.api_addr, DEFAULT_API_ADDR, address),
            ssh_addr: check.option("ssh_addr", &options.ssh_addr, DEFAULT_SSH_ADDR, address),
            metrics_addr: check.option("metrics_addr", &options.metrics_addr, DEFAULT_METRICS_ADDR, |text| {
                if text == NOWHERE { Ok(None) } else { address(text).map(Some) }
            }),
            public_url: check.optional("public_url", &options.public_url, public_url),
            public_ssh: check.optional("public_ssh", &options.public_ssh, host_and_port),
            service_domain: check.optional("service_domain", &options.service_domain, service_domain),
            certificate: check.certificate(options),
            plain_http: check.option("plain_http", &options.plain_http, DEFAULT_PLAIN_HTTP, |text| {
                text.parse().map_err(|error: &str| error.to_owned())
            }),
            trusted_proxies: check.networks("trusted_proxy", &options.trusted_proxy),
            proxy_protocol: check.option("proxy_protocol", &options.proxy_protocol, "false", boolean),
            exempt: check.networks("exempt", &options.exempt),
            bootstrap_token_file: check.optional("bootstrap_token_file", &options.bootstrap_token_file, path),
            drain_grace: check.option("drain_grace", &options.drain_grace, DEFAULT_DRAIN_GRACE, |text| {
                number(text, 0, MAX_DRAIN_GRACE_S).map(Duration::from_secs)
            }),
            store_cache: check.option(
                "store_cache_mib",
                &options.store_cache_mib,
                DEFAULT_STORE_CACHE_MIB,
                |text| number(text, 1, MAX_STORE_CACHE_MIB).map(|mib| mib * 1024 * 1024),
            ),
            memory_budget: check
                .optional("memory_budget_mib", &options.memory_budget_mib, |text| {
                    number(text, MIN_MEMORY_MIB, MAX_MEMORY_MIB).map(|mib| mib * 1024 * 1024)
                })
                .unwrap_or_else(available::budget),
            audit_max: check.option("audit_max_mib", &options.audit_max_mib, DEFAULT_AUDIT_MAX_MIB, |text| {
                number(text, 1, MAX_AUDIT_MIB).map(|mib| mib * 1024 * 1024)
            }),
            log: check.option("log", &options.log, DEFAULT_FILTER, filter),
            json: check.option("json", &options.json, "false", boolean),
        };
        if check.mistakes.is_empty() { Ok(config) } else { Err(ConfigError(check.mistakes)) }
    }

    /// Whether metrics are to be served where they are by default.
    pub fn has_default_metrics_addr(&self) -> bool {
        self.metrics_addr.is_some_and(|address| address.to_string() == DEFAULT_METRICS_ADDR)
    }
}

/// What `tidegate check-config` prints: the effective configuration as a file that would give the same.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = |key: &str, value: &dyn fmt::Display| {
            writeln!(f, "{key} = {}", toml::Value::String(value.to_string()))
        };
        text("data_dir", &self.data_dir.display())?;
        text("api_addr", &self.api_addr)?;
        text("ssh_addr", &self.ssh_addr)?;
        match &self.metrics_addr {
            Some(address) => text("metrics_addr", address)?,
            None => text("metrics_addr", &NOWHERE)?,
        }
        if let Some(url) = &self.public_url {
            text("public_url", url)?;
        }
        if let Some(address) = &self.public_ssh {
            text("public_ssh", address)?;
        }
        if let Some(domain) = &self.service_domain {
            text("service_domain", domain)?;
        }
        if let Certificate::Given { certificate, key, .. } = &self.certificate {
            text("tls_cert", &certificate.display())?;
            text("tls_key", &key.display())?;
        }
        text("plain_http", &self.plain_http)?;
        if let Some(file) = &self.bootstrap_token_file {
            text("bootstrap_token_file", &file.display())?;
        }
        text("log", &self.log)?;
        for (key, networks) in [("trusted_proxy", &self.trusted_proxies), ("exempt", &self.exempt)] {
            let networks: Vec<_> = networks.iter().map(|network| format!("\"{network}\"")).collect();
            writeln!(f, "{key} = [{}]", networks.join(", "))?;
        }
        writeln!(f, "proxy_protocol = {}", self.proxy_protocol)?;
        if let Certificate::Given { pin, .. } = &self.certificate {
            writeln!(f, "pin_tls = {pin}")?;
        }
        writeln!(f, "drain_grace = {}", self.drain_grace.as_secs())?;
        writeln!(f, "store_cache_mib = {}", self.store_cache / (1024 * 1024))?;
        writeln!(f, "memory_budget_mib = {}", self.memory_budget / (1024 * 1024))?;
        writeln!(f, "audit_max_mib = {}", self.audit_max / (1024 * 1024))?;
        write!(f, "json = {}", self.json)
    }
}

/// Collects mistakes, so that one wrong option does not hide the next.
#[derive(Default)]
struct Check {
    mistakes: Vec<Mistake>,
}

impl Check {
    /// The option's value, or that of its default while a mistake is on record.
    fn option<T>(
        &mut self,
        key: &str,
        given: &Option<Text>,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        self.optional(key, given, &parse).unwrap_or_else(|| {
            parse(default).expect("every default is a valid value; a test checks them all")
        })
    }

    fn optional<T>(
        &mut self,
        key: &str,
        given: &Option<Text>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = given.as_ref()?;
        match parse(&text.value) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.mistake(key, text, format!("{:?} is not valid: {problem}", text.value));
                None
            }
        }
    }

    fn mistake(&mut self, key: &str, text: &Text, problem: String) {
        self.mistakes.push(Mistake { option: text.source.name(key), problem });
    }

    fn certificate(&mut self, options: &Options) -> Certificate {
        let certificate = self.optional("tls_cert", &options.tls_cert, path);
        let key = self.optional("tls_key", &options.tls_key, path);
        let pin = self.option("pin_tls", &options.pin_tls, "false", boolean);
        match (certificate, key) {
            (Some(certificate), Some(key)) => return Certificate::Given { certificate, key, pin },
            (None, None) => {}
            (Some(_), None) => self.lonely("tls_cert", &options.tls_cert, "tls_key"),
            (None, Some(_)) => self.lonely("tls_key", &options.tls_key, "tls_cert"),
        }
        Certificate::OwnMade
    }

    fn lonely(&mut self, key: &str, given: &Option<Text>, missing: &str) {
        if let Some(text) = given {
            self.mistake(key, text, format!("a certificate and its key go together: give {missing} too"));
        }
    }

    fn networks(&mut self, key: &str, given: &[Text]) -> Vec<IpNet> {
        given.iter().filter_map(|text| self.optional(key, &Some(text.clone()), network)).collect()
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("give a path".into()) } else { Ok(text.into()) }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "give an IP address and a port, such as 0.0.0.0:9000 or [::]:9000".into())
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| "give an IP address or a network, such as 10.0.0.7 or 10.0.0.0/8".into())
}

fn number(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("give a whole number from {least} to {most}"))
}

fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "give true or false".into())
}

/// Scheme, host and, optionally, port; agents and browsers add paths of their own.
/// Scheme, host and port of an API address, without a path.
pub(crate) fn public_url(text: &str) -> Result<String, String> {
    let wrong =
        || "give scheme, host and port without a path, such as https://gate.example.com:9000".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https")).ok_or_else(wrong)?;
    let authority = uri.authority().ok_or_else(wrong)?;
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
    if !bare || authority.host().is_empty() {
        return Err(wrong());
    }
    Ok(format!("{scheme}://{authority}"))
}

/// An address of a tunnel server as agents are told it.
pub(crate) fn host_and_port(text: &str) -> Result<String, String> {
    text.parse::<HostPort>()
        .map(|address| address.to_string())
        .map_err(|_| "give HOST:PORT, such as gate.example.com:8000".into())
}

/// A domain below which services have host names of their own, in lower case.
pub(crate) fn service_domain(text: &str) -> Result<String, String> {
    /// Characters of a whole name (RFC 1035 §2.3.4), and of a label below the domain with its dot.
    const MAX_NAME: usize = 253;
    const LABEL_AND_DOT: usize = 64;
    let text = text.to_ascii_lowercase();
    let is_label = |label: &str| label.parse::<ServiceName>().is_ok();
    let is_address =
        text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if text.len() + LABEL_AND_DOT <= MAX_NAME && text.split('.').all(is_label) && !is_address {
        Ok(text)
    } else {
        Err("give a domain without scheme, port or `*.`, such as svc.example.com".into())
    }
}

fn filter(text: &str) -> Result<String, String> {
    check_filter(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(file: &str) -> Options {
        toml::from_str(file).expect("a valid file")
    }

    #[test]
    fn every_default_is_valid() {
        let config = Config::new(&Options::default()).expect("the defaults");
        assert_eq!(config.data_dir, PathBuf::from("/var/lib/tidegate"));
        assert_eq!(config.api_addr.port(), 9000);
        assert!(config.has_default_metrics_addr());
        assert_eq!(config.plain_http, PlainHttp::Loopback);
        assert_eq!(config.certificate, Certificate::OwnMade);
        assert_eq!((config.drain_grace, config.store_cache), (Duration::from_secs(30), 64 << 20));
        assert_eq!(config.audit_max, 1 << 30);
    }

    #[test]
    fn every_mistake_is_named_with_its_option() {
        let given = options(
            "api_addr = 'localhost:9000'\npublic_url = 'gate:9000/x'\npublic_ssh = 'gate'\nservice_domain = '*.svc'\ntls_cert = '/c.pem'\n\
             plain_http = 'sometimes'\ntrusted_proxy = ['10.0.0.0/8', 'proxy']\ndrain_grace = -1\njson = 'yes'",
        )
        .clone();
        let given = Options::default().or_file(given, "/etc/tidegate.toml".as_ref());
        let ConfigError(mistakes) = Config::new(&given).expect_err("nine mistakes");
        let named: Vec<_> =
            mistakes.iter().map(|mistake| mistake.option.split(' ').next().unwrap()).collect();
        let expected = [
            "api_addr",
            "public_url",
            "public_ssh",
            "service_domain",
            "tls_cert",
            "plain_http",
            "trusted_proxy",
            "drain_grace",
            "json",
        ];
        assert_eq!(named, expected);
        assert!(
            mistakes[0]
                .to_string()
                .starts_with("api_addr in /etc/tidegate.toml: \"localhost:9000\" is not valid")
        );
    }

    #[test]
    fn printed_configuration_reads_back_as_the_same() {
        let given = options(
            "data_dir = '/d \"x\"'\napi_addr = '[::1]:0'\nmetrics_addr = 'none'\npublic_url = 'https://gate.example.com:9000/'\n\
             public_ssh = 'gate.example.com:8000'\nservice_domain = 'svc.example.com'\ntls_cert = 'c'\ntls_key = 'k'\npin_tls = true\nplain_http = 'never'\n\
             trusted_proxy = ['10.0.0.7', '10.1.0.0/16']\nbootstrap_token_file = 't'\ndrain_grace = 0\n\
             store_cache_mib = 8\naudit_max_mib = 3\nlog = 'warn'\njson = true",
        );
        let config = Config::new(&given).expect("a valid configuration");
        assert_eq!(Config::new(&options(&config.to_string())), Ok(config));
        let defaults = Config::new(&Options::default()).expect("the defaults");
        assert_eq!(Config::new(&options(&defaults.to_string())), Ok(defaults));
    }

    #[test]
    fn a_service_domain_is_a_bare_name() {
        assert_eq!(service_domain("Svc.Example.com").as_deref(), Ok("svc.example.com"));
        for bad in [
            "",
            "*.svc.example.com",
            "svc.example.com:9000",
            "https://svc",
            ".svc",
            "svc.",
            "10.0.0.1",
            "a_b",
        ] {
            assert!(service_domain(bad).is_err(), "{bad}");
        }
        assert!(service_domain(&["a"; 96].join(".")).is_err(), "no room for a label");
    }

    #[test]
    fn public_addresses_are_bare() {
        for bad in
            ["gate", "ftp://gate", "https://gate/admin", "https://u@gate", "https://", "https://gate?x"]
        {
            assert!(public_url(bad).is_err(), "{bad}");
        }
        assert_eq!(public_url("https://gate/").as_deref(), Ok("https://gate"));
        for bad in ["gate", ":8000", "gate:", "gate:99999", "u@gate:8000", ""] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
        assert_eq!(host_and_port("[2001:db8::1]:8000").as_deref(), Ok("[2001:db8::1]:8000"));
    }
}
