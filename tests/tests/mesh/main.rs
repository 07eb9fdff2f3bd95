//! The mesh process alone: the real program, an agent's side of its control socket, and replicas on addresses of loopback.

#[cfg(test)]
mod access;
#[cfg(test)]
mod backend;
#[cfg(test)]
mod client;
#[cfg(test)]
mod h2c;
#[cfg(test)]
mod http;
#[cfg(test)]
mod lean;
#[cfg(test)]
mod namespace;
#[cfg(test)]
mod networks;
#[cfg(test)]
mod remote;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod secure;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod tcp;
