//! Replaces tasks that need not go at once: a new template (rollout, rollback), a drained node, constraints that no longer
//! hold.
//!
//! Intuition: look at every slot as it is observed now, count how many are not healthy, and spend what the policy's
//! `parallelism` leaves. There is no memory besides the stored cursor ([`model::service::Rollout`]): any leader, at any
//! moment, comes to the same next step, and a new template in the middle of a rollout is simply another answer to "which
//! tasks are outdated".
//!
//! Guarantees (I11): stop-first never stops a healthy replica unless at least N - parallelism stay healthy; start-first never
//! stops one before its successor is good, unless it must leave its node and no node can take the successor. A replica that
//! is not healthy is replaced first and costs nothing. What a lost node last said counts as not healthy.
//!
//! Not counted in N, or one dead machine would hold an update for ever: slots whose node is down and that no other node can
//! take, slots that were given up under `continue`, and, for drains, slots whose task no node can take, that failed for good
//! or have not become healthy within the progress deadline.
//!
//! Failure it prevents: acting twice on one observation. A slot that this very plan already touched counts as not healthy
//! and in flight, and the next plan is made only after this one was applied.
//!
//! `auto` promises what stop-first does, and keeps what start-first does wherever there is room.
//!
//! A rollout with canaries sees the first slots only ([`keeps_its_own`](reconcile::fill::keeps_its_own)): to the others it is
//! as if it were paused, and its end is the beginning of the wait for its promotion.
//!
//! To a slot on a frozen node ([`frozen`](reconcile::fill::frozen)) a rollout is paused as well. It waits for the last one, and that time
//! does not count.
//!
//! While the pre-deploy hook has not succeeded, a rollout is paused to every slot.
//!
//! Read in this order: [`standing`] (one slot judged), [`cursor`] (what becomes of the rollout), [`hook`] (what comes before
//! the first slot), [`bound`] (how long it may take), [`fetch`] (images before stops), then this file.

mod bound;
mod cursor;
mod fetch;
pub(crate) mod hook;
mod standing;

use model::{
    command::Decision,
    service::{Mode, Service, Slot, UpdateOrder},
    task::Task,
};

use planted::Bug;

use crate::{
    enforce,
    pass::{Fill, Key, Pass},
    reconcile,
    scheduler::filter::candidates,
};
use cursor::Next;
pub(crate) use fetch::waits_for as fetches;
pub use fetch::{Fetch, Fetches};
use standing::Standing;

/// Whether the stored cursor stands in the middle of a rollout.
pub(crate) fn is_under_way(service: &Service) -> bool {
    service.is_rolling()
}

/// Takes the next step of a service: at most one change of the cursor, or as many replacements as the budget allows.
pub(crate) fn advance(pass: &mut Pass<'_>, service: &Service) {
    let slots = reconcile::wanted(pass, service, 0);
    let mut standings: Vec<Standing<'_>> =
        slots.into_iter().map(|slot| Standing::judge(pass, service, slot)).collect();
    fetch::judge(pass, service, &mut standings);
    tolerate(service, &mut standings);
    for at in standings.iter().flat_map(|standing| [standing.next_look, standing.frozen]).flatten() {
        pass.wake(at, Key::Service(service.id));
    }
    let surplus =
        standings.iter().flat_map(|standing| standing.surplus.iter().map(move |task| (standing, task)));
    for (standing, surplus) in surplus {
        if pass.is_full() {
            break;
        }
        pass.stop_beside(surplus, standing.stays.or(standing.goes), "its slot keeps the healthier task");
    }
    let next = hook::next(pass, service, standings.len()).unwrap_or_else(|| {
        match cursor::next(service, &standings, pass.now) {
            Next::Go => fetch::next(pass, service),
            other => other,
        }
    });
    let delay = match next {
        Next::Change(rollout) => {
            let (service, expected) = (service.id, service.generation);
            pass.decisions.push(Decision::SetRollout { service, expected, rollout });
            return;
        }
        Next::Return(reason) => {
            let (service, expected) = (service.id, service.generation);
            pass.decisions.push(Decision::RollBack { service, expected, reason });
            return;
        }
        Next::Wait(at) => {
            at.into_iter().for_each(|at| pass.wake(at, Key::Service(service.id)));
            true
        }
        Next::Go => false,
    };
    wake_at_deadline(pass, service);
    finish_pairs(pass, service, &standings);
    spend(pass, service, &standings, delay);
    if let Some(rollout) = cursor::bounded(service, standings.len(), pass.now) {
        // Behind the others: they were decided on the generation that this one ends.
        let (service, expected) = (service.id, service.generation);
        pass.decisions.push(Decision::SetRollout { service, expected, rollout });
    }
}

