//! The backup file, version 1.
//!
//! ```text
//! "tidegate-backup 1\n"
//! entries: kind 1 byte ‖ length of the name, 2 bytes ‖ length of the content, 4 bytes ‖ name ‖ content
//! end:     an entry of kind 0 without name and content
//! SHA-256 of everything before, 32 bytes
//! ```
//!
//! Numbers are big-endian. A checksum, not a signature: it finds damage, and says nothing about who made the file.
//!
//! | kind | name | content |
//! | --- | --- | --- |
//! | 1 file | its name in the data folder | its bytes |
//! | 2 record | key as in the store | value as in the store |
//! | 3 snapshot | 16 bytes of the endpoint id | received at, 8 bytes ‖ 16 bytes of the instance id ‖ gzip |

use std::io::{self, BufRead, Read as _};

use bytes::{BufMut as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use shared::id::{EndpointId, InstanceId};

use crate::data_dir::LOCK_FILE;
use crate::domain::edge::Timestamp;
use crate::store::SnapshotBlob;

/// The version that this code writes, and the newest that it reads.
pub(super) const VERSION: u32 = 1;
const MAGIC: &str = "tidegate-backup ";
/// The header with a version of up to ten digits.
const MAX_HEADER: u64 = 32;
/// Nothing of ours is longer; a length beyond comes from damage and must not make us allocate it.
const MAX_CONTENT: u32 = 16 * 1024 * 1024;
const CHECKSUM: usize = 32;

const END: u8 = 0;
const FILE: u8 = 1;
const RECORD: u8 = 2;
const SNAPSHOT: u8 = 3;

/// One thing that is backed up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A file of the data folder.
    File { name: String, content: Vec<u8> },
    /// A durable record.
    Record { key: Vec<u8>, value: Vec<u8> },
    /// The last snapshot of an edge.
    Snapshot { edge: EndpointId, snapshot: SnapshotBlob },
}

/// What is wrong with a backup file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormatError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("not a backup")]
    Magic,
    #[error("version {0}")]
    Newer(u32),
    #[error("ends after {0} bytes")]
    Truncated(u64),
    #[error("changed")]
    Changed,
    #[error("{0}")]
    Content(String),
}

/// What a file of this version begins with.
pub(super) fn header() -> String {
    format!("{MAGIC}{VERSION}\n")
}

/// Whether a file of this name is backed up: no path, nothing hidden, and not the lock.
pub(super) fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']) && name != LOCK_FILE
}

/// Writes a backup, chunk by chunk.
pub(super) struct Encoder {
    hash: Sha256,
    buffer: BytesMut,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { hash: Sha256::new(), buffer: BytesMut::from(header().as_bytes()) }
    }

    pub(super) fn add(&mut self, entry: &Entry) {
        match entry {
            Entry::File { name, content } => self.frame(FILE, name.as_bytes(), &[content]),
            Entry::Record { key, value } => self.frame(RECORD, key, &[value]),
            Entry::Snapshot { edge, snapshot } => {
                let received_at = snapshot.received_at.0.to_be_bytes();
                let content = [&received_at, snapshot.instance.as_bytes().as_slice(), &snapshot.gzip];
                self.frame(SNAPSHOT, edge.as_bytes(), &content);
            }
        }
    }

    /// Bytes that [`Encoder::take`] would give.
    pub(super) fn ready(&self) -> usize {
        self.buffer.len()
    }

    /// What was written since the last time.
    pub(super) fn take(&mut self) -> Bytes {
        self.hash.update(&self.buffer);
        self.buffer.split().freeze()
    }

    /// The rest of the file.
    pub(super) fn finish(mut self) -> Bytes {
        self.frame(END, &[], &[]);
        self.hash.update(&self.buffer);
        self.buffer.put_slice(&self.hash.finalize());
        self.buffer.freeze()
    }

    fn frame(&mut self, kind: u8, name: &[u8], content: &[&[u8]]) {
        let length = content.iter().map(|part| part.len()).sum::<usize>();
        self.buffer.put_u8(kind);
        self.buffer.put_u16(u16::try_from(name.len()).expect("names of files and keys are below 256 bytes"));
        self.buffer.put_u32(u32::try_from(length).expect("files, records and snapshots are below 16 MiB"));
        self.buffer.put_slice(name);
        for part in content {
            self.buffer.put_slice(part);
        }
    }
}

