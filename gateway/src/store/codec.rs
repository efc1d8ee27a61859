//! How durable records look in a database: keys with a prefix and a version, values that begin with a version byte.
//!
//! The rule: what is written here is read by every later release. The structs below are the format, separate from the
//! domain's types so that those can change; a new shape of a record gets a new version byte beside the old one, never
//! another meaning of an old one.
//!
//! | key | value |
//! | --- | --- |
//! | `format` | number of the format of the whole database, in ASCII ([`super::upgrade`]) |
//! | `release` | version of the release that opened it last, in ASCII |
//! | `edge/1/` ‖ 16 bytes of the endpoint id | 1 ‖ JSON of [`EdgeV1`], or 2 ‖ JSON of [`EdgeV2`] where it has a stock key |
//! | `seen/1/` ‖ 16 bytes of the endpoint id | 1 ‖ milliseconds since 1970, 8 bytes big-endian |
//! | `settings/1/` | 1 ‖ JSON of [`SettingsV1`] |
//! | `user/1/` ‖ 16 bytes of the user's id | 1 ‖ JSON of `people::UserV1` |
//! | `session/1/` ‖ 16 bytes of the session's id | 1 ‖ JSON of `people::SessionV1` |
//! | `token/1/` ‖ 16 bytes of the token's id | 1 ‖ JSON of `people::TokenV1`, or 2 ‖ JSON of `people::TokenV2` where it does not allow everything |
//! | `ssh-key/1/` ‖ 16 bytes of the key's id | 1 ‖ JSON of `people::SshKeyV1`, or 2 ‖ JSON of `people::SshKeyV2` where it is a user's |

mod people;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::fingerprint::HostKeyFingerprint;
use shared::id::{EdgeId, EdgeName, EndpointId, KeyDigest, ServiceName};
use uuid::Uuid;

use super::StoreError;
use crate::domain::edge::{Change, EdgeRecord, Records, Settings, StockKey, Timestamp};

/// Where a database says its format.
pub(super) const FORMAT_KEY: &[u8] = b"format";
/// Where a database says which release opened it last.
pub(super) const RELEASE_KEY: &[u8] = b"release";

/// Longest value of ours. sled keeps up to 17 values in a page and writes pages over 128 KiB to files that it never
/// syncs; 17 × 5 KiB stay below that with room for keys and for a page that is about to be split.
pub(super) const MAX_VALUE: usize = 5 * 1024;

const EDGE: &[u8] = b"edge/1/";
const SEEN: &[u8] = b"seen/1/";
const SETTINGS: &[u8] = b"settings/1/";
const USER: &[u8] = b"user/1/";
const SESSION: &[u8] = b"session/1/";
const TOKEN: &[u8] = b"token/1/";
const SSH_KEY: &[u8] = b"ssh-key/1/";

/// Version byte of a record's first shape.
const V1: u8 = 1;
/// Version byte of a record that has more than the first shape holds.
const V2: u8 = 2;

/// A record that can't be read, by its key.
#[derive(Debug, thiserror::Error)]
#[error("record {key} can't be read: {reason}")]
pub(crate) struct RecordError {
    key: String,
    reason: String,
}

/// One write to the database: a value to put, or `None` to remove the key.
pub(super) type Write = (Vec<u8>, Option<Vec<u8>>);

/// What a change writes. Fails for a record that is too long to be kept safely.
pub(super) fn writes(change: &Change) -> Result<Vec<Write>, StoreError> {
    Ok(match change {
        Change::PutEdge(edge) => vec![put(key(EDGE, edge.endpoint.as_bytes()), edge_value(edge))?],
        Change::DeleteEdge(endpoint) => {
            vec![(key(EDGE, endpoint.as_bytes()), None), (key(SEEN, endpoint.as_bytes()), None)]
        }
        Change::PutSettings(settings) => vec![put(SETTINGS.to_vec(), json(V1, &SettingsV1::from(settings)))?],
        Change::PutUser(user) => vec![put(key(USER, user.id.as_bytes()), people::user_value(user))?],
        Change::DeleteUser(id) => vec![(key(USER, id.as_bytes()), None)],
        Change::PutSession(session) => {
            vec![put(key(SESSION, session.id.as_bytes()), people::session_value(session))?]
        }
        Change::DeleteSession(id) => vec![(key(SESSION, id.as_bytes()), None)],
        Change::PutToken(token) => vec![put(key(TOKEN, token.id.as_bytes()), people::token_value(token))?],
        Change::DeleteToken(id) => vec![(key(TOKEN, id.as_bytes()), None)],
        Change::PutSshKey(ssh_key) => {
            vec![put(key(SSH_KEY, ssh_key.id.as_bytes()), people::ssh_key_value(ssh_key))?]
        }
        Change::DeleteSshKey(id) => vec![(key(SSH_KEY, id.as_bytes()), None)],
    })
}

