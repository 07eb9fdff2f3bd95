//! Joining, leaving, certificates, retries, the stream of events, snapshots, references.

use crate::common::{SERVICE, TOKEN, World, bootstrap, encode, facts, load, observed, spec, token};
use model::{
    cluster::ClusterSettings,
    command::{Answer, Command, Decision, Entry, Rejection},
    event::{EventKind, Revision},
    freeze::{FreezeSpec, MAX_FREEZES, Window},
    id::{MemberId, NodeId, RequestId, TaskId, TokenId},
    identity::{Identity, JoinRole, Role},
    node::{Incarnation, NodeState},
    sealed::{KeyId, Sealed},
    task::TaskState,
    time::ClusterTime,
};
use store::{MAX_EVENTS, MAX_REQUESTS, Store};

const MANAGERS: TokenId = TokenId(8);

fn join_node(world: &World, id: u64, token: TokenId) -> Command {
    Command::JoinNode { id: NodeId(id), token, facts: facts("h1"), serial: world.serial(), key: None }
}

fn join_member(world: &World, id: u64) -> Command {
    Command::JoinMember {
        id: MemberId(id),
        token: MANAGERS,
        name: format!("m{id}"),
        address: format!("m{id}:4400"),
        serial: world.serial(),
        fingerprint: format!("f{id}"),
    }
}

fn world_of_managers(count: u64) -> World {
    let mut world = World::new();
    world.done(Command::CreateToken(token(MANAGERS, JoinRole::Manager)));
    for id in 2..=count {
        world.done(join_member(&world, id));
    }
    world
}

#[test]
fn nothing_is_accepted_before_there_is_a_cluster_and_no_second_one_after() {
    let mut store = Store::new();
    let entry = |command| Entry {
        at: ClusterTime(1),
        request: None,
        actor: Identity::Anonymous,
        command,
        origin: Default::default(),
    };
    assert!(store.apply(1, &entry(Command::RemoveMember { id: MemberId(1) })).outcome.is_err());
    assert!(store.apply(2, &entry(bootstrap())).outcome.is_ok());
    assert!(store.apply(3, &entry(bootstrap())).outcome.is_err());
    assert_eq!(store.members().count(), 1);
}

#[test]
fn a_token_admits_as_often_as_it_says_until_it_ends_and_for_its_role_only() {
    let mut world = World::new();
    let mut single = token(TokenId(20), JoinRole::Agent);
    single.uses_left = 1;
    single.expires = ClusterTime(world.now.0 + 1_000_000);
    world.done(Command::CreateToken(single.clone()));
    world.done(join_node(&world, 1, single.id));
    let again = world.refused(join_node(&world, 2, single.id));
    assert!(again.to_string().contains("used up"), "{again}");

    let mut late = token(TokenId(21), JoinRole::Agent);
    late.expires = ClusterTime(world.now.0 + 1_000_000);
    world.done(Command::CreateToken(late.clone()));
    world.now = late.expires;
    assert!(world.refused(join_node(&world, 2, late.id)).to_string().contains("expired"));

    world.done(Command::CreateToken(token(MANAGERS, JoinRole::Manager)));
    assert!(world.refused(join_node(&world, 2, MANAGERS)).to_string().contains("manager"));
    world.done(Command::RevokeToken { id: TOKEN });
    assert!(world.refused(join_node(&world, 2, TOKEN)).to_string().contains("unknown or was revoked"));
    assert!(matches!(world.refused(Command::RevokeToken { id: TOKEN }), Rejection::Missing { .. }));
}

#[test]
fn a_serial_number_is_given_out_once() {
    let mut world = World::with_nodes(&[1]);
    let next = world.serial();
    for serial in [next - 1, next + 1, 0, u64::MAX] {
        world.refused(Command::CertificateIssued {
            serial,
            node: None,
            proven: None,
            member: None,
            key: None,
        });
    }
    world.refused(Command::CertificateIssued {
        serial: next,
        node: Some(NodeId(99)),
        proven: None,
        member: None,
        key: None,
    });
    world.done(Command::CertificateIssued {
        serial: next,
        node: Some(NodeId(1)),
        proven: None,
        member: None,
        key: None,
    });
    assert_eq!(world.store.node(NodeId(1)).expect("known").certificate, next);
    world.refused(Command::CertificateIssued {
        serial: next,
        node: None,
        proven: None,
        member: None,
        key: None,
    });
}

