//! Flags of the pre-deploy hook.

use clap::Args;

/// What runs before a release.
#[derive(Debug, Clone, Default, Args)]
pub struct HookFlags {
    /// A command that must succeed in a container of the new release before its first replica starts; "" = none
    ///
    /// It runs without a shell. `orchctl logs SERVICE.hook` shows what it printed
    #[arg(long, value_name = "COMMAND", help_heading = "Update")]
    pub pre_deploy: Option<String>,
    /// How long it may take, with its image's pull and its retries
    #[arg(long, value_name = "DURATION", help_heading = "Update")]
    pub pre_deploy_timeout: Option<String>,
    /// How often it is started again after a non-zero exit
    #[arg(long, value_name = "N", help_heading = "Update")]
    pub pre_deploy_retries: Option<u32>,
    /// It changes data that a rollback does not change back: whoever goes back is told
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Update")]
    pub pre_deploy_migration: Option<bool>,
}
