//! What the gateway proves itself with: its SSH host key, and its TLS key and certificate.
//!
//! The rule: keys that agents pin are made once and never change by themselves. The certificate around our own TLS key
//! is only packaging: it is made anew when the names change or its end comes near, with the same key.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use shared::fingerprint::{HostKeyFingerprint, TlsFingerprint};
use shared::host_port::HostPort;
use shared::secret::Secret;
use shared::tls;
use tracing::info;

use crate::config::{Certificate, Config};
use crate::data_dir::{DataDir, read_secret, write_secret};

const HOST_KEY: &str = "host_key";
const TLS_KEY: &str = "tls_key.pem";
const TLS_CERTIFICATE: &str = "tls_cert.pem";
/// Names in the data folder of what nobody else may read.
pub const SECRETS: [&str; 2] = [HOST_KEY, TLS_KEY];
/// Ten years: who pins the key reads no dates, and who clicks a warning away should not have to do so every year.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// A gateway that is started once a year still renews in time.
const RENEW_BEFORE: Duration = Duration::from_secs(400 * 86_400);
/// A client whose clock is a little behind accepts a new certificate.
const CLOCK_SKEW: Duration = Duration::from_secs(86_400);

/// The file with the certificate that a gateway of this configuration serves.
pub fn certificate_file(config: &Config) -> PathBuf {
    match &config.certificate {
        Certificate::OwnMade => config.data_dir.join(TLS_CERTIFICATE),
        Certificate::Given { certificate, .. } => certificate.clone(),
    }
}

/// What the gateway proves itself with.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The SSH host key.
    pub host_key: Arc<PrivateKey>,
    /// Its fingerprint.
    pub host_key_fingerprint: HostKeyFingerprint,
    /// TLS key and certificate, ready to serve.
    pub tls: Arc<ServerConfig>,
    /// Fingerprint of the TLS key.
    pub tls_fingerprint: TlsFingerprint,
    /// What join tokens pin: empty where agents verify the certificate by their system's roots.
    pub tls_pins: Vec<TlsFingerprint>,
}

/// Why the gateway has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file can't be read.
    #[error("can't read {file}: {source}")]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("can't write {file}: {source}")]
    Write {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key of ours is damaged. Never replaced silently: agents pin it.
    #[error(
        "the key in {file} is damaged ({reason}); put it back from a backup, or delete it and give every agent a new join token"
    )]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operator's certificate or key can't be used.
    #[error("can't use {file} for TLS: {reason}")]
    Given {
        /// Which file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key or certificate can't be made.
    #[error("can't make a {what}: {reason}")]
    Make {
        /// What was to be made.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

impl Identity {
    /// Loads the identity, and makes what is missing of it.
    pub fn load(folder: &DataDir, config: &Config) -> Result<Self, IdentityError> {
        let host_key = host_key(&folder.join(HOST_KEY))?;
        let chain = match &config.certificate {
            Certificate::OwnMade => own_chain(folder, &names(config))?,
            Certificate::Given { certificate, key, .. } => given_chain(certificate, key)?,
        };
        let tls_pins = match &config.certificate {
            Certificate::OwnMade | Certificate::Given { pin: true, .. } => vec![chain.fingerprint],
            Certificate::Given { pin: false, .. } => vec![],
        };
        Ok(Self {
            host_key_fingerprint: HostKeyFingerprint::of(host_key.public_key()),
            host_key: Arc::new(host_key),
            tls: chain.config,
            tls_fingerprint: chain.fingerprint,
            tls_pins,
        })
    }
}

/// A certificate with its key, ready to serve.
struct Chain {
    config: Arc<ServerConfig>,
    fingerprint: TlsFingerprint,
}

impl Chain {
    /// Checks that key and certificate belong together.
    fn new(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let leaf = certificates.first().ok_or(rustls::Error::NoCertificatesPresented)?;
        let fingerprint = tls::fingerprint_of(leaf)?;
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        config.alpn_protocols = vec![tls::HTTP_2.to_vec(), tls::HTTP_1_1.to_vec()];
        // Agents that come back resume without a signature, and without a session kept for them in memory.
        config.ticketer = Ticketer::new()?;
        Ok(Self { config: Arc::new(config), fingerprint })
    }

    fn from_pem(certificate: &str, key: &str) -> Result<Self, String> {
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
        let certificates = certificates.map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| error.to_string())?;
        Self::new(certificates, key).map_err(|error| error.to_string())
    }
}

fn read(file: &Path) -> Result<Option<Secret<String>>, IdentityError> {
    read_secret(file).map_err(|source| IdentityError::Read { file: file.to_owned(), source })
}

fn write(file: &Path, content: &str) -> Result<(), IdentityError> {
    write_secret(file, content.as_bytes())
        .map_err(|source| IdentityError::Write { file: file.to_owned(), source })
}

fn host_key(file: &Path) -> Result<PrivateKey, IdentityError> {
    if let Some(text) = read(file)? {
        let damaged = |error: russh::keys::ssh_key::Error| IdentityError::Damaged {
            file: file.to_owned(),
            reason: error.to_string(),
        };
        return PrivateKey::from_openssh(text.expose()).map_err(damaged);
    }
    let failed = |error: russh::keys::ssh_key::Error| IdentityError::Make {
        what: "host key",
        reason: error.to_string(),
    };
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(failed)?;
    write(file, &key.to_openssh(LineEnding::LF).map_err(failed)?)?;
    info!(file = %file.display(), "made the host key");
    Ok(key)
}

/// Our own TLS key in a certificate for these names.
fn own_chain(folder: &DataDir, names: &[String]) -> Result<Chain, IdentityError> {
    let key_file = folder.join(TLS_KEY);
    let key = tls_key(&key_file)?;
    let file = folder.join(TLS_CERTIFICATE);
    let now = SystemTime::now();
    if let Some(kept) = read(&file)?
        && Label::of(kept.expose()).is_some_and(|label| label.fits(names, now))
        && let Ok(chain) = Chain::from_pem(kept.expose(), pem(&key).expose())
    {
        return Ok(chain);
    }
    let made = certificate(&key, names, now)
        .map_err(|error| IdentityError::Make { what: "TLS certificate", reason: error.to_string() })?;
    write(&file, &made)?;
    info!(file = %file.display(), names = names.join(", "), "made a TLS certificate for the gateway's key");
    Chain::from_pem(&made, pem(&key).expose())
        .map_err(|reason| IdentityError::Make { what: "TLS certificate", reason })
}

fn tls_key(file: &Path) -> Result<KeyPair, IdentityError> {
    if let Some(kept) = read(file)? {
        let damaged =
            |error: rcgen::Error| IdentityError::Damaged { file: file.to_owned(), reason: error.to_string() };
        return KeyPair::from_pem(kept.expose()).map_err(damaged);
    }
    // ECDSA P-256: the one key type that every TLS client of the last decade takes.
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|error| IdentityError::Make { what: "TLS key", reason: error.to_string() })?;
    write(file, pem(&key).expose())?;
    info!(file = %file.display(), "made the TLS key");
    Ok(key)
}

