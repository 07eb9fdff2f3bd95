//! Tools that cargo brings: installed under the target directory, so that nothing of the user's changes.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use tests::command::cargo;

/// The version that deny.toml is written for.
const DENY_VERSION: &str = "^0.20";

/// `cargo deny`, installed on first use, which takes a few minutes of compiling.
///
/// # Errors
/// It cannot be fetched or built.
pub fn deny() -> Result<Command> {
    let root = target_directory()?.join("tools");
    let program = root.join("bin/cargo-deny");
    if !program.is_file() {
        eprintln!("installing cargo-deny into {}", root.display());
        let install = cargo()
            .args(["install", "--quiet", "--locked", "--version", DENY_VERSION, "cargo-deny", "--root"])
            .arg(&root)
            .status()?;
        if !install.success() {
            bail!("cannot install cargo-deny");
        }
    }
    let mut command = Command::new(program);
    command.current_dir(tests::binaries::workspace());
    Ok(command)
}

fn target_directory() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let directory =
        program.parent().and_then(std::path::Path::parent).context("xtask runs from a target directory")?;
    Ok(directory.to_owned())
}
