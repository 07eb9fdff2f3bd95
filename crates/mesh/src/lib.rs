//! Traffic between services, without a socket: which replica takes a connection or a request.
//!
//! The sockets are in `agent/src/mesh`.

pub mod control;
