//! Tasks: who fills a slot, what an agent may say, what a manager may decide.

use crate::common::{SERVICE, World, create_task, observed, spec};
use model::{
    command::{Command, Decision, Rejection},
    container::{PortSpec, Protocol},
    id::{NodeId, TaskId},
    node::{Availability, Incarnation, NodeSpec},
    service::{Mode, Slot, TemplateVersion, UpdateOrder},
    task::{Attempt, DesiredState, Health, MAX_ATTEMPTS_KEPT, Observed, PendingReason, TaskState},
};

fn world() -> World {
    let mut world = World::with_nodes(&[1, 2]);
    world.create(spec("web", "web:1", 3));
    world
}

#[test]
fn a_slot_is_filled_once_whoever_decides_and_however_often() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("the first fills it");
    let second = world.fill(12, 1, Some(2)).expect_err("the second does not");
    assert!(second.to_string().contains("is filled by task"), "{second}");
    assert_eq!(world.store.tasks_of_slot(SERVICE, Slot::Replica(1)).count(), 1);
}

#[test]
fn of_two_decisions_for_one_slot_in_one_batch_the_second_is_rejected_alone() {
    let mut world = world();
    let first = TemplateVersion(1);
    let batch = vec![
        create_task(11, Slot::Replica(1), first, Some(1), None),
        create_task(12, Slot::Replica(1), first, Some(2), None),
        create_task(13, Slot::Replica(2), first, Some(2), None),
    ];
    let applied = world.done(Command::Decide(batch));
    assert_eq!(applied.rejected.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1]);
    assert_eq!(world.store.tasks().count(), 2);
}

#[test]
fn start_first_lets_exactly_one_task_stay_beside_the_new_one() {
    let mut world = world();
    let mut stop_first = spec("web", "web:1", 3);
    stop_first.update.order = UpdateOrder::StopFirst;
    world.update(stop_first);
    world.fill(11, 1, Some(1)).expect("fills");
    let beside =
        |id, alongside| create_task(id, Slot::Replica(1), TemplateVersion(1), Some(2), Some(alongside));
    assert!(world.decide(beside(12, 11)).is_err(), "the service is stop-first, whatever it was before");
    let mut start_first = spec("web", "web:1", 3);
    start_first.update.order = UpdateOrder::StartFirst;
    world.update(start_first);
    world.decide(beside(12, 11)).expect("beside the named one");
    assert!(world.decide(beside(13, 11)).is_err(), "a third would make three");
    assert!(world.decide(beside(13, 12)).is_err());
}

#[test]
fn a_slot_is_free_again_when_its_task_is_wanted_no_more_or_has_ended() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    world.stop(11);
    world.fill(12, 1, Some(2)).expect("the stopping task no longer fills it");
    world.report(12, observed(TaskState::Rejected, 0));
    world.fill(13, 1, Some(1)).expect("nor does one that was rejected");
}

#[test]
fn a_stop_that_was_decided_before_the_service_changed_back_is_refused() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    world.done(Command::ScaleServices(vec![(SERVICE, 0)]));
    let late = world.stop_decided_now(11);
    world.done(Command::ScaleServices(vec![(SERVICE, 3)]));
    let refused = world.decide(late).expect_err("the task is wanted again");
    assert!(matches!(&refused, Rejection::Stale { kind, .. } if kind == "service"), "{refused}");
    assert!(world.task(11).is_active());
}

#[test]
fn a_stop_of_an_older_log_which_names_no_service_is_applied() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    let expected = world.task(11).generation;
    world.done(Command::ScaleServices(vec![(SERVICE, 2)]));
    let old = Decision::StopTask {
        id: TaskId(11),
        expected,
        service: None,
        keeps: None,
        node: None,
        reason: "scaled away".into(),
    };
    world.decide(old).expect("as it was applied then");
    assert!(!world.task(11).is_active());
}

#[test]
fn a_task_whose_node_was_drained_and_activated_at_once_goes_on() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    let set = |world: &mut World, availability| {
        let spec = NodeSpec { availability, ..NodeSpec::default() };
        world.done(Command::UpdateNode { id: NodeId(1), expected: None, spec });
    };
    let stop = |world: &World| Decision::StopTask {
        id: TaskId(11),
        expected: world.task(11).generation,
        service: None,
        keeps: None,
        node: world.store.node(NodeId(1)).map(|node| node.generation),
        reason: "node h1 is drained".into(),
    };
    set(&mut world, Availability::Drain);
    let decided = stop(&world);
    set(&mut world, Availability::Active);
    world.decide(decided).expect_err("it was decided on a node that was drained");
    assert!(world.task(11).is_active());
    set(&mut world, Availability::Drain);
    let decided = stop(&world);
    world.decide(decided).expect("it is drained");
    assert!(!world.task(11).is_active());
}

