//! What the daemons say about themselves: logs on standard error, in the form that whoever reads them wants.
//!
//! In goes a [`LogConfig`] and the process's environment; out come log lines, a panic hook that ends the process after
//! the last one, and [`Secret`], which keeps its value out of all of them; [`forbid_core_dumps`] keeps them all out of what a
//! crash leaves. Not here: metrics, and what is worth logging.
//!
//! Reading order: `config` decides the layout, `logging` sets it up, `key_value` writes the one-line form, `panic`, `secret`
//! and `core_dump` stand alone.

mod config;
mod core_dump;
mod key_value;
mod logging;
mod panic;
mod secret;

pub use config::{LogConfig, LogFormat, UnknownFormat};
pub use core_dump::forbid_core_dumps;
pub use logging::{LogError, init};
pub use panic::abort_on_panic;
pub use secret::Secret;
