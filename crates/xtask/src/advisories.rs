//! `advisories`: known vulnerabilities of the dependencies. Apart from `test`, since the answer depends on the day and
//! on a network, and a test must depend on neither.

use std::process::ExitCode;

use anyhow::Result;

/// Runs `cargo deny check advisories` and says what it did.
///
/// # Errors
/// cargo-deny cannot be installed.
pub fn run() -> Result<ExitCode> {
    let status = crate::cargo::deny()?.args(["check", "advisories"]).status()?;
    if status.success() {
        println!("no known advisory applies");
        return Ok(ExitCode::SUCCESS);
    }
    println!("advisories apply, or the database could not be fetched: see above which");
    Ok(ExitCode::FAILURE)
}
