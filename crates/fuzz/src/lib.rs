//! Feeds a reader with inputs that nobody wrote: kept ones, samples of today's format, and mutations of both.
//!
//! In: a target that takes bytes and says how it answered. Out: a test that fails with the input that made it panic.
//! Guided by behaviour, not by coverage: an input that is answered in a way that was not seen before joins those that are
//! mutated further. Coverage needs a compiler flag, a C++ runtime and a second build of everything; behaviour needs a
//! string, and leads a reader with many refusals as deep.
//!
//! `ORCH_FUZZ_SECONDS` says how long each target runs (less than a second unless told), `ORCH_FUZZ_SEED` from which seed;
//! `ORCH_FUZZ_SAVE` writes a few of the inputs that were found to the target's corpus.

mod mutate;

use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::Mutator;

/// How long a target runs as a part of the test suite.
const SHORT: Duration = Duration::from_millis(600);
/// Inputs that are mutated further; a bound on memory.
const MAX_POOL: usize = 2_048;
/// Inputs that `ORCH_FUZZ_SAVE` writes, and their size.
const SAVED: usize = 12;
const SAVED_BYTES: usize = 2_048;

/// A reader under test.
pub struct Fuzz {
    name: &'static str,
    corpus: PathBuf,
    samples: Vec<Vec<u8>>,
}

impl Fuzz {
    /// A target called `name`, whose kept inputs are in `root/tests/corpus/NAME`; `root` is its package's directory.
    pub fn new(root: &str, name: &'static str) -> Self {
        Self { name, corpus: Path::new(root).join("tests/corpus").join(name), samples: Vec::new() }
    }

    /// Begins with these, too: what is written today.
    #[must_use]
    pub fn samples(mut self, samples: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.samples.extend(samples);
        self
    }

    /// Feeds `target` until the time is over. It returns its answer in words; digits in them do not count.
    ///
    /// # Panics
    /// The target does; the message says where the input was written.
    pub fn run(self, mut target: impl FnMut(&[u8]) -> String) {
        let seconds = number("ORCH_FUZZ_SECONDS");
        let limit = seconds.map_or(SHORT, Duration::from_secs);
        let mut mutator = Mutator::new(number("ORCH_FUZZ_SEED").unwrap_or(1));
        let kept = self.kept();
        let mut run = Run { name: self.name, inputs: 0, answers: HashSet::new(), pool: Vec::new() };
        for input in kept.iter().chain(&self.samples).chain([&Vec::new()]) {
            run.feed(input.clone(), &mut target);
        }
        // Samples are worth mutating whether or not one was answered like another.
        run.pool.extend(kept.iter().chain(&self.samples).cloned());
        let begun = Instant::now();
        let mut found = Vec::new();
        while begun.elapsed() < limit {
            let input = mutator.mutate(&run.pool);
            if run.feed(input.clone(), &mut target) {
                found.push(input);
            }
        }
        if std::env::var_os("ORCH_FUZZ_SAVE").is_some() {
            self.save(found);
        }
        let line =
            format!("\ncounted: {} inputs of {}, {} answers\n", run.inputs, self.name, run.answers.len());
        std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
    }

    fn kept(&self) -> Vec<Vec<u8>> {
        let Ok(entries) = fs::read_dir(&self.corpus) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        files.iter().map(|file| fs::read(file).expect("the corpus is readable")).collect()
    }

    fn save(&self, mut found: Vec<Vec<u8>>) {
        found.retain(|input| input.len() <= SAVED_BYTES);
        let step = found.len().div_ceil(SAVED).max(1);
        fs::create_dir_all(&self.corpus).expect("a directory");
        for input in found.iter().step_by(step) {
            fs::write(self.corpus.join(format!("{:016x}", hash(input))), input).expect("written");
        }
    }
}

struct Run {
    name: &'static str,
    inputs: u64,
    answers: HashSet<u64>,
    pool: Vec<Vec<u8>>,
}

impl Run {
    /// Whether the answer is new.
    fn feed(&mut self, input: Vec<u8>, target: &mut impl FnMut(&[u8]) -> String) -> bool {
        self.inputs += 1;
        let answer = catch_unwind(AssertUnwindSafe(|| target(&input))).unwrap_or_else(|panic| {
            let file = std::env::temp_dir().join(format!("orch-fuzz-{}-{:016x}", self.name, hash(&input)));
            fs::write(&file, &input).expect("the temporary directory is writable");
            eprintln!("{} panicked; the input: {} ({} bytes)", self.name, file.display(), input.len());
            resume_unwind(panic)
        });
        let words: String = answer.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        let new = self.answers.insert(hash(&words));
        if new && self.pool.len() < MAX_POOL {
            self.pool.push(input);
        }
        new
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_with_a_hole_behind_two_refusals_is_caught() {
        let reader = |input: &[u8]| {
            let Some(rest) = input.strip_prefix(b"or") else { return "no magic".to_owned() };
            match rest {
                [] => "empty".to_owned(),
                [length, data @ ..] if usize::from(*length) > data.len() => {
                    format!("too short by {}", data[data.len() - 1])
                }
                _ => "read".to_owned(),
            }
        };
        let fuzz = Fuzz::new("/nonexistent", "hole").samples([b"or\x01a".to_vec()]);
        let caught = catch_unwind(AssertUnwindSafe(|| fuzz.run(reader)));
        assert!(caught.is_err(), "an empty body with a length is an index out of bounds");
    }
}
