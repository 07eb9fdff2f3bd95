//! Commands about the cluster's authority.

use clap::Subcommand;

use super::WaitFlags;

/// `authority …`
#[derive(Debug, Subcommand)]
pub enum AuthorityCommand {
    /// Show it, and while it is being replaced, who has certificates of the former one
    Show,
    /// Put another one in its place: managers, nodes and this context get certificates of it. Join tokens end
    #[command(
        after_help = "What the former one has issued counts until `orchctl authority finish`. Nobody has to be there meanwhile."
    )]
    Rotate {
        /// How to wait.
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// End what former authorities have issued: certificates of people, deploy tokens, nodes that were away
    Finish {
        /// Although nodes have certificates of the former one: they come back by proof of their keys
        #[arg(long)]
        leave_behind: bool,
    },
}
