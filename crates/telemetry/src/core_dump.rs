//! Keys that stay in memory.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Makes sure that no image of this process's memory, and so no key, is written anywhere when it crashes.
///
/// A limit alone would not do: the kernel does not apply it where `core_pattern` is a program, such as systemd's. A process
/// that is not dumpable cannot be attached to by others of its user either; root still can. Call it first in `main`. Programs
/// that this one starts inherit the limit and nothing else.
///
/// # Errors
/// The kernel refuses. Stop: whoever asks for this has keys to lose.
pub fn forbid_core_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