fn pem(key: &KeyPair) -> Secret<String> {
    Secret::new(key.serialize_pem())
}

/// The certificate's file: a label for our next start, and the certificate in PEM.
fn certificate(key: &KeyPair, names: &[String], now: SystemTime) -> Result<String, rcgen::Error> {
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "Tidegate");
    parameters.not_before = (now - CLOCK_SKEW).into();
    parameters.not_after = (now + CERTIFICATE_LIFE).into();
    let certificate = parameters.self_signed(key)?;
    let label = Label { names: names.join(", "), not_after: now + CERTIFICATE_LIFE };
    Ok(format!("{}{}", label.text(), certificate.pem()))
}

/// What stands before our own certificate in its file, where PEM has room for explanations (RFC 7468, section 2): what
/// we need to know of it, without a parser for certificates.
struct Label {
    names: String,
    not_after: SystemTime,
}

impl Label {
    fn text(&self) -> String {
        let seconds = self.not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        format!("names: {}\nnot after: {seconds}\n", self.names)
    }

    fn of(file: &str) -> Option<Self> {
        let mut lines = file.lines();
        let names = lines.next()?.strip_prefix("names: ")?.to_owned();
        let seconds = lines.next()?.strip_prefix("not after: ")?.parse().ok()?;
        Some(Self { names, not_after: UNIX_EPOCH.checked_add(Duration::from_secs(seconds))? })
    }

    fn fits(&self, names: &[String], now: SystemTime) -> bool {
        self.names == names.join(", ") && now + RENEW_BEFORE < self.not_after
    }
}

/// Names by which clients reach this gateway, as far as they are known. Those who pin the key do not look at them.
fn names(config: &Config) -> Vec<String> {
    let url = config.public_url.as_ref().and_then(|url| url.parse::<http::Uri>().ok());
    let public = url.and_then(|url| url.host().map(|host| host.trim_matches(['[', ']']).to_owned()));
    let ssh =
        config.public_ssh.as_ref().and_then(|address| address.parse::<HostPort>().ok()).map(|ssh| ssh.host);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut names: Vec<String> = Vec::new();
    for name in public.into_iter().chain(ssh).chain([host]).chain(local) {
        if !names.contains(&name) && ServerName::try_from(name.as_str()).is_ok() {
            names.push(name);
        }
    }
    names
}

