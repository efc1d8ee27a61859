//! What outsiders can send to the gateway, as targets for the fuzzer: see [`shared::fuzz`]. Compiled with the feature
//! `fuzz` only. Targets whose parsers are private stand in the `fuzz` of their room.

use std::path::Path;

use shared::fuzz::Target;
use shared::fuzz_targets;
use shared::wire::admin::AuditRecord;

pub use crate::admission::proxy_header::fuzz::proxy_header;
use crate::audit::line::{self, Chain, MAX_LINE};
use crate::audit::log::next_line;
pub use crate::backup::fuzz::backup_file;
use crate::config::{Config, Options};
use crate::domain::edge::Records;
pub use crate::http::fuzz::{
    browser_hosts, check_in, engine_log, list_queries, proxied_answer, proxied_request, site_snapshot,
};
pub use crate::ssh::fuzz::ssh_destination;
use crate::store::codec;

/// Those of this crate.
pub const TARGETS: &[Target] = fuzz_targets![
    audit_log,
    backup_file,
    browser_hosts,
    check_in,
    engine_log,
    gateway_config,
    list_queries,
    proxied_answer,
    proxied_request,
    proxy_header,
    site_snapshot,
    ssh_destination,
    store_record,
];

/// Lines of an audit log that somebody hands in for verification; and any record at all, once it is sealed.
pub fn audit_log(bytes: &[u8]) {
    let (mut reader, mut chain, mut read) = (bytes, Chain::default(), 0);
    while let Some(line) = next_line(&mut reader).expect("bytes can be read") {
        read += line.length;
        assert!(line.bytes.len() <= MAX_LINE + 1, "{} bytes of one line are kept", line.bytes.len());
        let _ = line::seq_of(&line.bytes);
        let last = chain.last();
        match chain.next(&line.bytes) {
            Ok(placed) => assert!(chain.last() == Some(placed.head) && placed.head.seq > 0),
            // Whatever it was, what comes next is judged by the last line that was whole.
            Err(line::Break::Changed) => assert_eq!(chain.last(), last),
            Err(line::Break::Misplaced { found, .. } | line::Break::Unlinked { seq: found }) => {
                assert_eq!(chain.last().map(|head| head.seq), Some(found));
            }
        }
    }
    assert_eq!(read, bytes.len() as u64, "every byte belongs to a line");
    let Ok(record) = serde_json::from_slice::<AuditRecord>(bytes) else { return };
    let (sealed, head) = line::seal(&record);
    if record.seq == 0 || record.seq == u64::MAX {
        return assert_eq!(line::placed(sealed.as_bytes()), None, "no log has such a number");
    }
    let placed = line::placed(sealed.as_bytes()).expect("just sealed");
    assert_eq!((placed.head, placed.prev), (head, record.prev));
    let position = usize::try_from(record.at).unwrap_or(0) % sealed.len();
    let mut altered = sealed.into_bytes();
    altered[position] ^= 1;
    assert_eq!(line::placed(&altered), None, "a line that was altered at {position}");
}

/// A configuration file.
pub fn gateway_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let file = Path::new("tidegate.toml");
    let Ok(options) = shared::toml_file::parse::<Options>(text, file) else { return };
    if let Ok(config) = Config::new(&Options::default().or_file(options, file)) {
        let shown = config.to_string();
        let options = shared::toml_file::parse::<Options>(&shown, file).expect("what is shown is a file");
        let again = Config::new(&Options::default().or_file(options, file)).expect("of good values");
        assert_eq!(again, config, "the file that is shown gives the same");
    }
}

/// A record of the store, as a backup brings it in: a byte with the length of the key, key, value.
pub fn store_record(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first() else { return };
    let Some((key, value)) = rest.split_at_checked((*length).into()) else { return };
    let mut records = Records::default();
    if codec::read_into(&mut records, key, value).is_err() {
        return;
    }
    // A backup has no sessions, and a record may be too long to be written back.
    let Ok(entries) = codec::entries(&records).collect::<Result<Vec<_>, _>>() else { return };
    let mut again = Records { sessions: records.sessions.clone(), ..Records::default() };
    for (key, value) in entries {
        codec::read_into(&mut again, &key, &value).expect("just written");
    }
    assert_eq!(again, records, "a record survives being written");
}
