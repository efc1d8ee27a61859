//! `idempotency-key` on requests that make something (draft-ietf-httpapi-idempotency-key-header): whoever did not hear the
//! answer asks again with the same key, and gets the answer of the first time instead of a second edge.
//!
//! Answers are kept in memory only, since many of them show a secret that must not be on disk: for [`LIFE`], less after a
//! restart or where more than [`MAX_ANSWERS`] or [`MAX_BYTES`] are to be kept. A failure is not kept; asking again is then
//! what the client should do. Keys are each operator's own, and count while they may what they might: an answer that
//! shows a secret is not given again to a narrower token of the same user.
//!
//! The rule: of two requests with one key, the handler sees one at a time, and it finishes what it began also when its
//! client goes away, who is the very one that will come back.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::audited::Noted;
use super::body;
use super::operation::Header;
use super::problem::{Code, Problem, Result};
use crate::access::{Credential, Operator};
use crate::domain::authority::{Reach, Role};

/// The header of requests.
pub const KEY: &str = "idempotency-key";
/// The header of answers that were given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What the API's document says of [`KEY`].
pub const HEADER: Header = Header {
    name: KEY,
    what: "Any text of the client's choice, such as a UUID. The same request with the same key, within 24 hours and \
        without a restart of the gateway between, is answered as it was the first time, and makes nothing more.",
    required: false,
    pattern: "^[!-~]{1,255}$",
};

/// How long an answer is kept: a script that failed in the night is started again in the morning.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Most answers that are kept. When full, the oldest goes.
const MAX_ANSWERS: usize = 10_000;
/// Most bytes of answers that are kept: ten thousand edges with their join tokens, made a thousand at a time.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Largest answer that is kept. The largest there is, a thousand new edges, has less than one.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// Longest key, in bytes; a UUID has 36.
const MAX_KEY: usize = 255;
/// For a body of some tens of KiB, over the worst line.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The answers that are kept. Cheap to clone.
#[derive(Clone, Default)]
pub struct Memory {
    /// Never held across an await.
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    asked: HashMap<Key, Asked>,
    /// Keys of the answers, oldest first.
    kept: VecDeque<(Instant, Key)>,
    bytes: usize,
}

/// A key belongs to whoever uses it, with what they may: nobody gets an answer of somebody else's by guessing it, nor one
/// that they would not be given for the first time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    owner: Owner,
    role: Role,
    reach: Reach,
    text: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    User(Uuid),
    Credential(Credential),
}

/// SHA-256 of all that makes a request what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question([u8; 32]);

struct Asked {
    question: Question,
    /// `None` while the handler is at it.
    answer: Option<Kept>,
}

#[derive(Clone)]
struct Kept {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// What the audit log was told of it.
    noted: Noted,
}

/// What is to be done with a request.
enum Begun {
    First(Turn),
    Again(Kept),
    UnderWay,
    OfAnother,
}

/// The right to answer for a key. Without an answer in the end, the key is as if it had never been used.
struct Turn {
    memory: Memory,
    key: Key,
    answered: bool,
}

/// In front of handlers that make something. `limit` bounds the body.
pub async fn once(
    State((memory, limit)): State<(Memory, usize)>,
    request: Request,
    next: Next,
) -> Result<Response> {
    let Some(text) = key_of(request.headers())? else { return Ok(next.run(request).await) };
    let operator = request.extensions().get::<Operator>();
    let operator = operator.ok_or_else(|| Problem::internal("an operation of nobody takes keys"))?;
    let key = Key::of(operator, text);
    let (parts, body) = request.into_parts();
    let body = body::read(body, limit, BODY_TIME).await?;
    let question = Question::of(&parts, &body);
    match memory.begin(key, question, Instant::now()) {
        Begun::First(turn) => {
            let request = Request::from_parts(parts, Body::from(body));
            let answering = tokio::spawn(async move { turn.answer(next.run(request).await).await });
            answering.await.unwrap_or_else(|error| Err(Problem::internal(error)))
        }
        Begun::Again(kept) => Ok(kept.into_response()),
        Begun::UnderWay => {
            let detail = "a request with this idempotency-key is under way; ask again in a moment";
            Err(Problem::new(Code::IdempotencyKeyInUse, detail).retry_after_s(1))
        }
        Begun::OfAnother => {
            let detail =
                "this idempotency-key was used for another request; use a new one for each thing to be made";
            Err(Problem::new(Code::IdempotencyKeyReused, detail))
        }
    }
}

