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
//!
//! Read in this order: [`event`], [`action`], [`config`], `manager` (the loop), `lead` (what a leader does), then the way
//! of a change (`access`, `registries`, `signatures`, `admit`, `release`, `users`, `logins`, `proposal`, `issue`), of an agent (`session`, `report`, `dispatch`, `routes`, `pins`, `files`), of a question
//! (`query`, `deployer`, `views`, `items`, `watch`, `held`, `audit`), of a member (`membership`, `peer`, `hashes`, `snapshots`, `keys`, `tell`), [`replace`] and
//! [`mod@recover`].

mod access;
mod action;
mod admit;
mod audit;
mod authority;
mod clock;
pub mod config;
mod crons;
mod deployer;
mod dispatch;
pub mod event;
mod exchange;
mod fetches;
mod files;
mod hashes;
mod held;
mod issue;
mod items;
mod joiners;
mod keys;
mod lead;
pub mod logins;
mod manager;
mod membership;
mod parts;
mod peer;
mod pins;
mod policies;
mod proposal;
mod pulls;
mod query;
mod records;
pub mod recover;
pub mod registries;
mod release;
pub mod replace;
mod report;
mod routes;
mod sealing;
mod seen;
mod session;
mod signatures;
mod snapshots;
mod tell;
mod users;
mod views;
mod watch;

#[cfg(feature = "matrix")]
pub use access::matrix;
pub use action::{Action, LogRecord, Notice, Persist, SnapshotBlob};
pub use config::{Bootstrap, Config, Entropy, Knobs};
pub use event::{Event, Recovered, SpaceState};
pub use logins::{LoginAnswer, LoginQuestion, LoginRefusal, Proven};
pub use manager::{Manager, ManagerStatus};
pub use records::RecoverError;
pub use recover::{Recovery, recover};
pub use registries::{RegistryAnswer, RegistryQuestion, RegistryRefusal, RegistryWish, RegistryWord};
pub use sealing::authority_key;
