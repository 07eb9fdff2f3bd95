use std::time::Duration;

use model::{audit::Digest, id::ClusterId};

use super::*;

fn record(who: &str, kind: &str, name: &str, verdict: Verdict) -> Record {
    let nothing = Digest::of(b"");
    Record {
        number: 0,
        at: ClusterTime(1_000_000),
        who: who.into(),
        source: None,
        job: None,
        request: None,
        verb: "update".into(),
        kind: kind.into(),
        name: name.into(),
        old: None,
        new: None,
        verdict,
        reason: String::new(),
        previous: nothing,
        hash: nothing,
    }
}

fn chain(count: usize) -> Chain {
    let anchor = Link::genesis(ClusterId(1));
    let mut head = anchor;
    let mut records = Vec::new();
    for number in 0..count {
        let mut next = record("operator ann", "service", &format!("s{number}"), Verdict::Accepted);
        head.seal(&mut next);
        head = Link { number: next.number, hash: next.hash };
        records.push(next);
    }
    Chain { anchor, head, records }
}

fn text(chain: &Chain) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("audit.jsonl");
    export::write(&file, ClusterId(1), chain).expect("written");
    std::fs::read_to_string(file).expect("read")
}

#[test]
fn an_export_reads_back_and_names_the_first_record_that_was_touched() {
    let whole = text(&chain(5));
    intact(&export::parse(&whole).expect("read")).expect("whole");
    let says = |text: &str| match export::parse(text) {
        Ok(chain) => intact(&chain).expect_err("broken").message,
        Err(wrong) => wrong,
    };
    assert!(says(&whole.replace("\"s2\"", "\"s9\"")).contains("record 3 is broken"));
    let cut: String = whole.lines().take(4).map(|line| format!("{line}\n")).collect();
    assert!(says(&cut).contains("record 4 is broken"), "{}", says(&cut));
    let holed: String =
        whole.lines().filter(|line| !line.contains("\"s1\"")).map(|l| format!("{l}\n")).collect();
    assert!(says(&holed).contains("record 2 is broken"), "{}", says(&holed));
    assert!(says("{}").contains("no export"));
}

#[test]
fn a_cluster_is_compared_with_what_it_said_before() {
    let (old, new) = (chain(3), chain(6));
    export::compare(&old, &new).expect("it went on");
    assert!(export::compare(&new, &old).expect_err("shorter").contains("record 4 is broken"));

    // Made anew from the second record on, whole in itself.
    let mut other = chain(1);
    let mut changed = record("operator eve", "service", "s1", Verdict::Accepted);
    for _ in 0..4 {
        other.head.seal(&mut changed);
        other.head = Link { number: changed.number, hash: changed.hash };
        other.records.push(changed.clone());
    }
    intact(&other).expect("whole");
    assert!(export::compare(&old, &other).expect_err("another").contains("record 2 is broken"));

    let mut late = chain(6);
    late.anchor = Link { number: 4, hash: late.records[3].hash };
    late.records.drain(..4);
    assert!(export::compare(&old, &late).expect_err("too old").contains("cannot be compared"));
    export::compare(&chain(5), &late).expect("they meet");
}

#[test]
fn records_are_chosen_by_who_object_verdict_age_and_number() {
    let records = [
        record("operator ann", "service", "web,db", Verdict::Accepted),
        record("operator bob", "node", "n1", Verdict::Denied),
        record("node ann", "certificate", "7", Verdict::Accepted),
    ];
    let all = AuditLs { since: None, who: None, object: None, verdict: None, limit: 0 };
    let count = |wanted: AuditLs| chosen(&records, &wanted, ClusterTime(11_000_000)).len();
    let of = |who: &str| count(AuditLs { who: Some(who.into()), ..all_of(&all) });
    assert_eq!((of("ann"), of("operator ann"), of("operator"), of("an")), (2, 1, 2, 0));
    let about = |object: &str| count(AuditLs { object: Some(object.into()), ..all_of(&all) });
    assert_eq!((about("service"), about("db"), about("service/web"), about("node/web")), (1, 1, 1, 0));
    let ended = |verdict: &str| count(AuditLs { verdict: Some(verdict.into()), ..all_of(&all) });
    assert_eq!((ended("accepted"), ended("refused"), ended("denied"), ended("frozen")), (2, 1, 1, 0));
    let since = |seconds| count(AuditLs { since: Some(Duration::from_secs(seconds)), ..all_of(&all) });
    assert_eq!((since(5), since(20)), (0, 3));
    let newest = chosen(&records, &AuditLs { limit: 1, ..all_of(&all) }, ClusterTime(0));
    assert_eq!(newest[0].who, "node ann");
}

fn all_of(wanted: &AuditLs) -> AuditLs {
    AuditLs { since: wanted.since, who: None, object: None, verdict: None, limit: wanted.limit }
}
