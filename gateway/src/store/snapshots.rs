//! The last snapshot of each edge and the one before, in parts, in a database of its own.
//!
//! Parts, because sled writes long values to files that it never syncs ([`MAX_VALUE`]). A database of its own, because a
//! snapshot can be taken again: where this database is damaged it is thrown away, and the records are safe from it.
//!
//! | key | value |
//! | --- | --- |
//! | `head/1/` ‖ 16 bytes of the endpoint id | JSON of [`HeadV1`] |
//! | `part/1/` ‖ 16 bytes of the endpoint id ‖ number, 2 bytes big-endian | up to [`PART`] bytes |
//! | `before/1/`, `before-part/1/` | the same of the snapshot before |
//!
//! The rule: head and parts of a snapshot are written and removed in one batch.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use shared::id::{EndpointId, InstanceId};
use shared::wire::snapshot::MAX_COMPRESSED;

use super::codec::MAX_VALUE;
use super::{SnapshotBlob, StoreError};
use crate::domain::edge::Timestamp;

/// Bytes of a part.
const PART: usize = 4096;
const _: () = assert!(PART <= MAX_VALUE, "a part fits in a page");
const _: () = assert!(MAX_COMPRESSED / PART < u16::MAX as usize, "the parts of any snapshot can be numbered");

const HEAD: &[u8] = b"head/1/";
const PARTS: &[u8] = b"part/1/";

/// Which of an edge's snapshots.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    head: &'static [u8],
    parts: &'static [u8],
}

/// What is known of a snapshot besides its bytes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadV1 {
    received_at: u64,
    instance: InstanceId,
    bytes: usize,
}

/// Refuses what is too large to be a snapshot.
pub(super) fn check(snapshot: &SnapshotBlob) -> Result<(), StoreError> {
    if snapshot.gzip.len() > MAX_COMPRESSED {
        let reason = format!("it has {} bytes and may have {MAX_COMPRESSED}", snapshot.gzip.len());
        return Err(StoreError::Failed { doing: "write a snapshot", reason });
    }
    Ok(())
}

/// Replaces the snapshot of `edge`; the one that was the last becomes the one before.
pub(super) fn put(tree: &sled::Tree, edge: EndpointId, snapshot: &SnapshotBlob) -> sled::Result<sled::Batch> {
    let mut batch = remove(tree, edge)?;
    if let Some(before) = read(tree, Slot::LAST, edge)? {
        write(&mut batch, Slot::BEFORE, edge, &before);
    }
    write(&mut batch, Slot::LAST, edge, snapshot);
    Ok(batch)
}

fn write(batch: &mut sled::Batch, slot: Slot, edge: EndpointId, snapshot: &SnapshotBlob) {
    let head = HeadV1 {
        received_at: snapshot.received_at.0,
        instance: snapshot.instance,
        bytes: snapshot.gzip.len(),
    };
    let head = serde_json::to_vec(&head).expect("numbers and an id have no failing serializer");
    batch.insert(slot.head_key(edge), head);
    for (number, part) in (0u16..).zip(snapshot.gzip.chunks(PART)) {
        batch.insert(slot.part_key(edge, number), part);
    }
}

/// Removes the snapshots of `edge`, if there are any.
pub(super) fn remove(tree: &sled::Tree, edge: EndpointId) -> sled::Result<sled::Batch> {
    let mut batch = sled::Batch::default();
    for slot in [Slot::LAST, Slot::BEFORE] {
        batch.remove(slot.head_key(edge));
        for key in tree.scan_prefix(slot.parts_key(edge)).keys() {
            batch.remove(key?);
        }
    }
    Ok(batch)
}

/// A snapshot of `edge`. One whose pieces do not fit together counts as none: another can be taken.
pub(super) fn read(tree: &sled::Tree, slot: Slot, edge: EndpointId) -> sled::Result<Option<SnapshotBlob>> {
    let Some(head) = tree.get(slot.head_key(edge))? else { return Ok(None) };
    let mut gzip = Vec::new();
    for part in tree.scan_prefix(slot.parts_key(edge)).values() {
        gzip.extend_from_slice(&part?);
    }
    match serde_json::from_slice::<HeadV1>(&head) {
        Ok(head) if head.bytes == gzip.len() => {
            Ok(Some(SnapshotBlob { received_at: Timestamp(head.received_at), instance: head.instance, gzip }))
        }
        Ok(_) | Err(_) => {
            tracing::warn!(endpoint = %edge, "a stored snapshot is damaged and counts as none");
            Ok(None)
        }
    }
}

/// Whose snapshots are there without their edge: a deletion that was cut short leaves one.
pub(super) fn orphans(tree: &sled::Tree, edges: &HashSet<EndpointId>) -> sled::Result<Vec<EndpointId>> {
    let mut orphans = Vec::new();
    for key in tree.scan_prefix(HEAD).keys() {
        let key = key?;
        let id = key.strip_prefix(HEAD).and_then(|id| id.try_into().ok()).map(EndpointId::from_bytes);
        orphans.extend(id.filter(|id| !edges.contains(id)));
    }
    Ok(orphans)
}

impl Slot {
    /// The last one.
    pub(super) const LAST: Self = Self { head: HEAD, parts: PARTS };
    /// The one before.
    pub(super) const BEFORE: Self = Self { head: b"before/1/", parts: b"before-part/1/" };

    fn head_key(self, edge: EndpointId) -> Vec<u8> {
        [self.head, edge.as_bytes()].concat()
    }

    fn parts_key(self, edge: EndpointId) -> Vec<u8> {
        [self.parts, edge.as_bytes()].concat()
    }

    fn part_key(self, edge: EndpointId, number: u16) -> Vec<u8> {
        [self.parts, edge.as_bytes(), &number.to_be_bytes()].concat()
    }
}
