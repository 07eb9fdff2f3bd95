//! Why a job or a cron is as it is, in sentences.

use jiff::{Timestamp, tz::TimeZoneDatabase};
use model::{
    cron::{Cron, CronRun, Missed, Overlap, RunState},
    job::{JobPolicy, JobState, JobStatus},
    request::Waiting,
    service::{Mode, Service},
    task::TaskState,
    time::ClusterTime,
};
use store::Store;

/// How a job stands; `None` when the service is none.
pub(crate) fn job_summary(store: &Store, service: &Service) -> Option<String> {
    let (policy, status) = (service.spec.job.as_ref()?, service.job.as_ref()?);
    let name = &service.spec.name;
    let done = completed(store, service);
    let of = match service.spec.mode {
        Mode::Replicated(completions) => format!("{done} of {completions} slots have completed"),
        Mode::Global => format!("{done} nodes have completed"),
    };
    Some(match (status.state, status.ended) {
        (JobState::Running, _) | (_, None) => {
            let left = status.deadline.since(store.time()).as_secs();
            format!("job {name}: {of}{}; it fails in {left} s if it is not complete by then", limit(policy))
        }
        (JobState::Complete, Some(ended)) => {
            format!("job {name}: complete for {} s, after {}", ago(store, ended), took(status, ended))
        }
        (JobState::Failed, Some(ended)) => {
            let why = &status.message;
            format!("job {name}: failed {} s ago, because {why}; {of}", ago(store, ended))
        }
    })
}

fn limit(policy: &JobPolicy) -> String {
    match policy.concurrency {
        0 => String::new(),
        most => format!(", at most {most} at a time"),
    }
}

fn completed(store: &Store, service: &Service) -> usize {
    let mut slots: Vec<_> = store
        .tasks_of_service(service.id)
        .filter(|task| task.observed.state == TaskState::Completed)
        .map(|task| task.slot)
        .collect();
    slots.dedup();
    slots.len()
}

fn took(status: &JobStatus, ended: ClusterTime) -> String {
    format!("{} s", ended.since(status.begun).as_secs())
}

fn ago(store: &Store, at: ClusterTime) -> u64 {
    store.time().since(at).as_secs()
}

/// A cron: when it is due, what became of its last runs.
pub(crate) fn cron(store: &Store, cron: &Cron) -> Vec<String> {
    let spec = &cron.spec;
    let when = match cron.next {
        Some(next) => {
            let wait = next.since(store.time()).as_secs();
            format!("next at {}, in {wait} s", local(next, &spec.zone))
        }
        None if spec.suspended => "suspended, so that nothing is due".to_owned(),
        None => "due no more".to_owned(),
    };
    let mut lines = vec![format!("cron {}: \"{}\" in {}, {when}", spec.name, spec.schedule, spec.zone)];
    let running: Vec<&str> = store.running_jobs(cron).map(|service| service.spec.name.as_str()).collect();
    if !running.is_empty() {
        let meanwhile = match spec.overlap {
            Overlap::Forbid => "while it does, what is due is left out",
            Overlap::Allow => "what is due runs beside it",
            Overlap::Replace => "what is due replaces it",
        };
        lines.push(format!("job {} goes on; {meanwhile}", running.join(", ")));
    }
    let missed = match spec.missed {
        Missed::Skip => "left out".to_owned(),
        Missed::RunOnce(late) => format!("made up for once, if at most {} s late", late.as_secs()),
    };
    lines.push(format!("what comes while no manager can decide is {missed}"));
    lines.extend(cron.runs.iter().rev().take(3).map(|run| run_sentence(cron, run)));
    lines
}

fn run_sentence(cron: &Cron, run: &CronRun) -> String {
    let job = run.job.as_ref().map_or(String::new(), |(_, name)| format!(" as job {name}"));
    let why = if run.message.is_empty() { String::new() } else { format!(": {}", run.message) };
    format!("the run of {}{job}: {}{why}", local(run.due, &cron.spec.zone), run.state)
}

/// A cron whose last run failed, or whose time passed without one.
pub(crate) fn waiting_cron(cron: &Cron) -> Option<Waiting> {
    let last = cron.runs.iter().rev().find(|run| run.state != RunState::Running)?;
    if last.state != RunState::Failed {
        return None;
    }
    let what = format!("cron {}", cron.spec.name);
    Some(Waiting { what, why: run_sentence(cron, last), since: last.ended.unwrap_or(last.decided) })
}

/// A time as the clocks of a place show it.
fn local(at: ClusterTime, zone: &str) -> String {
    let stamp = i64::try_from(at.0).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    let zone = TimeZoneDatabase::bundled().get(zone);
    match (stamp, zone) {
        (Some(stamp), Ok(zone)) => stamp.to_zoned(zone).strftime("%Y-%m-%d %H:%M %Z").to_string(),
        _ => at.to_string(),
    }
}
