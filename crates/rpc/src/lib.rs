//! How managers, agents and clients talk: service stubs, TLS channels, and one table from errors to status codes.
//!
//! In come addresses, certificates and typed messages; out come channels, accepted connections and the identity at
//! their other end. Not here: what a message means (`manager-core`, `agent-core`), and how certificates are made (`pki`).
//!
//! Reading order: [`tls`] makes connections, [`local`] those on one machine, [`identity`] says who is at the other end,
//! [`offences`] slows down who fails to, [`places`] bounds what anybody has under way.

pub mod identity;
pub mod local;
pub mod offences;
pub mod places;
pub mod tls;
