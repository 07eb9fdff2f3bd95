//! The hosts lane: several hosts on one switch.

mod ground;
