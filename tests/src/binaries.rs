//! The programs under test, fresh from the sources: a test against a stale binary proves nothing.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::command::{cargo, run};

/// A directory with programs built elsewhere, such as those of an earlier release.
const DIRECTORY: &str = "ORCH_BIN_DIR";
/// Where the three programs are.
#[derive(Debug, Clone)]
pub struct Binaries {
    pub manager: PathBuf,
    pub agent: PathBuf,
    pub ctl: PathBuf,
}

impl Binaries {
    /// The programs of `ORCH_BIN_DIR`, or else of this workspace, built now; built once a process.
    ///
    /// # Errors
    /// They do not build.
    pub fn get() -> Result<Binaries> {
        static BUILT: OnceLock<Result<Binaries, String>> = OnceLock::new();
        built(&BUILT, &[])
    }

    /// The same with optimisation, for programs whose speed is shown or measured.
    ///
    /// # Errors
    /// They do not build.
    pub fn release() -> Result<Binaries> {
        static BUILT: OnceLock<Result<Binaries, String>> = OnceLock::new();
        built(&BUILT, &["--release"])
    }
}

fn built(once: &OnceLock<Result<Binaries, String>>, options: &[&str]) -> Result<Binaries> {
    let found = once.get_or_init(|| find(options).map_err(|error| format!("{error:#}")));
    found.clone().map_err(anyhow::Error::msg)
}

fn find(options: &[&str]) -> Result<Binaries> {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let directory = Path::new(&directory);
        return Ok(Binaries {
            manager: directory.join("orch-manager"),
            agent: directory.join("orch-agent"),
            ctl: directory.join("orchctl"),
        });
    }
    // All of the workspace, for the features that the tests' own build has: nothing is built twice.
    let mut args = vec!["--workspace", "--bins"];
    args.extend(options);
    let built = build(&args, None)?;
    let named = |name: &str| {
        let found = built.iter().find(|path| path.file_name().is_some_and(|file| file == name));
        found.cloned().with_context(|| format!("the workspace has no program {name}"))
    };
    Ok(Binaries { manager: named("orch-manager")?, agent: named("orch-agent")?, ctl: named("orchctl")? })
}

/// Runs `cargo build` in the workspace and returns the programs that it names.
///
/// # Errors
/// The build fails; the message holds the compiler's.
pub fn build(args: &[&str], rustflags: Option<&str>) -> Result<Vec<PathBuf>> {
    let mut cargo = cargo();
    cargo.arg("build").args(args).args(["--quiet", "--message-format=json-render-diagnostics"]);
    if let Some(flags) = rustflags {
        cargo.env("RUSTFLAGS", flags);
    }
    let messages = run(&mut cargo)?;
    let executables = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    Ok(executables.collect())
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}
