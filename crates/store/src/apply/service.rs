//! Services: declarations, templates, pins.
//!
//! `previous` always is the declaration before the last change of the *template*; scaling, and published ports that are changed
//! alone, are written into both, so that a rollback returns to the older contents and keeps the present rest. The templates kept are those that tasks
//! carry, the newest one, and the one that a rollback would return to; the pins are those of the templates and of all kept
//! releases: a rollback asks no registry (invariant I12).

use std::{collections::BTreeSet, sync::Arc};

use model::{
    command::{Answer, Rejection},
    event::ObjectChange,
    id::{Generation, ServiceId},
    job::{CronRunRef, JobStatus},
    route::IngressPort,
    service::{ImagePin, Mode, ReleaseNote, RolloutState, Service, ServiceSpec, TemplateVersion},
};

use super::{
    expect_generation,
    release::{expect_newest, left_behind, previous_template},
};
use crate::{requests::Outcome, resolve::missing, write::Writer};

impl Writer<'_> {
    pub(super) fn create_service(&mut self, id: ServiceId, spec: &Arc<ServiceSpec>) -> Outcome {
        self.create(id, spec, None)
    }

    /// A service, or a job that a cron makes.
    pub(super) fn create(
        &mut self,
        id: ServiceId,
        spec: &Arc<ServiceSpec>,
        cron: Option<CronRunRef>,
    ) -> Outcome {
        if let Some(old) = self.store.service_by_name(&spec.name) {
            return Err(match old.removing {
                true => being_removed(old),
                false => Rejection::Exists { kind: "service".into(), name: spec.name.clone() },
            });
        }
        if self.store.services.contains_key(&id) {
            return Err(Rejection::Conflict(format!("service id {id} is taken; ask again")));
        }
        self.unclaimed_ports(id, spec)?;
        self.files_are_there(spec, None)?;
        let networks = self.attached(id, spec)?;
        let first = TemplateVersion(1);
        let mut service = Service {
            id,
            generation: self.generation,
            spec: spec.clone(),
            template: first,
            templates: [(first, Arc::new(spec.template.clone()))].into(),
            previous: None,
            pins: [].into(),
            rollout: None,
            releases: Vec::new(),
            job: spec.job.as_ref().map(|policy| JobStatus::begin(policy, self.at, cron)),
            created: self.at,
            updated: self.at,
            removing: false,
        };
        self.record_first(&mut service);
        self.service_event(&service, ObjectChange::Created, format!("created, {}", describe(spec)));
        self.put_service(service);
        self.attach_all(networks);
        Ok(Answer::Service { id, generation: self.generation })
    }

    pub(super) fn update_service(
        &mut self,
        id: ServiceId,
        expected: Generation,
        spec: &Arc<ServiceSpec>,
        note: &ReleaseNote,
    ) -> Outcome {
        let old = self.changeable(id)?;
        expect_newest(&old, note)?;
        expect_generation("service", &old.spec.name, expected, old.generation)?;
        if spec.name != old.spec.name {
            return Err(Rejection::Invalid(format!(
                "a service keeps its name: \"{}\" cannot become \"{}\"",
                old.spec.name, spec.name
            )));
        }
        if (spec.job.is_some() || old.spec.job.is_some()) && *spec != old.spec {
            return Err(never_changes(&old));
        }
        if is_global(spec.mode) != is_global(old.spec.mode) {
            return Err(Rejection::Invalid(
                "a service stays replicated or global; remove it and create it anew".into(),
            ));
        }
        if *spec == old.spec {
            return Ok(Answer::Service { id, generation: old.generation });
        }
        self.unclaimed_ports(id, spec)?;
        self.files_are_there(spec, Some(&old))?;
        let networks = self.attached(id, spec)?;
        self.attach_all(networks);
        let mut service = (*old).clone();
        service.spec = spec.clone();
        service.updated = self.at;
        if spec.template == old.spec.template {
            let present =
                |previous: &Arc<ServiceSpec>| with_ports(&with_mode(previous, spec.mode), &spec.ports);
            service.previous = old.previous.as_ref().map(present);
            self.finish(service, "updated without a change of its template".into());
        } else {
            service.previous = left_behind(&old);
            self.supersede(&mut service);
            self.begin_rollout(&mut service, RolloutState::Updating, note, None, "");
            let message = format!("updated to template {}", service.template.0);
            self.rollout_event(&service, message.clone());
            self.finish(service, message);
        }
        Ok(Answer::Service { id, generation: self.generation })
    }

    pub(super) fn scale_services(&mut self, scales: &[(ServiceId, u32)]) -> Outcome {
        let mut seen = BTreeSet::new();
        for (id, _) in scales {
            let service = self.changeable(*id)?;
            if service.job.is_some() {
                return Err(never_changes(&service));
            }
            if is_global(service.spec.mode) {
                let name = &service.spec.name;
                let message = format!("service \"{name}\" is global: it has one task on every node");
                return Err(Rejection::Conflict(message));
            }
            if !seen.insert(*id) {
                let message = format!("service \"{}\" is scaled twice in one request", service.spec.name);
                return Err(Rejection::Invalid(message));
            }
        }
        for (id, replicas) in scales {
            self.scale(*id, *replicas);
        }
        Ok(match scales {
            [(id, _)] => self.answer(*id),
            _ => Answer::Done,
        })
    }

    fn scale(&mut self, id: ServiceId, replicas: u32) {
        let Some(old) = self.store.services.get(&id).cloned() else { return };
        let mode = Mode::Replicated(replicas);
        if old.spec.mode == mode {
            return;
        }
        let mut service = (*old).clone();
        service.spec = with_mode(&old.spec, mode);
        service.previous = old.previous.as_ref().map(|previous| with_mode(previous, mode));
        service.updated = self.at;
        let message = format!("scaled from {} to {replicas}", describe(&old.spec));
        self.finish(service, message);
    }

    pub(super) fn remove_service_of(&mut self, id: ServiceId) -> Outcome {
        let old = self.store.services.get(&id).cloned().ok_or_else(|| missing("service", id))?;
        self.note_removal(&old);
        if self.store.tasks_of_service(id).next().is_none() {
            self.remove_service(id);
            self.service_event(&old, ObjectChange::Removed, "removed");
            return Ok(Answer::Service { id, generation: self.generation });
        }
        if !old.removing {
            let service = Service { removing: true, updated: self.at, ..(*old).clone() };
            self.finish(service, "is being removed: its tasks are stopped first".into());
        }
        Ok(self.answer(id))
    }

    pub(super) fn pin_image(&mut self, id: ServiceId, template: TemplateVersion, pin: &ImagePin) -> Outcome {
        let old = self.changeable(id)?;
        if !old.templates.contains_key(&template) {
            let message = format!("service \"{}\" no longer has template {}", old.spec.name, template.0);
            return Err(Rejection::Conflict(message));
        }
        if !old.pins.contains_key(&template) {
            let mut service = (*old).clone();
            service.pins.insert(template, pin.clone());
            let (ImagePin::Digest(text) | ImagePin::LocalId(text)) = pin;
            self.finish(service, format!("the image of template {} is {text}", template.0));
        }
        Ok(self.answer(id))
    }

    /// What a service publishes is published by no other. One that is being removed has its ports until it is gone.
    pub(super) fn unclaimed_ports(&self, id: ServiceId, spec: &ServiceSpec) -> Result<(), Rejection> {
        for port in &spec.ports {
            let claims =
                |other: &&Service| other.id != id && other.spec.ports.iter().any(|held| held.clashes(port));
            if let Some(holder) = self.store.services().find(claims) {
                let place = match &port.http {
                    Some(http) if !http.hosts.is_empty() || http.path != "/" => {
                        format!(" for {}{}", http.hosts.join(", "), http.path)
                    }
                    _ => String::new(),
                };
                let message = format!(
                    "port {}{place} is published by service \"{}\"",
                    port.published, holder.spec.name
                );
                return Err(Rejection::Conflict(message));
            }
        }
        Ok(())
    }

    /// The service, if it may change: it exists and is not being removed.
    pub(super) fn changeable(&self, id: ServiceId) -> Result<Arc<Service>, Rejection> {
        let service = self.store.services.get(&id).cloned().ok_or_else(|| missing("service", id))?;
        if service.removing { Err(being_removed(&service)) } else { Ok(service) }
    }

    /// Drops the templates that nothing needs any more.
    pub(super) fn trim_templates(&mut self, id: ServiceId) {
        let Some(old) = self.store.services.get(&id).cloned() else { return };
        let mut service = (*old).clone();
        self.trim(&mut service);
        if service.templates.len() < old.templates.len() {
            self.put_service(service);
        }
    }

    fn trim(&self, service: &mut Service) {
        let kept = previous_template(service);
        let (id, newest) = (service.id, service.template);
        let needed = |version: &TemplateVersion| {
            *version == newest || Some(*version) == kept || self.store.template_uses(id, *version) > 0
        };
        service.templates.retain(|version, _| needed(version));
        let listed: BTreeSet<TemplateVersion> =
            service.releases.iter().map(|release| release.number).collect();
        service.pins.retain(|version, _| needed(version) || listed.contains(version));
    }

    /// Stores a changed service with what is said about it.
    pub(super) fn finish(&mut self, mut service: Service, message: String) {
        service.generation = self.generation;
        self.trim(&mut service);
        self.service_event(&service, ObjectChange::Updated, message);
        self.put_service(service);
    }

    pub(super) fn answer(&self, id: ServiceId) -> Answer {
        let generation = self.store.service(id).map_or(self.generation, |service| service.generation);
        Answer::Service { id, generation }
    }
}

