//! Whether a bill is whole: looked at from its text, not from how it was made.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::PROGRAMS;
use super::bill::purl;
use super::graph::Graph;

/// Everything that is wrong with a bill.
pub fn problems(bill: &Value, graph: &Graph) -> Vec<String> {
    let components = list(&bill["components"]);
    let mut problems = Vec::new();
    let mut references = BTreeSet::new();
    for component in components {
        let (name, reference) = (text(component, "name"), text(component, "bom-ref"));
        if !references.insert(reference) {
            problems.push(format!("{reference} is listed twice"));
        }
        if text(component, "version").is_empty() {
            problems.push(format!("{name} has no version"));
        }
        if list(&component["licenses"]).iter().all(|licence| text(licence, "expression").is_empty()) {
            problems
                .push(format!("{name} has no licence: its manifest must say one, or deny.toml clarify it"));
        }
    }
    let needs = needs(bill);
    for (reference, needed) in &needs {
        let unknown = needed.iter().filter(|needed| !references.contains(*needed));
        problems
            .extend(unknown.map(|needed| format!("{reference} depends on {needed}, which is not listed")));
    }
    for (program, package) in PROGRAMS {
        let is_it = |component: &&Value| {
            text(component, "name") == program && text(component, "type") == "application"
        };
        let (Some(component), Ok(root)) = (components.iter().find(is_it), graph.own(package)) else {
            problems.push(format!("{program} is not listed"));
            continue;
        };
        let reached = reach(text(component, "bom-ref"), &needs);
        let missing = graph.involved(root).into_iter().map(|id| purl(&graph.packages[id]));
        let missing = missing.filter(|reference| !reached.contains(reference.as_str()));
        problems.extend(missing.map(|reference| format!("{program} lacks {reference}")));
    }
    problems
}

fn needs(bill: &Value) -> BTreeMap<&str, Vec<&str>> {
    let entry =
        |entry| (text(entry, "ref"), list(&entry["dependsOn"]).iter().filter_map(Value::as_str).collect());
    list(&bill["dependencies"]).iter().map(entry).collect()
}

fn reach<'a>(from: &'a str, needs: &BTreeMap<&'a str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let (mut open, mut seen) = (vec![from], BTreeSet::new());
    while let Some(reference) = open.pop() {
        if seen.insert(reference) {
            open.extend(needs.get(reference).into_iter().flatten());
        }
    }
    seen
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

    /// The three programs, each of which links `lib`, which needs `tool` to be built and has a test's `helper`.
    fn graph() -> Graph {
        let package = |name: &str, source: Option<&str>| json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT", "source": source, "targets": [] });
        let needs = |name: &str, needed: &[(&str, Option<&str>)]| {
            let one =
                |(pkg, kind): &(&str, Option<&str>)| json!({ "pkg": pkg, "dep_kinds": [{ "kind": kind }] });
            json!({ "id": name, "deps": needed.iter().map(one).collect::<Vec<_>>() })
        };
        let own = PROGRAMS.map(|(_, name)| package(name, None));
        let others = ["lib", "tool", "helper"].map(|name| package(name, Some(SOURCE)));
        let mut nodes = PROGRAMS.map(|(_, name)| needs(name, &[("lib", None)])).to_vec();
        nodes.push(needs("lib", &[("tool", Some("build")), ("helper", Some("dev"))]));
        let packages: Vec<Value> = own.into_iter().chain(others).collect();
        let metadata = json!({ "packages": packages, "resolve": { "nodes": nodes } });
        Graph::read(&metadata, "[[package]]\nname = \"lib\"\nversion = \"1.0.0\"\nchecksum = \"ab\"\n")
            .expect("a graph")
    }

    fn bill() -> Value {
        super::super::bill::of(&graph()).expect("a bill")
    }

    fn position(bill: &Value, list: &str, key: &str, value: &str) -> usize {
        bill[list]
            .as_array()
            .and_then(|all| all.iter().position(|one| one[key] == value))
            .expect("it is listed")
    }

    #[test]
    fn whole_bill_has_no_problem_and_tells_what_is_shipped() {
        let bill = bill();
        assert_eq!(problems(&bill, &graph()), [""; 0]);
        let scope = |name| bill["components"][position(&bill, "components", "name", name)]["scope"].clone();
        assert_eq!(
            (scope("orchctl"), scope("lib"), scope("tool")),
            ("required".into(), "required".into(), "excluded".into())
        );
        let lib = &bill["components"][position(&bill, "components", "name", "lib")];
        assert_eq!(lib["hashes"][0]["content"], "ab");
        assert!(!bill.to_string().contains("helper"));
    }

    #[test]
    fn whatever_is_taken_from_a_bill_is_missed() {
        let cases: [(&str, &str); 4] = [
            ("component", "orchctl is not listed"),
            ("version", "lib has no version"),
            ("licence", "lib has no licence"),
            ("edge", "orchctl lacks pkg:cargo/lib@1.0.0"),
        ];
        for (taken, said) in cases {
            let mut bill = bill();
            let (program, lib) = (
                position(&bill, "components", "name", "orchctl"),
                position(&bill, "components", "name", "lib"),
            );
            match taken {
                "component" => drop(bill["components"].as_array_mut().expect("a list").remove(program)),
                "version" => bill["components"][lib]["version"] = "".into(),
                "licence" => bill["components"][lib]["licenses"] = json!([]),
                _ => {
                    let edge = position(&bill, "dependencies", "ref", "pkg:cargo/cli@1.0.0");
                    bill["dependencies"][edge]["dependsOn"] = json!([]);
                }
            }
            let problems = problems(&bill, &graph());
            assert!(problems.iter().any(|problem| problem.contains(said)), "{taken}: {problems:?}");
        }
    }
}
