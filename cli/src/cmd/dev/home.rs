//! The directory of the cluster on this machine.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::process::Daemon;
use crate::exit::Failure;

/// The directory and the names in it.
pub struct Home(PathBuf);

/// The context that `dev up` makes.
pub const CONTEXT: &str = "dev";

impl Home {
    /// The given directory, else `$XDG_DATA_HOME/orch/dev`, else `~/.local/share/orch/dev`.
    ///
    /// # Errors
    /// There is no home directory.
    pub fn new(dir: Option<PathBuf>, var: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, Failure> {
        let standard = || {
            let base = var("XDG_DATA_HOME").or_else(|| var("HOME").map(|home| home.join(".local/share")));
            base.map(|base| base.join("orch/dev"))
        };
        let dir = dir.or_else(standard).ok_or_else(|| Failure::error("HOME is not set: give --dir"))?;
        // The daemons get the same path whatever directory they are started in.
        std::path::absolute(&dir).map(Self).map_err(|error| Failure::file("find", &dir, &error))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// The manager's data.
    pub fn manager_dir(&self) -> PathBuf {
        self.0.join("manager")
    }

    /// The agent's data.
    pub fn agent_dir(&self) -> PathBuf {
        self.0.join("agent")
    }

    /// The context as the manager wrote it.
    pub fn context_file(&self) -> PathBuf {
        self.0.join("context.toml")
    }

    /// The manager's process.
    pub fn manager(&self) -> Daemon {
        Daemon::new(&self.0, "manager")
    }

    /// The agent's process.
    pub fn agent(&self) -> Daemon {
        Daemon::new(&self.0, "agent")
    }

    /// Whether `up` made it; anything else is left alone.
    pub fn is_made(&self) -> bool {
        self.mark().exists()
    }

    /// Makes the directory and marks it as ours.
    ///
    /// # Errors
    /// It holds something else, or cannot be made.
    pub fn make(&self) -> Result<(), Failure> {
        let foreign = || {
            Failure::error(format!(
                "{} is not empty and was not made by orchctl dev up: give another --dir",
                self.0.display()
            ))
        };
        match fs::read_dir(&self.0) {
            Ok(entries) => {
                if entries.count() > 0 && !self.is_made() {
                    return Err(foreign());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.0).map_err(|error| Failure::file("create", &self.0, &error))?;
            }
            Err(error) => return Err(Failure::file("read", &self.0, &error)),
        }
        self.write(&self.mark(), "made by orchctl dev up; orchctl dev down removes this directory\n")
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// It is not ours, or cannot be removed.
    pub fn remove(&self) -> Result<(), Failure> {
        if !self.is_made() {
            return Ok(());
        }
        fs::remove_dir_all(&self.0).map_err(|error| Failure::file("remove", &self.0, &error))
    }

    /// The cluster's id, once it is known.
    pub fn cluster(&self) -> Option<String> {
        self.read("cluster")
    }

    /// Remembers the cluster's id.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_cluster(&self, id: &str) -> Result<(), Failure> {
        self.write(&self.0.join("cluster"), id)
    }

    /// The context that was current before `up`.
    pub fn previous_context(&self) -> Option<String> {
        self.read("previous-context")
    }

    /// Remembers the context that was current before `up`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_previous_context(&self, name: &str) -> Result<(), Failure> {
        self.write(&self.0.join("previous-context"), name)
    }

    fn mark(&self) -> PathBuf {
        self.0.join("orchctl-dev")
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.0.join(name))
            .ok()
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), Failure> {
        fs::write(path, text).map_err(|error| Failure::file("write", path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_made_is_neither_used_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
        let home = Home::new(Some(dir.path().into()), |_| None).unwrap();
        assert!(home.make().unwrap_err().message.contains("not made by"));
        home.remove().unwrap();
        assert!(dir.path().join("thesis.tex").exists());
    }

    #[test]
    fn what_was_made_is_removed_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(None, |name| (name == "XDG_DATA_HOME").then(|| dir.path().into())).unwrap();
        home.make().unwrap();
        home.make().expect("a second time finds its own");
        home.set_cluster("abc").unwrap();
        assert_eq!((home.cluster(), home.previous_context()), (Some("abc".into()), None));
        home.remove().unwrap();
        assert!(!home.dir().exists());
    }
}
