//! What a tag means, asked once: the first node that is to run a template says what its image is, the answer goes into the
//! log, and every node then runs the same contents.
//!
//! Only tasks that have not begun anywhere wait for the answer, and not for long: a registry that is down must not keep
//! services down whose images are on the nodes.

use std::collections::BTreeMap;

use model::{
    command::Command,
    id::ServiceId,
    service::{ImagePin, TemplateVersion},
    session::ManagerMessage,
    task::{Task, TaskState},
    time::Instant,
};
use store::Store;

use crate::{Action, Manager, proposal::Purpose};

type Key = (ServiceId, TemplateVersion);

enum Ask {
    Waiting { connection: u64, until: Instant },
    Failed,
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
        let waiting = self.asked.values().filter_map(|ask| match ask {
            Ask::Waiting { until, .. } => Some(*until),
            Ask::Failed => None,
        });
        waiting.min()
    }
}

impl Manager {
    pub(crate) fn pin_for(&mut self, task: &Task, connection: u64, fresh: bool) -> PinState {
        let key = (task.service, task.template);
        let Some(service) = self.store.service(task.service) else { return PinState::Known(None) };
        if let Some(pin) = service.pins.get(&task.template) {
            return PinState::Known(Some(pin.clone()));
        }
        let image = service.template_of(task.template).map(|template| template.container.image.clone());
        let Some(image) = image.filter(|image| !is_exact(image)) else { return PinState::Known(None) };
        let Some(lead) = &mut self.lead else { return PinState::Known(None) };
        let begun = !fresh || task.observed.state != TaskState::Assigned;
        match lead.pins.asked.get(&key) {
            Some(Ask::Failed) => return PinState::Known(None),
            Some(Ask::Waiting { .. }) => {}
            None => {
                let until = self.now.mono + self.config.knobs.pin_patience;
                lead.pins.asked.insert(key, Ask::Waiting { connection, until });
                self.act(Action::SendAgent { connection, message: ManagerMessage::ResolveImage { image } });
            }
        }
        if begun { PinState::Known(None) } else { PinState::Asked }
    }

    pub(crate) fn on_image_resolved(&mut self, image: &str, outcome: Result<ImagePin, String>) {
        let keys: Vec<Key> = self.lead.iter().flat_map(|lead| lead.pins.asked.keys().copied()).collect();
        let same = keys.into_iter().filter(|(service, template)| {
            let template = self.store.service(*service).and_then(|service| service.template_of(*template));
            template.is_some_and(|template| template.container.image == image)
        });
        let same: Vec<Key> = same.collect();
        match outcome.and_then(|pin| sound(image, pin)) {
            Ok(pin) => {
                for (service, template) in same {
                    let command = Command::PinImage { service, template, pin: pin.clone() };
                    self.propose_own(command, Purpose::Nobody);
                }
            }
            Err(why) => {
                self.notice(format!(
                    "what \"{image}\" means could not be found out: {why}; nodes use the tag"
                ));
                self.give_up(&same);
            }
        }
    }

    pub(crate) fn expire_pins(&mut self) {
        let now = self.now.mono;
        let Some(lead) = &self.lead else { return };
        let late = lead.pins.asked.iter().filter(|(_, ask)| match ask {
            Ask::Waiting { until, .. } => *until <= now,
            Ask::Failed => false,
        });
        let late: Vec<Key> = late.map(|(key, _)| *key).collect();
        self.give_up(&late);
    }

    /// The agent that was asked is gone: another one will be.
    pub(crate) fn forget_pins_asked_of(&mut self, connection: u64) {
        let Some(lead) = &mut self.lead else { return };
        let unanswered = lead.pins.asked.extract_if(.., |_, ask| match ask {
            Ask::Waiting { connection: asked, .. } => *asked == connection,
            Ask::Failed => false,
        });
        let services: Vec<ServiceId> = unanswered.map(|((service, _), _)| service).collect();
        for service in services {
            self.mark_nodes_of(service);
        }
    }

    fn give_up(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(lead) = &mut self.lead {
                lead.pins.asked.insert(*key, Ask::Failed);
            }
            self.mark_nodes_of(key.0);
        }
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
            let asked = repository_of(image);
            is_digest(digest) && (repository == asked || repository.ends_with(&format!("/{asked}")))
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
        assert!(sound("nginx:1", ImagePin::Digest("nginx@sha256:12".into())).is_err());
        assert!(sound("nginx:1", ImagePin::LocalId(format!("sha256:{digest}"))).is_ok());
    }
}