#[test]
fn a_removed_node_loses_its_tasks_and_never_comes_back() {
    let mut world = World::with_nodes(&[1, 2]);
    world.create(spec("web", "web:1", 1));
    world.fill(11, 1, Some(1)).expect("fills");
    world.report(11, observed(TaskState::Running, 1));
    world.refused(Command::RemoveNode { id: NodeId(1), force: false });
    world.done(Command::RemoveNode { id: NodeId(1), force: true });
    assert_eq!(world.task(11).observed.state, TaskState::Lost);
    assert!(world.store.is_revoked(&Identity::Node(NodeId(1))));
    assert!(!world.store.is_revoked(&Identity::Node(NodeId(2))));
    world.refused(join_node(&world, 1, TOKEN));
    let up = Command::NodeUp { id: NodeId(1), incarnation: Incarnation(2), facts: facts("h1") };
    world.refused(up);
}

#[test]
fn a_node_that_is_down_is_removed_without_force() {
    let mut world = World::with_nodes(&[1]);
    world.down(NodeId(1));
    world.done(Command::RemoveNode { id: NodeId(1), force: false });
    assert_eq!(world.store.nodes().count(), 0);
}

#[test]
fn a_verdict_on_a_node_that_has_come_back_meanwhile_is_refused() {
    let mut world = World::with_nodes(&[1]);
    let expected = world.store.node(NodeId(1)).expect("known").generation;
    world.up(NodeId(1), 2);
    world.refused(Command::NodeDown { id: NodeId(1), expected, message: "silent".into() });
    assert_eq!(world.store.node(NodeId(1)).expect("known").state, NodeState::Ready);
    let old = Command::NodeUp { id: NodeId(1), incarnation: Incarnation(1), facts: facts("h1") };
    world.refused(old);
}

fn freeze(name: &str, from: u64, until: u64) -> FreezeSpec {
    let windows = vec![Window { from: ClusterTime(from), until: ClusterTime(until) }];
    FreezeSpec { name: name.into(), windows, ..FreezeSpec::default() }
}

#[test]
fn a_freeze_is_replaced_by_its_name_forgotten_when_it_is_over_and_about_the_nodes_with_its_labels() {
    let mut world = World::with_nodes(&[1, 2]);
    let now = world.store.time().0;
    world.done(Command::SetFreeze(freeze("over", now + 1, now + 2)));
    let mut beam = freeze("beam", now, now + 1_000_000_000);
    world.done(Command::SetFreeze(beam.clone()));
    let names = |world: &World| world.store.freezes().iter().map(|f| f.spec.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&world), ["beam"]);
    let at = ClusterTime(now + 5);
    assert!(world.store.freeze_of(NodeId(1), at).is_some());
    beam.nodes.insert("beamline".into(), "id23".into());
    world.done(Command::SetFreeze(beam));
    assert!(world.store.freeze_of(NodeId(1), at).is_none(), "it has no such label");
    let mut spec = world.store.node(NodeId(1)).expect("known").spec.clone();
    spec.labels.insert("beamline".into(), "id23".into());
    world.done(Command::UpdateNode { id: NodeId(1), expected: None, spec });
    assert!(world.store.freeze_of(NodeId(1), at).is_some());
    assert!(world.store.freeze_of(NodeId(2), at).is_none());
    world.refused(Command::RemoveFreeze { name: "beams".into() });
    world.done(Command::RemoveFreeze { name: "beam".into() });
    for number in 0..MAX_FREEZES {
        world.done(Command::SetFreeze(freeze(&format!("f{number}"), now, u64::MAX)));
    }
    world.refused(Command::SetFreeze(freeze("more", now, u64::MAX)));
}

#[test]
fn member_ids_grow_and_are_never_given_out_again() {
    let mut world = world_of_managers(3);
    world.refused(join_member(&world, 3));
    world.refused(join_member(&world, 9));
    world.done(Command::RemoveMember { id: MemberId(3) });
    assert!(world.store.is_revoked(&Identity::Manager(MemberId(3))));
    world.refused(join_member(&world, 3));
    world.done(join_member(&world, 4));
    assert!(!world.store.is_revoked(&Identity::Manager(MemberId(4))));
    assert!(
        !world.store.is_revoked(&Identity::Manager(MemberId(5))),
        "this state may lag behind its joining"
    );
}

#[test]
fn the_last_manager_stays() {
    let mut world = World::new();
    world.refused(Command::RemoveMember { id: MemberId(1) });
}