/// What noting a last-seen time writes.
pub(super) fn seen(endpoint: EndpointId, at: Timestamp) -> Write {
    let mut value = vec![V1];
    value.extend_from_slice(&at.0.to_be_bytes());
    (key(SEEN, endpoint.as_bytes()), Some(value))
}

/// All records as keys and values, in the same form as the database has them. For backups, and so without sessions: a
/// backup that is restored signs nobody in.
pub(crate) fn entries(
    records: &Records,
) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + '_ {
    let changes = records
        .edges
        .iter()
        .cloned()
        .map(Change::PutEdge)
        .chain(std::iter::once(Change::PutSettings(records.settings.clone())))
        .chain(records.users.iter().cloned().map(Change::PutUser))
        .chain(records.tokens.iter().cloned().map(Change::PutToken))
        .chain(records.ssh_keys.iter().cloned().map(Change::PutSshKey))
        .map(|change| writes(&change));
    let seen = records.last_seen.iter().map(|(endpoint, at)| Ok(vec![seen(*endpoint, *at)]));
    changes.chain(seen).flat_map(|writes| match writes {
        Ok(writes) => {
            writes.into_iter().filter_map(|(key, value)| value.map(|value| Ok((key, value)))).collect()
        }
        Err(error) => vec![Err(error)],
    })
}

/// Reads one record into `records`. Last-seen times may come before or after their edges.
pub(crate) fn read_into(records: &mut Records, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
    let fail = |reason: String| RecordError { key: shown(key), reason };
    if let Some(id) = key.strip_prefix(EDGE) {
        let endpoint = EndpointId::from_bytes(sixteen(id).map_err(fail)?);
        records.edges.push(edge_record(endpoint, value).map_err(fail)?);
    } else if let Some(id) = key.strip_prefix(SEEN) {
        let endpoint = EndpointId::from_bytes(sixteen(id).map_err(fail)?);
        let at = <[u8; 8]>::try_from(body(value).map_err(fail)?)
            .map_err(|_| fail("a time has 8 bytes".to_owned()))?;
        records.last_seen.push((endpoint, Timestamp(u64::from_be_bytes(at))));
    } else if key == SETTINGS {
        records.settings = from_json::<SettingsV1>(value).map_err(fail)?.into();
    } else if let Some(id) = key.strip_prefix(TOKEN) {
        let id = Uuid::from_bytes(sixteen(id).map_err(fail)?);
        records.tokens.push(people::token(id, value).map_err(fail)?);
    } else if let Some(id) = key.strip_prefix(SSH_KEY) {
        let id = Uuid::from_bytes(sixteen(id).map_err(fail)?);
        records.ssh_keys.push(people::ssh_key(id, value).map_err(fail)?);
    } else if let Some(id) = key.strip_prefix(USER) {
        let id = Uuid::from_bytes(sixteen(id).map_err(fail)?);
        records.users.push(people::user(id, value).map_err(fail)?);
    } else if let Some(id) = key.strip_prefix(SESSION) {
        let id = Uuid::from_bytes(sixteen(id).map_err(fail)?);
        records.sessions.push(people::session(id, value).map_err(fail)?);
    } else {
        return Err(fail("this version of tidegate knows no such record".to_owned()));
    }
    Ok(())
}

/// In the oldest shape that holds it, so that an older release reads what it can know.
fn edge_value(edge: &EdgeRecord) -> Vec<u8> {
    let first = EdgeV1::from(edge);
    match &edge.stock_key {
        None => json(V1, &first),
        Some(key) => json(V2, &EdgeV2 { edge: first, stock_key: key.into() }),
    }
}

