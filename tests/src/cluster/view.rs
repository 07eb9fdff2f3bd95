//! What `orchctl --json` says, as far as tests look at it.

use anyhow::{Context, Result};
use serde_json::Value;

/// A task of `ps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub id: String,
    pub service: String,
    /// The replica's number, or the node's id.
    pub slot: String,
    /// The node's name; empty without one.
    pub node: String,
    pub desired: String,
    pub state: String,
    pub health: String,
    pub restarts: u64,
    /// The engine's id of its container.
    pub container: String,
    /// The agent's message, else why it waits.
    pub message: String,
    pub oom: bool,
    pub exit: Option<i64>,
    pub template: u64,
}

impl Task {
    /// Runs, and its health check, if it has one, agrees.
    pub fn is_healthy(&self) -> bool {
        self.state == "running" && ["none", "healthy"].contains(&self.health.as_str())
    }

    /// Wanted running, and not ended for good.
    pub fn is_active(&self) -> bool {
        let ended = ["completed", "failed", "rejected", "stopped", "lost"];
        self.desired == "running" && !ended.contains(&self.state.as_str())
    }

    /// Reads one row.
    ///
    /// # Errors
    /// A field is missing.
    pub fn read(row: &Value) -> Result<Task> {
        let task = &row["task"];
        let observed = &task["observed"];
        let text = |value: &Value, what: &str| {
            value.as_str().map(str::to_owned).with_context(|| format!("no {what} in {row}"))
        };
        let slot = &task["slot"];
        let pending = task["pending"]["message"].as_str().unwrap_or_default();
        let told = observed["message"].as_str().unwrap_or_default();
        Ok(Task {
            id: text(&task["id"], "id")?,
            service: text(&row["service"], "service")?,
            slot: match slot["replica"].as_u64() {
                Some(number) => number.to_string(),
                None => text(&slot["node"], "slot")?,
            },
            node: text(&row["node"], "node")?,
            desired: text(&task["desired"], "desired state")?,
            state: text(&observed["state"], "state")?,
            health: text(&observed["health"], "health")?,
            restarts: observed["restarts"].as_u64().unwrap_or_default(),
            container: text(&observed["container"], "container")?,
            message: if told.is_empty() { pending.to_owned() } else { told.to_owned() },
            oom: observed["exit"]["oom"].as_bool().unwrap_or_default(),
            exit: observed["exit"]["code"].as_i64(),
            template: task["template"].as_u64().unwrap_or_default(),
        })
    }
}

/// A manager of `manager ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: u64,
    pub name: String,
    pub address: String,
    pub voter: bool,
    pub leader: bool,
    pub reachable: bool,
}

impl Member {
    /// Reads one row.
    ///
    /// # Errors
    /// A field is missing.
    pub fn read(row: &Value) -> Result<Member> {
        let member = &row["member"];
        let text =
            |key: &str| member[key].as_str().map(str::to_owned).with_context(|| format!("{key} in {row}"));
        let flag = |key: &str| row[key].as_bool().with_context(|| format!("{key} in {row}"));
        Ok(Member {
            id: member["id"].as_u64().with_context(|| format!("id in {row}"))?,
            name: text("name")?,
            address: text("address")?,
            voter: flag("voter")?,
            leader: flag("leader")?,
            reachable: flag("reachable")?,
        })
    }
}
