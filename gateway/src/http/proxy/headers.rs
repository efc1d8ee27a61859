//! What of a message's head passes the proxy, in either direction.
//!
//! The rules: headers that are about one connection end there (RFC 9110 §7.6.1). What authenticates the operator to the
//! gateway never reaches a service. What a service says must not speak for the gateway's other pages.

use http::header::{
    ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use crate::http::peer::Peer;

/// Headers about one connection, apart from those that `connection` names. `trailer` is not among them: who reads the
/// message in the end needs it.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
/// Headers by which a service would speak for the whole origin, which is the gateway's and other services' as well.
const ORIGIN_WIDE: [HeaderName; 4] = [
    ALT_SVC,
    STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("service-worker-allowed"),
];
/// Names of the gateway's own cookies begin like this, with or without a prefix of RFC 6265bis §4.1.3.
const COOKIE_PREFIXES: [&str; 3] = ["tidegate", "__Host-tidegate", "__Secure-tidegate"];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// What other proxies write for the same purpose: from an operator it would be a claim that nobody checked.
const OTHER_FORWARDED: [HeaderName; 4] = [
    FORWARDED,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
];

/// What the service is told about the request beyond the request itself.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// Who sent it.
    pub peer: Peer,
    /// What stands before the service's own paths, as `/api/v1/edges/shop-17/services/web/proxy`.
    pub prefix: HeaderValue,
    /// What the service gets as `host`.
    pub host: HeaderValue,
}

/// The protocol that a request wants to change to, if it can: upgrades are HTTP/1.1 only (RFC 9110 §7.8). `h2c` is none
/// that we pass on: it went out of use (RFC 9113 §3.1), curl still offers it, and requests inside would bring headers
/// about the client that nobody checked.
pub fn upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = version == Version::HTTP_11 && lists(headers, &CONNECTION, "upgrade");
    headers.get(UPGRADE).filter(|_| wanted && !lists(headers, &UPGRADE, "h2c")).cloned()
}

/// Makes a request's headers ready for the service.
pub fn to_service(headers: &mut HeaderMap, upgrade: Option<HeaderValue>, forwarded: &Forwarded) {
    let trailers = lists(headers, &TE, "trailers");
    strip(headers);
    headers.remove(AUTHORIZATION);
    OTHER_FORWARDED.iter().for_each(|name| drop(headers.remove(name)));
    keep_foreign_cookies(headers);
    let proto = HeaderValue::from_static(if forwarded.peer.secure { "https" } else { "http" });
    let address = HeaderValue::try_from(forwarded.peer.address.ip().to_canonical().to_string())
        .expect("the text of an address has no character that a header could not have");
    headers.insert(X_FORWARDED_FOR, address);
    headers.insert(X_FORWARDED_PROTO, proto);
    headers.insert(X_FORWARDED_PREFIX, forwarded.prefix.clone());
    headers.remove(X_FORWARDED_HOST);
    if let Some(host) = headers.insert(HOST, forwarded.host.clone()) {
        headers.insert(X_FORWARDED_HOST, host);
    }
    if let Some(token) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, token);
    } else if trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("close, te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        // Every request has a stream of its own: the service may close right away.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Makes an answer's headers ready for the client.
pub fn to_client(headers: &mut HeaderMap) {
    strip(headers);
    ORIGIN_WIDE.iter().for_each(|name| drop(headers.remove(name)));
    // A service that sets ours would sign the operator out, or in as somebody else.
    let cookies: Vec<HeaderValue> = headers.get_all(SET_COOKIE).into_iter().cloned().collect();
    headers.remove(SET_COOKIE);
    for cookie in cookies.into_iter().filter(|cookie| !is_ours(cookie.as_bytes().trim_ascii_start())) {
        headers.append(SET_COOKIE, cookie);
    }
}

/// Takes out what is about the connection. Where a transfer coding told the length of the body, a `content-length`
/// beside it was a lie or a trap (RFC 9112 §6.3), and the next hop would believe it.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let named: Vec<HeaderName> =
        elements(headers, &CONNECTION).filter_map(|name| name.parse().ok()).collect();
    named.iter().chain(&HOP_BY_HOP).for_each(|name| drop(headers.remove(name)));
}

/// Leaves the service its own cookies, as one line: HTTP/2 may have split them (RFC 9113 §8.2.3).
fn keep_foreign_cookies(headers: &mut HeaderMap) {
    let mut kept: Vec<&[u8]> = Vec::new();
    for line in headers.get_all(COOKIE) {
        let pairs = line.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        kept.extend(pairs.filter(|pair| !pair.is_empty() && !is_ours(pair)));
    }
    let kept = HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok().filter(|kept| !kept.is_empty());
    headers.remove(COOKIE);
    if let Some(kept) = kept {
        headers.insert(COOKIE, kept);
    }
}

fn is_ours(pair: &[u8]) -> bool {
    COOKIE_PREFIXES.iter().any(|prefix| pair.starts_with(prefix.as_bytes()))
}

