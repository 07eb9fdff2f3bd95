//! What is recorded, of whom, and that no record is lost, doubled or changed.

use crate::common::{SERVICE, World, encode, load, spec};
use model::{
    audit::{About, Link, Note, Origin, Record, Verdict},
    command::{Command, Entry},
    id::{ClusterId, NodeId, RequestId},
    identity::{Identity, Role},
    registry::{Login, RegistrySpec, Secret},
};
use store::{MAX_AUDIT_BYTES, Store};

fn ann() -> Identity {
    Identity::Operator { name: "ann".into(), role: Role::Admin }
}

fn begun() -> World {
    let mut world = World::with_nodes(&[1]);
    world.done(Command::BeginAudit);
    world
}

/// Asked by ann in a CI job.
fn asked(world: &mut World, request: u64, command: Command) -> store::Applied {
    let origin = Origin::new(Some("10.0.0.1".into()), Some("https://ci/1".into()));
    let entry = Entry { request: Some(RequestId(request)), actor: ann(), origin, ..world.entry(command) };
    world.apply_entry(&entry)
}

fn records(store: &Store) -> Vec<Record> {
    store.audit_after(0).cloned().collect()
}

fn last(world: &World) -> Record {
    records(&world.store).pop().expect("a record")
}

fn create(name: &str) -> Command {
    Command::CreateService { id: SERVICE, spec: spec(name, "web:1", 1).into() }
}

fn note(verdict: Verdict, reason: &str) -> Note {
    Note {
        who: "operator vic".into(),
        origin: Origin::default(),
        request: Some(RequestId(77)),
        about: About::new("remove", "service", "web"),
        verdict,
        reason: reason.into(),
    }
}

#[test]
fn nothing_is_recorded_before_the_audit_begins_and_it_begins_once() {
    let mut world = World::with_nodes(&[1]);
    assert_eq!((world.store.audit_ends(), records(&world.store).len()), (None, 0));
    world.refused(Command::Audit(vec![note(Verdict::Denied, "")]));
    world.done(Command::BeginAudit);
    let first = last(&world);
    assert_eq!((first.number, first.verb.as_str(), first.kind.as_str()), (1, "begin", "audit"));
    assert_eq!(world.store.audit_ends().expect("begun").0, Link::genesis(ClusterId(1)));
    world.refused(Command::BeginAudit);
}

#[test]
fn a_change_is_recorded_with_everything_that_is_known_of_it() {
    let mut world = begun();
    asked(&mut world, 5, create("web"));
    let made = last(&world);
    assert_eq!(
        (made.who.as_str(), made.verb.as_str(), made.name.as_str()),
        ("operator ann", "create", "web")
    );
    assert_eq!((made.source.as_deref(), made.job.as_deref()), (Some("10.0.0.1"), Some("https://ci/1")));
    assert_eq!(
        (made.request, made.verdict, made.at),
        (Some(RequestId(5)), Verdict::Accepted, world.store.time())
    );
    assert!(made.old.is_none() && made.new.is_some());

    asked(&mut world, 6, Command::ScaleServices(vec![(SERVICE, 4)]));
    let scaled = last(&world);
    assert_eq!(scaled.old, made.new, "what one record left is what the next one found");
    assert_ne!(scaled.new, made.new);

    asked(&mut world, 7, create("web"));
    let refused = last(&world);
    assert_eq!(
        (refused.verdict, refused.reason.as_str()),
        (Verdict::Rejected, "there is a service of that name")
    );
    assert_eq!(refused.old, refused.new);
}

#[test]
fn a_digest_is_that_of_the_declaration_as_json() {
    let mut world = begun();
    asked(&mut world, 5, create("web"));
    let json = serde_json::to_vec(&*world.service().spec).expect("JSON");
    assert_eq!(last(&world).new, Some(model::audit::Digest::of(&json)));
}

#[test]
fn a_request_that_comes_again_is_recorded_once() {
    let mut world = begun();
    for _ in 0..3 {
        asked(&mut world, 5, create("web"));
        asked(&mut world, 6, create("web"));
    }
    let of = |request| {
        records(&world.store).iter().filter(|record| record.request == Some(RequestId(request))).count()
    };
    assert_eq!((of(5), of(6)), (1, 1));
}

