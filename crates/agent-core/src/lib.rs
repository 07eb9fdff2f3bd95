//! An agent without I/O: it makes one node's container engine match what the managers assigned, with or without them.
//!
//! In come [`event::Event`]s and the time; out go [`action::Action`]s and the next time to be woken. Not here: sockets,
//! the engine's API, files, clocks (the daemon in `agent/`, and the simulator, have those).
//!
//! Read in this order: [`event`], [`action`], [`engine`], [`stored`], [`labels`].

pub mod action;
pub mod engine;
pub mod event;
pub mod labels;
pub mod stored;
