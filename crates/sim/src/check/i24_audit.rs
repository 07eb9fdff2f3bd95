//! I24: the same audit on every manager; every change that a client was told is done is recorded once, and every refusal too.

use std::collections::BTreeMap;

use manager_core::SpaceState;
use model::{
    audit::{Digest, Verdict},
    id::RequestId,
    request::{ApiError, ErrorCode, Reply, Request},
};
use store::Store;

use crate::{client::Purpose, world::World};

/// Indices kept; a member that is further behind is compared when it has caught up.
const KEPT: usize = 4_096;
/// An identity's refusals that are recorded one by one at least; see `manager-core`.
const EACH: u64 = 60;

/// What is known of the audit.
#[derive(Debug, Default)]
pub(crate) struct Audits {
    /// The head at each index.
    heads: BTreeMap<u64, (Digest, usize)>,
    /// Every record that was ever seen.
    hashes: BTreeMap<u64, Digest>,
    /// The verdicts of the records of each request.
    recorded: BTreeMap<RequestId, Vec<Verdict>>,
    /// Some records came and went between two looks.
    gaps: bool,
    /// Requests that were answered, and whether they were done.
    answered: Vec<(RequestId, bool)>,
    refused: u64,
}

impl World {
    /// What a manager has recorded at an index.
    pub(crate) fn check_same_audit(&mut self, manager: usize, store: &Store) {
        let Some((_, head)) = store.audit_ends() else { return };
        let heads = &mut self.checks.audit.heads;
        let (first, other) = *heads.entry(store.applied()).or_insert((head.hash, manager));
        if heads.len() > KEPT {
            heads.pop_first();
        }
        if first != head.hash {
            let what = format!("the audits of m{other} and m{manager} differ at index {}", store.applied());
            self.violate("I24", what, vec![format!("m{other}"), format!("m{manager}")]);
        }
    }

    /// More is recorded than was known before.
    pub(crate) fn check_audit(&mut self, store: &Store) {
        let Some((anchor, head)) = store.audit_ends() else { return };
        let audits = &mut self.checks.audit;
        let last = audits.hashes.last_key_value().map_or(0, |(number, _)| *number);
        audits.gaps |= anchor.number > last;
        let mut wrong = None;
        for record in store.audit_after(last) {
            audits.hashes.insert(record.number, record.hash);
            if let Some(request) = record.request {
                audits.recorded.entry(request).or_default().push(record.verdict);
            }
        }
        if let Some(known) = audits.hashes.get(&anchor.number).filter(|known| **known != anchor.hash) {
            wrong =
                Some(format!("the anchor {} has the hash {}, record {known}", anchor.number, anchor.hash));
        }
        let first = store.audit_after(0).next();
        if let Some(first) = first.filter(|first| anchor.follow(first).is_err()) {
            wrong = Some(format!("record {} does not follow the anchor {}", first.number, anchor.number));
        }
        if audits.hashes.get(&head.number) != Some(&head.hash) {
            wrong = Some(format!("the head {} is not a record that was seen", head.number));
        }
        let went = anchor.number > 0;
        if let Some(what) = wrong {
            return self.violate("I24", what, vec!["leader".to_owned()]);
        }
        self.checks.count(if went { "audits with an anchor" } else { "audits from the first record" });
    }

    /// A client was told how a change ended.
    pub(crate) fn check_recorded(&mut self, operation: usize, result: &Result<Reply, ApiError>) {
        let asked = &self.clients.operations[operation];
        let Some(request) = asked.request_id else { return };
        let transfer = matches!(asked.request, Request::TransferLeader { .. });
        match result {
            // The lead is handed over because nothing more can be written.
            Ok(_) if transfer && self.any_disk_is_full() => {}
            Ok(_) => self.checks.audit.answered.push((request, true)),
            // Shut out by its certificate, at the door.
            Err(error)
                if matches!(asked.purpose, Purpose::Paper(_)) && error.code == ErrorCode::Unauthenticated => {
            }
            // On a full disk refusals are only counted.
            Err(_) if self.any_disk_is_full() => {}
            Err(error) if error.code != ErrorCode::Internal => {
                self.checks.audit.answered.push((request, false));
                self.checks.audit.refused += 1;
            }
            Err(_) => {}
        }
    }

    fn any_disk_is_full(&self) -> bool {
        let mut processes = self.managers.iter().filter_map(|host| host.process.as_ref());
        processes.any(|process| process.writer.space() != SpaceState::Enough)
    }

    /// At the end: of what clients were told nothing is missing, and nothing is there twice.
    pub(crate) fn check_all_recorded(&mut self) {
        let audits = &self.checks.audit;
        if audits.gaps {
            return self.checks.count("audits with a gap between two looks");
        }
        let wrong = audits.answered.iter().find_map(|(request, done)| {
            let verdicts = audits.recorded.get(request).map(Vec::as_slice).unwrap_or_default();
            let accepted = verdicts.iter().filter(|verdict| **verdict == Verdict::Accepted).count();
            match done {
                true if accepted != 1 => {
                    Some(format!("request {request} was done, and is recorded as {verdicts:?}"))
                }
                false if verdicts.is_empty() && audits.refused <= EACH => {
                    Some(format!("request {request} was refused, and there is no record of it"))
                }
                _ => None,
            }
        });
        let twice = audits.recorded.iter().find(|(_, verdicts)| {
            verdicts.iter().filter(|verdict| **verdict == Verdict::Accepted).count() > 1
        });
        let twice = twice.map(|(request, _)| format!("request {request} is recorded as done twice"));
        if let Some(what) = wrong.or(twice) {
            return self.violate("I24", what, vec!["client".to_owned()]);
        }
        self.checks.count("audits that account for every answer");
    }
}
