//! Attacks on a running cluster, a file for each group. To add some, write a function like the others and name it in [`GROUPS`].

pub mod approvals;
pub mod bombs;
pub mod certificates;
pub mod deploys;
pub mod floods;
pub mod joins;
pub mod logins;
pub mod nodes;
pub mod pipelines;
pub mod policies;
pub mod returns;
pub mod rotation;

use anyhow::{Context, Result};

use super::site::Site;
use super::tally::Tally;

/// A group tries its attacks and tells the tally of each.
type Group = fn(&Site<'_>, &mut Tally) -> Result<()>;

/// All of them, in the order in which they are tried: floods last, since they leave connections that have to end.
pub const GROUPS: [(&str, Group); 11] = [
    ("certificates", certificates::run),
    ("nodes", nodes::run),
    ("joins", joins::run),
    ("approvals", approvals::run),
    ("returns", returns::run),
    ("deploy tokens", deploys::run),
    ("pipelines", pipelines::run),
    ("logins", logins::run),
    ("policies", policies::run),
    ("bombs", bombs::run),
    ("floods", floods::run),
];

/// Tries all.
///
/// # Errors
/// The cluster does not come along; an attack that succeeds is no error, but counted.
pub fn run(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    for (name, group) in GROUPS {
        tally.begin(name);
        group(site, tally).with_context(|| format!("attacks on {name}"))?;
    }
    Ok(())
}
