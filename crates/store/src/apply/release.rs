//! Releases: what begins one, what becomes of it, and the way back.
//!
//! Every change of a template makes a release under the template's number. A way back is a release too, with the older
//! contents under a new number; the one that it leaves is marked. A result follows the cursor of the rollout, in the same
//! entry: a history that says "done" cannot run ahead of the tasks, nor lag behind them.

use std::sync::Arc;

use model::{
    command::{Answer, Rejection},
    id::{ServiceId, TaskId},
    service::{
        Canary, ImagePin, MAX_HISTORY, Release, ReleaseNote, ReleaseResult, Rollout, RolloutState,
        RolloutStep, Service, ServiceSpec, TemplateVersion,
    },
    task::Fault,
};

use super::service::{with_mode, with_ports};
use crate::{requests::Outcome, resolve::missing, write::Writer};

/// Bytes kept of what routers saw.
const MAX_FAULT: usize = 512;

/// A way back.
struct Return {
    /// The declaration to return to.
    spec: Arc<ServiceSpec>,
    /// The release that it is of, where that is known.
    of: Option<TemplateVersion>,
    /// What its image meant.
    pin: Option<ImagePin>,
    /// What a further rollback would return to.
    previous: Option<Arc<ServiceSpec>>,
    /// What becomes of the release that is left.
    left: ReleaseResult,
}

