//! What the engine says of its own accord: that it is there, what containers it has, what happens to them.

use std::collections::BTreeMap;

use model::{id::TaskId, task::Health, time::Instant};
use planted::Bug;

use crate::{
    agent::Agent,
    engine::{Change, ContainerChange, ContainerView},
    event::EngineFacts,
    labels::Labels,
};

impl Agent {
    pub(crate) fn engine_up(&mut self, facts: EngineFacts, now: Instant) {
        self.engine.up(facts, now);
        self.refresh_facts();
    }

    /// Nothing is concluded from it about any container.
    pub(crate) fn engine_down(&mut self, reason: String, now: Instant) {
        self.engine.down(reason);
        self.session.engine_known(now);
        self.refresh_facts();
        // Places in the line are given back; the line forms anew when the engine is there again.
        self.dirty.extend(self.tasks.keys().chain(self.fetches.keys()).copied());
    }

    pub(crate) fn engine_listed(&mut self, containers: Vec<ContainerView>, now: Instant) {
        self.engine.listed(now);
        self.refresh_facts();
        self.session.engine_known(now);
        self.strangers.clear();
        let mut by_task: BTreeMap<TaskId, Vec<ContainerView>> = BTreeMap::new();
        for view in containers {
            if !self.is_ours(&view.labels) {
                continue;
            }
            if self.tasks.contains_key(&view.labels.task) {
                by_task.entry(view.labels.task).or_default().push(view);
            } else {
                self.strangers.insert(view.id, view.labels);
            }
        }
        for (id, task) in &mut self.tasks {
            let mut views = by_task.remove(id).unwrap_or_default();
            if planted::is(Bug::NoAdoption) && !task.verified {
                task.attempt +=
                    views.iter().filter(|view| view.labels.attempt == task.attempt).count() as u32;
                views.clear();
            }
            task.listed(&views, &mut Self::context(&mut self.rng, now));
            self.dirty.insert(*id);
        }
        self.dirty.extend(self.fetches.keys().copied());
        self.expel_strangers();
    }

    pub(crate) fn engine_changed(&mut self, change: ContainerChange, now: Instant) {
        let ContainerChange { id, labels, change } = change;
        if !self.is_ours(&labels) || !self.engine.is_ready() {
            return;
        }
        if self.engine.heard(now) {
            self.refresh_facts();
        }
        let Some(task) = self.tasks.get_mut(&labels.task) else {
            self.stranger_changed(id, labels, change);
            return;
        };
        let context = &mut Self::context(&mut self.rng, now);
        match change {
            Change::Created => task.event_created(&id, labels.attempt),
            Change::Started => task.event_started(&id, labels.attempt),
            Change::Died { code } => task.event_died(&id, code, context),
            Change::Destroyed => task.gone(&id, context),
            Change::OutOfMemory => {
                if let Some(container) = task.containers.get_mut(&id) {
                    container.out_of_memory = true;
                }
            }
            Change::Health(health) => {
                if let Some(container) = task.containers.get_mut(&id) {
                    container.health = health;
                    container.overtaken = true;
                    // The event does not carry what the check printed, and without that nobody can mend it.
                    container.doubted |= health == Health::Unhealthy;
                }
            }
        }
        self.dirty.insert(labels.task);
    }

    fn stranger_changed(&mut self, id: String, labels: Labels, change: Change) {
        match change {
            Change::Created | Change::Started => {
                self.strangers.insert(id, labels);
                self.expel_strangers();
            }
            Change::Destroyed => {
                self.strangers.remove(&id);
            }
            Change::OutOfMemory | Change::Died { .. } | Change::Health(_) => {}
        }
    }

    fn is_ours(&self, labels: &Labels) -> bool {
        labels.cluster == self.cluster && labels.node == self.node
    }
}
