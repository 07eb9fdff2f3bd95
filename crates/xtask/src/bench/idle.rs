//! What the daemons need while nothing happens.

use std::time::Duration;

use anyhow::Result;
use tests::cluster::Cluster;

use super::table::Table;
use crate::usage;

/// Long enough to hold many heartbeats.
const SPAN: Duration = Duration::from_secs(10);

/// Adds the rows.
///
/// # Errors
/// A daemon is gone.
pub fn measure(table: &mut Table, cluster: &Cluster) -> Result<()> {
    let daemons =
        [("manager", cluster.manager(0), "<= 30 MB"), ("agent", cluster.node(0).agent(), "<= 20 MB")];
    let before: Vec<f64> = daemons.iter().map(|(_, daemon, _)| usage::cpu(daemon)).collect::<Result<_>>()?;
    std::thread::sleep(SPAN);
    for ((name, daemon, mark), before) in daemons.into_iter().zip(before) {
        let used = (usage::cpu(daemon)? - before) / SPAN.as_secs_f64() * 100.0;
        let memory = usage::memory(daemon)? / 1e6;
        let ours = format!("{memory:.1} MB RSS, {used:.2} % of a core");
        table.row(&format!("idle {name}"), ours, "-".into(), "-".into(), mark);
    }
    Ok(())
}
