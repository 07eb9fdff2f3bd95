//! Frames of many sources, put together into lines that say whose they are.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    io::{self, Write as _},
    rc::Rc,
};

use model::request::LogSource;

/// A line that never ends is printed in pieces of this size.
const LONGEST_LINE: usize = 64 << 10;

/// Lines kept of one task: a stack trace and what led to it.
pub const LINES_KEPT: usize = 20;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// With task and node before each line.
    Prefixed,
    /// The line alone.
    Bare,
    /// One JSON document per line.
    Json,
}

/// The last lines of each task, by its id.
pub type Kept = Rc<RefCell<BTreeMap<String, VecDeque<String>>>>;

/// Puts frames together into lines.
pub struct Printer {
    style: Style,
    /// Lines go there and are not printed.
    kept: Option<Kept>,
    /// Per source: task, label and node.
    sources: Vec<(String, String, String)>,
    width: usize,
    /// What of a line has come, per source and stream.
    partial: BTreeMap<(usize, bool), Vec<u8>>,
}

impl Printer {
    /// A printer without sources.
    pub fn new(style: Style) -> Self {
        Self { style, kept: None, sources: Vec::new(), width: 0, partial: BTreeMap::new() }
    }

    /// One that prints nothing and keeps the last lines of each task.
    pub fn keeping(kept: Kept) -> Self {
        Self { kept: Some(kept), ..Self::new(Style::Bare) }
    }

    /// Adds the sources of a plan; returns the number of the first, the others follow it.
    pub fn add(&mut self, plan: &[LogSource]) -> usize {
        let first = self.sources.len();
        self.sources.extend(plan.iter().map(|s| (s.task.to_string(), s.label.clone(), s.node.clone())));
        self.width =
            self.sources.iter().map(|(_, label, node)| label.len() + node.len() + 1).max().unwrap_or(0);
        first
    }

    /// Prints the lines that these bytes complete.
    pub fn data(&mut self, source: usize, stderr: bool, bytes: &[u8]) {
        for line in self.lines(source, stderr, bytes) {
            self.emit(source, stderr, &line);
        }
    }

    /// The lines that these bytes complete.
    fn lines(&mut self, source: usize, stderr: bool, bytes: &[u8]) -> Vec<Vec<u8>> {
        let partial = self.partial.entry((source, stderr)).or_default();
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            if partial.ends_with(b"\n") || partial.len() >= LONGEST_LINE {
                let mut line = std::mem::take(partial);
                while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                    line.pop();
                }
                lines.push(line);
            }
        }
        lines
    }

    /// Prints what is left of a source that has ended.
    pub fn end(&mut self, source: usize) {
        for stderr in [false, true] {
            if let Some(line) = self.partial.remove(&(source, stderr)).filter(|line| !line.is_empty()) {
                self.emit(source, stderr, &line);
            }
        }
    }

    fn emit(&self, source: usize, stderr: bool, line: &[u8]) {
        if let (Some(kept), Some((task, _, _))) = (&self.kept, self.sources.get(source)) {
            let mut kept = kept.borrow_mut();
            let lines = kept.entry(task.clone()).or_default();
            lines.push_back(String::from_utf8_lossy(line).into_owned());
            if lines.len() > LINES_KEPT {
                lines.pop_front();
            }
            return;
        }
        let mut text = self.format(source, stderr, line);
        text.push(b'\n');
        // Standard error of a task goes to ours, as Docker does it; JSON says it in a field instead.
        if stderr && self.style != Style::Json {
            let _ = io::stderr().lock().write_all(&text);
        } else if io::stdout().lock().write_all(&text).is_err() {
            std::process::exit(0);
        }
    }

    fn format(&self, source: usize, stderr: bool, line: &[u8]) -> Vec<u8> {
        let Some((task, label, node)) = self.sources.get(source) else { return line.to_vec() };
        match self.style {
            Style::Bare => line.to_vec(),
            Style::Prefixed => {
                let mut text =
                    format!("{:<width$} | ", format!("{label}@{node}"), width = self.width).into_bytes();
                text.extend_from_slice(line);
                text
            }
            Style::Json => {
                let stream = if stderr { "stderr" } else { "stdout" };
                let line = String::from_utf8_lossy(line);
                serde_json::json!({ "task": task, "label": label, "node": node, "stream": stream, "line": line })
                    .to_string()
                    .into_bytes()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::id::TaskId;

    use super::*;

    fn printer(style: Style) -> Printer {
        let source = |label: &str, node: &str| LogSource {
            stream: Some(1),
            task: TaskId(1),
            label: label.into(),
            node: node.into(),
            missing: None,
        };
        let mut printer = Printer::new(style);
        assert_eq!(printer.add(&[source("a.1", "h1")]), 0);
        assert_eq!(printer.add(&[source("a.10", "h1")]), 1);
        printer
    }

    #[test]
    fn frames_become_lines_per_task_and_stream() {
        let mut printer = printer(Style::Prefixed);
        assert!(printer.lines(0, false, b"one").is_empty());
        assert!(printer.lines(1, false, b"other").is_empty());
        assert!(printer.lines(0, true, b"err").is_empty());
        assert_eq!(printer.lines(0, false, b" two\r\nthree\nfo"), [b"one two".to_vec(), b"three".to_vec()]);
        assert_eq!(printer.partial[&(0, false)], b"fo");
        let long = vec![b'x'; LONGEST_LINE + 1];
        assert_eq!(printer.lines(1, true, &long).len(), 1);
    }

    #[test]
    fn a_line_says_whose_it_is() {
        assert_eq!(printer(Style::Prefixed).format(0, false, b"hello"), b"a.1@h1  | hello");
        assert_eq!(printer(Style::Bare).format(0, false, b"hello"), b"hello");
        let json: serde_json::Value =
            serde_json::from_slice(&printer(Style::Json).format(1, true, b"h\"i")).unwrap();
        assert_eq!(
            (&json["label"], &json["stream"], &json["line"]),
            (&"a.10".into(), &"stderr".into(), &"h\"i".into())
        );
    }
}
