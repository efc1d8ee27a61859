//! The floor under a check-in: what TLS and HTTP alone cost on this machine, for the load harness to set beside the
//! gateway.
//!
//! Bare hyper on tokio, TLS 1.3, HTTP/2 or HTTP/1.1 by ALPN, and one look into a map by the `authorization` header (or the
//! one that stands for it over HTTP/2): 204 for who is in it, 401 for anybody else. No identity, no state, no limits, no metrics; never put it on a network.
//!
//! ```text
//! check-in-floor --listen 127.0.0.1:0 --cert chain.pem --key key.pem --edges authorizations.txt
//! ```
//!
//! The file of edges has one value of the `authorization` header a line (`Edge <edge ID>.<key>`); it is read once. The first
//! line on standard output is `listening on ADDRESS`. It runs until it is killed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;
use rustls::version::TLS13;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use shared::wire::check_in::IDENTITY_HEADER;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The gateway's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Answers check-ins at the floor of what they can cost.
#[derive(Parser)]
struct Options {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// Certificate chain in PEM
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// File with the authorizations that are known, one a line
    #[arg(long, value_name = "FILE")]
    edges: PathBuf,
}

/// Who is known. The value stands for what a real gateway keeps of an edge.
type Edges = HashMap<Vec<u8>, u64>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("raise the open files")?;
    let edges = Arc::new(edges(&options)?);
    let tls = TlsAcceptor::from(Arc::new(tls(&options)?));
    let listener = TcpListener::bind(options.listen).await.context("listen")?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await.context("accept")?;
        let (tls, edges) = (tls.clone(), Arc::clone(&edges));
        // A connection that fails is the harness's to notice.
        tokio::spawn(async move { converse(socket, tls, edges).await.ok() });
    }
}

fn edges(options: &Options) -> anyhow::Result<Edges> {
    let text = std::fs::read_to_string(&options.edges).context("read the file of edges")?;
    Ok(text.lines().zip(0..).map(|(line, number)| (line.as_bytes().to_vec(), number)).collect())
}

fn tls(options: &Options) -> anyhow::Result<ServerConfig> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&options.cert)?.collect();
    let key = PrivateKeyDer::from_pem_file(&options.key)?;
    let mut config = ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_no_client_auth()
        .with_single_cert(chain?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

async fn converse(socket: TcpStream, tls: TlsAcceptor, edges: Arc<Edges>) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let stream = tls.accept(socket).await?;
    let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| {
        let answer = answer(&edges, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let io = TokioIo::new(stream);
    if speaks_http2 {
        http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await?;
    } else {
        http1::Builder::new().serve_connection(io, service).await?;
    }
    Ok(())
}

fn answer(edges: &Edges, request: &Request<Incoming>) -> Response<Empty<Bytes>> {
    let headers = request.headers();
    let authorization = headers.get(AUTHORIZATION).or_else(|| headers.get(IDENTITY_HEADER));
    let known = authorization.is_some_and(|value| edges.contains_key(value.as_bytes()));
    let mut answer = Response::new(Empty::new());
    *answer.status_mut() = if known { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED };
    answer
}
