//! The cookie of a browser that signed in (RFC 6265bis).
//!
//! The rule: over TLS it has a name that browsers take from the very host over TLS only (`__Host-`), so that nobody else,
//! a neighbouring host or somebody on the network, can plant one. No script sees it, and no other site's page sends it.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::peer::Peer;
use crate::access::{NewSession, SESSION_LIFE};

/// Name over TLS.
pub const SECURE_NAME: &str = "__Host-tidegate";
/// Name over plain HTTP, where it is taken at all: from the gateway's own machine, and where an operator allows it.
const PLAIN_NAME: &str = "tidegate";

/// The session's secret that a request shows, if it shows exactly one.
pub fn session_of(headers: &HeaderMap, peer: Peer) -> Option<&str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(name, _)| *name == name_for(peer)).map(|(_, value)| value);
    // Two of one name came from two places, and one of them is not us.
    ours.next().filter(|_| ours.next().is_none())
}

/// `set-cookie` for a browser that has signed in.
pub fn begin(session: &NewSession, peer: Peer) -> HeaderValue {
    set(session.cookie.expose(), SESSION_LIFE.as_secs(), peer)
}

/// `set-cookie` for a browser that has signed out.
pub fn end(peer: Peer) -> HeaderValue {
    set("", 0, peer)
}

fn set(value: &str, max_age_s: u64, peer: Peer) -> HeaderValue {
    let secure = if peer.secure { "; Secure" } else { "" };
    let name = name_for(peer);
    let text = format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}");
    let mut header = HeaderValue::try_from(text).expect("names and base64url have no character to forbid");
    header.set_sensitive(true);
    header
}

fn name_for(peer: Peer) -> &'static str {
    if peer.secure { SECURE_NAME } else { PLAIN_NAME }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(secure: bool) -> Peer {
        Peer { address: ([192, 0, 2, 1], 5).into(), secure }
    }

    #[test]
    fn a_session_is_read_from_the_cookie_of_its_kind_of_connection_if_there_is_one_only() {
        let shown = |lines: &[&'static str], secure| {
            let lines = lines.iter().map(|line| (COOKIE, HeaderValue::from_static(line)));
            session_of(&lines.collect(), peer(secure)).map(str::to_owned)
        };
        assert_eq!(shown(&["a=b; __Host-tidegate=x"], true), Some("x".into()));
        assert_eq!(shown(&["a=b", "__Host-tidegate=x; c=d"], true), Some("x".into()));
        assert_eq!(shown(&["tidegate=x"], false), Some("x".into()));
        assert_eq!(shown(&["tidegate=x"], true), None, "anybody on the network could have planted it");
        assert_eq!(shown(&["__Host-tidegate=x"], false), None);
        assert_eq!(shown(&["__Host-tidegate=x; __Host-tidegate=y"], true), None);
        assert_eq!(shown(&["__Host-tidegate=x", "__Host-tidegate=x"], true), None);
        assert_eq!(shown(&[], true), None);
    }

    #[test]
    fn the_cookie_is_for_this_host_and_for_no_script() {
        assert_eq!(
            set("x", 60, peer(true)),
            "__Host-tidegate=x; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(end(peer(false)), "tidegate=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    }
}
