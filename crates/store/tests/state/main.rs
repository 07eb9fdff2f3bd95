//! The replicated state machine from outside, in one program: each further one would take a minute to build.

mod audit;
mod cluster;
mod common;
mod deployers;
mod items;
mod jobs;
mod networks;
mod pipelines;
mod policies;
mod random;
mod releases;
mod services;
mod tasks;
mod users;
