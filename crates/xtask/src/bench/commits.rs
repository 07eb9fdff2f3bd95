//! Commits against the disk's own sync.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use tests::cluster::Cluster;

use super::{local, table::Table};
use crate::{
    client::{Client, block_on},
    times::{Times, ratio, short},
};

/// Commits of one client, each followed by a sync of the floor.
const SINGLE: usize = 400;
/// How long many clients write.
const SPAN: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(10);

/// Adds the rows.
///
/// # Errors
/// A commit fails.
pub fn measure(table: &mut Table) -> Result<()> {
    for (managers, mark) in [(1, "1.5 x later"), (3, "2.5 x later")] {
        let cluster = local(managers, 0)?;
        let leader = cluster.leader()?;
        let client = Client::of(cluster.ctl().config(), &cluster.address(leader))?;
        let (ours, floor) = block_on(single(&client, &cluster))?;
        let what = format!("commit, one client, {managers} manager(s) on one disk");
        table.row(&what, ours.said(), format!("fdatasync {}", floor.said()), ratio(&ours, &floor), mark);
        if managers == 3 {
            for clients in [1, 16, 256] {
                let rate = block_on(many(&client, clients))?;
                let most = 1.0 / floor.p50().as_secs_f64();
                table.row(
                    &format!("commits/s, {clients} in flight, 3 managers"),
                    format!("{rate:.0}/s"),
                    format!("{most:.0} syncs/s"),
                    format!("{:.2} commits a sync's time", rate / most),
                    "-",
                );
            }
        }
    }
    Ok(())
}

async fn single(client: &Client, cluster: &Cluster) -> Result<(Times, Times)> {
    client.write(PATIENCE).await?;
    let mut disk = Disk::make(cluster.dir())?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..SINGLE {
        let begun = Instant::now();
        client.write(PATIENCE).await?;
        ours.push(begun.elapsed());
        floor.push(disk.write()?);
    }
    Ok((Times::new(ours), Times::new(floor)))
}

async fn many(client: &Client, clients: usize) -> Result<f64> {
    let begun = Instant::now();
    let writers: Vec<_> = (0..clients)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut count = 0u64;
                while begun.elapsed() < SPAN {
                    client.write(PATIENCE).await?;
                    count += 1;
                }
                anyhow::Ok(count)
            })
        })
        .collect();
    let mut total = 0;
    for writer in writers {
        total += writer.await??;
    }
    println!("  {clients} in flight: {total} commits in {}", short(begun.elapsed()));
    Ok(total as f64 / begun.elapsed().as_secs_f64())
}

/// The floor: one block written into a file that is there already, and synced.
struct Disk {
    file: File,
    at: u64,
}

impl Disk {
    const SIZE: u64 = 4 << 20;

    fn make(dir: &Path) -> Result<Self> {
        let path = dir.join("floor");
        std::fs::write(&path, vec![1u8; usize::try_from(Self::SIZE)?])?;
        let file = File::options().write(true).open(&path)?;
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }

    fn write(&mut self) -> Result<Duration> {
        self.at = (self.at + 512) % Self::SIZE;
        let begun = Instant::now();
        self.file.write_all_at(&[2u8; 512], self.at)?;
        self.file.sync_data()?;
        Ok(begun.elapsed())
    }
}
