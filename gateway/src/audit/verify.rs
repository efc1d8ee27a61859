//! Verification: every line as it was written, none missing, none moved. Of a running gateway's log, of a data folder,
//! and of an exported file.
//!
//! What it can't see by itself: that somebody who may write the files wrote the whole log anew from some record on. For
//! that there must be a place ([`AuditHead`]) that was noted elsewhere: in a backup, in the process' log, by a person.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use shared::wire::admin::{AuditHead, AuditProblem, AuditVerdict};

use super::files::{self, View};
use super::line::{Chain, Placed};
use super::log::next_line;

/// Problems that are listed; more of them say nothing more.
const MAX_PROBLEMS: usize = 100;

/// Follows the records of one log through its files.
struct Verifier {
    chain: Chain,
    verdict: AuditVerdict,
    /// Places that must be in it, and are not found yet.
    wanted: Vec<AuditHead>,
}

/// Verifies what `view` shows, and that the records of `noted` are in it. Blocks.
pub fn verify_view(view: &View, noted: &[AuditHead]) -> io::Result<AuditVerdict> {
    // Opened before anything is read, so that segments that are dropped meanwhile can still be read to their end.
    let files = view.segments.iter().map(|segment| Ok((segment, view.open(segment)?)));
    let files = files.collect::<io::Result<Vec<_>>>()?;
    let mut wanted = noted.to_vec();
    wanted.push(view.head);
    let mut verifier = Verifier::new(Chain::after(view.anchor), view.anchor, wanted);
    for (segment, file) in files {
        verifier.file(&files::name(segment.number), io::Read::take(file, segment.bytes))?;
    }
    Ok(verifier.finish(&view.dir.display().to_string()))
}

/// Verifies the log of a data folder in which no gateway runs. Blocks.
pub fn verify_folder(data_dir: &Path, noted: &[AuditHead]) -> io::Result<AuditVerdict> {
    verify_view(&View::of_folder(&data_dir.join(files::FOLDER))?, noted)
}

/// Verifies an exported file, which may begin with any record. Blocks.
pub fn verify_file(path: &Path, noted: &[AuditHead]) -> io::Result<AuditVerdict> {
    let mut verifier = Verifier::new(Chain::default(), AuditHead::default(), noted.to_vec());
    let name = path.display().to_string();
    verifier.file(&name, File::open(path)?)?;
    Ok(verifier.finish(&name))
}

impl Verifier {
    fn new(chain: Chain, anchor: AuditHead, wanted: Vec<AuditHead>) -> Self {
        let wanted = wanted.into_iter().filter(|place| *place != anchor && place.seq > 0).collect();
        let verdict = AuditVerdict {
            intact: true,
            records: 0,
            anchor,
            head: anchor,
            damage_noted: 0,
            problems: Vec::new(),
        };
        Self { chain, verdict, wanted }
    }

    fn file(&mut self, name: &str, file: impl io::Read) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(256 * 1024, file);
        let mut number = 0;
        while let Some(line) = next_line(&mut reader)? {
            number += 1;
            if !line.is_ended {
                self.problem(name, number, "it ends within a record");
                break;
            }
            self.verdict.records += 1;
            match self.chain.next(&line.bytes) {
                Ok(placed) => self.placed(placed, &line.bytes),
                Err(why) => self.problem(name, number, &why.to_string()),
            }
            if let Some(last) = self.chain.last() {
                self.wanted.retain(|wanted| *wanted != last);
                self.verdict.head = last;
            }
        }
        Ok(())
    }

    fn placed(&mut self, placed: Placed, line: &[u8]) {
        if self.verdict.records == 1 {
            self.verdict.anchor = AuditHead { seq: placed.head.seq - 1, hash: placed.prev };
        }
        // The member follows only from the gateway's own hand: elsewhere its quotes would be escaped.
        const NOTED: &[u8] = b",\"action\":\"audit.damage\",";
        self.verdict.damage_noted += u64::from(line.windows(NOTED.len()).any(|window| window == NOTED));
    }

    fn problem(&mut self, file: &str, line: u64, what: &str) {
        self.verdict.intact = false;
        if self.verdict.problems.len() < MAX_PROBLEMS {
            let (file, what) = (file.to_owned(), what.to_owned());
            self.verdict.problems.push(AuditProblem { file, line, what });
        }
    }

    fn finish(mut self, name: &str) -> AuditVerdict {
        for missing in std::mem::take(&mut self.wanted) {
            let before = missing.seq <= self.verdict.anchor.seq;
            let what = if before {
                format!(
                    "record {} was noted and can't be checked: it was dropped, or is not in this file",
                    missing.seq
                )
            } else if missing.seq > self.verdict.head.seq {
                format!(
                    "the log had come to record {}, and ends with record {}",
                    missing.seq, self.verdict.head.seq
                )
            } else {
                format!("record {} is another one than the one that was noted", missing.seq)
            };
            self.problem(name, self.verdict.records, &what);
        }
        self.verdict
    }
}
