//! What cargo resolved: the packages, and who needs whom to be built.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

/// The packages by cargo's ids.
pub struct Graph {
    pub packages: BTreeMap<String, Package>,
}

/// One package.
pub struct Package {
    pub name: String,
    pub version: String,
    /// An SPDX expression; empty when its manifest says none.
    pub licence: String,
    /// Where it comes from; none for our own.
    pub source: Option<String>,
    /// SHA-256 of the archive, as the lock file has it.
    pub checksum: Option<String>,
    pub repository: Option<String>,
    /// It runs in the compiler only.
    pub is_macro: bool,
    /// Needed by the program, by id.
    pub linked: BTreeSet<String>,
    /// Needed by the build of it, by id.
    pub built_with: BTreeSet<String>,
}

impl Graph {
    /// Reads `cargo metadata` and the lock file.
    ///
    /// # Errors
    /// They have another form than known here.
    pub fn read(metadata: &Value, lock: &str) -> Result<Self> {
        let checksums = checksums(lock)?;
        let mut packages = BTreeMap::new();
        for package in list(metadata, "packages")? {
            let mut read = Package::read(package)?;
            read.checksum = checksums.get(&(read.name.clone(), read.version.clone())).cloned();
            packages.insert(text(package, "id")?, read);
        }
        for node in list(&metadata["resolve"], "nodes")? {
            let id = text(node, "id")?;
            let package = packages.get_mut(&id).with_context(|| format!("{id} is no package"))?;
            for dependency in list(node, "deps")? {
                let needed = text(dependency, "pkg")?;
                for kind in list(dependency, "dep_kinds")? {
                    match kind["kind"].as_str() {
                        None => package.linked.insert(needed.clone()),
                        Some("build") => package.built_with.insert(needed.clone()),
                        Some(_) => false,
                    };
                }
            }
        }
        Ok(Self { packages })
    }

    /// The id of one of our packages.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn own(&self, name: &str) -> Result<&str> {
        let own = |package: &Package| package.source.is_none() && package.name == name;
        let found = self.packages.iter().find(|(_, package)| own(package));
        found.map(|(id, _)| id.as_str()).with_context(|| format!("the workspace has no package {name}"))
    }

    /// Everything that a package's program holds, itself included: macros only made code of it.
    pub fn shipped(&self, root: &str) -> BTreeSet<&str> {
        self.reach(root, |package| {
            let linked = package.linked.iter().filter(|id| !self.packages[*id].is_macro);
            linked.map(String::as_str).collect()
        })
    }

    /// Everything that takes part in its build.
    pub fn involved(&self, root: &str) -> BTreeSet<&str> {
        self.reach(root, |package| package.needs().collect())
    }

    fn reach<'a>(&'a self, root: &str, next: impl Fn(&'a Package) -> Vec<&'a str>) -> BTreeSet<&'a str> {
        let mut open: Vec<&str> =
            self.packages.get_key_value(root).map(|(id, _)| id.as_str()).into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(next(&self.packages[id]));
            }
        }
        seen
    }
}

impl Package {
    fn read(value: &Value) -> Result<Self> {
        let kinds = || value["targets"].as_array().into_iter().flatten().filter_map(|t| t["kind"].as_array());
        Ok(Self {
            name: text(value, "name")?,
            version: text(value, "version")?,
            licence: spdx(value["license"].as_str().unwrap_or_default()),
            source: value["source"].as_str().map(str::to_owned),
            checksum: None,
            repository: value["repository"].as_str().map(str::to_owned),
            is_macro: kinds().flatten().any(|kind| kind == "proc-macro"),
            linked: BTreeSet::new(),
            built_with: BTreeSet::new(),
        })
    }

    /// What must be there to build it, by id.
    pub fn needs(&self) -> impl Iterator<Item = &str> {
        self.linked.union(&self.built_with).map(String::as_str)
    }
}

/// Old manifests write a choice with a slash, which SPDX does not know.
fn spdx(written: &str) -> String {
    let words: Vec<&str> = written.split('/').map(str::trim).collect();
    words.join(" OR ")
}

fn checksums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = toml::from_str(lock).context("Cargo.lock")?;
    let packages =
        lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock has no packages")?;
    let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    let one =
        |package| Some(((text(package, "name")?, text(package, "version")?), text(package, "checksum")?));
    Ok(packages.iter().filter_map(one).collect())
}

fn text(value: &Value, key: &str) -> Result<String> {
    value[key].as_str().map(str::to_owned).with_context(|| format!("cargo metadata: no {key}"))
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key].as_array().with_context(|| format!("cargo metadata: no {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choice_with_a_slash_becomes_an_expression() {
        assert_eq!(spdx("MIT/Apache-2.0"), "MIT OR Apache-2.0");
        assert_eq!(spdx("Apache-2.0 / MIT"), "Apache-2.0 OR MIT");
        assert_eq!(spdx("(MIT OR Apache-2.0) AND Unicode-3.0"), "(MIT OR Apache-2.0) AND Unicode-3.0");
    }
}
