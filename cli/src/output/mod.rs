//! What people and scripts read: tables without borders, JSON, progress, ages.
//!
//! Results go to standard output, everything else (progress, warnings, refusals) to standard error, so that a pipe
//! gets what it asked for.

pub mod age;
pub mod audit;
pub mod authority;
pub mod event;
pub mod items;
pub mod jobs;
pub mod json;
pub mod logins;
pub mod pipelines;
pub mod policy;
pub mod progress;
pub mod rows;
pub mod table;
pub mod users;

#[cfg(test)]
mod tests;

use std::io::{self, Write as _};

/// Prints a line of the result. A reader that has gone away, such as `head`, ends the process quietly.
pub fn print(text: impl AsRef<str>) {
    raw(&[text.as_ref().as_bytes(), b"\n"].concat());
}

/// Prints bytes of the result as they are.
pub fn raw(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    if written.is_err() {
        std::process::exit(0);
    }
}

/// Prints a line beside the result; one that nobody can read is lost.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// Prints a warning.
pub fn warn(text: impl AsRef<str>) {
    note(format!("warning: {}", text.as_ref()));
}
