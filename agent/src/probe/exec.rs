//! A program in the container.

use crate::engine::Engine;

pub(super) async fn ask(engine: &Engine, container: &str, command: &[String]) -> Result<(), String> {
    let ended = engine.execute(container, command).await.map_err(|error| error.message)?;
    match (ended.code, ended.output.as_str()) {
        (0, _) => Ok(()),
        (code, "") => Err(format!("ended with {code}")),
        (code, said) => Err(format!("ended with {code}: {said}")),
    }
}
