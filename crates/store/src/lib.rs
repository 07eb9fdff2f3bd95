//! The replicated state machine: every manager applies the same log entries and holds the same state.
//!
//! What comes in: [`Entry`](model::command::Entry)s in the order of the log, through [`Store::apply`]. What goes out: an
//! [`Applied`] with the answer and the [`Change`]s, and a read API whose answers borrow from the tables. Not here: when a
//! command is proposed, what is decided (`control`), who may ask (`manager-core`), how bytes travel.
//!
//! Guarantees: `apply` reads no clock and no entropy, never panics, and gives every manager the same result; a rejected
//! command or decision changes no object; a retried request is answered from memory. Cloning a [`Store`] costs nothing that
//! grows with its size, so that a clone is the snapshot and every reader's view.
//!
//! Read in this order: [`Store`] in `store.rs`, `apply/mod.rs` and its parts, `admit.rs`, `read.rs`, `items.rs`, `resolve.rs`, `welcome.rs`, `events.rs`, `audit/`, then the
//! machinery: `write.rs` (every change of a table), `index.rs`, `requests.rs`, `hash.rs`, `snapshot.rs`, `check.rs`.

mod admit;
mod apply;
mod audit;
mod check;
mod events;
mod hash;
mod index;
mod intern;
mod items;
mod read;
mod requests;
mod resolve;
mod snapshot;
mod store;
mod welcome;
mod write;

pub use apply::{Applied, Change};
pub use audit::MAX_AUDIT_BYTES;
pub use check::Inconsistency;
pub use events::{MAX_EVENTS, Resync};
pub use requests::MAX_REQUESTS;
pub use store::Store;
