//! Segments, snapshots and extent files that nobody wrote: read or refused, never a panic, and nothing made up.

mod common;

use std::sync::Arc;

use common::*;
use fuzz::Fuzz;
use wal::{Disk, check};

/// Puts an input in the place of one file of a log.
fn read_in_place_of(name: &'static str, prefix: &'static str) {
    let (disk, history) = filled(4);
    disk.kill();
    let (mut wal, _) = must_open(&disk);
    let mut model = history.last().expect("not empty").clone();
    let meta = wal::SnapshotMeta { index: model.last(), term: 1 };
    take_snapshot(&mut wal, meta, None).expect("a healthy disk");
    model.install(meta, None);
    drop(wal);
    disk.kill();
    let names = disk.list().expect("lists");
    let file = names.into_iter().find(|name| name.starts_with(prefix)).expect("the file");
    let sample = disk.contents(&file).expect("listed");
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), name).samples([sample]).run(|input| {
        let copy = disk.fork();
        copy.set_contents(&file, input.to_vec());
        let report = check(Arc::new(copy.clone()));
        match Arc::new(copy.clone()) {
            disk if report.intact => {
                let (wal, recovered) = wal::Wal::open(disk, small()).expect("check says that it is intact");
                check_snapshot(&wal);
                let found = Model::of(&recovered);
                // The last batch alone may look unfinished.
                assert!(found.entries.len() <= model.entries.len(), "made up: {found:?}");
                "intact".to_owned()
            }
            disk => {
                wal::Wal::open(disk, small()).map(drop).expect_err("check says that it is not").to_string()
            }
        }
    });
}

#[test]
fn fuzz_segment() {
    read_in_place_of("segment", "log-");
}

#[test]
fn fuzz_snapshot() {
    read_in_place_of("snapshot", "snap-");
}

#[test]
fn fuzz_extent() {
    read_in_place_of("extent", "extent");
}