#[test]
fn a_recovery_leaves_one_manager_under_a_new_id() {
    let mut world = world_of_managers(3);
    world.refused(Command::RecoverMembers { survivor: MemberId(2), address: "m2:4400".into() });
    world.done(Command::RecoverMembers { survivor: MemberId(4), address: "m2:4400".into() });
    let members: Vec<_> = world.store.members().map(|member| (member.id, member.name.clone())).collect();
    assert_eq!(members, [(MemberId(4), "m2".to_owned())]);
    for id in 1..=3 {
        assert!(world.store.is_revoked(&Identity::Manager(MemberId(id))));
    }
}

#[test]
fn an_operator_is_not_refused_by_the_tables_and_nobody_is_before_the_first_entry() {
    let operator = Identity::Operator { name: "ann".into(), role: Role::Viewer };
    assert!(!World::new().store.is_revoked(&operator));
    assert!(!Store::new().is_revoked(&Identity::Manager(MemberId(1))));
}

#[test]
fn a_retry_is_answered_the_same_and_happens_once() {
    let mut world = World::with_nodes(&[1]);
    world.create(spec("web", "web:1", 1));
    let scale = || Command::ScaleServices(vec![(SERVICE, 5)]);
    let first = world.retry(1, scale());
    world.done(Command::ScaleServices(vec![(SERVICE, 2)]));
    let before = world.store.objects_hash();
    let second = world.retry(1, scale());
    assert_eq!((second.outcome, second.replay, second.changes), (first.outcome, true, vec![]));
    assert_eq!(world.store.objects_hash(), before);

    let refused = world.retry(2, Command::RemoveMember { id: MemberId(77) });
    let again = world.retry(2, bootstrap());
    assert_eq!((again.outcome, again.replay), (refused.outcome, true));
}

#[test]
fn requests_are_remembered_up_to_a_bound() {
    let mut world = World::new();
    let command = || Command::RemoveMember { id: MemberId(77) };
    for request in 0..=MAX_REQUESTS as u64 {
        let entry = Entry { request: Some(RequestId(request)), ..world.entry(command()) };
        world.store.apply(world.store.applied() + 1, &entry);
    }
    assert!(!world.retry(0, command()).replay, "the oldest is forgotten");
    assert!(world.retry(MAX_REQUESTS as u64, command()).replay);
}

#[test]
fn an_entry_that_was_applied_changes_nothing_when_it_comes_again() {
    let mut world = World::new();
    let before = world.store.hash();
    let entry = world.entry(Command::RevokeToken { id: TOKEN });
    let applied = world.store.apply(world.store.applied(), &entry);
    assert!(applied.outcome.is_err());
    assert_eq!(world.store.hash(), before);
}

#[test]
fn a_watcher_misses_nothing_or_is_told_to_start_again() {
    let mut world = World::new();
    let start = world.store.revision();
    let mut seen = Vec::new();
    let mut cursor = start;
    for id in 1..=20 {
        world.join(NodeId(id), &format!("h{id}"));
        for event in world.store.events_after(Some(cursor)).expect("kept") {
            assert!(event.revision > cursor);
            cursor = event.revision;
            seen.push(event.clone());
        }
    }
    let at_once: Vec<_> = world.store.events_after(Some(start)).expect("kept").cloned().collect();
    assert_eq!(at_once, seen);
    let joined = seen.iter().filter(|event| matches!(event.kind, EventKind::Node { .. })).count();
    assert_eq!(joined, 40, "each joined and connected");

    for turn in 0..MAX_EVENTS as u64 {
        let entry = world.entry(Command::UpdateMember {
            id: MemberId(1),
            address: format!("m1:{turn}"),
            version: "1".into(),
            key: None,
        });
        world.store.apply(world.store.applied() + 1, &entry);
    }
    let resync = world.store.events_after(Some(start)).err().expect("no longer kept");
    assert_eq!(resync.at, world.store.revision());
    assert_eq!(world.store.events_after(Some(resync.at)).expect("kept").count(), 0);
    assert_eq!(world.store.events_after(None).expect("kept").count(), MAX_EVENTS);
    let beyond = Revision { index: world.store.applied() + 1, ordinal: 0 };
    assert!(world.store.events_after(Some(beyond)).is_err(), "from a manager that was ahead");
}

#[test]
fn a_snapshot_loads_into_the_same_state_and_goes_on_the_same() {
    let mut world = World::with_nodes(&[1, 2]);
    world.create(spec("web", "web:1", 3));
    world.fill(11, 1, Some(1)).expect("fills");
    world.fill(12, 2, None).expect("pending");
    world.retry(5, Command::ScaleServices(vec![(SERVICE, 4)]));
    let mut loaded = load(&encode(&world.store));
    loaded.check().expect("consistent");
    assert_eq!(loaded.hash(), world.store.hash());
    let entry = Entry { request: Some(RequestId(5)), ..world.entry(bootstrap()) };
    let index = loaded.applied() + 1;
    assert_eq!(loaded.apply(index, &entry), world.store.apply(index, &entry));
    assert_eq!(loaded.hash(), world.store.hash());
}