impl Writer<'_> {
    pub(super) fn rollback_service(
        &mut self,
        id: ServiceId,
        to: Option<TemplateVersion>,
        note: &ReleaseNote,
    ) -> Outcome {
        let old = self.changeable(id)?;
        expect_newest(&old, note)?;
        if old.rollout.as_ref().is_some_and(|rollout| rollout.state == RolloutState::RollingBack) {
            let message = format!("service \"{}\" is being rolled back already", old.spec.name);
            return Err(Rejection::Conflict(message));
        }
        let mut way = match to {
            Some(release) => self.way_to(&old, release)?,
            None => way_to_previous(&old)?,
        };
        // After a rollback on request the declaration that was left can be returned to.
        way.previous = Some(old.spec.clone()).filter(|_| !is_unprepared(&old));
        let networks = self.attached(id, &way.spec)?;
        self.attach_all(networks);
        self.return_to(&old, way, note, "rolled back on request");
        Ok(self.answer(id))
    }

    /// An automatic rollback: the declaration that failed cannot be returned to by a hasty `rollback`; by its number it can.
    pub(super) fn return_to_previous(&mut self, old: &Service, message: &str) -> Result<(), Rejection> {
        let way = way_to_previous(old)?;
        self.return_to(old, way, &ReleaseNote::default(), message);
        Ok(())
    }

    fn way_to(&self, old: &Service, number: TemplateVersion) -> Result<Return, Rejection> {
        let name = &old.spec.name;
        let Some(release) = old.release(number) else {
            let kept: Vec<String> = old.releases.iter().map(|release| release.number.0.to_string()).collect();
            return Err(Rejection::Conflict(format!(
                "service \"{name}\" has no release {} any more; kept are {}",
                number.0,
                if kept.is_empty() { "none".to_owned() } else { kept.join(", ") }
            )));
        };
        let (pin, present) = (old.pins.get(&number), old.pins.get(&old.template));
        if release.spec.template == old.spec.template && pin == present {
            return Err(Rejection::Conflict(format!(
                "service \"{name}\" has the contents of release {} already",
                number.0
            )));
        }
        if release.unprepared {
            return Err(Rejection::Conflict(format!(
                "the pre-deploy hook of release {} of service \"{name}\" never succeeded, and a way back runs none: deploy its \
                 image instead",
                number.0
            )));
        }
        let spec = with_ports(&with_mode(&release.spec, old.spec.mode), &old.spec.ports);
        let left = ReleaseResult::RolledBack;
        Ok(Return { spec, of: Some(number), pin: pin.cloned(), previous: None, left })
    }

    fn return_to(&mut self, old: &Service, mut way: Return, note: &ReleaseNote, message: &str) {
        if self.unclaimed_ports(old.id, &way.spec).is_err() {
            // Another service has them by now, and a rollback must not fail for that.
            way.spec = with_ports(&way.spec, &old.spec.ports);
        }
        let stays = migrations_that_stay(old, &way);
        let message = &format!("{message}{stays}");
        let mut service = old.clone();
        service.spec = way.spec;
        service.previous = way.previous;
        service.updated = self.at;
        self.settle(&mut service, old.template, way.left, message);
        self.begin_rollout(&mut service, RolloutState::RollingBack, note, way.of, message);
        if let Some(pin) = way.pin {
            service.pins.insert(service.template, pin);
        }
        self.rollout_event(&service, message);
        self.finish(service, message.to_owned());
    }

    /// A person's word on a rollout. What is so already is done.
    pub(super) fn steer_rollout(
        &mut self,
        id: ServiceId,
        release: TemplateVersion,
        step: RolloutStep,
    ) -> Outcome {
        let old = self.changeable(id)?;
        expect_newest(&old, &ReleaseNote { after: Some(release), ..ReleaseNote::default() })?;
        let name = &old.spec.name;
        let Some(rollout) = &old.rollout else {
            return Err(Rejection::Conflict(format!("service \"{name}\" has had no rollout yet")));
        };
        let by = self.actor.to_string();
        let mut next = Rollout { since: self.at, ..rollout.clone() };
        match (step, rollout.state) {
            (RolloutStep::Pause, RolloutState::Paused) => return Ok(self.answer(id)),
            (RolloutStep::Pause, state) if state.is_under_way() => {
                next.state = RolloutState::Paused;
                next.paused_from = Some(state);
                next.message = format!("paused by {by}");
            }
            (RolloutStep::Resume, RolloutState::Paused) => {
                // Canaries that waited are judged anew, which costs nothing while they are good.
                let before = rollout.paused_from.filter(|state| *state == RolloutState::RollingBack);
                next.state = before.unwrap_or(RolloutState::Updating);
                next.paused_from = None;
                next.resumed = Some(self.at);
                next.deadline = None;
                next.message = String::new();
            }
            (RolloutStep::Resume, state) if state.is_under_way() => return Ok(self.answer(id)),
            (RolloutStep::Promote, RolloutState::AwaitingPromotion) => {
                next.state = RolloutState::Updating;
                next.deadline = None;
                next.canary.iter_mut().for_each(|canary| canary.promoted = true);
                next.message = String::new();
            }
            (RolloutStep::Promote, RolloutState::Updating) if rollout.holding().is_none() => {
                return Ok(self.answer(id));
            }
            (RolloutStep::Abort, RolloutState::Updating | RolloutState::AwaitingPromotion) => {
                return self.abort(&old, &by);
            }
            (RolloutStep::Abort, RolloutState::Paused) if is_forward(rollout) => {
                return self.abort(&old, &by);
            }
            (RolloutStep::Abort, RolloutState::RollingBack) => return Ok(self.answer(id)),
            (step, state) => {
                let why = match (step, state) {
                    (RolloutStep::Promote, RolloutState::Updating) => "its canaries are not good yet",
                    (_, RolloutState::Paused) => "it is paused",
                    (_, RolloutState::RollingBack) => "it is being rolled back",
                    _ => "it is over",
                };
                return Err(Rejection::Conflict(format!(
                    "cannot {step} the rollout of release {} of service \"{name}\": {why}",
                    rollout.target.0
                )));
            }
        }
        self.move_rollout(&old, next);
        Ok(self.answer(id))
    }

    fn abort(&mut self, old: &Service, by: &str) -> Outcome {
        let way = Return { left: ReleaseResult::Aborted, ..way_to_previous(old)? };
        self.return_to(old, way, &ReleaseNote::default(), &format!("aborted by {by}"));
        Ok(self.answer(old.id))
    }

    /// What routers saw of a replica that a rollout brought.
    pub(super) fn note_fault(&mut self, id: TaskId, release: TemplateVersion, message: &str) -> Outcome {
        let old = self.store.tasks.get(&id).cloned().ok_or_else(|| missing("task", id))?;
        let service = self.changeable(old.service)?;
        let rollout = service.rollout.as_ref().filter(|rollout| rollout.state.is_under_way());
        let Some(rollout) = rollout.filter(|rollout| rollout.target == release && old.template == release)
        else {
            let message =
                format!("release {} of service \"{}\" is not under way", release.0, service.spec.name);
            return Err(Rejection::Conflict(message));
        };
        if old.fault_since(rollout.begun()).is_some() {
            return Ok(Answer::Done);
        }
        let mut task = (*old).clone();
        task.generation = self.generation;
        let message = message[..message.floor_char_boundary(MAX_FAULT)].to_owned();
        task.faulted = Some(Box::new(Fault { at: self.at, message: message.clone() }));
        self.task_event(&task, message);
        self.put_task(task);
        Ok(Answer::Done)
    }

    /// Moves the cursor, and the result of its release with it.
    pub(super) fn move_rollout(&mut self, old: &Service, rollout: Rollout) {
        let mut service = old.clone();
        service.generation = self.generation;
        let result = match rollout.state {
            RolloutState::Updating | RolloutState::RollingBack | RolloutState::AwaitingPromotion => {
                ReleaseResult::Running
            }
            RolloutState::Paused => ReleaseResult::Paused,
            RolloutState::Done | RolloutState::RolledBack => ReleaseResult::Done,
        };
        let told = |rollout: &Rollout| (rollout.state, rollout.message.clone());
        let is_news = old.rollout.as_ref().map(told) != Some(told(&rollout));
        let (target, message) = (rollout.target, rollout.message.clone());
        service.rollout = Some(rollout);
        self.settle(&mut service, target, result, &message);
        if is_news {
            self.rollout_event(&service, message);
        }
        self.put_service(service);
    }

    /// Gives the service's template the next number, makes it the target, and writes the release down.
    pub(super) fn begin_rollout(
        &self,
        service: &mut Service,
        state: RolloutState,
        note: &ReleaseNote,
        returns_to: Option<TemplateVersion>,
        message: &str,
    ) {
        let skipped =
            service.rollout.as_ref().filter(|_| is_unprepared(service)).and_then(|rollout| rollout.from);
        let from = service.template;
        service.template = TemplateVersion(from.0.saturating_add(1));
        service.templates.insert(service.template, Arc::new(service.spec.template.clone()));
        let canary = note.canary.as_ref().or(service.spec.update.canary.as_ref());
        let canary = canary.filter(|_| state == RolloutState::Updating);
        service.rollout = Some(Rollout {
            target: service.template,
            from: Some(skipped.unwrap_or(from)),
            state,
            started: self.at,
            since: self.at,
            next_batch_at: self.at,
            message: message.to_owned(),
            deadline: None,
            canary: canary.map(|policy| Canary { policy: policy.clone(), promoted: false }),
            resumed: None,
            paused_from: None,
            despite_freeze: note.despite_freeze.clone(),
            hook: service.spec.update.pre_deploy.clone().filter(|_| state == RolloutState::Updating),
        });
        self.record(service, note, returns_to, message);
    }

    /// The first declaration is no rollout: whether its tasks came up is another question.
    pub(super) fn record_first(&self, service: &mut Service) {
        self.record(service, &ReleaseNote::default(), None, "created");
        self.settle(service, service.template, ReleaseResult::Done, "created");
    }

    fn record(
        &self,
        service: &mut Service,
        note: &ReleaseNote,
        returns_to: Option<TemplateVersion>,
        message: &str,
    ) {
        service.releases.push(Arc::new(Release {
            number: service.template,
            spec: service.spec.clone(),
            returns_to,
            by: Some(self.actor.clone()),
            job: note.job.clone(),
            at: self.at,
            ended: None,
            result: ReleaseResult::Running,
            message: message.to_owned(),
            unprepared: service.rollout.as_ref().is_some_and(|rollout| rollout.hook.is_some()),
        }));
        let most = service.spec.update.history.clamp(1, MAX_HISTORY) as usize;
        let surplus = service.releases.len().saturating_sub(most);
        service.releases.drain(..surplus);
    }

    /// Another release comes while this one may not be done.
    pub(super) fn supersede(&self, service: &mut Service) {
        let number = service.template;
        let open = service
            .release(number)
            .is_some_and(|release| matches!(release.result, ReleaseResult::Running | ReleaseResult::Paused));
        if open {
            self.settle(service, number, ReleaseResult::Superseded, "");
        }
    }

    /// Writes down what became of a release, if it is kept.
    fn settle(&self, service: &mut Service, number: TemplateVersion, result: ReleaseResult, message: &str) {
        let awaits = |rollout: &Rollout| rollout.target == number && rollout.hook.is_some();
        let awaits_hook = service.rollout.as_ref().is_some_and(awaits);
        let Some(kept) = service.releases.iter_mut().find(|release| release.number == number) else { return };
        let mut release = (**kept).clone();
        let ended = (result != ReleaseResult::Running).then_some(self.at);
        // A release that was done long ago and is left now took no longer for that.
        release.ended = if release.result == ReleaseResult::Done { release.ended.or(ended) } else { ended };
        release.result = result;
        release.unprepared &= awaits_hook;
        message.clone_into(&mut release.message);
        *kept = Arc::new(release);
    }
}

