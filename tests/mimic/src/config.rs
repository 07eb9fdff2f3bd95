//! What the environment asks of this instance. The environment, since a service spec sets it without a new image.

use std::time::Duration;

/// The settings of one instance, read once.
#[derive(Debug, Clone)]
pub struct Config {
    /// TCP port of the listener, on all addresses.
    pub port: u16,
    /// What `/version` answers; two images differ in it.
    pub version: String,
    /// How long the port is open before the application answers, as JBoss deploys after it listens.
    pub start: Duration,
    /// Exit code of an initialisation that fails at the end of `start`; `None` when it succeeds.
    pub fail_init: Option<u8>,
    /// The status page shows an exception from the beginning.
    pub broken: bool,
    /// So long after it is ready the status page begins to show an exception.
    pub break_after: Option<Duration>,
    /// Of so many requests, one is answered with 500; the status page is well.
    pub fail_every: Option<u64>,
    /// `HOST:PORT` of the database that `/row` writes to.
    pub database: Option<String>,
    /// SIGTERM is logged and otherwise ignored, so that only SIGKILL ends the process.
    pub ignore_term: bool,
    /// How long requests in flight may take to finish after SIGTERM.
    pub drain: Duration,
}

impl Config {
    /// Reads the `MIMIC_*` variables.
    ///
    /// # Errors
    /// A sentence that names the variable and its value when one does not parse; the caller stops.
    pub fn from_env() -> Result<Config, String> {
        Config::read(|name| std::env::var(name).ok())
    }

    fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Config, String> {
        Ok(Config {
            port: parsed(&lookup, "MIMIC_PORT")?.unwrap_or(8080),
            version: lookup("MIMIC_VERSION").unwrap_or_else(|| "1".to_owned()),
            start: Duration::from_millis(parsed(&lookup, "MIMIC_START_MS")?.unwrap_or(0)),
            fail_init: parsed(&lookup, "MIMIC_FAIL_INIT")?,
            broken: lookup("MIMIC_BROKEN").is_some_and(|value| value == "1"),
            break_after: parsed(&lookup, "MIMIC_BREAK_AFTER_MS")?.map(Duration::from_millis),
            fail_every: parsed(&lookup, "MIMIC_FAIL_EVERY")?.filter(|every| *every > 0),
            database: lookup("MIMIC_DATABASE"),
            ignore_term: lookup("MIMIC_IGNORE_TERM").is_some_and(|value| value == "1"),
            drain: Duration::from_millis(parsed(&lookup, "MIMIC_DRAIN_MS")?.unwrap_or(2000)),
        })
    }
}

fn parsed<T: std::str::FromStr>(
    lookup: &impl Fn(&str) -> Option<String>,
    name: &str,
) -> Result<Option<T>, String> {
    match lookup(name) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| format!("{name}={text} is not a number in range")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&str, &str)]) -> Result<Config, String> {
        Config::read(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn empty_environment_gives_a_healthy_server_on_8080() {
        let config = config(&[]).unwrap();
        assert_eq!((config.port, config.version.as_str()), (8080, "1"));
        assert!(config.fail_init.is_none() && !config.ignore_term && config.start.is_zero());
    }

    #[test]
    fn value_out_of_range_is_refused_with_its_name() {
        let problem = config(&[("MIMIC_FAIL_INIT", "300")]).unwrap_err();
        assert!(problem.contains("MIMIC_FAIL_INIT=300"), "{problem}");
    }
}
