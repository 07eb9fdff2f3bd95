//! What happened, twice: as a running hash, always; as lines, when asked for (a failing seed is run again with them).

use std::collections::VecDeque;

use model::hash::Fnv;

use crate::queue::{SEC, Time};

/// Lines kept; more than any trimmed trace shows.
const MAX_LINES: usize = 200_000;

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    at: Time,
    /// Faults are always shown.
    fault: bool,
    text: String,
}

/// The trace of a run.
pub(crate) struct Trace {
    hash: Fnv,
    lines: Option<VecDeque<Line>>,
}

impl Trace {
    pub(crate) fn new(with_lines: bool) -> Self {
        Self { hash: Fnv::new(), lines: with_lines.then(VecDeque::new) }
    }

    /// Adds numbers to the hash.
    pub(crate) fn mark(&mut self, at: Time, what: u64, detail: u64) {
        self.hash.write_u64(at);
        self.hash.write_u64(what ^ detail.rotate_left(32));
    }

    /// Adds a line, if lines are wanted.
    pub(crate) fn line(&mut self, at: Time, text: impl FnOnce() -> String) {
        self.push(at, false, text);
    }

    /// Adds the line of a fault.
    pub(crate) fn fault(&mut self, at: Time, text: impl FnOnce() -> String) {
        self.push(at, true, text);
    }

    fn push(&mut self, at: Time, fault: bool, text: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else { return };
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        lines.push_back(Line { at, fault, text: text() });
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// The last lines that speak of one of these, and the faults among them.
    pub(crate) fn about(&self, about: &[String], most: usize) -> Vec<String> {
        let Some(lines) = &self.lines else { return Vec::new() };
        let concerns = |line: &Line| {
            about.is_empty() || line.fault || about.iter().any(|word| line.text.contains(word.as_str()))
        };
        let mut chosen: Vec<String> =
            lines.iter().rev().filter(|line| concerns(line)).take(most).map(show).collect();
        chosen.reverse();
        chosen
    }

    /// All lines.
    pub(crate) fn all(&self) -> Vec<String> {
        self.lines.iter().flatten().map(show).collect()
    }
}

fn show(line: &Line) -> String {
    let (secs, micros) = (line.at / SEC, line.at % SEC / 1_000);
    format!("{secs:>4}.{micros:06} {}{}", if line.fault { "FAULT " } else { "" }, line.text)
}
