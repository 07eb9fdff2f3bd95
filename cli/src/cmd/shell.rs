//! `completions`, `man`, `version`: what needs no cluster.

use std::path::Path;

use clap::CommandFactory as _;

use crate::{
    args::Cli,
    exit::{Code, Failure},
    output,
};

/// `completions SHELL`
pub fn completions(shell: clap_complete::Shell) -> Code {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "orchctl", &mut script);
    output::print(String::from_utf8_lossy(&script).trim_end());
    Code::DONE
}

/// `man DIR`
pub fn man(dir: &Path) -> Result<Code, Failure> {
    std::fs::create_dir_all(dir).map_err(|error| Failure::file("create", dir, &error))?;
    clap_mangen::generate_to(Cli::command(), dir)
        .map_err(|error| Failure::file("write into", dir, &error))?;
    Ok(Code::DONE)
}

/// `version`
pub fn version(json: bool) -> Code {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        output::json::print(&serde_json::json!({ "orchctl": version }));
    } else {
        output::print(format!("orchctl {version}"));
    }
    Code::DONE
}
