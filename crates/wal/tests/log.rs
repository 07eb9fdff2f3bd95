//! The contract in fair weather: what goes in comes out, limits refuse, one batch costs one sync.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::*;
use wal::{Batch, Disk, FileDisk, MemDisk, OpenError, Options, SnapshotMeta, Wal, WalError, check};

#[test]
fn acknowledged_batches_are_read_back_after_a_power_cut() {
    let (disk, history) = filled(60);
    disk.crash_to_synced();
    let (_, recovered) = must_open(&disk);
    assert!(segments(&disk).len() > 1, "the workload crosses segments");
    assert_eq!(Some(&Model::of(&recovered)), history.last());
    assert_eq!(recovered.truncated_tail, None);
}

#[test]
fn merged_batches_cost_one_sync_and_keep_their_order() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    let before = disk.syncs();
    let conflict =
        Batch { truncate_from: Some(2), hard_state: hard_state("b"), ..entries(vec![record(2, 2, 9)]) };
    let first = Batch { hard_state: hard_state("a"), ..entries(vec![record(1, 1, 9), record(2, 1, 9)]) };
    wal.append_all(&[first, conflict, entries(vec![record(3, 2, 9)])]).expect("in order");
    assert_eq!(disk.syncs() - before, 1);
    disk.crash_to_synced();
    let (_, recovered) = must_open(&disk);
    assert_eq!(recovered.hard_state, hard_state("b"));
    assert_eq!(recovered.entries, vec![record(1, 1, 9), record(2, 2, 9), record(3, 2, 9)]);
}

#[test]
fn a_batch_that_need_not_be_synced_waits_for_the_next_one() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    let before = disk.changes();
    wal.append(&Batch { hard_state: hard_state("commit 1"), ..Batch::default() }).expect("accepted");
    assert_eq!(disk.changes(), before);
    wal.append(&entries(vec![record(1, 1, 10)])).expect("in order");
    wal.append(&Batch { hard_state: hard_state("commit 2"), ..Batch::default() }).expect("accepted");
    let fork = disk.fork();
    fork.crash_to_synced();
    assert_eq!(must_open(&fork).1.hard_state, hard_state("commit 1"));
    wal.seal().expect("a healthy disk");
    disk.crash_to_synced();
    assert_eq!(must_open(&disk).1.hard_state, hard_state("commit 2"));
}

#[test]
fn records_out_of_order_are_refused_and_change_nothing() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    wal.append(&entries(vec![record(1, 3, 5), record(2, 3, 5)])).expect("in order");
    for bad in [vec![record(4, 3, 5)], vec![record(2, 3, 5)], vec![record(3, 2, 5)]] {
        assert!(matches!(wal.append(&entries(bad)), Err(WalError::OutOfOrder(_))));
    }
    wal.append(&entries(vec![record(3, 3, 5)])).expect("the log is still good");
    drop(wal);
    assert_eq!(must_open(&disk).1.entries.len(), 3);
}

#[test]
fn too_large_records_and_batches_are_refused() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    assert!(matches!(wal.append(&entries(vec![record(1, 1, 30 << 10)])), Err(WalError::TooLarge { .. })));
    wal.append(&entries(vec![record(1, 1, 15 << 10)])).expect("it fits");
    wal.append(&entries(vec![record(2, 1, 15 << 10)])).expect("it fits the next segment");
    assert!(matches!(wal.append(&entries(vec![record(3, 1, 30 << 10)])), Err(WalError::TooLarge { .. })));
    assert_eq!(wal.last(), SnapshotMeta { index: 2, term: 1 });
}

#[test]
fn a_snapshot_takes_the_place_of_entries_and_frees_segments() {
    let (disk, history) = filled(60);
    let (mut wal, _) = {
        disk.crash_to_synced();
        must_open(&disk)
    };
    let last = history.last().expect("not empty").clone();
    let meta = SnapshotMeta { index: last.last() - 2, term: 1 };
    let before = segments(&disk).len();
    assert!(!take_snapshot(&mut wal, meta, None).expect("a healthy disk"));
    assert!(wal.compact(u64::MAX).expect("a healthy disk") > 0);
    assert!(segments(&disk).len() < before);
    disk.crash_to_synced();
    let (wal, recovered) = must_open(&disk);
    assert_eq!(recovered.snapshot, Some(meta));
    assert_eq!(recovered.entries.len(), 2);
    assert_eq!(recovered.hard_state, last.hard_state);
    check_snapshot(&wal);
}

#[test]
fn a_hard_state_outlives_the_segment_that_it_was_written_to() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    wal.append(&Batch { hard_state: hard_state("vote"), ..entries(vec![record(1, 1, 10)]) })
        .expect("in order");
    for index in 2..=40 {
        wal.append(&entries(vec![record(index, 1, 1500)])).expect("in order");
    }
    take_snapshot(&mut wal, SnapshotMeta { index: 40, term: 1 }, None).expect("a healthy disk");
    assert!(wal.compact(40).expect("a healthy disk") > 1);
    disk.crash_to_synced();
    assert_eq!(must_open(&disk).1.hard_state, hard_state("vote"));
}

