//! What outsiders can send to either end, as targets: each takes any bytes and panics where a parser breaks a promise.
//!
//! Compiled with the feature `fuzz` only, which no program has. The same list is run by the fuzzer (folder `fuzz` of the
//! repository) and over its committed corpora by `cargo test`; those of the gateway and the agent stand beside their code.
//!
//! The rule: a target checks what callers rely on, such as that what was read is written as it was read. That nothing
//! panics and that memory is bounded, the fuzzer sees by itself.

use futures_util::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::envelope::{self, Credentials};
use crate::host_port::HostPort;
use crate::id::{EdgeId, EdgeKey, EdgeName, OfferId, ServiceName, UserName};
use crate::join_token::{self, JoinToken};
use crate::terminal::{Style, Text, json, json_line};
use crate::tunnel::control::{self, ControlReader, FromAgent, ToAgent};
use crate::wire::check_in::{Answer, Authorization};
use crate::wire::problem::Problem;
use crate::{scrub, terminal, wire};

/// Something that takes bytes of an outsider.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the target, of its file in `fuzz/fuzz_targets` and of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Takes them.
    pub run: fn(&[u8]),
}

/// Makes a list of targets of functions, under their own names.
#[macro_export]
#[doc(hidden)]
macro_rules! fuzz_targets {
    ($($name:ident),* $(,)?) => {
        &[$($crate::fuzz::Target { name: stringify!($name), run: $name }),*]
    };
}

/// Those of this crate.
pub const TARGETS: &[Target] =
    fuzz_targets![check_in_answer, control_messages, credentials_envelope, join_token, names, shown_text];

/// A join token as it is pasted; and one whose checksum fits, so that what is inside is reached.
pub fn join_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for text in [text.to_owned(), join_token::sealed(bytes)] {
        match text.parse::<JoinToken>() {
            Ok(token) => assert_eq!(token.expose().parse(), Ok(token), "a token survives its text"),
            Err(error) => shown(&error.to_string()),
        }
    }
}

/// An envelope: nobody without the edge ID makes one that opens, and one that was altered never does.
pub fn credentials_envelope(bytes: &[u8]) {
    let Some((edge, rest)) = bytes.split_first_chunk() else { return };
    let Some(([position, flip], rest)) = rest.split_first_chunk() else { return };
    let (edge, offer) = (EdgeId::from_bytes(*edge), OfferId::from_bytes([7; 16]));
    if let Ok(text) = std::str::from_utf8(rest) {
        assert!(envelope::open(text, &edge, &offer).is_err(), "nobody sealed this");
    }
    let text = String::from_utf8_lossy(rest);
    let (username, password) = text.split_once(':').unwrap_or(("tunnel", &text));
    let credentials = Credentials { username: username.to_owned(), password: password.into() };
    let sealed = envelope::seal_with(&credentials, &edge, &offer, [1; 16], [2; 12]);
    // What is longer than credentials of ours are is refused unread.
    if let Ok(opened) = envelope::open(&sealed, &edge, &offer) {
        assert_eq!((opened.username.as_str(), opened.password.expose().as_str()), (username, password));
    } else {
        assert!(sealed.len() > envelope::MAX_SEALED);
    }
    let mut altered = sealed.clone().into_bytes();
    let position = usize::from(*position) * altered.len() / 256;
    altered[position] ^= flip & 0x7f;
    if altered != sealed.as_bytes()
        && let Ok(altered) = String::from_utf8(altered)
    {
        assert!(envelope::open(&altered, &edge, &offer).is_err(), "an altered envelope opened");
    }
    assert!(
        envelope::open(&sealed, &edge, &OfferId::from_bytes([8; 16])).is_err(),
        "opened for another offer"
    );
}

/// Names, ids, keys and addresses as headers, URLs and command lines have them.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = text.parse::<EdgeName>() {
        assert_eq!(name.as_str(), text);
        assert!(text.parse::<ServiceName>().is_ok(), "both are DNS labels");
    }
    if let Ok(name) = text.parse::<UserName>() {
        assert!(name.to_string() == text && text.parse::<EdgeName>().is_ok());
    }
    if let Ok(id) = text.parse::<EdgeId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(key) = text.parse::<EdgeKey>() {
        assert_eq!(key.expose(), text, "a key has one way to be written");
    }
    if let Ok(address) = text.parse::<HostPort>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    if let Ok(authorization) = text.parse::<Authorization>() {
        assert_eq!(authorization.expose().parse(), Ok(authorization));
    }
    if let Some(time) = wire::parse_rfc3339(text) {
        let written = wire::rfc3339(time);
        assert_eq!(wire::parse_rfc3339(&written), Some(time), "{text} is written as {written}");
    }
}

/// What either end says on a tunnel's control channel.
pub fn control_messages(bytes: &[u8]) {
    fn read<M: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
        let mut reader = ControlReader::new(bytes);
        // Bytes are always there: no read waits.
        while let Some(Ok(Some(message))) = reader.read::<M>().now_or_never() {
            let mut written = Vec::new();
            control::write(&mut written, &message)
                .now_or_never()
                .expect("a Vec waits for nothing")
                .expect("room");
            let again = ControlReader::new(written.as_slice()).read::<M>().now_or_never();
            assert_eq!(again.expect("bytes wait for nothing").expect("just written"), Some(message));
        }
    }
    read::<ToAgent>(bytes);
    read::<FromAgent>(bytes);
}

/// What a gateway answers an agent.
pub fn check_in_answer(bytes: &[u8]) {
    survives::<Answer>(bytes);
    survives::<Problem>(bytes);
}

/// Text of others on its way to a terminal, and out of a site.
pub fn shown_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    shown(&Text::lines(&text).render(false));
    shown(&Text::line(Style::Bad, &text).render(false));
    shown(&terminal::escape(&text));
    let json = [json(&text).expect("a string"), json_line(&text).expect("a string")];
    for json in json {
        shown(&json);
        assert_eq!(serde_json::from_str::<String>(&json).expect("still JSON"), text);
    }
    let scrubbed = [scrub::text(&text), scrub::command(&text), scrub::value("LANG", &text)];
    for scrubbed in scrubbed {
        // What stands for a secret is never longer than four times what it hides.
        assert!(scrubbed.len() <= 4 * text.len() + 8, "{} bytes of {}", scrubbed.len(), text.len());
    }
    assert!(matches!(scrub::value("API_TOKEN", &text).as_str(), "" | scrub::HIDDEN));
}

/// JSON that is read is written so that it reads the same.
///
/// # Panics
///
/// Where it is not.
pub fn survives<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let written = serde_json::to_vec(&value).expect("what was read has no failing serializer");
        assert_eq!(serde_json::from_slice::<T>(&written).expect("just written"), value);
    }
}

/// Holds that a terminal does nothing at this text.
fn shown(text: &str) {
    let acts = |c: char| c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c));
    assert!(!text.chars().any(acts), "{text:?}");
}
