//! What a tag means, asked once: its registry says what the image is, or, where that is not declared or cannot be asked, the first
//! node that is to run the template. The answer goes into the log, and every node then runs the same contents.
//!
//! Only tasks that have not begun anywhere wait for the answer, and not for long: a registry that is down must not keep
//! services down whose images are on the nodes. A question that came to nothing is asked again, ever more rarely, and then
//! nobody waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{
    command::Command,
    id::ServiceId,
    registry::ImageName,
    service::{ImagePin, TemplateVersion},
    session::ManagerMessage,
    task::{Task, TaskState},
    time::Instant,
};
use store::Store;

use crate::{Action, Manager, proposal::Purpose};

pub(crate) type Key = (ServiceId, TemplateVersion);

/// The pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// A registry that was down for a day is asked within minutes after it is back, and seldom enough until then.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// One question; `failures` counts the answers that said nothing.
#[derive(Clone, Copy)]
enum Ask {
    /// To be asked of the next node that is told of the template.
    Due { failures: u32 },
    /// Asked, a node or else its registry, and not given up before this time.
    Waiting { connection: Option<u64>, until: Instant, failures: u32 },
    /// Not asked again before this time.
    Failed { again: Instant, failures: u32 },
}

/// What was asked, by template.
#[derive(Default)]
pub(crate) struct Pins {
    asked: BTreeMap<Key, Ask>,
}

/// What an assignment can say of its image.
pub(crate) enum PinState {
    /// This.
    Known(Option<ImagePin>),
    /// Wait for the answer.
    Asked,
}

impl Pins {
    /// A service changed: what it no longer has, or has the answer to, is forgotten.
    pub(crate) fn forget_gone(&mut self, id: ServiceId, store: &Store) {
        let service = store.service(id);
        self.asked.retain(|(of, template), _| {
            *of != id
                || service.is_some_and(|service| {
                    service.template_of(*template).is_some() && !service.pins.contains_key(template)
                })
        });
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.asked.values().filter_map(Ask::deadline).min()
    }
}

impl Ask {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Due { .. } => None,
            Self::Waiting { until: at, .. } | Self::Failed { again: at, .. } => Some(*at),
        }
    }

    fn failures(&self) -> u32 {
        match self {
            Self::Due { failures } | Self::Waiting { failures, .. } | Self::Failed { failures, .. } => {
                *failures
            }
        }
    }
}

