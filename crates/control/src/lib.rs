//! The decisions of a leading manager: what is, what is wanted, and the next commands in between.
//!
//! What comes in: the [`Store`](store::Store), the time, and notes of what changed. What goes out: a [`Plan`] of
//! [`Decision`](model::command::Decision)s, each naming what it was decided on. Not here: how a plan is committed (`manager-core`),
//! what it does (`store`), who hears of it (`dispatch`). Nothing here knows of Raft, of a wire or of a clock.
//!
//! Guarantees: the same store, time and notes give the same plan; [`Control::mark_all`] reaches the decisions that
//! notes one by one reach; a converged cluster gives empty plans; every refusal to act says why ([`explain()`], [`waiting`]).
//! Nothing is moved only for balance.
//!
//! Read in this order: [`plan`], `control`, `pass`, `reconcile/`, `update/`, `scheduler/`, `cron` with [`schedule`], then the small ones: `restart`,
//! `enforce`, `reap`, `explain`, [`liveness`].

mod control;
mod cron;
mod enforce;
mod explain;
mod explain_jobs;
pub mod liveness;
mod pass;
pub mod plan;
mod reap;
mod reconcile;
mod restart;
pub mod routes;
pub mod schedule;
mod scheduler;
mod update;

pub use control::Control;
pub use explain::{explain, frozen_sentence, waiting};
pub use liveness::Liveness;
pub use plan::{IdSource, MAX_DECISIONS, Plan};
pub use update::{Fetch, Fetches};
