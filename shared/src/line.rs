//! The kept HTTP connection on which an agent asks its gateway, and the requests on it: as few bytes as HTTP allows.
//!
//! An idle check-in over HTTP/2 and TLS 1.3 is three packets; each has 52 bytes of TCP/IP (IPv4, with time stamps):
//!
//! | packet | bytes of HTTP/2 | with TLS | with TCP/IP |
//! | --- | --- | --- | --- |
//! | question: HEADERS, 6 indexed fields, `:path` (14), `content-length` (4) | 33 | 55 | 107 |
//! | answer: HEADERS with `:status: 204` | 10 | 32 | 84 |
//! | the agent's kernel acknowledges that | | | 52 |
//!
//! No `accept`, no `user-agent`, no PING and no SETTINGS beyond the first, and no answer that is long enough to need more
//! window. Dialling and TLS are the caller's, and so is every decision.
//!
//! The rule: what proves the edge is in the bytes of a request and never in a log. HPACK keeps it in a table that is
//! this connection's own; nobody else can put text into it, so its size tells nobody anything (RFC 7541, 7.1).

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, InvalidUri, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::tls::{HTTP_1_1, HTTP_2};
use crate::wire::check_in::{
    APPLIED_HEADER, HELD, IDENTITY_HEADER, INSTANCE_HEADER, Identity, MAX_BODY, PATH, PREFER_HEADER,
};

