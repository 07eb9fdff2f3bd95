//! `dev …`: a whole cluster on this machine, in one directory, made by one command and removed by another.
//!
//! The manager and the agent run in the background; a file beside each one's log says which process it is. The
//! directory holds everything, so that `down` can remove what `up` made and nothing else: the two processes, the
//! containers and volumes that carry the cluster's label, the directory and the context.

mod down;
mod engine;
mod home;
mod process;
mod up;

use std::path::PathBuf;

use home::Home;

use super::Session;
use crate::{
    args::DevCommand,
    exit::{Code, Failure},
    output,
};

/// Runs a command about the cluster on this machine.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: DevCommand) -> Result<Code, Failure> {
    match command {
        DevCommand::Up { dir, port } => up::run(session, &home(dir)?, port).await,
        DevCommand::Down { dir, keep_data } => down::run(session, &home(dir)?, keep_data).await,
        DevCommand::Status { dir } => status(session, &home(dir)?),
    }
}

fn home(dir: Option<PathBuf>) -> Result<Home, Failure> {
    Home::new(dir, |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn status(session: &Session, home: &Home) -> Result<Code, Failure> {
    let (manager, agent) = (home.manager().pid(), home.agent().pid());
    let up = manager.is_some() && agent.is_some();
    let document = serde_json::json!({ "dir": home.dir(), "manager": manager, "agent": agent });
    session.print(&document, || {
        let line = |pid: Option<i32>| pid.map_or("does not run".into(), |pid| format!("runs, process {pid}"));
        format!("manager  {}\nagent    {}\nin       {}", line(manager), line(agent), home.dir().display())
    });
    if !up && !session.global.json && home.is_made() {
        output::note("start it again: orchctl dev up");
    }
    Ok(if up { Code::DONE } else { Code::ERROR })
}
