//! How the story is told: numbered scenes, one line a fact, times in one column.

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Where the times stand.
const COLUMN: usize = 62;

/// The screen, and the times that were measured on it.
pub struct Stage {
    colours: bool,
    scene: usize,
    times: Vec<(String, Duration)>,
}

impl Stage {
    /// An empty one; bold and dim only on a terminal.
    pub fn new() -> Stage {
        Stage { colours: std::io::stdout().is_terminal(), scene: 0, times: Vec::new() }
    }

    /// A heading.
    pub fn title(&self, text: &str) {
        self.print(&format!("\n{}", self.bold(text)));
    }

    /// A line of the set-up.
    pub fn fact(&self, what: &str, text: &str) {
        self.print(&format!("  {what:<10} {text}"));
    }

    /// The next scene.
    pub fn scene(&mut self, text: &str) {
        self.scene += 1;
        self.print(&format!("\n{}", self.bold(&format!("{}. {text}", self.scene))));
    }

    /// A command as a person would type it.
    pub fn command(&self, line: &str) {
        self.print(&format!("   {}", self.bold(&format!("$ {line}"))));
    }

    /// A sentence.
    pub fn say(&self, text: &str) {
        self.print(&format!("   {text}"));
    }

    /// A measured time, with its meaning.
    pub fn time(&self, what: &str, took: Duration) {
        self.print(&format!("   {what:<width$}{:>9}", seconds(took), width = COLUMN - 3));
    }

    /// A measured time that belongs into the summary too.
    pub fn mark(&mut self, what: &str, took: Duration) {
        self.time(what, took);
        self.times.push((what.to_owned(), took));
    }

    /// Output of a command, indented.
    pub fn quote(&self, text: &str) {
        for line in text.lines() {
            self.print(&self.dim(&format!("     {}", line.trim_end())));
        }
    }

    /// What was measured, once more and together.
    pub fn summary(&self) {
        self.title("Measured");
        for (what, took) in &self.times {
            self.print(&format!("  {what:<width$}{:>9}", seconds(*took), width = COLUMN - 2));
        }
    }

    /// A line as it is.
    pub fn print(&self, line: &str) {
        // A closed pipe ends the story's listener, not the cluster.
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    fn bold(&self, text: &str) -> String {
        if self.colours { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn dim(&self, text: &str) -> String {
        if self.colours { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `412 ms` or `1.94 s`.
pub fn seconds(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{} ms", took.as_millis())
    } else {
        format!("{:.2} s", took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_are_milliseconds_and_long_ones_seconds() {
        assert_eq!(seconds(Duration::from_micros(412_600)), "412 ms");
        assert_eq!(seconds(Duration::from_millis(1_944)), "1.94 s");
    }
}
