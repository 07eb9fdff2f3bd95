//! The pre-deploy hook: one container of the new release that must succeed before the first replica changes, such as a
//! migration of the database.
//!
//! It fills [`Slot::HOOK`](crate::service::Slot::HOOK) of its own service, so that its placement, logs and history are those of
//! any task. It runs once: when nobody can say what became of it, it counts as failed rather than being started again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    container::{ContainerSpec, Healthcheck},
    placement::Placement,
    probe::Probes,
    service::{RestartCondition, RestartPolicy, TaskTemplate},
};

/// What runs before a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// The command, without a shell, in a container that is otherwise the new release's: image, environment, mounts, networks,
    /// limits. It has no ports, no probes, and takes no traffic.
    pub command: Vec<String>,
    /// How long it may take, its image's pull and its retries included; at most a day.
    pub timeout: Duration,
    /// How often it is started again after a non-zero exit; at most 10.
    pub retries: u32,
    /// It changes data that a rollback does not change back: whoever goes back is told.
    pub migration: bool,
}

impl Default for Hook {
    fn default() -> Self {
        Self { command: Vec::new(), timeout: Duration::from_secs(600), retries: 0, migration: false }
    }
}

impl Hook {
    /// The container of the hook, made from that of the release's replicas.
    pub fn container(&self, replica: &ContainerSpec) -> ContainerSpec {
        ContainerSpec {
            command: self.command.clone(),
            args: Vec::new(),
            ports: Vec::new(),
            healthcheck: Some(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() }),
            probes: Probes::default(),
            ..replica.clone()
        }
    }

    /// What happens when it ends: that depends on nothing but its exit code.
    pub fn restart(&self) -> RestartPolicy {
        let condition = if self.retries == 0 { RestartCondition::None } else { RestartCondition::OnFailure };
        RestartPolicy { condition, max_attempts: Some(self.retries.max(1)), ..RestartPolicy::default() }
    }

    /// What its task is made from: it is no replica, so that no maximum of replicas on a node is its own.
    pub fn template(&self, release: &TaskTemplate) -> TaskTemplate {
        TaskTemplate {
            container: self.container(&release.container),
            restart: self.restart(),
            placement: Placement { max_per_node: 0, ..release.placement.clone() },
            ..release.clone()
        }
    }
}
