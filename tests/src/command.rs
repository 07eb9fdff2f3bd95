//! Running a command to its end, with an error that holds what it said.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` without stdin and returns its stdout, trimmed.
///
/// # Errors
/// The program is missing or exits non-zero; the message holds the command line and both outputs.
pub fn run(command: &mut Command) -> Result<String> {
    let output = finish(command)?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}\n{}{}", line_of(command), output.status, stdout, stderr.trim_end());
    }
    Ok(stdout.trim().to_owned())
}

/// Runs `program` with `args` as [`run`] does.
///
/// # Errors
/// As [`run`].
pub fn call(program: &str, args: &[&str]) -> Result<String> {
    run(Command::new(program).args(args))
}

/// Runs `command` to its end, whatever its exit code.
///
/// # Errors
/// The program cannot be started.
pub fn finish(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| line_of(command))
}

/// Runs `command` to its end with `input` on its stdin, read or not.
///
/// # Errors
/// The program cannot be started.
pub fn finish_with(command: &mut Command, input: &str) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| line_of(command))?;
    // One that does not read is told by what it says.
    drop(child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes())));
    child.wait_with_output().with_context(|| line_of(command))
}

/// The command as a user would type it, the program without its directory.
pub fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let words = std::iter::once(program.file_name().unwrap_or(program.as_os_str())).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Cargo in the workspace, without what an outer `cargo run` or `cargo test` set for its own program: build scripts
/// watch those variables, and whole crates would be built again at every change between outer and inner.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::binaries::workspace());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name.as_ref());
        }
    }
    command
}
