//! A backup file as a target for the fuzzer ([`crate::fuzz`]).

use sha2::{Digest as _, Sha256};

use super::format::{self, Decoder, Encoder, Entry, FormatError};

/// A backup file; and any entries at all in one whose checksum fits.
pub fn backup_file(bytes: &[u8]) {
    if let Ok(entries) = read(bytes) {
        assert_eq!(written(&entries), bytes, "a file that is whole is the one that was written");
    }
    let mut whole = [format::header().as_bytes(), bytes, &[0; 7]].concat();
    let checksum = Sha256::digest(&whole);
    whole.extend_from_slice(&checksum);
    match read(&whole) {
        Ok(entries) => assert_eq!(written(&entries), whole),
        Err(FormatError::Read(error)) => panic!("bytes can be read: {error}"),
        Err(
            FormatError::Magic
            | FormatError::Newer(_)
            | FormatError::Truncated(_)
            | FormatError::Changed
            | FormatError::Content(_),
        ) => {}
    }
}

fn read(bytes: &[u8]) -> Result<Vec<Entry>, FormatError> {
    let (mut decoder, mut frames) = (Decoder::new(bytes)?, Vec::new());
    while let Some(frame) = decoder.next()? {
        frames.push(frame);
    }
    frames.into_iter().map(format::Frame::entry).collect()
}

fn written(entries: &[Entry]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    for entry in entries {
        encoder.add(entry);
    }
    encoder.finish().to_vec()
}
