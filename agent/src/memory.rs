//! The agent's memory on disk: what the core wants stored, as tables of the ledger.

use std::{path::Path, sync::mpsc, thread};

use agent_core::{
    event::Event,
    stored::{StoreWrite, Stored, TaskRecord},
};
use anyhow::{Context, Result};
use ledger::{Batch, Ledger, LedgerError, Table};
use model::session::{Assignment, Fence, ManagerAddress};
use tokio::sync::mpsc::Sender;

/// Number 0: the fence.
const FENCE: Table = Table(1);
/// Number 0: the managers.
const MANAGERS: Table = Table(2);
/// By task.
const ASSIGNMENTS: Table = Table(3);
/// By task.
const RECORDS: Table = Table(4);

/// Writes in the background, in order. Dropping it ends the writer once everything is written.
#[derive(Debug)]
pub struct Memory {
    writes: mpsc::Sender<(u64, StoreWrite)>,
}

/// Opens the ledger and reads what is there.
///
/// # Errors
/// The disk cannot be used at all.
pub fn open(directory: &Path) -> Result<(Ledger, Stored)> {
    let opened = Ledger::open(directory).context("the agent's ledger")?;
    if let Some((aside, reason)) = opened.set_aside {
        tracing::error!(aside = %aside.display(), reason, "the ledger did not open and was set aside; the managers send everything again");
    }
    let ledger = opened.ledger;
    let stored = Stored {
        fence: read::<Fence>(&ledger, FENCE)?.pop(),
        managers: read::<Vec<ManagerAddress>>(&ledger, MANAGERS)?.pop().unwrap_or_default(),
        assignments: read::<Assignment>(&ledger, ASSIGNMENTS)?,
        records: ledger
            .read::<TaskRecord>(RECORDS)?
            .values
            .into_iter()
            .map(|(task, record)| (model::id::TaskId(task), record))
            .collect(),
        routes: None,
        files: Default::default(),
    };
    Ok((ledger, stored))
}

fn read<T: serde::de::DeserializeOwned>(ledger: &Ledger, table: Table) -> Result<Vec<T>> {
    let read = ledger.read(table)?;
    if read.damaged > 0 {
        tracing::error!(table = table.0, values = read.damaged, "damaged values of the ledger were dropped");
    }
    Ok(read.values.into_iter().map(|(_, value)| value).collect())
}

impl Memory {
    /// Starts the writer. It reports `Stored` on `events`; a failed write ends the writer, whose end the caller sees as
    /// a closed `failed`: nothing may be built on a disk that failed.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(
        ledger: Ledger,
        events: Sender<Event>,
    ) -> Result<(Self, tokio::sync::oneshot::Receiver<LedgerError>)> {
        let (writes, queue) = mpsc::channel();
        let (failed, failure) = tokio::sync::oneshot::channel();
        thread::Builder::new().name("ledger".into()).spawn(move || {
            if let Err(error) = write_all(&ledger, &queue, &events) {
                // Nobody to tell: the process ends anyway.
                drop(failed.send(error));
            }
        })?;
        Ok((Self { writes }, failure))
    }

    /// Queues a write. The queue is bounded by what the core has under way.
    pub fn write(&self, sequence: u64, write: StoreWrite) {
        // A writer that has ended told so; the loop ends with it.
        drop(self.writes.send((sequence, write)));
    }
}

/// Takes everything that has queued up while the last write was synced: one sync for all of it.
fn write_all(
    ledger: &Ledger,
    queue: &mpsc::Receiver<(u64, StoreWrite)>,
    events: &Sender<Event>,
) -> Result<(), LedgerError> {
    while let Ok((mut last, write)) = queue.recv() {
        let mut batch = Batch::default();
        add(&mut batch, write);
        while let Ok((sequence, write)) = queue.try_recv() {
            add(&mut batch, write);
            last = sequence;
        }
        ledger.write(batch)?;
        if events.blocking_send(Event::Stored { sequence: last }).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn add(batch: &mut Batch, write: StoreWrite) {
    if let Some(fence) = write.fence {
        put(batch, FENCE, 0, &fence);
    }
    if let Some(managers) = write.managers {
        put(batch, MANAGERS, 0, &managers);
    }
    for assignment in write.assignments {
        put(batch, ASSIGNMENTS, assignment.task.0, &assignment);
    }
    for (task, record) in write.records {
        put(batch, RECORDS, task.0, &record);
    }
    for task in write.removed {
        batch.remove(ASSIGNMENTS, task.0);
        batch.remove(RECORDS, task.0);
    }
}

/// A value beyond the ledger's bound is done without: the task runs, and after a restart the managers send it again.
fn put<T: serde::Serialize>(batch: &mut Batch, table: Table, number: u64, value: &T) {
    if let Err(error) = batch.put(table, number, value) {
        tracing::error!(%error, "not stored; a restart without managers will not know it");
        batch.remove(table, number);
    }
}
