//! Judgements of hand-made views.

use std::{collections::BTreeMap, sync::Arc};

use model::{
    id::{Generation, NodeId, ServiceId, TaskId},
    node::NodeState,
    request::ServiceView,
    service::{
        ImagePin, Mode, Rollout, RolloutState, Service, ServiceSpec, Slot, TaskTemplate, TemplateVersion,
    },
    task::{DesiredState, Exit, FilterCount, Health, Inheritance, Observed, PendingReason, Task, TaskState},
    time::ClusterTime,
};

use super::converge::{Expected, Judgement, Nodes, Verdict, judge};

fn service(replicas: u32) -> Service {
    let spec =
        ServiceSpec { name: "ispyb".into(), mode: Mode::Replicated(replicas), ..ServiceSpec::default() };
    Service {
        id: ServiceId(1),
        generation: Generation(1),
        spec: Arc::new(spec),
        template: TemplateVersion(2),
        templates: BTreeMap::new(),
        previous: None,
        pins: BTreeMap::new(),
        rollout: None,
        releases: Vec::new(),
        job: None,
        created: ClusterTime(1),
        updated: ClusterTime(1),
        removing: false,
    }
}

fn task(id: u64, slot: u32, template: u64, state: TaskState) -> Task {
    Task {
        id: TaskId(id),
        generation: Generation(1),
        service: ServiceId(1),
        slot: Slot::Replica(slot),
        template: TemplateVersion(template),
        node: Some(NodeId(1)),
        desired: DesiredState::Running,
        observed: Observed { state, ..Observed::default() },
        created: ClusterTime(id),
        since: ClusterTime(id),
        healthy_since: None,
        pending: None,
        inherited: Inheritance::default(),
        faulted: None,
    }
}

fn running(id: u64, slot: u32) -> Task {
    task(id, slot, 2, TaskState::Running)
}

fn stopping(id: u64, slot: u32) -> Task {
    Task { desired: DesiredState::Stopped, ..task(id, slot, 1, TaskState::Running) }
}

fn rollout(state: RolloutState) -> Rollout {
    Rollout {
        target: TemplateVersion(2),
        from: Some(TemplateVersion(1)),
        state,
        started: ClusterTime(5),
        since: ClusterTime(6),
        next_batch_at: ClusterTime(0),
        message: "replica 2 did not become healthy".into(),
        deadline: None,
        canary: None,
        resumed: None,
        paused_from: None,
        despite_freeze: None,
        hook: None,
    }
}

fn nodes(state: NodeState) -> Nodes {
    Nodes::from([(NodeId(1), ("h1".to_owned(), state))])
}

fn judged(service: Service, tasks: Vec<Task>, expected: &Expected) -> Judgement {
    judge(
        &ServiceView { service, tasks, nodes: Vec::new(), wanted: None },
        expected,
        &nodes(NodeState::Ready),
    )
}

fn verdict(service: Service, tasks: Vec<Task>) -> Verdict {
    judged(service, tasks, &Expected::default()).verdict
}

#[test]
fn every_slot_healthy_on_the_current_template_is_converged() {
    assert_eq!(verdict(service(2), vec![running(1, 1), running(2, 2)]), Verdict::Converged);
    assert_eq!(verdict(service(0), vec![]), Verdict::Converged);
}

#[test]
fn a_missing_an_old_and_an_unhealthy_task_are_waited_for() {
    assert_eq!(verdict(service(2), vec![running(1, 1)]), Verdict::Working);
    assert_eq!(verdict(service(1), vec![task(1, 1, 1, TaskState::Running)]), Verdict::Working);
    let mut starting = running(1, 1);
    starting.observed.health = Health::Starting;
    assert_eq!(verdict(service(1), vec![starting]), Verdict::Working);
    assert_eq!(verdict(service(1), vec![task(1, 1, 2, TaskState::CrashLoop)]), Verdict::Working);
}

#[test]
fn a_task_that_is_being_stopped_is_waited_for_unless_its_node_is_down() {
    let tasks = vec![running(2, 1), stopping(1, 1)];
    assert_eq!(verdict(service(1), tasks.clone()), Verdict::Working);
    let view = ServiceView { service: service(1), tasks, nodes: Vec::new(), wanted: None };
    let judgement = judge(&view, &Expected::default(), &nodes(NodeState::Down));
    assert_eq!(judgement.verdict, Verdict::Converged);
    let ended =
        Task { observed: Observed { state: TaskState::Stopped, ..Observed::default() }, ..stopping(1, 1) };
    assert_eq!(verdict(service(1), vec![running(2, 1), ended]), Verdict::Converged);
}

#[test]
fn after_a_scale_down_the_surplus_is_waited_for() {
    assert_eq!(verdict(service(1), vec![running(1, 1), running(2, 2)]), Verdict::Working);
}