/// As many failed slots as the policy allows are given up, and neither fail the rollout nor hold it.
fn tolerate(service: &Service, standings: &mut [Standing<'_>]) {
    let slots = u32::try_from(standings.len()).unwrap_or(u32::MAX);
    let allowed = service.spec.update.max_failures.of(slots) as usize;
    if allowed == 0 || !is_under_way(service) {
        return;
    }
    let failed = standings.iter().filter(|standing| standing.fails_rollout()).count();
    if failed <= allowed {
        standings.iter_mut().for_each(Standing::give_up);
    }
}

fn wake_at_deadline(pass: &mut Pass<'_>, service: &Service) {
    let deadline = service.rollout.as_ref().filter(|_| is_under_way(service)).and_then(|r| r.deadline);
    if let Some(at) = deadline.filter(|at| *at > pass.now) {
        pass.wake(at, Key::Service(service.id));
    }
}

/// Ends start-first replacements whose new task is good. A task that must leave its node while no other has room for it goes
/// at once, as with stop-first: waiting would keep the node full, and makes no room.
fn finish_pairs(pass: &mut Pass<'_>, service: &Service, standings: &[Standing<'_>]) {
    for standing in standings {
        let Some(old) = standing.goes.filter(|_| !standing.acted && !pass.is_full()) else { continue };
        // A completed successor is as good as a healthy one; it is no active task any more.
        let succeeded = standing.good && (standing.stays.is_some() || standing.completed);
        let leaves = enforce::must_leave(pass.store, service, old);
        let overdue = leaves.is_some() && standing.stays.is_some() && standing.overdue;
        let idle = old.node.is_none() && standing.stays.is_some();
        let nowhere = (leaves.is_some() && standing.has_no_room(service)) || yields(pass, service, standing);
        if succeeded || overdue || idle || nowhere {
            pass.stop_beside(old, standing.stays, leaves.unwrap_or_else(|| replaced_reason(service)));
        }
    }
}

/// Whether nodes that would take the successor have no room for it beside the old one, and nobody insisted on start-first: as
/// with stop-first the old one goes.
fn yields(pass: &mut Pass<'_>, service: &Service, standing: &Standing<'_>) -> bool {
    let refused = standing.stays.filter(|task| {
        task.node.is_none() && task.pending.as_ref().is_some_and(|reason| !reason.filters.is_empty())
    });
    service.spec.update.order == UpdateOrder::Auto
        && refused.is_some()
        && candidates(pass.nodes, &service.spec.template).count() > 0
}

/// Starts replacements within the budget: unhealthy replicas first, then drained ones, then by slot.
fn spend(pass: &mut Pass<'_>, service: &Service, standings: &[Standing<'_>], delay: bool) {
    let counted = || standings.iter().filter(|standing| !standing.excluded);
    let most = usize::try_from(service.spec.update.parallelism.max(1)).unwrap_or(usize::MAX);
    let mut in_flight = counted().filter(|standing| standing.in_flight).count();
    // A slot that completed on the wanted template is done, not down: it would hold the others back for ever.
    let mut unhealthy = counted().filter(|standing| !standing.healthy && !standing.completed).count();
    let mut candidates: Vec<&Standing<'_>> =
        standings.iter().filter(|standing| standing.is_candidate(pass, service)).collect();
    candidates.sort_by_key(|standing| (standing.healthy, !standing.leaves, standing.slot));
    for standing in candidates {
        let unbounded = standing.leaves && planted::is(Bug::DrainIgnoresFloor);
        if (in_flight >= most && !unbounded) || pass.is_full() {
            break;
        }
        if delay && !standing.leaves {
            continue;
        }
        let start_first = service.spec.order().start_first && standing.healthy;
        if start_first {
            replace(pass, service, standing, true);
        } else if !standing.healthy {
            replace(pass, service, standing, false);
        } else if unhealthy < most || unbounded {
            unhealthy += 1;
            replace(pass, service, standing, false);
        } else {
            continue;
        }
        in_flight += 1;
    }
}

fn replace(pass: &mut Pass<'_>, service: &Service, standing: &Standing<'_>, start_first: bool) {
    let slot = standing.slot;
    let version = reconcile::fill::version_for(pass, service, slot, standing.newest);
    let fill = |alongside| Fill { service, slot, version, previous: standing.newest, alongside };
    let Some(old) = standing.goes else {
        // The slot is kept by a task that ended for good: nothing to stop.
        pass.create(fill(None));
        return;
    };
    if start_first {
        pass.create(fill(Some(old.id)));
        return;
    }
    let reason = enforce::must_leave(pass.store, service, old).unwrap_or_else(|| replaced_reason(service));
    pass.stop(old, reason);
    if old.node.is_none() {
        // It ends at once, so that its successor need not wait.
        pass.create(fill(None));
    }
}

fn replaced_reason(service: &Service) -> String {
    format!("replaced by template {}", service.template.0)
}

/// Whether a global slot's node takes a new task: on a paused node the old one simply goes on.
fn takes_new(pass: &Pass<'_>, service: &Service, slot: Slot) -> bool {
    match (service.spec.mode, slot) {
        (Mode::Global, Slot::Node(id)) => pass
            .store
            .node(id)
            .is_some_and(|node| reconcile::global::wants(&service.spec.template, node, false)),
        _ => true,
    }
}

/// Whether two tasks are one and the same.
fn is_same(a: Option<&Task>, b: &Task) -> bool {
    a.is_some_and(|a| a.id == b.id)
}
