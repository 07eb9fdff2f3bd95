//! What becomes of the stored cursor: it pauses, returns, ends, or waits between two batches.

use model::{
    command::Decision,
    service::{FailureAction, Rollout, RolloutState, Service},
    time::ClusterTime,
};

use super::standing::Standing;

/// The next step of a rollout.
pub(super) enum Next {
    /// The cursor moves; nothing else in this plan.
    Change(Decision),
    /// No new replacement before the batch is good (a change says so), or before this time.
    Wait(Option<ClusterTime>),
    /// Replacements may begin.
    Go,
}

pub(super) fn next(service: &Service, standings: &[Standing<'_>], now: ClusterTime) -> Next {
    let Some(rollout) = service.rollout.as_ref().filter(|_| super::is_under_way(service)) else {
        return Next::Go;
    };
    let ours = standings.iter().filter(|standing| !standing.excluded && !standing.old_failure);
    let failure = ours.filter_map(|standing| standing.failure.as_ref()).next();
    if let Some(failure) = failure {
        return fail(service, rollout, failure, now);
    }
    let counted = || standings.iter().filter(|standing| !standing.excluded);
    let settled = counted().all(|standing| !standing.in_flight);
    let remaining = counted().any(|standing| standing.goes.is_some() || standing.ended_outdated);
    match (settled, remaining) {
        (true, false) => Next::Change(end(service, rollout, standings, now)),
        (true, true) => pause_between(service, rollout, standings, now),
        (false, _) if service.spec.update.delay.is_zero() => Next::Go,
        // With a delay the batches are strict: the next one begins when all of this one is good.
        (false, _) => Next::Wait(None),
    }
}

fn fail(service: &Service, rollout: &Rollout, failure: &str, now: ClusterTime) -> Next {
    let can_return = rollout.state == RolloutState::Updating && service.previous.is_some();
    match service.spec.update.failure_action {
        FailureAction::Continue => Next::Go,
        FailureAction::Rollback if can_return => Next::Change(Decision::RollBack {
            service: service.id,
            expected: service.generation,
            reason: failure.to_owned(),
        }),
        FailureAction::Rollback | FailureAction::Pause => {
            Next::Change(moved(service, rollout, RolloutState::Paused, failure.to_owned(), now))
        }
    }
}

fn end(service: &Service, rollout: &Rollout, standings: &[Standing<'_>], now: ClusterTime) -> Decision {
    let state = match rollout.state {
        RolloutState::RollingBack => RolloutState::RolledBack,
        _ => RolloutState::Done,
    };
    let failed = standings.iter().filter(|standing| standing.failure.is_some()).count();
    let skipped = standings.iter().filter(|standing| standing.excluded && standing.failure.is_none()).count();
    let message = match (failed, skipped) {
        (0, 0) => rollout.message.clone(),
        (0, skipped) => {
            format!("{skipped} skipped because their node is down or paused; they follow when it returns")
        }
        (failed, 0) => format!("{failed} failed"),
        (failed, skipped) => {
            format!("{failed} failed, {skipped} skipped because their node is down or paused")
        }
    };
    moved(service, rollout, state, message, now)
}

/// The pause between two batches, stored when a batch has become good.
fn pause_between(service: &Service, rollout: &Rollout, standings: &[Standing<'_>], now: ClusterTime) -> Next {
    let policy = &service.spec.update;
    if policy.delay.is_zero() {
        return Next::Go;
    }
    let current = standings.iter().filter_map(|standing| standing.stays);
    let began = current.filter(|task| task.created > rollout.started).filter_map(|task| task.healthy_since);
    let Some(good_at) = began.map(|at| at + policy.monitor).max() else { return Next::Go };
    let due = good_at + policy.delay;
    if rollout.next_batch_at < due {
        let rollout = Rollout { next_batch_at: due, ..rollout.clone() };
        let (service, expected) = (service.id, service.generation);
        return Next::Change(Decision::SetRollout { service, expected, rollout });
    }
    if rollout.next_batch_at > now { Next::Wait(Some(rollout.next_batch_at)) } else { Next::Go }
}

fn moved(
    service: &Service,
    rollout: &Rollout,
    state: RolloutState,
    message: String,
    now: ClusterTime,
) -> Decision {
    let rollout = Rollout { state, message, since: now, ..rollout.clone() };
    Decision::SetRollout { service: service.id, expected: service.generation, rollout }
}
