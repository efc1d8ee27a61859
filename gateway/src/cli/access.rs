//! How a command of the operator's side reaches its gateway: URL, API token, fingerprint.
//!
//! The rule: the API token comes from the environment or a file, never from a flag, which every user of the machine
//! could read; and over plain HTTP it goes to this machine only.

use std::net::IpAddr;

use clap::Args;
use http::Uri;
use shared::dial::Dialer;
use shared::fingerprint::TlsFingerprint;
use shared::host_port::HostPort;
use shared::secret::Secret;
use shared::tls;

use super::client::Client;
use super::exit::CliError;
use super::output::Format;

/// The gateway of the same machine.
const DEFAULT_URL: &str = "https://127.0.0.1:9000";

/// Where to ask and what to print.
#[derive(Args, Clone, Debug, Default)]
pub struct How {
    #[command(flatten)]
    pub(super) access: Access,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    pub(super) output: Format,
}

/// Where to ask, and how to know the gateway.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "The API token comes from --token-file or the environment variable TIDEGATE_TOKEN.")]
pub struct Access {
    /// The gateway, such as https://gate.example.com:9000 [default: https://127.0.0.1:9000]
    #[arg(long, env = "TIDEGATE_URL")]
    url: Option<String>,
    /// File with the API token; goes before TIDEGATE_TOKEN
    #[arg(long, env = "TIDEGATE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<String>,
    /// Fingerprint of the gateway's TLS key, as its log shows it on start; without one its certificate must verify
    #[arg(long, env = "TIDEGATE_TLS_FINGERPRINT", value_name = "sha256//...", value_delimiter = ',')]
    tls_fingerprint: Vec<String>,
    /// Certificates (PEM) to trust besides the system's roots
    #[arg(long, env = "TIDEGATE_CA_FILE", value_name = "FILE")]
    ca_file: Option<String>,
}

impl Access {
    /// The client for it, with its token.
    pub fn client(&self) -> Result<Client, CliError> {
        let token = self.token()?;
        let pins = self.pins()?;
        self.connection(self.target_or(DEFAULT_URL)?, &pins, Some(&token))
    }

    /// The client for this gateway, known by these keys; with a token where there is one.
    pub fn client_for(&self, target: Target, pins: &[TlsFingerprint]) -> Result<Client, CliError> {
        let token = if self.has_token() { Some(self.token()?) } else { None };
        self.connection(target, pins, token.as_ref())
    }

    /// The gateway that is named, else this one.
    pub fn target_or(&self, default: &str) -> Result<Target, CliError> {
        Target::parse(self.given_url().unwrap_or(default))
    }

    /// Whether one is named.
    pub fn names_a_gateway(&self) -> bool {
        self.given_url().is_some()
    }

    /// Keys that the gateway may show.
    pub fn pins(&self) -> Result<Vec<TlsFingerprint>, CliError> {
        let given = self.tls_fingerprint.iter().filter(|text| !text.is_empty());
        let pins: Result<_, _> = given.map(|text| text.trim().parse()).collect();
        pins.map_err(|error| CliError::Configuration(format!("TIDEGATE_TLS_FINGERPRINT: {error}")))
    }

    /// Whether a token is given, good or not.
    pub fn has_token(&self) -> bool {
        self.given_token_file().is_some()
            || std::env::var("TIDEGATE_TOKEN").is_ok_and(|token| !token.trim().is_empty())
    }

    fn connection(
        &self,
        target: Target,
        pins: &[TlsFingerprint],
        token: Option<&Secret<String>>,
    ) -> Result<Client, CliError> {
        let tls = if target.secure {
            let ca_file = self.ca_file.as_deref().filter(|file| !file.is_empty()).map(str::as_ref);
            let config = tls::client_config(pins, ca_file);
            Some(config.map_err(|error| CliError::Configuration(error.to_string()))?)
        } else {
            target.check_plain(pins)?;
            None
        };
        Client::new(target, tls, token, Dialer::from_environment())
    }