/// Bytes of an answer that the peer may send unasked: as long as a body can be, so that no WINDOW_UPDATE is ever needed
/// before its end. It is the value that HTTP/2 begins with as well (RFC 9113, 6.9.2), so nothing has to be said.
const WINDOW: u32 = 65_535;
/// Bytes of answers' fields that the peer may index for us: `preference-applied` and `content-type` fit, and a gateway
/// with thousands of agents keeps such a table for each.
const ANSWER_TABLE: u32 = 256;
/// Bytes of a request that wait for the socket: the longest hello.
const MAX_WAITING: usize = MAX_BODY;

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1: one question at a time.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// What an agent offers in TLS (ALPN, RFC 7301), the one that it likes best first.
    pub fn offered() -> Vec<Vec<u8>> {
        vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()]
    }

    /// What was agreed on. A server that knows no ALPN knows no HTTP/2.
    pub fn agreed(alpn: Option<&[u8]>) -> Self {
        match alpn {
            Some(HTTP_2) => Self::Http2,
            Some(_) | None => Self::Http1,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The connection broke, or was closed before.
    #[error("{}", cause(.0))]
    Http(#[from] hyper::Error),
    /// The answer began and has no proper end.
    #[error("its answer could not be read: {0}")]
    Body(String),
}

/// hyper says what it was doing; what the system says is more to the point.
fn cause(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// An answer with its whole body, of [`MAX_BODY`] at most.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// Whether questions are held where this comes from, as the question asked for: the next one may come at once.
    pub fn holds(&self) -> bool {
        self.headers.get_all(APPLIED_HEADER).iter().any(|applied| {
            applied.to_str().is_ok_and(|applied| applied.split(',').any(|applied| applied.trim() == HELD))
        })
    }
}

/// A connection. Dropping it closes it at once, whatever is under way.
#[derive(Debug)]
pub struct Line {
    sender: Sender,
    /// Over HTTP/1.1: a question is under way or was given up, or the last answer was the last.
    spent: bool,
    _tasks: DropGuard,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Line {
    /// Begins to speak on a connection, which has been through TLS where there is any.
    pub async fn open(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        protocol: Protocol,
    ) -> Result<Self, LineError> {
        let (tasks, io) = (Tasks(CancellationToken::new()), TokioIo::new(stream));
        let guard = tasks.0.clone().drop_guard();
        let sender = match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tasks.execute(connection);
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::Builder::new(tasks.clone())
                    .initial_stream_window_size(WINDOW)
                    .initial_connection_window_size(WINDOW)
                    .header_table_size(ANSWER_TABLE)
                    .max_send_buf_size(MAX_WAITING)
                    .handshake(io)
                    .await?;
                tasks.execute(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Self { sender, spent: false, _tasks: guard })
    }

    /// What is spoken.
    pub fn protocol(&self) -> Protocol {
        match self.sender {
            Sender::Http1(_) => Protocol::Http1,
            Sender::Http2(_) => Protocol::Http2,
        }
    }

    /// Whether no question can be asked on it any more. One that is not may still turn out to be broken.
    pub fn is_spent(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => self.spent || sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Asks. Has no time limit of its own. Where the future is dropped the question is given up: over HTTP/2 the peer is
    /// told so and the connection goes on; over HTTP/1.1 the connection is spent.
    pub async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, LineError> {
        self.spent = true;
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => sender.send_request(request).await?,
        };
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|error| LineError::Body(error.to_string()))?.to_bytes();
        self.spent = head.headers.get(header::CONNECTION).is_some_and(|value| value == "close");
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

/// What hyper runs beside a connection; it ends with the token.
#[derive(Clone, Debug)]
struct Tasks(CancellationToken);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        // What goes wrong with a connection shows at the question.
        tokio::spawn(self.0.clone().run_until_cancelled_owned(task));
    }
}

/// Who asks, and which gateway. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    authorization: HeaderValue,
    instance: HeaderValue,
}

impl Caller {
    /// `authority` is `host:port`, or the host alone, as the gateway's URL has it.
    pub fn new(scheme: Scheme, authority: &str, identity: &Identity) -> Result<Self, InvalidUri> {
        let authority: Authority = authority.parse()?;
        Ok(Self {
            scheme,
            host: HeaderValue::from_str(authority.as_str()).expect("an authority is visible ASCII"),
            authority,
            authorization: HeaderValue::try_from(identity.authorization.expose())
                .expect("a UUID and base64url are visible ASCII"),
            instance: HeaderValue::try_from(identity.instance.to_string()).expect("a UUID is visible ASCII"),
        })
    }

    /// A check-in that may be held for `wait`, in whole seconds, with the JSON of its report, if there is anything to
    /// report.
    pub fn check_in(
        &self,
        protocol: Protocol,
        wait: Option<Duration>,
        report: Option<Bytes>,
    ) -> Request<Full<Bytes>> {
        let mut request = match report {
            None => self.post(protocol, PATH, Bytes::new()),
            Some(report) => {
                let mut request = self.post(protocol, PATH, report);
                let json = HeaderValue::from_static("application/json");
                request.headers_mut().insert(header::CONTENT_TYPE, json);
                request
            }
        };
        if let Some(wait) = wait {
            let value = format!("wait={}", wait.as_secs());
            let value = HeaderValue::try_from(value).expect("digits are visible ASCII");
            request.headers_mut().insert(PREFER_HEADER, value);
        }
        request
    }

    /// Any other request that says who asks.
    pub fn post(&self, protocol: Protocol, path: &'static str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = self.request(protocol, Method::POST, path, body);
        match protocol {
            Protocol::Http1 => {
                request.headers_mut().insert(header::AUTHORIZATION, self.authorization.clone())
            }
            Protocol::Http2 => request.headers_mut().insert(IDENTITY_HEADER, self.authorization.clone()),
        };
        request.headers_mut().insert(INSTANCE_HEADER, self.instance.clone());
        request
    }

    /// A request that does not say who asks.
    pub fn get(&self, protocol: Protocol, path: &'static str) -> Request<Full<Bytes>> {
        self.request(protocol, Method::GET, path, Bytes::new())
    }

    fn request(
        &self,
        protocol: Protocol,
        method: Method,
        path: &'static str,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        let path = PathAndQuery::from_static(path);
        match protocol {
            Protocol::Http1 => {
                *request.uri_mut() = path.into();
                request.headers_mut().insert(header::HOST, self.host.clone());
            }
            // `:scheme` and `:authority` are made of the URI.
            Protocol::Http2 => {
                *request.uri_mut() = Uri::builder()
                    .scheme(self.scheme.clone())
                    .authority(self.authority.clone())
                    .path_and_query(path)
                    .build()
                    .expect("scheme, authority and path are all there");
            }
        }
        request
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("authority", &self.authority)
            .field("authorization", &"***")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