#[test]
fn of_two_in_a_slot_one_goes_on_although_each_was_to_be_kept_in_place_of_the_other() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    let mut start_first = spec("web", "web:1", 3);
    start_first.update.order = UpdateOrder::StartFirst;
    world.update(start_first);
    let beside = create_task(12, Slot::Replica(1), TemplateVersion(1), Some(2), Some(11));
    world.decide(beside).expect("a second one beside it");
    let stop = |world: &World, id: u64, kept: u64| {
        let expected = world.task(id).generation;
        let (keeps, reason) = (Some(TaskId(kept)), "replaced".into());
        Decision::StopTask { id: TaskId(id), expected, service: None, keeps, node: None, reason }
    };
    let (older, newer) = (stop(&world, 11, 12), stop(&world, 12, 11));
    world.decide(older).expect("the newer one is there");
    world.decide(newer).expect_err("the older one goes already");
    assert!(!world.task(11).is_active() && world.task(12).is_active());
}

#[test]
fn a_task_is_refused_for_a_slot_template_or_node_that_does_not_take_it() {
    let mut world = world();
    let first = TemplateVersion(1);
    assert!(world.fill(11, 4, None).is_err(), "beyond the replicas");
    assert!(world.fill(11, 0, None).is_err());
    assert!(world.decide(create_task(11, Slot::Node(NodeId(1)), first, None, None)).is_err());
    assert!(world.decide(create_task(11, Slot::Replica(1), TemplateVersion(9), None, None)).is_err());
    assert!(world.fill(11, 1, Some(99)).is_err());
    world.down(NodeId(1));
    assert!(world.fill(11, 1, Some(1)).is_err(), "the node is down");
    for availability in [Availability::Pause, Availability::Drain] {
        let spec = NodeSpec { availability, ..NodeSpec::default() };
        world.done(Command::UpdateNode { id: NodeId(2), expected: None, spec });
        assert!(world.fill(11, 1, Some(2)).is_err(), "{availability:?}");
    }
    assert_eq!(world.store.tasks().count(), 0);
}

#[test]
fn a_global_task_runs_on_its_own_node_only() {
    let mut world = World::with_nodes(&[1, 2]);
    let mut global = spec("probe", "probe:1", 0);
    global.mode = Mode::Global;
    world.create(global);
    let slot = Slot::Node(NodeId(1));
    let first = TemplateVersion(1);
    assert!(world.decide(create_task(11, slot, first, Some(2), None)).is_err());
    world.decide(create_task(11, slot, first, None, None)).expect("pending there");
    let expected = world.task(11).generation;
    let assign = |node| Decision::AssignTask { id: TaskId(11), expected, node: NodeId(node) };
    assert!(world.decide(assign(2)).is_err());
    world.decide(assign(1)).expect("its own node");
}

#[test]
fn a_pending_task_waits_with_a_reason_until_it_gets_a_node_for_good() {
    let mut world = world();
    world.fill(11, 1, None).expect("pending");
    assert_eq!(world.store.pending_tasks().map(|task| task.id).collect::<Vec<_>>(), [TaskId(11)]);
    let reason = PendingReason { message: "no node has 64 GiB".into(), nodes: 2, filters: vec![] };
    let expected = world.task(11).generation;
    world
        .decide(Decision::ExplainPending { id: TaskId(11), expected, reason: reason.clone() })
        .expect("explained");
    assert_eq!(world.task(11).pending, Some(Box::new(reason)));

    let stale = world.decide(Decision::AssignTask { id: TaskId(11), expected, node: NodeId(1) });
    assert!(matches!(stale, Err(Rejection::Stale { .. })), "{stale:?}");
    let expected = world.task(11).generation;
    world.decide(Decision::AssignTask { id: TaskId(11), expected, node: NodeId(1) }).expect("assigned");
    assert_eq!((world.task(11).observed.state, world.task(11).node), (TaskState::Assigned, Some(NodeId(1))));
    assert_eq!(world.store.pending_tasks().count(), 0);

    let expected = world.task(11).generation;
    assert!(world.decide(Decision::AssignTask { id: TaskId(11), expected, node: NodeId(2) }).is_err());
}

#[test]
fn a_task_that_waits_for_a_node_ends_at_once_when_it_is_stopped() {
    let mut world = world();
    world.fill(11, 1, None).expect("pending");
    world.stop(11);
    assert_eq!(world.task(11).observed.state, TaskState::Stopped);
    assert_eq!(world.task(11).observed.message, "scaled away");
    world.reap(11).expect("it has ended");
}

#[test]
fn a_task_on_a_node_ends_only_by_its_agents_word() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    world.report(11, observed(TaskState::Running, 1));
    world.stop(11);
    assert_eq!(
        (world.task(11).desired, world.task(11).observed.state),
        (DesiredState::Stopped, TaskState::Running)
    );
    assert!(world.reap(11).is_err(), "it still runs");
    world.report(11, observed(TaskState::Stopped, 1));
    world.reap(11).expect("ended");
    assert!(world.store.task(TaskId(11)).is_none());
}

