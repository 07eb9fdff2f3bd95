//! Everything that is wrong with a request, at once, each with its path; and what is not wrong but will hurt.
//!
//! A manager validates before it proposes; a client may do so before it asks. The replicated state never does: two
//! versions of the software may know different rules, and must still apply one log the same way.
//!
//! Every bound is here because something behind it is finite: the log entry, the snapshot, the engine's own limits, a
//! terminal's width. Read in this order: this file, then `service`, `container`, `traffic`, `placement`, `resources`, `security`, `item`, `job` for specs, `policy`, `text` for the
//! forms of names, `login` for login methods, `cluster` for everything else, `lint` for warnings.

use std::fmt;

use serde::{Deserialize, Serialize};

mod cluster;
mod container;
mod issuer;
mod item;
mod job;
mod lint;
mod login;
mod placement;
mod policy;
mod probe;
mod resources;
mod security;
mod service;
mod text;
mod traffic;

pub use cluster::{
    MAX_TOKEN_TTL, MAX_TOKEN_USES, validate_address, validate_facts, validate_node_change,
    validate_node_spec, validate_request, validate_settings, validate_token,
};
pub use item::{validate_item, validate_template, validate_value};
pub use job::validate_cron;
pub use lint::lint_service;
pub use policy::validate_policy;
pub use service::{MAX_REPLICAS, MAX_SPEC_BYTES, validate_scale, validate_service};
pub use traffic::validate_network;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// Where in the spec, such as `template.container.ports[0].target`.
    pub path: String,
    /// What, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Problems as they are found.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: impl fmt::Display, message: impl Into<String>) {
        self.0.push(Problem { path: path.to_string(), message: message.into() });
    }

    /// Adds the message when what must hold does not.
    fn ensure(&mut self, holds: bool, path: impl fmt::Display, message: impl FnOnce() -> String) {
        if !holds {
            self.add(path, message());
        }
    }

    /// Adds what a check of a text says against it.
    fn judge(&mut self, path: impl fmt::Display, verdict: Result<(), String>) {
        if let Err(message) = verdict {
            self.add(path, message);
        }
    }

    fn at_most(&mut self, count: usize, bound: usize, path: impl fmt::Display, what: &str) {
        self.ensure(count <= bound, path, || format!("{count} {what}; at most {bound} are allowed"));
    }
}
