//! The certificate of a gateway, looked at without trusting it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, version,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{ProbeError, TIMEOUT};
use crate::dial::Dialer;
use crate::fingerprint::TlsFingerprint;
use crate::host_port::HostPort;
use crate::tls::{fingerprint_of, provider};

/// A time after the end of every certificate: RFC 5280, section 4.1.2.5, has 9999 as the last year of one that has no
/// end, which this shows as what it is.
const AFTER_ALL: Duration = Duration::from_secs(253_402_300_800);

/// A certificate that somebody serves.
#[derive(Clone, Debug)]
pub struct Certificate {
    certificate: CertificateDer<'static>,
    /// What a pin of its key is.
    pub fingerprint: TlsFingerprint,
}

/// What the server at `address` shows, and proves to have the key of.
pub async fn certificate(dialer: &Dialer, address: &HostPort) -> Result<Certificate, ProbeError> {
    let socket = dialer.dial(address).await?;
    let no_tls = |source| ProbeError::NoTls { address: address.clone(), source };
    let name =
        ServerName::try_from(address.host.clone()).map_err(|error| no_tls(std::io::Error::other(error)))?;
    let witness = Arc::new(Witness { provider: provider(), shown: Mutex::new(None) });
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("aws-lc-rs has cipher suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(witness.clone())
        .with_no_client_auth();
    match timeout(TIMEOUT, TlsConnector::from(Arc::new(config)).connect(name, socket)).await {
        Ok(Ok(_)) => {}
        Ok(Err(source)) => return Err(no_tls(source)),
        Err(_) => return Err(ProbeError::Silent { address: address.clone() }),
    }
    let shown = witness.shown.lock().unwrap_or_else(PoisonError::into_inner).take();
    let shown = shown.expect("a handshake that succeeded went through the verifier");
    Certificate::new(shown).map_err(|source| ProbeError::Unreadable { address: address.clone(), source })
}

impl Certificate {
    fn new(certificate: CertificateDer<'static>) -> Result<Self, Error> {
        let fingerprint = fingerprint_of(&certificate)?;
        Ok(Self { certificate, fingerprint })
    }

    /// The first one of a PEM file. An error is a sentence.
    pub fn from_pem_file(file: &Path) -> Result<Self, String> {
        let certificate = CertificateDer::from_pem_file(file).map_err(|error| error.to_string())?;
        Self::new(certificate).map_err(|error| error.to_string())
    }

    /// When it ends; `None` where it has no end. A verifier that is asked about a time after all ends names it, which
    /// saves us a parser for certificates.
    pub fn not_after(&self) -> Option<SystemTime> {
        let parsed = ParsedCertificate::try_from(&self.certificate).ok()?;
        let verified = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &RootCertStore::empty(),
            &[],
            UnixTime::since_unix_epoch(AFTER_ALL),
            provider().signature_verification_algorithms.all,
        );
        match verified {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                Some(UNIX_EPOCH + Duration::from_secs(not_after.as_secs()))
            }
            Err(_) | Ok(()) => None,
        }
    }

    /// Whether it is for this name or address.
    pub fn is_for(&self, host: &str) -> bool {
        let parsed = ParsedCertificate::try_from(&self.certificate);
        let name = ServerName::try_from(host);
        matches!((parsed, name), (Ok(parsed), Ok(name)) if verify_server_name(&parsed, &name).is_ok())
    }
}

/// Notes the certificate and lets it pass; the signature of the handshake must be right, so that what is noted is the
/// peer's own.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    shown: Mutex<Option<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = end_entity.clone().into_owned();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn made(not_after: SystemTime) -> Certificate {
        let mut parameters =
            CertificateParams::new(["gate.test".to_owned(), "192.0.2.7".to_owned()]).expect("names");
        parameters.not_before = UNIX_EPOCH.into();
        parameters.not_after = not_after.into();
        let key = KeyPair::generate().expect("a key");
        let der = parameters.self_signed(&key).expect("a certificate").der().clone();
        Certificate::new(der).expect("well-formed")
    }

    #[test]
    fn a_certificate_says_when_it_ends_whether_that_is_over_or_not() {
        for end in [Duration::from_secs(1_700_000_000), Duration::from_secs(4_000_000_000)] {
            assert_eq!(made(UNIX_EPOCH + end).not_after(), Some(UNIX_EPOCH + end));
        }
    }

    #[test]
    fn a_certificate_is_for_its_names_and_addresses() {
        let certificate = made(SystemTime::now());
        assert!(certificate.is_for("gate.test") && certificate.is_for("192.0.2.7"));
        assert!(
            !certificate.is_for("other.test") && !certificate.is_for("") && !certificate.is_for("192.0.2.8")
        );
    }
}
