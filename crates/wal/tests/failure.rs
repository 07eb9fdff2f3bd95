//! Disks that refuse: failed syncs and writes close the log, a full disk does not.

mod common;

use std::sync::Arc;

use common::workload::Workload;
use common::*;
use wal::{Disk, MemDisk, OpenError, Options, SnapshotMeta, Space, Wal, WalError, check};

fn assert_closed(wal: &mut Wal) {
    assert!(matches!(wal.append(&entries(vec![])), Err(WalError::Poisoned)));
    assert!(matches!(wal.seal(), Err(WalError::Poisoned)));
    assert!(matches!(wal.tend(), Err(WalError::Poisoned)));
    assert!(matches!(wal.compact(1), Err(WalError::Poisoned)));
    assert!(matches!(wal.use_reserve(), Err(WalError::Poisoned)));
    assert!(matches!(wal.begin_snapshot(1000, 9).map(drop), Err(WalError::Poisoned)));
    assert!(matches!(wal.read_snapshot().map(drop), Err(WalError::Poisoned)));
}

#[test]
fn a_failed_sync_closes_the_log_and_is_never_retried() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    wal.append(&entries(vec![record(1, 1, 100)])).expect("a healthy disk");
    disk.fail_next_sync();
    assert!(matches!(
        wal.append(&entries(vec![record(2, 1, 100)])),
        Err(WalError::Io { action: "sync", .. })
    ));
    let changes = disk.changes();
    assert_closed(&mut wal);
    assert_eq!(disk.changes(), changes, "a closed log leaves the disk alone");
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_made_durable_before_it_is_vouched_for() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    wal.append(&entries(vec![record(1, 1, 100)])).expect("a healthy disk");
    disk.fail_next_sync();
    assert!(wal.append(&entries(vec![record(2, 1, 100)])).is_err());
    disk.kill();
    let (wal, recovered) = must_open(&disk);
    assert_eq!(
        recovered.entries.len(),
        2,
        "the page cache still has it, and a member may now acknowledge it"
    );
    drop(wal);
    for seed in 0..8 {
        let copy = disk.fork();
        copy.crash(seed);
        assert_eq!(must_open(&copy).1.entries.len(), 2, "seed {seed}");
    }
}

#[test]
fn a_short_write_closes_the_log_and_its_remains_are_cut_off() {
    for written in [0, 1, 511, 512, 513, 700, 1024] {
        let disk = MemDisk::new();
        let (mut wal, _) = must_open(&disk);
        wal.append(&entries(vec![record(1, 1, 2000)])).expect("a healthy disk");
        wal.seal().expect("a healthy disk");
        wal.append(&entries(vec![record(2, 1, 100)])).expect("a healthy disk");
        drop(wal);
        let (mut wal, _) = must_open(&disk);
        disk.fail_next_write(written);
        assert!(matches!(
            wal.append(&entries(vec![record(3, 1, 2000)])),
            Err(WalError::Io { action: "write", .. })
        ));
        assert_closed(&mut wal);
        disk.kill();
        let report = check(Arc::new(disk.clone()));
        assert!(report.intact, "{report}");
        let (mut wal, recovered) = must_open(&disk);
        assert_eq!(recovered.entries.len(), 2);
        wal.append(&entries(vec![record(3, 2, 50)])).expect("a healthy disk");
        drop(wal);
        assert_eq!(must_open(&disk).1.entries[2], record(3, 2, 50));
    }
}

#[test]
fn the_remains_of_a_torn_batch_are_reported_and_wiped() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    wal.append(&entries(vec![record(1, 1, 100)])).expect("a healthy disk");
    drop(wal);
    let contents = disk.contents("log-000000000001").expect("the first segment");
    let (mut wal, _) = must_open(&disk);
    wal.append(&entries(vec![record(2, 1, 3000)])).expect("a healthy disk");
    disk.kill();
    let mut torn = disk.contents("log-000000000001").expect("the first segment");
    let start = 12288 + 512;
    torn[..start].copy_from_slice(&contents[..start]);
    torn[start..start + 1024].fill(0);
    disk.set_contents("log-000000000001", torn);
    let report = check(Arc::new(disk.clone())).to_string();
    assert!(report.contains("unfinished batch at byte 12800"), "{report}");
    let (_, recovered) = must_open(&disk);
    let tail = recovered.truncated_tail.expect("reported");
    assert_eq!((tail.file.as_str(), tail.offset), ("log-000000000001", start as u64));
    assert!(tail.blocks > 3);
    let wiped = disk.contents("log-000000000001").expect("the first segment");
    assert!(wiped[start..].iter().all(|byte| *byte == 0));
}

