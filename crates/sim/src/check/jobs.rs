//! Jobs and crons: each slot completes once, no more run at a time than may, every job ends within its bound and stays ended; each time of
//! a cron is decided on once, makes at most one job, and makes one when its policy says so.

use std::collections::BTreeMap;

use model::{
    cron::{Cron, CronRun, Overlap, RunState},
    id::{CronId, ServiceId},
    job::{JobState, JobStatus},
    service::{Mode, Service, Slot},
    task::TaskState,
    time::ClusterTime,
};
use store::Store;

use crate::{
    knobs::Weather,
    queue::{SEC, Time},
    world::{Phase, World},
};

/// From a deadline, or the time of a cron, to its decision: an election and a slow disk, while nothing else is disturbed.
const SLACK: Time = 10 * SEC;
const MINUTE: u64 = 60_000_000;

/// What is remembered of what may be forgotten.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    /// The job of each time of each cron.
    made: BTreeMap<(CronId, ClusterTime), ServiceId>,
}

impl World {
    /// The state has changed.
    pub(crate) fn check_jobs(&mut self, before: &Store, store: &Store) {
        let jobs = store.services().filter(|service| service.job.is_some());
        let mut wrong = jobs.filter_map(|service| {
            let what = limits(before, store, service).or_else(|| course(before, store, service))?;
            Some((format!("job {}: {what}", service.spec.name), service.spec.name.clone()))
        });
        let wrong = wrong.next();
        if let Some((what, name)) = wrong {
            return self.violate("J1", what, vec![name]);
        }
        let wrong = store.crons().find_map(|cron| {
            let what = runs(cron).or_else(|| overlap(store, cron)).or_else(|| decided(before, cron))?;
            Some((format!("cron {}: {what}", cron.spec.name), cron.spec.name.clone()))
        });
        if let Some((what, name)) = wrong.or_else(|| self.made_twice(store)) {
            return self.violate("J2", what, vec![name]);
        }
        let ended = |service: &&Service| service.job.as_ref().is_some_and(JobStatus::is_over);
        let running = |service: &&Service| {
            before.service(service.id).and_then(|old| old.job.as_ref()).is_some_and(|old| !old.is_over())
        };
        for service in store.services().filter(ended).filter(running) {
            let complete = service.job.as_ref().is_some_and(|job| job.state == JobState::Complete);
            self.checks.count(if complete { "jobs completed" } else { "jobs failed" });
        }
    }

    fn made_twice(&mut self, store: &Store) -> Option<(String, String)> {
        let of_cron = store.services().filter_map(|service| Some((service, service.job.as_ref()?.cron?)));
        for (service, run) in of_cron {
            let made = &mut self.checks.jobs.made;
            let before = made.len();
            let first = *made.entry((run.cron, run.due)).or_insert(service.id);
            if made.len() > before {
                self.checks.count("jobs of crons");
            }
            if first != service.id {
                let name = &service.spec.name;
                return Some((
                    format!("jobs {first} and {} ({name}) are of one time", service.id),
                    name.clone(),
                ));
            }
        }
        None
    }

    /// Twice a second: is anything late although nothing is disturbed?
    pub(crate) fn check_jobs_end(&mut self) {
        let now = self.now();
        let quiet = match (self.knobs.weather, self.phase) {
            (_, Phase::Calm(since)) => since,
            (Weather::Calm, Phase::Storm) => self.checks.began(),
            _ => return,
        };
        if now < quiet + SLACK {
            return;
        }
        let Some(store) = self.checks.frontier() else { return };
        // Judged by the cluster's own time as well: it may be behind, where nothing is committed.
        let slack = std::time::Duration::from_nanos(SLACK);
        let late = store.services().find_map(|service| {
            let status = service.job.as_ref().filter(|status| !status.is_over() && !service.removing)?;
            (status.deadline + slack < store.time()).then(|| service.spec.name.clone())
        });
        let asleep = store.crons().find_map(|cron| {
            cron.next.filter(|next| *next + slack < store.time()).map(|_| cron.spec.name.clone())
        });
        if let Some(name) = late {
            self.violate("J1", format!("job {name} goes on beyond its deadline"), vec![name]);
        } else if let Some(name) = asleep {
            self.violate("J2", format!("a time of cron {name} has come, and nobody decides"), vec![name]);
        }
    }
}

