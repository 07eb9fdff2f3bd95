//! What is refused before it comes into the log is noted there too: a refusal is answered when it is on record.
//!
//! Whoever is refused again and again must neither fill the log nor push other records out of it, so each identity has so
//! many notes at once and a slow supply of further ones. What goes beyond is answered at once, counted, and recorded as a sum. The
//! sums are the leader's memory: those of its last minute are lost with it when it dies.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use model::{
    audit::{self, About, MAX_TEXT, Note, Origin, Page, Verdict},
    command::Command,
    id::{MemberId, RequestId, TokenId},
    identity::Identity,
    request::{ApiError, ErrorCode, Response},
    time::Instant,
};

use crate::{Manager, SpaceState, proposal::Purpose, query::Ask};

/// Notes of one identity at once: a person who tries, or a pipeline that waits for its turn.
const BURST: u32 = 60;
/// After those, one in so long: 8,640 a day, so that a client gone wild pushes out what is recorded in two days, not in minutes.
const REFILL: Duration = Duration::from_secs(10);
/// Identities that are told apart. All further ones share one supply.
const MAX_HOLDERS: usize = 1_024;
/// Notes that wait to be written: as many handles wait for their answers.
const MAX_WAITING: usize = 1_024;
/// Notes of one entry.
const MAX_NOTES: usize = 64;
/// Sums are recorded so often.
const SUM_EVERY: Duration = Duration::from_secs(60);
/// Bytes of records in one answer.
const MAX_PAGE: u64 = 256 << 10;
/// Whoever has no supply of its own any more.
const OTHERS: &str = "others";

/// A refusal that is answered when its note is on record.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    handle: u64,
    error: ApiError,
}

#[derive(Debug, Clone, Copy)]
struct Supply {
    left: u32,
    /// When it was last filled up.
    at: Instant,
}

impl Supply {
    fn take(&mut self, now: Instant) -> bool {
        let more = u32::try_from(now.since(self.at).as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.at = now;
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }

    fn is_full(&self, now: Instant) -> bool {
        now.since(self.at) >= REFILL * BURST
    }
}

/// Refusals on their way to the log.
#[derive(Default)]
pub(crate) struct Refusals {
    waiting: VecDeque<(Note, Refused)>,
    supplies: BTreeMap<String, Supply>,
    /// Refusals without a note, by identity.
    sums: BTreeMap<String, u64>,
    sum_at: Option<Instant>,
}

impl Refusals {
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.sum_at
    }

    /// Whether this identity may have one more note.
    fn supply(&mut self, who: &str, now: Instant) -> bool {
        if !self.supplies.contains_key(who) && self.supplies.len() >= MAX_HOLDERS {
            self.supplies.retain(|_, supply| !supply.is_full(now));
        }
        let full = !self.supplies.contains_key(who) && self.supplies.len() >= MAX_HOLDERS;
        let key = if full { OTHERS } else { who };
        let new = Supply { left: BURST, at: now };
        self.supplies.entry(key.to_owned()).or_insert(new).take(now)
    }

    fn sum(&mut self, who: &str, now: Instant) {
        let known = self.sums.contains_key(who) || self.sums.len() < MAX_NOTES;
        *self.sums.entry(if known { who } else { OTHERS }.to_owned()).or_default() += 1;
        self.sum_at.get_or_insert(now + SUM_EVERY);
    }

    fn take_sums(&mut self, now: Instant) -> Vec<Note> {
        if self.sum_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.sum_at = None;
        let sum = |(who, count): (String, u64)| Note {
            who,
            origin: Origin::default(),
            request: None,
            about: About::new("ask", "cluster", ""),
            verdict: Verdict::Summed,
            reason: format!("{count} more refusals"),
        };
        std::mem::take(&mut self.sums).into_iter().map(sum).collect()
    }
}

/// What is told of a request that is refused.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) handle: u64,
    pub(crate) identity: Identity,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) origin: Origin,
    /// `None` for a read, which is not recorded.
    pub(crate) about: Option<About>,
}

impl Asked {
    pub(crate) fn of(ask: &Ask) -> Self {
        Self {
            handle: ask.handle,
            identity: ask.identity.clone(),
            request_id: ask.request_id,
            origin: ask.origin.clone(),
            about: audit::about::about(&ask.request),
        }
    }

