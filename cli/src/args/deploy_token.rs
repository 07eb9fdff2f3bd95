//! `deploy-token …`

use std::time::Duration;

use clap::{Args, Subcommand};
use model::deployer::DeployVerb;

/// `deploy-token …`
#[derive(Debug, Subcommand)]
pub enum DeployTokenCommand {
    /// Make a token and print it, once
    Create(DeployTokenCreate),
    /// List tokens: what they allow, until when, and when each last changed something
    Ls {
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// End tokens at once, with whatever their bearers follow
    #[command(visible_alias = "remove")]
    Rm {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// `deploy-token create`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  orchctl deploy-token create ispyb-ci --service ispyb --image registry.example/mx/ispyb --allow deploy,rollback,logs
In the pipeline, as a masked and protected variable ORCH_TOKEN, beside ORCH_MANAGERS=m1.example,m2.example:
  orchctl deploy ispyb --image registry.example/mx/ispyb@sha256:…")]
pub struct DeployTokenCreate {
    /// The token's name: a-z, 0-9 and -, at most 63 letters
    pub name: String,
    /// The one service that it is for
    #[arg(long, value_name = "SERVICE")]
    pub service: String,
    /// The repository of its images, without tag and digest
    #[arg(long, value_name = "REPOSITORY")]
    pub image: String,
    /// What the bearer may do: deploy, rollback, status, logs; who may deploy or roll back may see the status
    #[arg(long, value_name = "VERBS", value_delimiter = ',', default_value = "deploy,status,logs", value_parser = verb)]
    pub allow: Vec<DeployVerb>,
    /// How long it lives, at most 90d
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = crate::value::duration)]
    pub ttl: Duration,
    /// Print the token only
    #[arg(long, short)]
    pub quiet: bool,
}

pub(super) fn verb(text: &str) -> Result<DeployVerb, String> {
    text.parse().map_err(|error: model::deployer::ParseDeployVerbError| error.to_string())
}