/// The key, with the quotes that the draft has or without, as many clients send it.
fn key_of(headers: &HeaderMap) -> Result<Option<Arc<str>>> {
    let Some(value) = headers.get(KEY) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if text.is_empty() || text.len() > MAX_KEY {
        let detail = format!("idempotency-key must be 1 to {MAX_KEY} characters of ASCII, such as a UUID");
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    Ok(Some(text.into()))
}

impl Key {
    fn of(operator: &Operator, text: Arc<str>) -> Self {
        let owner = operator.user.map_or(Owner::Credential(operator.credential), Owner::User);
        Self { owner, role: operator.role, reach: operator.reach.clone(), text }
    }
}

impl Question {
    fn of(parts: &http::request::Parts, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [parts.method.as_str(), &parts.uri.to_string()] {
            hash.update(part);
            // Neither has a line break, so no two questions are the same bytes.
            hash.update("\n");
        }
        hash.update(body);
        Self(hash.finalize().into())
    }
}

impl Memory {
    fn begin(&self, key: Key, question: Question, now: Instant) -> Begun {
        let mut inner = self.lock();
        inner.forget(now);
        match inner.asked.get(&key) {
            Some(asked) if asked.question != question => Begun::OfAnother,
            Some(Asked { answer: Some(kept), .. }) => Begun::Again(kept.clone()),
            Some(Asked { answer: None, .. }) => Begun::UnderWay,
            None => {
                inner.asked.insert(key.clone(), Asked { question, answer: None });
                Begun::First(Turn { memory: self.clone(), key, answered: false })
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Drops what is too old, and the oldest of what is too much.
    fn forget(&mut self, now: Instant) {
        while let Some((at, _)) = self.kept.front() {
            let too_old = now.saturating_duration_since(*at) >= LIFE;
            if !too_old && self.kept.len() <= MAX_ANSWERS && self.bytes <= MAX_BYTES {
                return;
            }
            let forgotten = self.kept.pop_front().and_then(|(_, key)| self.asked.remove(&key));
            self.bytes -= forgotten.and_then(|asked| asked.answer).map_or(0, |kept| kept.body.len());
        }
    }

    fn keep(&mut self, key: &Key, answer: Kept, now: Instant) {
        if let Some(asked) = self.asked.get_mut(key) {
            self.bytes += answer.body.len();
            asked.answer = Some(answer);
            self.kept.push_back((now, key.clone()));
        }
        self.forget(now);
    }
}

impl Turn {
    async fn answer(mut self, response: Response) -> Result<Response> {
        if !response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, MAX_ANSWER).await.map_err(Problem::internal)?;
        let noted = parts.extensions.get::<Noted>().cloned().unwrap_or_default();
        let kept = Kept { status: parts.status, headers: parts.headers.clone(), body: body.clone(), noted };
        self.memory.lock().keep(&self.key, kept, Instant::now());
        self.answered = true;
        Ok(Response::from_parts(parts, Body::from(body)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.answered {
            self.memory.lock().asked.remove(&self.key);
        }
    }
}

impl IntoResponse for Kept {
    fn into_response(self) -> Response {
        let Self { status, mut headers, body, noted } = self;
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        (status, Extension(noted.replayed()), headers, body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        let (role, reach) = (Role::Admin, Reach::all());
        Key { owner: Owner::User(Uuid::nil()), role, reach, text: text.into() }
    }

    fn kept(size: usize) -> Kept {
        let (headers, body) = (HeaderMap::new(), Bytes::from(vec![0; size]));
        Kept { status: StatusCode::CREATED, headers, body, noted: Noted::default() }
    }

    const QUESTION: Question = Question([1; 32]);

    fn ask(memory: &Memory, text: &str, now: Instant) -> Begun {
        memory.begin(key(text), QUESTION, now)
    }

    fn answered(memory: &Memory, text: &str, size: usize, now: Instant) {
        let Begun::First(mut turn) = ask(memory, text, now) else { panic!("{text} was used before") };
        memory.lock().keep(&turn.key, kept(size), now);
        turn.answered = true;
    }

    #[test]
    fn a_key_has_one_question_and_one_answer_for_a_day() {
        let (memory, now) = (Memory::default(), Instant::now());
        let Begun::First(turn) = ask(&memory, "k", now) else { panic!("nobody used it") };
        assert!(matches!(ask(&memory, "k", now), Begun::UnderWay));
        drop(turn);
        answered(&memory, "k", 5, now);
        assert!(matches!(ask(&memory, "k", now), Begun::Again(kept) if kept.body.len() == 5));
        assert!(matches!(memory.begin(key("k"), Question([2; 32]), now), Begun::OfAnother));
        let other = Key { owner: Owner::Credential(Credential::Token(Uuid::nil())), ..key("k") };
        assert!(matches!(memory.begin(other, QUESTION, now), Begun::First(_)), "somebody else's key");
        let narrower = [Key { role: Role::Viewer, ..key("k") }, Key { reach: Reach::tagged([]), ..key("k") }];
        for narrower in narrower {
            assert!(matches!(memory.begin(narrower, QUESTION, now), Begun::First(_)), "their narrower token");
        }
        assert!(matches!(ask(&memory, "k", now + LIFE), Begun::First(_)));
    }

    #[test]
    fn the_oldest_answers_go_when_there_are_too_many_or_they_are_too_large() {
        let (memory, now) = (Memory::default(), Instant::now());
        for number in 0..=MAX_ANSWERS {
            answered(&memory, &number.to_string(), 0, now);
        }
        assert!(matches!(ask(&memory, "0", now), Begun::First(_)));
        assert!(matches!(ask(&memory, "1", now), Begun::Again(_)));
        answered(&memory, "large", MAX_BYTES, now);
        assert!(matches!(ask(&memory, "large", now), Begun::Again(_)));
        answered(&memory, "one byte more", 1, now);
        assert!(matches!(ask(&memory, "large", now), Begun::First(_)));
        let inner = memory.lock();
        assert_eq!((inner.bytes, inner.kept.len()), (1, 1), "what is not there takes no room");
    }

    #[test]
    fn a_key_is_read_with_quotes_and_without() {
        let read = |value: &str| {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(KEY),
                value.parse().expect("a header value"),
            )]);
            key_of(&headers).map_err(|problem| problem.code())
        };
        assert_eq!(read("\"8e03\""), Ok(Some("8e03".into())));
        assert_eq!(read("8e03"), Ok(Some("8e03".into())));
        for bad in ["", "\"\"", &"x".repeat(MAX_KEY + 1)] {
            assert_eq!(read(bad), Err(Code::InvalidRequest), "{bad}");
        }
        assert_eq!(key_of(&HeaderMap::new()).ok(), Some(None));
    }
}