    /// A variable that is set to nothing counts as not given: compose files set such.
    fn given_url(&self) -> Option<&str> {
        self.url.as_deref().filter(|url| !url.is_empty())
    }

    fn given_token_file(&self) -> Option<&str> {
        self.token_file.as_deref().filter(|file| !file.is_empty())
    }

    fn token(&self) -> Result<Secret<String>, CliError> {
        let text = match self.given_token_file() {
            Some(file) => std::fs::read_to_string(file).map_err(|error| {
                CliError::Configuration(format!("can't read the API token from {file}: {error}"))
            })?,
            None => std::env::var("TIDEGATE_TOKEN").unwrap_or_default(),
        };
        if text.trim().is_empty() {
            let hint = "no API token is given: set TIDEGATE_TOKEN, or name its file with --token-file or \
                        TIDEGATE_TOKEN_FILE (`tidegate serve --bootstrap-token-file` makes the first one)";
            return Err(CliError::Configuration(hint.to_owned()));
        }
        Ok(Secret::new(text.trim().to_owned()))
    }
}

/// The gateway that a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether with TLS.
    pub(super) secure: bool,
    /// Where it is.
    pub(super) address: HostPort,
    /// As the URL has it, for the `host` header.
    pub(super) authority: String,
}

impl Target {
    /// From scheme, host and port; a path makes no sense, since there is one API.
    pub fn parse(url: &str) -> Result<Self, CliError> {
        let wrong = || {
            CliError::Configuration(format!(
                "TIDEGATE_URL: {url:?} is not a URL such as https://gate.example.com:9000"
            ))
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(wrong()),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.host().is_empty() {
            return Err(wrong());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { secure, address: HostPort { host, port }, authority: authority.to_string() })
    }

    /// A token and what is done with it must not cross a network in the clear.
    fn check_plain(&self, pins: &[TlsFingerprint]) -> Result<(), CliError> {
        let host = &self.address.host;
        let local = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if !local {
            let text =
                format!("TIDEGATE_URL: the API token is not sent to {host} over plain HTTP; use https://");
            return Err(CliError::Configuration(text));
        }
        if pins.is_empty() {
            return Ok(());
        }
        Err(CliError::Configuration("TIDEGATE_TLS_FINGERPRINT needs a TIDEGATE_URL with https://".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(url: &str) -> Access {
        Access { url: Some(url.into()), token_file: None, tls_fingerprint: vec![], ca_file: None }
    }

    #[test]
    fn urls_name_a_gateway_and_nothing_else() {
        let target = Target::parse("https://gate.example.com").expect("a URL");
        assert_eq!((target.secure, target.address.to_string().as_str()), (true, "gate.example.com:443"));
        let target = Target::parse("http://[::1]:9000/").expect("a URL");
        assert_eq!((target.secure, target.address.to_string().as_str()), (false, "[::1]:9000"));
        for bad in ["gate:9000", "ftp://gate", "https://gate/x", "https://a@gate", "https://", ""] {
            assert!(matches!(Target::parse(bad), Err(CliError::Configuration(_))), "{bad}");
        }
    }

    #[test]
    fn token_never_goes_over_plain_http_to_another_machine() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "tga_x\n").expect("written");
        let with_token = |url| Access { token_file: Some(file.display().to_string()), ..access(url) };
        for local in ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"] {
            assert!(with_token(local).client().is_ok(), "{local}");
        }
        let error = with_token("http://192.0.2.1:9000").client().expect_err("not this machine");
        assert!(error.to_string().contains("https://"), "{error}");
        let pin = TlsFingerprint::from_bytes([1; 32]).to_string();
        let pinned = Access { tls_fingerprint: vec![pin], ..with_token("http://127.0.0.1:9000") };
        assert!(pinned.client().is_err(), "a pin means nothing without TLS");
    }
}
