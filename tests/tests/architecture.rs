//! Who may import whom, and what the pure crates may not call. The picture is in the README; a new arrow is a commit
//! of its own that changes both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::binaries::workspace;
use tests::command::run;

/// Every allowed arrow between packages of the workspace. `xtask` and `tests` may import any.
const ARROWS: [(&str, &[&str]); 22] = [
    ("planted", &[]),
    ("model", &[]),
    ("store", &["model", "planted"]),
    ("control", &["model", "planted", "store"]),
    ("consensus", &["model", "planted"]),
    ("mesh", &["model", "planted"]),
    ("proto", &["model"]),
    ("rpc", &["model", "proto"]),
    ("pki", &["model"]),
    ("seal", &["model"]),
    ("idtoken", &[]),
    ("wal", &["planted"]),
    ("telemetry", &[]),
    ("ledger", &["model", "proto"]),
    ("manager-core", &["model", "planted", "seal", "store", "control", "consensus", "proto"]),
    ("agent-core", &["model", "planted", "mesh"]),
    (
        "sim",
        &[
            "model",
            "planted",
            "consensus",
            "seal",
            "store",
            "control",
            "proto",
            "wal",
            "manager-core",
            "agent-core",
            "mesh",
        ],
    ),
    (
        "orchestrator",
        &[
            "model",
            "planted",
            "proto",
            "rpc",
            "wal",
            "ledger",
            "pki",
            "seal",
            "telemetry",
            "manager-core",
            "idtoken",
        ],
    ),
    ("agent", &["model", "planted", "proto", "rpc", "ledger", "pki", "telemetry", "agent-core", "mesh"]),
    ("cli", &["model", "pki", "proto", "rpc"]),
    ("mimic", &[]),
    ("fuzz", &[]),
];

/// Packages that may import any.
const FREE: [&str; 2] = ["tests", "xtask"];

/// Packages whose decisions depend on their arguments alone.
const PURE: [&str; 9] =
    ["model", "seal", "idtoken", "store", "control", "consensus", "manager-core", "agent-core", "mesh"];

/// What no pure package may link, by any path: runtimes, sockets, entropy of its own.
const IMPURE: [&str; 7] = ["tokio", "mio", "hyper", "tonic", "bollard", "sled", "rustix"];

/// What every pure package's clippy.toml bans at least.
const BANS: [&str; 10] = [
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "rand::rng",
    "rand::thread_rng",
    "getrandom::fill",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::fs::File",
    "std::net::TcpStream",
    "std::thread::spawn",
];

fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version=1", "--no-deps"]).current_dir(workspace());
    serde_json::from_str(&run(&mut cargo).expect("cargo metadata")).expect("JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("{key} in {value}"))
}

/// The workspace's packages and, of each, the normal dependencies that lie in the workspace.
fn arrows(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let members: BTreeSet<&str> =
        list(metadata, "workspace_members").iter().filter_map(Value::as_str).collect();
    let packages =
        || list(metadata, "packages").iter().filter(|package| members.contains(text(package, "id")));
    let names: BTreeSet<&str> = packages().map(|package| text(package, "name")).collect();
    let of = |package: &Value| {
        let normal = list(package, "dependencies").iter().filter(|dependency| dependency["kind"].is_null());
        normal
            .map(|dependency| text(dependency, "name"))
            .filter(|name| names.contains(name))
            .map(str::to_owned)
            .collect()
    };
    packages().map(|package| (text(package, "name").to_owned(), of(package))).collect()
}

/// Every package that `root` links when it is built alone without its tests.
fn linked(root: &str) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--package", root, "--edges=normal,no-proc-macro", "--prefix=none"]);
    cargo.args(["--offline", "--locked"]).current_dir(workspace());
    let tree = run(&mut cargo).expect("cargo tree");
    tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn no_package_imports_what_the_picture_does_not_show() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for (package, imports) in arrows(&metadata()) {
        if FREE.contains(&package.as_str()) {
            continue;
        }
        match allowed.get(package.as_str()) {
            None => wrong.push(format!("{package} is not in the picture")),
            Some(allowed) => {
                let extra = imports.iter().filter(|import| !allowed.contains(&import.as_str()));
                wrong.extend(extra.map(|import| format!("{package} -> {import}")));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not in the picture: {wrong:#?}");
}

#[test]
fn every_package_of_the_picture_exists() {
    let arrows = arrows(&metadata());
    let gone: Vec<&str> =
        ARROWS.iter().map(|(name, _)| *name).filter(|name| !arrows.contains_key(*name)).collect();
    assert!(gone.is_empty(), "{gone:?}");
}

#[test]
fn pure_packages_link_no_runtime_and_no_socket() {
    for package in PURE {
        let linked = linked(package);
        assert!(linked.contains("serde"), "{package}: the walk found {linked:?}");
        let impure: Vec<&str> = IMPURE.into_iter().filter(|name| linked.contains(*name)).collect();
        assert!(impure.is_empty(), "{package} links {impure:?}");
    }
}

#[test]
fn pure_packages_share_one_list_of_bans() {
    let bans = |package: &str| {
        let path = workspace().join("crates").join(package).join("clippy.toml");
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let first = bans(PURE[0]);
    for ban in BANS {
        assert!(first.contains(&format!("\"{ban}\"")), "{ban} is not banned");
    }
    for package in PURE {
        assert_eq!(
            bans(package),
            first,
            "crates/{package}/clippy.toml differs from crates/{}/clippy.toml",
            PURE[0]
        );
    }
}

#[test]
fn every_package_obeys_the_workspace_lints() {
    let root = workspace();
    for package in list(&metadata(), "packages") {
        let manifest = Path::new(text(package, "manifest_path"));
        if !manifest.starts_with(root) {
            continue;
        }
        let text = std::fs::read_to_string(manifest).expect("a manifest");
        assert!(text.contains("[lints]\nworkspace = true"), "{} has lints of its own", manifest.display());
    }
}
