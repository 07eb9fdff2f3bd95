//! What is refused is on record when it is answered, whoever took the call; and a flood of refusals is summed up.

use std::time::Duration;

use manager_core::{Config, Recovered};
use model::{
    audit::{Record, Verdict},
    command::{Command, Entry},
    identity::{Identity, Role},
    request::{ErrorCode, Request, Response},
};
use proto::codec::decode;

use crate::world::{ONE, World, admin, spec};

fn vic() -> Identity {
    Identity::Operator { name: "vic".into(), role: Role::Viewer }
}

fn records(world: &World) -> Vec<Record> {
    let leader = world.leader().expect("a leader");
    world.store(leader).audit_after(0).cloned().collect()
}

fn last(world: &World) -> Record {
    records(world).pop().expect("a record")
}

fn remove(name: &str) -> Request {
    Request::RemoveService(name.into())
}

#[test]
fn a_new_cluster_records_from_its_first_entry_on() {
    let mut world = World::new(1);
    world.create("web", 1);
    let records = records(&world);
    assert_eq!((records[0].verb.as_str(), records[0].who.as_str()), ("begin", "manager 1"));
    let made = records.last().expect("a record");
    assert_eq!((made.verb.as_str(), made.name.as_str()), ("create", "web"));
    assert_eq!(made.source.as_deref(), Some("10.0.0.9"));
}

#[test]
fn a_cluster_of_an_older_version_begins_to_record_when_its_managers_are_known_to_be_new() {
    let mut world = World::new(2);
    world.create("web", 1);
    let mut found: Recovered = world.hosts[&ONE].disk.recovered();
    world.crash(ONE);
    for entry in &mut found.entries {
        let began = decode::<Entry>(&entry.payload).is_ok_and(|entry| entry.command == Command::BeginAudit);
        if began {
            entry.payload.clear();
        }
    }
    let config = Config { version: "2".into(), ..world.config(ONE) };
    world.boot(config, found);
    world.until("it records", |world| {
        world.leader().is_some_and(|leader| world.store(leader).audit_ends().is_some())
    });
    assert_eq!(world.store(ONE).member(ONE).expect("itself").version, "2");
    assert_eq!((last(&world).number, last(&world).verb.as_str()), (1, "begin"));
}

#[test]
fn a_refusal_is_on_record_when_it_is_answered_and_a_read_never_is() {
    let mut world = World::of_three(3);
    world.create("web", 1);
    let mut invalid = spec("bad", 1);
    invalid.template.container.image = String::new();
    let cases = [
        (vic(), remove("web"), Verdict::Denied, "remove service web"),
        (admin(), remove("nothere"), Verdict::Rejected, "remove service nothere"),
        (admin(), Request::CreateService(invalid.into()), Verdict::Invalid, "create service bad"),
        (admin(), Request::CreateService(spec("web", 1).into()), Verdict::Rejected, "create service web"),
        (Identity::Node(model::id::NodeId(9)), remove("web"), Verdict::Unauthenticated, "remove service web"),
        (Identity::Anonymous, remove("web"), Verdict::Unauthenticated, "remove service web"),
    ];
    for (identity, request, verdict, what) in cases {
        let who = model::audit::holder(&identity);
        world.insist(identity, request).expect_err("refused");
        let record = last(&world);
        assert_eq!((record.who, record.verdict), (who, verdict), "{what}");
        assert_eq!(format!("{} {} {}", record.verb, record.kind, record.name), what);
    }
    let before = records(&world).len();
    world.insist(Identity::Anonymous, Request::ListServices).expect_err("refused");
    world.insist(vic(), Request::ListServices).expect("allowed");
    assert_eq!(records(&world).len(), before);
}

#[test]
fn whom_a_manager_refused_before_there_was_a_request_is_on_record_by_its_word_alone() {
    let mut world = World::new(9);
    world.create("web", 1);
    let note = |who| {
        let (source, reason) = ("10.0.0.77".into(), "the other side's certificate … (wrong CA)".into());
        Request::NoteRefusal { who, source, reason }
    };
    let connects = |world: &World| {
        let all = records(world).into_iter().filter(|record| record.verb == "connect");
        all.map(|record| (record.who, record.name, record.source, record.verdict, record.reason))
            .collect::<Vec<_>>()
    };
    for who in [Identity::Anonymous, vic()] {
        let error = world.insist(Identity::Manager(ONE), note(who)).expect_err("a refusal");
        assert_eq!(error.code, ErrorCode::Unauthenticated);
    }
    // Nobody else says who was refused.
    let error = world.insist(vic(), note(admin())).expect_err("a viewer");
    assert_eq!((error.code, last(&world).verb.as_str()), (ErrorCode::Denied, "note"));
    let expected = ["anonymous", "operator vic"].map(|who| {
        let (source, reason) =
            (Some("10.0.0.77".to_owned()), "the other side's certificate … (wrong CA)".into());
        (who.to_owned(), "1".to_owned(), source, Verdict::Unauthenticated, reason)
    });
    assert_eq!(connects(&world), expected);
}

