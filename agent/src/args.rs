//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::mesh;

/// Runs on every node: makes its Docker Engine match what the managers assigned.
#[derive(Debug, Parser)]
#[command(name = "orch-agent", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this machine a node of a cluster.
    Join(Join),
    /// Run the agent.
    Run(Run),
    /// Stop and remove this node's containers, then forget its identity. The agent must not run.
    Leave(Leave),
    /// Carry this node's traffic; started by the agent.
    #[command(hide = true)]
    Mesh(Mesh),
    /// Print the version.
    Version,
}

/// How to join.
#[derive(Debug, Args)]
pub struct Join {
    /// The join token, as `orchctl token create --role agent` printed it.
    #[arg(long, env = "ORCH_JOIN_TOKEN", hide_env_values = true)]
    pub token: String,
    /// Managers, any of them, as HOST:PORT.
    #[arg(long = "manager", required = true, value_delimiter = ',', value_name = "HOST:PORT")]
    pub managers: Vec<String>,
    /// Where the agent keeps its identity and memory.
    #[arg(long, default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
    /// A label for placement constraints; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// The host name to report instead of the machine's own.
    #[arg(long)]
    pub hostname: Option<String>,
}

/// How to run.
#[derive(Debug, Args)]
pub struct Run {
    /// Where the agent keeps its identity and memory.
    #[arg(long, default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
    /// The configuration; by default agent.toml in that directory, if there is one.
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// How to leave.
#[derive(Debug, Args)]
pub struct Leave {
    /// Where the agent keeps its identity and memory.
    #[arg(long, default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
    /// The configuration; by default agent.toml in that directory, if there is one.
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// How to carry traffic.
#[derive(Debug, Args)]
pub struct Mesh {
    /// The agent's directory.
    #[arg(long, default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
    /// Names the resolvers for names that are not the cluster's.
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// Bytes of one file of the access log.
    #[arg(long, default_value_t = mesh::ACCESS_LOG_SIZE)]
    pub access_log_size: u64,
    /// Files of the access log.
    #[arg(long, default_value_t = mesh::ACCESS_LOG_FILES)]
    pub access_log_files: u32,
}

const DEFAULT_DIR: &str = "/var/lib/orch-agent";

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("\"{text}\" is no label; expected KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn managers_are_given_with_commas_or_one_by_one() {
        let line = "orch-agent join --token t --manager a:1,b:2 --manager c:3 --label gpu=a100";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Join(join) = cli.command else { panic!("another command") };
        assert_eq!(join.managers, ["a:1", "b:2", "c:3"]);
        assert_eq!(join.labels, [("gpu".into(), "a100".into())]);
        assert!(
            Cli::try_parse_from("orch-agent join --token t --manager a:1 --label gpu".split(' ')).is_err()
        );
    }
}
