//! Decay and cuts of what was acknowledged: all of it is recovered, or the log says that it is damaged.

mod common;

use std::sync::Arc;

use common::*;
use wal::{Disk, MemDisk, OpenError, SnapshotMeta, check};

enum Outcome {
    All,
    Damaged,
    /// The last batch is gone, and the log takes it for one that was never finished.
    LastCut,
}

/// Opens a damaged log and fails on any silent loss beyond the last batch.
fn outcome(disk: &MemDisk, history: &[Model], context: &str) -> Outcome {
    match open(disk) {
        Ok((_, recovered)) => {
            let found = Model::of(&recovered);
            if Some(&found) == history.last() {
                return Outcome::All;
            }
            let before = history.len().checked_sub(2).map(|at| &history[at]);
            assert!(Some(&found) == before, "{context}: silently lost entries up to {}", found.last());
            Outcome::LastCut
        }
        Err(OpenError::Damaged { .. }) => Outcome::Damaged,
        Err(error) => panic!("{context}: {error}"),
    }
}

/// A log with a snapshot and several segments, whose last batch is not sealed.
fn log_with_snapshot() -> (MemDisk, Vec<Model>) {
    let (disk, mut history) = filled(30);
    disk.kill();
    let (mut wal, _) = must_open(&disk);
    let mut model = history.last().expect("not empty").clone();
    let meta = SnapshotMeta { index: model.last() - 4, term: 1 };
    take_snapshot(&mut wal, meta, None).expect("a healthy disk");
    model.install(meta, None);
    history.push(model.clone());
    for index in model.last() + 1..model.last() + 5 {
        let batch = entries(vec![record(index, 1, 600)]);
        wal.append(&batch).expect("a healthy disk");
        model.apply(&batch);
        history.push(model.clone());
    }
    tend_fully(&mut wal).expect("a healthy disk");
    (disk, history)
}

#[test]
fn no_flipped_bit_loses_anything_silently() {
    let (disk, history) = log_with_snapshot();
    disk.kill();
    let files: Vec<(String, u64)> = disk
        .list()
        .expect("lists")
        .into_iter()
        .filter(|name| name != "reserve")
        .map(|name| (name.clone(), disk.contents(&name).expect("listed").len() as u64 * 8))
        .collect();
    let total: u64 = files.iter().map(|file| file.1).sum();
    let (mut dice, mut damaged) = (Dice(1), 0);
    for round in 0..rounds(20_000) {
        let mut bit = dice.roll(total);
        let mut file = files.iter();
        let name = loop {
            let (name, bits) = file.next().expect("the sum of all bits is the total");
            if bit < *bits {
                break name;
            }
            bit -= bits;
        };
        let copy = disk.fork();
        assert!(copy.flip_bit(name, bit));
        let context = format!("round {round}, bit {bit} of {name}");
        match outcome(&copy, &history, &context) {
            Outcome::All => {}
            Outcome::Damaged => damaged += 1,
            Outcome::LastCut => panic!("{context}: a flipped bit was taken for a torn write"),
        }
    }
    assert!(damaged > rounds(20_000) / 10, "flips in the data are found: {damaged}");
    counted("bit flips", rounds(20_000));
}

#[test]
fn a_flipped_bit_in_the_last_unsealed_batch_is_damage_not_a_torn_write() {
    let (disk, history) = filled(5);
    disk.kill();
    let contents = disk.contents("log-000000000001").expect("the first segment");
    let end = contents.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
    for bit in (end as u64 - 512) * 8..end as u64 * 8 {
        let copy = disk.fork();
        copy.flip_bit("log-000000000001", bit);
        assert!(matches!(outcome(&copy, &history, &format!("bit {bit}")), Outcome::Damaged));
        assert!(!check(Arc::new(copy)).intact);
    }
    counted("bit flips", 512 * 8);
}

/// Tries `cut` for every byte position of the only segment, from `from` on, at which it makes a difference.
fn cut_everywhere(sealed: bool, from: usize, cut: impl Fn(&[u8], usize) -> Vec<u8>) -> (u64, u64, u64) {
    let (disk, history) = filled(8);
    disk.kill();
    if sealed {
        drop(must_open(&disk)); // seals
        disk.kill();
    }
    let name = "log-000000000001";
    assert_eq!(segments(&disk), [name]);
    let contents = disk.contents(name).expect("listed");
    let (mut all, mut damaged, mut last_cut) = (0, 0, 0);
    let mut former = None;
    for at in from..=contents.len() {
        let bytes = cut(&contents, at);
        if former.as_ref() == Some(&bytes) {
            continue;
        }
        former = Some(bytes.clone());
        let copy = disk.fork();
        assert!(copy.set_contents(name, bytes));
        match outcome(&copy, &history, &format!("cut at {at}")) {
            Outcome::All => all += 1,
            Outcome::Damaged => damaged += 1,
            Outcome::LastCut => last_cut += 1,
        }
    }
    counted("byte-wise cuts", all + damaged + last_cut);
    (all, damaged, last_cut)
}

#[test]
fn a_snapshot_or_extent_file_that_is_cut_short_or_zeroed_at_any_byte_is_damage_or_makes_no_difference() {
    let (disk, history) = log_with_snapshot();
    disk.kill();
    let names = disk.list().expect("lists").into_iter();
    let files: Vec<String> = names.filter(|name| name.starts_with("snap-") || name == "extent").collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for name in files {
        let contents = disk.contents(&name).expect("listed");
        for at in 0..contents.len() {
            for bytes in [contents[..at].to_vec(), zeros_from(&contents, at)] {
                let changed = bytes != contents;
                let copy = disk.fork();
                copy.set_contents(&name, bytes);
                match outcome(&copy, &history, &format!("{name} cut at {at}")) {
                    Outcome::Damaged => {}
                    // One of the two slots of the extent file is enough.
                    Outcome::All => assert!(!changed || name == "extent", "{name} cut at {at}"),
                    Outcome::LastCut => panic!("{name} cut at {at}: lost the last batch"),
                }
            }
        }
        counted("byte-wise cuts", 2 * contents.len() as u64);
    }
}

