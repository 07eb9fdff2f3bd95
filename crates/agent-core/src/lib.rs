//! An agent without I/O: it makes one node's container engine match what the managers assigned, with or without them.
//!
//! In come [`event::Event`]s and the time; out go [`action::Action`]s and the next time to be woken. Not here: sockets,
//! the engine's API, files, clocks (the daemon in `agent/`, and the simulator, have those).
//!
//! Read in this order: [`event`], [`action`], [`engine`], [`stored`], [`labels`], [`agent`]; then what the agent is made
//! of: `managers` (conversation), `assignment` (fences and sets), `containers` (what the engine says), `task` and
//! `container` (the picture of one task), `reconcile` (picture to next call), `answer` (answer to picture), `prepare` and `restart` (tries
//! and pauses), `work` and `queue` (calls and turns), `pending` (writes first), `report`, `session`, `health`; `files` (secrets and configs); [`probes`] (what the agent asks containers itself), `traffic` (routes, and the wait before a stop).

pub mod action;
pub mod agent;
mod answer;
mod assignment;
mod container;
mod containers;
pub mod engine;
pub mod event;
mod exit;
mod fetch;
mod files;
mod health;
pub mod labels;
mod managers;
mod pending;
mod prepare;
pub mod probes;
mod pulls;
mod queue;
mod reconcile;
mod report;
mod restart;
mod session;
pub mod stored;
mod task;
mod template;
#[cfg(test)]
mod testing;
mod traffic;
mod work;