fn edge_record(endpoint: EndpointId, value: &[u8]) -> Result<EdgeRecord, String> {
    let Some(body) = body_of(V2, value) else {
        return from_json::<EdgeV1>(value)?.into_record(endpoint);
    };
    let EdgeV2 { edge, stock_key } = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    Ok(EdgeRecord { stock_key: Some(stock_key.into()), ..edge.into_record(endpoint)? })
}

/// Keys of an edge's records, for the sweep that removes what deleted edges left behind.
pub(super) fn seen_key(endpoint: EndpointId) -> Vec<u8> {
    key(SEEN, endpoint.as_bytes())
}

/// An edge as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EdgeV1 {
    name: EdgeName,
    /// base64url.
    key: String,
    bound: Option<EdgeId>,
    cluster: bool,
    interval_ms: Option<u64>,
    idle_timeout_ms: Option<u64>,
    tags: Vec<String>,
    created_at: u64,
}

impl From<&EdgeRecord> for EdgeV1 {
    fn from(edge: &EdgeRecord) -> Self {
        Self {
            name: edge.name.clone(),
            key: encoded_digest(&edge.key),
            bound: edge.bound,
            cluster: edge.cluster,
            interval_ms: edge.interval.map(millis),
            idle_timeout_ms: edge.idle_timeout.map(millis),
            tags: edge.tags.clone(),
            created_at: edge.created_at.0,
        }
    }
}

impl EdgeV1 {
    fn into_record(self, endpoint: EndpointId) -> Result<EdgeRecord, String> {
        Ok(EdgeRecord {
            endpoint,
            name: self.name,
            key: digest(&self.key)?,
            bound: self.bound,
            cluster: self.cluster,
            interval: self.interval_ms.map(Duration::from_millis),
            idle_timeout: self.idle_timeout_ms.map(Duration::from_millis),
            tags: self.tags,
            created_at: Timestamp(self.created_at),
            stock_key: None,
        })
    }
}

/// An edge with the key of a stock SSH client, as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EdgeV2 {
    edge: EdgeV1,
    stock_key: StockKeyV2,
}

/// The key of a stock SSH client as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StockKeyV2 {
    /// As `ssh-keygen -l` prints it.
    fingerprint: HostKeyFingerprint,
    services: Vec<ServiceName>,
    expires_at: u64,
}

impl From<&StockKey> for StockKeyV2 {
    fn from(key: &StockKey) -> Self {
        Self { fingerprint: key.fingerprint, services: key.services.clone(), expires_at: key.expires_at.0 }
    }
}

impl From<StockKeyV2> for StockKey {
    fn from(key: StockKeyV2) -> Self {
        Self { fingerprint: key.fingerprint, services: key.services, expires_at: Timestamp(key.expires_at) }
    }
}

/// Settings as they are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsV1 {
    interval_ms: u64,
    idle_timeout_ms: u64,
    hold_ms: u64,
    public_url: Option<String>,
    public_ssh: Option<String>,
    /// Not written where there is none, so that an older release reads what it can know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service_domain: Option<String>,
}

impl From<&Settings> for SettingsV1 {
    fn from(settings: &Settings) -> Self {
        Self {
            interval_ms: millis(settings.interval),
            idle_timeout_ms: millis(settings.idle_timeout),
            hold_ms: millis(settings.hold),
            public_url: settings.public_url.clone(),
            public_ssh: settings.public_ssh.clone(),
            service_domain: settings.service_domain.clone(),
        }
    }
}

impl From<SettingsV1> for Settings {
    fn from(settings: SettingsV1) -> Self {
        Self {
            interval: Duration::from_millis(settings.interval_ms),
            idle_timeout: Duration::from_millis(settings.idle_timeout_ms),
            hold: Duration::from_millis(settings.hold_ms),
            public_url: settings.public_url,
            public_ssh: settings.public_ssh,
            service_domain: settings.service_domain,
        }
    }
}

fn key(prefix: &[u8], id: &[u8; 16]) -> Vec<u8> {
    [prefix, id.as_slice()].concat()
}

fn put(key: Vec<u8>, value: Vec<u8>) -> Result<Write, StoreError> {
    if value.len() > MAX_VALUE {
        return Err(StoreError::Failed {
            doing: "encode a record",
            reason: format!(
                "record {} takes {} bytes and may take {MAX_VALUE}; shorten its tags or texts",
                shown(&key),
                value.len()
            ),
        });
    }
    Ok((key, Some(value)))
}

