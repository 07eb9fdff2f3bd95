//! `scenario`: a cluster on hosts lives through something that users fear, while it is measured what that costs.

mod releases;
mod soak;
mod traffic;
mod trust;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use tests::require;

/// Options of `scenario`.
#[derive(Args, Debug)]
pub struct Options {
    #[command(subcommand)]
    name: Name,
}

#[derive(Debug, Subcommand)]
enum Name {
    /// Published ports, sessions and routes under everything that goes wrong
    Traffic(traffic::Options),
    /// Pipelines that release good and bad images from a registry, while others use the service
    Releases(releases::Options),
    /// Hours with services that crash all the time: does anything grow, does anybody else wait?
    Soak(soak::Options),
    /// The security model, tried from outside: every request by every caller, attacks, and where secrets lie
    Trust(trust::Options),
}

/// Runs a scenario.
///
/// # Errors
/// It cannot be set up, or something does not come back.
pub fn run(options: &Options) -> Result<ExitCode> {
    if let Some(missing) = require::LAB.iter().find_map(|need| need.missing()) {
        anyhow::bail!("cannot run here: {missing}");
    }
    match &options.name {
        Name::Traffic(options) => traffic::run(options),
        Name::Releases(options) => releases::run(options),
        Name::Soak(options) => soak::run(options),
        Name::Trust(options) => trust::run(options),
    }
}