#[test]
fn an_older_attempt_never_hides_a_newer_one_and_an_ended_task_stays_ended() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    world.report(11, observed(TaskState::Running, 3));
    world.report(11, observed(TaskState::Failed, 2));
    assert_eq!(world.task(11).observed, observed(TaskState::Running, 3));
    world.report(11, observed(TaskState::Failed, 3));
    world.report(11, observed(TaskState::Running, 4));
    assert_eq!(world.task(11).observed, observed(TaskState::Failed, 3));
}

#[test]
fn a_node_speaks_of_its_own_tasks_under_its_present_registration_only() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    world.up(NodeId(1), 2);
    world.observe(NodeId(2), Incarnation(1), 11, observed(TaskState::Failed, 1));
    world.observe(NodeId(1), Incarnation(1), 11, observed(TaskState::Failed, 1));
    world.observe(NodeId(1), Incarnation(3), 11, observed(TaskState::Failed, 1));
    assert_eq!(world.task(11).observed.state, TaskState::Assigned);
    world.observe(NodeId(1), Incarnation(2), 11, observed(TaskState::Running, 1));
    assert_eq!(world.task(11).observed.state, TaskState::Running);
    let reports = vec![];
    world.refused(Command::Observe { node: NodeId(9), incarnation: Incarnation(1), reports });
}

#[test]
fn a_new_registration_forgets_what_was_observed_so_that_attempts_may_start_again() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    world.report(11, observed(TaskState::Running, 7));
    world.up(NodeId(1), 2);
    assert_eq!(world.task(11).observed.state, TaskState::Assigned);
    world.report(11, observed(TaskState::Running, 1));
    assert_eq!(world.task(11).observed, observed(TaskState::Running, 1));
}

#[test]
fn health_is_dated_from_the_moment_it_began_for_this_attempt() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    let with = |health, attempt| Observed { health, ..observed(TaskState::Running, attempt) };
    world.report(11, with(Health::Starting, 1));
    assert_eq!(world.task(11).healthy_since, None);
    let began = world.now;
    world.report(11, with(Health::Healthy, 1));
    let again = Observed { message: "still well".into(), ..with(Health::Healthy, 1) };
    world.report(11, again);
    assert_eq!(world.task(11).healthy_since, Some(began));
    world.report(11, with(Health::Unhealthy, 1));
    assert_eq!(world.task(11).healthy_since, None);
    world.report(11, with(Health::Healthy, 1));
    let next = world.now;
    world.report(11, with(Health::Healthy, 2));
    assert_eq!((world.task(11).healthy_since, world.task(11).since), (Some(next), next));
}

#[test]
fn what_an_agent_says_is_cut_to_a_size() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    let attempts = (1..=20).map(|number| Attempt { number, ..Attempt::default() }).collect();
    let message = "é".repeat(5_000);
    world.report(11, Observed { message, attempts, ..observed(TaskState::CrashLoop, 20) });
    let kept = &world.task(11).observed;
    assert!(kept.message.len() <= 512 && kept.message.starts_with("éé"));
    assert_eq!(kept.attempts.len(), MAX_ATTEMPTS_KEPT);
    assert_eq!(kept.attempts.last().map(|attempt| attempt.number), Some(20));
}

#[test]
fn reservations_and_host_ports_are_held_until_the_container_is_surely_gone() {
    let mut world = World::with_nodes(&[1]);
    let mut web = spec("web", "web:1", 2);
    web.template.container.resources.memory_reserve = 1 << 30;
    web.template.container.resources.cpu_reserve_millis = 500;
    web.template.container.ports = vec![
        PortSpec { target: 80, published: 8080, protocol: Protocol::Tcp },
        PortSpec { target: 81, published: 0, protocol: Protocol::Tcp },
    ];
    world.create(web);
    world.fill(11, 1, Some(1)).expect("fills");
    let held = |world: &World| {
        (world.store.reserved_on(NodeId(1)), world.store.ports_on(NodeId(1)).collect::<Vec<_>>())
    };
    assert_eq!(held(&world), ((500, 1 << 30), vec![(8080, Protocol::Tcp)]));
    world.stop(11);
    assert_eq!(held(&world).0, (500, 1 << 30), "it may still run");
    assert!(world.store.is_port_taken(NodeId(1), 8080, Protocol::Tcp));
    assert!(!world.store.is_port_taken(NodeId(1), 8080, Protocol::Udp));
    world.report(11, observed(TaskState::Stopped, 1));
    assert_eq!(held(&world), ((0, 0), vec![]));
}

#[test]
fn a_lost_task_is_never_heard_of_again() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    let expected = world.task(11).generation;
    let lose = |expected| Decision::LoseTask { id: TaskId(11), expected, reason: "its disk burned".into() };
    world.decide(lose(expected)).expect("lost");
    assert_eq!(world.task(11).observed.state, TaskState::Lost);
    let expected = world.task(11).generation;
    assert!(world.decide(lose(expected)).is_err(), "once is enough");
    world.report(11, observed(TaskState::Running, 1));
    assert_eq!(world.task(11).observed.state, TaskState::Lost);
}