#[test]
fn a_snapshot_from_a_leader_ahead_resets_the_log() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    wal.append(&entries((1..=20).map(|index| record(index, 1, 900)).collect())).expect("in order");
    let meta = SnapshotMeta { index: 500, term: 4 };
    assert!(take_snapshot(&mut wal, meta, hard_state("commit 500")).expect("a healthy disk"));
    wal.append(&entries(vec![record(501, 4, 10)])).expect("it follows the snapshot");
    assert!(matches!(wal.begin_snapshot(400, 4), Err(WalError::OutOfOrder(_))));
    disk.crash_to_synced();
    let (wal, recovered) = must_open(&disk);
    assert_eq!(recovered.snapshot, Some(meta));
    assert_eq!(recovered.entries, vec![record(501, 4, 10)]);
    assert_eq!(recovered.hard_state, hard_state("commit 500"));
    check_snapshot(&wal);
}

#[test]
fn a_snapshot_of_another_history_drops_the_entries_after_it() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    wal.append(&entries((1..=9).map(|index| record(index, 1, 10)).collect())).expect("in order");
    assert!(take_snapshot(&mut wal, SnapshotMeta { index: 5, term: 2 }, None).expect("a healthy disk"));
    assert_eq!(wal.last(), SnapshotMeta { index: 5, term: 2 });
    drop(wal);
    assert_eq!(must_open(&disk).1.entries, vec![]);
}

#[test]
fn a_reader_goes_on_while_a_newer_snapshot_takes_its_place() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    wal.append(&entries((1..=9).map(|index| record(index, 1, 10)).collect())).expect("in order");
    take_snapshot(&mut wal, SnapshotMeta { index: 3, term: 1 }, None).expect("a healthy disk");
    let mut reader = wal.read_snapshot().expect("it opens").expect("there is one");
    take_snapshot(&mut wal, SnapshotMeta { index: 6, term: 1 }, None).expect("a healthy disk");
    while reader.next_chunk().expect("still readable").is_some() {}
    assert_eq!(disk.list().expect("lists").iter().filter(|name| name.starts_with("snap-")).count(), 1);
}

#[test]
fn a_directory_is_opened_once_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let disk = || Arc::new(FileDisk::open(directory.path()).expect("it opens"));
    let (wal, _) = Wal::open(disk(), small()).expect("a new log");
    assert!(matches!(Wal::open(disk(), small()), Err(OpenError::Locked)));
    let report = check(disk());
    assert!(!report.intact && report.to_string().contains("in use by another process"), "{report}");
    drop(wal);
    Wal::open(disk(), small()).expect("the lock is free again");
}

#[test]
fn a_real_directory_keeps_log_and_snapshot() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let root = directory.path().join("manager/wal");
    let open = || Wal::open(Arc::new(FileDisk::open(&root).expect("it opens")), small());
    let (mut wal, _) = open().expect("a new log");
    for index in 1..=80 {
        wal.append(&entries(vec![record(index, 1, 700)])).expect("a healthy disk");
        tend_fully(&mut wal).expect("a healthy disk");
    }
    take_snapshot(&mut wal, SnapshotMeta { index: 70, term: 1 }, hard_state("x")).expect("a healthy disk");
    assert!(wal.compact(70).expect("a healthy disk") > 0);
    drop(wal);
    let (wal, recovered) = open().expect("it opens again");
    assert_eq!(recovered.entries, (71..=80).map(|index| record(index, 1, 700)).collect::<Vec<_>>());
    check_snapshot(&wal);
    drop(wal);
    let report = check(Arc::new(FileDisk::open(&root).expect("it opens")));
    assert!(report.intact && report.to_string().contains("last index is 80"), "{report}");
}

#[test]
fn an_empty_directory_is_not_taken_for_an_empty_log_unless_allowed() {
    let disk = MemDisk::new();
    let result = Wal::open(Arc::new(disk.clone()), Options { create: false, ..small() });
    assert!(matches!(result, Err(OpenError::Missing)));
    assert_eq!(disk.changes(), 0);
    assert!(!check(Arc::new(disk)).intact);
    let directory = tempfile::tempdir().expect("a directory for the test");
    assert!(FileDisk::existing(directory.path().join("mistyped")).is_err());
    assert!(FileDisk::existing(directory.path()).is_ok());
}

#[test]
fn payloads_of_zeros_and_of_no_bytes_are_kept() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    let mut records = vec![record(1, 1, 0), record(2, 1, 5000)];
    records[1].payload = Bytes::from(vec![0; 5000]);
    wal.append(&entries(records.clone())).expect("in order");
    disk.crash_to_synced();
    assert_eq!(must_open(&disk).1.entries, records);
}
