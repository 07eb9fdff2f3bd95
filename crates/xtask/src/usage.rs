//! What a daemon holds of its machine.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, Result};
use tests::cluster::daemon::Daemon;

/// Bytes resident.
///
/// # Errors
/// It does not run; as with every figure here.
pub fn memory(daemon: &Daemon) -> Result<f64> {
    memory_of(pid(daemon)?)
}

/// The same, of any process.
///
/// # Errors
/// As [`memory`].
pub fn memory_of(pid: i32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}

/// Seconds of CPU so far; the kernel counts hundredths.
///
/// # Errors
/// As [`memory`].
pub fn cpu(daemon: &Daemon) -> Result<f64> {
    cpu_of(pid(daemon)?)
}

/// The same, of any process.
///
/// # Errors
/// As [`memory`].
pub fn cpu_of(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("stat")?.split_whitespace().collect();
    let ticks =
        |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).context("a field of stat");
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// Open descriptors.
///
/// # Errors
/// As [`memory`].
pub fn descriptors(daemon: &Daemon) -> Result<f64> {
    Ok(fs::read_dir(format!("/proc/{}/fd", pid(daemon)?))?.count() as f64)
}

/// Bytes that its data directory takes on the disk.
///
/// # Errors
/// The directory cannot be read.
pub fn disk(daemon: &Daemon) -> Result<f64> {
    Ok(under(daemon.dir())? as f64)
}

/// A file that goes meanwhile takes nothing.
fn under(path: &Path) -> Result<u64> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(0) };
    // The kernel counts in these, whatever the file system's own blocks are.
    let own = found.blocks() * 512;
    if !found.is_dir() {
        return Ok(own);
    }
    let entries = fs::read_dir(path)?;
    entries.map(|entry| under(&entry?.path())).try_fold(own, |sum, size| Ok(sum + size?))
}

fn pid(daemon: &Daemon) -> Result<i32> {
    daemon.pid().with_context(|| format!("{} does not run", daemon.name()))
}
