//! Layer 7: each request of a client's connection goes to a replica of its own.
//!
//! Reading order: `serve` (a client's connection), `lean` (what most requests take), `request` (one request), `tries` (the replicas in turn), `exchange`, `flow` and `pool` (a replica's
//! connections), `body` (what passes through), `headers` (what is added and taken away), `reply` (what we say ourselves), `upgrade`,
//! `secure` (certificates).

mod body;
mod exchange;
mod flow;
mod headers;
mod lean;
mod pool;
mod reply;
mod request;
mod resumed;
pub mod secure;
mod serve;
mod tries;
mod upgrade;

pub use pool::Pools;
pub use serve::{Arrival, serve};