/// Slots that run, and slots that have completed.
fn limits(before: &Store, store: &Store, service: &Service) -> Option<String> {
    let policy = service.spec.job.as_ref()?;
    let active = store.tasks_of_service(service.id).filter(|task| task.is_active()).count();
    if policy.concurrency > 0 && active > policy.concurrency as usize {
        return Some(format!("{active} run at a time, {} may", policy.concurrency));
    }
    let new = store.tasks_of_service(service.id).filter(|task| before.task(task.id).is_none());
    new.into_iter().find_map(|task| {
        let done = |slot| {
            before.tasks_of_slot(service.id, slot).any(|task| task.observed.state == TaskState::Completed)
        };
        if done(task.slot) {
            return Some(format!("slot {} runs again, which had completed", task.slot));
        }
        let over = before.service(service.id)?.job.as_ref()?.is_over();
        over.then(|| format!("task {} was made after its end", task.id))
    })
}

/// A job ends once, and complete only when it is.
fn course(before: &Store, store: &Store, service: &Service) -> Option<String> {
    let status = service.job.as_ref()?;
    let was = before.service(service.id)?.job.as_ref()?;
    if was.is_over() && was != status {
        return Some(format!("was {} and is {}", was.state, status.state));
    }
    if was.is_over() || status.state != JobState::Complete {
        return None;
    }
    let Mode::Replicated(completions) = service.spec.mode else { return None };
    let done = |slot| {
        let mut tasks = store.tasks_of_slot(service.id, Slot::Replica(slot));
        tasks.any(|task| task.observed.state == TaskState::Completed)
    };
    let missing = (1..=completions).find(|slot| !done(*slot))?;
    Some(format!("is complete without slot {missing}"))
}

/// Every time once, in order; those that people asked for have no time of their own.
fn runs(cron: &Cron) -> Option<String> {
    let due: Vec<ClusterTime> = scheduled(cron).map(|run| run.due).collect();
    if let Some(pair) = due.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Some(format!("{} was decided after {}", pair[1], pair[0]));
    }
    scheduled(cron).find_map(|run| {
        let late = run.decided.since(run.due);
        let patience = cron.spec.missed.patience();
        let skipped = run.state == RunState::Skipped && run.message.contains("decided in time");
        if cron.updated > run.decided {
            // Of an older declaration.
            return None;
        }
        match run.job {
            Some(_) if late > patience + std::time::Duration::from_nanos(SLACK) => {
                Some(format!("{} ran {late:?} late", run.due))
            }
            None if skipped && late < patience => Some(format!("{} was left out, {late:?} late", run.due)),
            _ => None,
        }
    })
}

fn scheduled(cron: &Cron) -> impl Iterator<Item = &CronRun> {
    cron.runs.iter().filter(|run| run.due.0.is_multiple_of(MINUTE))
}

fn overlap(store: &Store, cron: &Cron) -> Option<String> {
    let most = match cron.spec.overlap {
        Overlap::Forbid | Overlap::Replace => 1,
        Overlap::Allow => return None,
    };
    // Those of an older declaration may go on together.
    let ours = store.running_jobs(cron).filter(|job| job.created > cron.updated).count();
    (ours > most).then(|| format!("{ours} runs go on at a time"))
}

/// What lies between two decisions is one minute, or there is a word about it.
fn decided(before: &Store, cron: &Cron) -> Option<String> {
    let old =
        before.cron(cron.id).filter(|old| old.updated == cron.updated && old.decided != cron.decided)?;
    if cron.decided < old.decided {
        return Some(format!("{} was decided after {}", cron.decided, old.decided));
    }
    let last = scheduled(cron).last()?;
    let passed = cron.decided.0 / MINUTE - old.decided.0 / MINUTE;
    let told = last.message.contains("missed") || last.message.contains("in time");
    let steps = scheduled(cron).filter(|run| run.due > old.decided).count() as u64;
    (passed > steps && !told && !last.message.contains("goes on") && !last.message.contains("go on"))
        .then(|| format!("{passed} minutes passed to {}, and {steps} were decided", cron.decided))
}
