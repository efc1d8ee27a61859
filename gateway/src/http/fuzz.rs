//! What port 9000 parses of strangers, agents, browsers and services, as targets for the fuzzer ([`crate::fuzz`]).
//!
//! What HTTP itself is, hyper parses. Here a head is lines of `name: value`, as many of them as there are.

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use shared::wire::admin::EdgeSort;
use shared::wire::check_in::{Authorization, CheckIn};
use shared::wire::snapshot::Snapshot;

use super::admin::edges::ListQuery;
use super::browse::label::label_of;
use super::browse::without_pass;
use super::docker::frames;
use super::origin::{self, OwnOrigin};
use super::paging::ByAge;
use super::peer::{Arrival, Peer};
use super::proxy::headers::{self, Forwarded, Way};
use super::{check_in, conditional, cookie, listener, snapshot};
use crate::domain::difference;
use crate::domain::list::Cursor;

/// A check-in: its head, an empty line, its body.
pub fn check_in(bytes: &[u8]) {
    let (head, body) = head_and_body(bytes);
    if let Ok(identity) = check_in::identity(&head) {
        let shown = identity.authorization.expose();
        assert_eq!(shown.parse::<Authorization>(), Ok(identity.authorization));
    }
    if let Some(wait) = check_in::prefer::wait(&head) {
        assert!(!wait.is_zero() && wait.as_secs() <= u32::MAX.into());
    }
    for body in [body, bytes] {
        let Ok(report) = check_in::parse(body) else { continue };
        let written = serde_json::to_vec(&report).expect("a report has no failing serializer");
        assert_eq!(check_in::parse(&written).expect("just written"), report);
        let CheckIn { hello, failed } = report;
        let hello = hello.iter().flat_map(|hello| [&hello.agent, &hello.hostname]);
        let texts = hello.chain(failed.iter().map(|failed| &failed.reason));
        assert!(
            texts.into_iter().all(|text| !text.chars().any(char::is_control)),
            "nothing acts on a terminal"
        );
    }
}

/// What proxies, browsers and other pages say of who sent a request and where to.
pub fn browser_hosts(bytes: &[u8]) {
    let (head, rest) = head_and_body(bytes);
    let proxy = Peer { address: ([10, 0, 0, 1], 5).into(), secure: false };
    let peer = listener::forwarded(proxy, &head);
    if !head.contains_key("x-forwarded-for") {
        assert_eq!(peer.address, proxy.address, "nobody named another client");
    }
    for secure in [true, false] {
        let peer = Peer { secure, ..peer };
        if let Some(session) = cookie::session_of(&head, peer) {
            assert!(!session.contains(';'));
        }
        let arrival = "gate.example.com:9000".parse().expect("an authority");
        let own = OwnOrigin { secure, arrival: &arrival, public_url: Some("https://gate.example.com") };
        assert!(!(origin::is_ours(&head, own) && origin::is_anothers(&head, own)), "ours or another's");
    }
    let text = String::from_utf8_lossy(rest);
    if let Some(label) = label_of(&text, "svc.example.com") {
        assert!(!label.contains('.') && text.len() > label.len());
    }
    let shown = without_pass(&text);
    assert_eq!(without_pass(&shown), shown, "what is taken out is out");
    if let Ok(uri) = text.parse() {
        if let Ok(arrival) = Arrival::of(&uri, &head) {
            assert!(!arrival.0.as_str().contains('@'), "no name of a user in an address");
        }
        let _ = conditional::condition(&head);
    }
}

/// A request on its way to a service.
pub fn proxied_request(bytes: &[u8]) {
    let (head, _) = head_and_body(bytes);
    for way in ways() {
        let (mut passed, forwarded) = (head.clone(), forwarded(way.clone()));
        headers::to_service(&mut passed, headers::upgrade(Version::HTTP_11, &head), &forwarded);
        is_of_one_connection(&head, &passed);
        let only = |name: &str| {
            let mut values = passed.get_all(name).into_iter();
            values.next().filter(|_| values.next().is_none()).cloned()
        };
        assert_eq!(only("x-forwarded-for"), Some(HeaderValue::from_static("192.0.2.7")));
        assert_eq!(only("host"), Some(forwarded.host));
        assert!(!passed.contains_key("forwarded") && !passed.contains_key("x-real-ip"));
        let secret = |value: &HeaderValue| value.as_bytes().starts_with(b"Bearer tg");
        assert!(!passed.get_all(AUTHORIZATION).iter().any(secret), "a token of ours passes");
        let pairs =
            passed.get_all(COOKIE).into_iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        assert!(!pairs.into_iter().any(is_our_cookie), "a cookie of ours passes");
        if way == Way::Api {
            assert!(!passed.contains_key(AUTHORIZATION));
        }
    }
}

