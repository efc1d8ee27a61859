//! What a question says about being held: `prefer: wait=N` (RFC 7240). Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use shared::wire::check_in::{APPLIED_HEADER, HELD, PREFER_HEADER};

/// For how long the sender would wait for its answer. Of several such wishes the first counts (RFC 7240, 2); one that is no
/// number is none.
pub fn wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(PREFER_HEADER).into_iter().filter_map(|value| value.to_str().ok());
    let preferences = values.flat_map(|value| value.split(','));
    let mut waits = preferences.filter_map(|preference| {
        // What stands behind a semicolon are parameters, of which this preference has none.
        let (name, seconds) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then_some(seconds)
    });
    let seconds: u32 = waits.next()?.trim().trim_matches('"').parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// Says in an answer that questions are held here: the agent asks again at once.
pub fn applied(headers: &mut HeaderMap) {
    headers.insert(APPLIED_HEADER, HeaderValue::from_static(HELD));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_found_among_other_preferences_and_nonsense_is_none() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER_HEADER, HeaderValue::from_static(value));
            }
            wait(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(of(&["wait=50"]), Some(50));
        assert_eq!(of(&["respond-async, WAIT = \"7\"; x=y", "wait=9"]), Some(7));
        for none in ["", "wait", "wait=0", "wait=-1", "wait=1.5", "wait=99999999999", "waiting=5", "x;wait=5"]
        {
            assert_eq!(of(&[none]), None, "{none}");
        }
        assert_eq!(of(&[]), None);
    }
}