#[test]
fn a_snapshot_whose_tables_contradict_each_other_is_not_loaded() {
    let mut world = World::with_nodes(&[1]);
    world.create(spec("web", "web:1", 3));
    world.fill(11, 1, Some(1)).expect("fills");
    let bytes = encode(&world.store);
    let at = bytes.windows(8).position(|part| part == b"services").expect("the table of services");
    let mut without = bytes.clone();
    without[at] = b'x';
    assert!(rmp_serde::from_slice::<Store>(&without).is_err(), "a task without its service");
}

#[test]
fn a_clone_does_not_change_with_its_original() {
    let mut world = World::with_nodes(&[1]);
    let (view, hash) = (world.store.clone(), world.store.hash());
    world.create(spec("web", "web:1", 3));
    assert_eq!(view.hash(), hash);
    assert!(view.service(SERVICE).is_none());
}

#[test]
fn a_reference_is_a_name_an_id_or_an_unambiguous_beginning_of_one() {
    let mut world = World::with_nodes(&[1]);
    world.join(NodeId(1 << 60), "h2");
    world.join(NodeId((1 << 60) + 1), "h3");
    world.join(NodeId(77), "h3");
    world.create(spec("web", "web:1", 3));
    world.fill(11, 1, Some(1)).expect("fills");

    let node = |text: &str| world.store.resolve_node(text).map(|node| node.id);
    assert_eq!(node("h1"), Ok(NodeId(1)));
    assert_eq!(node(&NodeId(1).to_string()), Ok(NodeId(1)));
    assert!(matches!(node("1000"), Err(Rejection::Conflict(_))), "two ids begin so");
    assert!(matches!(node("h3"), Err(Rejection::Conflict(_))), "two hosts are called so");
    assert!(matches!(node("100000000000"), Err(Rejection::Conflict(_))), "two still");
    assert!(matches!(node("100"), Err(Rejection::Missing { .. })), "too short");
    assert!(matches!(node("zzzz"), Err(Rejection::Missing { .. })), "beyond 64 bits");
    assert_eq!(
        world.store.node_by_name("h3").map(|node| node.id),
        Some(NodeId(77)),
        "the one that joined last"
    );

    assert_eq!(world.store.resolve_service("web").map(|service| service.id), Ok(SERVICE));
    let text = SERVICE.to_string();
    assert_eq!(world.store.resolve_service(&text[..12]).map(|service| service.id), Ok(SERVICE));
    assert_eq!(world.store.resolve_task("web.1").map(|task| task.id), Ok(TaskId(11)));
    assert!(world.store.resolve_task("web.2").is_err());
    assert_eq!(world.store.resolve_task(&TaskId(11).to_string()).map(|task| task.id), Ok(TaskId(11)));
}

#[test]
fn a_token_goes_when_it_is_of_no_more_use_and_not_before() {
    let mut world = World::new();
    let drop = |id| Decision::DropToken { id };
    assert!(world.decide(drop(TOKEN)).is_err());
    let mut short = token(TokenId(20), JoinRole::Agent);
    short.expires = ClusterTime(world.now.0 + 10);
    world.done(Command::CreateToken(short.clone()));
    world.decide(drop(short.id)).expect("expired by then");
    assert_eq!(world.store.token(short.id), None);
}

#[test]
fn a_new_token_is_answered_with_its_id_and_end() {
    let mut world = World::new();
    let new = token(TokenId(20), JoinRole::Agent);
    let applied = world.done(Command::CreateToken(new.clone()));
    assert_eq!(applied.outcome, Ok(Answer::Token { id: new.id, expires: new.expires }));
    assert!(matches!(world.refused(Command::CreateToken(new)), Rejection::Exists { .. }));
}

#[test]
fn manager_that_has_to_be_approved_joins_once_it_is_and_not_when_it_is_denied() {
    let mut world = World::new();
    world.done(Command::CreateToken(token(MANAGERS, JoinRole::Manager)));
    let settings = world.store.cluster().expect("founded").settings.clone();
    world.done(Command::SetSettings(ClusterSettings { approve_managers: true, ..settings }));
    let judge = |number: u64, approved| Command::JudgeJoiner {
        fingerprint: format!("f{number}"),
        name: format!("m{number}"),
        approved,
    };
    world.refused(join_member(&world, 2));
    world.done(judge(2, false));
    world.done(judge(3, true));
    world.refused(join_member(&world, 2));
    world.done(judge(2, true));
    world.done(join_member(&world, 2));
    (10..60).for_each(|number| drop(world.done(judge(number, true))));
    assert_eq!(world.store.cluster().expect("founded").judged.len(), 32, "a bounded number");
}

