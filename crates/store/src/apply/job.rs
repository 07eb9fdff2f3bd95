//! Jobs: what may run, and how they end.
//!
//! A job that is over takes no task any more, and no slot of it that completed ever does. Both are compared here, so that a leader with
//! an older look cannot run anything again; so is the number of slots that run at once.

use model::{
    id::{Generation, ServiceId, TaskId},
    job::{JobState, JobStatus},
    service::{Mode, Service, Slot},
    task::TaskState,
};
use planted::Bug;

use super::{
    decide::{Decided, conflict},
    expect_generation,
};
use crate::{resolve::missing, write::Writer};

impl Writer<'_> {
    /// Whether a job may have a task in a slot.
    pub(super) fn job_takes(&self, service: &Service, slot: Slot, alongside: Option<TaskId>) -> Decided {
        let (Some(policy), Some(status)) = (&service.spec.job, &service.job) else { return Ok(()) };
        let name = &service.spec.name;
        if status.is_over() {
            return conflict(format!("job \"{name}\" is over: {}", status.state));
        }
        if alongside.is_some() {
            return conflict(format!("a slot of job \"{name}\" runs once at a time"));
        }
        let mut tasks = self.store.tasks_of_slot(service.id, slot);
        let done = tasks.any(|task| task.observed.state == TaskState::Completed);
        if done && !planted::is(Bug::CompletedRunsAgain) {
            return conflict(format!("slot {slot} of job \"{name}\" has completed"));
        }
        let active = self.store.tasks_of_service(service.id).filter(|task| task.is_active()).count();
        if !policy.has_room(active) && !planted::is(Bug::ConcurrencyIgnored) {
            return conflict(format!("{active} slots of job \"{name}\" run, which is all that may"));
        }
        Ok(())
    }

    pub(super) fn end_job(
        &mut self,
        id: ServiceId,
        expected: Generation,
        state: JobState,
        message: &str,
    ) -> Decided {
        let old = self.service_at(id, expected)?;
        self.finish_job(&old, state, message)
    }

    /// The end of a job, in its own record and in that of its cron.
    pub(super) fn finish_job(&mut self, old: &Service, state: JobState, message: &str) -> Decided {
        let name = &old.spec.name;
        let Some(status) = &old.job else { return conflict(format!("service \"{name}\" is no job")) };
        if status.is_over() || state == JobState::Running {
            return conflict(format!("job \"{name}\" is over: {}", status.state));
        }
        if state == JobState::Complete && !self.has_completed(old) {
            return conflict(format!("job \"{name}\" has not completed"));
        }
        let status = JobStatus { state, ended: Some(self.at), message: message.to_owned(), ..status.clone() };
        let cron = status.cron;
        self.finish(
            Service { job: Some(status), ..old.clone() },
            match message {
                "" => format!("job {state}"),
                why => format!("job {state}: {why}"),
            },
        );
        if let Some(run) = cron {
            self.note_end(run, old.id, state, message);
        }
        Ok(())
    }

    /// Whether what has slots by number has completed them all. Which nodes a global job is about is for whoever decides.
    fn has_completed(&self, service: &Service) -> bool {
        let Mode::Replicated(completions) = service.spec.mode else { return true };
        (1..=completions).all(|number| {
            let mut tasks = self.store.tasks_of_slot(service.id, Slot::Replica(number));
            tasks.any(|task| task.observed.state == TaskState::Completed)
        })
    }

    pub(super) fn remove_job(&mut self, id: ServiceId, expected: Generation) -> Decided {
        let old = self.store.services.get(&id).cloned().ok_or_else(|| missing("service", id))?;
        expect_generation("service", &old.spec.name, expected, old.generation)?;
        if !old.job.as_ref().is_some_and(JobStatus::is_over) {
            return conflict(format!("\"{}\" is no job that is over", old.spec.name));
        }
        self.remove_service_of(id).map(|_| ())
    }

    /// A person who removes a job that runs has ended it.
    pub(super) fn note_removal(&mut self, service: &Service) {
        let running = service.job.as_ref().filter(|status| !status.is_over() && !service.removing);
        let Some(status) = running else { return };
        if let Some(run) = status.cron {
            self.note_end(run, service.id, JobState::Failed, "removed while it ran");
        }
    }
}
