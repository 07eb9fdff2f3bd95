//! The security model from outside: every request by every caller, attacks, and secrets that must lie nowhere.

use tests::cluster::{Cluster, Plan};
use tests::trust;

#[test]
fn nobody_gets_more_from_three_managers_than_the_table_of_who_may_what_says() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    let outcome = trust::managers(&cluster, false).expect("it was lived through");
    println!("{outcome}");
    assert!(outcome.holds(), "{outcome}\n{}", outcome.wrong.join("\n"));
}
