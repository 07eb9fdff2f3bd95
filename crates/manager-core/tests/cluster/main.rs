//! Whole clusters of manager cores in memory, driven by one deterministic loop: time, disks and the network are values.

mod agent;
mod audit;
mod authority;
mod deployers;
mod disk;
mod faults;
mod fuzz;
mod jobs;
mod joiners;
mod logins;
mod membership;
mod policies;
mod reenrol;
mod registries;
mod replacement;
mod requests;
mod routes;
mod sealing;
mod secrets;
mod sessions;
mod signatures;
mod users;
mod world;
