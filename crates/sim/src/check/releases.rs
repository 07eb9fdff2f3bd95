//! Releases, beside I12 and I13: the history tells what was, a deployment comes after the release that it saw or not at all,
//! and nothing but the canaries runs a release that waits for them, nothing in a freeze one that does not say why.

use model::{
    freeze::Freeze,
    id::NodeId,
    service::{FailureAction, ReleaseResult, RolloutState, Service, Share, Slot},
    task::{Task, TaskState},
    time::ClusterTime,
};
use store::Store;

use crate::{deployers::AFTER, world::World};

/// Microseconds from a freeze that is proposed to the last decision that knows nothing of it: its commit. A leader that finds no majority
/// for longer leads no more.
const DECIDED_WITHIN: u64 = 2_000_000;

impl World {
    /// The state has changed.
    pub(crate) fn check_releases(&mut self, before: &Store, store: &Store) {
        let wrong = store.services().find_map(|service| {
            let what = history(service)
                .or_else(|| without_hook(before, store, service))
                .or_else(|| faulted(before, service, store))
                .or_else(|| too_early(before, store, service))
                .or_else(|| in_a_freeze(before, store, service))?;
            Some((format!("service {}: {what}", service.spec.name), service.spec.name.clone()))
        });
        self.checks.count("releases checked");
        if let Some((what, name)) = wrong {
            self.violate("I12", what, vec![name]);
        }
    }
}

fn history(service: &Service) -> Option<String> {
    let releases = &service.releases;
    if releases.len() > service.spec.update.history.max(1) as usize && service.spec.update.history > 0 {
        let bounded = releases.last().is_some_and(|newest| {
            // A policy that was changed alone trims with the next release.
            releases.len() <= newest.spec.update.history.max(1) as usize
        });
        if !bounded {
            return Some(format!("{} releases are kept", releases.len()));
        }
    }
    if !releases.is_sorted_by(|one, other| one.number < other.number) {
        return Some("its releases are out of order".into());
    }
    let newest = releases.last()?;
    if newest.number != service.template || newest.spec.template != service.spec.template {
        return Some(format!("release {} is not what is declared", newest.number.0));
    }
    if (newest.result == ReleaseResult::Running) != service.is_rolling() {
        return Some(format!("release {} is {} while {:?}", newest.number.0, newest.result, service.rollout));
    }
    let open = |result| matches!(result, ReleaseResult::Running | ReleaseResult::Paused);
    if let Some(old) = releases.iter().rev().skip(1).find(|release| open(release.result)) {
        return Some(format!("release {} is still {}", old.number.0, old.result));
    }
    releases.iter().find_map(|release| {
        let saw: u64 = release.job.strip_prefix(AFTER)?.parse().ok()?;
        let wrong = release.number.0 != saw + 1;
        wrong.then(|| format!("release {} came of a deployment that saw {saw}", release.number.0))
    })
}

/// The hook of a task's release has succeeded by now.
fn succeeded_since(store: &Store, service: &Service, task: &Task) -> bool {
    let mut hooks = store.tasks_of_slot(service.id, Slot::HOOK);
    hooks.any(|hook| hook.template == task.template && hook.observed.state == TaskState::Completed)
}

/// A release is done although routers saw one of its replicas fail.
fn faulted(before: &Store, service: &Service, store: &Store) -> Option<String> {
    let rollout = service.rollout.as_ref().filter(|rollout| rollout.state == RolloutState::Done)?;
    let known = before.service(service.id)?.rollout.as_ref()?;
    let policy = &service.spec.update;
    let tolerated =
        policy.max_failures != Share::Count(0) || policy.failure_action == FailureAction::Continue;
    if tolerated || known.state == RolloutState::Done || known.target != rollout.target {
        return None;
    }
    let mut replicas = store.replicas_of_service(service.id).filter(|task| task.is_active());
    let task = replicas.find(|task| {
        task.template == rollout.target
            && task.observed.is_healthy()
            && task.fault_since(rollout.begun()).is_some()
    })?;
    Some(format!("release {} is done with a faulted replica in slot {}", rollout.target.0, task.slot))
}

