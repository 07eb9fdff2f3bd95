//! Secrets and configs: named values in versions, mounted as files into containers. Both are items; what a secret's value is
//! nobody is told but the nodes that run what mounts it, a config's value is shown to whoever may read.
//!
//! A service names an item; the leader writes the version beside it. So a template's contents never change: a new version of an
//! item is a release of the services that mount it, and a way back brings the old version back.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    container::ContainerSpec,
    id::Generation,
    identity::Identity,
    sealed::{Clear, Sealed},
    service::{Service, ServiceSpec},
    time::ClusterTime,
};

/// Bytes of one value, as Docker has it: it lies in one entry of the log.
pub const MAX_VALUE: usize = 500 << 10;
/// Items of a cluster, both kinds together.
pub const MAX_ITEMS: usize = 1_024;
/// Versions of one item that may be held at once: the newest, and those that a kept release would bring back.
pub const MAX_VERSIONS: usize = 64;
/// Bytes of all versions of all items: they are in every snapshot.
pub const MAX_ALL_VALUES: usize = 64 << 20;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemKind {
    /// Nobody reads it back.
    Secret,
    /// Shown to whoever may read.
    Config,
}

impl fmt::Display for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Secret => "secret",
            Self::Config => "config",
        })
    }
}

/// What a user declares, beside the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemSpec {
    /// A secret or a config.
    pub kind: ItemKind,
    /// Unique among those of its kind.
    pub name: String,
    /// Free labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The value has [placeholders](crate::template) that are filled in for each task; only a config can have some.
    #[serde(default)]
    pub template: bool,
}

/// One value that an item has or had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemVersion {
    /// From 1.
    pub number: u64,
    /// The value.
    pub value: Sealed,
    /// Bytes of the value.
    pub size: u32,
    /// The secrets that a template names, so that whoever mounts it must mount them too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Who brought it.
    pub by: Identity,
    /// When.
    pub at: ClusterTime,
}

/// An item as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The declaration.
    pub spec: ItemSpec,
    /// Index of the last change.
    pub generation: Generation,
    /// The newest version and those that may be needed again, oldest first; never empty.
    pub versions: Vec<Arc<ItemVersion>>,
    /// When it was created.
    pub created: ClusterTime,
    /// When it got its newest version.
    pub updated: ClusterTime,
}

impl Item {
    /// The newest version.
    pub fn newest(&self) -> &ItemVersion {
        self.versions.last().expect("an item has a version")
    }

    /// A kept version.
    pub fn version(&self, number: u64) -> Option<&ItemVersion> {
        self.versions.iter().find(|version| version.number == number).map(|version| &**version)
    }
}

/// A version of a value as the leader puts it into the log; who brought it and when says the entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewVersion {
    /// The one after the newest; rejected otherwise.
    pub number: u64,
    /// The value.
    pub value: Sealed,
    /// Bytes of the value.
    pub size: u32,
    /// The secrets that a template names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// The permissions of a file, written in octal: `"0440"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileMode(pub u32);

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Debug for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.map(Self)
            .ok_or_else(|| format!("\"{text}\" is no mode of a file; write it in octal, such as 0440"))
    }
}

impl Serialize for FileMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u32(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            u32::deserialize(deserializer).map(Self)
        }
    }
}

/// An item as a file in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileMount {
    /// The item's name.
    pub name: String,
    /// Which version; written by the leader when a service is declared without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Where: an absolute path, or one below the directory of its kind; see [`FileMount::path`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The owner's number in the container; `None` = the user that the node's agent runs as, root as a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The group's number in the container; `None` as for the owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Who may read it; `None` = 0444, everybody in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<FileMode>,
}

impl FileMount {
    /// Its path in the container.
    pub fn path(&self, kind: ItemKind) -> String {
        let directory = match kind {
            ItemKind::Secret => "/run/secrets/",
            ItemKind::Config => "/",
        };
        match &self.target {
            Some(path) if path.starts_with('/') => path.clone(),
            Some(path) => format!("{directory}{path}"),
            None => format!("{directory}{}", self.name),
        }
    }

    /// Its permissions.
    pub fn mode(&self) -> FileMode {
        self.mode.unwrap_or(FileMode(0o444))
    }
}

impl ContainerSpec {
    /// What it mounts of items: secrets, then configs, in the order in which they are declared. The place in it names the file.
    pub fn files(&self) -> impl Iterator<Item = (ItemKind, &FileMount)> {
        let secrets = self.secrets.iter().map(|mount| (ItemKind::Secret, mount));
        secrets.chain(self.configs.iter().map(|mount| (ItemKind::Config, mount)))
    }

    /// The same, to be changed.
    pub fn files_mut(&mut self) -> impl Iterator<Item = (ItemKind, &mut FileMount)> {
        let secrets = self.secrets.iter_mut().map(|mount| (ItemKind::Secret, mount));
        secrets.chain(self.configs.iter_mut().map(|mount| (ItemKind::Config, mount)))
    }

    /// Whether it mounts items.
    pub fn has_files(&self) -> bool {
        !self.secrets.is_empty() || !self.configs.is_empty()
    }

    /// Which version of an item it mounts.
    pub fn mounts_item(&self, kind: ItemKind, name: &str) -> impl Iterator<Item = u64> {
        let of_it = move |(of, mount): &(ItemKind, &FileMount)| *of == kind && mount.name == name;
        self.files().filter(of_it).filter_map(|(_, mount)| mount.version)
    }
}

impl Service {
    /// Every container that its tasks run, or that a way back would bring.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerSpec> {
        let specs = self.releases.iter().map(|release| &release.spec).chain(&self.previous);
        let specs = specs.chain([&self.spec]).map(|spec: &Arc<ServiceSpec>| &spec.template.container);
        specs.chain(self.templates.values().map(|template| &template.container))
    }
}

/// A file as a node gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFile {
    /// Its place in [`ContainerSpec::files`].
    pub place: u32,
    /// The value, with a template's placeholders filled in.
    pub value: Clear,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_has_dockers_path_and_mode_unless_it_says_otherwise() {
        let mount = |target: Option<&str>| FileMount {
            name: "db".into(),
            target: target.map(str::to_owned),
            ..FileMount::default()
        };
        for (kind, target, path) in [
            (ItemKind::Secret, None, "/run/secrets/db"),
            (ItemKind::Secret, Some("app/password"), "/run/secrets/app/password"),
            (ItemKind::Secret, Some("/etc/db"), "/etc/db"),
            (ItemKind::Config, None, "/db"),
        ] {
            assert_eq!(mount(target).path(kind), path);
        }
        assert_eq!(mount(None).mode().to_string(), "0444");
        assert_eq!("0400".parse(), Ok(FileMode(0o400)));
        assert!("999".parse::<FileMode>().is_err() && "7777".parse::<FileMode>().is_err());
    }
}
