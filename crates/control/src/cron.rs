//! Crons: what happens when a time has come, and which ended jobs are kept.
//!
//! The state says which time is next; it has come when the cluster's time has. One decision names that time, what happens, and the next
//! one. Of times that came while nobody decided only the last can still run, and only if it is not too late: however long the managers
//! were away, one cron makes one job when they are back.

use model::{
    command::Decision,
    cron::{Cron, CronStep, MAX_BESIDE, Overlap, RunState},
    id::{CronId, ServiceId},
    job::{JobState, JobStatus},
    time::ClusterTime,
};
use planted::Bug;

use crate::{
    pass::{Key, Pass},
    schedule::Schedule,
};

/// Looks at a cron.
pub(crate) fn look(pass: &mut Pass<'_>, id: CronId) {
    let store = pass.store;
    let Some(cron) = store.cron(id) else { return };
    forget_jobs(pass, cron);
    let Some(mut due) = cron.next.filter(|_| !cron.spec.suspended) else { return };
    if let [only] = &cron.runs[..]
        && planted::is(Bug::CronRunsTwice)
    {
        due = only.due;
    }
    if due > pass.now {
        return pass.wake(due, Key::Cron(id));
    }
    let (due, next, step) = decide(pass, cron, due);
    let expected = cron.generation;
    pass.decisions.push(Decision::RunCron { cron: id, expected, due, next, step });
}

fn decide(
    pass: &mut Pass<'_>,
    cron: &Cron,
    due: ClusterTime,
) -> (ClusterTime, Option<ClusterTime>, CronStep) {
    let skip = |message: String| CronStep::Skip { message };
    let schedule = match Schedule::parse(&cron.spec.schedule, &cron.spec.zone) {
        Ok(schedule) => schedule,
        Err((path, wrong)) => {
            return (due, None, skip(format!("{path}: {wrong}; declare it anew")));
        }
    };
    let next = schedule.next(pass.now);
    let Some(last) = newest(pass, cron, &schedule, due) else {
        let late = pass.now.since(due).as_secs();
        return (due, next, skip(format!("no manager decided in time: it is {late} s late")));
    };
    let running: Vec<ServiceId> = pass.store.running_jobs(cron).map(|service| service.id).collect();
    let beside = match cron.spec.overlap {
        Overlap::Forbid => 1,
        Overlap::Allow => MAX_BESIDE,
        Overlap::Replace => usize::MAX,
    };
    if running.len() >= beside && !planted::is(Bug::CronOverlaps) {
        let message = match running.len() {
            1 => "the run before it still goes on".into(),
            many => format!("{many} runs before it still go on"),
        };
        return (last, next, skip(message));
    }
    let replaces = if cron.spec.overlap == Overlap::Replace { running } else { Vec::new() };
    let message = if last == due { String::new() } else { "the times before it were missed".into() };
    (last, next, CronStep::Start { job: ServiceId(pass.ids.next()), replaces, message })
}

/// The newest time that has come and is not too late.
fn newest(pass: &Pass<'_>, cron: &Cron, schedule: &Schedule, due: ClusterTime) -> Option<ClusterTime> {
    let patience = cron.spec.missed.patience();
    let earliest =
        ClusterTime(pass.now.0.saturating_sub(u64::try_from(patience.as_micros()).unwrap_or(u64::MAX)));
    let later = schedule.last(due.max(ClusterTime(earliest.0.saturating_sub(1))), pass.now);
    later.or_else(|| Some(due).filter(|due| *due >= earliest))
}

/// Ended jobs beyond those that are kept, oldest first.
fn forget_jobs(pass: &mut Pass<'_>, cron: &Cron) {
    for (state, kept) in
        [(JobState::Complete, cron.spec.keep_complete), (JobState::Failed, cron.spec.keep_failed)]
    {
        let ended = cron.runs.iter().filter(|run| run.state == RunState::from(state));
        let ended = ended.filter_map(|run| pass.store.service(run.job.as_ref()?.0));
        let ended =
            ended.filter(|service| !service.removing && service.job.as_ref().is_some_and(JobStatus::is_over));
        let ended: Vec<_> = ended.collect();
        let excess = ended.len().saturating_sub(usize::try_from(kept).unwrap_or(usize::MAX));
        for service in ended.into_iter().take(excess) {
            let (service, expected) = (service.id, service.generation);
            pass.decisions.push(Decision::RemoveJob { service, expected });
        }
    }
}
