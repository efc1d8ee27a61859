//! The join page: while the agent has no join token, a page on loopback takes one. It is gone as soon as it has.
//!
//! A page of the Internet in the same browser must not be able to join this agent to a gateway of its own. So a request
//! must be addressed to an IP address or to `localhost`: a rebound DNS name is refused, since it is a name. And a POST
//! must come from this very page: its `Origin` names the same host as its `Host`.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::join_token::{JoinToken, MAX_LENGTH};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// Longest wait for a request's head, and for its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at a time. One person uses the page; a browser opens a few.
const MAX_CONNECTIONS: usize = 32;
/// A token in percent-encoding is at most three times as long, and has a name in front.
const MAX_FORM: usize = 3 * MAX_LENGTH + 64;
/// Longest wait for the last answer to be read before the page goes away.
const GOODBYE: Duration = Duration::from_secs(2);
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Serves the page until somebody pastes a token that is one. The listener is closed when this returns.
pub async fn ask(listener: TcpListener) -> JoinToken {
    let (joined, mut token) = mpsc::channel(1);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let token = loop {
        tokio::select! {
            Some(token) = token.recv() => break token,
            accepted = listener.accept() => {
                let (stream, peer) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of descriptors, say: give others the time to return some.
                        tracing::warn!(%error, "the join page can't accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let joined = joined.clone();
                connections.spawn(async move {
                    let service = service_fn(|request| answer(request, joined.clone()));
                    let served = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(REQUEST_TIMEOUT)
                        .keep_alive(false)
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    if let Err(error) = served {
                        tracing::debug!(%peer, %error, "a connection to the join page failed");
                    }
                    drop(place);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    };
    drop(listener);
    let _ = tokio::time::timeout(GOODBYE, async { while connections.join_next().await.is_some() {} }).await;
    token
}

type Page = Response<Full<Bytes>>;

async fn answer(request: Request<Incoming>, joined: mpsc::Sender<JoinToken>) -> Result<Page, Infallible> {
    let Some(host) = trusted_host(request.headers()) else {
        return Ok(page(StatusCode::MISDIRECTED_REQUEST, Content::Refused(WRONG_HOST)));
    };
    let is_post = request.method() == Method::POST;
    if request.uri().path() != "/" {
        return Ok(page(StatusCode::NOT_FOUND, Content::Refused("There is nothing here. The page is at /.")));
    }
    if !is_post {
        let known = request.method() == Method::GET || request.method() == Method::HEAD;
        return Ok(if known {
            page(StatusCode::OK, Content::Form(None))
        } else {
            page(StatusCode::METHOD_NOT_ALLOWED, Content::Refused("Open this page, or send its form."))
        });
    }
    if !from_this_page(request.headers(), &host) {
        return Ok(page(StatusCode::FORBIDDEN, Content::Refused(WRONG_ORIGIN)));
    }
    let body = Limited::new(request.into_body(), MAX_FORM).collect();
    let Ok(Ok(body)) = tokio::time::timeout(REQUEST_TIMEOUT, body).await else {
        return Ok(page(
            StatusCode::BAD_REQUEST,
            Content::Form(Some("The form did not arrive whole, or is far too long for a token.".into())),
        ));
    };
    let body = body.to_bytes();
    let text = form_urlencoded::parse(&body).find(|(name, _)| name == "token").map(|(_, value)| value);
    Ok(match text.unwrap_or_default().parse::<JoinToken>() {
        // Taken already: two tabs. The first one wins, and this one's owner learns it.
        Ok(token) => match joined.try_send(token) {
            Ok(()) => page(StatusCode::OK, Content::Joined),
            Err(_) => page(StatusCode::CONFLICT, Content::Refused("This agent has a join token already.")),
        },
        Err(error) => page(StatusCode::UNPROCESSABLE_ENTITY, Content::Form(Some(error.to_string()))),
    })
}

const WRONG_HOST: &str = "Open this page by an IP address or as localhost: other names are refused, so that no other site can reach it.";
const WRONG_ORIGIN: &str = "This form was not sent from this page. Open the page itself and try again.";

/// The `Host`, if it is one that no stranger's DNS can point here.
fn trusted_host(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::HOST)?.to_str().ok()?;
    let authority: http::uri::Authority = text.parse().ok()?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let trusted = host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok();
    (trusted && !text.contains('@')).then(|| text.to_ascii_lowercase())
}

/// Browsers send `Origin` with every POST, and scripts can't change it.
fn from_this_page(headers: &HeaderMap, host: &str) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    origin.is_some_and(|origin| origin.eq_ignore_ascii_case(&format!("http://{host}")))
}

enum Content {
    Form(Option<String>),
    Refused(&'static str),
    Joined,
}

fn page(status: StatusCode, content: Content) -> Page {
    let main = match content {
        Content::Form(problem) => {
            let problem = problem.map_or_else(String::new, |problem| {
                format!("<p id=\"problem\" class=\"problem\" role=\"alert\">{}</p>", escape(&problem))
            });
            let described = if problem.is_empty() { "hint" } else { "problem hint" };
            let invalid = if problem.is_empty() { "" } else { " aria-invalid=\"true\"" };
            format!(
                "<h1>Join a gateway</h1>{problem}\
                 <form method=\"post\" action=\"/\"><label for=\"token\">Join token</label>\
                 <p id=\"hint\">The gateway's admin gets one with <code>tidegate edge create NAME</code>. It begins with \
                 <code>tidegate1.</code></p>\
                 <textarea id=\"token\" name=\"token\" rows=\"6\" required autofocus autocomplete=\"off\" \
                 spellcheck=\"false\" aria-describedby=\"{described}\"{invalid}></textarea>\
                 <button>Join</button></form>"
            )
        }
        Content::Refused(reason) => format!("<h1>Not possible</h1><p>{}</p>", escape(reason)),
        Content::Joined => {
            "<h1>Joined</h1><p>The agent has its token and checks in now. This page is gone; you can \
                            close it.</p>"
                .to_owned()
        }
    };
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Tidegate agent</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\
         <body><main>{main}</main></body></html>"
    );
    let mut response = Response::new(Full::from(html));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

const STYLE: &str = "\
    :root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}\
    main{max-width:40rem;margin:10vh auto;padding:0 1rem}\
    label{font-weight:600}#hint{margin:.25rem 0 .5rem}\
    textarea{width:100%;box-sizing:border-box;font:.9rem ui-monospace,monospace}\
    button{font:inherit;padding:.5rem 1.5rem;margin-top:.75rem}\
    .problem{border-left:.3rem solid light-dark(#b00020,#ff8a94);padding:.5rem 1rem}";

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
}

/// The page's address as a person types it.
pub fn url(address: SocketAddr) -> String {
    format!("http://{address}/")
}

#[cfg(test)]
mod tests {
    use shared::fingerprint::HostKeyFingerprint;
    use shared::id::EdgeKey;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

    use super::*;

    async fn start() -> (SocketAddr, JoinHandle<JoinToken>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        (address, tokio::spawn(async { ask(listener).await }))
    }

    async fn send(address: SocketAddr, request: String) -> String {
        let mut stream = TcpStream::connect(address).await.expect("listening");
        stream.write_all(request.as_bytes()).await.expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        answer
    }

    async fn post(address: SocketAddr, host: &str, origin: &str, form: &str) -> String {
        let length = form.len();
        let request =
            format!("POST / HTTP/1.1\r\nhost: {host}\r\n{origin}content-length: {length}\r\n\r\n{form}");
        send(address, request).await
    }

    fn token() -> JoinToken {
        JoinToken {
            api_url: "https://gate.test:9000".into(),
            ssh: "gate.test:8000".into(),
            key: EdgeKey::random(),
            host_keys: vec![HostKeyFingerprint::from_bytes([1; 32])],
            tls_pins: vec![],
        }
    }

    #[tokio::test]
    async fn pasted_token_is_taken_and_the_page_is_gone() {
        let (address, asked) = start().await;
        let shown = send(address, format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n")).await;
        assert!(shown.starts_with("HTTP/1.1 200") && shown.contains("<label for=\"token\">"), "{shown}");
        assert!(shown.contains("content-security-policy: default-src 'none'"), "{shown}");
        let token = token();
        let form = format!("token={}", token.expose().replace('.', "%2E").replace("%2E", "%0D%0A%2E"));
        let host = address.to_string();
        let answer = post(address, &host, &format!("origin: http://{host}\r\n"), &form).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Joined"), "{answer}");
        assert_eq!(asked.await.expect("no panic"), token);
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    }

    #[tokio::test]
    async fn damaged_token_is_explained_and_never_becomes_markup() {
        let (address, _asked) = start().await;
        let host = format!("localhost:{}", address.port());
        let form = "token=tidegate1.%3Cscript%3E";
        let answer = post(address, &host, &format!("origin: http://{host}\r\n"), form).await;
        assert!(answer.starts_with("HTTP/1.1 422") && answer.contains("damaged"), "{answer}");
        assert!(answer.contains("&#39;&lt;&#39;") && !answer.contains("<script"), "{answer}");
    }

    #[tokio::test]
    async fn other_sites_and_rebound_names_get_nothing() {
        let (address, asked) = start().await;
        let form = format!("token={}", token().expose());
        let host = address.to_string();
        for (host, origin, status) in [
            (host.as_str(), "", "403"),
            (&host, "origin: null\r\n", "403"),
            (&host, "origin: https://evil.test\r\n", "403"),
            (&host, "origin: http://localhost:1\r\n", "403"),
            ("evil.test", "origin: http://evil.test\r\n", "421"),
            ("127.0.0.1.evil.test", "origin: http://127.0.0.1.evil.test\r\n", "421"),
        ] {
            let answer = post(address, host, origin, &form).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host} {origin}: {answer}");
        }
        assert!(!asked.is_finished());
    }
}
