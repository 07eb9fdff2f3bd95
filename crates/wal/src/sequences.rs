//! Histories that no writer writes, under checksums that are right: what the reader makes of them must be a refusal or a
//! log. Only a faulty writer could leave such a thing, and then a panic at every start would be the worst answer.

use std::sync::Arc;

use bytes::Bytes;
use fuzz::Fuzz;

use crate::batch::{Record, SnapshotMeta};
use crate::record::{Op, SnapshotMark};
use crate::{MemDisk, Options, Wal, check};

fn options() -> Options {
    Options { segment_bytes: 32 << 10, reserve_bytes: 0, low_water_bytes: 0, ..Options::new(7) }
}

/// Small numbers mostly, and those at which arithmetic goes wrong.
fn number(byte: u8) -> u64 {
    match byte {
        255 => u64::MAX,
        254 => u64::MAX - 1,
        253 => 1 << 63,
        small => u64::from(small % 16),
    }
}

fn op(bytes: &[u8]) -> Op {
    let (index, term) = (number(bytes[1]), number(bytes[2]));
    let payload = Bytes::from(vec![bytes[3]; usize::from(bytes[3])]);
    match bytes[0] % 5 {
        0 => Op::Entry(Record { index, term, kind: bytes[3], payload }),
        1 => Op::HardState(payload),
        2 => Op::Truncate(index),
        3 => Op::Base { index, term },
        _ => Op::Snapshot {
            mark: SnapshotMark { meta: SnapshotMeta { index, term }, bytes: number(bytes[3]), digest: term },
            reset: bytes[3] % 2 == 1,
        },
    }
}

#[test]
fn fuzz_sequences() {
    let samples = [
        vec![3, 0, 0, 0, 0, 1, 1, 9, 0, 2, 1, 9, 1, 0, 0, 4, 2, 2, 0, 0, 0, 2, 2, 7],
        vec![3, 5, 1, 0, 0, 6, 1, 9, 4, 9, 3, 1, 0, 10, 3, 9],
    ];
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "sequence").samples(samples).run(|input| {
        let disk = MemDisk::new();
        let (mut wal, _) = Wal::open(Arc::new(disk.clone()), options()).expect("a new log");
        for batch in input.chunks(16).take(12) {
            let ops: Vec<Op> = batch.chunks_exact(4).map(op).collect();
            wal.write_batch(&ops.iter().collect::<Vec<_>>(), 0).expect("a healthy disk");
        }
        drop(wal);
        disk.kill();
        let report = check(Arc::new(disk.clone()));
        match Wal::open(Arc::new(disk), options()) {
            Ok((wal, recovered)) => {
                assert!(report.intact, "{report}");
                let indices = recovered.entries.windows(2).all(|pair| pair[0].index + 1 == pair[1].index);
                assert!(indices, "a hole: {recovered:?}");
                assert!(recovered.entries.last().is_none_or(|last| last.index == wal.last().index));
                format!("{} entries", recovered.entries.len().min(3))
            }
            Err(error) => error.to_string(),
        }
    });
}
