//! Power cuts and kills at every moment: what was acknowledged is there, and what was not is there in whole or not.

mod common;

use common::workload::Workload;
use common::*;
use wal::{MemDisk, WalError};

const SCRIPT: u64 = 0x0c4a;
const SCRIPT_STEPS: u64 = 60;

/// Runs the script until the disk stops; `false` when it got to the end.
fn run_script(disk: &MemDisk, workload: &mut Workload) -> bool {
    let Ok((mut wal, recovered)) = open(disk) else { return true };
    workload.resume(&recovered, "a new log");
    for _ in 0..SCRIPT_STEPS {
        match workload.step(&mut wal) {
            Ok(()) => {}
            Err(WalError::Io { .. }) => {
                assert!(matches!(wal.seal(), Err(WalError::Poisoned)));
                return true;
            }
            Err(error) => panic!("the script is in order: {error}"),
        }
    }
    false
}

fn changes_of_script() -> u64 {
    let disk = MemDisk::new();
    let mut workload = Workload::new(SCRIPT);
    assert!(!run_script(&disk, &mut workload));
    assert!(workload.acknowledged.snapshot.is_some(), "the script takes snapshots");
    assert!(!segments(&disk).contains(&"log-000000000001".to_owned()), "the script compacts");
    disk.changes()
}

#[test]
fn a_power_cut_after_any_disk_operation_loses_nothing_acknowledged() {
    let total = changes_of_script();
    for cut in 0..total {
        for seed in 0..rounds(4) {
            let disk = MemDisk::new();
            let mut workload = Workload::new(SCRIPT);
            disk.stop_after(cut);
            assert!(run_script(&disk, &mut workload), "the disk stops before the end");
            disk.crash(cut * 1000 + seed);
            let (mut wal, recovered) = must_open(&disk);
            workload.resume(&recovered, &format!("cut {cut}, seed {seed}"));
            check_snapshot(&wal);
            for _ in 0..3 {
                workload.step(&mut wal).expect("a healthy disk after the restart");
            }
            drop(wal);
            disk.crash(seed);
            workload.resume(&must_open(&disk).1, &format!("cut {cut}, seed {seed}, second cut"));
        }
    }
    counted("simulated power cuts", 2 * total * rounds(4));
}

#[test]
fn a_kill_after_any_disk_operation_and_a_power_cut_right_after_the_restart_lose_nothing() {
    let total = changes_of_script();
    for cut in 0..total {
        let disk = MemDisk::new();
        let mut workload = Workload::new(SCRIPT);
        disk.stop_after(cut);
        run_script(&disk, &mut workload);
        disk.kill();
        let (wal, recovered) = must_open(&disk);
        workload.resume(&recovered, &format!("cut {cut}"));
        drop(wal);
        disk.crash_to_synced();
        workload.resume(&must_open(&disk).1, &format!("cut {cut}, after the restart"));
    }
    counted("simulated kills", total);
    counted("simulated power cuts", total);
}

#[test]
fn power_cuts_at_random_moments_of_a_long_life_lose_nothing() {
    for seed in 0..rounds(60) {
        let disk = MemDisk::new();
        let mut workload = Workload::new(seed);
        let mut dice = Dice(seed ^ 0xdead);
        for life in 0..12 {
            disk.stop_after(dice.roll(120));
            if let Ok((mut wal, recovered)) = open(&disk) {
                workload.resume(&recovered, &format!("seed {seed}, life {life}"));
                check_snapshot(&wal);
                workload.run(&mut wal);
            }
            if dice.roll(3) == 0 { disk.kill() } else { disk.crash(dice.roll(u64::MAX)) }
        }
        let (wal, recovered) = must_open(&disk);
        workload.resume(&recovered, &format!("seed {seed}, at the end"));
        check_snapshot(&wal);
    }
    counted("simulated kills and power cuts at random", 12 * rounds(60));
}

#[test]
fn a_power_cut_while_a_segment_begins_leaves_a_log_that_can_be_compacted() {
    for cut in 0.. {
        let disk = MemDisk::new();
        let (mut wal, _) = must_open(&disk);
        let batch = wal::Batch { hard_state: hard_state("vote"), ..entries(vec![record(1, 1, 15_000)]) };
        wal.append(&batch).expect("a healthy disk");
        take_snapshot(&mut wal, wal::SnapshotMeta { index: 1, term: 1 }, None).expect("a healthy disk");
        disk.stop_after(cut);
        let done = wal.append(&entries(vec![record(2, 1, 15_000)])).is_ok();
        drop(wal);
        disk.crash_to_synced();
        let (mut wal, _) = must_open(&disk);
        wal.compact(u64::MAX).expect("a healthy disk");
        drop(wal);
        let (_, recovered) = must_open(&disk);
        assert_eq!(recovered.hard_state, hard_state("vote"), "cut {cut}");
        assert_eq!(recovered.snapshot.map(|meta| meta.index), Some(1), "cut {cut}");
        assert_eq!(recovered.entries.len(), usize::from(done), "cut {cut}");
        if done {
            return;
        }
    }
}

#[test]
fn a_snapshot_stays_until_its_successor_is_durable_although_a_restart_already_sees_that() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    wal.append(&entries((1..=9).map(|index| record(index, 1, 10)).collect())).expect("a healthy disk");
    take_snapshot(&mut wal, wal::SnapshotMeta { index: 3, term: 1 }, None).expect("a healthy disk");
    let mut writer = wal.begin_snapshot(6, 1).expect("a healthy disk");
    let meta = wal::SnapshotMeta { index: 6, term: 1 };
    writer.write(&snapshot_bytes(meta)).expect("a healthy disk");
    let finished = writer.finish().expect("a healthy disk");
    disk.fail_next_sync();
    assert!(wal.install_snapshot(finished, None).is_err());
    disk.kill();
    for cut in 0.. {
        let disk = disk.fork();
        disk.stop_after(cut);
        let done = open(&disk).is_ok();
        disk.crash_to_synced();
        let (wal, recovered) = must_open(&disk);
        assert!(recovered.snapshot.is_some(), "cut {cut}");
        check_snapshot(&wal);
        if done {
            return;
        }
    }
}
