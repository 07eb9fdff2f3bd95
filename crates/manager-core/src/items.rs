//! Secrets and configs: sealed before they enter the log, pinned in the declarations that mount them, shown without their values.

use std::sync::Arc;

use model::{
    command::Command,
    item::{Item, ItemKind, ItemSpec, NewVersion},
    request::{ApiError, ErrorCode, ItemVersionView, ItemView, Response},
    sealed::{Clear, DataKeys, KeyId},
    service::ServiceSpec,
    template,
    validate::{Problem, validate_template},
};
use seal::{Of, Place, SealError};

use crate::{Manager, admit::not_found};

impl Manager {
    pub(crate) fn create_item(&mut self, spec: ItemSpec, value: &Clear) -> Result<Command, ApiError> {
        self.same_versions(&format!("a {}", spec.kind))?;
        let version = self.sealed_version(&spec, 1, value)?;
        Ok(Command::CreateItem { spec, version })
    }

    pub(crate) fn update_item(
        &mut self,
        kind: ItemKind,
        name: String,
        value: &Clear,
    ) -> Result<Command, ApiError> {
        self.same_versions(&format!("a {kind}"))?;
        let item = self.store.item(kind, &name).ok_or_else(|| not_found(&kind.to_string(), &name))?;
        let spec = item.spec.clone();
        if spec.template {
            let problems = validate_template(value);
            if !problems.is_empty() {
                return Err(problems.into());
            }
        }
        let newest = item.newest();
        let same = self.unseal(item, newest.number).is_ok_and(|present| present == *value);
        let version = if same {
            // Applied it changes nothing, and nobody is told so on an old look.
            let (value, names) = (newest.value.clone(), newest.names.clone());
            NewVersion { number: newest.number, value, size: newest.size, names }
        } else {
            let number = newest.number + 1;
            self.sealed_version(&spec, number, value)?
        };
        Ok(Command::UpdateItem { kind, name, version })
    }

    pub(crate) fn remove_item(&self, kind: ItemKind, name: String) -> Result<Command, ApiError> {
        self.store.item(kind, &name).ok_or_else(|| not_found(&kind.to_string(), &name))?;
        Ok(Command::RemoveItem { kind, name })
    }

    fn sealed_version(
        &mut self,
        spec: &ItemSpec,
        number: u64,
        value: &Clear,
    ) -> Result<NewVersion, ApiError> {
        let active = self.active_key()?;
        let of = Of::Item { kind: spec.kind, name: &spec.name, version: number };
        let place = Place { cluster: self.config.cluster, of };
        let nonce = self.keys.nonce();
        let sealed = self.keys.ring().seal(active, nonce, &place, value.reveal());
        let sealed = sealed.map_err(|error| ApiError::new(ErrorCode::Unavailable, error.to_string()))?;
        let text = std::str::from_utf8(value.reveal()).ok().filter(|_| spec.template);
        let names = text.and_then(|text| template::parse(text).ok());
        let names = names.map(|pieces| template::secrets(&pieces)).unwrap_or_default();
        let size = u32::try_from(value.len()).unwrap_or(u32::MAX);
        Ok(NewVersion { number, value: sealed, size, names })
    }

    /// What is sealed now is sealed with this one.
    pub(crate) fn active_key(&self) -> Result<KeyId, ApiError> {
        let active = self.store.data_keys().map_or(KeyId(0), |keys| keys.active);
        if active == KeyId(0) {
            let waits = self.store.data_keys().and_then(|keys| self.keys_wait(keys));
            let waits = waits.unwrap_or_else(|| "it is being made; retry in a moment".into());
            let message = format!("the managers have no data key to seal it with yet: {waits}");
            return Err(ApiError::new(ErrorCode::Unavailable, message));
        }
        Ok(active)
    }

