//! What the managers are told of tasks: transitions only, folded, and everything at once when a session begins.
//!
//! Every report costs the managers a commit. States that pass within moments (preparing, starting, running but not healthy yet) are held back for a
//! little while, so that an ordinary start is one report and a long pull is still seen.

use std::{collections::BTreeMap, time::Duration};

use model::{
    id::TaskId,
    session::TaskReport,
    task::{Health, Observed, TaskState},
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
    /// With the time at which it is to be told.
    untold: BTreeMap<TaskId, Instant>,
}

impl Reports {
    /// A session begins, and these are the reports of its greeting.
    pub(crate) fn restart(&mut self, reports: &[TaskReport]) {
        self.told = reports.iter().map(|report| (report.task, report.observed.clone())).collect();
        self.untold.clear();
    }

    /// The task looks like this now.
    pub(crate) fn note(&mut self, task: TaskId, observed: &Observed, now: Instant) {
        // That it is assigned the managers know best.
        if observed.state == TaskState::Assigned || self.told.get(&task) == Some(observed) {
            self.untold.remove(&task);
            return;
        }
        let passing =
            matches!(observed.state, TaskState::Preparing | TaskState::Starting | TaskState::Stopping)
                || (observed.state, observed.health) == (TaskState::Running, Health::Starting);
        let due = if passing { now + FOLD } else { now };
        self.untold.entry(task).and_modify(|earlier| *earlier = due.min(*earlier)).or_insert(due);
    }

    /// There is no such task any more.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.told.remove(&task);
        self.untold.remove(&task);
    }

    /// When something must be told.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.untold.values().min().copied()
    }

    /// Everything to be told now, in messages of bounded size.
    pub(crate) fn take<'a>(
        &mut self,
        now: Instant,
        observed: impl Fn(TaskId) -> Option<&'a Observed>,
    ) -> Vec<Vec<TaskReport>> {
        let due = self.untold.extract_if(.., |_, due| *due <= now);
        let reports: Vec<TaskReport> = due
            .filter_map(|(task, _)| Some(TaskReport { task, observed: observed(task)?.clone() }))
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
