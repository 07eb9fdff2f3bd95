//! `freeze …`

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

/// `freeze …`
#[derive(Debug, Subcommand)]
pub enum FreezeCommand {
    /// Leave nodes alone for a time: no update touches them, crashes are healed all the same
    Set(Box<FreezeSet>),
    /// List freezes
    Ls {
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show a freeze with its windows
    Inspect {
        /// Its name
        name: String,
    },
    /// End freezes; what waited for them goes on
    #[command(visible_alias = "remove")]
    Rm {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// `freeze set`
#[derive(Debug, Args)]
pub struct FreezeSet {
    /// Its name: a-z, 0-9 and -, at most 63 letters; one of this name is replaced
    pub name: String,
    /// Only nodes with this label, such as beamline=id23-1; with all of them when there are several
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::value::pair)]
    pub nodes: Vec<(String, String)>,
    /// From when, such as 2026-11-23T08:00 (now)
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Until when
    #[arg(long, value_name = "TIME", conflicts_with = "span")]
    pub until: Option<String>,
    /// For how long
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::value::duration)]
    pub span: Option<Duration>,
    /// Every week, such as "Tue 08:00-Mon 08:00"; may be said several times
    #[arg(long, value_name = "SPAN", conflicts_with_all = ["from", "until", "span"])]
    pub weekly: Vec<String>,
    /// For so many weeks, this one included; of a calendar what begins within them
    #[arg(long, value_name = "N", default_value_t = 52, value_parser = clap::value_parser!(u32).range(1..=104))]
    pub weeks: u32,
    /// The events of a calendar file (iCalendar); - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "until", "span", "weekly"])]
    pub calendar: Option<PathBuf>,
    /// Only events whose title has this in it
    #[arg(long, value_name = "TEXT", requires = "calendar")]
    pub events: Option<String>,
    /// The time zone of times that say none, such as Europe/Paris [default: this machine's]
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// Why, for whoever is refused
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}
