//! From a command line or a file to a declaration, with everything that is wrong with it at once.
//!
//! [`create`] makes one, [`update`] changes one, [`flags`] are the values that both take, [`security`] those of power over a node, [`job`] makes what comes to an end, [`file`] reads and writes
//! declarations as TOML or JSON, [`policy`] policies, [`problems`] collects.

pub mod create;
pub mod file;
pub mod flags;
pub mod job;
pub mod policy;
pub mod problems;
pub mod security;
pub mod update;

#[cfg(test)]
mod tests;

use std::path::Path;

use problems::Problems;

/// Reads `KEY=VALUE` or `KEY`, whose value is then taken from the environment of this process.
fn env_pair(text: &str) -> Result<(String, String), String> {
    if text.contains('=') {
        return crate::value::pair(text);
    }
    std::env::var(text)
        .map(|value| (text.to_owned(), value))
        .map_err(|_| format!("\"{text}\" has no value here; write {text}=VALUE"))
}

/// Reads a file of `KEY=VALUE` lines; empty lines and those that begin with `#` are skipped.
fn env_file(path: &Path, problems: &mut Problems) -> Vec<(String, String)> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.add("--env-file", format!("cannot read {}: {error}", path.display()));
            return Vec::new();
        }
    };
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if !line.is_empty() && !line.starts_with('#') {
            let place = format!("{}:{}", path.display(), number + 1);
            pairs.extend(problems.take(&place, env_pair(line)));
        }
    }
    pairs
}

/// Reads `spread=ATTRIBUTE`.
fn spread(text: &str) -> Result<model::placement::Attribute, String> {
    let attribute = text
        .strip_prefix("spread=")
        .ok_or_else(|| format!("\"{text}\" is no preference; write spread=node.labels.KEY"))?;
    attribute.parse().map_err(|error: model::placement::ParsePlacementError| error.to_string())
}

/// Reads a constraint.
fn constraint(text: &str) -> Result<model::placement::Constraint, String> {
    text.parse().map_err(|error: model::placement::ParsePlacementError| error.to_string())
}
