//! Leaving: this node's containers are stopped and removed, then its identity and memory. Nothing else is touched.

use std::{fs, io};

use agent_core::engine::{EngineCall, EngineErrorKind};
use anyhow::{Context, Result, anyhow, bail};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    args::Leave,
    attempts,
    config::Config,
    directory::Directory,
    engine::{self, Engine, Ours},
    files::Files,
    identity::Identity,
    network::Networks,
    traffic,
};

/// Containers stopped at a time; most of a stop is waiting for the process.
const STOPS: usize = 8;

/// Leaves. Safe to repeat after a failure: the identity goes last.
///
/// # Errors
/// The agent still runs, the engine is not reachable, or a container does not go.
pub async fn leave(args: Leave) -> Result<()> {
    let config = Config::read(args.config.as_deref(), &args.dir.join("agent.toml"))?;
    let directory = Directory::take(&args.dir).context("stop the agent first")?;
    let Some(identity) = Identity::load(&directory)? else {
        bail!("this machine is no node: {} holds no identity", args.dir.display());
    };
    let engine = Engine::new(config.engine.as_deref().unwrap_or(engine::DEFAULT_ADDRESS));
    let ours = Ours { cluster: identity.cluster, node: identity.node };
    let containers =
        engine.containers(ours).await.map_err(|error| anyhow!("the engine: {}", error.message))?;
    let count = containers.len();
    let removals = containers.into_iter().map(|container| remove(&engine, container.id));
    stream::iter(removals).buffer_unordered(STOPS).try_collect::<Vec<()>>().await?;
    traffic::end(directory.path(), identity.node).await?;
    Networks::new(ours).remove_all(&engine).await.map_err(|error| anyhow!(error))?;
    Files::new(config.memory_dir.as_deref(), ours.node).wipe_all().context("the secrets of containers")?;
    forget(&directory)?;
    println!(
        "removed {count} containers; this machine is no longer node {} of cluster {}",
        ours.node, ours.cluster
    );
    println!("forget the node with: orchctl node rm {}", ours.node);
    Ok(())
}

async fn remove(engine: &Engine, container: String) -> Result<()> {
    for call in [
        EngineCall::Stop { container: container.clone(), grace: None },
        EngineCall::Remove { container: container.clone(), keep: None },
    ] {
        match engine.call(call).await {
            Ok(_) => {}
            Err(error) if error.kind == EngineErrorKind::NotFound => {}
            Err(error) => bail!("container {container}: {}", error.message),
        }
    }
    Ok(())
}

fn forget(directory: &Directory) -> Result<()> {
    let absent = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    absent(fs::remove_file(directory.join("mesh.table"))).context("the routes")?;
    absent(fs::remove_dir_all(directory.join(attempts::DIRECTORY))).context("what was kept of attempts")?;
    absent(fs::remove_dir_all(directory.join("ledger"))).context("the ledger")?;
    absent(fs::remove_dir_all(directory.join("ledger.damaged"))).context("the damaged ledger")?;
    Identity::remove(directory).context("the identity")
}
