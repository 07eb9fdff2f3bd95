//! The vocabulary of Orch: ids, times, objects as spec and status, commands, the control API and the agents' conversation.
//!
//! Plain values only. What comes in: text and bytes of users and peers, as serde values; what goes out: types that cannot
//! be wrong, and [`validate`]'s list of everything that is. Not here: how state changes (`store`), what is decided
//! (`control`), how any of it travels (`proto`).
//!
//! Every type is encoded with its field names, so that an older program skips fields that it does not know and a newer
//! one fills what is missing with the default; a change of meaning needs a new field or a new format version.
//!
//! Read in this order: [`id`], [`time`], [`service`], [`rollout`], [`release`], [`hook`], [`job`], [`cron`], [`container`], [`security`], [`probe`], [`network`], [`placement`], [`node`], [`task`], [`cluster`], [`sealed`], [`item`], [`template`], [`registry`], [`signature`], [`policy`], [`access`], [`deployer`],
//! [`route`], [`command`], [`session`], [`request`], [`event`], [`identity`], [`audit`], [`validate`].

pub mod access;
pub mod audit;
pub mod binding;
pub mod cluster;
pub mod command;
pub mod container;
pub mod cron;
pub mod deployer;
pub mod event;
pub mod freeze;
pub mod hash;
pub mod hook;
pub mod id;
pub mod identity;
pub mod issuer;
pub mod item;
pub mod job;
pub mod login;
pub mod network;
pub mod node;
pub mod placement;
pub mod policy;
pub mod probe;
pub mod registry;
pub mod release;
pub mod request;
pub mod rollout;
pub mod route;
pub mod sealed;
pub mod security;
pub mod service;
pub mod session;
pub mod signature;
pub mod task;
pub mod template;
pub mod time;
pub mod validate;
