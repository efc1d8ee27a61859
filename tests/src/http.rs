//! A small HTTP/1.1 client: one connection a request, plain or over TLS with a pinned key.
//!
//! It shares no code with the product's own TLS verification, so that a mistake there can't hide itself.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::fingerprint::TlsFingerprint;
use shared::wire::problem::Problem;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::bulk::moving;

/// Body of a request.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A connection: plain TCP or TLS.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as `T`.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the {} answer {:?}", self.status, self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The same, once its status is known to be `status`.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "the answer was: {}", self.text());
        self
    }

    /// The problem that it carries; its status must be `status`.
    ///
    /// # Panics
    /// If it carries none, or another status.
    #[track_caller]
    pub fn problem(self, status: u16) -> Problem {
        let answer = self.expect(status);
        let kind = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!(kind, shared::wire::problem::CONTENT_TYPE);
        answer.json()
    }
}

/// Where requests go, and as whom.
#[derive(Clone, Debug)]
pub struct Http {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    authorization: Option<String>,
}

impl Http {
    /// Plain HTTP.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, authorization: None }
    }

    /// HTTP over TLS; the server must show a key with one of these fingerprints.
    pub fn pinned(address: SocketAddr, pins: &[TlsFingerprint]) -> Self {
        Self { address, tls: Some(pinned_config(pins)), authorization: None }
    }

    /// The same with an `authorization` header.
    pub fn with_authorization(self, authorization: String) -> Self {
        Self { authorization: Some(authorization), ..self }
    }

    /// The same without an `authorization` header.
    pub fn anonymous(&self) -> Self {
        Self { authorization: None, ..self.clone() }
    }

    /// The `authorization` header of every request.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// A new connection, ready to speak HTTP on.
    pub async fn connect(&self) -> io::Result<Box<dyn Connection>> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        self.over(tcp).await
    }

    /// The same over a TCP connection that is there.
    pub async fn over(&self, tcp: TcpStream) -> io::Result<Box<dyn Connection>> {
        let Some(config) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = ServerName::IpAddress(self.address.ip().into());
        Ok(Box::new(TlsConnector::from(config.clone()).connect(name, tcp).await?))
    }

    /// Starts a request to `path` with our `host` and `authorization` headers.
    pub fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        let request = Request::builder().method(method).uri(path).header(HOST, self.address.to_string());
        match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        }
    }

    /// Sends a request and returns as soon as the head of the answer is there; an upgrade can follow.
    pub async fn open(&self, request: Request<Body>) -> io::Result<Response<Incoming>> {
        let io = TokioIo::new(self.connect().await?);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(io::Error::other)?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(io::Error::other)
    }

    /// Sends a request and reads the whole answer. An error if its head or its body takes more than a minute; one whose
    /// own body is long is for [`Http::open`].
    pub async fn send(&self, request: Request<Body>) -> io::Result<Answer> {
        let (head, body) = moving(self.open(request)).await?.into_parts();
        let body = moving(async { body.collect().await.map_err(io::Error::other) }).await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// Sends `body` as JSON.
    pub async fn send_json(&self, method: Method, path: &str, body: &impl Serialize) -> io::Result<Answer> {
        let body = serde_json::to_vec(body).map_err(io::Error::other)?;
        let request = self.request(method, path).header(CONTENT_TYPE, "application/json");
        self.send(request.body(full(body)).map_err(io::Error::other)?).await
    }

    /// Sends a request without a body.
    pub async fn call(&self, method: Method, path: &str) -> io::Result<Answer> {
        self.send(self.request(method, path).body(full("")).map_err(io::Error::other)?).await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> io::Result<Answer> {
        self.call(Method::GET, path).await
    }
}

/// A body that is there already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn pinned_config(pins: &[TlsFingerprint]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = PinnedKey { pins: pins.to_vec(), provider: provider.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Arc::new(config)
}

/// Trusts a certificate for its key alone.
#[derive(Debug)]
struct PinnedKey {
    pins: Vec<TlsFingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let spki = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        if self.pins.contains(&TlsFingerprint::of_spki(&spki)) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
