//! What a test needs of the machine. A test that cannot run says so aloud, and is a failure where all must run.

use std::io::Write;

use crate::packages;

/// Set by the CI, where a test that does not run is a failed test.
pub const REQUIRE_ALL: &str = "ORCH_REQUIRE_ALL";

/// Something that a test cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Namespaces, links and engines are root's.
    Root,
    /// The Docker Engine's programs; installed on the way when root and missing.
    Docker,
    /// `ip` and `nft`; installed likewise.
    Network,
    /// `systemd-analyze`; installed likewise.
    Units,
    /// `slapd` and `ldapmodify`; installed likewise.
    Directory,
}

impl Need {
    /// Why the need is not met, or `None` when it is.
    pub fn missing(self) -> Option<String> {
        match self {
            Need::Root if !is_root() => Some("needs root".to_owned()),
            Need::Root => None,
            Need::Docker => packages::ensure(&packages::ENGINE).err().map(|error| format!("{error:#}")),
            Need::Network => packages::ensure(&packages::NETWORK).err().map(|error| format!("{error:#}")),
            Need::Units => packages::ensure(&packages::UNITS).err().map(|error| format!("{error:#}")),
            Need::Directory => packages::ensure(&packages::DIRECTORY).err().map(|error| format!("{error:#}")),
        }
    }
}

/// What the laboratory's hosts need.
pub const LAB: [Need; 3] = [Need::Root, Need::Docker, Need::Network];

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether `test` can run here. Prints a `NOT RUN` line past libtest's capture when it cannot.
///
/// # Panics
/// It cannot and [`REQUIRE_ALL`] is set.
pub fn can_run(test: &str, needs: &[Need]) -> bool {
    let Some(reason) = needs.iter().find_map(|need| need.missing()) else {
        return true;
    };
    assert!(std::env::var_os(REQUIRE_ALL).is_none(), "{test}: {reason}, and {REQUIRE_ALL} is set");
    // Written to the handle itself, since libtest swallows what the print macros write in a test that passes.
    // One write, on a line of its own, since other tests write at the same time.
    drop(std::io::stderr().write_all(format!("\nNOT RUN {test}: {reason}\n").as_bytes()));
    false
}