/// After so many failures in a row.
fn pause(failures: u32) -> Duration {
    let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

impl Manager {
    pub(crate) fn pin_for(&mut self, task: &Task, connection: u64, fresh: bool) -> PinState {
        let begun = !fresh || task.observed.state != TaskState::Assigned;
        self.pin_of((task.service, task.template), connection, begun)
    }

    /// What a template's tag means. `begun`: what is there does not wait for the answer.
    pub(crate) fn pin_of(&mut self, key: Key, connection: u64, begun: bool) -> PinState {
        let Some(service) = self.store.service(key.0) else { return PinState::Known(None) };
        if let Some(pin) = service.pins.get(&key.1) {
            return PinState::Known(Some(pin.clone()));
        }
        let image = service.template_of(key.1).map(|template| template.container.image.clone());
        let Some(image) = image.filter(|image| !is_exact(image)) else { return PinState::Known(None) };
        let Some(lead) = &mut self.lead else { return PinState::Known(None) };
        let ask = lead.pins.asked.get(&key).copied().unwrap_or(Ask::Due { failures: 0 });
        if let Ask::Due { failures } = ask {
            let asked_node = self.ask_for_pin(&image, connection);
            let knobs = &self.config.knobs;
            // A registry that does not answer is given up first, and a node asked instead.
            let patience = if asked_node { knobs.pin_patience } else { knobs.registry_patience * 2 };
            let (until, connection) = (self.now.mono + patience, asked_node.then_some(connection));
            if let Some(lead) = &mut self.lead {
                lead.pins.asked.insert(key, Ask::Waiting { connection, until, failures });
            }
            if let Some(pin) = self.just_said(&image) {
                let (service, template) = key;
                self.propose_own(Command::PinImage { service, template, pin }, Purpose::Nobody);
            }
        }
        if begun || ask.failures() > 0 { PinState::Known(None) } else { PinState::Asked }
    }

    /// Has somebody asked what a tag means, unless that was said just now. Whether it was a node.
    fn ask_for_pin(&mut self, image: &str, connection: u64) -> bool {
        if self.just_said(image).is_some() || self.resolve_at_registry(image) {
            return false;
        }
        let message = ManagerMessage::ResolveImage { image: image.to_owned() };
        self.act(Action::SendAgent { connection, message });
        true
    }

    fn just_said(&self, image: &str) -> Option<ImagePin> {
        self.lead.as_ref()?.registries.fresh(image, self.now.mono).cloned()
    }

    /// The registry could not say what a tag means.
    pub(crate) fn ask_nodes_instead(&mut self, image: &str) {
        let store = self.store.clone();
        self.change_asked(|(service, template), ask| {
            let template = store.service(*service).and_then(|service| service.template_of(*template));
            let same = template.is_some_and(|template| template.container.image == image);
            let waits = matches!(ask, Ask::Waiting { connection: None, .. });
            (same && waits).then(|| Ask::Due { failures: ask.failures() })
        });
    }

    /// What an image means, as its registry says (`from` is `None`) or a node, of which only what it was asked for is taken.
    pub(crate) fn on_image_resolved(
        &mut self,
        from: Option<u64>,
        image: &str,
        outcome: Result<ImagePin, String>,
    ) {
        let asked = |ask: &Ask| {
            from.is_none() || matches!(ask, Ask::Waiting { connection, .. } if *connection == from)
        };
        let asks = self.lead.iter().flat_map(|lead| &lead.pins.asked);
        let keys: Vec<Key> = asks.filter(|(_, ask)| asked(ask)).map(|(key, _)| *key).collect();
        let same = keys.into_iter().filter(|(service, template)| {
            let template = self.store.service(*service).and_then(|service| service.template_of(*template));
            template.is_some_and(|template| template.container.image == image)
        });
        let same: Vec<Key> = same.collect();
        if same.is_empty() {
            return;
        }
        match outcome.and_then(|pin| sound(image, pin)) {
            Ok(pin) => {
                for (service, template) in same {
                    let command = Command::PinImage { service, template, pin: pin.clone() };
                    self.propose_own(command, Purpose::Nobody);
                }
            }
            Err(why) => {
                self.notice(format!(
                    "what \"{image}\" means could not be found out: {why}; nodes use the tag, and it is asked again"
                ));
                self.give_up(|key, ask| same.contains(key) && matches!(ask, Ask::Waiting { .. }));
            }
        }
    }

    /// Gives up what was not answered in time, and asks again what failed long enough ago.
    pub(crate) fn expire_pins(&mut self) {
        let now = self.now.mono;
        let late = |ask: &Ask| ask.deadline().is_some_and(|at| at <= now);
        self.give_up(|_, ask| late(ask) && matches!(ask, Ask::Waiting { .. }));
        self.ask_again(|ask| late(ask) && matches!(ask, Ask::Failed { .. }));
    }

    /// The agent that was asked is gone: another one will be.
    pub(crate) fn forget_pins_asked_of(&mut self, connection: u64) {
        self.ask_again(
            |ask| matches!(ask, Ask::Waiting { connection: asked, .. } if *asked == Some(connection)),
        );
    }

    fn ask_again(&mut self, which: impl Fn(&Ask) -> bool) {
        self.change_asked(|_, ask| which(ask).then(|| Ask::Due { failures: ask.failures() }));
    }

    fn give_up(&mut self, which: impl Fn(&Key, &Ask) -> bool) {
        let now = self.now.mono;
        self.change_asked(|key, ask| {
            let failures = ask.failures().saturating_add(1);
            which(key, ask).then(|| Ask::Failed { again: now + pause(failures), failures })
        });
    }

    /// What is changed is looked at again on every node that runs it.
    fn change_asked(&mut self, change: impl Fn(&Key, &Ask) -> Option<Ask>) {
        let Some(lead) = &mut self.lead else { return };
        let mut services = BTreeSet::new();
        for (key, ask) in &mut lead.pins.asked {
            if let Some(next) = change(key, ask) {
                *ask = next;
                services.insert(key.0);
            }
        }
        services.into_iter().for_each(|service| self.mark_nodes_of(service));
    }

    fn mark_nodes_of(&mut self, service: ServiceId) {
        if let Some(lead) = &mut self.lead {
            lead.dirty.extend(self.store.tasks_of_service(service).filter_map(|task| task.node));
        }
    }
}

/// A node may say which contents a repository's tag has, and nothing else.
fn sound(image: &str, pin: ImagePin) -> Result<ImagePin, String> {
    let right = match &pin {
        ImagePin::Digest(text) => text.split_once('@').is_some_and(|(repository, digest)| {
            let place = |name| ImageName::parse(name).map(|name| (name.host.to_owned(), name.repository()));
            let untagged = repository_of(repository) == repository;
            is_digest(digest) && untagged && place(repository) == place(image)
        }),
        ImagePin::LocalId(text) => is_digest(text),
    };
    if right { Ok(pin) } else { Err(format!("the answer {pin:?} is not one")) }
}

fn repository_of(image: &str) -> &str {
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    }
}

fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:");
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// An image that means the same everywhere: named by digest or by id.
fn is_exact(image: &str) -> bool {
    image.contains("@sha256:") || image.starts_with("sha256:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_cannot_make_a_tag_mean_another_repository() {
        let digest = "a".repeat(64);
        let pin = |repository: &str| ImagePin::Digest(format!("{repository}@sha256:{digest}"));
        for (image, repository) in [
            ("nginx:1", "nginx"),
            ("nginx", "docker.io/library/nginx"),
            ("host:5000/team/app:2", "host:5000/team/app"),
            ("host:5000/app", "host:5000/app"),
        ] {
            assert!(sound(image, pin(repository)).is_ok(), "{image} {repository}");
        }
        assert!(sound("nginx:1", pin("evil/other")).is_err());
        assert!(sound("nginx:1", pin("evilnginx")).is_err());
        assert!(sound("nginx:1", pin("evil.example/nginx")).is_err());
        assert!(sound("nginx:1", pin("docker.io/evil/nginx")).is_err());
        assert!(sound("team/app:1", pin("evil.example/team/app")).is_err());
        assert!(sound("index.docker.io/nginx:1", pin("nginx")).is_ok());
        assert!(sound("nginx:1", ImagePin::Digest("nginx@sha256:12".into())).is_err());
        assert!(sound("nginx:1", ImagePin::LocalId(format!("sha256:{digest}"))).is_ok());
    }
}
