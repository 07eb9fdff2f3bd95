//! Members compare their states (invariant I3): each takes a hash at every so many entries, followers report theirs to the
//! leader, and whoever differs from a majority halts. A majority, because the leader itself may be the one that is wrong.

use std::collections::{BTreeMap, BTreeSet};

use model::id::MemberId;

use crate::{Manager, peer::PeerMessage};

/// Hashes remembered: a member that is further behind reports what nobody compares any more.
const KEPT: usize = 16;

/// What a member says of its state at an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) hash: u64,
    /// The software that took it.
    pub(crate) version: String,
}

/// Our own hashes at the newest points of comparison.
#[derive(Default)]
pub(crate) struct Hashes {
    mine: BTreeMap<u64, u64>,
}

impl Manager {
    pub(crate) fn hash_if_due(&mut self, index: u64) {
        let every = self.config.knobs.hash_every;
        if every == 0 || !index.is_multiple_of(every) {
            return;
        }
        let hash = planted::dialect(&self.config.version, self.store.hash());
        self.hashes.mine.insert(index, hash);
        while self.hashes.mine.len() > KEPT {
            self.hashes.mine.pop_first();
        }
        let version = self.config.version.clone();
        match self.node.leader() {
            Some(leader) if leader == self.config.member => {
                self.on_hash(leader, index, Report { hash, version })
            }
            Some(leader) => self.send_peer(leader, &PeerMessage::Hash { index, hash, version }),
            None => {}
        }
    }

    /// A member reports; only a leader compares.
    pub(crate) fn on_hash(&mut self, from: MemberId, index: u64, mut report: Report) {
        if report.version.is_empty() {
            report.version = self.store.member(from).map(|member| member.version.clone()).unwrap_or_default();
        }
        let voters = self.node.membership().voters.clone();
        let Some(lead) = &mut self.lead else { return };
        let reports = lead.reported_hashes.entry(index).or_default();
        reports.insert(from, report);
        let reports = reports.clone();
        while lead.reported_hashes.len() > KEPT {
            lead.reported_hashes.pop_first();
        }
        let agree = |hash: u64| {
            reports.iter().filter(|(id, report)| report.hash == hash && voters.contains(id)).count()
        };
        let hashes = reports.values().map(|report| report.hash);
        let Some(right) = hashes.into_iter().find(|hash| agree(*hash) * 2 > voters.len()) else {
            return;
        };
        // Another version of the software may know fields that the others do not: only equals are compared.
        let rights: BTreeSet<_> =
            reports.values().filter(|report| report.hash == right).map(|report| &report.version).collect();
        let differs =
            |(_, report): &(&MemberId, &Report)| report.hash != right && rights.contains(&report.version);
        let wrong: Vec<MemberId> = reports.iter().filter(differs).map(|(id, _)| *id).collect();
        for member in wrong {
            if member == self.config.member {
                self.on_diverged(index, right);
            } else {
                self.send_peer(member, &PeerMessage::Diverged { index, hash: right });
            }
        }
    }

    pub(crate) fn on_diverged(&mut self, index: u64, hash: u64) {
        let Some(mine) = self.hashes.mine.get(&index).copied().filter(|mine| *mine != hash) else { return };
        self.halt(format!(
            "the state at entry {index} has the hash {mine:016x} here and {hash:016x} on a majority of the managers: this is a \
             defect or a damaged memory. Keep this data directory for analysis, remove this member and let it join anew"
        ));
    }
}
