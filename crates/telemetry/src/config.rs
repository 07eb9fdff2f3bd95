//! Which form the log takes: what the configuration says, and where standard error leads.

use std::fmt;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;

/// The variable that overrides the configured level: `ORCH_LOG=debug`, `ORCH_LOG=info,rpc=trace`.
pub(crate) const LEVEL_VARIABLE: &str = "ORCH_LOG";
/// systemd sets it to `device:inode` of the journal's socket.
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";

/// How a daemon logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A level (`info`) or a list of directives (`info,rpc=debug`). `ORCH_LOG` in the environment wins.
    pub level: String,
    /// The form of the lines.
    pub format: LogFormat,
}

/// The form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Human on a terminal, key=value everywhere else.
    #[default]
    Auto,
    /// For eyes: aligned, in colour where the terminal has it.
    Human,
    /// One line of `key=value` pairs per event.
    KeyValue,
    /// One JSON object per event.
    Json,
}

/// A word that names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown log format {0:?} (auto, human, key-value or json)")]
pub struct UnknownFormat(String);

/// What the lines look like, once everything is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Human { colour: bool },
    KeyValue(Prefix),
    Json,
}

/// What a key=value line starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// The time, for files and pipes.
    Time,
    /// The priority as syslog writes it (`<4>`), for the journal, which strips it and stamps the time itself.
    Priority,
}

/// Where standard error leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink {
    Terminal,
    Journal,
    Other,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

impl LogFormat {
    const ALL: [Self; 4] = [Self::Auto, Self::Human, Self::KeyValue, Self::Json];

    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Human => "human",
            Self::KeyValue => "key-value",
            Self::Json => "json",
        }
    }

    pub(crate) fn layout(self, sink: Sink) -> Layout {
        let prefix = if sink == Sink::Journal { Prefix::Priority } else { Prefix::Time };
        match (self, sink) {
            (Self::Auto, Sink::Terminal) | (Self::Human, _) => {
                Layout::Human { colour: sink == Sink::Terminal }
            }
            (Self::Auto | Self::KeyValue, _) => Layout::KeyValue(prefix),
            (Self::Json, _) => Layout::Json,
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogFormat {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|format| format.as_str() == word).ok_or_else(|| UnknownFormat(word.into()))
    }
}

impl Sink {
    /// Looks at this process's standard error.
    pub(crate) fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Terminal
        } else if std::env::var(JOURNAL_VARIABLE).ok().is_some_and(|stream| is_stderr(&stream)) {
            Self::Journal
        } else {
            Self::Other
        }
    }
}

/// The variable is inherited by children whose standard error leads to a file, so its value has to match.
fn is_stderr(stream: &str) -> bool {
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let metadata = stderr.and_then(|file| file.metadata());
    metadata.is_ok_and(|found| stream == format!("{}:{}", found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_survives_its_word() {
        for format in LogFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!("xml".parse::<LogFormat>(), Err(UnknownFormat("xml".into())));
    }

    #[test]
    fn a_terminal_gets_colours_and_the_journal_no_times() {
        let auto = LogFormat::Auto;
        assert_eq!(auto.layout(Sink::Terminal), Layout::Human { colour: true });
        assert_eq!(auto.layout(Sink::Journal), Layout::KeyValue(Prefix::Priority));
        assert_eq!(auto.layout(Sink::Other), Layout::KeyValue(Prefix::Time));
    }

    #[test]
    fn a_configured_format_holds_everywhere() {
        for sink in [Sink::Terminal, Sink::Journal, Sink::Other] {
            assert_eq!(LogFormat::Json.layout(sink), Layout::Json);
            assert!(matches!(LogFormat::Human.layout(sink), Layout::Human { .. }));
            assert!(matches!(LogFormat::KeyValue.layout(sink), Layout::KeyValue(_)));
        }
    }

    #[test]
    fn an_inherited_journal_stream_does_not_deceive() {
        assert!(!is_stderr("0:0"));
        assert!(!is_stderr(""));
    }
}
