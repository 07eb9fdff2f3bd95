//! Jobs and crons in scripts.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use control::schedule::Schedule;
use model::{
    command::{Command, Decision},
    cron::{CronSpec, CronStep, Missed, Overlap},
    id::{CronId, ServiceId},
    job::{JobPolicy, OnLost},
    service::{Mode, RestartPolicy, ServiceSpec},
    time::ClusterTime,
};

use super::{common::World, duration, set, tell};

/// `job NAME OPTION…`, `cron NAME SCHEDULE OPTION…` with `_` for blanks, `uncron NAME`, `run CRON`, `jobs`, `crons`.
pub fn operate(world: &mut World, words: &[&str], at: &str, output: &mut String) {
    match words {
        ["job", name, options @ ..] => {
            world.create(job(name, options, at));
        }
        ["cron", name, schedule, options @ ..] => {
            let spec = cron(name, &schedule.replace('_', " "), options, at);
            let schedule = Schedule::parse(&spec.schedule, &spec.zone).expect(at);
            let next = schedule.next(world.now).filter(|_| !spec.suspended);
            let id = CronId(1_000 + world.store.crons().count() as u64);
            tell(world.commit(Command::SetCron { id, spec: spec.into(), next }).0, output);
        }
        ["uncron", name] => {
            let id = world.store.cron_by_name(name).expect(at).id;
            tell(world.commit(Command::RemoveCron { id }).0, output);
        }
        ["run", name] => {
            let id = world.store.cron_by_name(name).expect(at).id;
            let job = ServiceId(2_000 + world.ids.0);
            tell(world.commit(Command::RunCron { id, job }).0, output);
        }
        ["jobs"] => {
            for service in world.store.services() {
                let Some(status) = &service.job else { continue };
                let message =
                    if status.message.is_empty() { String::new() } else { format!(": {}", status.message) };
                let removing = if service.removing { ", being removed" } else { "" };
                writeln!(output, "  {} {}{removing}{message}", service.spec.name, status.state)
                    .expect("text");
            }
        }
        ["crons"] => {
            for cron in world.store.crons() {
                let next = cron.next.map_or("never".into(), clock);
                writeln!(output, "  {} next {next}", cron.spec.name).expect("text");
                for run in &cron.runs {
                    let job = run.job.as_ref().map_or(String::new(), |(_, name)| format!(" {name}"));
                    let message =
                        if run.message.is_empty() { String::new() } else { format!(": {}", run.message) };
                    writeln!(output, "    {}{job} {}{message}", clock(run.due), run.state).expect("text");
                }
            }
        }
        _ => panic!("{at}: no such operation"),
    }
}

fn job(name: &str, options: &[&str], at: &str) -> ServiceSpec {
    let mut spec = ServiceSpec { name: name.into(), ..ServiceSpec::default() };
    let mut policy = JobPolicy::default();
    spec.template.container.image = "app:1".into();
    spec.template.restart = RestartPolicy::retries(0);
    for option in options {
        match option.split_once('=').unwrap_or((option, "")) {
            ("completions", value) => spec.mode = Mode::Replicated(value.parse().expect(at)),
            ("concurrency", value) => policy.concurrency = value.parse().expect(at),
            ("within", value) => policy.deadline = duration(value, at),
            ("keep", value) => policy.keep = Some(duration(value, at)),
            ("lost", "fail") => policy.on_lost = OnLost::Fail,
            _ => set(&mut spec, option, at),
        }
    }
    spec.job = Some(policy);
    spec
}

fn cron(name: &str, schedule: &str, options: &[&str], at: &str) -> CronSpec {
    let mut spec = CronSpec { name: name.into(), schedule: schedule.into(), ..CronSpec::default() };
    let mut rest = Vec::new();
    for option in options {
        match option.split_once('=').unwrap_or((option, "")) {
            ("zone", zone) => spec.zone = zone.into(),
            ("overlap", "allow") => spec.overlap = Overlap::Allow,
            ("overlap", "replace") => spec.overlap = Overlap::Replace,
            ("late", value) => spec.missed = Missed::RunOnce(duration(value, at)),
            ("kept", value) => {
                (spec.keep_complete, spec.keep_failed) = (value.parse().expect(at), value.parse().expect(at));
            }
            ("suspended", "") => spec.suspended = true,
            _ => rest.push(*option),
        }
    }
    spec.job = Arc::new(job("", &rest, at));
    spec
}

pub fn text(world: &World, decision: &Decision) -> String {
    let name = |id: &ServiceId| world.store.service(*id).map_or("(gone)".into(), |s| s.spec.name.clone());
    match decision {
        Decision::EndJob { service, state, message, .. } => {
            let why = if message.is_empty() { String::new() } else { format!(": {message}") };
            format!("job {} is {state}{why}", name(service))
        }
        Decision::RemoveJob { service, .. } => format!("remove job {}", name(service)),
        Decision::RunCron { cron, due, next, step, .. } => {
            let cron = world.store.cron(*cron).map_or("(gone)".into(), |cron| cron.spec.name.clone());
            let next = next.map_or("never".into(), clock);
            let what = match step {
                CronStep::Start { replaces, message, .. } => {
                    let replaced: Vec<String> = replaces.iter().map(name).collect();
                    let instead = match replaced.is_empty() {
                        true => String::new(),
                        false => format!(" instead of {}", replaced.join(", ")),
                    };
                    let more = if message.is_empty() { String::new() } else { format!(" ({message})") };
                    format!("run{instead}{more}")
                }
                CronStep::Skip { message } => format!("skip: {message}"),
            };
            format!("cron {cron} at {}: {what}; next {next}", clock(*due))
        }
        other => panic!("{other:?} is of no job"),
    }
}

/// Day, hour, minute and second since the beginning of 1970.
fn clock(at: ClusterTime) -> String {
    let seconds = at.since(ClusterTime(0)).as_secs();
    let day = Duration::from_secs(24 * 3_600).as_secs();
    format!("{}d {:02}:{:02}:{:02}", seconds / day, seconds % day / 3_600, seconds % 3_600 / 60, seconds % 60)
}