#[test]
fn a_rollout_under_way_is_waited_for_and_its_end_decides() {
    let with = |state| Service { rollout: Some(rollout(state)), ..service(1) };
    let tasks = || vec![running(1, 1)];
    assert_eq!(verdict(with(RolloutState::Updating), tasks()), Verdict::Working);
    assert_eq!(verdict(with(RolloutState::RollingBack), tasks()), Verdict::Working);
    assert_eq!(verdict(with(RolloutState::Done), tasks()), Verdict::Converged);
    assert!(matches!(verdict(with(RolloutState::Paused), tasks()), Verdict::Paused(_)));
    assert!(matches!(verdict(with(RolloutState::RolledBack), tasks()), Verdict::RolledBack(_)));
    let wanted = Expected { rollback: true, ..Expected::default() };
    assert_eq!(judged(with(RolloutState::RolledBack), tasks(), &wanted).verdict, Verdict::Converged);
}

#[test]
fn the_end_of_an_earlier_rollout_says_nothing_about_this_change() {
    for state in [RolloutState::Paused, RolloutState::RolledBack] {
        let service = Service { rollout: Some(rollout(state)), ..service(1) };
        let expected = Expected { before: service.rollout.clone(), ..Expected::default() };
        let old = task(1, 1, if state == RolloutState::Paused { 1 } else { 2 }, TaskState::Running);
        assert_eq!(judged(service, vec![old], &expected).verdict, Verdict::Converged, "{state:?}");
    }
}

#[test]
fn after_a_rollback_tasks_that_were_never_replaced_count_although_their_template_has_an_older_number() {
    let contents = |image: &str| {
        let mut template = TaskTemplate::default();
        template.container.image = image.into();
        Arc::new(template)
    };
    let templates =
        |old| BTreeMap::from([(TemplateVersion(1), contents(old)), (TemplateVersion(2), contents("a:1"))]);
    let old = || vec![task(1, 1, 1, TaskState::Running)];
    let same = Service { templates: templates("a:1"), ..service(1) };
    assert_eq!(verdict(same.clone(), old()), Verdict::Converged);
    let other = Service { templates: templates("a:0"), ..service(1) };
    assert_eq!(verdict(other, old()), Verdict::Working);
    let pins = BTreeMap::from([(TemplateVersion(2), ImagePin::LocalId("sha256:1".into()))]);
    assert_eq!(verdict(Service { pins, ..same }, old()), Verdict::Working, "the tag means another image now");
}

#[test]
fn a_failed_rollout_names_the_task_and_its_exit() {
    let service = Service { rollout: Some(rollout(RolloutState::Paused)), ..service(2) };
    let mut failed = task(2, 2, 2, TaskState::CrashLoop);
    failed.observed.message = "JBoss did not start".into();
    failed.observed.exit = Some(Box::new(Exit { code: 3, oom: false, message: String::new() }));
    let Verdict::Paused(why) = verdict(service, vec![running(1, 1), failed]) else { panic!("it is paused") };
    for part in ["replica 2 did not become healthy", "ispyb.2", "h1", "JBoss did not start", "exit code 3"] {
        assert!(why.contains(part), "{part} in {why}");
    }
}

#[test]
fn tasks_that_ended_for_good_end_the_waiting() {
    assert_eq!(verdict(service(1), vec![task(1, 1, 2, TaskState::Completed)]), Verdict::Converged);
    assert!(matches!(verdict(service(1), vec![task(1, 1, 2, TaskState::Failed)]), Verdict::Failed(_)));
    let mixed = vec![task(1, 1, 2, TaskState::Failed), task(2, 2, 2, TaskState::Starting)];
    assert_eq!(verdict(service(2), mixed), Verdict::Working);
}

#[test]
fn a_pending_task_shows_how_many_nodes_each_filter_removed() {
    let mut pending = task(1, 1, 2, TaskState::Pending);
    pending.node = None;
    pending.pending = Some(Box::new(PendingReason {
        message: "no node fits".into(),
        nodes: 3,
        filters: vec![FilterCount { filter: "memory".into(), nodes: 3 }],
    }));
    let judgement = judged(service(1), vec![pending], &Expected::default());
    assert_eq!(judgement.lines[0].label, "ispyb.1");
    assert_eq!(judgement.lines[0].text, "pending: no node fits (of 3 nodes, removed by memory: 3)");
}

#[test]
fn a_global_service_waits_for_as_many_tasks_as_the_managers_want() {
    let global = || {
        let mut service = service(0);
        service.spec =
            Arc::new(ServiceSpec { name: "probe".into(), mode: Mode::Global, ..ServiceSpec::default() });
        service
    };
    let on_node = || Task { slot: Slot::Node(NodeId(1)), ..running(1, 1) };
    let expected = |global_tasks| Expected { global_tasks, ..Expected::default() };
    assert_eq!(judged(global(), vec![on_node()], &expected(2)).verdict, Verdict::Working);
    let judgement = judged(global(), vec![on_node()], &expected(1));
    assert_eq!(judgement.verdict, Verdict::Converged);
    assert_eq!(judgement.lines[0].label, "probe@h1");
}