/// Reads a backup. After the last entry it checks that the file is whole.
pub(super) struct Decoder<R> {
    input: R,
    hash: Sha256,
    read: u64,
}

/// An entry before anybody looked at what it means.
pub(super) struct Frame {
    kind: u8,
    name: Vec<u8>,
    content: Vec<u8>,
}

impl<R: BufRead> Decoder<R> {
    /// Reads the header.
    pub(super) fn new(mut input: R) -> Result<Self, FormatError> {
        let mut header = Vec::new();
        input.by_ref().take(MAX_HEADER).read_until(b'\n', &mut header)?;
        let read = header.len() as u64;
        let Some(line) = header.strip_suffix(b"\n") else {
            let is_beginning = MAGIC.as_bytes().starts_with(&header) || header.starts_with(MAGIC.as_bytes());
            return Err(if is_beginning && read < MAX_HEADER {
                FormatError::Truncated(read)
            } else {
                FormatError::Magic
            });
        };
        let version = line.strip_prefix(MAGIC.as_bytes()).and_then(|text| str::from_utf8(text).ok());
        match version.and_then(|text| text.parse::<u32>().ok()) {
            Some(VERSION) => Ok(Self { input, hash: Sha256::new_with_prefix(&header), read }),
            Some(newer) if newer > VERSION => Err(FormatError::Newer(newer)),
            Some(_) | None => Err(FormatError::Magic),
        }
    }

    /// The next entry; `None` at the end of a file that is whole and unchanged.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FormatError> {
        let [kind, name_high, name_low, content @ ..] = self.exact::<7>()?;
        let name_length = u16::from_be_bytes([name_high, name_low]);
        let content_length = u32::from_be_bytes(content);
        if content_length > MAX_CONTENT {
            return Err(FormatError::Changed);
        }
        if kind == END {
            let is_bare = name_length == 0 && content_length == 0;
            return if is_bare { self.end().map(|()| None) } else { Err(FormatError::Changed) };
        }
        let name = self.take(name_length.into())?;
        let content = self.take(content_length)?;
        Ok(Some(Frame { kind, name, content }))
    }

    fn end(&mut self) -> Result<(), FormatError> {
        let expected = self.hash.clone().finalize();
        let found = self.exact::<CHECKSUM>()?;
        let is_at_end = self.input.fill_buf()?.is_empty();
        if is_at_end && found == *expected { Ok(()) } else { Err(FormatError::Changed) }
    }

    fn exact<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self.take(N as u32)?;
        Ok(bytes.try_into().expect("`take` gives as many bytes as it is asked for"))
    }

    fn take(&mut self, length: u32) -> Result<Vec<u8>, FormatError> {
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(length.into()).read_to_end(&mut bytes)?;
        self.read += read as u64;
        if read < length as usize {
            return Err(FormatError::Truncated(self.read));
        }
        self.hash.update(&bytes);
        Ok(bytes)
    }
}

impl Frame {
    /// What it means. Only for frames of a file whose checksum was right.
    pub(super) fn entry(self) -> Result<Entry, FormatError> {
        let invalid = |what: &str| FormatError::Content(what.to_owned());
        match self.kind {
            FILE => {
                let name = String::from_utf8(self.name).ok().filter(|name| is_file_name(name));
                let name = name.ok_or_else(|| invalid("it has a file whose name is none of ours"))?;
                Ok(Entry::File { name, content: self.content })
            }
            RECORD => Ok(Entry::Record { key: self.name, value: self.content }),
            SNAPSHOT => {
                let edge = self.name.try_into().map_err(|_| invalid("a snapshot has no endpoint id"))?;
                let short = || invalid("a snapshot is too short");
                let (received_at, rest) = self.content.split_first_chunk().ok_or_else(short)?;
                let (instance, gzip) = rest.split_first_chunk().ok_or_else(short)?;
                let snapshot = SnapshotBlob {
                    received_at: Timestamp(u64::from_be_bytes(*received_at)),
                    instance: InstanceId::from_bytes(*instance),
                    gzip: gzip.to_vec(),
                };
                Ok(Entry::Snapshot { edge: EndpointId::from_bytes(edge), snapshot })
            }
            other => Err(FormatError::Content(format!("it has an entry of the unknown kind {other}"))),
        }
    }
}
