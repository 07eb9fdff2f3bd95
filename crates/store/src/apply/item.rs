//! Secrets and configs: their versions, who mounts which, and the keys that they are sealed with.
//!
//! A version is kept while anything mounts it or a way back would: a rollback brings the old value back (invariant I12). What a
//! service mounts is in the state from the entry that declares it on; so nothing that runs can name a value that is not there.

use std::{collections::BTreeSet, sync::Arc};

use model::{
    command::{Answer, Rejection},
    container::ContainerSpec,
    cron::{Cron, CronSpec},
    event::{EventKind, ObjectChange},
    item::{Item, ItemKind, ItemSpec, ItemVersion, MAX_ALL_VALUES, MAX_ITEMS, MAX_VERSIONS, NewVersion},
    sealed::{DataKeys, KeyId, KeyRecord, Sealed},
    service::{ReleaseNote, RolloutState, Service, ServiceSpec},
};

use super::{cluster::with_keys, release::left_behind};
use crate::{requests::Outcome, resolve::missing, write::Writer};

impl Writer<'_> {
    pub(super) fn create_item(&mut self, spec: &ItemSpec, version: &NewVersion) -> Outcome {
        let (kind, name) = (spec.kind, &spec.name);
        if self.store.item(kind, name).is_some() {
            return Err(Rejection::Exists { kind: kind.to_string(), name: name.clone() });
        }
        if self.store.items.len() >= MAX_ITEMS {
            let message =
                format!("there are {MAX_ITEMS} secrets and configs, the most there may be; remove some");
            return Err(Rejection::Conflict(message));
        }
        self.room_for(version.size)?;
        let first = self.next_version(kind, name, 0, version)?;
        self.put_item(Item {
            spec: spec.clone(),
            generation: self.generation,
            versions: vec![first],
            created: self.at,
            updated: self.at,
        });
        self.item_event(kind, name, ObjectChange::Created, "created");
        Ok(Answer::Item { version: 1, services: Vec::new() })
    }

    pub(super) fn update_item(&mut self, kind: ItemKind, name: &str, version: &NewVersion) -> Outcome {
        let mut item = (*self.item(kind, name)?).clone();
        let old = item.newest().number;
        if version.number == old && version.value == item.newest().value {
            return Ok(Answer::Item { version: old, services: Vec::new() });
        }
        self.room_for(version.size)?;
        let next = self.next_version(kind, name, old, version)?;
        item.versions.push(next);
        item.generation = self.generation;
        item.updated = self.at;
        self.put_item(item);
        let what = format!("{kind} {name} {old} -> {}", version.number);
        let services = self.roll_services(kind, name, version.number, &what);
        self.roll_crons(kind, name, version.number);
        self.trim_item(kind, name);
        self.item_event(kind, name, ObjectChange::Updated, format!("version {}", version.number));
        Ok(Answer::Item { version: version.number, services })
    }

    pub(super) fn remove_item_of(&mut self, kind: ItemKind, name: &str) -> Outcome {
        let item = self.item(kind, name)?;
        if let Some(user) = self.store.item_users(kind, name).next() {
            return Err(Rejection::Conflict(format!("{kind} \"{name}\" cannot be removed: {user}")));
        }
        let version = item.newest().number;
        self.remove_item(kind, name);
        self.item_event(kind, name, ObjectChange::Removed, "removed");
        Ok(Answer::Item { version, services: Vec::new() })
    }

    /// What a declaration mounts is there, in the newest version or in the one that the service has anyway; and who mounts a
    /// template mounts the secrets that it names.
    pub(super) fn files_are_there(&self, spec: &ServiceSpec, old: Option<&Service>) -> Result<(), Rejection> {
        let container = &spec.template.container;
        for (kind, mount) in container.files() {
            let name = &mount.name;
            let item = self.item(kind, name)?;
            let number = mount.version.unwrap_or_default();
            let held = old.is_some_and(|old| mounts(old.containers(), kind, name).contains(&number));
            if number != item.newest().number && !held {
                return Err(Rejection::Conflict(format!(
                    "{kind} \"{name}\" has come to version {} meanwhile; ask again",
                    item.newest().number
                )));
            }
            let Some(version) = item.version(number) else {
                return Err(Rejection::Conflict(format!(
                    "{kind} \"{name}\" has no version {number} any more"
                )));
            };
            let named = |secret: &&String| container.mounts_item(ItemKind::Secret, secret).next().is_none();
            if let Some(secret) = version.names.iter().find(named) {
                return Err(Rejection::Invalid(format!(
                    "config \"{name}\" has the value of secret \"{secret}\" in it: mount that secret too"
                )));
            }
        }
        Ok(())
    }

    /// Forgets the versions of what a service mounted that is gone now.
    pub(crate) fn trim_items_of(&mut self, service: &Service) {
        let names: BTreeSet<(ItemKind, String)> = service
            .containers()
            .flat_map(ContainerSpec::files)
            .map(|(kind, mount)| (kind, mount.name.clone()))
            .collect();
        for (kind, name) in names {
            self.trim_item(kind, &name);
        }
    }

    fn trim_item(&mut self, kind: ItemKind, name: &str) {
        let Some(old) = self.store.item(kind, name) else { return };
        let newest = old.newest().number;
        let needed = self.store.item_versions_held(kind, name);
        let mut item = old.clone();
        item.versions.retain(|version| version.number == newest || needed.contains(&version.number));
        if item.versions.len() < old.versions.len() {
            self.put_item(item);
        }
    }

    fn roll_services(&mut self, kind: ItemKind, name: &str, number: u64, what: &str) -> Vec<String> {
        let mounts = |service: &&Arc<Service>| {
            let container = &service.spec.template.container;
            !service.removing && service.job.is_none() && container.mounts_item(kind, name).next().is_some()
        };
        let services: Vec<Arc<Service>> = self.store.services.values().filter(mounts).cloned().collect();
        let note = ReleaseNote { job: what.to_owned(), ..ReleaseNote::default() };
        for old in &services {
            let mut service = (**old).clone();
            service.spec = with_version(&old.spec, kind, name, number);
            service.updated = self.at;
            service.previous = left_behind(old);
            self.supersede(&mut service);
            self.begin_rollout(&mut service, RolloutState::Updating, &note, None, "");
            let message = format!("updated to template {}: {what}", service.template.0);
            self.rollout_event(&service, message.clone());
            self.finish(service, message);
        }
        services.iter().map(|service| service.spec.name.clone()).collect()
    }

    /// The runs that come after this have the new version.
    fn roll_crons(&mut self, kind: ItemKind, name: &str, number: u64) {
        let mounts =
            |cron: &&Arc<Cron>| cron.spec.job.template.container.mounts_item(kind, name).next().is_some();
        let crons: Vec<Arc<Cron>> = self.store.crons.values().filter(mounts).cloned().collect();
        for old in crons {
            let job = with_version(&old.spec.job, kind, name, number);
            let spec = Arc::new(CronSpec { job, ..(*old.spec).clone() });
            self.put_cron(Cron { spec, generation: self.generation, ..(*old).clone() });
        }
    }

    fn next_version(
        &self,
        kind: ItemKind,
        name: &str,
        newest: u64,
        version: &NewVersion,
    ) -> Result<Arc<ItemVersion>, Rejection> {
        if newest.checked_add(1) != Some(version.number) {
            let message = format!("{kind} \"{name}\" has come to version {newest} meanwhile; ask again");
            return Err(Rejection::Conflict(message));
        }
        let keys = self.keys()?;
        if keys.active == KeyId(0) {
            return Err(Rejection::Conflict("there is no data key yet; ask again".into()));
        }
        if version.value.key != keys.active {
            let message = format!("the data key is {} by now; ask again", keys.active);
            return Err(Rejection::Conflict(message));
        }
        let held = self.store.item_versions_held(kind, name);
        if held.len() >= MAX_VERSIONS {
            return Err(Rejection::Conflict(format!(
                "{kind} \"{name}\" has {MAX_VERSIONS} versions that kept releases would bring back, the most there may be; let the \
                 services that mount it keep fewer releases (--update-history)"
            )));
        }
        let NewVersion { number, value, size, names } = version.clone();
        Ok(Arc::new(ItemVersion { number, value, size, names, by: self.actor.clone(), at: self.at }))
    }

    fn room_for(&self, size: u32) -> Result<(), Rejection> {
        let versions = self.store.items.values().flat_map(|item| &item.versions);
        let all: usize = versions.map(|version| version.size as usize).sum();
        if all + size as usize <= MAX_ALL_VALUES {
            return Ok(());
        }
        let message = format!(
            "all values of secrets and configs have {all} bytes, and {MAX_ALL_VALUES} is the most; remove some"
        );
        Err(Rejection::Conflict(message))
    }

    fn item(&self, kind: ItemKind, name: &str) -> Result<Arc<Item>, Rejection> {
        let item = self.store.items.get(&(kind, name.to_owned())).cloned();
        item.ok_or_else(|| missing(&kind.to_string(), name))
    }

    pub(super) fn add_key(&mut self, id: KeyId, fingerprint: u64) -> Outcome {
        let mut keys = self.keys()?;
        let last = keys.known.last().map(|record| record.id).max(Some(keys.active)).unwrap_or_default();
        if id <= last {
            return Err(Rejection::Conflict(format!("data key {id} is not beyond {last}; ask again")));
        }
        // One that not every manager came to have before its maker was lost sealed nothing.
        let active = keys.active;
        keys.known.retain(|record| record.id <= active);
        keys.known.push(KeyRecord { id, fingerprint, made: self.at });
        self.put_keys(keys)
    }

    pub(super) fn use_key(&mut self, id: KeyId) -> Outcome {
        let mut keys = self.keys()?;
        if keys.next().is_none_or(|next| next.id != id) {
            return Err(Rejection::Conflict(format!("data key {id} is not the next one")));
        }
        let lacks = self.store.members.values().find(|member| member.key.is_none_or(|held| held < id));
        if let Some(member) = lacks {
            let name = &member.name;
            return Err(Rejection::Conflict(format!("manager \"{name}\" does not have data key {id} yet")));
        }
        keys.active = id;
        self.put_keys(keys)
    }

    pub(super) fn reseal(
        &mut self,
        kind: ItemKind,
        name: &str,
        number: u64,
        from: KeyId,
        value: &Sealed,
    ) -> Outcome {
        let mut item = (*self.item(kind, name)?).clone();
        let active = self.keys()?.active;
        let version = item.versions.iter_mut().find(|version| version.number == number);
        let version = version.filter(|version| version.value.key == from && value.key == active);
        let Some(version) = version else {
            return Err(Rejection::Conflict(format!("{kind} \"{name}\" is not sealed so any more")));
        };
        *version = Arc::new(ItemVersion { value: value.clone(), ..(**version).clone() });
        self.put_item(item);
        Ok(Answer::Done)
    }

    pub(super) fn drop_key(&mut self, id: KeyId) -> Outcome {
        let mut keys = self.keys()?;
        if id >= keys.active || self.store.sealed_with(id) > 0 {
            return Err(Rejection::Conflict(format!("data key {id} is needed")));
        }
        keys.known.retain(|record| record.id != id);
        self.put_keys(keys)
    }

    fn keys(&self) -> Result<DataKeys, Rejection> {
        let cluster = self.store.cluster.as_ref();
        let cluster = cluster.ok_or_else(|| Rejection::Conflict("there is no cluster yet".into()))?;
        Ok(cluster.keys.clone())
    }

    fn put_keys(&mut self, keys: DataKeys) -> Outcome {
        if let Some(cluster) = self.store.cluster.clone() {
            self.put_cluster(with_keys(&cluster, keys, self.generation));
        }
        Ok(Answer::Done)
    }

    fn item_event(&mut self, kind: ItemKind, name: &str, change: ObjectChange, message: impl Into<String>) {
        self.event(EventKind::Item { kind, name: name.to_owned(), change }, message);
    }
}

/// The declaration with another version of what it mounts.
fn with_version(spec: &ServiceSpec, kind: ItemKind, name: &str, number: u64) -> Arc<ServiceSpec> {
    let mut spec = spec.clone();
    for (of, mount) in spec.template.container.files_mut() {
        if of == kind && mount.name == name {
            mount.version = Some(number);
        }
    }
    Arc::new(spec)
}

fn mounts<'a>(
    containers: impl Iterator<Item = &'a ContainerSpec>,
    kind: ItemKind,
    name: &str,
) -> BTreeSet<u64> {
    containers.flat_map(|container| container.mounts_item(kind, name).collect::<Vec<_>>()).collect()
}
