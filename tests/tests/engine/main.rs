//! The engine lane: one host with a real Docker Engine.

mod ground;
mod registry;
