//! The table at the end of a run.

use std::fmt::Write;
use std::time::Duration;

use super::lane::Outcome;

/// One line a lane, the whole time, and a `NOT RUN` line for each lane that was left out.
pub fn table(outcomes: &[(&str, Outcome, Duration)], whole: Duration) -> String {
    let mut text = String::from("\nlane          result    seconds\n");
    for (name, outcome, took) in outcomes {
        let word = match outcome {
            Outcome::Passed => "passed",
            Outcome::Failed(_) => "FAILED",
            Outcome::NotRun(_) => "NOT RUN",
        };
        line(&mut text, &format!("{name:<14}{word:<10}{:>7.1}", took.as_secs_f64()));
    }
    line(&mut text, &format!("{:<24}{:>7.1}", "all", whole.as_secs_f64()));
    for (name, outcome, _) in outcomes {
        match outcome {
            Outcome::Passed => {}
            Outcome::Failed(what) => line(&mut text, &format!("FAILED {name}: {what}")),
            Outcome::NotRun(why) => line(&mut text, &format!("NOT RUN {name}: {why}")),
        }
    }
    text
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lane_that_was_left_out_is_named_with_its_reason() {
        let second = Duration::from_secs(1);
        let outcomes = [
            ("fmt", Outcome::Passed, second),
            ("unit", Outcome::Failed("cargo test".to_owned()), second),
            ("hosts", Outcome::NotRun("needs root".to_owned()), second),
        ];
        let text = table(&outcomes, 3 * second);
        assert!(text.contains("fmt           passed        1.0\n"), "{text}");
        assert!(text.contains("FAILED unit: cargo test\n"), "{text}");
        assert!(text.ends_with("NOT RUN hosts: needs root\n"), "{text}");
    }
}
