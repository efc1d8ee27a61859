//! A web service: bodies both ways, server-sent events, WebSocket, `Upgrade: tcp`.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /hello` | `hello` |
//! | `ANY /echo` | method, path, headers and body as JSON |
//! | `POST /checksum` | length and SHA-256 of the body, as `LENGTH HEX` |
//! | `GET /bytes/SEED/LENGTH` | so many bytes of that [`Pattern`], chunked |
//! | `GET /status/CODE` | that status |
//! | `GET /events` | server-sent events, each as the test sends it |
//! | `GET /socket` | WebSocket echo |
//! | `GET /upgrade` | `Upgrade: tcp` echo |
//! | `GET /stuck` | no answer at all |

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Task, tcp};
use crate::bulk::Pattern;
use crate::http::{Body, full};

/// Events that a slow reader of `/events` may lag behind.
const EVENTS: usize = 64;

/// What `/echo` saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

impl Seen {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The service.
#[derive(Debug)]
pub struct Web {
    /// Where it listens.
    pub address: SocketAddr,
    /// Sends one event to every reader of `/events`.
    pub events: broadcast::Sender<String>,
    _task: Task,
}

impl Web {
    /// Starts it on a free loopback port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let events = broadcast::Sender::new(EVENTS);
        let sender = events.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let events = sender.clone();
                let service = service_fn(move |request| {
                    let events = events.clone();
                    async move { Ok::<_, Infallible>(answer(request, &events).await) }
                });
                tokio::spawn(
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades(),
                );
            }
        });
        Self { address, events, _task: Task(task) }
    }

    /// As a target of `--expose`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn answer(request: Request<Incoming>, events: &broadcast::Sender<String>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').split('/');
    match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
        ("hello", ..) => Response::new(full("hello")),
        ("echo", ..) => echo(request).await,
        ("checksum", ..) => checksum(request).await,
        ("bytes", Some(seed), Some(length)) => match (seed.parse(), length.parse()) {
            (Ok(seed), Ok(length)) => Response::new(pattern(Pattern::new(seed, length))),
            (Err(_), _) | (_, Err(_)) => status(StatusCode::BAD_REQUEST),
        },
        ("status", Some(code), _) => status(code.parse().unwrap_or(StatusCode::BAD_REQUEST)),
        ("events", ..) => server_sent_events(events.subscribe()),
        ("socket", ..) => web_socket(request),
        ("upgrade", ..) => upgrade(request),
        ("stuck", ..) => std::future::pending().await,
        _ => status(StatusCode::NOT_FOUND),
    }
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = code;
    response
}

async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return status(StatusCode::BAD_REQUEST) };
    let seen = Seen {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
    };
    Response::new(full(serde_json::to_vec(&seen).expect("strings serialize")))
}

async fn checksum(request: Request<Incoming>) -> Response<Body> {
    let (mut body, mut hasher, mut length) = (request.into_body(), Sha256::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return status(StatusCode::BAD_REQUEST) };
        if let Some(data) = frame.data_ref() {
            hasher.update(data);
            length += data.len();
        }
    }
    Response::new(full(format!("{length} {}", hex(&hasher.finalize()))))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A chunked body with this pattern.
pub fn pattern(pattern: Pattern) -> Body {
    let blocks = stream::unfold(pattern, |mut pattern| async move {
        let block = Bytes::copy_from_slice(pattern.next_block()?);
        Some((Ok::<_, io::Error>(Frame::data(block)), pattern))
    });
    StreamBody::new(blocks).boxed_unsync()
}

fn server_sent_events(events: broadcast::Receiver<String>) -> Response<Body> {
    let frames = stream::unfold(events, |mut events| async move {
        let event = events.recv().await.ok()?;
        Some((Ok::<_, io::Error>(Frame::data(Bytes::from(format!("data: {event}\n\n")))), events))
    });
    let body = StreamBody::new(frames).boxed_unsync();
    Response::builder().header(CONTENT_TYPE, "text/event-stream").body(body).expect("the parts are valid")
}

fn switching(protocol: &str) -> hyper::http::response::Builder {
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, protocol)
}

fn web_socket(request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get("sec-websocket-key").map(|key| derive_accept_key(key.as_bytes()))
    else {
        return status(StatusCode::BAD_REQUEST);
    };
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    switching("websocket").header("sec-websocket-accept", key).body(full("")).expect("the parts are valid")
}

fn upgrade(request: Request<Incoming>) -> Response<Body> {
    if request.headers().get(UPGRADE).is_none_or(|value| value != "tcp") {
        return status(StatusCode::UPGRADE_REQUIRED);
    }
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let _ = tcp::echo(TokioIo::new(upgraded)).await;
        }
    });
    switching("tcp").body(full("")).expect("the parts are valid")
}
