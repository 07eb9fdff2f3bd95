//! `orchctl` as a program: what it printed, and how it ended.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command::{finish, finish_with, line_of};
use crate::hosts::Lab;

/// What a program said, and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// -1 when a signal ended it.
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

impl Said {
    /// Both outputs, for searching.
    pub fn all(&self) -> String {
        format!("{}\n{}", self.out, self.err)
    }
}

/// An operator's `orchctl` with a context file.
#[derive(Debug, Clone)]
pub struct Ctl {
    pub(super) program: PathBuf,
    pub(super) config: PathBuf,
    /// The laboratory whose switch it is plugged into; none on loopback or with an uplink.
    pub(super) lab: Option<Arc<Lab>>,
}

impl Ctl {
    /// Its context file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The same with another context file.
    pub fn with_config(&self, config: PathBuf) -> Ctl {
        Ctl { config, ..self.clone() }
    }

    /// The command, to be run by the caller.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.lab {
            Some(lab) => lab.switch().command(&self.program),
            None => Command::new(&self.program),
        };
        command.args(args).env("ORCH_CONFIG", &self.config).env_remove("ORCH_CONTEXT");
        ["ORCH_TOKEN", "ORCH_TOKEN_FILE", "ORCH_MANAGERS"]
            .iter()
            .for_each(|name| _ = command.env_remove(name));
        command
    }

    /// Runs it to its end, whatever the exit code.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn say(&self, args: &[&str]) -> Said {
        finish(&mut self.command(args)).expect("orchctl starts").into()
    }

    /// Runs it with something on its standard input.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn say_to(&self, args: &[&str], input: &str) -> Said {
        finish_with(&mut self.command(args), input).expect("orchctl starts").into()
    }

    /// `orchctl events --follow` as a child with piped outputs, seen to be open.
    ///
    /// # Panics
    /// It does not start, or ends before its first event.
    pub fn follow_events(&self) -> Child {
        let mut command = self.command(&["events", "--after", "0.0", "--follow"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("orchctl starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("text");
        assert!(!line.is_empty(), "it is open");
        child
    }

    /// Runs it and returns its stdout.
    ///
    /// # Errors
    /// The exit code is not 0.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        let said = self.say(args);
        let line = line_of(Command::new("orchctl").args(args));
        ensure!(said.code == 0, "{line}: exit {}\n{}\n{}", said.code, said.out, said.err);
        Ok(said.out)
    }

    /// Runs it with `--json`.
    ///
    /// # Errors
    /// The exit code is not 0, or the output is not one document.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.ok(&[args, &["--json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("{args:?} printed no JSON:\n{text}"))
    }
}
