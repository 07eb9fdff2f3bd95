//! What a crash leaves. Alone in its file, because it changes the process for good.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit, set_dumpable_behavior, setrlimit,
};
use telemetry::forbid_core_dumps;

#[test]
fn a_process_with_keys_leaves_no_image_of_its_memory() {
    // As permissive as this machine lets it be before.
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: maximum, maximum }).expect("within the limit");
    set_dumpable_behavior(DumpableBehavior::Dumpable).expect("allowed");

    forbid_core_dumps().expect("allowed");

    // Neither where core dumps are files nor where a program takes them, and no way back.
    assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
    assert_eq!(dumpable_behavior().expect("known"), DumpableBehavior::NotDumpable);
}
