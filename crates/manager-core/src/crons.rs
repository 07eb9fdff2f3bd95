//! Crons: what a declaration means is worked out here, by whoever leads, and the log carries the result.

use std::sync::Arc;

use control::schedule::Schedule;
use model::{
    command::Command,
    cron::{Cron, CronSpec},
    id::{CronId, ServiceId},
    request::ApiError,
    time::ClusterTime,
    validate::Problem,
};

use crate::{Manager, admit::not_found};

impl Manager {
    pub(crate) fn set_cron(&mut self, spec: Arc<CronSpec>) -> Result<Command, ApiError> {
        self.same_versions("a cron")?;
        let job = self.signed(self.pinned(spec.job.clone())?, &spec.name, None)?;
        let spec = if job == spec.job { spec } else { Arc::new(CronSpec { job, ..(*spec).clone() }) };
        let next = self.next_time(&spec)?;
        Ok(Command::SetCron { id: CronId(self.next_id()), spec, next })
    }

    pub(crate) fn suspend_cron(&mut self, name: &str, suspended: bool) -> Result<Command, ApiError> {
        let spec = CronSpec { suspended, ..(*self.cron(name)?.spec).clone() };
        self.set_cron(Arc::new(spec))
    }

    pub(crate) fn run_cron(&mut self, name: &str) -> Result<Command, ApiError> {
        self.same_versions("a run of a cron")?;
        let id = self.cron(name)?.id;
        Ok(Command::RunCron { id, job: ServiceId(self.next_id()) })
    }

    pub(crate) fn cron(&self, name: &str) -> Result<&Cron, ApiError> {
        self.store.cron_by_name(name).ok_or_else(|| not_found("cron", name))
    }

    /// When a cron that is declared now is due first.
    ///
    /// # Errors
    /// Its schedule or its zone means nothing, or no time at all.
    fn next_time(&self, spec: &CronSpec) -> Result<Option<ClusterTime>, ApiError> {
        let problem =
            |path: &str, message: String| ApiError::from(vec![Problem { path: path.into(), message }]);
        let schedule =
            Schedule::parse(&spec.schedule, &spec.zone).map_err(|(path, wrong)| problem(path, wrong))?;
        let Some(next) = schedule.next(self.stamps.peek(self.now)) else {
            let message = format!("\"{}\" never comes", spec.schedule);
            return Err(problem("schedule", message));
        };
        Ok(Some(next).filter(|_| !spec.suspended))
    }
}
