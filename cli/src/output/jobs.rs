//! Jobs and crons as tables and pages.

use model::{
    cron::{Cron, CronRun, Missed, Overlap},
    job::{JobStatus, OnLost},
    request::ServiceRow,
    service::{Mode, Service},
    time::ClusterTime,
};

use super::{age, table::Table};
use crate::value;

/// `job ls`
pub fn jobs(rows: &[ServiceRow], now: ClusterTime) -> Table {
    let mut table =
        Table::new(["ID", "NAME", "STATE", "COMPLETED", "RUNNING", "BEGUN", "TOOK", "IMAGE", "NOTE"]);
    for row in rows {
        let Some(status) = &row.service.job else { continue };
        let spec = &row.service.spec;
        let of = match spec.mode {
            Mode::Replicated(completions) => completions.to_string(),
            Mode::Global => "every node".into(),
        };
        table.row([
            row.service.id.to_string(),
            spec.name.clone(),
            if row.service.removing { "removing".into() } else { status.state.to_string() },
            format!("{}/{of}", row.completed),
            row.running.to_string(),
            format!("{} ago", age::since(status.begun, now)),
            took(status, now),
            spec.template.container.image.clone(),
            status.message.clone(),
        ]);
    }
    table
}

fn took(status: &JobStatus, now: ClusterTime) -> String {
    age::age(status.ended.unwrap_or(now).since(status.begun))
}

/// The lines of `job inspect` that a service has not.
pub fn job(service: &Service, now: ClusterTime) -> Vec<(&'static str, String)> {
    let (Some(policy), Some(status)) = (&service.spec.job, &service.job) else { return Vec::new() };
    let why = if status.message.is_empty() { String::new() } else { format!(": {}", status.message) };
    let state = match status.ended {
        Some(ended) => {
            format!("{} for {}, after {}{why}", status.state, age::since(ended, now), took(status, now))
        }
        None => format!("{} for {}", status.state, age::since(status.begun, now)),
    };
    let concurrency = match policy.concurrency {
        0 => "all at once".into(),
        most => most.to_string(),
    };
    let lost = match policy.on_lost {
        OnLost::RunAgain => "runs again elsewhere",
        OnLost::Fail => "fails the job",
    };
    let mut lines = vec![
        ("state", state),
        ("concurrency", concurrency),
        ("retries", service.spec.template.restart.max_attempts.unwrap_or(0).to_string()),
        ("deadline", format!("{}, {}", value::duration_text(policy.deadline), age::date(status.deadline))),
        ("lost node", lost.into()),
    ];
    if let Some(run) = status.cron {
        lines.push(("cron", format!("{}, due {}", run.cron, age::date(run.due))));
    }
    lines
}

/// `cron ls`
pub fn crons(crons: &[Cron], now: ClusterTime) -> Table {
    let mut table = Table::new(["NAME", "SCHEDULE", "ZONE", "NEXT", "LAST", "STATE", "NOTE"]);
    for cron in crons {
        let last = cron.runs.last();
        table.row([
            cron.spec.name.clone(),
            cron.spec.schedule.clone(),
            cron.spec.zone.clone(),
            cron.next
                .map_or("-".into(), |next| format!("{} ({})", local(next, &cron.spec.zone), wait(next, now))),
            last.map_or("-".into(), |run| local(run.due, &cron.spec.zone)),
            if cron.spec.suspended {
                "suspended".into()
            } else {
                last.map_or("-".into(), |run| run.state.to_string())
            },
            last.map_or(String::new(), |run| run.message.clone()),
        ]);
    }
    table
}

fn wait(next: ClusterTime, now: ClusterTime) -> String {
    if next <= now { "now".into() } else { format!("in {}", age::age(next.since(now))) }
}

/// `cron inspect`
pub fn cron(cron: &Cron, now: ClusterTime) -> String {
    let spec = &cron.spec;
    let zone = &spec.zone;
    let next = match cron.next {
        Some(next) => format!("{} ({})", local(next, zone), wait(next, now)),
        None if spec.suspended => "none: it is suspended".into(),
        None => "none".into(),
    };
    let overlap = match spec.overlap {
        Overlap::Forbid => "what is due is left out",
        Overlap::Allow => "both run",
        Overlap::Replace => "it is ended for the new one",
    };
    let missed = match spec.missed {
        Missed::Skip => "is left out".into(),
        Missed::RunOnce(late) => format!("runs once, up to {} late", value::duration_text(late)),
    };
    let mut lines = vec![
        format!("{:<14}{}", "name", spec.name),
        format!("{:<14}{}", "id", cron.id),
        format!("{:<14}{} in {zone}", "schedule", spec.schedule),
        format!("{:<14}{next}", "next"),
        format!("{:<14}{}", "image", spec.job.template.container.image),
        format!("{:<14}while a run goes on, {overlap}", "overlap"),
        format!("{:<14}what came while no manager could decide {missed}", "missed"),
        format!("{:<14}{} complete, {} failed", "kept", spec.keep_complete, spec.keep_failed),
    ];
    if cron.runs.is_empty() {
        lines.push("\nit has not been due yet".into());
        return lines.join("\n");
    }
    let mut table = Table::new(["DUE", "JOB", "STATE", "LATE", "TOOK", "NOTE"]);
    for run in cron.runs.iter().rev() {
        table.row(run_row(run, zone));
    }
    lines.push(format!("\n{table}"));
    lines.join("\n")
}

fn run_row(run: &CronRun, zone: &str) -> [String; 6] {
    [
        local(run.due, zone),
        run.job.as_ref().map_or("-".into(), |(_, name)| name.clone()),
        run.state.to_string(),
        age::age(run.decided.since(run.due)),
        run.ended.map_or("-".into(), |ended| age::age(ended.since(run.decided))),
        run.message.clone(),
    ]
}

/// A time as the clocks of a place show it; in UTC where this machine does not know the place.
fn local(at: ClusterTime, zone: &str) -> String {
    let stamp = i64::try_from(at.0).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    match stamp.map(|stamp| stamp.in_tz(zone)) {
        Some(Ok(time)) => time.strftime("%Y-%m-%d %H:%M %Z").to_string(),
        _ => age::date(at),
    }
}
