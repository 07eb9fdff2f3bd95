//! The records of what was done and refused, in order (invariant I24): bounded, chained, the same on every manager.
//!
//! Of an applied entry the record is made here, of the entry and the tables before and after it. Nothing else goes into it,
//! and no words but those that the log or the model's fixed ones give: a rejection is recorded by its kind, since its
//! sentence may differ between two versions of the software, and the chain never heals.
//!
//! The oldest records go in chunks when there are too many; the place of the last that went stays, as the anchor that the
//! rest is chained to.

mod subject;

use std::sync::Arc;

use imbl::Vector;
use model::{
    audit::{About, Broken, Digest, Link, Note, Origin, Record, Verdict, holder},
    command::{Command, Entry, Rejection},
    id::{ClusterId, RequestId},
    identity::Identity,
    time::ClusterTime,
};
use planted::Bug;
use serde::{Deserialize, Serialize};

use crate::{
    Store,
    hash::{Table, object_hash},
    requests::Outcome,
    write::Writer,
};
use subject::Subject;

/// Bytes of records that are kept, by the chain's own encoding: some 15,000 records. They lie in the state and in every
/// snapshot; who needs more exports them.
pub const MAX_AUDIT_BYTES: usize = 4 << 20;
/// What a record takes beside its encoding: its two hashes, and the list's own.
const BESIDE: u64 = 128;
/// Records whose chain is checked after every step of a test.
const NEWEST: usize = 16;
/// The part of the bound that goes at once: a reader that pages through the records is not chased at every step.
const CHUNKS: u64 = 16;

/// What is kept of the audit.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Audit {
    /// Before the oldest record; `None`: the audit has not begun.
    anchor: Option<Link>,
    /// Oldest first, chained to the anchor.
    records: Vector<Arc<Record>>,
}

impl Audit {
    pub fn is_begun(&self) -> bool {
        self.anchor.is_some()
    }

    /// The oldest place that is known, and the newest.
    pub fn ends(&self) -> Option<(Link, Link)> {
        let anchor = self.anchor?;
        let newest = self.records.back().map(|record| Link { number: record.number, hash: record.hash });
        Some((anchor, newest.unwrap_or(anchor)))
    }

