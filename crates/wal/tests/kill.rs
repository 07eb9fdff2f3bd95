//! SIGKILL at any moment on a real directory. It proves recovery, not durability: the page cache survives.

mod common;

use common::child::{Writer, check_log, write_if_child};
use common::{Dice, counted, rounds};

#[test]
fn child_process() {
    write_if_child();
}

#[test]
fn a_writer_that_is_killed_again_and_again_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let mut dice = Dice(3);
    let mut last = 0;
    for _ in 0..rounds(12) {
        let mut writer = Writer::start(directory.path());
        writer.wait_for(1 + dice.roll(120));
        let acknowledged = writer.kill();
        assert!(acknowledged >= last, "the child itself recovered all of it");
        last = check_log(directory.path(), acknowledged);
    }
    assert!(last > 100, "the children did write: {last}");
    counted("real kills", rounds(12));
}
