//! The border to the storage device: the only way in which this crate touches files.
//!
//! The trait is as small as the log needs, so that a simulated disk can be exact about what a power cut keeps. Names
//! are flat: a data directory has no folders. Both traits are object-safe; the log holds `Arc<dyn Disk>`, so that a
//! snapshot can be written on another thread while the log goes on.

use std::io;
use std::sync::Arc;

/// One data directory.
///
/// # Guarantees that an implementation gives
/// - What `DiskFile::sync` returned `Ok` for survives a power cut.
/// - A created, renamed or removed name survives a power cut once `sync_dir` returned `Ok`; before that, either state
///   may come back, but a rename never loses both names.
///
/// # Assumptions that the log makes about writes that were not synced
/// Each byte holds either its old or its new value after a power cut, and within one 512-byte sector the new bytes are
/// a prefix or a suffix. Sectors may arrive in any order, each one or none.
pub trait Disk: Send + Sync {
    /// Creates a file, or empties the one that has this name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Removes a file. Handles that are open keep working.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Renames a file, replacing the target.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Lists the names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes earlier creates, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Returns how many bytes can still be written to new files.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Takes the directory for this process alone; `false` when another holds it.
    fn try_lock(&self) -> io::Result<bool>;

    /// Gives the directory back. Does nothing when it is not held.
    fn unlock(&self);
}

/// One open file.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes; 0 means the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `data`. After an error any part of it may have been written.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes all earlier writes to this file durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;

    /// Returns the length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Returns whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Reads a whole file, or what is there of it.
pub(crate) fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.len()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut bytes = vec![0; length];
    let filled = read_full(file, 0, &mut bytes)?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// Fills `buffer` from `offset` and returns how much there was.
pub(crate) fn read_full(file: &dyn DiskFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(offset + filled as u64, &mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Returns whether an error means that the file system is full.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
