//! Trims history: ended tasks beyond a few per slot, removed services, tokens that admit nobody any more.

use model::{
    command::Decision,
    id::TokenId,
    node::NodeState,
    service::Service,
    task::{Task, TaskState},
};

use planted::Bug;

use crate::{
    pass::{Key, Pass},
    plan::MAX_DECISIONS,
    reconcile::slot::{SlotTasks, node_of},
};

/// Ended tasks kept per slot: enough to see why a slot moved, bounded under a crash loop.
pub(crate) const MAX_ENDED_PER_SLOT: usize = 5;

/// Forgets the oldest ended tasks of a slot, but `kept`.
pub(crate) fn trim(pass: &mut Pass<'_>, tasks: &SlotTasks<'_>, kept: usize) {
    if planted::is(Bug::HistoryUnbounded) {
        return;
    }
    // What a job has completed says that it is not to be done again.
    let job =
        |task: &Task| pass.store.service(task.service).is_some_and(|service| service.spec.job.is_some());
    let done = |task: &&&Task| task.observed.state == TaskState::Completed && job(task);
    let ended: Vec<&Task> = tasks.ended.iter().filter(|task| !done(task)).copied().collect();
    let excess = ended.len().saturating_sub(kept);
    let room = (MAX_DECISIONS - 8).saturating_sub(pass.decisions.len());
    ended.iter().take(excess.min(room)).for_each(|task| pass.reap(task));
    if let Some(task) = ended.get(room).filter(|_| room < excess) {
        pass.act(task.service, task.slot);
    }
}

/// Stops and forgets the tasks of a removed service, then the service. Returns whether the plan was full before the end.
pub(crate) fn removed_service(pass: &mut Pass<'_>, service: &Service) -> bool {
    let mut tasks = 0;
    for task in pass.store.tasks_of_service(service.id) {
        if pass.is_full() {
            return true;
        }
        tasks += 1;
        if task.observed.state.is_terminal() {
            pass.reap(task);
        } else if task.is_active() {
            pass.stop(task, "the service was removed");
        } else if node_of(pass.store, task).is_none_or(|node| node.state == NodeState::Down) {
            // Nobody answers for it; on its return the node's agent removes what it is not assigned.
            pass.lose(task, "the service was removed while its node was down");
        }
    }
    if tasks == 0 {
        pass.decisions.push(Decision::DropService { service: service.id, expected: service.generation });
    }
    pass.soft.forget_service(service.id);
    false
}

/// Forgets a token that is used up or has expired.
pub(crate) fn token(pass: &mut Pass<'_>, id: TokenId) {
    let Some(token) = pass.store.token(id) else { return };
    if token.uses_left == 0 || token.expires <= pass.now {
        pass.decisions.push(Decision::DropToken { id });
    } else {
        pass.wake(token.expires, Key::Token(id));
    }
}
