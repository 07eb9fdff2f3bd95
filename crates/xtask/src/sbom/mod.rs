//! `sbom`: the bill of materials of a release, as CycloneDX JSON: what each program is made of, in which version and under
//! which licence, so that whoever runs it can ask an advisory database without us.
//!
//! It is made of what cargo resolves from the lock file, for the targets that are released, and of nothing else: the same
//! sources give the same bytes, whatever the day and the machine. Read `bill` first, then `graph`.

mod bill;
mod check;
mod graph;

use std::path::PathBuf;
use std::process::ExitCode;

use ::tests::binaries::workspace;
use ::tests::command::{cargo, run as finish};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

/// What is released: the program and its package.
const PROGRAMS: [(&str, &str); 3] =
    [("orch-manager", "orchestrator"), ("orch-agent", "agent"), ("orchctl", "cli")];

/// Those of deny.toml.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// Options of `sbom`.
#[derive(Args, Debug)]
pub struct Options {
    /// Where it goes; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "target/orch.cdx.json")]
    output: PathBuf,
}

/// Writes the bill of materials.
///
/// # Errors
/// A program would be in it without all it is made of, or something has no version or licence; then nothing is written.
pub fn run(options: &Options) -> Result<ExitCode> {
    let bill = bill()?;
    let text = format!("{}\n", serde_json::to_string_pretty(&bill)?);
    if options.output.as_os_str() == "-" {
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let path = workspace().join(&options.output);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    let components = bill["components"].as_array().map_or(0, Vec::len);
    println!("{}: {} programs, {components} components", path.display(), PROGRAMS.len());
    Ok(ExitCode::SUCCESS)
}

/// The bill, checked.
fn bill() -> Result<Value> {
    let metadata = metadata()?;
    let lock = std::fs::read_to_string(workspace().join("Cargo.lock")).context("Cargo.lock")?;
    let graph = graph::Graph::read(&metadata, &lock)?;
    let bill = bill::of(&graph)?;
    let problems = check::problems(&bill, &graph);
    if !problems.is_empty() {
        bail!("the bill of materials is not whole:\n  {}", problems.join("\n  "));
    }
    Ok(bill)
}

fn metadata() -> Result<Value> {
    let mut command = cargo();
    command.args(["metadata", "--format-version=1", "--locked"]);
    command.args(TARGETS.map(|target| format!("--filter-platform={target}")));
    serde_json::from_str(&finish(&mut command)?).context("cargo metadata is no JSON")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `name version` of what cargo builds into a program, by cargo's own account.
    fn tree(package: &str, target: &str) -> BTreeSet<String> {
        let mut command = cargo();
        command.args(["tree", "--package", package, "--edges=normal,build", "--prefix=none", "--locked"]);
        command.args(["--format={p}", "--target", target]);
        let tree = finish(&mut command).expect("cargo tree");
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            Some(format!("{} {}", words.next()?, words.next()?.trim_start_matches('v')))
        };
        tree.lines().filter_map(line).collect()
    }

    fn text<'a>(value: &'a Value, key: &str) -> &'a str {
        value[key].as_str().unwrap_or_default()
    }

    /// `name version` of what the bill lists below a program; the program stands for its package.
    fn listed(bill: &Value, program: &str, package: &str) -> BTreeSet<String> {
        let components = bill["components"].as_array().expect("components");
        let find = |reference: &str| components.iter().find(|c| text(c, "bom-ref") == reference);
        let root =
            components.iter().find(|component| text(component, "name") == program).expect("the program");
        let mut open = vec![text(root, "bom-ref")];
        let mut seen = BTreeSet::new();
        while let Some(reference) = open.pop() {
            if !seen.insert(reference) {
                continue;
            }
            let entries = bill["dependencies"].as_array().expect("dependencies");
            let entry = entries.iter().find(|entry| text(entry, "ref") == reference).expect("an entry");
            open.extend(entry["dependsOn"].as_array().expect("a list").iter().filter_map(Value::as_str));
        }
        let named = |reference: &&str| {
            let component = find(reference).expect("listed");
            let name = text(component, "name");
            format!("{} {}", if name == program { package } else { name }, text(component, "version"))
        };
        seen.iter().map(named).collect()
    }

    #[test]
    fn each_program_lists_everything_that_cargo_builds_into_it() {
        let bill = bill().expect("a bill");
        for (program, package) in PROGRAMS {
            let listed = listed(&bill, program, package);
            for target in TARGETS {
                let built = tree(package, target);
                assert!(built.len() > 50, "{program}: cargo tree says {built:?}");
                let missing: Vec<&String> = built.difference(&listed).collect();
                assert!(missing.is_empty(), "{program} for {target} lacks {missing:?}");
            }
        }
    }

    #[test]
    fn tests_are_in_no_bill_and_tools_of_the_build_are_told_from_what_is_shipped() {
        let bill = bill().expect("a bill");
        let components = bill["components"].as_array().expect("components");
        let scope = |name: &str| {
            let found = components.iter().find(|component| text(component, "name") == name);
            found.map(|component| text(component, "scope"))
        };
        assert_eq!(["proptest", "stateright", "sim", "xtask", "mimic"].map(scope), [None; 5]);
        assert_eq!(["prost-build", "serde_derive"].map(scope), [Some("excluded"); 2]);
        assert_eq!(
            ["orch-manager", "orch-agent", "orchctl", "rustls", "sled"].map(scope),
            [Some("required"); 5]
        );
    }

    #[test]
    fn same_sources_give_the_same_bill() {
        assert_eq!(bill().expect("a bill"), bill().expect("a bill"));
    }
}
