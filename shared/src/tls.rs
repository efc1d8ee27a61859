//! TLS towards a gateway: its own certificate by pinned key, an operator's by the system's roots.
//!
//! The rule: a pin replaces the whole chain of trust. With pins given, the peer must prove that it has one of exactly
//! these keys, and nothing else (name, dates, issuer) is asked; the handshake's signatures are checked as always.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    version,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::fingerprint::TlsFingerprint;

/// HTTP/1.1 by its name in TLS (ALPN, RFC 7301).
pub const HTTP_1_1: &[u8] = b"http/1.1";
/// HTTP/2 by its name in TLS.
pub const HTTP_2: &[u8] = b"h2";

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file with extra roots can't be read or holds no certificate.
    #[error("can't read certificates from {file}: {source}")]
    CaFile {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// A certificate in it is none.
    #[error("a certificate in {file} is not valid: {source}")]
    CaCertificate {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: Error,
    },
    /// Nothing to verify a gateway with.
    #[error(
        "this system has no root certificates ({reason}): install them (ca-certificates on Debian), or name a file with --ca-file"
    )]
    NoRoots {
        /// What was tried.
        reason: String,
    },
}

/// The peer's key is none of the pinned ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the gateway's TLS key is {got} and not the pinned {}: if the gateway was set up anew, get a new join token (or \
     fingerprint) from its admin; if not, somebody may be listening in",
    .expected.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
)]
pub struct PinMismatch {
    /// Fingerprints that would have passed.
    pub expected: Vec<TlsFingerprint>,
    /// Fingerprint of the key that was shown.
    pub got: TlsFingerprint,
}

impl PinMismatch {
    /// Finds it in the error of a failed handshake.
    pub fn find(error: &io::Error) -> Option<&Self> {
        let Some(Error::InvalidCertificate(CertificateError::Other(OtherError(cause)))) =
            error.get_ref().and_then(|error| error.downcast_ref())
        else {
            return None;
        };
        cause.downcast_ref()
    }
}

/// The provider of everything cryptographic in TLS, with X25519MLKEM768 in front.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// How a client verifies a gateway. With `pins`, by them alone; without, by the system's roots and those in `ca_file`.
pub fn client_config(pins: &[TlsFingerprint], ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("aws-lc-rs has cipher suites for both versions");
    let mut config = if pins.is_empty() {
        builder.with_root_certificates(roots(ca_file)?).with_no_client_auth()
    } else {
        let verifier = PinVerifier { pins: pins.to_vec(), provider };
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
    };
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

/// Fingerprint of the key in a certificate.
pub fn fingerprint_of(certificate: &CertificateDer<'_>) -> Result<TlsFingerprint, Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(TlsFingerprint::of_spki(&parsed.subject_public_key_info()))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    // Old roots in odd encodings are common; those that parse are enough.
    roots.add_parsable_certificates(native.certs);
    if let Some(file) = ca_file {
        let unreadable = |source| TlsError::CaFile { file: file.to_owned(), source };
        let certificates = CertificateDer::pem_file_iter(file).map_err(unreadable)?;
        let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        if certificates.is_empty() {
            return Err(unreadable(rustls_pki_types::pem::Error::NoItemsFound));
        }
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|source| TlsError::CaCertificate { file: file.to_owned(), source })?;
        }
    }
    if roots.is_empty() {
        let reason = native.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(TlsError::NoRoots { reason });
    }
    Ok(roots)
}

#[derive(Debug)]
struct PinVerifier {
    pins: Vec<TlsFingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let got = fingerprint_of(end_entity)?;
        if self.pins.contains(&got) {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = PinMismatch { expected: self.pins.clone(), got };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(mismatch)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    struct Server {
        config: Arc<ServerConfig>,
        certificate: CertificateDer<'static>,
        pem: String,
    }

    fn server() -> Server {
        let made = rcgen::generate_simple_self_signed(["gate.test".to_owned()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("a matching key");
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Server { config: Arc::new(config), certificate, pem: made.cert.pem() }
    }

    async fn handshake(server: &Server, client: Arc<ClientConfig>, name: &'static str) -> io::Result<()> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let acceptor = TlsAcceptor::from(server.config.clone());
        let name = ServerName::try_from(name).expect("a name");
        let (accepted, connected) =
            tokio::join!(acceptor.accept(far), TlsConnector::from(client).connect(name, near));
        let stream = connected?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(HTTP_1_1));
        accepted.map(drop)
    }

    #[tokio::test]
    async fn pinned_key_passes_whatever_the_name_and_the_chain() {
        let server = server();
        let other = TlsFingerprint::from_bytes([0; 32]);
        let pins = [other, fingerprint_of(&server.certificate).expect("a key")];
        let client = client_config(&pins, None).expect("pins need no roots");
        handshake(&server, client, "another.name").await.expect("the pinned key");
    }

    #[tokio::test]
    async fn another_key_is_refused_with_both_fingerprints() {
        let server = server();
        let pin = TlsFingerprint::from_bytes([7; 32]);
        let client = client_config(&[pin], None).expect("pins need no roots");
        let error = handshake(&server, client, "gate.test").await.expect_err("another key");
        let found = PinMismatch::find(&error).expect("the verifier's own error");
        assert_eq!(found.expected, [pin]);
        assert_eq!(found.got, fingerprint_of(&server.certificate).expect("a key"));
        let text = found.to_string();
        assert!(text.contains(&pin.to_string()) && text.contains(&found.got.to_string()), "{text}");
    }

    #[tokio::test]
    async fn a_ca_file_makes_its_certificates_trusted_for_their_name_only() {
        let server = server();
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &server.pem).expect("written");
        let client = client_config(&[], Some(file.path())).expect("one root");
        handshake(&server, client.clone(), "gate.test").await.expect("trusted");
        let error = handshake(&server, client, "other.test").await.expect_err("another name");
        assert!(PinMismatch::find(&error).is_none(), "no pin was involved: {error}");
    }

    #[test]
    fn an_empty_ca_file_is_an_error() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(matches!(client_config(&[], Some(file.path())), Err(TlsError::CaFile { .. })));
    }
}