    /// What is told of somebody whom a manager refused before there was a request.
    pub(crate) fn at(handle: u64, manager: MemberId, who: Identity, source: String) -> Self {
        Self {
            handle,
            identity: who,
            request_id: None,
            origin: Origin::new(Some(source), None),
            about: Some(About::new("connect", "manager", manager)),
        }
    }

    /// The note of how it ended; `None` when there is to be none.
    pub(crate) fn note(&self, verdict: Verdict, reason: String) -> Option<Note> {
        let (who, origin) = (audit::holder(&self.identity), self.origin.clone());
        let about = self.about.clone()?;
        Some(Note { who, origin, request: self.request_id, about, verdict, reason })
    }
}

impl Manager {
    /// Refuses a request: at once what is no decision, a read, or one too many; all else when it is on record.
    pub(crate) fn refuse(&mut self, asked: &Asked, error: ApiError) {
        let verdict =
            Verdict::of(error.code).filter(|_| self.is_serving() && self.store.audit_ends().is_some());
        let note = verdict.and_then(|verdict| asked.note(verdict, audit::reason(&error)));
        let Some(note) = note else { return self.reply(asked.handle, Err(error)) };
        let room = error.code != ErrorCode::Exhausted;
        if !self.may_note(asked, room) {
            return self.reply(asked.handle, Err(error));
        }
        self.refusals.waiting.push_back((note, Refused { handle: asked.handle, error }));
    }

    /// Whether there may be a note of one more refusal of this holder; it is counted if not.
    fn may_note(&mut self, asked: &Asked, room: bool) -> bool {
        let who = audit::holder(&asked.identity);
        // Strangers have no names: they are told apart by where they call from.
        let holder = match (&asked.identity, &asked.origin.source) {
            (Identity::Anonymous | Identity::Bearer(_), source) => {
                format!("anonymous at {}", source.as_deref().unwrap_or("an unknown address"))
            }
            _ => who,
        };
        let (now, refusals) = (self.now.mono, &mut self.refusals);
        let room = room && self.space == SpaceState::Enough && refusals.waiting.len() < MAX_WAITING;
        if room && refusals.supply(&holder, now) {
            return true;
        }
        refusals.sum(&holder, now);
        false
    }

    /// What is rejected, unless it comes with a request that was done before: that of a retry finds nothing, because its first
    /// attempt removed it. Rejected, it leaves the note of the refusal.
    pub(crate) fn probe(&mut self, asked: &Asked, error: &ApiError) -> Command {
        if self.store.audit_ends().is_none() {
            return Command::RevokeToken { id: TokenId(self.next_id()) };
        }
        let note = asked.note(Verdict::Rejected, audit::reason(error));
        Command::Audit(note.filter(|_| self.may_note(asked, true)).into_iter().collect())
    }

    /// Writes the refusals that wait, and sums that are due: one entry at a time, so that a flood makes larger ones.
    pub(crate) fn note_refusals(&mut self) {
        if !self.may_write_notes() {
            return;
        }
        let mut notes = self.refusals.take_sums(self.now.mono);
        let count = self.refusals.waiting.len().min(MAX_NOTES);
        let (more, refused): (Vec<_>, Vec<_>) = self.refusals.waiting.drain(..count).unzip();
        notes.extend(more);
        if !notes.is_empty() {
            self.propose_own(Command::Audit(notes), Purpose::Note(refused));
        }
    }

    /// Not while notes are on their way: their end is an event.
    fn may_write_notes(&self) -> bool {
        self.store.audit_ends().is_some()
            && self.space == SpaceState::Enough
            && !self.proposals.any(|purpose| matches!(purpose, Purpose::Note(_)))
    }

    /// When sums are to be written. None while nothing can be: being woken for what has to wait is to spin.
    pub(crate) fn sums_deadline(&self) -> Option<Instant> {
        self.refusals.next_deadline().filter(|_| self.may_write_notes())
    }

    /// The notes are on record: their clients may hear.
    pub(crate) fn on_noted(&mut self, refused: Vec<Refused>) {
        for Refused { handle, error } in refused {
            self.reply(handle, Err(error));
        }
    }

    /// Nobody knows whether the notes are in the log: the clients ask the next leader.
    pub(crate) fn noting_lost(&mut self, refused: Vec<Refused>, error: &ApiError) {
        for Refused { handle, .. } in refused {
            self.reply(handle, Err(error.clone()));
        }
    }

