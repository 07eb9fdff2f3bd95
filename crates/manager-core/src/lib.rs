//! A manager without I/O: Raft, the replicated state, the decisions and the agents' sessions as one plain value.
//!
//! In come [`Event`]s and the time; out go [`Action`]s. The shell waits, feeds and carries out:
//!
//! ```text
//! loop { wait until poll_timeout() or an event; handle_event / handle_timeout; while let Some(a) = poll_action() { do a } }
//! ```
//!
//! Not here: sockets, files, clocks, entropy, keys (the shell signs), the state machine (`store`), the decisions
//! (`control`), the Raft library (`consensus`).

pub mod action;
pub mod config;
pub mod event;
mod manager;

pub use action::{Action, LogRecord, Notice, Persist, SnapshotBlob};
pub use config::{Bootstrap, Config, Knobs};
pub use event::{Event, Recovered, SpaceState};
pub use manager::Manager;
