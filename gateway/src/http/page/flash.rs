//! A word after a redirect: "Edge shop deleted". It travels in a cookie of its own for one page and is never kept here.
//!
//! The rule: it is text like any other that comes from a browser, and nothing is decided by it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// Whoever plants one makes a page say a sentence, so the name needs none of the protection that a session's has.
const NAME: &str = "tidegate-flash";
/// From the redirect to the page, over the worst line.
const LIFE_S: u32 = 60;
/// Longest text, in bytes: a sentence or two.
const MAX_TEXT: usize = 1024;

/// What a page says on top, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flash(pub String);

impl Flash {
    /// The one that the browser brings.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let text =
            URL_SAFE_NO_PAD.decode(cookie(headers, NAME)?).ok().filter(|text| text.len() <= MAX_TEXT)?;
        String::from_utf8(text).ok().filter(|text| !text.is_empty()).map(Self)
    }

    /// For `set-cookie`.
    pub fn set(&self) -> HeaderValue {
        header(&URL_SAFE_NO_PAD.encode(&self.0), LIFE_S)
    }

    /// For `set-cookie`: it was said.
    pub fn clear() -> HeaderValue {
        header("", 0)
    }
}

fn header(value: &str, life_s: u32) -> HeaderValue {
    let cookie = format_args!("{NAME}={value}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict");
    as_header(cookie)
}

fn as_header(text: impl fmt::Display) -> HeaderValue {
    HeaderValue::try_from(text.to_string()).expect("base64 and our own words have no control character")
}

/// The value of the first cookie of this name (RFC 6265, section 5.4).
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_back_whatever_the_text() {
        for text in ["Edge shop deleted.", "grün; a=b\r\nset-cookie: x", "<script>"] {
            let flash = Flash(text.to_owned());
            let set = flash.set();
            let pair = set.to_str().expect("ASCII").split(';').next().expect("a pair").to_owned();
            let mut headers = HeaderMap::new();
            headers.append(COOKIE, HeaderValue::from_static("other=1"));
            headers.append(COOKIE, HeaderValue::try_from(format!("a=b; {pair}")).expect("ASCII"));
            assert_eq!(Flash::of(&headers), Some(flash));
        }
    }

    #[test]
    fn what_is_no_flash_is_none() {
        for value in ["", "!", "_w", &"A".repeat(2 * MAX_TEXT)] {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::try_from(format!("{NAME}={value}")).expect("ASCII"));
            assert_eq!(Flash::of(&headers), None, "{value}");
        }
    }
}
