//! Values that must lie nowhere: random, planted where secrets come in, then looked for in everything that stays.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use memchr::memmem::Finder;

/// What is no secret, to see that looking finds.
pub const CONTROL: &str = "control";

/// A fresh value that occurs nowhere else.
///
/// # Errors
/// The machine has no entropy.
pub fn fresh() -> Result<String> {
    Ok(format!("canary-{}", hex(&random::<12>()?)))
}

/// Bytes that nobody guesses.
///
/// # Errors
/// The machine has no entropy.
pub fn random<const COUNT: usize>() -> Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes)
}

/// A value, by all names under which it may lie somewhere.
#[derive(Debug)]
struct Canary {
    what: &'static str,
    shapes: Vec<Vec<u8>>,
}

/// All that were planted.
#[derive(Debug, Default)]
pub struct Canaries(Vec<Canary>);

/// Where one was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Find {
    pub what: &'static str,
    pub place: String,
}

/// What was looked through, and found.
#[derive(Debug, Default)]
pub struct Search {
    pub files: usize,
    pub bytes: u64,
    pub finds: Vec<Find>,
}

impl Canaries {
    /// One more: looked for as it is, in hex and in base64.
    pub fn plant(&mut self, what: &'static str, value: &[u8]) {
        let mut shapes =
            vec![value.to_vec(), hex(value).into_bytes(), hex(value).to_uppercase().into_bytes()];
        shapes.extend((0..3).map(|lead| within_base64(value, lead)));
        self.0.push(Canary { what, shapes });
    }

    /// One more that is looked for as it is only.
    pub fn plant_text(&mut self, what: &'static str, text: &str) {
        self.0.push(Canary { what, shapes: vec![text.as_bytes().to_vec()] });
    }

    /// How many secrets there are.
    pub fn count(&self) -> usize {
        let mut names: Vec<&str> = self.0.iter().map(|canary| canary.what).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter(|name| *name != CONTROL).count()
    }

    /// Looks through some bytes.
    pub fn look(&self, search: &mut Search, place: &str, bytes: &[u8]) {
        search.files += 1;
        search.bytes += bytes.len() as u64;
        for canary in &self.0 {
            if canary.shapes.iter().any(|shape| Finder::new(shape).find(bytes).is_some()) {
                search.finds.push(Find { what: canary.what, place: place.to_owned() });
            }
        }
    }

    /// Looks through every file below a directory but those whose path `skip` takes: what a daemon keeps for itself.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn look_below(&self, search: &mut Search, dir: &Path, skip: &dyn Fn(&Path) -> bool) -> Result<()> {
        for path in files_below(dir)? {
            if skip(&path) {
                continue;
            }
            match std::fs::read(&path) {
                Ok(bytes) => self.look(search, &path.display().to_string(), &bytes),
                // A daemon that runs renames and removes files.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        Ok(())
    }
}

impl Search {
    /// Finds that are a leak.
    pub fn leaks(&self) -> impl Iterator<Item = &Find> {
        self.finds.iter().filter(|find| find.what != CONTROL)
    }

    /// Whether what is no secret was found: otherwise nothing would have been.
    pub fn can_find(&self) -> bool {
        self.finds.iter().any(|find| find.what == CONTROL)
    }
}

/// Files below a directory; sockets and the like hold nothing.
fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())?.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The part of a text in base64 that a value gives it, whatever stands around it; `lead` says where in a group of three bytes it begins.
fn within_base64(value: &[u8], lead: usize) -> Vec<u8> {
    let whole = STANDARD.encode([&vec![0; lead][..], value].concat());
    let begin = [0, 2, 3][lead];
    let bits = (lead + value.len()) * 8;
    whole.as_bytes()[begin..bits / 6].to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(text: &str) -> bool {
        let mut canaries = Canaries::default();
        canaries.plant("one", b"canary-0123");
        let mut search = Search::default();
        canaries.look(&mut search, "here", text.as_bytes());
        search.leaks().next().is_some()
    }

    #[test]
    fn a_value_is_found_in_every_shape_and_at_every_place() {
        assert!(finds("x canary-0123 y") && finds(&hex(b"a canary-0123")));
        for lead in ["", "a", "ab", "abc"] {
            for rest in ["", "z", "zy"] {
                assert!(finds(&STANDARD.encode(format!("{lead}canary-0123{rest}"))), "{lead} {rest}");
            }
        }
        assert!(!finds("canary-9123") && !finds(&STANDARD.encode("canary-9123")));
    }

    #[test]
    fn the_control_is_no_leak_and_says_that_looking_finds() {
        let mut canaries = Canaries::default();
        canaries.plant("login", b"hunter2hunter2");
        canaries.plant(CONTROL, b"nothing-secret");
        let mut search = Search::default();
        canaries.look(&mut search, "here", b"nothing-secret");
        assert_eq!((search.leaks().count(), search.can_find()), (0, true));
        canaries.look(&mut search, "there", b"hunter2hunter2");
        assert_eq!(search.leaks().count(), 1);
        assert_eq!(canaries.count(), 1);
    }
}