    /// The records after a number.
    pub fn after(&self, number: u64) -> impl Iterator<Item = &Record> {
        let first = self.records.front().map_or(1, |record| record.number);
        let skip = usize::try_from((number + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let start = skip.min(self.records.len());
        (start..self.records.len()).filter_map(|place| self.records.get(place)).map(|record| &**record)
    }

    /// The chain as it is kept.
    ///
    /// # Errors
    /// The first record that is not as it was written.
    pub fn verify(&self) -> Result<(), Broken> {
        let Some(anchor) = self.anchor else { return Ok(()) };
        anchor.follow_all(self.records.iter().map(|record| &**record)).map(drop)
    }

    /// As [`verify`](Self::verify), for the end of the chain.
    pub fn verify_newest(&self) -> Result<(), Broken> {
        let mut newest = self.records.iter().rev().take(NEWEST).map(|record| &**record).collect::<Vec<_>>();
        newest.reverse();
        let Some(first) = newest.first() else { return Ok(()) };
        let before = Link { number: first.number - 1, hash: first.previous };
        let whole = newest.len() == self.records.len();
        self.anchor.filter(|_| whole).unwrap_or(before).follow_all(newest).map(drop)
    }

    pub fn bytes(&self) -> u64 {
        self.records.iter().map(|record| record.size() + BESIDE).sum()
    }

    /// Stands for all records: the head's hash covers each.
    pub fn sum(&self) -> u64 {
        self.ends().map_or(0, |ends| object_hash(Table::Audit, &ends))
    }

    fn begin(&mut self, cluster: ClusterId) {
        self.anchor = Some(Link::genesis(cluster));
    }

    /// Adds a record behind the newest, and returns its size.
    fn push(&mut self, mut record: Record) -> u64 {
        let Some((_, head)) = self.ends() else { return 0 };
        head.seal(&mut record);
        let size = record.size() + BESIDE;
        self.records.push_back(Arc::new(record));
        size
    }

    /// Drops the oldest records until so many bytes are gone; returns how many are.
    fn drop_oldest(&mut self, bytes: u64) -> u64 {
        let mut gone = 0;
        while gone < bytes
            && let Some(oldest) = self.records.pop_front()
        {
            gone += oldest.size() + BESIDE;
            if !planted::is(Bug::AuditAnchorLost) {
                self.anchor = Some(Link { number: oldest.number, hash: oldest.hash });
            }
        }
        gone
    }
}

/// What a record will say of an entry, taken before it is applied.
pub(crate) struct Look {
    subject: Subject,
    /// The object's name and digest.
    before: (Option<String>, Option<Digest>),
}

impl Store {
    /// The oldest place of the audit that is known and the newest; `None` before it begins.
    pub fn audit_ends(&self) -> Option<(Link, Link)> {
        self.audit.ends()
    }

    /// The records after a number, as far as they are kept.
    pub fn audit_after(&self, number: u64) -> impl Iterator<Item = &Record> {
        self.audit.after(number)
    }

    /// What an entry is about, before it is applied; `None` when there will be no record of it.
    pub(crate) fn look_at(&self, command: &Command) -> Option<Look> {
        if !self.audit.is_begun() && *command != Command::BeginAudit {
            return None;
        }
        let subject = Subject::of(command)?;
        let before = self.describe(&subject);
        Some(Look { subject, before })
    }

    /// Records an entry that was applied.
    pub(crate) fn record(&mut self, entry: &Entry, look: Option<Look>, outcome: &Outcome) {
        // The cluster's first key is nobody's wish.
        let own = matches!((&entry.actor, &entry.command), (Identity::Manager(_), Command::AddKey { .. }));
        let Some(Look { subject, before }) = look.filter(|_| self.audit.is_begun() && !own) else { return };
        let (name, new) = self.describe(&subject);
        let name = name.or(before.0).unwrap_or_else(|| subject.called.clone());
        let (verdict, reason) = match outcome {
            Ok(_) => (Verdict::Accepted, entry.origin.reason.clone().unwrap_or_default()),
            Err(rejection @ (Rejection::Unwelcome(_) | Rejection::Refused(_))) => {
                (Verdict::Denied, kind(rejection))
            }
            Err(rejection) => (Verdict::Rejected, kind(rejection)),
        };
        let mut record = draft(self.time, holder(&entry.actor), &entry.origin, entry.request);
        let About { verb, kind, name } = About::new(subject.verb, subject.kind, name);
        (record.verb, record.kind, record.name) = (verb, kind, name);
        (record.old, record.new) = (before.1, new);
        (record.verdict, record.reason) = (verdict, reason);
        self.push_record(record);
    }

    fn push_record(&mut self, record: Record) {
        let before = self.audit.sum();
        self.audit_bytes += self.audit.push(record);
        let bound = planted::audit(MAX_AUDIT_BYTES) as u64;
        if self.audit_bytes > bound {
            self.audit_bytes -= self.audit.drop_oldest(self.audit_bytes - bound + bound / CHUNKS);
        }
        self.sum = self.sum.wrapping_sub(before).wrapping_add(self.audit.sum());
    }
}

impl Writer<'_> {
    pub(crate) fn begin_audit(&mut self) -> Outcome {
        let cluster = self.store.cluster().map(|cluster| cluster.id);
        let Some(cluster) = cluster.filter(|_| !self.store.audit.is_begun()) else {
            return Err(Rejection::Conflict("the audit has begun before".into()));
        };
        self.store.audit.begin(cluster);
        self.store.sum = self.store.sum.wrapping_add(self.store.audit.sum());
        Ok(model::command::Answer::Done)
    }

    pub(crate) fn note_audit(&mut self, notes: &[Note]) -> Outcome {
        if !self.store.audit.is_begun() {
            return Err(Rejection::Conflict("the audit has not begun".into()));
        }
        for note in notes {
            let mut record = draft(self.at, note.who.clone(), &note.origin, note.request);
            let About { verb, kind, name } = note.about.clone();
            (record.verb, record.kind, record.name) = (verb, kind, name);
            (record.verdict, record.reason) = (note.verdict, note.reason.clone());
            self.store.push_record(record);
        }
        if !notes.is_empty() && notes.iter().all(|note| note.verdict == Verdict::Accepted) {
            return Ok(model::command::Answer::Done);
        }
        Err(Rejection::Conflict("it was refused".into()))
    }
}

/// A record that says when, who and where from.
fn draft(at: ClusterTime, who: String, origin: &Origin, request: Option<RequestId>) -> Record {
    let nothing = Digest::of(b"");
    Record {
        number: 0,
        at,
        who,
        source: origin.source.clone(),
        job: origin.job.clone(),
        request,
        verb: String::new(),
        kind: String::new(),
        name: String::new(),
        old: None,
        new: None,
        verdict: Verdict::Accepted,
        reason: String::new(),
        previous: nothing,
        hash: nothing,
    }
}

/// A rejection in fixed words.
fn kind(rejection: &Rejection) -> String {
    match rejection {
        Rejection::Exists { kind, .. } => format!("there is a {kind} of that name"),
        Rejection::Missing { kind, .. } => format!("there is no such {kind}"),
        Rejection::Stale { expected, actual, .. } => {
            format!("decided on version {expected}, now at {actual}")
        }
        Rejection::Conflict(_) => "the present state is against it".to_owned(),
        Rejection::Token { id, role, .. } => format!("token {id} does not admit a {role}"),
        Rejection::Invalid(_) => "it is not valid".to_owned(),
        Rejection::Refused(_) => "a policy was against it when it was applied".to_owned(),
        Rejection::Unwelcome(_) => "not welcome, or not allowed to, when it was applied".to_owned(),
    }
}
