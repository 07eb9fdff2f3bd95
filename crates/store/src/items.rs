//! Reading secrets and configs: which there are, and who needs which version.

use std::collections::BTreeSet;

use model::{
    item::{Item, ItemKind},
    login::LoginMethod,
    sealed::{DataKeys, KeyId},
    service::Service,
};

use crate::Store;

impl Store {
    /// One secret or config by its whole name.
    pub fn item(&self, kind: ItemKind, name: &str) -> Option<&Item> {
        self.items.get(&(kind, name.to_owned())).map(|item| &**item)
    }

    /// All secrets, then all configs, by name.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.values().map(|item| &**item)
    }

    /// What they are sealed with.
    pub fn data_keys(&self) -> Option<&DataKeys> {
        self.cluster().map(|cluster| &cluster.keys)
    }

    /// How many values are sealed with this key.
    pub fn sealed_with(&self, key: KeyId) -> usize {
        self.sealings().filter(|with| *with == Some(key)).count()
    }

    /// Of each value, with which key it is sealed; `None` in clear.
    pub fn sealings(&self) -> impl Iterator<Item = Option<KeyId>> {
        let versions = self.items().flat_map(|item| &item.versions);
        versions.map(|version| Some(version.value.key)).chain(self.other_sealings())
    }

    /// Whether anything lies in the state in clear, as in those of versions before 0.2.
    pub fn is_in_clear(&self) -> bool {
        self.other_sealings().any(|with| with.is_none())
    }

    /// Of what is no secret and no config.
    fn other_sealings(&self) -> impl Iterator<Item = Option<KeyId>> {
        let logins = self.registries().iter().filter_map(|registry| registry.spec.login_key());
        let authority =
            self.cluster().map(|cluster| cluster.authority.sealed.as_ref().map(|sealed| sealed.key));
        let accounts = self.login_methods().iter().filter_map(LoginMethod::key).map(Some);
        logins.chain(accounts).chain(authority)
    }

    /// Who mounts an item or would after a way back, each in words. Linear in the number of kept releases.
    pub fn item_users(&self, kind: ItemKind, name: &str) -> impl Iterator<Item = String> {
        let services = self.services().filter_map(move |service| user(service, kind, name));
        let crons = self
            .crons()
            .filter(move |cron| cron.spec.job.template.container.mounts_item(kind, name).next().is_some());
        services.chain(crons.map(|cron| format!("cron \"{}\" mounts it", cron.spec.name)))
    }

    /// The versions of an item that something mounts, or would after a way back. Linear in the number of kept releases.
    pub fn item_versions_held(&self, kind: ItemKind, name: &str) -> BTreeSet<u64> {
        let services = self.services().flat_map(Service::containers);
        let crons = self.crons().map(|cron| &cron.spec.job.template.container);
        services.chain(crons).flat_map(|container| container.mounts_item(kind, name)).collect()
    }
}

fn user(service: &Service, kind: ItemKind, name: &str) -> Option<String> {
    let of = &service.spec.name;
    if service.spec.template.container.mounts_item(kind, name).next().is_some() {
        return Some(format!("service \"{of}\" mounts it"));
    }
    let mut releases = service.releases.iter();
    let kept =
        releases.find(|release| release.spec.template.container.mounts_item(kind, name).next().is_some());
    match kept {
        Some(release) => Some(format!(
            "service \"{of}\" keeps release {} that mounts it, so that it can be brought back; it is forgotten with the service, or \
             as further releases come",
            release.number.0
        )),
        None => {
            let mut containers = service.containers();
            let any = containers.any(|container| container.mounts_item(kind, name).next().is_some());
            any.then(|| format!("a task or a way back of service \"{of}\" mounts it"))
        }
    }
}
