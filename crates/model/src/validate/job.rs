//! Jobs and crons. Whether a schedule and a zone mean something is for whoever knows the calendar: the managers' `control`.

use std::time::Duration;

use super::{
    Problem, Problems,
    service::{at_most, labels, validate_service},
    text::dns_label,
};
use crate::{
    cron::{CronSpec, MAX_CRON_NAME, MAX_KEPT, MAX_LATE, Missed},
    job::JobPolicy,
    service::{Mode, RestartCondition, RestartPolicy, ServiceSpec},
    time::ClusterTime,
};

/// A job that takes longer is none: somebody has forgotten it.
const MAX_DEADLINE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Ended jobs are history, and history is bounded.
const MAX_KEEP: Duration = Duration::from_secs(365 * 24 * 3600);
/// A failure that so many tries did not mend is none that another one mends.
const MAX_RETRIES: u32 = 100;
/// Each slot that completed is a task that is kept as long as the job.
const MAX_COMPLETIONS: u32 = 1_000;
/// A schedule has five fields.
const MAX_SCHEDULE: usize = 256;

/// What a declaration with a job policy must be beyond a service's.
pub(super) fn job(problems: &mut Problems, spec: &ServiceSpec, policy: &JobPolicy) {
    at_most(problems, "job", &[("deadline", policy.deadline, MAX_DEADLINE)]);
    problems.ensure(policy.deadline >= Duration::from_secs(1), "job.deadline", || {
        format!("{:?}; nothing starts and ends in less than a second", policy.deadline)
    });
    if let Some(keep) = policy.keep {
        at_most(problems, "job", &[("keep", keep, MAX_KEEP)]);
    }
    if let Mode::Replicated(completions) = spec.mode {
        problems.ensure((1..=MAX_COMPLETIONS).contains(&completions), "mode.replicated", || {
            format!("{completions} completions; a job has 1 to {MAX_COMPLETIONS}")
        });
    }
    problems.ensure(spec.ports.is_empty(), "ports", || {
        "a job takes no traffic, and publishes no port of the ingress nodes".into()
    });
    problems.ensure(spec.update.pre_deploy.is_none(), "update.pre_deploy", || {
        "a job has no releases, and nothing runs before them".into()
    });
    restart(problems, &spec.template.restart);
}

/// How often a slot may be tried again is bounded, or the deadline alone would end a job that cannot succeed.
fn restart(problems: &mut Problems, policy: &RestartPolicy) {
    let path = "template.restart";
    problems.ensure(policy.condition != RestartCondition::Any, format!("{path}.condition"), || {
        "a job that ended well is done: write none, or on-failure with max_attempts".into()
    });
    if policy.condition == RestartCondition::OnFailure {
        problems.ensure(
            policy.max_attempts.is_some_and(|retries| retries <= MAX_RETRIES),
            format!("{path}.max_attempts"),
            || format!("a slot of a job is tried again 1 to {MAX_RETRIES} times"),
        );
        problems.ensure(policy.window.is_zero(), format!("{path}.window"), || {
            "the retries of a job count for its whole life".into()
        });
    }
}

/// All that is wrong with a cron, but for its schedule and its zone; empty when it is valid.
pub fn validate_cron(spec: &CronSpec) -> Vec<Problem> {
    let mut problems = Problems::default();
    problems.judge("name", dns_label(&spec.name));
    problems.at_most(spec.name.len(), MAX_CRON_NAME, "name", "letters");
    problems.at_most(spec.schedule.len(), MAX_SCHEDULE, "schedule", "letters");
    problems.at_most(spec.zone.len(), MAX_SCHEDULE, "zone", "letters");
    if let Missed::RunOnce(late) = spec.missed {
        at_most(&mut problems, "missed", &[("run-once", late, MAX_LATE)]);
    }
    for (path, kept) in [("keep_complete", spec.keep_complete), ("keep_failed", spec.keep_failed)] {
        problems.ensure(kept <= MAX_KEPT, path, || format!("{kept} jobs; at most {MAX_KEPT} can be kept"));
    }
    problems.ensure(spec.job.job.is_some(), "job.job", || {
        "what a cron runs needs a job policy: without one it would run for ever".into()
    });
    labels(&mut problems, "job.labels", &spec.job.labels);
    let named = ServiceSpec { name: spec.job_name(ClusterTime(0)), ..(*spec.job).clone() };
    let inner = validate_service(&named).into_iter().filter(|problem| problem.path != "name");
    let inner = inner.map(|problem| Problem { path: format!("job.{}", problem.path), ..problem });
    problems.0.extend(inner);
    problems.0
}