#[test]
fn a_file_that_is_cut_short_at_any_byte_is_damage() {
    let (all, damaged, last_cut) = cut_everywhere(false, 0, |bytes, at| bytes[..at].to_vec());
    assert_eq!((all, last_cut), (1, 0));
    assert_eq!(damaged, 32 << 10);
}

#[test]
fn a_sealed_log_that_ends_at_any_byte_is_whole_or_damaged() {
    let (all, damaged, last_cut) = cut_everywhere(true, 0, zeros_from);
    assert_eq!((all, last_cut), (1, 0), "only the uncut log is whole");
    assert!(damaged > 4000);
}

#[test]
fn an_unsealed_log_that_ends_at_any_byte_loses_at_most_the_batch_that_a_power_cut_may_lose() {
    // Nothing was sealed yet: the extent slots of the segment, before byte 12288, are what tells.
    let (all, damaged, last_cut) = cut_everywhere(false, 12288, zeros_from);
    assert_eq!(all, 1);
    assert!(damaged > 1000 && last_cut > 0);
}

fn zeros_from(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..].fill(0);
    bytes
}

#[test]
fn a_missing_file_is_damage() {
    let (disk, history) = log_with_snapshot();
    disk.kill();
    for name in disk.list().expect("lists") {
        let copy = disk.fork();
        copy.remove(&name).expect("it is there");
        let result = outcome(&copy, &history, &name);
        // The first segments hold nothing that the snapshot does not; the last one is only prepared.
        let spare = segments(&disk).pop();
        let needed = name.starts_with("snap-")
            || name == "extent"
            || segments(&disk).iter().rev().nth(1) == Some(&name);
        let free = name == "reserve" || Some(&name) == spare.as_ref() || name == "log-000000000001";
        assert!(needed || free || name.starts_with("log-"), "{name}");
        assert!(!needed || matches!(result, Outcome::Damaged), "{name}");
        assert!(!free || matches!(result, Outcome::All), "{name}");
    }
}

#[test]
fn a_last_segment_that_is_gone_or_emptied_is_damage_although_nothing_was_sealed() {
    let (disk, history) = filled(30);
    disk.kill();
    let last = segments(&disk).pop().expect("several");
    assert!(last.as_str() > "log-000000000001");
    let copy = disk.fork();
    copy.remove(&last).expect("it is there");
    assert!(matches!(outcome(&copy, &history, "removed"), Outcome::Damaged));
    let copy = disk.fork();
    copy.set_contents(&last, vec![0; 32 << 10]);
    assert!(matches!(outcome(&copy, &history, "emptied"), Outcome::Damaged));
}

#[test]
fn damage_says_where_it_is_and_how_far_the_log_is_good_and_nothing_is_written() {
    let (disk, _) = filled(5);
    disk.kill();
    disk.flip_bit("log-000000000001", (12288 + 100) * 8);
    let before = disk.changes();
    match open(&disk).map(drop).expect_err("damaged") {
        OpenError::Damaged { file, offset, index, .. } => {
            assert_eq!((file.as_str(), offset, index), ("log-000000000001", 12288, None));
        }
        error => panic!("{error}"),
    }
    assert_eq!(disk.changes(), before);
    let report = check(Arc::new(disk)).to_string();
    assert!(report.contains("damaged at byte 12288") && report.contains("NOT usable"), "{report}");
}

#[test]
fn a_batch_from_another_life_of_the_log_is_recognised_although_it_is_whole() {
    let (disk, _) = filled(3);
    let other = disk.fork();
    for (disk, first, count) in [(&disk, 100, 5), (&other, 101, 1)] {
        disk.kill();
        let (mut wal, _) = must_open(disk);
        for number in 0..count {
            let mut record = record(wal.last().index + 1, 1, 300);
            record.kind = first + number;
            wal.append(&entries(vec![record])).expect("a healthy disk");
        }
        drop(wal);
    }
    let name = "log-000000000001";
    let (mut here, there) = (disk.contents(name).expect("listed"), other.contents(name).expect("listed"));
    let end = there.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
    assert_ne!(here[end - 512..end], there[end - 512..end]);
    here[end - 512..end].copy_from_slice(&there[end - 512..end]);
    disk.set_contents(name, here);
    match open(&disk).map(drop).expect_err("damaged") {
        OpenError::Damaged { what, .. } => assert!(what.contains("does not follow"), "{what}"),
        error => panic!("{error}"),
    }
}

#[test]
fn a_segment_or_snapshot_of_another_log_is_recognised() {
    let (disk, _) = filled(5);
    let other = MemDisk::new();
    let options = wal::Options { log_id: 8, ..small() };
    let (mut wal, _) = wal::Wal::open(Arc::new(other.clone()), options).expect("a new log");
    for index in 1..60 {
        wal.append(&entries(vec![record(index, 1, 900)])).expect("a healthy disk");
    }
    disk.kill();
    let file = disk.create("log-000000000002").expect("creates");
    file.write_at(0, &other.contents("log-000000000002").expect("it has two")).expect("writes");
    assert!(matches!(open(&disk), Err(OpenError::Damaged { .. })));
}
