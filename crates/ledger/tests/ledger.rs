//! What is written is there again; what is damaged is missing, never wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, fs, path::Path};

use ledger::{Batch, Ledger, LedgerError, MAX_VALUE, Table};

const NAMES: Table = Table(1);
const OTHER: Table = Table(2);

fn open(directory: &Path) -> Ledger {
    let opened = Ledger::open(&directory.join("ledger")).unwrap();
    assert_eq!(opened.set_aside, None);
    opened.ledger
}

fn write(ledger: &Ledger, values: &[(u64, &str)]) {
    let mut batch = Batch::default();
    for (number, value) in values {
        batch.put(NAMES, *number, value).unwrap();
    }
    ledger.write(batch).unwrap();
}

fn read(ledger: &Ledger) -> Vec<(u64, String)> {
    ledger.read(NAMES).unwrap().values
}

#[test]
fn what_was_written_is_there_after_opening_again_in_order() {
    let directory = tempfile::tempdir().unwrap();
    write(&open(directory.path()), &[(2, "b"), (300, "c"), (1, "a")]);
    let ledger = open(directory.path());
    assert_eq!(read(&ledger), [(1, "a".into()), (2, "b".into()), (300, "c".into())]);
    assert!(ledger.read::<String>(OTHER).unwrap().values.is_empty());
}

#[test]
fn a_batch_replaces_and_removes_together() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    write(&ledger, &[(1, "a"), (2, "b")]);
    let mut batch = Batch::default();
    batch.put(NAMES, 1, &"z").unwrap();
    batch.remove(NAMES, 2);
    batch.remove(NAMES, 9);
    ledger.write(batch).unwrap();
    assert_eq!(read(&ledger), [(1, "z".into())]);
}

#[test]
fn a_value_that_is_too_large_is_refused_and_the_rest_of_the_batch_is_good() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let mut batch = Batch::default();
    let refused = batch.put(NAMES, 1, &"x".repeat(MAX_VALUE));
    assert!(matches!(refused, Err(LedgerError::TooLarge { number: 1, .. })), "{refused:?}");
    batch.put(NAMES, 2, &"y").unwrap();
    ledger.write(batch).unwrap();
    assert_eq!(read(&ledger), [(2, "y".into())]);
}

#[test]
fn a_value_of_another_type_is_counted_as_damaged_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    write(&ledger, &[(1, "a")]);
    assert_eq!(ledger.read::<u32>(NAMES).unwrap().damaged, 1);
    assert_eq!(ledger.read::<String>(NAMES).unwrap().values, []);
}

#[test]
fn a_second_opening_is_refused_and_nothing_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    write(&ledger, &[(1, "a")]);
    assert!(matches!(Ledger::open(&directory.path().join("ledger")), Err(LedgerError::Busy)));
    drop(ledger);
    assert_eq!(read(&open(directory.path())), [(1, "a".into())]);
}

#[test]
fn a_ledger_that_does_not_open_is_set_aside_and_an_empty_one_takes_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    write(&open(directory.path()), &[(7, "old")]);
    fs::remove_file(path.join("db")).unwrap();
    fs::create_dir(path.join("db")).unwrap();
    let opened = Ledger::open(&path).unwrap();
    let (aside, reason) = opened.set_aside.unwrap();
    assert!(aside.join("conf").exists() && !reason.is_empty());
    write(&opened.ledger, &[(1, "a")]);
    drop(opened.ledger);
    assert_eq!(read(&open(directory.path())), [(1, "a".into())]);
}

#[test]
fn a_ledger_whose_opening_ended_the_process_time_and_again_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    write(&open(directory.path()), &[(1, "a")]);
    fs::write(directory.path().join("ledger.opening"), "...").unwrap();
    assert_eq!(
        read(&open(directory.path())),
        [(1, "a".into())],
        "kills of an agent that starts are bad luck"
    );

    fs::write(directory.path().join("ledger.opening"), "........").unwrap();
    let opened = Ledger::open(&directory.path().join("ledger")).unwrap();
    assert!(opened.set_aside.is_some());
    assert_eq!(read(&opened.ledger), []);
    drop(opened);
    open(directory.path());
}

#[test]
fn flipped_bits_lose_values_at_most_and_never_change_one() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let written: BTreeMap<u64, String> = (0..40).map(|n| (n, format!("value {n} ").repeat(20))).collect();
    for (number, value) in &written {
        write(&ledger, &[(*number, value)]);
    }
    drop(ledger);
    let file = directory.path().join("ledger/db");
    let whole = fs::read(&file).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    for flip in 0..40 {
        let place = used * flip / 40;
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << (flip % 8);
        fs::remove_dir_all(directory.path().join("ledger")).unwrap();
        write(&open(directory.path()), &[]);
        fs::write(&file, &damaged).unwrap();
        let opened = Ledger::open(&directory.path().join("ledger")).unwrap();
        for (number, value) in read(&opened.ledger) {
            assert_eq!(written.get(&number), Some(&value), "bit {} of byte {place}", flip % 8);
        }
    }
}
