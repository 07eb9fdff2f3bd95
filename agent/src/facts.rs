//! What this machine is; what the engine is, the core learns from the engine.

use std::collections::BTreeMap;

use model::node::Facts;

/// Reads the machine's facts. `hostname`: where the configuration says another one.
pub fn read(hostname: Option<&str>, labels: BTreeMap<String, String>) -> Facts {
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Facts {
        hostname: hostname.map_or_else(|| text(system.nodename()), str::to_owned),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        kernel: text(system.release()),
        labels,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        ..Facts::default()
    }
}