fn json<T: Serialize>(version: u8, record: &T) -> Vec<u8> {
    let mut value = vec![version];
    serde_json::to_writer(&mut value, record).expect(
        "strings, numbers and arrays of them have no failing serializer, and a Vec takes every write",
    );
    value
}

fn from_json<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body(value)?).map_err(|error| error.to_string())
}

/// What follows the version byte, if that is this one.
fn body_of(version: u8, value: &[u8]) -> Option<&[u8]> {
    value.split_first().filter(|(first, _)| **first == version).map(|(_, body)| body)
}

/// What follows the version byte of a first shape.
fn body(value: &[u8]) -> Result<&[u8], String> {
    match value.split_first() {
        Some((&V1, body)) => Ok(body),
        Some((version, _)) => Err(format!("it has version {version}, which this tidegate does not know")),
        None => Err("it is empty".to_owned()),
    }
}

fn sixteen(id: &[u8]) -> Result<[u8; 16], String> {
    id.try_into().map_err(|_| format!("its id has {} bytes instead of 16", id.len()))
}

fn encoded_digest(digest: &KeyDigest) -> String {
    URL_SAFE_NO_PAD.encode(digest.0)
}

fn digest(text: &str) -> Result<KeyDigest, String> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "its digest is no base64url".to_owned())?;
    let bytes = bytes.try_into().map_err(|_| "its digest has not 32 bytes".to_owned())?;
    Ok(KeyDigest(bytes))
}

