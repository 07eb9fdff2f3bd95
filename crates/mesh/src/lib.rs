//! Traffic between services, without a socket: which replica takes a connection or a request, and what a name means.
//!
//! In come a [`MeshConfig`](control::MeshConfig), the time and random numbers; out come a compiled [`Table`], choices among
//! endpoints, verdicts on retries, and the bytes of the small headers. The sockets are in `agent/src/mesh`.
//!
//! Reading order: [`control`] is what the agent says, [`table`] what the mesh makes of it; [`balance`], [`retry`] and [`gate`] decide on
//! each connection and request, [`http`] on paths and cookies, [`http1`] reads and writes heads, [`names`] on questions; [`access`] is what a log may say of a request; [`leg`] and [`proxy_protocol`] are bytes.

pub mod access;
pub mod balance;
pub mod control;
pub mod gate;
pub mod http;
pub mod http1;
pub mod leg;
pub mod names;
pub mod proxy_protocol;
pub mod retry;
pub mod table;

pub use table::Table;
