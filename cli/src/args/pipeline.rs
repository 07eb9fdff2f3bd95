//! `issuer …` and `deploy-binding …`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use model::{binding::RefType, deployer::DeployVerb};

/// `issuer …`
#[derive(Debug, Subcommand)]
pub enum IssuerCommand {
    /// Declare who signs ID tokens, in place of what was declared of it
    Set(IssuerSet),
    /// List issuers
    Ls {
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show an issuer
    Inspect {
        /// Its name
        name: String,
    },
    /// Forget issuers: sessions that their tokens opened end at once
    #[command(visible_alias = "remove")]
    Rm {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// `issuer set`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  orchctl issuer set gitlab --url https://gitlab.example --audience orch.example")]
pub struct IssuerSet {
    /// The issuer's name here: a-z, 0-9 and -, at most 63 letters
    pub name: String,
    /// Its tokens' iss, to the letter; its keys are found there
    #[arg(long)]
    pub url: String,
    /// The tokens' aud: what stands for this cluster, and for nothing else that reads tokens of this issuer
    #[arg(long)]
    pub audience: String,
    /// Certificates of the authority that vouches for it (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// `deploy-binding …`
#[derive(Debug, Subcommand)]
pub enum BindingCommand {
    /// Let the jobs of one protected branch or tag of one project deploy one service
    Create(Box<BindingCreate>),
    /// List bindings
    Ls {
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show a binding
    Inspect {
        /// Its name
        name: String,
    },
    /// End bindings at once, with whatever their jobs follow
    #[command(visible_alias = "remove")]
    Rm {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// `deploy-binding create`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  orchctl deploy-binding create ispyb-main --service ispyb --image registry.example/mx/ispyb --issuer gitlab --project-id 42 \
                        --ref main --environment production
In .gitlab-ci.yml:
  id_tokens:
    ORCH_ID_TOKEN:
      aud: orch.example
  script:
    - orchctl deploy ispyb --image registry.example/mx/ispyb@sha256:…")]
pub struct BindingCreate {
    /// The binding's name: a-z, 0-9 and -, at most 63 letters
    pub name: String,
    /// The one service that it is for
    #[arg(long, value_name = "SERVICE")]
    pub service: String,
    /// The repository of its images, without tag and digest
    #[arg(long, value_name = "REPOSITORY")]
    pub image: String,
    /// Whose ID tokens: an issuer's name
    #[arg(long)]
    pub issuer: String,
    /// The project's number, as its page in GitLab shows it
    #[arg(long, value_name = "NUMBER")]
    pub project_id: u64,
    /// The number of the project that the job belongs to, if it is another
    #[arg(long, value_name = "NUMBER")]
    pub job_project_id: Option<u64>,
    /// The protected branch or tag, to the letter
    #[arg(long = "ref", value_name = "NAME")]
    pub ref_name: String,
    /// Which of the two it is
    #[arg(long, value_name = "KIND", default_value = "branch")]
    pub ref_type: RefTypeArg,
    /// The environment that the job has to name
    #[arg(long, value_name = "NAME")]
    pub environment: Option<String>,
    /// What a job may do: deploy, rollback, status, logs; who may deploy or roll back may see the status
    #[arg(long, value_name = "VERBS", value_delimiter = ',', default_value = "deploy,rollback,status,logs", value_parser = super::deploy_token::verb)]
    pub allow: Vec<DeployVerb>,
}

/// `--ref-type`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RefTypeArg {
    /// A branch
    Branch,
    /// A tag
    Tag,
}

impl From<RefTypeArg> for RefType {
    fn from(arg: RefTypeArg) -> Self {
        match arg {
            RefTypeArg::Branch => Self::Branch,
            RefTypeArg::Tag => Self::Tag,
        }
    }
}