/// Compare-and-set on the release number: whoever saw an older one is told who came in between.
pub(super) fn expect_newest(service: &Service, note: &ReleaseNote) -> Result<(), Rejection> {
    let newest = service.template;
    if note.after.is_none_or(|after| after == newest) || planted::is(planted::Bug::ReleaseNotCompared) {
        return Ok(());
    }
    let by = service.release(newest).and_then(|release| release.by.as_ref());
    let by = by.map_or_else(String::new, |by| format!(" by {by}"));
    Err(Rejection::Conflict(format!(
        "service \"{}\" has come to release {}{by} meanwhile",
        service.spec.name, newest.0
    )))
}

/// What a way back does not undo.
fn migrations_that_stay(old: &Service, way: &Return) -> String {
    let before = TemplateVersion(old.template.0.saturating_sub(1));
    let numbers = old.migrations_after(way.of.unwrap_or(before));
    let numbers: Vec<String> = numbers.iter().map(|number| number.0.to_string()).collect();
    if numbers.is_empty() {
        return String::new();
    }
    format!("; the migration of release {} is not undone", numbers.join(", "))
}

/// Whether the newest release is one that no replica may run.
fn is_unprepared(service: &Service) -> bool {
    service.release(service.template).is_some_and(|release| release.unprepared)
}