pub(super) fn with_mode(spec: &Arc<ServiceSpec>, mode: Mode) -> Arc<ServiceSpec> {
    if spec.mode == mode {
        return spec.clone();
    }
    Arc::new(ServiceSpec { mode, ..(**spec).clone() })
}

pub(super) fn with_ports(spec: &Arc<ServiceSpec>, ports: &[IngressPort]) -> Arc<ServiceSpec> {
    if spec.ports == ports {
        return spec.clone();
    }
    Arc::new(ServiceSpec { ports: ports.to_vec(), ..(**spec).clone() })
}

fn being_removed(service: &Service) -> Rejection {
    Rejection::Conflict(format!("service \"{}\" is being removed", service.spec.name))
}

fn is_global(mode: Mode) -> bool {
    matches!(mode, Mode::Global)
}

/// What ran before a change would not be what runs after it, and which of the two completed nobody could tell.
fn never_changes(service: &Service) -> Rejection {
    let name = &service.spec.name;
    Rejection::Invalid(match service.job {
        Some(_) => {
            format!("\"{name}\" is a job, which never changes; remove it, or run another one beside it")
        }
        None => format!("service \"{name}\" cannot become a job; make one under another name"),
    })
}

fn describe(spec: &ServiceSpec) -> String {
    match spec.mode {
        Mode::Replicated(completions) if spec.job.is_some() => match completions {
            1 => "a job with 1 completion".into(),
            completions => format!("a job with {completions} completions"),
        },
        Mode::Global if spec.job.is_some() => "a job with one completion on every node".into(),
        Mode::Replicated(1) => "1 replica".into(),
        Mode::Replicated(replicas) => format!("{replicas} replicas"),
        Mode::Global => "one task on every node".into(),
    }
}
