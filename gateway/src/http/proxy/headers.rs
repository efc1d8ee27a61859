//! What of a message's head passes the proxy, in either direction.
//!
//! The rules: headers that are about one connection end there (RFC 9110 §7.6.1). What authenticates the operator to the
//! gateway never reaches a service. What a service says must not speak for the gateway's other pages.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ALT_SVC, AUTHORIZATION, CONNECTION,
    CONTENT_LENGTH, CONTENT_SECURITY_POLICY, COOKIE, FORWARDED, HOST, LOCATION, ORIGIN, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, REFERER, REFERRER_POLICY, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, Uri};
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
/// Headers by which a service would speak for more than its answer: for the whole origin, which is the gateway's and
/// other services' as well, for every port of the host, for the domain around it.
const ORIGIN_WIDE: [HeaderName; 7] = [
    ALT_SVC,
    STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("service-worker-allowed"),
    // Reports of every other page of the origin, sent to where the service says.
    HeaderName::from_static("nel"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("reporting-endpoints"),
];
/// What the pages of a service may do on the gateway's own origin: they run, as an origin that nothing else has (no
/// `allow-same-origin`), so that the gateway's cookie and pages are a stranger's to them.
pub const SANDBOX: &str = "sandbox allow-scripts allow-forms allow-popups allow-popups-to-escape-sandbox allow-downloads allow-modals";
/// What the gateway's own tokens and cookies begin with.
const OUR_TOKEN: &str = "Bearer tg";
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
    pub prefix: Option<HeaderValue>,
    /// What the service gets as `host`.
    pub host: HeaderValue,
    /// What may pass.
    pub way: Way,
}

/// By which way a request came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A program, with an API token in `authorization`.
    Api,
    /// A browser on an origin that is the service's alone. What authenticates there is the service's, but for our cookie.
    OwnOrigin,
    /// A browser on the gateway's origin, in a sandbox below this path.
    Sandbox {
        /// Without a slash at its end.
        base: String,
    },
}

impl Way {
    /// As the audit log calls it.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Api => "service.proxy",
            Self::OwnOrigin | Self::Sandbox { .. } => "service.browse",
        }
    }
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
    OTHER_FORWARDED.iter().for_each(|name| drop(headers.remove(name)));
    match &forwarded.way {
        Way::Api => {
            headers.remove(AUTHORIZATION);
            keep_foreign_cookies(headers);
        }
        Way::OwnOrigin => {
            remove_our_token(headers);
            keep_foreign_cookies(headers);
            keep_origin_beside_host(headers, &forwarded.host);
        }
        Way::Sandbox { .. } => {
            remove_our_token(headers);
            // They are the gateway's, and of whatever else there is on its host.
            headers.remove(COOKIE);
            // It has the secret of the path.
            headers.remove(REFERER);
            keep_origin_beside_host(headers, &forwarded.host);
        }
    }
    let proto = HeaderValue::from_static(if forwarded.peer.secure { "https" } else { "http" });
    let address = HeaderValue::try_from(forwarded.peer.address.ip().to_canonical().to_string())
        .expect("the text of an address has no character that a header could not have");
    headers.insert(X_FORWARDED_FOR, address);
    headers.insert(X_FORWARDED_PROTO, proto);
    headers.remove(X_FORWARDED_PREFIX);
    if let Some(prefix) = &forwarded.prefix {
        headers.insert(X_FORWARDED_PREFIX, prefix.clone());
    }
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