/// A task of the newest release in a slot that must wait for the canaries. Parts of a hundred are left out: how many that are
/// changes with every scaling.
fn too_early(before: &Store, store: &Store, service: &Service) -> Option<String> {
    let rollout = service.rollout.as_ref()?;
    let Share::Count(canaries) = rollout.holding()?.replicas else { return None };
    // The state before may be older than the promotion that was aborted since.
    let held = before.service(service.id).and_then(|service| service.rollout.as_ref());
    held.filter(|held| held.target == rollout.target)?;
    let early = store.replicas_of_service(service.id).find(|task| {
        let beyond = matches!(task.slot, Slot::Replica(number) if number > canaries.max(1));
        beyond && task.template == rollout.target && before.task(task.id).is_none()
    })?;
    Some(format!("slot {} runs release {} before its canaries are good", early.slot, rollout.target.0))
}

/// A replica of a release whose hook has not succeeded, a hook that passed for one that has, or two hooks at once.
fn without_hook(before: &Store, store: &Store, service: &Service) -> Option<String> {
    let hooks = store.tasks_of_slot(service.id, Slot::HOOK);
    let live = hooks.filter(|task| !task.observed.state.is_terminal()).count();
    if live > 1 {
        return Some(format!("{live} pre-deploy hooks at once"));
    }
    let is_new = |task: &&Task| before.task(task.id).is_none();
    let unprepared = |number| {
        let release = before.service(service.id).and_then(|service| service.release(number));
        release.is_some_and(|release| release.unprepared)
    };
    let mut new = store.replicas_of_service(service.id).filter(is_new);
    if let Some(new) = new.find(|task| unprepared(task.template) && !succeeded_since(store, service, task)) {
        return Some(format!(
            "slot {} gets release {}, whose hook never succeeded",
            new.slot, new.template.0
        ));
    }
    let rollout = service.rollout.as_ref()?;
    let known = before.service(service.id)?.rollout.as_ref()?;
    if known.target != rollout.target || known.hook.is_none() {
        return None;
    }
    let mut new = store.replicas_of_service(service.id).filter(|task| before.task(task.id).is_none());
    if let Some(new) = new.find(|task| task.template == rollout.target) {
        return Some(format!(
            "slot {} runs release {} before its hook has succeeded",
            new.slot, rollout.target.0
        ));
    }
    let succeeded =
        |task: &Task| task.template == rollout.target && task.observed.state == TaskState::Completed;
    let passed = rollout.hook.is_none() && !before.tasks_of_slot(service.id, Slot::HOOK).any(succeeded);
    passed.then(|| format!("release {} goes on without its hook", rollout.target.0))
}

/// A task of the newest release takes the place of one on a frozen node. A decision may be older than the freeze, by as much as
/// a leader may be slow.
fn in_a_freeze(before: &Store, store: &Store, service: &Service) -> Option<String> {
    let rollout = service.rollout.as_ref().filter(|rollout| rollout.despite_freeze.is_none())?;
    let known = before.service(service.id).and_then(|service| service.rollout.as_ref());
    known.filter(|known| known.target == rollout.target && known.state.is_under_way())?;
    let lately = ClusterTime(before.time().0.saturating_sub(DECIDED_WITHIN));
    let frozen = |node: NodeId| {
        let (freeze, _) = before.freeze_of(node, store.time())?;
        // One that was replaced or taken back meanwhile may have held nobody by then.
        let same = |now: &Freeze| (&now.spec.name, now.set) == (&freeze.spec.name, freeze.set);
        let stays = store.freezes().iter().any(same);
        (stays && freeze.set < lately && freeze.open_until(lately).is_some()).then_some(node)
    };
    store.freezes().first()?;
    let new = store.replicas_of_service(service.id).filter(|task| before.task(task.id).is_none());
    new.filter(|task| task.template == rollout.target).find_map(|new| {
        let old = || before.tasks_of_slot(service.id, new.slot);
        // A move that has begun is ended, also when its first try was rejected.
        let begun = old().any(|task| task.template == rollout.target);
        let there = old().filter(|task| !begun && task.is_active());
        let node = there.filter_map(|task| task.node).find_map(frozen)?;
        Some(format!(
            "slot {} moves to release {} although node {node} is frozen",
            new.slot, rollout.target.0
        ))
    })
}
