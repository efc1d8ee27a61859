//! What happened to each edge lately, in the database of snapshots: like those it may be lost without harm to the records.
//!
//! | key | value |
//! | --- | --- |
//! | `hist/1/` ‖ 16 bytes of the endpoint id ‖ number, 8 bytes big-endian | JSON of an entry, as the API shows it |
//!
//! The rule: the numbers of an edge have no gap, and there are at most [`KEPT`] of them.

use std::collections::{BTreeMap, HashSet};

use shared::id::EndpointId;
use shared::wire::admin::HistoryEntry;

use super::codec::MAX_VALUE;
use crate::domain::history::{KEPT, is_news};

const HISTORY: &[u8] = b"hist/1/";

/// Adds the entries, each after those that the edge has, and takes out what is too old then.
pub(super) fn add(tree: &sled::Tree, entries: Vec<(EndpointId, HistoryEntry)>) -> sled::Result<sled::Batch> {
    let mut by_edge: BTreeMap<[u8; 16], Vec<HistoryEntry>> = BTreeMap::new();
    for (edge, entry) in entries {
        by_edge.entry(*edge.as_bytes()).or_default().push(entry);
    }
    let mut batch = sled::Batch::default();
    for (edge, entries) in by_edge {
        let edge = EndpointId::from_bytes(edge);
        let mut number = last_number(tree, edge)?;
        let mut added = Vec::<HistoryEntry>::new();
        for entry in entries {
            let earlier = added.iter().rev().cloned().chain(newest_first(tree, edge));
            if !is_news(&entry.what, earlier.map(|entry| entry.what)) {
                continue;
            }
            let value = serde_json::to_vec(&entry).expect("texts and numbers have no failing serializer");
            if value.len() > MAX_VALUE {
                continue;
            }
            number += 1;
            batch.insert(key(edge, number), value);
            if let Some(old) = number.checked_sub(KEPT) {
                batch.remove(key(edge, old));
            }
            added.push(entry);
        }
    }
    Ok(batch)
}

/// The newest entries of `edge`, newest first.
pub(super) fn read(tree: &sled::Tree, edge: EndpointId, limit: usize) -> Vec<HistoryEntry> {
    newest_first(tree, edge).take(limit).collect()
}

/// Removes what there is of `edge`.
pub(super) fn remove(tree: &sled::Tree, edge: EndpointId) -> sled::Result<sled::Batch> {
    let mut batch = sled::Batch::default();
    for key in tree.scan_prefix(prefix(edge)).keys() {
        batch.remove(key?);
    }
    Ok(batch)
}

/// Whose history is there without their edge: what was written late stays behind.
pub(super) fn orphans(tree: &sled::Tree, edges: &HashSet<EndpointId>) -> sled::Result<Vec<EndpointId>> {
    let mut orphans = Vec::new();
    let mut from = HISTORY.to_vec();
    // From each edge's first key to the next edge's: there are many keys, and few edges beside them.
    while let Some(entry) = tree.range(from..).next() {
        let (key, _) = entry?;
        let Some(id) = key.strip_prefix(HISTORY).and_then(|rest| rest.first_chunk::<16>()) else { break };
        let edge = EndpointId::from_bytes(*id);
        if !edges.contains(&edge) {
            orphans.push(edge);
        }
        from = self::key(edge, u64::MAX);
        from.push(0);
    }
    Ok(orphans)
}

/// One that can't be read, of a later version say, is passed over.
fn newest_first(tree: &sled::Tree, edge: EndpointId) -> impl Iterator<Item = HistoryEntry> {
    let values = tree.scan_prefix(prefix(edge)).values().rev();
    values.filter_map(|value| serde_json::from_slice(&value.ok()?).ok())
}

fn last_number(tree: &sled::Tree, edge: EndpointId) -> sled::Result<u64> {
    let Some(key) = tree.scan_prefix(prefix(edge)).keys().next_back() else { return Ok(0) };
    Ok(key?.last_chunk::<8>().map_or(0, |number| u64::from_be_bytes(*number)))
}

fn prefix(edge: EndpointId) -> Vec<u8> {
    [HISTORY, edge.as_bytes()].concat()
}

fn key(edge: EndpointId, number: u64) -> Vec<u8> {
    [HISTORY, edge.as_bytes(), &number.to_be_bytes()].concat()
}