/// The operator's certificate and key. Their permissions are the operator's business.
fn given_chain(certificate: &Path, key: &Path) -> Result<Chain, IdentityError> {
    let read = |file: &Path| {
        std::fs::read_to_string(file).map_err(|source| IdentityError::Read { file: file.to_owned(), source })
    };
    let given = |file: &Path, reason: String| IdentityError::Given { file: file.to_owned(), reason };
    let (certificates, private) = (read(certificate)?, Secret::new(read(key)?));
    if PrivateKeyDer::from_pem_slice(private.expose().as_bytes()).is_err() {
        return Err(given(key, "it holds no private key in PEM".to_owned()));
    }
    Chain::from_pem(&certificates, private.expose()).map_err(|reason| given(certificate, reason))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::Options;

    fn config(file: &str) -> Config {
        let options: Options = toml::from_str(file).expect("valid TOML");
        Config::new(&options).expect("a valid configuration")
    }

    fn folder() -> (tempfile::TempDir, DataDir) {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = DataDir::open(temporary.path()).expect("nobody else is there");
        (temporary, folder)
    }

    #[test]
    fn keys_stay_and_only_the_certificate_follows_the_names() {
        let (_temporary, folder) = folder();
        let first = Identity::load(&folder, &config("")).expect("made");
        let certificate = std::fs::read_to_string(folder.join(TLS_CERTIFICATE)).expect("written");
        let second = Identity::load(&folder, &config("")).expect("loaded");
        assert_eq!(second.host_key_fingerprint, first.host_key_fingerprint);
        assert_eq!(second.tls_pins, [first.tls_fingerprint]);
        assert_eq!(std::fs::read_to_string(folder.join(TLS_CERTIFICATE)).expect("kept"), certificate);
        let named = config("public_url = 'https://gate.example.com:9000'\npublic_ssh = '[2001:db8::7]:8000'");
        let third = Identity::load(&folder, &named).expect("made anew");
        assert_eq!(third.tls_fingerprint, first.tls_fingerprint);
        let certificate = std::fs::read_to_string(folder.join(TLS_CERTIFICATE)).expect("written");
        let names = certificate.lines().next().expect("a label");
        assert!(names.starts_with("names: gate.example.com, 2001:db8::7, "), "{names}");
        for name in [HOST_KEY, TLS_KEY, TLS_CERTIFICATE] {
            let mode = folder.join(name).metadata().expect("it exists").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn certificate_is_made_anew_before_it_ends() {
        let now = SystemTime::now();
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned()];
        let label = Label::of(&certificate(&key, &names, now).expect("a certificate")).expect("a label");
        assert!(label.fits(&names, now));
        assert!(!label.fits(&["gate".to_owned()], now));
        assert!(!label.fits(&names, now + CERTIFICATE_LIFE - RENEW_BEFORE + Duration::from_secs(1)));
    }

    #[test]
    fn damaged_key_is_an_error_and_never_replaced() {
        for name in [HOST_KEY, TLS_KEY] {
            let (_temporary, folder) = folder();
            std::fs::write(folder.join(name), "torn").expect("written");
            let error = Identity::load(&folder, &config("")).expect_err("damaged").to_string();
            assert!(error.contains(name) && error.contains("damaged"), "{error}");
            assert_eq!(std::fs::read_to_string(folder.join(name)).expect("still there"), "torn");
        }
    }

    #[test]
    fn foreign_certificate_beside_our_key_is_replaced() {
        let (_temporary, folder) = folder();
        let first = Identity::load(&folder, &config("")).expect("made");
        let names = names(&config(""));
        let foreign =
            certificate(&KeyPair::generate().expect("a key"), &names, SystemTime::now()).expect("made");
        std::fs::write(folder.join(TLS_CERTIFICATE), foreign).expect("written");
        let second = Identity::load(&folder, &config("")).expect("made anew");
        assert_eq!(second.tls_fingerprint, first.tls_fingerprint);
    }

    #[test]
    fn operators_certificate_is_pinned_only_on_request() {
        let (temporary, folder) = folder();
        let key = KeyPair::generate().expect("a key");
        let (cert_file, key_file) = (temporary.path().join("c.pem"), temporary.path().join("k.pem"));
        let pem = certificate(&key, &["gate.example.com".to_owned()], SystemTime::now()).expect("made");
        std::fs::write(&cert_file, pem).expect("written");
        std::fs::write(&key_file, key.serialize_pem()).expect("written");
        std::fs::set_permissions(&key_file, Permissions::from_mode(0o640)).expect("shared with a group");
        let given = format!("tls_cert = '{}'\ntls_key = '{}'\n", cert_file.display(), key_file.display());
        let plain = Identity::load(&folder, &config(&given)).expect("loaded");
        assert_eq!(plain.tls_pins, []);
        let pinned = Identity::load(&folder, &config(&format!("{given}pin_tls = true"))).expect("loaded");
        assert_eq!(pinned.tls_pins, [plain.tls_fingerprint]);
        assert!(!folder.join(TLS_KEY).exists());
        let mode = key_file.metadata().expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "not ours to change");
        let other = KeyPair::generate().expect("a key");
        std::fs::write(&key_file, other.serialize_pem()).expect("written");
        let error =
            Identity::load(&folder, &config(&given)).expect_err("not the certificate's key").to_string();
        assert!(error.contains("c.pem"), "{error}");
    }
}