/// Whether a comma-separated header lists `wanted`.
pub fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    // A weight, as in `te: trailers;q=0.5`, does not matter to us.
    elements(headers, name).any(|element| {
        element.split(';').next().is_some_and(|element| element.trim_end().eq_ignore_ascii_case(wanted))
    })
}

fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_static(name), value.parse::<HeaderValue>().expect("a value"))
            })
            .collect()
    }

    fn forwarded() -> Forwarded {
        Forwarded {
            peer: Peer { address: ([192, 0, 2, 1], 5).into(), secure: true },
            prefix: HeaderValue::from_static("/prefix"),
            host: HeaderValue::from_static("127.0.0.1:8080"),
        }
    }

    fn sent(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = headers(lines);
        let upgrade = upgrade(Version::HTTP_11, &headers);
        to_service(&mut headers, upgrade, &forwarded());
        headers
    }

    #[test]
    fn headers_about_the_connection_end_at_the_gateway() {
        let sent = sent(&[
            ("connection", "keep-alive, X-Private ,"),
            ("connection", "x-other"),
            ("x-private", "1"),
            ("x-other", "1"),
            ("keep-alive", "5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eDp5"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("accept", "*/*"),
        ]);
        let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let added = ["host", "x-forwarded-for", "x-forwarded-prefix", "x-forwarded-proto"];
        assert_eq!(names, [&["accept", "connection"][..], &added].concat());
        assert_eq!(sent["connection"], "close");
    }

    #[test]
    fn what_authenticates_to_the_gateway_does_not_reach_the_service() {
        let sent = sent(&[
            ("authorization", "Bearer tga_secret"),
            ("cookie", "a=1; tidegate_session=secret;b=2"),
            ("cookie", "__Host-tidegate=secret; c=3"),
        ]);
        assert!(!format!("{sent:?}").contains("secret"));
        assert_eq!(sent["cookie"], "a=1; b=2; c=3");
        assert!(!super::tests::sent(&[("cookie", "tidegate_session=secret")]).contains_key("cookie"));
    }

    #[test]
    fn the_service_hears_who_asked_by_our_word_only() {
        let sent = sent(&[
            ("host", "gate.example.com"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "for=1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
        ]);
        assert_eq!(sent["host"], "127.0.0.1:8080");
        assert_eq!(sent["x-forwarded-for"], "192.0.2.1");
        assert_eq!(sent["x-forwarded-proto"], "https");
        assert_eq!(sent["x-forwarded-host"], "gate.example.com");
        assert_eq!(sent["x-forwarded-prefix"], "/prefix");
        assert!(!sent.contains_key("forwarded") && !sent.contains_key("x-real-ip"));
    }

    #[test]
    fn a_length_beside_a_transfer_coding_is_not_passed_on() {
        let sent = sent(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
        assert!(!sent.contains_key("content-length") && !sent.contains_key("transfer-encoding"));
        assert_eq!(super::tests::sent(&[("content-length", "5")])["content-length"], "5");
    }

    #[test]
    fn an_upgrade_is_asked_for_and_a_wish_for_trailers_passed_on() {
        let upgraded = sent(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(
            (&upgraded["connection"], &upgraded["upgrade"]),
            (&HeaderValue::from_static("upgrade"), &HeaderValue::from_static("websocket"))
        );
        let headers = headers(&[("connection", "upgrade"), ("upgrade", "tcp")]);
        assert_eq!(upgrade(Version::HTTP_2, &headers), None);
        assert_eq!(upgrade(Version::HTTP_10, &headers), None);
        let offer =
            [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMA")];
        let offered = sent(&offer);
        assert_eq!(offered["connection"], "close");
        assert!(!offered.contains_key("upgrade") && !offered.contains_key("http2-settings"));
        let trailers = sent(&[("te", "gzip;q=1, trailers;q=0.5")]);
        assert_eq!(
            (&trailers["te"], &trailers["connection"]),
            (&HeaderValue::from_static("trailers"), &HeaderValue::from_static("close, te"))
        );
    }

    #[test]
    fn an_answer_speaks_for_its_own_page_only() {
        let mut answer = headers(&[
            ("strict-transport-security", "max-age=1"),
            ("alt-svc", "h3=\":443\""),
            ("clear-site-data", "\"cookies\""),
            ("service-worker-allowed", "/"),
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("trailer", "x-checksum"),
            ("content-type", "text/html"),
            ("set-cookie", "a=1"),
            ("set-cookie", " __Host-tidegate=another; Path=/; Secure"),
            ("set-cookie", "tidegate=; Max-Age=0"),
            ("set-cookie", "b=tidegate"),
        ]);
        to_client(&mut answer);
        let cookies = [("set-cookie", "a=1"), ("set-cookie", "b=tidegate")];
        let expected = [&[("trailer", "x-checksum"), ("content-type", "text/html")][..], &cookies].concat();
        assert_eq!(answer, headers(&expected));
    }
}