/// Makes the headers of an answer to what was `forwarded` ready for the client.
pub fn to_client(headers: &mut HeaderMap, forwarded: &Forwarded) {
    strip(headers);
    ORIGIN_WIDE.iter().for_each(|name| drop(headers.remove(name)));
    match &forwarded.way {
        Way::Api => tame_cookies(headers),
        Way::OwnOrigin => {
            tame_cookies(headers);
            keep_redirect_below("", headers, &forwarded.host);
        }
        Way::Sandbox { base } => {
            headers.remove(SET_COOKIE);
            keep_redirect_below(base, headers, &forwarded.host);
            headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
            headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
            // The sandbox's origin is `null`, also for the service's own scripts. Whoever knows the path may read it.
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("null"));
            headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        }
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

/// Browsers tell names by case and the prefixes of names without it; so we tell ours without it.
fn is_ours(pair: &[u8]) -> bool {
    COOKIE_PREFIXES.iter().any(|prefix| {
        pair.get(..prefix.len()).is_some_and(|name| name.eq_ignore_ascii_case(prefix.as_bytes()))
    })
}

/// A service sets cookies of its own, for its own host. `Domain=` would send them to the hosts beside it too.
fn tame_cookies(headers: &mut HeaderMap) {
    let tamed: Vec<_> = headers.get_all(SET_COOKIE).iter().filter_map(tamed).collect();
    headers.remove(SET_COOKIE);
    for cookie in tamed {
        headers.append(SET_COOKIE, cookie);
    }
}

/// The cookie without its domain; `None` for one with a name of ours, or with none: browsers send a nameless
/// `=tidegate_session=x` as if it had the name (RFC 6265bis §5.8.3).
fn tamed(cookie: &HeaderValue) -> Option<HeaderValue> {
    let mut parts = cookie.as_bytes().split(|byte| *byte == b';');
    let pair = parts.next()?;
    let name = pair.split(|byte| *byte == b'=').next().filter(|name| name.len() < pair.len())?.trim_ascii();
    if name.is_empty() || is_ours(name) {
        return None;
    }
    let attribute = |part: &&[u8]| {
        let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
        !name.trim_ascii().eq_ignore_ascii_case(b"domain")
    };
    let kept: Vec<_> = std::iter::once(pair).chain(parts.filter(attribute)).collect();
    HeaderValue::from_bytes(&kept.join(&b';')).ok()
}

/// Where a browser's client brought a token of the gateway's to a service's page, it goes no further.
fn remove_our_token(headers: &mut HeaderMap) {
    let is_ours = |value: &HeaderValue| {
        let start = value.as_bytes().get(..OUR_TOKEN.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(OUR_TOKEN.as_bytes()))
    };
    if headers.get_all(AUTHORIZATION).iter().any(is_ours) {
        headers.remove(AUTHORIZATION);
    }
}

/// What comes from the service's own page is of its own origin, by the name that it knows. That it does come from there
/// was checked before.
fn keep_origin_beside_host(headers: &mut HeaderMap, host: &HeaderValue) {
    if headers.contains_key(ORIGIN)
        && let Ok(origin) = HeaderValue::from_bytes(&[b"http://", host.as_bytes()].concat())
    {
        headers.insert(ORIGIN, origin);
    }
}

/// A redirect to the address that the service knows itself by, or to a path, goes to where the browser sees it.
fn keep_redirect_below(base: &str, headers: &mut HeaderMap, host: &HeaderValue) {
    let Some(location) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) else { return };
    let path = match location.parse::<Uri>().map(Uri::into_parts) {
        Ok(parts)
            if parts.authority.as_ref().map(Authority::as_str).map(str::as_bytes)
                == Some(host.as_bytes()) =>
        {
            // A fragment is no part of a `Uri`.
            let fragment = location.split_once('#').map(|(_, fragment)| format!("#{fragment}"));
            let path = parts.path_and_query.as_ref().map_or("/", |path| path.as_str());
            format!("{path}{}", fragment.unwrap_or_default())
        }
        Ok(_) | Err(_) if location.starts_with('/') && !location.starts_with("//") => location.to_owned(),
        Ok(_) | Err(_) => return,
    };
    // What was a path may not become another host.
    if path.starts_with("//") || path.starts_with("/\\") {
        return;
    }
    if let Ok(location) = HeaderValue::try_from(format!("{base}{path}")) {
        headers.insert(LOCATION, location);
    }
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
            prefix: Some(HeaderValue::from_static("/prefix")),
            host: HeaderValue::from_static("127.0.0.1:8080"),
            way: Way::Api,
        }
    }

    fn sandbox() -> Way {
        Way::Sandbox { base: "/s/secret".to_owned() }
    }

    fn sent(lines: &[(&'static str, &str)]) -> HeaderMap {
        sent_by(Way::Api, lines)
    }

    fn sent_by(way: Way, lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = headers(lines);
        let upgrade = upgrade(Version::HTTP_11, &headers);
        to_service(&mut headers, upgrade, &Forwarded { way, prefix: None, ..forwarded() });
        headers
    }

    fn answered_by(way: Way, lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a value"));
        }
        to_client(&mut headers, &Forwarded { way, prefix: None, ..forwarded() });
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
        let added = ["host", "x-forwarded-for", "x-forwarded-proto"];
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
        let mut prefixed = headers(&[("x-forwarded-prefix", "/evil")]);
        to_service(&mut prefixed, None, &forwarded());
        assert_eq!(prefixed["x-forwarded-prefix"], "/prefix");
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
    fn an_answer_speaks_for_its_own_page_only_by_every_way() {
        for way in [Way::Api, Way::OwnOrigin, sandbox()] {
            for (name, value) in [
                ("strict-transport-security", "max-age=1; includeSubDomains"),
                ("alt-svc", "h3=\":443\""),
                ("clear-site-data", "\"cookies\""),
                ("service-worker-allowed", "/"),
                ("nel", "{}"),
                ("report-to", "{}"),
                ("reporting-endpoints", "all=\"https://elsewhere.example\""),
                ("set-cookie", "tidegate_session=x"),
                ("set-cookie", "__Host-tidegate=x; Path=/; Secure"),
                ("set-cookie", "__host-TIDEGATE-visit=x"),
                ("set-cookie", " tidegate-visit =x"),
                ("set-cookie", "=tidegate_session=x"),
                ("set-cookie", "tidegate_session"),
                ("connection", "close"),
            ] {
                let answered = answered_by(way.clone(), &[(name, value)]);
                assert!(!answered.contains_key(name), "{name}: {value} by {way:?}");
            }
            let answered = answered_by(
                way,
                &[
                    ("connection", "close, x-private"),
                    ("x-private", "1"),
                    ("trailer", "x-sum"),
                    ("etag", "1"),
                ],
            );
            assert_eq!(
                (&answered["trailer"], &answered["etag"]),
                (&HeaderValue::from_static("x-sum"), &HeaderValue::from_static("1"))
            );
            assert!(!answered.contains_key("x-private"));
        }
    }

    #[test]
    fn a_service_sets_cookies_of_its_own_for_its_own_host() {
        for (given, left) in [
            ("a=1", Some("a=1")),
            ("a=b=c; Path=/x; HttpOnly", Some("a=b=c; Path=/x; HttpOnly")),
            ("a=1; Domain=example.com; Secure", Some("a=1; Secure")),
            ("a=1;DOMAIN = .example.com;domain=x", Some("a=1")),
            ("a=; domain", Some("a=")),
            ("domain=mine", Some("domain=mine")),
            ("mytidegate=1", Some("mytidegate=1")),
        ] {
            for way in [Way::Api, Way::OwnOrigin] {
                let answered = answered_by(way, &[("set-cookie", given), ("set-cookie", "tidegate=no")]);
                let all: Vec<_> = answered.get_all("set-cookie").iter().collect();
                assert_eq!(all, left.iter().collect::<Vec<_>>(), "{given}");
            }
            assert!(!answered_by(sandbox(), &[("set-cookie", given)]).contains_key("set-cookie"));
        }
    }

    #[test]
    fn in_a_sandbox_scripts_run_as_nobody() {
        let answered = answered_by(
            sandbox(),
            &[
                ("content-security-policy", "default-src *"),
                ("referrer-policy", "unsafe-url"),
                ("access-control-allow-origin", "https://elsewhere.example"),
                ("access-control-allow-credentials", "true"),
            ],
        );
        let policies: Vec<_> = answered.get_all("content-security-policy").iter().collect();
        assert_eq!(policies, ["default-src *", SANDBOX]);
        assert!(!SANDBOX.contains("same-origin") && !SANDBOX.contains("top-navigation"));
        assert_eq!(answered["referrer-policy"], "no-referrer");
        assert_eq!(answered["access-control-allow-origin"], "null");
        assert!(!answered.contains_key("access-control-allow-credentials"));
    }

    #[test]
    fn in_a_browser_a_services_own_login_passes_and_the_gateways_does_not() {
        for way in [Way::OwnOrigin, sandbox()] {
            for own in ["Basic eDp5", "Bearer eyJ0", "Digest x"] {
                assert_eq!(sent_by(way.clone(), &[("authorization", own)])["authorization"], own);
            }
            for ours in ["Bearer tga_secret", "bearer tgs_secret"] {
                assert!(!sent_by(way.clone(), &[("authorization", ours)]).contains_key("authorization"));
            }
            let sent = sent_by(way, &[("origin", "https://web--shop.svc.example.com")]);
            assert_eq!(sent["origin"], "http://127.0.0.1:8080");
        }
        let own =
            sent_by(Way::OwnOrigin, &[("cookie", "a=1; __Host-tidegate-visit=secret"), ("referer", "r")]);
        assert_eq!(
            (&own["cookie"], &own["referer"]),
            (&HeaderValue::from_static("a=1"), &HeaderValue::from_static("r"))
        );
        let sandboxed = sent_by(sandbox(), &[("cookie", "a=1"), ("referer", "https://gate/s/secret/")]);
        assert!(!sandboxed.contains_key("cookie") && !sandboxed.contains_key("referer"));
    }

    #[test]
    fn a_redirect_leads_to_where_the_browser_sees_the_service() {
        for (given, own, sandboxed) in [
            ("/login?next=%2F#top", "/login?next=%2F#top", "/s/secret/login?next=%2F#top"),
            ("http://127.0.0.1:8080/login#x", "/login#x", "/s/secret/login#x"),
            ("http://127.0.0.1:8080", "/", "/s/secret/"),
            ("next/page", "next/page", "next/page"),
            ("?page=2", "?page=2", "?page=2"),
            ("http://127.0.0.1:9090/", "http://127.0.0.1:9090/", "http://127.0.0.1:9090/"),
            ("https://login.example.com/", "https://login.example.com/", "https://login.example.com/"),
            ("//elsewhere.example/", "//elsewhere.example/", "//elsewhere.example/"),
            (
                "http://127.0.0.1:8080//elsewhere.example/",
                "http://127.0.0.1:8080//elsewhere.example/",
                "http://127.0.0.1:8080//elsewhere.example/",
            ),
        ] {
            assert_eq!(answered_by(Way::Api, &[("location", given)])["location"], given);
            assert_eq!(answered_by(Way::OwnOrigin, &[("location", given)])["location"], own, "{given}");
            assert_eq!(answered_by(sandbox(), &[("location", given)])["location"], sandboxed, "{given}");
        }
    }
}
