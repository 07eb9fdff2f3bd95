//! Deployments: the managers make the new declaration, of the stored one and a new image (invariant I21), and say who is in the
//! way. What is decided here on the state as it is applied is compared again when the entry is: the generation says whether
//! anything came in between, the release number whether it was another release.

use std::sync::Arc;

use model::{
    command::Command,
    freeze::FreezeSpec,
    id::NodeId,
    request::{ApiError, ErrorCode},
    service::{ReleaseNote, RolloutStep, Service, ServiceSpec, TemplateVersion, UpdateOrder, UpdatePolicy},
    time::ClusterTime,
};

use crate::Manager;

impl Manager {
    pub(crate) fn deploy(
        &self,
        reference: &str,
        image: String,
        mut note: ReleaseNote,
    ) -> Result<Command, ApiError> {
        let service = self.store.resolve_service(reference)?;
        let (id, expected) = (service.id, service.generation);
        if service.spec.template.container.has_image(&image) {
            // Applied, it changes nothing, and a retry is answered alike.
            let (spec, note) = (service.spec.clone(), ReleaseNote::default());
            return Ok(Command::UpdateService { id, expected, spec, note });
        }
        if service.is_rolling() {
            return Err(ApiError::new(ErrorCode::Conflict, busy(service, self.store.time())));
        }
        if note.canary.is_some() {
            self.same_versions("canaries")?;
        }
        if !note.at_next_window && note.despite_freeze.is_none() {
            let tasks = self.store.tasks_of_service(id).filter(|task| task.is_active());
            let nodes = tasks.filter_map(|task| task.node);
            self.not_frozen(nodes, "--at-next-window brings it then; --despite-freeze REASON now")?;
        }
        let mut spec = (*service.spec).clone();
        spec.template.container.image = image;
        let problems = model::validate::validate_service(&spec);
        if !problems.is_empty() {
            return Err(problems.into());
        }
        let spec = self.signed(Arc::new(spec), &service.spec.name, Some(service))?;
        note.after = note.after.or(Some(service.template));
        Ok(Command::UpdateService { id, expected, spec, note })
    }

    pub(crate) fn return_to(
        &self,
        reference: &str,
        to: Option<TemplateVersion>,
        note: ReleaseNote,
    ) -> Result<Command, ApiError> {
        let id = self.store.resolve_service(reference)?.id;
        if to.is_some() {
            self.same_versions("a way back to a release by its number")?;
        }
        Ok(Command::RollbackService { id, to, note })
    }

    pub(crate) fn steer(
        &self,
        reference: &str,
        release: Option<TemplateVersion>,
        step: RolloutStep,
    ) -> Result<Command, ApiError> {
        let service = self.store.resolve_service(reference)?;
        self.same_versions("steering a rollout")?;
        let release = release.unwrap_or(service.template);
        Ok(Command::SteerRollout { id: service.id, release, step })
    }

    /// # Errors
    /// One of the nodes is in a freeze; with what may be done.
    pub(crate) fn not_frozen(
        &self,
        mut nodes: impl Iterator<Item = NodeId>,
        hint: &str,
    ) -> Result<(), ApiError> {
        match nodes.find_map(|node| control::frozen_sentence(&self.store, node)) {
            Some(why) => Err(ApiError::new(ErrorCode::Frozen, format!("it would disturb {why}. {hint}"))),
            None => Ok(()),
        }
    }

    pub(crate) fn freeze(&self, spec: FreezeSpec) -> Result<Command, ApiError> {
        self.same_versions("a freeze")?;
        Ok(Command::SetFreeze(spec))
    }

    /// A declaration that every manager can read: until the last one is upgraded `auto` is written as what it comes to.
    pub(crate) fn plain(&self, spec: Arc<ServiceSpec>) -> Result<Arc<ServiceSpec>, ApiError> {
        if spec.job.is_some() {
            self.same_versions("a job")?;
        }
        if !spec.template.container.security.is_default() || spec.connections > 0 {
            self.same_versions("a field that policies judge")?;
        }
        if spec.update.canary.is_some() {
            self.same_versions("canaries")?;
        }
        if spec.update.max_errors != UpdatePolicy::default().max_errors {
            self.same_versions("a bound of the errors that routers see")?;
        }
        if spec.update.pre_deploy.is_some() {
            self.same_versions("a pre-deploy hook")?;
        }
        if spec.update.order != UpdateOrder::Auto || self.other_version().is_none() {
            return Ok(spec);
        }
        let start_first = spec.order().start_first;
        let mut spec = (*spec).clone();
        spec.update.order = if start_first { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
        Ok(Arc::new(spec))
    }

    /// What an older manager could not read does not come into the log while there is one.
    pub(crate) fn same_versions(&self, what: &str) -> Result<(), ApiError> {
        let Some((member, version)) = self.other_version() else { return Ok(()) };
        let message = format!(
            "{what} must wait until all managers are upgraded: {member} still has version {version}, the leader has {}",
            self.config.version
        );
        Err(ApiError::new(ErrorCode::Conflict, message))
    }

    /// A manager with another version than this one, as far as the state knows.
    pub(crate) fn other_version(&self) -> Option<(&str, &str)> {
        let other = |version: &str| !version.is_empty() && version != self.config.version;
        let member = self.store.members().find(|member| other(&member.version))?;
        Some((&member.name, &member.version))
    }
}

/// Who, what and since when.
fn busy(service: &Service, now: ClusterTime) -> String {
    let name = &service.spec.name;
    let number = service.template;
    let Some(release) = service.release(number) else {
        return format!("service \"{name}\" is being updated to release {}", number.0);
    };
    let by = release.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
    let job = if release.job.is_empty() { String::new() } else { format!(" ({})", release.job) };
    format!(
        "service \"{name}\" is busy: release {} with {} came{by}{job} {} s ago and is under way",
        number.0,
        release.spec.template.container.image,
        now.since(release.at).as_secs()
    )
}
