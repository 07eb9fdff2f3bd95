//! Stored formats: newer ones are refused before anything is written, and the first one stays readable.

mod common;

use std::path::Path;

use common::*;
use wal::{Disk, FORMAT_VERSION, MemDisk, OpenError, SnapshotMeta};

/// Log and snapshot as this format was first released; written by `write_test_data` below.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/format-1");

fn with_version(mut contents: Vec<u8>, version: u32) -> Vec<u8> {
    contents[8..12].copy_from_slice(&version.to_le_bytes());
    let crc = crc32c::crc32c(&contents[..12]);
    contents[12..16].copy_from_slice(&crc.to_le_bytes());
    contents
}

fn sample() -> (MemDisk, Model) {
    let disk = MemDisk::new();
    let (mut wal, _) = must_open(&disk);
    let mut model = Model::default();
    for index in 1..=6 {
        let batch = wal::Batch {
            hard_state: hard_state(&format!("vote {index}")),
            ..entries(vec![record(index, 2, 300)])
        };
        wal.append(&batch).expect("a healthy disk");
        model.apply(&batch);
    }
    let meta = SnapshotMeta { index: 4, term: 2 };
    take_snapshot(&mut wal, meta, None).expect("a healthy disk");
    model.install(meta, None);
    drop(wal);
    (disk, model)
}

#[test]
fn a_newer_format_is_refused_before_anything_is_written() {
    let (disk, _) = sample();
    let files: Vec<String> =
        disk.list().expect("lists").into_iter().filter(|name| name != "reserve").collect();
    assert_eq!(files.len(), 3, "segment, snapshot, extent: {files:?}");
    for name in files {
        let copy = disk.fork();
        copy.create("leftover.part").expect("creates");
        let contents = copy.contents(&name).expect("listed");
        copy.set_contents(&name, with_version(contents, FORMAT_VERSION + 1));
        let before = copy.changes();
        match open(&copy).map(drop).expect_err("refused") {
            OpenError::UnsupportedVersion { file, found, supported } => {
                assert_eq!((file, found, supported), (name, FORMAT_VERSION + 1, FORMAT_VERSION));
            }
            error => panic!("{error}"),
        }
        assert_eq!(copy.changes(), before);
    }
}

#[test]
fn the_format_of_the_first_release_stays_readable() {
    let disk = MemDisk::new();
    for entry in std::fs::read_dir(DATA).expect("the test data is there") {
        let entry = entry.expect("the test data is there");
        let file = disk.create(&entry.file_name().into_string().expect("plain names")).expect("creates");
        file.write_at(0, &std::fs::read(entry.path()).expect("readable")).expect("writes");
    }
    let (wal, recovered) = must_open(&disk);
    assert_eq!(Model::of(&recovered), sample().1);
    check_snapshot(&wal);
}

/// Writes the test data of a new format; run by hand when `FORMAT_VERSION` has changed.
#[test]
#[ignore = "writes test data"]
fn write_test_data() {
    let (disk, _) = sample();
    std::fs::create_dir_all(DATA).expect("creates");
    for name in disk.list().expect("lists") {
        std::fs::write(Path::new(DATA).join(&name), disk.contents(&name).expect("listed")).expect("writes");
    }
}
