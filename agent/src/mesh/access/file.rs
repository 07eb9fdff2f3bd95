//! Files of bounded size and number: `access.log` is the newest, then `access.log.1` and so on.
//!
//! Two processes may write for a while (one serves, the other ends), and an admin may move the file: so before each write the file is
//! looked at, and opened anew when it is another one. A write is of whole lines and goes to the end of the file.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::PathBuf,
};

use super::Place;

/// The files of one log.
#[derive(Debug)]
pub struct Files {
    place: Place,
    open: Option<File>,
}

impl Files {
    /// None is open.
    pub fn new(place: Place) -> Self {
        Self { place, open: None }
    }

    /// Writes whole lines. What was written of them when it fails is not known.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn append(&mut self, mut lines: &[u8]) -> io::Result<()> {
        while !lines.is_empty() {
            let size = self.look()?;
            let room = usize::try_from(self.place.size.saturating_sub(size)).unwrap_or(usize::MAX);
            let fitting = lines[..room.min(lines.len())].iter().rposition(|byte| *byte == b'\n');
            let end = match fitting {
                Some(last) => last + 1,
                None if size > 0 => {
                    self.rotate()?;
                    continue;
                }
                // One that is longer than a file has one for itself.
                None => lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |last| last + 1),
            };
            let mut file = match self.open.take() {
                Some(file) => file,
                None => self.create()?,
            };
            file.write_all(&lines[..end])?;
            self.open = Some(file);
            lines = &lines[end..];
        }
        Ok(())
    }

    /// The size of the file that is written; it is open afterwards if it is there.
    fn look(&mut self) -> io::Result<u64> {
        let named = match fs::metadata(&self.place.path) {
            Ok(named) => named,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.open = None;
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        let is_open = match &self.open {
            Some(file) => {
                let own = file.metadata()?;
                (own.dev(), own.ino()) == (named.dev(), named.ino())
            }
            None => false,
        };
        if !is_open {
            self.open = Some(self.create()?);
        }
        Ok(named.len())
    }

    fn create(&self) -> io::Result<File> {
        if let Some(directory) = self.place.path.parent() {
            fs::create_dir_all(directory)?;
            // Who may not read the agent's directory may not read who asked for what.
            fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        }
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.place.path)
    }

    /// The oldest file is replaced by the next younger one, and so on; the newest is begun anew.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        for number in (1..self.place.files).rev() {
            match fs::rename(self.numbered(number - 1), self.numbered(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.place.files <= 1 {
            fs::remove_file(&self.place.path)?;
        }
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.place.path.clone().into_os_string();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn files(directory: &tempfile::TempDir, files: u32) -> Files {
        Files::new(Place { path: directory.path().join("log/access.log"), size: 100, files })
    }

    fn names(directory: &tempfile::TempDir) -> BTreeSet<String> {
        let entries = fs::read_dir(directory.path().join("log")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn no_more_files_than_allowed_are_kept_and_none_is_larger() {
        let directory = tempfile::tempdir().unwrap();
        for kept in [1, 3] {
            let mut files = files(&directory, kept);
            for number in 0..50 {
                files
                    .append(format!("line {:03}\nline {:03}\n", 2 * number, 2 * number + 1).as_bytes())
                    .unwrap();
            }
            let many: String = (0..100).map(|number| format!("line {number:03}\n")).collect();
            files.append(many.as_bytes()).unwrap();
            assert_eq!(names(&directory).len(), kept as usize);
            for name in names(&directory) {
                let text = fs::read_to_string(directory.path().join("log").join(name)).unwrap();
                assert!(text.len() <= 100 && text.ends_with('\n') && text.starts_with("line "), "{text}");
            }
            let newest = fs::read_to_string(directory.path().join("log/access.log")).unwrap();
            assert!(newest.ends_with("line 099\n"), "{newest}");
        }
    }

    #[test]
    fn a_file_that_somebody_moved_or_removed_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let (mut files, path) = (files(&directory, 2), directory.path().join("log/access.log"));
        files.append(b"one\n").unwrap();
        fs::rename(&path, path.with_extension("moved")).unwrap();
        files.append(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        fs::remove_dir_all(directory.path().join("log")).unwrap();
        files.append(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn two_processes_write_to_one_file_and_begin_the_next_one_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut both = [files(&directory, 4), files(&directory, 4)];
        for number in 0..24 {
            both[number % 2].append(format!("line {number:02}..\n").as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(directory.path().join("log").join(name)).unwrap();
        let all = ["access.log.2", "access.log.1", "access.log"].map(read).concat();
        let expected: String = (0..24).map(|number| format!("line {number:02}..\n")).collect();
        assert_eq!(all, expected);
    }
}