#[test]
fn what_managers_and_agents_do_by_themselves_is_not_recorded() {
    let mut world = begun();
    world.create(spec("web", "web:1", 1));
    let before = records(&world.store);
    world.fill(1, 1, Some(1)).expect("placed");
    world.down(NodeId(1));
    world.up(NodeId(1), 2);
    assert_eq!(records(&world.store), before);
}

#[test]
fn a_noted_refusal_is_recorded_and_its_request_is_not_taken_for_done() {
    let mut world = begun();
    let refusal = Command::Audit(vec![note(Verdict::Denied, "vic may read")]);
    assert!(asked(&mut world, 77, refusal.clone()).outcome.is_err());
    let record = last(&world);
    assert_eq!((record.who.as_str(), record.verdict), ("operator vic", Verdict::Denied));
    assert_eq!((record.verb.as_str(), record.reason.as_str()), ("remove", "vic may read"));
    let again = asked(&mut world, 77, refusal);
    assert!(again.replay && again.outcome.is_err());
    assert_eq!(last(&world), record);
}

#[test]
fn no_record_has_a_secret_and_another_password_has_another_digest() {
    let mut world = begun();
    let declare = |password: &str| {
        let login = Login::Password { username: "ci".into(), password: Secret::new(password) };
        Command::SetRegistry(RegistrySpec { host: "r".into(), login: Some(login), ..RegistrySpec::default() })
    };
    asked(&mut world, 1, declare("hunter2"));
    let first = last(&world);
    asked(&mut world, 2, declare("canary"));
    assert_ne!(last(&world).new, first.new);
    let text = serde_json::to_string(&records(&world.store)).expect("JSON");
    assert!(!text.contains("hunter2") && !text.contains("canary"), "{text}");
}

#[test]
fn the_oldest_records_go_and_the_rest_stays_chained_to_the_anchor() {
    let mut world = begun();
    let mut known = vec![last(&world)];
    let long = "x".repeat(200);
    let notes = || Command::Audit((0..200).map(|_| note(Verdict::Denied, &long)).collect());
    while world.store.audit_ends().expect("begun").0.number == 0 {
        let seen = known.len() as u64;
        world.apply(notes());
        known.extend(world.store.audit_after(seen).cloned());
        assert!(known.len() < 20_000, "nothing goes");
    }
    let (anchor, head) = world.store.audit_ends().expect("begun");
    let kept = records(&world.store);
    assert_eq!(anchor.hash, known[anchor.number as usize - 1].hash);
    assert_eq!(anchor.follow_all(&kept), Ok(head));
    assert_eq!(kept[..], known[anchor.number as usize..]);
    let bytes: u64 = kept.iter().map(Record::size).sum();
    assert!(bytes < MAX_AUDIT_BYTES as u64 && bytes > MAX_AUDIT_BYTES as u64 / 3, "{bytes}");
}

#[test]
fn a_snapshot_brings_the_audit_along_and_a_changed_one_is_not_loaded() {
    let mut world = begun();
    asked(&mut world, 5, create("web"));
    let bytes = encode(&world.store);
    let mut loaded = load(&bytes);
    assert_eq!((loaded.hash(), loaded.audit_ends()), (world.store.hash(), world.store.audit_ends()));
    let next = world.entry(Command::ScaleServices(vec![(SERVICE, 2)]));
    loaded.apply(world.store.applied() + 1, &next);
    world.apply_entry(&next);
    assert_eq!(records(&loaded), records(&world.store));

    let mut tree = serde_json::to_value(&world.store).expect("JSON");
    tree["audit"]["records"][1]["who"] = "operator eve".into();
    let error = serde_json::from_value::<Store>(tree).expect_err("it is not loaded").to_string();
    assert!(error.contains("record 2 is broken"), "{error}");
}

#[test]
fn records_after_a_number_are_found_wherever_the_list_begins() {
    let mut world = begun();
    for request in 1..9 {
        asked(&mut world, request, create("web"));
    }
    let numbers = |after| world.store.audit_after(after).map(|record| record.number).collect::<Vec<_>>();
    assert_eq!(numbers(6), [7, 8, 9]);
    assert_eq!((numbers(0).len(), numbers(9).len(), numbers(u64::MAX - 1).len()), (9, 0, 0));
}
