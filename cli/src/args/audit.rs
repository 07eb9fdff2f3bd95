//! `audit …`

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

/// `audit …`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List what was done and refused, the newest last
    #[command(after_help = "Examples:\n  orchctl audit ls --since 24h --verdict refused\n  \
                            orchctl audit ls --who ann --object service/ispyb --limit 10")]
    Ls(AuditLs),
    /// Check that no record was changed or left out; exit code 1 names the first broken one
    #[command(after_help = "Examples:\n  orchctl audit verify                          # the cluster's\n  \
                            orchctl audit verify --file march.jsonl       # an export, without a cluster\n  \
                            orchctl audit verify --against march.jsonl    # whether the cluster still says the same")]
    Verify {
        /// Check this export instead of the cluster's audit
        #[arg(long, value_name = "FILE", conflicts_with = "against")]
        file: Option<PathBuf>,
        /// Compare the cluster's audit with this export
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
    },
    /// Write all records that are kept into a file, one JSON document per line
    Export {
        /// The file; - is standard output
        file: PathBuf,
    },
}

/// `audit ls`
#[derive(Debug, Args)]
pub struct AuditLs {
    /// Only the last so long, such as 24h
    #[arg(long, value_name = "DURATION", value_parser = crate::value::duration)]
    pub since: Option<Duration>,
    /// Only what this identity asked, such as ann, "operator ann" or "node"
    #[arg(long, value_name = "WHO")]
    pub who: Option<String>,
    /// Only what concerns this object: a kind (service), a name (ispyb) or both (service/ispyb)
    #[arg(long, value_name = "OBJECT")]
    pub object: Option<String>,
    /// Only what ended so: accepted, refused (all others), rejected, invalid, denied, unauthenticated, frozen, exhausted, summed
    #[arg(long, value_name = "VERDICT", value_parser = verdict)]
    pub verdict: Option<String>,
    /// At most so many, the newest; 0 = all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    pub limit: usize,
}

const VERDICTS: [&str; 9] = [
    "accepted",
    "refused",
    "rejected",
    "invalid",
    "denied",
    "unauthenticated",
    "frozen",
    "exhausted",
    "summed",
];

fn verdict(text: &str) -> Result<String, String> {
    if VERDICTS.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("write one of {}", VERDICTS.join(", ")))
}
