//! Whether a request that a browser sent with our cookie comes from our own page: pure, from what the browser says.
//!
//! The rule: a browser adds its cookie whatever page a request comes from, so a cookie alone changes nothing and opens
//! no stream. What a browser says with `sec-fetch-site` and `origin` no page can forge (both are forbidden header names
//! of the Fetch standard). `SameSite=Strict` on the cookie stands in front of this; neither relies on the other.

use http::header::{ORIGIN, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Method, Uri};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Where the gateway is, as browsers know it.
#[derive(Clone, Copy, Debug)]
pub struct OwnOrigin<'a> {
    /// Whether the browser's side of the conversation is encrypted.
    pub secure: bool,
    /// The address by which the request came.
    pub arrival: &'a Authority,
    /// `--public-url` or its setting: what browsers use where a proxy changes `host`.
    pub public_url: Option<&'a str>,
}

/// Whether a request does something that another site's page must not make a browser do: it changes something (RFC 9110
/// §9.2.1), or it opens a stream, to which browsers apply no rule of origins.
pub fn must_be_ours(method: &Method, headers: &HeaderMap) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
        || headers.contains_key(UPGRADE)
        // A WebSocket over HTTP/2 (RFC 8441).
        || *method == Method::CONNECT
}

/// Whether our own page sent it, or the person at the browser itself.
pub fn is_ours(headers: &HeaderMap, own: OwnOrigin<'_>) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site == "same-origin" || site == "none";
    }
    // Browsers before 2023, and those that came by plain HTTP, which is not trusted enough for the header above.
    let Some(origin) = headers.get(ORIGIN).and_then(|origin| Origin::parse(origin.to_str().ok()?)) else {
        return false;
    };
    let scheme = if own.secure { "https" } else { "http" };
    Some(&origin) == Origin::new(scheme, own.arrival).as_ref()
        || own.public_url.and_then(Origin::parse).is_some_and(|public| public == origin)
}

/// Whether another site's page sent it: what no browser sent is nobody's page's.
pub fn is_anothers(headers: &HeaderMap, own: OwnOrigin<'_>) -> bool {
    (headers.contains_key(SEC_FETCH_SITE) || headers.contains_key(ORIGIN)) && !is_ours(headers, own)
}

/// Scheme, host and port (RFC 6454 §4).
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    secure: bool,
    host: String,
    port: u16,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        Self::new(uri.scheme_str()?, uri.authority()?)
    }

    fn new(scheme: &str, authority: &Authority) -> Option<Self> {
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Some(Self { secure, host: authority.host().to_ascii_lowercase(), port })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(pair).collect()
    }

    #[test]
    fn what_changes_something_or_opens_a_stream_must_be_ours() {
        let none = HeaderMap::new();
        for (method, expected) in [
            (Method::GET, false),
            (Method::HEAD, false),
            (Method::OPTIONS, false),
            (Method::POST, true),
            (Method::PUT, true),
            (Method::PATCH, true),
            (Method::DELETE, true),
            (Method::CONNECT, true),
            (Method::from_bytes(b"PROPFIND").expect("a method"), true),
        ] {
            assert_eq!(must_be_ours(&method, &none), expected, "{method}");
        }
        assert!(must_be_ours(&Method::GET, &headers(&[("upgrade", "websocket")])));
    }

    #[test]
    fn only_what_the_browser_calls_ours_is_ours() {
        let arrival: Authority = "Gate.example.com:9000".parse().expect("an authority");
        let public_url = Some("https://tidegate.example.com/");
        let own = OwnOrigin { secure: true, arrival: &arrival, public_url };
        for (lines, expected) in [
            (vec![], false),
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "none")], true),
            (vec![("sec-fetch-site", "same-site")], false),
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("sec-fetch-site", "of another time")], false),
            (vec![("sec-fetch-site", "cross-site"), ("origin", "https://gate.example.com:9000")], false),
            (vec![("origin", "https://gate.example.com:9000")], true),
            (vec![("origin", "https://GATE.example.com:9000")], true),
            (vec![("origin", "https://tidegate.example.com")], true),
            (vec![("origin", "https://tidegate.example.com:443")], true),
            (vec![("origin", "http://gate.example.com:9000")], false),
            (vec![("origin", "https://gate.example.com")], false),
            (vec![("origin", "https://gate.example.com:8000")], false),
            (vec![("origin", "https://gate.example.com.evil.example:9000")], false),
            (vec![("origin", "https://evil.example")], false),
            (vec![("origin", "null")], false),
            (vec![("origin", "")], false),
            (vec![("origin", "wss://gate.example.com:9000")], false),
            (vec![("referer", "https://gate.example.com:9000/")], false),
        ] {
            assert_eq!(is_ours(&headers(&lines), own), expected, "{lines:?}");
        }
    }

    #[test]
    fn default_ports_and_plain_http_are_what_they_are_for_browsers() {
        let arrival: Authority = "[::1]".parse().expect("an authority");
        let own = OwnOrigin { secure: false, arrival: &arrival, public_url: None };
        for (origin, expected) in
            [("http://[::1]", true), ("http://[::1]:80", true), ("https://[::1]", false)]
        {
            assert_eq!(is_ours(&headers(&[("origin", origin)]), own), expected, "{origin}");
        }
    }
}