#[test]
fn a_manager_that_does_not_lead_judges_no_change() {
    let mut world = World::of_three(4);
    let leader = world.leader().expect("a leader");
    let other = world.hosts.keys().copied().find(|id| *id != leader).expect("another");
    let handle = world.ask(other, vic(), Some(1), remove("web"));
    let refusal = world.answer(handle).expect("answered").clone().expect_err("refused");
    assert_eq!((refusal.code, refusal.leader), (ErrorCode::NotLeader, Some(leader)));
}

#[test]
fn a_retry_of_what_was_done_is_no_refusal_and_no_second_record() {
    let mut world = World::new(5);
    world.create("web", 0);
    let handle = world.ask(ONE, admin(), Some(7), remove("web"));
    world.until("it is answered", |world| world.answer(handle).is_some());
    world.until("it is gone", |world| world.store(ONE).service_by_name("web").is_none());
    world.insist_as(admin(), 7, remove("web")).expect("it was done");
    let of_it = records(&world).iter().filter(|record| record.request.is_some_and(|id| id.0 == 7)).count();
    assert_eq!(of_it, 1);
}

#[test]
fn a_flood_of_refusals_is_summed_up_and_leaves_room_for_others() {
    let mut world = World::new(6);
    world.create("web", 1);
    // The manager notes that it keeps the first data key.
    world.run_for(Duration::from_secs(1));
    let before = records(&world).len();
    for request in 0..500 {
        world.ask(ONE, vic(), Some(10_000 + request), remove("web"));
        world.ask(ONE, vic(), Some(20_000 + request), remove("nothere"));
    }
    world.insist(admin(), remove("nothere")).expect_err("not there");
    let of_ann = records(&world)[before..].iter().filter(|record| record.who == "operator ann").count();
    assert_eq!(of_ann, 1, "her refusal is on record although the other's are not");
    world.run_for(Duration::from_secs(61));
    let noted: Vec<Record> = records(&world).split_off(before);
    let sums: Vec<&Record> = noted.iter().filter(|record| record.verdict == Verdict::Summed).collect();
    let single = noted.iter().filter(|record| record.who == "operator vic").count() - sums.len();
    assert!(single < 100, "{single} of 1000");
    assert_eq!(
        (sums.len(), sums[0].reason.as_str()),
        (1, format!("{} more refusals", 1_000 - single).as_str())
    );
}

#[test]
fn who_wanted_another_leader_is_recorded_before_the_lead_goes() {
    let mut world = World::of_three(7);
    let before = world.leader().expect("a leader");
    world.admin(Request::TransferLeader { to: None });
    world.until("another leads", |world| world.leader().is_some_and(|leader| leader != before));
    let moves = |record: &&Record| record.verb == "transfer" && record.verdict == Verdict::Accepted;
    assert_eq!(records(&world).iter().filter(moves).count(), 1);
}

#[test]
fn all_managers_come_to_the_same_head_and_only_admins_read_it() {
    let mut world = World::of_three(8);
    world.create("web", 1);
    world.insist(vic(), remove("web")).expect_err("denied");
    let applied =
        |world: &World| world.running().map(|(id, _)| world.store(id).applied()).collect::<Vec<_>>();
    world.until("all have applied the same", |world| {
        applied(world).iter().all(|index| *index == applied(world)[0])
    });
    let heads: Vec<_> = world.running().map(|(id, _)| world.store(id).audit_ends()).collect();
    assert!(heads[0].is_some() && heads.iter().all(|head| *head == heads[0]), "{heads:?}");

    let read = Request::GetAudit { after: 0 };
    for identity in [vic(), Identity::Manager(ONE), Identity::Anonymous] {
        world.insist(identity, read.clone()).expect_err("not for everybody");
    }
    let Response::Audit(page) = world.admin(read) else { panic!("another answer") };
    assert_eq!(page.anchor.follow_all(&page.records), Ok(page.head));
}
