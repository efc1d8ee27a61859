//! How a command of the operator's side reaches its gateway: URL, API token, fingerprint; given, or kept by a login.
//!
//! The rule: the API token comes from the environment, a file or a login, never from a flag, which every user of the
//! machine could read; over plain HTTP it goes to this machine only; and what a login keeps goes to its own gateway.

use std::net::IpAddr;
use std::time::SystemTime;

use clap::Args;
use http::Uri;
use shared::dial::Dialer;
use shared::fingerprint::TlsFingerprint;
use shared::host_port::HostPort;
use shared::secret::Secret;
use shared::tls;

use super::client::Client;
use super::exit::CliError;
use super::login::saved::Saved;
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
#[command(
    after_help = "The API token comes from `tidegate login`, unless --token-file or the environment variable \
    TIDEGATE_TOKEN gives another."
)]
pub struct Access {
    /// The gateway, such as https://gate.example.com:9000 [default: the one of the last login, else https://127.0.0.1:9000]
    #[arg(long, env = "TIDEGATE_URL")]
    url: Option<String>,
    /// File with the API token; goes before TIDEGATE_TOKEN
    #[arg(long, env = "TIDEGATE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<String>,
    #[command(flatten)]
    trust: Trust,
}

/// How to know a gateway.
#[derive(Args, Clone, Debug, Default)]
pub struct Trust {
    /// Fingerprint of the gateway's TLS key, as its log shows it on start; without one its certificate must verify
    #[arg(long, env = "TIDEGATE_TLS_FINGERPRINT", value_name = "sha256//...", value_delimiter = ',')]
    tls_fingerprint: Vec<String>,
    /// Certificates (PEM) to trust besides the system's roots
    #[arg(long, env = "TIDEGATE_CA_FILE", value_name = "FILE")]
    ca_file: Option<String>,
}

/// What is known of the gateway to ask.
#[derive(Clone, Debug)]
pub struct Known {
    /// Where it is; `None` where nobody said so.
    pub target: Option<Target>,
    /// Keys that it may show; empty where its certificate must verify.
    pub pins: Vec<TlsFingerprint>,
    /// What to ask it with, good or not.
    pub token: Option<Secret<String>>,
}

impl Access {
    /// The client for it, with its token.
    pub fn client(&self) -> Result<Client, CliError> {
        let Known { target, pins, token } = self.known()?;
        let Some(token) = token else {
            let hint = "no API token is given: log in with `tidegate login URL`, set TIDEGATE_TOKEN, or name a file with \
                        --token-file or TIDEGATE_TOKEN_FILE (`tidegate serve --bootstrap-token-file` makes the first one)";
            return Err(CliError::Configuration(hint.to_owned()));
        };
        let target = target.map_or_else(|| Target::parse(DEFAULT_URL), Ok)?;
        self.trust.client(target, &pins, Some(&token))
    }

    /// How to know a gateway, beside its pins.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// All of it: what is given, else what a login kept.
    pub fn known(&self) -> Result<Known, CliError> {
        let given = self.url.as_deref().filter(|url| !url.is_empty()).map(Target::parse).transpose()?;
        let (mut pins, token) = (self.trust.pins()?, self.given_token()?);
        if token.is_some() && (given.is_none() || !pins.is_empty()) {
            return Ok(Known { target: given, pins, token });
        }
        let saved = Saved::load()?;
        let url = given.as_ref().map(Target::url).or_else(|| saved.current().map(str::to_owned));
        let login = url.as_ref().and_then(|url| saved.at(url)).cloned();
        let (Some(url), Some(login)) = (url, login) else { return Ok(Known { target: given, pins, token }) };
        if pins.is_empty() {
            pins.extend(login.tls_fingerprint);
        }
        if token.is_none() && login.is_over(SystemTime::now()) {
            return Err(CliError::Refused(format!(
                "your login at {url} has ended: `tidegate login {url}` begins another"
            )));
        }
        Ok(Known { target: Some(Target::parse(&url)?), pins, token: token.or(Some(login.token)) })
    }

    /// A variable that is set to nothing counts as not given: compose files set such.
    fn given_token(&self) -> Result<Option<Secret<String>>, CliError> {
        let text = match self.token_file.as_deref().filter(|file| !file.is_empty()) {
            Some(file) => std::fs::read_to_string(file).map_err(|error| {
                CliError::Configuration(format!("can't read the API token from {file}: {error}"))
            })?,
            None => std::env::var("TIDEGATE_TOKEN").unwrap_or_default(),
        };
        let text = Secret::new(text);
        Ok(Some(text.expose().trim()).filter(|text| !text.is_empty()).map(Secret::from))
    }
}

impl Trust {
    /// Keys that the gateway may show.
    pub fn pins(&self) -> Result<Vec<TlsFingerprint>, CliError> {
        let given = self.tls_fingerprint.iter().filter(|text| !text.is_empty());
        let pins: Result<_, _> = given.map(|text| text.trim().parse()).collect();
        pins.map_err(|error| CliError::Configuration(format!("TIDEGATE_TLS_FINGERPRINT: {error}")))
    }

    /// A client for this gateway, known by these keys, or by its certificate where there are none.
    pub fn client(
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

    /// As a URL in one spelling, with its port.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.address)
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
        Access { url: Some(url.into()), ..Access::default() }
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
        let trust = Trust { tls_fingerprint: vec![pin], ca_file: None };
        let pinned = Access { trust, ..with_token("http://127.0.0.1:9000") };
        assert!(pinned.client().is_err(), "a pin means nothing without TLS");
    }
}
