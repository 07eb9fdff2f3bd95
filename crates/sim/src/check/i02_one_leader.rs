//! I2: one leader per term. That a deposed or paused one serves nothing shows in the histories (I1).

use std::collections::BTreeMap;

use crate::{
    knobs::Weather,
    world::{Phase, World},
};

/// Who led in which term.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    by_term: BTreeMap<u64, usize>,
    settled: bool,
}

impl Leaders {
    /// Who leads in the highest term.
    pub(crate) fn newest(&self) -> Option<usize> {
        self.by_term.values().next_back().copied()
    }

    /// The set-up, where leaders may change, is over.
    pub(crate) fn settle(&mut self) {
        self.settled = true;
    }
}

impl World {
    /// A manager says that it leads.
    pub(crate) fn leads(&mut self, manager: usize, term: u64) {
        let leaders = &mut self.checks.leaders;
        let first = *leaders.by_term.entry(term).or_insert(manager);
        let settled = leaders.settled;
        self.check_own_vote(manager, term);
        self.check_caught_up(manager, term);
        self.checks.count("leaders");
        let now = self.now();
        self.checks.silence.leader_began(now);
        self.checks.stamps.leader_began();
        if first != manager {
            let what = format!("m{first} and m{manager} both lead in term {term}");
            self.violate("I2", what, vec![format!("m{first}"), format!("m{manager}")]);
        }
        // Nothing happens in calm weather but that clocks jump and operators hand the lead over.
        if self.knobs.weather == Weather::Calm && settled && self.phase == Phase::Storm && !self.handed_over()
        {
            let what =
                format!("m{manager} came to lead in term {term} although nothing but clocks was disturbed");
            self.violate("I17", what, vec![format!("m{manager}")]);
        }
    }

    /// A manager gives its disk a hard state.
    pub(crate) fn note_vote(&mut self, manager: usize, hard_state: Option<&bytes::Bytes>) {
        let Some(bytes) = hard_state else { return };
        match proto::codec::decode::<consensus::HardState>(bytes) {
            Ok(state) => {
                self.managers[manager].vote = (state.term, state.vote);
                self.managers[manager].commits[0] = state.commit;
            }
            Err(error) => self.violate("I2", format!("m{manager} writes no hard state: {error}"), Vec::new()),
        }
    }

    /// Who leads has voted for itself, and its disk knows: or it could vote for another one in the same term.
    fn check_own_vote(&mut self, manager: usize, term: u64) {
        let host = &self.managers[manager];
        if host.vote != (term, host.member.0) {
            let what =
                format!("m{manager} leads in term {term}, and gave its disk term and vote {:?}", host.vote);
            self.violate("I2", what, vec![format!("m{manager}")]);
        }
    }

    /// Who serves has applied whatever was acknowledged before: everything that anybody has applied by now, unless a later
    /// leader was there already.
    fn check_caught_up(&mut self, manager: usize, term: u64) {
        let applied =
            self.managers[manager].process.as_ref().map_or(0, |process| process.core.store().applied());
        let known = self.checks.frontier().map_or(0, store::Store::applied);
        let is_newest = self.checks.leaders.newest() == Some(manager);
        if applied < known && is_newest {
            let what =
                format!("m{manager} serves in term {term} with {applied} entries applied, {known} are known");
            self.violate("I2", what, vec![format!("m{manager}"), "leader".to_owned()]);
        }
    }

    /// A member votes only once it has had the state: before, its vote would speak for entries that it never saw.
    pub(crate) fn check_voters(&mut self, manager: usize) {
        let Some(process) = &self.managers[manager].process else { return };
        let voters = process.core.status().membership.voters;
        // The founder is the first to have one.
        let empty = self
            .managers
            .iter()
            .filter(|_| voters.len() > 1)
            .find(|host| voters.contains(&host.member) && !host.has_state);
        if let Some(empty) = empty {
            let (name, about) = (empty.name.clone(), vec![empty.name.clone(), "leader".to_owned()]);
            self.violate("I2", format!("{name} votes although it never had the state"), about);
        }
    }

    /// An operator has lately asked for another leader, or for one manager less.
    fn handed_over(&self) -> bool {
        let lately = self.now().saturating_sub(10 * crate::queue::SEC);
        self.clients.operations.iter().rev().take_while(|operation| operation.invoked >= lately).any(
            |operation| {
                use model::request::Request;
                matches!(operation.request, Request::TransferLeader { .. } | Request::RemoveMember(_))
            },
        )
    }
}
