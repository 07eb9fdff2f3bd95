//! What the engines themselves say of our containers: the truth that the cluster's own account is held against.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::engine::Engine;

/// One container that carries our labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    pub name: String,
    /// The service's name.
    pub service: String,
    /// The replica's number, or the node's id.
    pub slot: String,
    pub task: String,
    pub attempt: String,
    pub running: bool,
    /// The node that the label names.
    pub node: String,
}

/// Running containers by slot.
pub fn per_slot(containers: &[Container]) -> BTreeMap<String, usize> {
    let mut slots = BTreeMap::new();
    for container in containers.iter().filter(|container| container.running) {
        *slots.entry(container.slot.clone()).or_default() += 1;
    }
    slots
}

/// The containers of `service` on one engine, ended ones included; of all services when it is empty.
///
/// # Errors
/// The engine does not answer.
pub fn on(engine: &Engine, service: &str) -> Result<Vec<Container>> {
    let filter = match service {
        "" => "label=orch.cluster".to_owned(),
        name => format!("label=orch.service.name={name}"),
    };
    let columns = ["orch.service.name", "orch.slot", "orch.task", "orch.attempt", "orch.node"]
        .map(|label| format!("{{{{.Label \"{label}\"}}}}"))
        .join("\t");
    let format = format!("{{{{.ID}}}}\t{{{{.Names}}}}\t{{{{.State}}}}\t{columns}");
    let args = ["ps", "--all", "--no-trunc", "--filter", &filter, "--format", &format];
    engine.lines(&args)?.iter().map(|line| parse(line).with_context(|| line.clone())).collect()
}

/// Removes all containers of a cluster from one engine.
///
/// # Errors
/// The engine does not answer.
pub fn remove_all(engine: &Engine, cluster: &str) -> Result<()> {
    let filter = format!("label=orch.cluster={cluster}");
    let found = engine.lines(&["ps", "--all", "--quiet", "--filter", &filter])?;
    if found.is_empty() {
        return Ok(());
    }
    let args: Vec<&str> =
        ["rm", "--force", "--volumes"].into_iter().chain(found.iter().map(String::as_str)).collect();
    engine.docker(&args).map(drop)
}

/// The running containers with our labels, straight from the engine's API: cheap enough for several times a second.
///
/// # Errors
/// The engine does not answer within a second.
pub fn running(engine: &Engine) -> Result<Vec<Container>> {
    let rows: Value = serde_json::from_str(&engine.get("/containers/json")?)?;
    let ours = |row: &&Value| row["Labels"]["orch.cluster"].is_string();
    Ok(rows.as_array().context("a list")?.iter().filter(ours).map(row).collect())
}

fn row(row: &Value) -> Container {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let label = |name: &str| text(&row["Labels"][name]);
    Container {
        id: text(&row["Id"]),
        name: text(&row["Names"][0]),
        service: label("orch.service.name"),
        running: row["State"] == "running",
        slot: label("orch.slot"),
        task: label("orch.task"),
        attempt: label("orch.attempt"),
        node: label("orch.node"),
    }
}

fn parse(line: &str) -> Option<Container> {
    let mut words = line.split('\t').map(str::to_owned);
    let (id, name, state) = (words.next()?, words.next()?, words.next()?);
    Some(Container {
        id,
        name,
        running: state == "running",
        service: words.next()?,
        slot: words.next()?,
        task: words.next()?,
        attempt: words.next()?,
        node: words.next()?,
    })
}