/// Saturates: five hundred million years are as good as for ever.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A key for people.
fn shown(key: &[u8]) -> String {
    for prefix in [EDGE, SEEN, USER, SESSION, TOKEN, SSH_KEY] {
        if let Some(Ok(id)) = key.strip_prefix(prefix).map(Uuid::from_slice) {
            return format!("{}{id}", prefix.escape_ascii());
        }
    }
    key.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::people::SshKey;
    use crate::store::suite;

    fn edge() -> EdgeRecord {
        EdgeRecord {
            endpoint: EndpointId::from_bytes([b'/'; 16]),
            name: "shop-17".parse().expect("a label"),
            key: KeyDigest([9; 32]),
            bound: Some(EdgeId::from_bytes([5; 16])),
            cluster: true,
            interval: Some(Duration::from_millis(1500)),
            idle_timeout: None,
            tags: vec!["north".into()],
            created_at: Timestamp(1_700_000_000_000),
            stock_key: None,
        }
    }

    fn with_stock_key() -> EdgeRecord {
        let stock_key = StockKey {
            fingerprint: HostKeyFingerprint::from_bytes([6; 32]),
            services: vec!["web".parse().expect("a label")],
            expires_at: Timestamp(9),
        };
        EdgeRecord {
            endpoint: EndpointId::from_bytes([b'0'; 16]),
            name: "kiosk".parse().expect("a label"),
            bound: None,
            stock_key: Some(stock_key),
            ..edge()
        }
    }

    fn records() -> Records {
        Records {
            edges: vec![edge(), with_stock_key()],
            settings: Settings { public_url: Some("https://gate.example.com".into()), ..Settings::default() },
            users: vec![suite::user(1)],
            sessions: Vec::new(),
            tokens: vec![suite::token(1), suite::token_of(2, suite::user(1).id)],
            ssh_keys: vec![
                SshKey {
                    id: Uuid::from_bytes([3; 16]),
                    label: "Ada".into(),
                    key: "ssh-ed25519 AAAA".into(),
                    created_at: Timestamp(8),
                    owner: None,
                },
                SshKey { owner: Some(suite::user(1).id), ..suite::ssh_key(2) },
            ],
            last_seen: vec![(edge().endpoint, Timestamp(99))],
        }
    }

    #[test]
    fn records_survive_their_entries() {
        let mut read = Records::default();
        for entry in entries(&records()) {
            let (key, value) = entry.expect("short");
            read_into(&mut read, &key, &value).expect("just written");
        }
        assert_eq!(read, records());
    }

    #[test]
    fn a_session_survives_its_entry_and_is_in_no_backup() {
        let session = suite::session(1, suite::user(1).id);
        let records = Records { sessions: vec![session.clone()], ..Records::default() };
        assert_eq!(entries(&records).count(), 1, "the settings only");
        let writes = writes(&Change::PutSession(session)).expect("short");
        let [(key, Some(value))] = writes.as_slice() else { panic!("one put, got {writes:?}") };
        let mut read = Records::default();
        read_into(&mut read, key, value).expect("just written");
        assert_eq!(read, records);
    }

    /// The format on disk, held still: this very text was written by the first release.
    #[test]
    fn an_edge_is_written_as_ever() {
        let writes = writes(&Change::PutEdge(edge())).expect("short");
        let [(key, Some(value))] = writes.as_slice() else { panic!("one put, got {writes:?}") };
        assert_eq!(key.as_slice(), b"edge/1/////////////////");
        assert_eq!(
            str::from_utf8(value).expect("text"),
            "\u{1}{\"name\":\"shop-17\",\"key\":\"CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk\",\
             \"bound\":\"05050505-0505-0505-0505-050505050505\",\"cluster\":true,\"interval_ms\":1500,\
             \"idle_timeout_ms\":null,\"tags\":[\"north\"],\"created_at\":1700000000000}"
        );
    }

    #[test]
    fn an_edge_with_a_stock_key_is_written_as_ever() {
        let writes = writes(&Change::PutEdge(with_stock_key())).expect("short");
        let [(_, Some(value))] = writes.as_slice() else { panic!("one put, got {writes:?}") };
        assert_eq!(
            str::from_utf8(value).expect("text"),
            "\u{2}{\"edge\":{\"name\":\"kiosk\",\"key\":\"CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk\",\
             \"bound\":null,\"cluster\":true,\"interval_ms\":1500,\"idle_timeout_ms\":null,\"tags\":[\"north\"],\
             \"created_at\":1700000000000},\"stock_key\":{\
             \"fingerprint\":\"SHA256:BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY\",\"services\":[\"web\"],\
             \"expires_at\":9}}"
        );
    }

    #[test]
    fn an_ssh_key_is_written_as_ever() {
        let ssh_key = records().ssh_keys.remove(0);
        let writes = writes(&Change::PutSshKey(ssh_key)).expect("short");
        let [(key, Some(value))] = writes.as_slice() else { panic!("one put, got {writes:?}") };
        assert_eq!(
            key.as_slice(),
            b"ssh-key/1/\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03"
        );
        assert_eq!(
            str::from_utf8(value).expect("text"),
            "\u{1}{\"label\":\"Ada\",\"key\":\"ssh-ed25519 AAAA\",\"created_at\":8}"
        );
    }

    #[test]
    fn every_damage_is_an_error_that_names_the_key() {
        let records = records();
        let good = entries(&records).map(|entry| entry.expect("short"));
        for (key, value) in good {
            let name = shown(&key);
            for damaged in
                [vec![], vec![3], value[..value.len() - 1].to_vec(), [value.as_slice(), b"x"].concat()]
            {
                let error = read_into(&mut Records::default(), &key, &damaged).expect_err("damaged");
                assert!(error.to_string().contains(&name), "{error} does not name {name}");
            }
        }
        for key in [
            b"edge/1/short".as_slice(),
            b"token/1/",
            b"ssh-key/1/x",
            b"user/1/",
            b"session/1/x",
            b"edge/2/0123456789abcdef",
            b"",
            b"\xff\xff",
        ] {
            assert!(read_into(&mut Records::default(), key, b"\x01{}").is_err(), "{}", shown(key));
        }
    }

    #[test]
    fn keys_are_shown_with_their_ids() {
        assert_eq!(shown(&key(EDGE, &[b'/'; 16])), "edge/1/2f2f2f2f-2f2f-2f2f-2f2f-2f2f2f2f2f2f");
        assert_eq!(shown(b"settings/1/"), "settings/1/");
        assert_eq!(shown(b"edge/1/a\xff"), "edge/1/a\\xff");
    }

    #[test]
    fn a_record_that_is_too_long_for_a_page_is_refused() {
        let long = EdgeRecord { tags: vec!["x".repeat(MAX_VALUE)], ..edge() };
        let error = writes(&Change::PutEdge(long)).expect_err("too long");
        assert!(error.to_string().contains("edge/1/2f2f"), "{error}");
    }
}