/// The entry that puts authority `to` in the place of `from`.
fn rotate(from: &str, to: &str, key: u64) -> Command {
    let sealed = Sealed { key: KeyId(key), nonce: [1; 12], bytes: b"key".to_vec().into() };
    Command::RotateAuthority {
        current: from.into(),
        certificate: to.into(),
        bridge: format!("{from} to {to}"),
        sealed,
    }
}

fn finish(current: &str, leave_behind: bool) -> Command {
    Command::FinishRotation { current: current.into(), leave_behind }
}

fn issued(world: &World, node: Option<u64>, member: Option<u64>) -> Command {
    Command::CertificateIssued {
        serial: world.serial(),
        node: node.map(NodeId),
        proven: None,
        member: member.map(MemberId),
        key: Some("print".into()),
    }
}

fn authority(world: &World) -> &model::cluster::Authority {
    &world.store.cluster().expect("founded").authority
}

fn behind(world: &World) -> (Vec<MemberId>, Vec<NodeId>) {
    let members = world.store.members_behind().map(|member| member.id).collect();
    (members, world.store.nodes_behind().map(|node| node.id).collect())
}

/// A cluster with a data key, the authority `a` and two nodes.
fn with_authority() -> World {
    let mut world = World::with_nodes(&[1, 2]);
    world.done(Command::AddKey { id: KeyId(1), fingerprint: 1 });
    let (id, address, version) = (MemberId(1), "m1:4400".into(), "1".into());
    world.done(Command::UpdateMember { id, address, version, key: Some(KeyId(1)) });
    world.done(Command::UseKey { id: KeyId(1) });
    let present = authority(&world).certificate.clone();
    world.done(rotate(&present, "a", 1));
    world.done(issued(&world, None, Some(1)));
    world.done(finish("a", true));
    world
}

#[test]
fn another_authority_takes_the_place_and_what_the_former_one_issued_counts_until_the_end() {
    let mut world = with_authority();
    world.done(Command::CreateToken(token(TokenId(20), JoinRole::Agent)));
    world.refused(rotate("b", "c", 1));
    world.refused(rotate("a", "b", 2));
    world.done(rotate("a", "b", 1));
    assert_eq!(world.store.tokens().count(), 0, "their secrets come of the former one's key");
    assert_eq!(behind(&world), (vec![MemberId(1)], vec![NodeId(1), NodeId(2)]));
    assert!(authority(&world).bundle().starts_with("b\na\na to b\n"), "{}", authority(&world).bundle());
    assert!(world.refused(rotate("b", "c", 1)).to_string().contains("orchctl authority finish"));

    assert!(world.refused(finish("b", true)).to_string().contains("manager"), "it would be shut out");
    world.done(issued(&world, None, Some(1)));
    world.done(issued(&world, Some(1), None));
    assert_eq!(behind(&world), (vec![], vec![NodeId(2)]));
    world.done(Command::CreateToken(token(TOKEN, JoinRole::Agent)));
    world.join(NodeId(3), "h3");
    assert_eq!(behind(&world), (vec![], vec![NodeId(2)]), "who joins has one of the new authority");

    assert!(world.refused(finish("b", false)).to_string().contains("node h2"));
    world.refused(finish("a", true));
    world.done(finish("b", true));
    assert_eq!(behind(&world), (vec![], vec![]));
    assert!(authority(&world).bundle().starts_with("b\na to b\n"), "{}", authority(&world).bundle());
    world.refused(finish("b", true));
    assert_eq!(world.store.node(NodeId(1)).expect("known").key.as_deref(), Some("print"));
    assert_eq!(load(&encode(&world.store)).hash(), world.store.hash());
}

#[test]
fn only_so_many_former_authorities_are_remembered() {
    let mut world = with_authority();
    for pair in ["a", "b", "c", "d", "e"].windows(2) {
        world.done(rotate(pair[0], pair[1], 1));
        world.done(issued(&world, None, Some(1)));
        world.done(finish(pair[1], true));
    }
    let former: Vec<&str> =
        authority(&world).former.iter().map(|former| former.certificate.as_str()).collect();
    assert_eq!(former, ["d", "c", "b"]);
}