    /// A version's value.
    pub(crate) fn unseal(&self, item: &Item, number: u64) -> Result<Clear, SealError> {
        let (kind, name) = (item.spec.kind, &item.spec.name);
        let place = Place { cluster: self.config.cluster, of: Of::Item { kind, name, version: number } };
        let version = item.version(number).ok_or(SealError::NoKey(KeyId(0)))?;
        self.keys.ring().open(&place, &version.value)
    }

    /// The declaration with the version beside every secret and config that it mounts: the newest where it does not say one.
    pub(crate) fn pinned(&self, spec: Arc<ServiceSpec>) -> Result<Arc<ServiceSpec>, ApiError> {
        if !spec.template.container.has_files() {
            return Ok(spec);
        }
        self.same_versions("what mounts a secret or config")?;
        let mut spec = (*spec).clone();
        let mut problems = Vec::new();
        let container = spec.template.container.clone();
        for (kind, mount) in spec.template.container.files_mut() {
            let path = format!("template.container.{kind}s.{}", mount.name);
            let Some(item) = self.store.item(kind, &mount.name) else {
                let message = format!("there is no {kind} of this name; `orchctl {kind} create` makes one");
                problems.push(Problem { path, message });
                continue;
            };
            let number = *mount.version.get_or_insert(item.newest().number);
            let Some(version) = item.version(number) else {
                let message = format!("it has no version {number}; leave the version out for the newest");
                problems.push(Problem { path, message });
                continue;
            };
            for secret in &version.names {
                if container.secrets.iter().all(|mounted| mounted.name != *secret) {
                    let message =
                        format!("it has the value of secret \"{secret}\" in it: mount that secret too");
                    problems.push(Problem { path: path.clone(), message });
                }
            }
        }
        if problems.is_empty() { Ok(Arc::new(spec)) } else { Err(problems.into()) }
    }

    pub(crate) fn item_views(&self, kind: ItemKind) -> Response {
        let items = self.store.items().filter(|item| item.spec.kind == kind);
        Response::Items(items.map(|item| self.item_view(item)).collect())
    }

    pub(crate) fn item_with_value(&self, kind: ItemKind, name: &str) -> Result<Response, ApiError> {
        let item = self.store.item(kind, name).ok_or_else(|| not_found(&kind.to_string(), name))?;
        let mut view = self.item_view(item);
        // Nobody reads a secret back.
        view.value = match kind {
            ItemKind::Config => self.unseal(item, item.newest().number).ok(),
            ItemKind::Secret => None,
        };
        Ok(Response::Item(Box::new(view)))
    }

    fn item_view(&self, item: &Item) -> ItemView {
        let (kind, name) = (item.spec.kind, item.spec.name.as_str());
        let versions = item.versions.iter().map(|version| {
            let mounts = |spec: &ServiceSpec| {
                spec.template.container.mounts_item(kind, name).any(|number| number == version.number)
            };
            let services = self.store.services().filter(|service| mounts(&service.spec));
            let crons = self.store.crons().filter(|cron| mounts(&cron.spec.job));
            let kept = self.store.services().filter(|service| {
                let mut containers = service.containers();
                let kept = containers.any(|container| {
                    container.mounts_item(kind, name).any(|number| number == version.number)
                });
                kept && !mounts(&service.spec)
            });
            ItemVersionView {
                number: version.number,
                size: version.size,
                by: version.by.clone(),
                at: version.at,
                mounted_by: services
                    .map(|service| service.spec.name.clone())
                    .chain(crons.map(|cron| cron.spec.name.clone()))
                    .collect(),
                kept_for: kept.map(|service| service.spec.name.clone()).collect(),
            }
        });
        ItemView {
            spec: item.spec.clone(),
            versions: versions.collect(),
            created: item.created,
            updated: item.updated,
            value: None,
        }
    }

    /// What a data key waits for, for the status.
    pub(crate) fn data_keys_wait(&self) -> Option<String> {
        self.store
            .data_keys()
            .filter(|keys: &&DataKeys| !keys.is_empty())
            .and_then(|keys| self.keys_wait(keys))
    }
}
