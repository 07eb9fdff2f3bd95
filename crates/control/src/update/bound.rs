//! How long a rollout may take as a whole: what a user declared, or what the steps of its policy add up to.
//!
//! The sum is generous, because a rollout that gets there slowly must not fail for it: every batch may use the whole time of
//! one replica. It is there so that a rollout ends whatever happens; the time of each replica is what finds failures early.

use std::time::Duration;

use model::service::{Promotion, Rollout, Service, TaskTemplate};

/// What an engine takes when nobody says how long a container may take to stop.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// Reports, decisions and a slow engine, once a batch.
const BATCH_SLACK: Duration = Duration::from_secs(5);

/// The whole time of a rollout of so many slots, from its start or its latest resumption.
pub(super) fn whole(service: &Service, rollout: &Rollout, slots: usize) -> Duration {
    let policy = &service.spec.update;
    if let Some(declared) = policy.deadline {
        return declared;
    }
    let stop = service.templates.values().map(|template| longest_stop(template)).max().unwrap_or_default();
    let batch = policy.progress_deadline + policy.monitor + policy.delay + stop + BATCH_SLACK;
    let slots = u32::try_from(slots).unwrap_or(u32::MAX).max(1);
    // The canaries are batches of their own: their last one may be smaller than the policy allows.
    let batches =
        slots.div_ceil(policy.parallelism.max(1)).saturating_add(u32::from(rollout.canary.is_some()));
    let soak = rollout.holding().filter(|canary| canary.promotion == Promotion::Automatic);
    let hook = rollout.hook.as_ref().map_or(Duration::ZERO, |hook| hook.timeout + BATCH_SLACK);
    batch.saturating_mul(batches) + hook + soak.map_or(Duration::ZERO, |canary| canary.soak)
}

fn longest_stop(template: &TaskTemplate) -> Duration {
    let container = &template.container;
    container.stop_grace.unwrap_or(DEFAULT_GRACE) + container.drain.unwrap_or_default()
}
