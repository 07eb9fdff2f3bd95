//! `logs`: lines of all tasks as they come, each with its task; nodes that are away are named, the others are printed.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
};

use model::{
    request::{LogSource, Request},
    session::{LogFrame, LogOptions},
};

use super::Session;
use crate::{
    args::Logs,
    client::LogStream,
    exit::{Code, Failure},
    output,
};

/// A line that never ends is printed in pieces of this size.
const LONGEST_LINE: usize = 64 << 10;

/// Prints logs.
///
/// # Errors
/// They were refused, or none of them can be read.
pub async fn run(session: &Session, logs: Logs) -> Result<Code, Failure> {
    let options =
        LogOptions { follow: logs.follow, tail: logs.tail, since: logs.since, timestamps: logs.timestamps };
    let request = Request::Logs { of: logs.of.clone(), options };
    let stream = session.client()?.logs(request).await?;
    if stream.plan.is_empty() {
        output::note(format!("{} has no task that has written anything", logs.of));
        return Ok(Code::DONE);
    }
    let style = match (session.global.json, logs.no_prefix) {
        (true, _) => Style::Json,
        (false, true) => Style::Bare,
        (false, false) => Style::Prefixed,
    };
    let mut printer = Printer::new(&stream.plan, style);
    tokio::select! {
        code = follow(stream, &mut printer) => code,
        _ = tokio::signal::ctrl_c() => Ok(Code::INTERRUPTED),
    }
}

async fn follow(mut stream: LogStream, printer: &mut Printer) -> Result<Code, Failure> {
    let mut readable = 0;
    for source in &stream.plan {
        match &source.missing {
            Some(why) => output::warn(format!("no logs of {} on {}: {why}", source.label, source.node)),
            None => readable += 1,
        }
    }
    if readable == 0 {
        return Err(Failure::error("none of the logs can be read now"));
    }
    let mut broken = None;
    loop {
        match stream.next().await {
            Ok(Some(item)) => match item.frame {
                LogFrame::Data { stderr, bytes } => printer.data(item.source, stderr, &bytes),
                LogFrame::End(why) => {
                    printer.end(item.source);
                    if let (Some(why), Some(source)) = (why, stream.plan.get(item.source)) {
                        output::warn(format!("logs of {} on {} end here: {why}", source.label, source.node));
                    }
                }
            },
            Ok(None) => break,
            Err(why) => {
                broken = Some(why);
                break;
            }
        }
    }
    printer.end_all();
    match broken {
        None => Ok(Code::DONE),
        Some(why) => Err(Failure::error(format!("the connection broke: {why}"))),
    }
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Prefixed,
    Bare,
    Json,
}

/// Puts frames together into lines.
struct Printer {
    style: Style,
    /// Per source: task, label and node.
    sources: Vec<(String, String, String)>,
    width: usize,
    /// What of a line has come, per source and stream.
    partial: BTreeMap<(usize, bool), Vec<u8>>,
}

impl Printer {
    fn new(plan: &[LogSource], style: Style) -> Self {
        let sources: Vec<_> =
            plan.iter().map(|s| (s.task.to_string(), s.label.clone(), s.node.clone())).collect();
        let width = sources.iter().map(|(_, label, node)| label.len() + node.len() + 1).max().unwrap_or(0);
        Self { style, sources, width, partial: BTreeMap::new() }
    }

    fn data(&mut self, source: usize, stderr: bool, bytes: &[u8]) {
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

    fn end(&mut self, source: usize) {
        for stderr in [false, true] {
            if let Some(line) = self.partial.remove(&(source, stderr)).filter(|line| !line.is_empty()) {
                self.emit(source, stderr, &line);
            }
        }
    }

    fn end_all(&mut self) {
        for source in 0..self.sources.len() {
            self.end(source);
        }
    }

    fn emit(&self, source: usize, stderr: bool, line: &[u8]) {
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
        Printer::new(&[source("a.1", "h1"), source("a.10", "h1")], style)
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
