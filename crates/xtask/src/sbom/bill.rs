//! The bill itself: CycloneDX 1.5. Each program is a component that depends on what its package needs; what takes part in the
//! build only, such as macros and build scripts, is there with the scope `excluded`.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};

use super::PROGRAMS;
use super::graph::{Graph, Package};

/// Puts it together.
///
/// # Errors
/// A program has no package.
pub fn of(graph: &Graph) -> Result<Value> {
    let roots = PROGRAMS.into_iter().map(|(program, package)| Ok((program, graph.own(package)?)));
    let roots = roots.collect::<Result<Vec<_>>>()?;
    let shipped: BTreeSet<&str> = roots.iter().flat_map(|(_, root)| graph.shipped(root)).collect();
    let involved: BTreeSet<&str> = roots.iter().flat_map(|(_, root)| graph.involved(root)).collect();
    let program = |id: &str| roots.iter().find(|(_, root)| *root == id).map(|(program, _)| *program);
    let component = |id: &&str| component(&graph.packages[*id], program(id), shipped.contains(id));
    let dependency = |id: &&str| {
        let package = &graph.packages[*id];
        let needs: BTreeSet<String> = package.needs().map(|id| purl(&graph.packages[id])).collect();
        json!({ "ref": purl(package), "dependsOn": needs })
    };
    let version = &graph.packages[roots[0].1].version;
    let mut dependencies: Vec<Value> = involved.iter().map(dependency).collect();
    let programs: Vec<String> = roots.iter().map(|(_, root)| purl(&graph.packages[*root])).collect();
    dependencies.push(json!({ "ref": "orch", "dependsOn": programs }));
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "orch",
                "name": "orch",
                "version": version,
                "licenses": [{ "expression": graph.packages[roots[0].1].licence }],
            },
        },
        "components": involved.iter().map(component).collect::<Vec<_>>(),
        "dependencies": dependencies,
    }))
}

fn component(package: &Package, program: Option<&str>, shipped: bool) -> Value {
    let mut component = json!({
        "type": if program.is_some() { "application" } else { "library" },
        "bom-ref": purl(package),
        "name": program.unwrap_or(&package.name),
        "version": package.version,
        "scope": if shipped { "required" } else { "excluded" },
        "licenses": [{ "expression": package.licence }],
    });
    if package.source.is_some() {
        component["purl"] = purl(package).into();
    }
    if let Some(checksum) = &package.checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    component
}

/// How advisory databases name a package; our own have the same form, and are in none.
pub fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version.replace('+', "%2B"))
}
