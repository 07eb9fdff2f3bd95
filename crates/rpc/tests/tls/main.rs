//! The TLS layer over real sockets on loopback.

mod cluster;
mod floods;
mod refusals;
mod reload;
mod rotation;
mod session;
