//! What is left of attempts whose containers are gone: the last lines that each printed, and what its diagnosis brought.
//!
//! A crash loop removes its containers, so that it never fills a disk; why the attempt before the last one failed is still worth knowing.
//! Bounded: [`OF_A_TASK`] attempts of a task, [`FILES`] files in all, [`MAX_FILE`] bytes each. Nothing depends on these files; what
//! cannot be written or read is said in the log and left.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use agent_core::engine::AttemptId;
use model::{id::TaskId, task::MAX_ATTEMPTS_KEPT};

/// The directory in the agent's own.
pub const DIRECTORY: &str = "attempts";
/// Lines of an attempt, the last ones.
pub const LINES: u32 = 200;
/// Attempts of one task, the newest ones: as many as its record names.
const OF_A_TASK: usize = MAX_ATTEMPTS_KEPT;
/// Files of all tasks, the newest ones.
const FILES: usize = 512;
/// Bytes of one file.
const MAX_FILE: usize = 64 << 10;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The container's output.
    Output,
    /// What the container was asked before it was stopped as unhealthy.
    Diagnosis,
}

impl What {
    fn suffix(self) -> &'static str {
        match self {
            Self::Output => "log",
            Self::Diagnosis => "diagnosis",
        }
    }
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// On standard error.
    pub stderr: bool,
    /// With the engine's time stamp and a blank before it, without the line's end.
    pub text: Vec<u8>,
}

/// What is left of an attempt; empty where nothing is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The last lines of its container.
    pub output: Vec<Line>,
    /// What it answered before it was stopped as unhealthy.
    pub diagnosis: Vec<Line>,
}

/// The files. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Attempts {
    directory: PathBuf,
}

impl Attempts {
    /// In the agent's directory. Nothing is made before there is something to keep.
    pub fn new(agent: &Path) -> Self {
        Self { directory: agent.join(DIRECTORY) }
    }

    /// Keeps lines of an attempt, in place of what was kept before; the last ones when they are too many.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn keep(&self, attempt: AttemptId, what: What, lines: &[Line]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let name = format!("{}.{}.{}", attempt.task, attempt.number, what.suffix());
        let path = self.directory.join(name);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(&encode(lines))?;
        self.prune(attempt.task)
    }

    /// Everything of a task, by attempt.
    pub fn of(&self, task: TaskId) -> BTreeMap<u32, Kept> {
        let mut kept: BTreeMap<u32, Kept> = BTreeMap::new();
        for (found, path) in self.files().unwrap_or_default() {
            if found.task == task
                && let Ok(contents) = fs::read(&path)
            {
                let attempt = kept.entry(found.number).or_default();
                match found.what {
                    What::Output => attempt.output = decode(&contents),
                    What::Diagnosis => attempt.diagnosis = decode(&contents),
                }
            }
        }
        kept
    }

    fn files(&self) -> io::Result<Vec<(Found, PathBuf)>> {
        let paths = fs::read_dir(&self.directory)?.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(paths.filter_map(|path| Some((Found::parse(path.file_name()?.to_str()?)?, path))).collect())
    }

    fn prune(&self, task: TaskId) -> io::Result<()> {
        let mut files = self.files()?;
        let mut numbers: Vec<u32> =
            files.iter().filter(|(found, _)| found.task == task).map(|(found, _)| found.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let oldest = numbers.len().checked_sub(OF_A_TASK).map_or(0, |surplus| numbers[surplus]);
        let (old, mut rest): (Vec<_>, Vec<_>) =
            files.drain(..).partition(|(found, _)| found.task == task && found.number < oldest);
        let surplus = rest.len().saturating_sub(FILES);
        if surplus > 0 {
            rest.sort_by_key(|(_, path)| written(path));
        }
        for (_, path) in old.iter().chain(&rest[..surplus]) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn written(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What a file's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    task: TaskId,
    number: u32,
    what: What,
}

impl Found {
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let (task, number, suffix) =
            (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        let what = [What::Output, What::Diagnosis].into_iter().find(|what| what.suffix() == suffix)?;
        parts.next().is_none().then_some(Self { task, number, what })
    }
}

/// Each line after `o` or `e` for its stream.
fn encode(lines: &[Line]) -> Vec<u8> {
    let mut size = 0;
    let fits = |line: &&Line| {
        size += line.text.len() + 2;
        size <= MAX_FILE
    };
    let mut last: Vec<&Line> = lines.iter().rev().take_while(fits).collect();
    last.reverse();
    let mut contents = Vec::new();
    for line in last {
        contents.push(if line.stderr { b'e' } else { b'o' });
        contents.extend_from_slice(&line.text);
        contents.push(b'\n');
    }
    contents
}

fn decode(contents: &[u8]) -> Vec<Line> {
    let lines = contents.split(|byte| *byte == b'\n').filter_map(|line| line.split_first());
    lines.map(|(stream, text)| Line { stderr: *stream == b'e', text: text.to_vec() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId(7);

    fn line(text: &str) -> Line {
        Line { stderr: text.contains("wrong"), text: text.as_bytes().to_vec() }
    }

    fn attempt(task: TaskId, number: u32) -> AttemptId {
        AttemptId { task, number }
    }

    #[test]
    fn lines_come_back_with_their_stream_and_a_task_sees_its_own_only() {
        let place = tempfile::tempdir().unwrap();
        let attempts = Attempts::new(place.path());
        assert!(attempts.of(TASK).is_empty());
        let lines = [line("2026-01-01T00:00:00Z up"), line("2026-01-01T00:00:01Z wrong"), line("")];
        attempts.keep(attempt(TASK, 1), What::Output, &lines).unwrap();
        attempts.keep(attempt(TASK, 1), What::Diagnosis, &lines[1..2]).unwrap();
        attempts.keep(attempt(TaskId(8), 1), What::Output, &lines).unwrap();
        let kept = attempts.of(TASK);
        assert_eq!(kept[&1].output, lines);
        assert_eq!(kept[&1].diagnosis, lines[1..2]);
    }

    #[test]
    fn newest_five_attempts_of_a_task_are_kept_and_the_last_lines_of_each() {
        let place = tempfile::tempdir().unwrap();
        let attempts = Attempts::new(place.path());
        let long: Vec<Line> = (0..2_000).map(|number| line(&format!("{number:>99}"))).collect();
        for number in 1..=12 {
            attempts.keep(attempt(TASK, number), What::Output, &long).unwrap();
        }
        let kept = attempts.of(TASK);
        assert_eq!(kept.keys().copied().collect::<Vec<_>>(), [8, 9, 10, 11, 12]);
        let lines = &kept[&12].output;
        assert_eq!(lines.last(), long.last());
        assert_eq!(lines.len(), MAX_FILE / 101);
    }

    #[test]
    fn files_of_all_tasks_are_bounded_and_the_oldest_go_first() {
        let place = tempfile::tempdir().unwrap();
        let attempts = Attempts::new(place.path());
        for task in 0..FILES as u64 + 3 {
            attempts.keep(attempt(TaskId(task), 1), What::Output, &[line("up")]).unwrap();
        }
        assert_eq!(attempts.files().unwrap().len(), FILES);
        assert!(!attempts.of(TaskId(FILES as u64 + 2)).is_empty());
    }
}
