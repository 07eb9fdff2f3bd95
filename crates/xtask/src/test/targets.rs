//! Which integration tests each package has, from cargo's own list: a new test file joins its lane by existing.

use anyhow::{Context, Result};
use serde_json::Value;
use tests::command::{cargo, run};

/// Names of test targets with their packages.
#[derive(Debug, Default)]
pub struct Targets(Vec<(String, String)>);

impl Targets {
    /// Asks cargo for the workspace's packages.
    ///
    /// # Errors
    /// A manifest does not parse.
    pub fn read() -> Result<Targets> {
        let metadata = run(cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
        let metadata: Value = serde_json::from_str(&metadata)?;
        let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
        let mut found = Vec::new();
        for package in packages {
            let name = package["name"].as_str().context("a package without a name")?;
            for target in package["targets"].as_array().into_iter().flatten() {
                let is_test =
                    target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"));
                if let Some(target) = target["name"].as_str().filter(|_| is_test) {
                    found.push((name.to_owned(), target.to_owned()));
                }
            }
        }
        Ok(Targets(found))
    }

    /// The test targets that `wanted` picks by package and name, as arguments for `cargo test --workspace`.
    pub fn of(&self, wanted: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let picked = self.0.iter().filter(|(package, target)| wanted(package, target));
        let mut names: Vec<&str> = picked.map(|(_, target)| target.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| format!("--test={name}")).collect()
    }
}
