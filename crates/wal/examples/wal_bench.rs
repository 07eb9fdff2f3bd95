//! Appends against the floor of the same disk in the same run: one pwrite and one fdatasync into blocks that exist.
//!
//! `cargo run --release -p wal --example wal_bench [DIRECTORY [ROUNDS]]`

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wal::{Batch, FileDisk, Options, Record, Tended, Wal};

const ENTRY_BYTES: usize = 512;
const FLOOR_BYTES: u64 = 16 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let rounds: usize = arguments.next().map_or(Ok(2000), |text| text.parse())?;
    let directory = tempfile::tempdir_in(parent)?;
    println!("{ENTRY_BYTES} B entries, {rounds} rounds, microseconds; ratio to the floor of the same run");
    println!("{:>6} {:>22} {:>22} {:>16}", "batch", "floor p50 / p99", "append p50 / p99", "ratio p50 / p99");
    for batch in [1, 16, 256] {
        let (floor, append) = measure(directory.path(), batch, rounds)?;
        let ratio = |at: usize| at_percent(&append, at).as_secs_f64() / at_percent(&floor, at).as_secs_f64();
        println!(
            "{batch:>6} {:>22} {:>22} {:>16}",
            format!("{} / {}", at_percent(&floor, 50).as_micros(), at_percent(&floor, 99).as_micros()),
            format!("{} / {}", at_percent(&append, 50).as_micros(), at_percent(&append, 99).as_micros()),
            format!("{:.2} / {:.2}", ratio(50), ratio(99)),
        );
    }
    Ok(())
}

type Times = Vec<Duration>;

/// Takes turns between the floor and the log, so that both meet the same disk.
fn measure(
    directory: &Path,
    batch: usize,
    rounds: usize,
) -> Result<(Times, Times), Box<dyn std::error::Error>> {
    let floor_file = File::create(directory.join(format!("floor-{batch}")))?;
    floor_file.write_all_at(&vec![0; FLOOR_BYTES as usize], 0)?;
    floor_file.sync_all()?;
    let disk = Arc::new(FileDisk::open(directory.join(format!("wal-{batch}")))?);
    let (mut wal, _) = Wal::open(disk, Options::new(1))?;
    while wal.tend()? == Tended::More {}
    let payload = Bytes::from(vec![0x5a; ENTRY_BYTES]);
    let block = vec![0xa5; (batch * ENTRY_BYTES).next_multiple_of(4096)];
    let (mut floor, mut append, mut at, mut index) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..rounds {
        at = if at + block.len() as u64 > FLOOR_BYTES { 0 } else { at };
        let begin = Instant::now();
        floor_file.write_all_at(&block, at)?;
        floor_file.sync_data()?;
        floor.push(begin.elapsed());
        at += block.len() as u64;

        let records = (0..batch as u64).map(|number| entry(index + 1 + number, &payload)).collect();
        let batch_of_records = Batch { records, must_sync: true, ..Batch::default() };
        let begin = Instant::now();
        wal.append(&batch_of_records)?;
        append.push(begin.elapsed());
        index = wal.last().index;
        wal.tend()?;
    }
    floor.sort();
    append.sort();
    Ok((floor, append))
}

fn entry(index: u64, payload: &Bytes) -> Record {
    Record { index, term: 1, kind: 0, payload: payload.clone() }
}

fn at_percent(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}