#[test]
fn sync_failures_at_any_moment_lose_nothing_acknowledged() {
    for seed in 0..rounds(150) {
        let disk = MemDisk::new();
        let mut workload = Workload::new(seed);
        let mut dice = Dice(seed ^ 0xf51c);
        for life in 0..6 {
            let Ok((mut wal, recovered)) = open(&disk) else {
                disk.kill();
                continue;
            };
            workload.resume(&recovered, &format!("seed {seed}, life {life}"));
            for _ in 0..dice.roll(30) {
                workload.step(&mut wal).expect("a healthy disk");
            }
            match dice.roll(2) {
                0 => disk.fail_next_sync(),
                _ => disk.fail_next_write(dice.roll(3000) as usize),
            }
            workload.run(&mut wal);
            drop(wal);
            disk.kill();
            if dice.roll(2) == 0 {
                disk.fail_next_sync(); // the restart meets it too
                drop(open(&disk));
            }
            if dice.roll(2) == 0 { disk.kill() } else { disk.crash(dice.roll(u64::MAX)) }
        }
        workload.resume(&must_open(&disk).1, &format!("seed {seed}, at the end"));
    }
    counted("failed syncs and writes", 6 * rounds(150));
}

#[test]
fn a_full_disk_refuses_cleanly_and_the_reserve_keeps_the_log_going() {
    let disk = MemDisk::new();
    let options = Options { reserve_bytes: 64 << 10, ..small() };
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), options.clone()).expect("a new log");
    tend_fully(&mut wal).expect("a healthy disk");
    assert_eq!(wal.space(), Space::Ok);
    disk.set_capacity(Some(180 << 10)); // room for one segment more, not for two
    let mut last = 0;
    let mut append = |wal: &mut Wal| {
        let result = wal.append(&entries(vec![record(last + 1, 1, 3000)]));
        if result.is_ok() {
            last += 1;
        }
        tend_fully(wal).expect("a full disk is not a broken one");
        result
    };
    while wal.space() == Space::Ok {
        append(&mut wal).expect("there is room");
    }
    assert_eq!(wal.space(), Space::Low);
    append(&mut wal).expect("a whole segment is left when it begins to be tight");
    let refused = loop {
        if let Err(error) = append(&mut wal) {
            break error;
        }
    };
    assert!(matches!(refused, WalError::NoSpace), "{refused}");
    assert!(matches!(append(&mut wal), Err(WalError::NoSpace)), "and it stays open");
    assert!(wal.use_reserve().expect("a healthy disk"));
    append(&mut wal).expect("the reserve makes room");
    assert_eq!(wal.space(), Space::Reserve);
    assert!(!wal.use_reserve().expect("a healthy disk"), "there is one reserve");
    let meta = SnapshotMeta { index: wal.last().index, term: 1 };
    take_snapshot(&mut wal, meta, None).expect("the reserve has room for it");
    append(&mut wal).expect("the reserve makes room");
    assert!(wal.compact(meta.index).expect("a healthy disk") > 0);
    disk.set_capacity(None);
    tend_fully(&mut wal).expect("a healthy disk");
    assert_eq!(wal.space(), Space::Ok);
    assert!(disk.list().expect("lists").contains(&"reserve".to_owned()), "laid down again");
    drop(wal);
    let (_, recovered) = Wal::open(Arc::new(disk), options).expect("an intact log");
    assert_eq!(recovered.snapshot, Some(meta));
    assert_eq!(recovered.entries.last().map(|record| record.index), Some(last));
}

#[test]
fn a_snapshot_that_does_not_fit_is_given_up_and_the_log_goes_on() {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    wal.append(&entries(vec![record(1, 1, 100)])).expect("a healthy disk");
    tend_fully(&mut wal).expect("a healthy disk");
    disk.set_capacity(Some(96 << 10));
    let mut writer = wal.begin_snapshot(1, 1).expect("a name costs nothing");
    let refused = loop {
        if let Err(error) = writer.write(&[7; 4000]) {
            break error;
        }
    };
    assert!(matches!(refused, WalError::NoSpace));
    drop(writer);
    assert!(disk.list().expect("lists").iter().all(|name| !name.contains("snap-")));
    wal.append(&entries(vec![record(2, 1, 100)])).expect("the log is open");
}

#[test]
fn a_disk_too_full_for_a_new_log_says_so() {
    let disk = MemDisk::new();
    disk.set_capacity(Some(20 << 10));
    assert!(matches!(open(&disk).map(drop), Err(OpenError::NoSpace)));
    disk.set_capacity(None);
    must_open(&disk);
}
