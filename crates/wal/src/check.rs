//! Offline verification of a data directory, in words for a person.

use std::fmt;
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::OpenError;
use crate::open::lock;
use crate::scan::{Scan, scan};
use crate::space::RESERVE_FILE;

/// What `check` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// Whether `Wal::open` would accept the directory with all acknowledged data in it.
    pub intact: bool,
    /// What was found, one sentence each.
    pub findings: Vec<String>,
}

impl fmt::Display for CheckReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(out, "{finding}")?;
        }
        writeln!(
            out,
            "{}",
            if self.intact { "The log is intact." } else { "The log is NOT usable as it is." }
        )
    }
}

/// Reads and verifies all of a data directory; changes nothing. The directory must not be in use.
pub fn check(disk: Arc<dyn Disk>) -> CheckReport {
    match lock(&disk).and_then(|_lock| scan(&*disk)) {
        Ok(found) => describe(&found),
        Err(error) => refuse(&error),
    }
}

fn describe(found: &Scan) -> CheckReport {
    let Some(active) = &found.active else {
        return CheckReport {
            intact: false,
            findings: vec!["There is no log in this directory.".to_owned()],
        };
    };
    let last = found.state.tail();
    let mut findings = vec![format!(
        "{} segment(s) in use, {} batch(es) since the log was created; every block, record and link checks out.",
        found.segments.len(),
        found.seq
    )];
    findings.push(match found.state.snapshot {
        Some(mark) => format!(
            "The snapshot at index {} (term {}) has {} bytes and checks out.",
            mark.meta.index, mark.meta.term, mark.bytes
        ),
        None => "There is no snapshot.".to_owned(),
    });
    findings.push(format!(
        "{} entries follow it; the last index is {} (term {}).",
        found.entries.len(),
        last.index,
        last.term
    ));
    if found.state.hard_state.is_none() {
        findings.push("There is no hard state yet.".to_owned());
    }
    if let Some(torn) = &active.torn {
        findings.push(format!(
            "{} has an unfinished batch at byte {} ({} blocks): it was never acknowledged, and the next start cuts it off.",
            torn.file, torn.offset, torn.blocks
        ));
    }
    if !found.junk.is_empty() {
        findings
            .push(format!("Left over from a crash, removed at the next start: {}.", found.junk.join(", ")));
    }
    if found.reserve.is_none() {
        findings.push(format!("The file `{RESERVE_FILE}` for a full disk is not there."));
    }
    CheckReport { intact: true, findings }
}

fn refuse(error: &OpenError) -> CheckReport {
    let mut finding = error.to_string();
    if let OpenError::Io { source, .. } = error {
        finding = format!("{finding}: {source}");
    }
    let mut findings = vec![finding];
    if matches!(error, OpenError::Damaged { .. }) {
        findings.push("Data that was acknowledged may be missing. A member of a cluster rejoins from its peers under a new \
                       id; a single manager is restored from a backup."
            .to_owned());
    }
    CheckReport { intact: false, findings }
}
