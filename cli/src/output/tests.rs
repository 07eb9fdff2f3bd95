//! Lists as they are printed.

use std::{collections::BTreeMap, sync::Arc};

use model::{
    container::{PortSpec, Protocol},
    id::{Generation, NodeId, ServiceId, TaskId},
    node::{Availability, Facts, Incarnation, Node, NodeSpec, NodeState},
    request::{NodeView, ServiceRow, TaskRow},
    service::{Mode, Service, ServiceSpec, Slot, TemplateVersion},
    task::{DesiredState, Exit, Health, Inheritance, Observed, PendingReason, Task, TaskState},
    time::ClusterTime,
};

use super::rows;

const NOW: ClusterTime = ClusterTime(1_000_000_000);

fn check(table: &super::table::Table, expected: &str) {
    let lines: Vec<&str> = expected.trim_matches('\n').lines().collect();
    assert_eq!(table.to_string().lines().collect::<Vec<_>>(), lines);
}

#[test]
fn services_show_how_many_are_healthy_and_what_is_unusual() {
    let row = |name: &str, healthy, removing| {
        let mut spec = ServiceSpec { name: name.into(), mode: Mode::Replicated(3), ..ServiceSpec::default() };
        spec.template.container.image = "ispyb:1.2".into();
        spec.template.container.ports =
            vec![PortSpec { target: 80, published: 8080, protocol: Protocol::Tcp }];
        let service = Service {
            id: ServiceId(1),
            generation: Generation(1),
            spec: Arc::new(spec),
            template: TemplateVersion(1),
            templates: BTreeMap::new(),
            previous: None,
            pins: BTreeMap::new(),
            rollout: None,
            releases: Vec::new(),
            job: None,
            created: NOW,
            updated: NOW,
            removing,
        };
        ServiceRow { service, healthy, running: 3, wanted: 3, completed: 0 }
    };
    check(
        &rows::services(&[row("ispyb", 2, false), row("old", 3, true)]),
        "
ID             NAME   MODE        HEALTHY  IMAGE      PORTS             NOTE
0000000000001  ispyb  replicated  2/3      ispyb:1.2  host 8080:80/tcp
0000000000001  old    replicated  3/3      ispyb:1.2  host 8080:80/tcp  removing
",
    );
}

#[test]
fn tasks_show_where_they_are_and_why_they_are_not_well() {
    let row = |slot, state, health, node: &str, note: (&str, Option<Exit>)| {
        let task = Task {
            id: TaskId(u64::from(slot)),
            generation: Generation(1),
            service: ServiceId(1),
            slot: Slot::Replica(slot),
            template: TemplateVersion(1),
            node: (!node.is_empty()).then_some(NodeId(1)),
            desired: DesiredState::Running,
            observed: Observed {
                state,
                health,
                restarts: 2,
                exit: note.1.map(Box::new),
                ..Observed::default()
            },
            created: NOW,
            since: ClusterTime(NOW.0 - 180_000_000),
            healthy_since: None,
            pending: Some(Box::new(PendingReason { message: note.0.into(), nodes: 0, filters: Vec::new() })),
            inherited: Inheritance::default(),
            faulted: None,
        };
        let node_down = node == "h3";
        TaskRow { task, service: "ispyb".into(), node: node.into(), node_down, image: "ispyb:1.2".into() }
    };
    let killed = Exit { code: 137, oom: true, message: String::new() };
    check(
        &rows::tasks(
            &[
                row(1, TaskState::Running, Health::Healthy, "h1", ("", None)),
                row(2, TaskState::CrashLoop, Health::None, "h2", ("", Some(killed))),
                row(3, TaskState::Pending, Health::None, "", ("no node has 4 GiB left", None)),
                row(4, TaskState::Running, Health::Healthy, "h3", ("", None)),
            ],
            NOW,
        ),
        "
ID             TASK     NODE  STATE                  SINCE  RESTARTS  IMAGE      NOTE
0000000000001  ispyb.1  h1    running (healthy)      3m     2         ispyb:1.2
0000000000002  ispyb.2  h2    crash-loop             3m     2         ispyb:1.2  killed for memory (exit code 137)
0000000000003  ispyb.3  -     pending                3m     2         ispyb:1.2  no node has 4 GiB left
0000000000004  ispyb.4  h3    was running (healthy)  3m     2         ispyb:1.2  its node is down
",
    );
}

#[test]
fn nodes_show_what_is_reserved_and_whether_their_engine_answers() {
    let facts = Facts {
        hostname: "h1".into(),
        engine: "20.10.24".into(),
        cpu_millis: 4_000,
        memory: 8 << 30,
        ..Facts::default()
    };
    let node = Node {
        id: NodeId(1),
        generation: Generation(1),
        spec: NodeSpec { availability: Availability::Drain, ..NodeSpec::default() },
        facts,
        state: NodeState::Ready,
        since: NOW,
        message: String::new(),
        incarnation: Incarnation(1),
        joined: NOW,
        certificate: 1,
        proven: None,
        key: None,
        number: 1,
    };
    check(
        &rows::nodes(&[NodeView { node, tasks: Vec::new(), reserved: (1_500, 512 << 20) }], NOW),
        "
ID             NAME  STATE  SINCE  AVAILABILITY  CLASS   TASKS  CPU    MEMORY         ENGINE
0000000000001  h1    ready  0s     drain         server  0      1.5/4  512MiB/8.0GiB  20.10.24 (unreachable)
",
    );
}
