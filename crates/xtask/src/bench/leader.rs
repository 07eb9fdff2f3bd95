//! Lost leaders: from the instant of the fault to the next accepted write.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::cluster::{ASK, Cluster};

use super::{local, table::Table};
use crate::{
    client::{Client, block_on},
    times::Times,
};

/// A try that hangs at a dying manager ends after so long; the next manager is asked.
const TRY: Duration = Duration::from_millis(2_000);
const LIMIT: Duration = Duration::from_secs(30);

/// Adds the rows.
///
/// # Errors
/// No manager takes over.
pub fn measure(table: &mut Table, rounds: usize) -> Result<()> {
    let cluster = local(3, 0)?;
    let floor = "election 150-300 ms after the last heartbeat".to_owned();
    let killed = times(&cluster, rounds, Fault::Kill)?;
    table.row("leader killed -> write accepted", killed.said(), floor.clone(), "-".into(), "p50 <= 300 ms");
    let frozen = times(&cluster, rounds, Fault::Freeze)?;
    table.row("leader frozen -> write accepted", frozen.said(), floor, "-".into(), "-");
    Ok(())
}

#[derive(Clone, Copy)]
enum Fault {
    Kill,
    Freeze,
}

fn times(cluster: &Cluster, rounds: usize, fault: Fault) -> Result<Times> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        cluster.wait_voters(3)?;
        cluster.ask("all managers to be heard", LIMIT, || {
            let all = cluster.ctl().json(&["manager", "ls"]).ok()?;
            all.as_array()?.iter().all(|m| m["reachable"] == true).then_some(())
        })?;
        let leader = cluster.leader()?;
        let others: Vec<Client> = (0..3)
            .filter(|index| *index != leader)
            .map(|index| Client::of(cluster.ctl().config(), &cluster.address(index)))
            .collect::<Result<_>>()?;
        times.push(block_on(fail_over(cluster, leader, &others, fault))?);
        match fault {
            Fault::Kill => cluster.manager(leader).start()?,
            Fault::Freeze => cluster.manager(leader).thaw()?,
        }
    }
    Ok(Times::new(times))
}

async fn fail_over(cluster: &Cluster, leader: usize, others: &[Client], fault: Fault) -> Result<Duration> {
    // Connections are made before the fault: a client that writes has one. A manager that was just started may not listen.
    for client in others {
        let begun = Instant::now();
        while let Err(error) = client.write(LIMIT).await {
            ensure!(begun.elapsed() < LIMIT, "before the fault: {error:#}\n{}", cluster.last_words());
            tokio::time::sleep(ASK).await;
        }
    }
    let daemon = cluster.manager(leader);
    let begun = Instant::now();
    match fault {
        Fault::Kill => daemon.kill()?,
        Fault::Freeze => daemon.freeze()?,
    }
    // Both survivors are asked at once, as two clients would.
    loop {
        let tries = others.iter().map(|client| Box::pin(client.write(TRY)));
        if let Ok((_, _)) = futures_util::future::select_ok(tries).await {
            return Ok(begun.elapsed());
        }
        let words = || cluster.last_words();
        ensure!(begun.elapsed() < LIMIT, "no write was accepted within {LIMIT:?}\n{}", words());
    }
}
