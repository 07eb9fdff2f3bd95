//! Progress of a change: a live picture on a terminal, one line per change elsewhere.

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// More lines than this help nobody; the others are counted.
const LINES_SHOWN: usize = 20;
const TICK: Duration = Duration::from_millis(100);

/// One thing that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Such as `ispyb.3`; tells lines apart.
    pub label: String,
    /// Its state in words.
    pub text: String,
    /// Nothing more to wait for.
    pub done: bool,
}

/// Shows how far a change has come, on standard error.
pub enum Progress {
    /// A terminal.
    Live(ProgressBar),
    /// A file or a job's log: the last text of each label.
    Plain(BTreeMap<String, String>),
    /// Nobody wants to see it.
    Silent,
}

impl Progress {
    /// Chooses by where standard error goes.
    pub fn new(silent: bool) -> Self {
        if silent {
            Self::Silent
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner().with_style(
                ProgressStyle::with_template("{spinner} {msg}").expect("the template is well-formed"),
            );
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
            Self::Live(bar)
        } else {
            Self::Plain(BTreeMap::new())
        }
    }

    /// Shows the present state.
    pub fn show(&mut self, lines: &[Line]) {
        match self {
            Self::Live(bar) => bar.set_message(picture(lines)),
            Self::Plain(last) => changed(last, lines).iter().for_each(super::note),
            Self::Silent => {}
        }
    }

    /// Ends here: what follows is for somebody else to show.
    pub fn retire(&mut self) {
        self.finish();
        *self = Self::Silent;
    }

    /// Removes the live picture, so that what follows stands alone.
    pub fn finish(&self) {
        if let Self::Live(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// The lines whose text is new, and one for each label that is gone.
fn changed(last: &mut BTreeMap<String, String>, lines: &[Line]) -> Vec<String> {
    let mut news = Vec::new();
    for line in lines {
        if last.get(&line.label) != Some(&line.text) {
            news.push(format!("{}: {}", line.label, line.text));
            last.insert(line.label.clone(), line.text.clone());
        }
    }
    last.retain(|label, _| {
        let stays = lines.iter().any(|line| line.label == *label);
        if !stays {
            news.push(format!("{label}: gone"));
        }
        stays
    });
    news
}

fn picture(lines: &[Line]) -> String {
    let done = lines.iter().filter(|line| line.done).count();
    let width = lines.iter().map(|line| line.label.len()).max().unwrap_or(0);
    let mut picture = format!("{done}/{} ready", lines.len());
    // What is not done yet is what people look for.
    let mut order: Vec<&Line> = lines.iter().collect();
    if lines.len() > LINES_SHOWN {
        order.sort_by_key(|line| line.done);
    }
    for line in order.iter().take(LINES_SHOWN) {
        let mark = if line.done { "✓" } else { "·" };
        picture.push_str(&format!("\n  {mark} {:<width$}  {}", line.label, line.text));
    }
    if lines.len() > LINES_SHOWN {
        picture.push_str(&format!("\n  … and {} more", lines.len() - LINES_SHOWN));
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(label: &str, text: &str, done: bool) -> Line {
        Line { label: label.into(), text: text.into(), done }
    }

    #[test]
    fn a_log_gets_one_line_per_change() {
        let mut last = BTreeMap::new();
        let first = [line("a.1", "pending", false), line("a.2", "running on h1", true)];
        assert_eq!(changed(&mut last, &first), ["a.1: pending", "a.2: running on h1"]);
        assert!(changed(&mut last, &first).is_empty());
        assert_eq!(
            changed(&mut last, &[line("a.1", "running on h2", true)]),
            ["a.1: running on h2", "a.2: gone"]
        );
    }

    #[test]
    fn a_terminal_shows_what_is_not_done_first_when_there_is_much() {
        let mut lines: Vec<Line> = (1..=30).map(|slot| line(&format!("a.{slot}"), "running", true)).collect();
        lines.push(line("a.31", "pending", false));
        let picture = picture(&lines);
        assert!(picture.starts_with("30/31 ready\n  · a.31  pending"), "{picture}");
        assert!(picture.ends_with("… and 11 more"), "{picture}");
    }
}
