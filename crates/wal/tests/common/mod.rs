//! What the tests of the log share: small sizes, a scripted workload, and the question that all of them ask.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod child;
pub mod workload;

use std::sync::Arc;

use bytes::Bytes;
use wal::{Batch, Disk, MemDisk, OpenError, Options, Record, Recovered, SnapshotMeta, Tended, Wal, WalError};

/// Options small enough that a test crosses several segments.
pub fn small() -> Options {
    Options { segment_bytes: 32 << 10, reserve_bytes: 16 << 10, low_water_bytes: 0, ..Options::new(7) }
}

/// A seeded source of choices.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// How often a randomised test goes round: `base`, scaled by ORCH_WAL_ROUNDS (a factor, default 1).
pub fn rounds(base: u64) -> u64 {
    let factor = std::env::var("ORCH_WAL_ROUNDS").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(1);
    base * factor
}

/// Says how often something was done, past the harness, which keeps the output of tests that pass to itself.
/// `cargo xtask storage` adds the lines up.
pub fn counted(what: &str, count: u64) {
    let line = format!("\ncounted: {count} {what}\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).expect("stderr is open");
}

pub fn open(disk: &MemDisk) -> Result<(Wal, Recovered), OpenError> {
    Wal::open(Arc::new(disk.clone()), small())
}

pub fn must_open(disk: &MemDisk) -> (Wal, Recovered) {
    open(disk).expect("an intact log opens")
}

/// A record whose payload tells index, term and length, so that a mix-up shows.
pub fn record(index: u64, term: u64, length: usize) -> Record {
    let payload: Vec<u8> = (0..length as u64).map(|at| (index * 31 + term * 7 + at / 600) as u8).collect();
    Record { index, term, kind: (index % 3) as u8, payload: Bytes::from(payload) }
}

pub fn entries(records: Vec<Record>) -> Batch {
    Batch { records, must_sync: true, ..Batch::default() }
}

pub fn hard_state(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

/// The log as a reader should see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub hard_state: Option<Bytes>,
    pub snapshot: Option<SnapshotMeta>,
    pub entries: Vec<Record>,
}

impl Model {
    pub fn last(&self) -> u64 {
        self.entries.last().map_or(self.snapshot.map_or(0, |meta| meta.index), |record| record.index)
    }

    pub fn last_term(&self) -> u64 {
        self.entries.last().map_or(self.snapshot.map_or(0, |meta| meta.term), |record| record.term)
    }

    pub fn apply(&mut self, batch: &Batch) {
        if let Some(from) = batch.truncate_from {
            self.entries.retain(|record| record.index < from);
        }
        self.entries.extend(batch.records.iter().cloned());
        if batch.hard_state.is_some() {
            self.hard_state = batch.hard_state.clone();
        }
    }

    pub fn install(&mut self, meta: SnapshotMeta, hard_state: Option<Bytes>) {
        let matches =
            self.entries.iter().any(|record| (record.index, record.term) == (meta.index, meta.term));
        if !matches {
            self.entries.clear();
        }
        self.entries.retain(|record| record.index > meta.index);
        self.snapshot = Some(meta);
        if hard_state.is_some() {
            self.hard_state = hard_state;
        }
    }

    pub fn of(recovered: &Recovered) -> Self {
        Self {
            hard_state: recovered.hard_state.clone(),
            snapshot: recovered.snapshot,
            entries: recovered.entries.clone(),
        }
    }
}

/// Contents of the snapshot at `meta`, long enough for several writes.
pub fn snapshot_bytes(meta: SnapshotMeta) -> Vec<u8> {
    (0..3000_u64).map(|at| (meta.index * 13 + meta.term + at / 7) as u8).collect()
}

pub fn take_snapshot(wal: &mut Wal, meta: SnapshotMeta, state: Option<Bytes>) -> Result<bool, WalError> {
    let mut writer = wal.begin_snapshot(meta.index, meta.term)?;
    for piece in snapshot_bytes(meta).chunks(1000) {
        writer.write(piece)?;
    }
    let finished = writer.finish()?;
    wal.install_snapshot(finished, state)
}

/// Reads the latest snapshot and checks that it is the one that was written.
pub fn check_snapshot(wal: &Wal) {
    let Some(mut reader) = wal.read_snapshot().expect("the snapshot opens") else { return };
    let mut contents = Vec::new();
    while let Some(chunk) = reader.next_chunk().expect("the snapshot is right") {
        contents.extend_from_slice(&chunk);
    }
    assert_eq!(contents, snapshot_bytes(reader.meta()));
}

/// Lets the log prepare all that it wants to.
pub fn tend_fully(wal: &mut Wal) -> Result<(), WalError> {
    while wal.tend()? == Tended::More {}
    Ok(())
}

/// Makes a log of `count` batches on a new disk, and returns what was acknowledged after each.
pub fn filled(count: u64) -> (MemDisk, Vec<Model>) {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    let (mut model, mut history) = (Model::default(), Vec::new());
    let mut dice = Dice(count);
    for number in 0..count {
        let first = model.last() + 1;
        let records =
            (0..1 + dice.roll(3)).map(|at| record(first + at, 1, dice.roll(1400) as usize)).collect();
        let batch = Batch { hard_state: hard_state(&format!("vote {number}")), ..entries(records) };
        wal.append(&batch).expect("a healthy disk");
        model.apply(&batch);
        history.push(model.clone());
    }
    (disk, history)
}

/// All segment files that hold batches.
pub fn segments(disk: &MemDisk) -> Vec<String> {
    let names = disk.list().expect("a healthy disk");
    names.into_iter().filter(|name| name.starts_with("log-") && !name.ends_with(".part")).collect()
}
