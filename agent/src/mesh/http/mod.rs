//! Layer 7: each request of a client's connection goes to a replica of its own.
//!
//! Reading order: `serve` (a client's connection), `request` (one request and its tries), `exchange` and `pool` (a replica's
//! connection), `body` (what passes through), `headers` (what is added and taken away), `reply` (what we say ourselves), `upgrade`,
//! `secure` (certificates).

mod body;
mod exchange;
mod headers;
mod pool;
mod reply;
mod request;
pub mod secure;
mod serve;
mod upgrade;

pub use pool::Pool;
pub use serve::{Arrival, serve};