    /// What waits is asked again of the next leader, which refuses and records it. Sums stay: this member may lead again.
    pub(crate) fn end_refusals(&mut self) {
        let message = "the lead changed; ask again with the same request id";
        for (_, Refused { handle, .. }) in std::mem::take(&mut self.refusals.waiting) {
            self.reply(handle, Err(ApiError::new(ErrorCode::Unavailable, message)));
        }
    }

    /// The lead is handed over when it is on record who wanted it: afterwards this member writes nothing any more.
    pub(crate) fn note_transfer(&mut self, asked: &Asked, to: Option<MemberId>) -> Result<(), ApiError> {
        self.may_transfer(to)?;
        let recorded = self.store.audit_ends().is_some() && self.space == SpaceState::Enough;
        let note = asked.note(Verdict::Accepted, String::new()).filter(|_| recorded);
        let Some(note) = note else { return self.begin_transfer(asked.handle, to) };
        let purpose = Purpose::Transfer { handle: asked.handle, to };
        self.propose_for(asked, Command::Audit(vec![note]), purpose)
    }

    /// The audit begins when every manager can read it: in a new cluster at once, in an old one with the last upgrade.
    pub(crate) fn begin_audit(&mut self) {
        if self.store.audit_ends().is_some() || self.store.cluster().is_none() {
            return;
        }
        let all_know = self.store.members().all(|member| member.version == self.config.version);
        if all_know && !self.proposals.any(|purpose| matches!(purpose, Purpose::BeginAudit)) {
            self.propose_own(Command::BeginAudit, Purpose::BeginAudit);
        }
    }

    /// The records after a number, as many as fit into one answer.
    pub(crate) fn audit_page(&self, after: u64) -> Result<Response, ApiError> {
        let Some((anchor, head)) = self.store.audit_ends() else {
            let message = "nothing is recorded yet: the audit begins when all managers have been upgraded";
            return Err(ApiError::new(ErrorCode::Conflict, message));
        };
        let mut room = MAX_PAGE;
        let fits = |record: &&model::audit::Record| {
            let left = room.checked_sub(record.size());
            room = left.unwrap_or(0);
            left.is_some()
        };
        let records = self.store.audit_after(after).take_while(fits).cloned().collect();
        Ok(Response::Audit(Box::new(Page { anchor, head, records })))
    }
}

/// The origin with what the request itself says of it.
pub(crate) fn origin_of(ask: &Ask) -> Origin {
    let job = audit::about::job(&ask.request).or_else(|| ask.origin.job.clone());
    let reason = audit::about::reason(&ask.request).map(|reason| audit::cut(&reason, MAX_TEXT));
    Origin { job, reason, ..ask.origin.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_identity_is_summed_up_and_takes_nothing_from_others() {
        let mut refusals = Refusals::default();
        let now = Instant::from_millis(1_000);
        let noted = (0..1_000).filter(|_| refusals.supply("operator vic", now)).count();
        assert_eq!(noted, BURST as usize);
        assert!(refusals.supply("operator ann", now));
        let later = now + REFILL;
        assert!(refusals.supply("operator vic", later) && !refusals.supply("operator vic", later));
    }

    #[test]
    fn identities_beyond_the_bound_share_one_supply_until_others_are_quiet() {
        let mut refusals = Refusals::default();
        let now = Instant::from_millis(1_000);
        let noted =
            (0..2 * MAX_HOLDERS).filter(|n| refusals.supply(&format!("anonymous at {n}"), now)).count();
        assert_eq!(noted, MAX_HOLDERS + BURST as usize);
        assert!(refusals.supplies.len() <= MAX_HOLDERS + 1);
        assert!(refusals.supply("operator ann", now + REFILL * BURST));
        assert!(refusals.supplies.len() < 3);
    }

    #[test]
    fn sums_are_told_once_a_minute_each_with_its_count() {
        let mut refusals = Refusals::default();
        let now = Instant::from_millis(1_000);
        for _ in 0..5 {
            refusals.sum("operator vic", now);
        }
        assert_eq!(refusals.take_sums(now), []);
        let due = refusals.next_deadline().expect("there is a sum");
        let sums = refusals.take_sums(due);
        assert_eq!((sums.len(), sums[0].reason.as_str()), (1, "5 more refusals"));
        assert_eq!((refusals.next_deadline(), refusals.take_sums(due).len()), (None, 0));
    }
}
