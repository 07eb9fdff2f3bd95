//! What the managers are told of tasks: transitions only, folded, and everything at once when a session begins.
//!
//! Every report costs the managers a commit. States that pass within moments (preparing, starting) are held back for a
//! little while, so that an ordinary start is one report and a long pull is still seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{
    id::TaskId,
    session::TaskReport,
    task::{Observed, TaskState},
    time::Instant,
};

/// How long a passing state is held back.
const FOLD: Duration = Duration::from_millis(500);
/// Reports in one message: far below the limit of a message, whatever their texts.
const MAX_REPORTS: usize = 256;

/// What was told, and what is still to be told.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    told: BTreeMap<TaskId, Observed>,
    untold: BTreeSet<TaskId>,
    due: Option<Instant>,
}

impl Reports {
    /// A session begins, and these are the reports of its greeting.
    pub(crate) fn restart(&mut self, reports: &[TaskReport]) {
        self.told = reports.iter().map(|report| (report.task, report.observed.clone())).collect();
        self.untold.clear();
        self.due = None;
    }

    /// The task looks like this now.
    pub(crate) fn note(&mut self, task: TaskId, observed: &Observed, now: Instant) {
        if self.told.get(&task) == Some(observed) {
            self.untold.remove(&task);
            return;
        }
        self.untold.insert(task);
        let passing =
            matches!(observed.state, TaskState::Preparing | TaskState::Starting | TaskState::Stopping);
        let due = if passing { now + FOLD } else { now };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// There is no such task any more.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.told.remove(&task);
        self.untold.remove(&task);
    }

    /// When something must be told.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.filter(|_| !self.untold.is_empty())
    }

    /// Everything to be told now, in messages of bounded size.
    pub(crate) fn take<'a>(
        &mut self,
        now: Instant,
        observed: impl Fn(TaskId) -> Option<&'a Observed>,
    ) -> Vec<Vec<TaskReport>> {
        if self.deadline().is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = None;
        let untold = std::mem::take(&mut self.untold);
        let reports: Vec<TaskReport> = untold
            .into_iter()
            .filter_map(|task| Some(TaskReport { task, observed: observed(task)?.clone() }))
            .collect();
        self.told.extend(reports.iter().map(|report| (report.task, report.observed.clone())));
        reports.chunks(MAX_REPORTS).map(<[TaskReport]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(reports: &mut Reports, now: u64, state: TaskState) -> usize {
        let observed = Observed { state, ..Default::default() };
        reports.note(TaskId(1), &observed, Instant::from_millis(now));
        reports.take(Instant::from_millis(now), |_| Some(&observed)).concat().len()
    }

    #[test]
    fn a_passing_state_is_folded_into_the_next_lasting_one() {
        let mut reports = Reports::default();
        assert_eq!(taken(&mut reports, 0, TaskState::Starting), 0);
        assert_eq!(taken(&mut reports, 200, TaskState::Running), 1);
        assert_eq!(taken(&mut reports, 300, TaskState::Running), 0);
    }

    #[test]
    fn a_passing_state_that_lasts_is_told_after_all() {
        let mut reports = Reports::default();
        taken(&mut reports, 0, TaskState::Preparing);
        assert_eq!(taken(&mut reports, 500, TaskState::Preparing), 1);
    }
}
