//! What the daemons need while nothing happens.

use std::time::Duration;

use anyhow::{Context, Result};
use tests::cluster::{Cluster, daemon::Daemon};

use super::table::Table;

/// Long enough to hold many heartbeats.
const SPAN: Duration = Duration::from_secs(10);

/// Adds the rows.
///
/// # Errors
/// A daemon is gone.
pub fn measure(table: &mut Table, cluster: &Cluster) -> Result<()> {
    let daemons =
        [("manager", cluster.manager(0), "<= 30 MB"), ("agent", cluster.node(0).agent(), "<= 20 MB")];
    let before: Vec<f64> = daemons.iter().map(|(_, daemon, _)| cpu(daemon)).collect::<Result<_>>()?;
    std::thread::sleep(SPAN);
    for ((name, daemon, mark), before) in daemons.into_iter().zip(before) {
        let used = (cpu(daemon)? - before) / SPAN.as_secs_f64() * 100.0;
        let memory = rss(daemon)? as f64 / 1e3;
        let ours = format!("{memory:.1} MB RSS, {used:.2} % of a core");
        table.row(&format!("idle {name}"), ours, "-".into(), "-".into(), mark);
    }
    Ok(())
}

/// Kilobytes resident.
fn rss(daemon: &Daemon) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid(daemon)?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Seconds of CPU so far; the kernel counts hundredths.
fn cpu(daemon: &Daemon) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid(daemon)?))?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("stat")?.split_whitespace().collect();
    let ticks =
        |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).context("a field of stat");
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn pid(daemon: &Daemon) -> Result<i32> {
    daemon.pid().context("the daemon runs")
}
