//! Raft as one plain value: the only crate that names the Raft library.
//!
//! In come messages of peers, proposals, ticks and reports of the disk; out come [`Output`]s: what to write, what to
//! send, what is committed. Nothing here knows what an entry means, and nothing here reads a clock or a socket.
//!
//! The library (tikv `raft`, unmodified) panics where its caller breaks a rule, so the rules are kept here: every message
//! is range-checked before it is stepped, what vouches for data leaves only after that data is durable, the election
//! timeout comes from our own seeded generator, and each risky default is set.
//!
//! Read in this order: [`membership`], [`message`], `log` (the library's view of our log), [`transfer`] (snapshots in
//! chunks), [`types`], [`node`], `outbound`, `status`.

mod log;
pub mod membership;
pub mod message;
pub mod node;
mod outbound;
mod status;
pub mod transfer;
pub mod types;

pub use membership::{ConfChange, ConfKind, Membership};
pub use message::{Body, LogEntry, Message, Refused, SnapshotMeta};
pub use node::Node;
pub use transfer::ReceivedSnapshot;
pub use types::{HardState, Output, ProposeError, RaftSettings, Restored, Role, Start, StartError, Write};
