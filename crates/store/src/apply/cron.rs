//! Crons: what is decided once for each time.

use std::sync::Arc;

use model::{
    command::{Answer, Rejection},
    cron::{Cron, CronRun, CronSpec, CronStep, MAX_BESIDE, MAX_CRONS, MAX_RUNS, Overlap, RunState},
    id::{CronId, Generation, ServiceId},
    job::{CronRunRef, JobState, JobStatus},
    service::ServiceSpec,
    time::ClusterTime,
};
use planted::Bug;

use super::{
    decide::{Decided, conflict},
    expect_generation,
};
use crate::{requests::Outcome, resolve::missing, write::Writer};

impl Writer<'_> {
    pub(super) fn set_cron(
        &mut self,
        id: CronId,
        spec: &Arc<CronSpec>,
        next: Option<ClusterTime>,
    ) -> Outcome {
        for network in &spec.job.template.container.networks {
            self.store.network_by_name(network).ok_or_else(|| missing("network", network))?;
        }
        let known = self.store.cron_by_name(&spec.name).is_some_and(|old| old.spec.job == spec.job);
        if !known {
            self.files_are_there(&spec.job, None)?;
        }
        let (generation, at) = (self.generation, self.at);
        // The first time may have come between its proposal and this entry.
        let decided = next.map_or(at, |next| at.min(ClusterTime(next.0.saturating_sub(1))));
        let cron = match self.store.cron_by_name(&spec.name).cloned() {
            // Without a next time it never was due: a version that could not read it has said so.
            Some(old) if old.spec == *spec && (old.next.is_some() || spec.suspended) => {
                return Ok(Answer::Cron { id: old.id });
            }
            // What was due before it was declared so is not.
            Some(old) => Cron { generation, spec: spec.clone(), updated: at, decided, next, ..old },
            None => {
                if self.store.crons.len() >= MAX_CRONS {
                    let message = format!("there are {MAX_CRONS} crons, the most there may be; remove some");
                    return Err(Rejection::Conflict(message));
                }
                if self.store.crons.contains_key(&id) {
                    return Err(Rejection::Conflict(format!("cron id {id} is taken; ask again")));
                }
                let (spec, runs) = (spec.clone(), Vec::new());
                Cron { id, generation, spec, created: at, updated: at, decided, next, runs }
            }
        };
        let id = cron.id;
        self.put_cron(cron);
        Ok(Answer::Cron { id })
    }

    pub(super) fn remove_cron_of(&mut self, id: CronId) -> Outcome {
        let cron = self.store.crons.get(&id).cloned().ok_or_else(|| missing("cron", id))?;
        self.remove_cron(id);
        let jobs = cron.runs.iter().filter_map(|run| Some(run.job.as_ref()?.0));
        for job in jobs {
            let over = self.store.service(job).is_some_and(|service| {
                !service.removing && service.job.as_ref().is_some_and(JobStatus::is_over)
            });
            if over {
                self.remove_service_of(job)?;
            }
        }
        Ok(Answer::Cron { id })
    }

    pub(super) fn run_cron_now(&mut self, id: CronId, job: ServiceId) -> Outcome {
        let mut cron = (**self.store.crons.get(&id).ok_or_else(|| missing("cron", id))?).clone();
        let most = if cron.spec.overlap == Overlap::Allow { MAX_BESIDE } else { 1 };
        if let Some(running) = self.store.running_jobs(&cron).nth(most - 1) {
            let name = &cron.spec.name;
            return Err(Rejection::Conflict(format!(
                "an earlier run of cron \"{name}\" goes on: job \"{}\"",
                running.spec.name
            )));
        }
        let due = self.at;
        let name = format!("{}-r{}", cron.spec.name, self.generation);
        let answer = self.create_run(&cron, job, name.clone(), due)?;
        cron.generation = self.generation;
        self.remember(cron, due, Some((job, name)), RunState::Running, "asked for".into());
        Ok(answer)
    }

    /// One decision for one time, and never another for that or an earlier one.
    pub(super) fn run_cron(
        &mut self,
        id: CronId,
        expected: Generation,
        (due, next): (ClusterTime, Option<ClusterTime>),
        step: &CronStep,
    ) -> Decided {
        let mut cron = (**self.store.crons.get(&id).ok_or_else(|| missing("cron", id))?).clone();
        let name = cron.spec.name.clone();
        if !planted::is(Bug::CronRunsTwice) {
            expect_generation("cron", &name, expected, cron.generation)?;
            if due <= cron.decided {
                return conflict(format!(
                    "cron \"{name}\": {due} was decided before, as {} was",
                    cron.decided
                ));
            }
        }
        cron.generation = self.generation;
        cron.decided = due;
        cron.next = next.filter(|_| !cron.spec.suspended);
        let (job, replaces, message) = match step {
            CronStep::Skip { message } => {
                self.remember(cron, due, None, RunState::Skipped, message.clone());
                return Ok(());
            }
            CronStep::Start { job, replaces, message } => (*job, replaces, message),
        };
        let name = cron.spec.job_name(due);
        match self.create_run(&cron, job, name.clone(), due) {
            Ok(_) => self.remember(cron, due, Some((job, name.clone())), RunState::Running, message.clone()),
            // Tried again it would be refused again: this time is over.
            Err(refusal) => {
                self.remember(cron, due, None, RunState::Failed, refusal.to_string());
                return Ok(());
            }
        }
        for earlier in replaces {
            let earlier = self.store.services.get(earlier).cloned();
            if let Some(earlier) = earlier.filter(|service| !service.removing) {
                // One that came to its end meanwhile needs no other.
                self.finish_job(&earlier, JobState::Failed, &format!("replaced by {name}")).ok();
            }
        }
        Ok(())
    }

    fn create_run(&mut self, cron: &Cron, job: ServiceId, name: String, due: ClusterTime) -> Outcome {
        if self.store.is_policed() && !planted::is(Bug::PolicyNotAsked) {
            self.store.admits_run(self.actor, cron)?;
        }
        let spec = ServiceSpec { name, ..(*cron.spec.job).clone() };
        self.create(job, &Arc::new(spec), Some(CronRunRef { cron: cron.id, due }))
    }

    fn remember(
        &mut self,
        mut cron: Cron,
        due: ClusterTime,
        job: Option<(ServiceId, String)>,
        state: RunState,
        message: String,
    ) {
        cron.runs.push(CronRun { due, decided: self.at, job, state, ended: None, message });
        let mut excess = cron.runs.len().saturating_sub(MAX_RUNS);
        let store = &*self.store;
        // What has a job is forgotten with it, or nobody would remove that.
        cron.runs.retain(|run| {
            let held = run.job.as_ref().is_some_and(|(job, _)| store.services.contains_key(job));
            let forget = excess > 0 && !held && run.state != RunState::Running;
            excess -= usize::from(forget);
            !forget
        });
        self.put_cron(cron);
    }

    /// The end of a cron's job.
    pub(super) fn note_end(&mut self, run: CronRunRef, job: ServiceId, state: JobState, message: &str) {
        let Some(cron) = self.store.crons.get(&run.cron) else { return };
        let mut cron = (**cron).clone();
        let at = self.at;
        if let Some(run) = cron.runs.iter_mut().find(|run| run.job.as_ref().is_some_and(|(id, _)| *id == job))
        {
            run.state = state.into();
            run.ended = Some(at);
            if !message.is_empty() {
                message.clone_into(&mut run.message);
            }
        }
        self.put_cron(cron);
    }
}
