//! `dev down`

use super::{
    Session, engine,
    home::{CONTEXT, Home},
    up::Programs,
};
use crate::{
    context::Contexts,
    exit::{Code, Failure},
    output,
};

/// Stops both daemons and removes what they and `up` made. The agent first, so that it does not start again what is
/// being removed. What fails stops it before anything that would be needed to try again is gone.
///
/// # Errors
/// A daemon does not end, or the engine cannot be asked.
pub async fn run(session: &Session, home: &Home, keep_data: bool) -> Result<Code, Failure> {
    if !home.is_made() {
        output::note(format!("nothing to do: there is no cluster in {}", home.dir().display()));
        return Ok(Code::DONE);
    }
    let agent = home.agent().stop().await?;
    let manager = home.manager().stop().await?;
    if keep_data {
        session.print(&serde_json::json!({ "manager": manager, "agent": agent }), || {
            format!("stopped; its containers go on, everything else is kept in {}", home.dir().display())
        });
        return Ok(Code::DONE);
    }
    let removed = match home.cluster() {
        Some(cluster) => engine::clean(&cluster).await?,
        None => engine::Removed::default(),
    };
    if home.agent_dir().join("mesh.sock").exists() {
        leave(home).await?;
    }
    forget_context(session, home)?;
    home.remove()?;
    let document = serde_json::json!({ "containers": removed.containers, "volumes": removed.volumes });
    session.print(&document, || {
        format!(
            "removed {} containers, {} volumes, {} and the context {CONTEXT}",
            removed.containers,
            removed.volumes,
            home.dir().display()
        )
    });
    Ok(Code::DONE)
}

/// Has the agent end its mesh process and remove its networks: it knows what it made.
async fn leave(home: &Home) -> Result<(), Failure> {
    let program = Programs::find()?.agent;
    let mut command = tokio::process::Command::new(&program);
    command.arg("leave").arg("--dir").arg(home.agent_dir());
    let output = command.output().await.map_err(|error| Failure::file("start", &program, &error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::error(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Removes our context, if it is still ours, and returns to the one before.
fn forget_context(session: &Session, home: &Home) -> Result<(), Failure> {
    let mut contexts = Contexts::load(&session.config)?;
    let ours = contexts.get(CONTEXT).is_ok_and(|context| context.cluster == home.cluster());
    if !ours {
        return Ok(());
    }
    let was_current = contexts.current.as_deref() == Some(CONTEXT);
    contexts.remove(CONTEXT);
    if was_current {
        contexts.current = home.previous_context().filter(|name| contexts.get(name).is_ok());
    }
    contexts.save(&session.config)
}
