//! Tasks' secrets and configs in memory: files on a tmpfs that the engine mounts into containers, read-only.
//!
//! ```text
//! DIR/NODE/              0700
//! DIR/NODE/TASK/0        a secret or config, in the order in which the task mounts them; made whole, then named
//! ```
//!
//! DIR is on a tmpfs or nothing is kept: a secret that would lie on a disk is refused, and its task with it. The agent mounts no tmpfs of
//! its own, because a service manager may give it a view of mounts that the engine does not share. What is on a tmpfs goes with a
//! reboot; it can reach a swap device, unless that is encrypted or there is none.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use agent_core::action::KeptFile;
use model::id::{NodeId, TaskId};
use rustix::{fs::statfs, process::geteuid};

/// Where the kernel keeps files in memory: the one name of a tmpfs.
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// The directory below each place.
const NAME: &str = "orch-agent";

/// Where this node's files are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Files {
    /// What was configured, or where memory usually is.
    places: Vec<PathBuf>,
    node: NodeId,
}

impl Files {
    /// In this directory; `None`: in the first usual one that is on a tmpfs.
    pub fn new(configured: Option<&Path>, node: NodeId) -> Self {
        let usual = || {
            let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            let places = [Some(PathBuf::from("/run")), own, Some(PathBuf::from("/dev/shm"))];
            places.into_iter().flatten().map(|place| place.join(NAME)).collect()
        };
        Self { places: configured.map_or_else(usual, |place| vec![place.to_owned()]), node }
    }

    /// Whether there is memory to keep files in.
    pub fn is_usable(&self) -> bool {
        self.places.iter().any(|place| {
            place.ancestors().find(|parent| parent.exists()).is_some_and(|p| in_memory(p).unwrap_or(false))
        })
    }

    /// Where a file is, if the task's are kept.
    pub fn path(&self, task: TaskId, place: u32) -> Option<PathBuf> {
        self.homes()
            .map(|home| home.join(task.to_string()))
            .find(|home| home.is_dir())
            .map(|home| home.join(place.to_string()))
    }

    /// The tasks whose files are there.
    pub fn kept(&self) -> BTreeSet<TaskId> {
        let entries = self.homes().filter_map(|home| fs::read_dir(home).ok()).flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Keeps the files of a task, in place of any that there were.
    ///
    /// # Errors
    /// There is no memory to keep them in, or an owner cannot be set; nothing is left then.
    pub fn keep(&self, task: TaskId, files: &[KeptFile]) -> Result<(), String> {
        let home = self.home()?;
        let (fresh, whole) = (home.join(format!(".{task}")), home.join(task.to_string()));
        let written = remove(&fresh)
            .and_then(|()| DirBuilder::new().mode(0o700).create(&fresh))
            .and_then(|()| files.iter().try_for_each(|file| write(&fresh, file)))
            .and_then(|()| remove(&whole))
            .and_then(|()| fs::rename(&fresh, &whole));
        written.map_err(|error| {
            drop(remove(&fresh));
            format!("{}: {error}", home.display())
        })
    }

    /// Forgets the files of a task.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn wipe(&self, task: TaskId) -> io::Result<()> {
        self.homes().try_for_each(|home| {
            remove(&home.join(format!(".{task}")))?;
            remove(&home.join(task.to_string()))
        })
    }

    /// Forgets the files of all tasks.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn wipe_all(&self) -> io::Result<()> {
        self.homes().try_for_each(|home| remove(&home))
    }

    fn homes(&self) -> impl Iterator<Item = PathBuf> {
        self.places.iter().map(|place| place.join(self.node.to_string()))
    }

    /// The directory to write in: on a tmpfs, ours, and for nobody else.
    fn home(&self) -> Result<PathBuf, String> {
        let mut why = Vec::new();
        for place in &self.places {
            match prepare(place, &self.node.to_string()) {
                Ok(home) => return Ok(home),
                Err(error) => why.push(format!("{}: {error}", place.display())),
            }
        }
        Err(format!("{}; set `memory_dir` in agent.toml to a directory on a tmpfs", why.join("; ")))
    }
}

fn prepare(place: &Path, node: &str) -> io::Result<PathBuf> {
    let home = place.join(node);
    // What is there already, or would be made, lies on the file system of the nearest parent that exists.
    let parent = home.ancestors().find(|parent| parent.exists()).unwrap_or(place);
    if !in_memory(parent)? {
        return Err(io::Error::other("not on a tmpfs"));
    }
    for directory in [place, &home] {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let found = fs::symlink_metadata(directory)?;
        if !found.is_dir() || found.uid() != geteuid().as_raw() {
            return Err(io::Error::other("is not a directory of this agent's user"));
        }
    }
    fs::set_permissions(&home, Permissions::from_mode(0o700))?;
    if in_memory(&home)? { Ok(home) } else { Err(io::Error::other("not on a tmpfs")) }
}

fn in_memory(path: &Path) -> io::Result<bool> {
    #[allow(clippy::unnecessary_cast, reason = "its width differs between machines")]
    let kind = statfs(path)?.f_type as i64;
    Ok(kind == TMPFS_MAGIC)
}

fn write(directory: &Path, file: &KeptFile) -> io::Result<()> {
    let path = directory.join(file.place.to_string());
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    open.write_all(file.value.reveal())?;
    if file.uid.is_some() || file.gid.is_some() {
        fchown(&open, file.uid, file.gid)?;
    }
    open.set_permissions(Permissions::from_mode(file.mode.0))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use model::{item::FileMode, sealed::Clear};

    use super::*;

    const NODE: NodeId = NodeId(7);
    const TASK: TaskId = TaskId(9);

    fn file(place: u32, value: &str, mode: u32) -> KeptFile {
        let value = Clear::new(value.as_bytes().to_vec());
        KeptFile { place, value, uid: None, gid: None, mode: FileMode(mode) }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn files_are_kept_in_memory_as_declared_until_they_are_wiped() {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let files = Files::new(Some(place.path()), NODE);
        assert_eq!(files.path(TASK, 0), None);
        files.keep(TASK, &[file(0, "one", 0o400), file(1, "two", 0o444)]).unwrap();
        files.keep(TASK, &[file(0, "three", 0o440)]).unwrap();
        let path = files.path(TASK, 0).unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"three"[..], 0o440));
        assert!(!files.path(TASK, 1).unwrap().exists(), "what is not its any more is gone");
        assert_eq!(mode(&place.path().join(NODE.to_string())), 0o700);
        assert_eq!(files.kept(), [TASK].into());
        files.wipe(TASK).unwrap();
        files.wipe(TASK).unwrap();
        assert_eq!((files.kept(), files.path(TASK, 0)), ([].into(), None));
    }

    #[test]
    fn nothing_is_kept_on_a_disk() {
        let place = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let files = Files::new(Some(place.path()), NODE);
        let refusal = files.keep(TASK, &[file(0, "one", 0o400)]).unwrap_err();
        assert!(refusal.contains("not on a tmpfs") && refusal.contains("memory_dir"), "{refusal}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
