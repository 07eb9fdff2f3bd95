//! The mesh process alone: the real program, an agent's side of its control socket, and replicas on addresses of loopback.

mod backend;
mod client;
mod http;
mod remote;
mod rotation;
mod stage;
mod tcp;
