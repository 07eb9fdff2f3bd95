//! Sets the process's log up, once.

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{LEVEL_VARIABLE, Layout, LogConfig, Sink};
use crate::key_value::{KeyValueFields, KeyValueLine};

/// Libraries below us report every frame at `debug` and some at `info`; who needs them names them in the level.
const QUIET: &str =
    "h2=warn,hyper=warn,hyper_util=warn,tower=warn,tonic=warn,rustls=warn,sled=warn,bollard=warn";

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The configured level, or the one in the environment, names no level.
    #[error(
        "{origin} is no log level: {level:?} (error, warn, info, debug, trace, or a list such as info,rpc=debug)"
    )]
    Level {
        /// Which of the two.
        origin: &'static str,
        /// What it says.
        level: String,
    },
    /// It was set up before.
    #[error("the log is already set up")]
    Twice(#[from] TryInitError),
}

/// Sends this process's log to standard error. Call it once, before anything else runs.
///
/// # Errors
/// A level that is none, or a second call.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let overriding = std::env::var(LEVEL_VARIABLE).ok();
    let filter = filter(config, overriding.as_deref())?;
    let layout = config.format.layout(Sink::of_stderr());
    Ok(subscriber(layout, filter, std::io::stderr).try_init()?)
}

fn filter(config: &LogConfig, overriding: Option<&str>) -> Result<EnvFilter, LogError> {
    let (origin, level) = match overriding.map(str::trim).filter(|level| !level.is_empty()) {
        Some(level) => (LEVEL_VARIABLE, level),
        None => ("the configured level", config.level.trim()),
    };
    let refused = || LogError::Level { origin, level: level.to_owned() };
    if !level.split(',').all(is_directive) {
        return Err(refused());
    }
    EnvFilter::try_new(format!("{QUIET},{level}")).map_err(|_| refused())
}

/// The library takes a lone word that is no level for the name of a target, and would silence all others.
fn is_directive(text: &str) -> bool {
    text.contains('=') || text.trim().parse::<LevelFilter>().is_ok()
}

fn subscriber<W>(layout: Layout, filter: EnvFilter, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match layout {
        Layout::Human { colour } => Box::new(registry.with(lines.with_ansi(colour).compact())),
        Layout::Json => Box::new(registry.with(lines.json().flatten_event(true).with_current_span(false))),
        Layout::KeyValue(prefix) => {
            let lines = lines.fmt_fields(KeyValueFields).event_format(KeyValueLine(prefix));
            Box::new(registry.with(lines.with_ansi(false)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::Prefix;

    /// A log in memory.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `work` logs.
    fn logged(layout: Layout, level: &str, work: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let config = LogConfig { level: level.into(), ..LogConfig::default() };
        let filter = filter(&config, None).expect("a level");
        tracing::subscriber::with_default(subscriber(layout, filter, move || writer.clone()), work);
        let bytes = memory.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_journal_line_has_a_priority_and_the_fields_of_its_spans() {
        let text = logged(Layout::KeyValue(Prefix::Priority), "info", || {
            let _outer = tracing::info_span!("manager", member = 3).entered();
            let _inner = tracing::info_span!("session", node = "n 7").entered();
            tracing::warn!(age_ms = 12, "heartbeat is late");
        });
        assert_eq!(
            text,
            "<4>level=warn at=telemetry::logging::tests member=3 node=\"n 7\" message=\"heartbeat is late\" age_ms=12\n"
        );
    }

    #[test]
    fn a_line_for_a_file_starts_with_the_time() {
        let text = logged(Layout::KeyValue(Prefix::Time), "info", || tracing::info!("started"));
        let (time, rest) = text.split_once(' ').expect("two fields");
        assert!(time.starts_with("time=20") && time.ends_with('Z'), "{time}");
        assert_eq!(rest, "level=info at=telemetry::logging::tests message=started\n");
    }

    #[test]
    fn no_value_can_forge_a_second_line() {
        let text = logged(Layout::KeyValue(Prefix::Priority), "info", || {
            tracing::info!(container = "x\n<3>level=error message=forged", "started");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[test]
    fn an_error_is_logged_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the state")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("disk on fire"));
        let text = logged(Layout::KeyValue(Prefix::Priority), "info", || {
            tracing::error!(error = &error as &(dyn std::error::Error + 'static), "stopping");
        });
        assert!(text.contains(r#"error="cannot read the state: disk on fire""#), "{text}");
    }

    #[test]
    fn a_json_line_is_one_object_with_flat_fields() {
        let text = logged(Layout::Json, "info", || tracing::info!(term = 7, "elected"));
        assert!(text.starts_with('{') && text.ends_with("}\n") && text.lines().count() == 1, "{text}");
        assert!(text.contains(r#""message":"elected""#) && text.contains(r#""term":7"#), "{text}");
    }

    #[test]
    fn a_human_line_without_a_terminal_has_no_escape_sequences() {
        let text = logged(Layout::Human { colour: false }, "info", || tracing::info!("started"));
        assert!(text.contains("started") && !text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn the_libraries_below_are_quiet_unless_named() {
        let work = || {
            tracing::info!(target: "h2::codec", "a frame");
            tracing::debug!(target: "rpc", "a call");
        };
        let layout = Layout::KeyValue(Prefix::Priority);
        assert_eq!(logged(layout, "debug", work), "<7>level=debug at=rpc message=\"a call\"\n");
        assert_eq!(logged(layout, "info,h2=info", work), "<6>level=info at=h2::codec message=\"a frame\"\n");
    }

    #[test]
    fn the_environment_wins_over_the_configuration() {
        let config = LogConfig { level: "loud".into(), ..LogConfig::default() };
        filter(&config, Some("debug")).expect("only the environment counts");
        let refused = filter(&config, Some(" ")).expect_err("nothing overrides");
        assert!(refused.to_string().starts_with("the configured level is no log level"), "{refused}");
        let refused = filter(&LogConfig::default(), Some("rpc=loud")).expect_err("no level");
        assert!(refused.to_string().starts_with("ORCH_LOG is no log level: \"rpc=loud\""), "{refused}");
    }
}
