//! Programs run inside a container.

use agent_core::engine::EngineError;
use bollard::{
    container::LogOutput,
    errors::Error as DockerError,
    exec::{CreateExecOptions, StartExecResults},
};
use futures_util::StreamExt;

use super::{
    Engine,
    error::{Doing, sorted},
    view,
};

/// Bytes of the output that are kept while it runs: the last ones. A JVM's threads are tens of thousands.
const MAX_OUTPUT: usize = 64 << 10;

/// How a program ended.
#[derive(Debug)]
pub struct Executed {
    /// Its exit code.
    pub code: i64,
    /// The last line that it printed and that says something; may be empty.
    pub output: String,
}

impl Engine {
    /// Runs a program in a container, as the container's user, and waits for its end. When the caller stops waiting, the program goes
    /// on: engines have no way to end it.
    ///
    /// # Errors
    /// The container does not run, or the engine cannot be asked. A program that is not there ends with 126 or 127.
    pub async fn execute(&self, container: &str, command: &[String]) -> Result<Executed, EngineError> {
        let mut printed = Vec::new();
        let code = self.run(container, command, &mut printed).await;
        let code = code.map_err(|error| sorted(Doing::Use, &error))?;
        let output = view::line(&String::from_utf8_lossy(&printed)).unwrap_or_default();
        Ok(Executed { code, output })
    }

    /// The same; `printed` has the end of what came until then, also when the caller stops waiting. Returns the exit code.
    pub(super) async fn run(
        &self,
        container: &str,
        command: &[String],
        printed: &mut Vec<u8>,
    ) -> Result<i64, DockerError> {
        let client = self.client().await?;
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let id = client.create_exec(container, options).await?.id;
        if let StartExecResults::Attached { mut output, .. } = client.start_exec(&id, None).await? {
            while let Some(piece) = output.next().await {
                let piece: LogOutput = piece?;
                printed.extend_from_slice(&piece.into_bytes());
                printed.drain(..printed.len().saturating_sub(MAX_OUTPUT));
            }
        }
        Ok(client.inspect_exec(&id).await?.exit_code.unwrap_or(-1))
    }
}