/// A service's answer on its way to whoever asked.
pub fn proxied_answer(bytes: &[u8]) {
    let (head, _) = head_and_body(bytes);
    for way in ways() {
        let (mut passed, sandboxed) = (head.clone(), matches!(way, Way::Sandbox { .. }));
        headers::to_client(&mut passed, &forwarded(way));
        is_of_one_connection(&head, &passed);
        for name in
            ["clear-site-data", "strict-transport-security", "alt-svc", "service-worker-allowed", "nel"]
        {
            assert!(!passed.contains_key(name), "{name} speaks for more than an answer");
        }
        for cookie in passed.get_all(SET_COOKIE) {
            assert!(!sandboxed && !is_our_cookie(cookie.as_bytes()), "{cookie:?}");
            let mut parts = cookie.as_bytes().split(|byte| *byte == b';').skip(1);
            assert!(
                !parts.any(|part| part.trim_ascii().to_ascii_lowercase().starts_with(b"domain=")),
                "{cookie:?}"
            );
        }
        if sandboxed {
            let policies = passed.get_all("content-security-policy");
            assert!(policies.iter().any(|policy| policy == headers::SANDBOX), "no sandbox");
        }
    }
}

/// An agent's snapshot: gzip as it is sent, and the JSON in it.
pub fn site_snapshot(bytes: &[u8]) {
    let _ = snapshot::unpack_now(bytes);
    let Ok(read) = serde_json::from_slice::<Snapshot>(bytes) else { return };
    let written = serde_json::to_vec(&read).expect("what was read has no failing serializer");
    serde_json::from_slice::<Snapshot>(&written).expect("just written");
    assert!(difference::between(&read, &read).is_empty(), "nothing changed");
    assert!(difference::between(&Snapshot::default(), &read).len() <= difference::MOST);
}

/// A container's log as an engine sends it: however it is cut, the lines are the same.
pub fn engine_log(bytes: &[u8]) {
    let Some(([flags, size], log)) = bytes.split_first_chunk() else { return };
    let read = |pieces: std::slice::Chunks<'_, u8>| {
        let (mut decoder, mut lines) = (frames::Decoder::new(flags & 1 == 1), Vec::new());
        let mut fed = pieces.map(|piece| decoder.feed(piece, &mut lines));
        let whole = fed.all(|fed| fed.is_ok());
        drop(fed);
        decoder.finish(&mut lines);
        (whole, lines)
    };
    let (whole, lines) = read(log.chunks(log.len().max(1)));
    let (in_pieces, same) = read(log.chunks(usize::from(*size).max(1)));
    assert_eq!((whole, &lines), (in_pieces, &same), "where it is cut changes nothing");
    // Each byte that is no UTF-8 is shown by three.
    assert!(lines.iter().all(|line| line.text.len() <= 3 * frames::MAX_LINE), "a line has its bound");
}

/// Queries of lists, cursors of pages, etags.
pub fn list_queries(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = ListQuery::read(text);
    for sort in EdgeSort::ALL {
        if let Some(cursor) = Cursor::parse(text, sort) {
            assert_eq!(Cursor::parse(&cursor.to_string(), sort), Some(cursor), "a cursor survives its text");
        }
    }
    if let Ok(position) = text.parse::<ByAge>() {
        assert_eq!(position.to_string().parse(), Ok(position));
    }
}

/// Lines up to an empty one, as a head; what follows.
fn head_and_body(bytes: &[u8]) -> (HeaderMap, &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.map_or((bytes, &[][..]), |end| (&bytes[..end], &bytes[end + 2..]));
    let fields = head.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    });
    (fields.take(super::listener::MAX_HEADERS).collect(), body)
}

fn ways() -> [Way; 3] {
    [Way::Api, Way::OwnOrigin, Way::Sandbox { base: "/s/secret".to_owned() }]
}

fn forwarded(way: Way) -> Forwarded {
    Forwarded {
        peer: Peer { address: ([192, 0, 2, 7], 5).into(), secure: true },
        prefix: None,
        host: HeaderValue::from_static("127.0.0.1:8080"),
        way,
    }
}

/// Holds that what is about one connection ends there.
fn is_of_one_connection(before: &HeaderMap, passed: &HeaderMap) {
    for name in ["keep-alive", "proxy-authorization", "proxy-authenticate", "proxy-connection"] {
        assert!(!passed.contains_key(name), "{name} is about one connection");
    }
    assert!(!passed.contains_key(TRANSFER_ENCODING) && passed.get_all(CONNECTION).iter().count() <= 1);
    if before.contains_key(TRANSFER_ENCODING) {
        assert!(!passed.contains_key(CONTENT_LENGTH), "a length beside a transfer coding");
    }
}

/// By the names alone, whatever their case.
fn is_our_cookie(pair: &[u8]) -> bool {
    let name = pair.trim_ascii().to_ascii_lowercase();
    [&b"tidegate"[..], b"__host-tidegate", b"__secure-tidegate"].iter().any(|ours| name.starts_with(ours))
}
