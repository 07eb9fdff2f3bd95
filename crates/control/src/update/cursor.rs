//! What becomes of the stored cursor: it pauses, returns, waits for its promotion, ends, or waits between two batches.

use model::{
    service::{Canary, FailureAction, Promotion, Rollout, RolloutState, Service},
    task::Task,
    time::ClusterTime,
};
use planted::Bug;

use super::{bound, standing::Standing};

/// The next step of a rollout.
pub(super) enum Next {
    /// The cursor moves; nothing else in this plan.
    Change(Rollout),
    /// The previous declaration comes back, for this reason; nothing else in this plan.
    Return(String),
    /// No new replacement before the batch is good (a change says so), or before this time.
    Wait(Option<ClusterTime>),
    /// Replacements may begin.
    Go,
}

pub(super) fn next(service: &Service, standings: &[Standing<'_>], now: ClusterTime) -> Next {
    let Some(rollout) = service.rollout.as_ref().filter(|_| super::is_under_way(service)) else {
        return Next::Go;
    };
    if let Some(failure) = standings.iter().find(|standing| standing.fails_rollout()) {
        let failure = failure.failure.as_deref().unwrap_or_default();
        return fail(service, rollout, failure, now);
    }
    let counted = || standings.iter().filter(|standing| !standing.excluded && !standing.held);
    let settled = counted().all(|standing| !standing.in_flight);
    let remaining = counted().any(|standing| standing.goes.is_some() || standing.ended_outdated);
    if settled && !remaining {
        let frozen = standings.iter().filter_map(|standing| standing.frozen).max();
        return match (frozen, rollout.holding()) {
            (Some(until), _) => thaw(service, rollout, standings.len(), until),
            (None, Some(_)) => hold(service, rollout, standings, now),
            (None, None) => Next::Change(end(rollout, standings, now)),
        };
    }
    if rollout.state == RolloutState::AwaitingPromotion {
        // A canary is not what it was: it must become good again, and its time begins anew.
        let deadline = rollout.deadline.filter(|_| !waits_for_a_person(rollout));
        return Next::Change(Rollout { deadline, ..moved(rollout, RolloutState::Updating, "", now) });
    }
    if is_late(rollout, now) {
        return late(service, rollout, standings, now);
    }
    match settled {
        true => pause_between(service, rollout, standings, now),
        false if service.spec.update.delay.is_zero() => Next::Go,
        // With a delay the batches are strict: the next one begins when all of this one is good.
        false => Next::Wait(None),
    }
}

pub(super) fn is_late(rollout: &Rollout, now: ClusterTime) -> bool {
    rollout.deadline.is_some_and(|deadline| deadline <= now) && !planted::is(Bug::RolloutDeadlineIgnored)
}

/// The cursor with the time that it has, if it has none yet.
pub(super) fn bounded(service: &Service, slots: usize, now: ClusterTime) -> Option<Rollout> {
    let rollout = service
        .rollout
        .as_ref()
        .filter(|rollout| super::is_under_way(service) && rollout.deadline.is_none())?;
    let deadline = Some(now + bound::whole(service, rollout, slots));
    Some(Rollout { deadline, ..rollout.clone() })
}

fn fail(service: &Service, rollout: &Rollout, failure: &str, now: ClusterTime) -> Next {
    match service.spec.update.failure_action {
        FailureAction::Continue => Next::Go,
        FailureAction::Rollback if can_return(service, rollout) => Next::Return(failure.to_owned()),
        FailureAction::Rollback | FailureAction::Pause => stop(rollout, failure, now),
    }
}

fn can_return(service: &Service, rollout: &Rollout) -> bool {
    rollout.state != RolloutState::RollingBack && service.previous.is_some()
}

/// Its time is over: it ends even where a failed slot would not end it.
fn late(service: &Service, rollout: &Rollout, standings: &[Standing<'_>], now: ClusterTime) -> Next {
    let counted = standings.iter().filter(|standing| !standing.excluded);
    let left = counted.filter(|standing| standing.in_flight || standing.goes.is_some()).count();
    let message = format!("it has not ended in time: {left} of {} slots are left", standings.len());
    give_up(service, rollout, &message, now)
}

/// It ends here, whatever the policy says of single failures.
pub(super) fn give_up(service: &Service, rollout: &Rollout, why: &str, now: ClusterTime) -> Next {
    match service.spec.update.failure_action {
        FailureAction::Rollback if can_return(service, rollout) => Next::Return(why.to_owned()),
        FailureAction::Rollback | FailureAction::Pause | FailureAction::Continue => stop(rollout, why, now),
    }
}

/// A rollback that fails has nowhere to go: it says so.
fn stop(rollout: &Rollout, why: &str, now: ClusterTime) -> Next {
    let message = match rollout.state {
        RolloutState::RollingBack => format!("the rollback failed: {why}"),
        _ => why.to_owned(),
    };
    let paused_from = Some(rollout.state);
    Next::Change(Rollout { paused_from, ..moved(rollout, RolloutState::Paused, &message, now) })
}

/// Only slots on frozen nodes are left: they have the whole time once their freeze is over.
pub(super) fn thaw(service: &Service, rollout: &Rollout, slots: usize, until: ClusterTime) -> Next {
    let deadline = until + bound::whole(service, rollout, slots);
    match rollout.deadline.is_some_and(|known| known >= deadline) {
        true => Next::Wait(Some(until)),
        false => Next::Change(Rollout { deadline: Some(deadline), ..rollout.clone() }),
    }
}

/// All canaries are good: the others follow when they were so for long enough, or on a person's word.
fn hold(service: &Service, rollout: &Rollout, standings: &[Standing<'_>], now: ClusterTime) -> Next {
    let Some(policy) = rollout.holding() else { return Next::Go };
    let target = |standing: &&Standing<'_>| {
        let task = standing.stays.or(standing.newest.filter(|_| standing.completed));
        // A release may have the contents that its replicas have already, under an older number.
        let contents = |version| service.template_of(version);
        let is_target = |task: &Task| contents(task.template) == contents(rollout.target);
        task.is_some_and(is_target) && standing.good && !standing.excluded
    };
    if !standings.is_empty() && standings.iter().filter(target).count() == 0 {
        // As many as fail may fail, but with no good canary nothing tells the others to follow.
        let failed = standings.iter().filter(|standing| !standing.held);
        if let Some(failure) = failed.filter_map(|standing| standing.failure.as_deref()).next() {
            return give_up(service, rollout, failure, now);
        }
        return match is_late(rollout, now) {
            true => late(service, rollout, standings, now),
            false => Next::Wait(None),
        };
    }
    let over = rollout.since + policy.soak;
    match (rollout.state, policy.promotion) {
        (RolloutState::AwaitingPromotion, Promotion::Manual) => Next::Wait(None),
        (RolloutState::AwaitingPromotion, Promotion::Automatic) if over > now => Next::Wait(Some(over)),
        (RolloutState::AwaitingPromotion, Promotion::Automatic) => {
            let canary = Some(Canary { policy: policy.clone(), promoted: true });
            Next::Change(Rollout { canary, ..moved(rollout, RolloutState::Updating, "", now) })
        }
        _ => Next::Change(moved(rollout, RolloutState::AwaitingPromotion, "", now)),
    }
}

fn waits_for_a_person(rollout: &Rollout) -> bool {
    rollout.holding().is_some_and(|policy| policy.promotion == Promotion::Manual)
}

fn end(rollout: &Rollout, standings: &[Standing<'_>], now: ClusterTime) -> Rollout {
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
    moved(rollout, state, &message, now)
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
        return Next::Change(Rollout { next_batch_at: due, ..rollout.clone() });
    }
    if rollout.next_batch_at > now { Next::Wait(Some(rollout.next_batch_at)) } else { Next::Go }
}

fn moved(rollout: &Rollout, state: RolloutState, message: &str, now: ClusterTime) -> Rollout {
    Rollout { state, message: message.to_owned(), since: now, ..rollout.clone() }
}