/// What a release that comes next could return to: never to one that no replica may run.
pub(super) fn left_behind(old: &Service) -> Option<Arc<ServiceSpec>> {
    if is_unprepared(old) { old.previous.clone() } else { Some(old.spec.clone()) }
}

fn is_forward(rollout: &Rollout) -> bool {
    rollout.paused_from != Some(RolloutState::RollingBack)
}

fn way_to_previous(old: &Service) -> Result<Return, Rejection> {
    let Some(spec) = old.previous.clone() else {
        let name = &old.spec.name;
        let message = format!(
            "service \"{name}\" has no previous declaration; `orchctl service history {name}` lists the releases that --to \
             can name"
        );
        return Err(Rejection::Conflict(message));
    };
    let template = previous_template(old);
    let pin = template.and_then(|version| old.pins.get(&version).cloned());
    Ok(Return { spec, of: template, pin, previous: None, left: ReleaseResult::RolledBack })
}

/// The kept template that a rollback would return to: the newest one, besides the current, with the previous contents.
pub(super) fn previous_template(service: &Service) -> Option<TemplateVersion> {
    let previous = service.previous.as_ref()?;
    let mut kept = service.templates.iter().rev();
    let found =
        kept.find(|(version, template)| **version != service.template && ***template == previous.template);
    found.map(|(version, _)| *version)
}
