//! Services and tasks for the script of a manager.

use std::{collections::BTreeMap, sync::Arc};

use model::{
    command::Answer,
    id::{Generation, ServiceId, TaskId},
    request::{LogSource, Response, ServiceView},
    service::{Mode, Rollout, RolloutState, Service, ServiceSpec, Slot, TemplateVersion},
    task::{DesiredState, Exit, Inheritance, Observed, Task, TaskState},
    time::ClusterTime,
};

/// A service with one replica in this state.
pub fn view(state: TaskState) -> ServiceView {
    ServiceView { service: service(1), tasks: vec![task(state)], nodes: Vec::new(), wanted: None }
}

pub fn service(generation: u64) -> Service {
    let mut spec = ServiceSpec { name: "ispyb".into(), mode: Mode::Replicated(1), ..ServiceSpec::default() };
    spec.template.container.image = "ispyb:1.2".into();
    Service {
        id: ServiceId(1),
        generation: Generation(generation),
        spec: Arc::new(spec),
        template: TemplateVersion(1),
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

pub fn task(state: TaskState) -> Task {
    Task {
        id: TaskId(1),
        generation: Generation(1),
        service: ServiceId(1),
        slot: Slot::Replica(1),
        template: TemplateVersion(1),
        node: None,
        desired: DesiredState::Running,
        observed: Observed { state, ..Observed::default() },
        created: ClusterTime(1),
        since: ClusterTime(1),
        healthy_since: None,
        pending: None,
        inherited: Inheritance::default(),
        faulted: None,
    }
}

/// A service whose rollout has failed.
pub fn failed(state: RolloutState) -> ServiceView {
    let mut view = view(TaskState::CrashLoop);
    view.tasks[0].observed.exit = Some(Box::new(Exit { code: 9, oom: false, message: String::new() }));
    view.service.rollout = Some(Rollout {
        target: TemplateVersion(1),
        from: None,
        state,
        started: ClusterTime(2),
        since: ClusterTime(3),
        next_batch_at: ClusterTime(0),
        message: "replica 1 crashed".into(),
        deadline: None,
        canary: None,
        resumed: None,
        paused_from: None,
        despite_freeze: None,
        hook: None,
    });
    view
}

pub fn changed() -> Response {
    Response::Changed { answer: Answer::Service { id: ServiceId(1), generation: Generation(5) }, index: 5 }
}

/// A source of logs; without `why` it can be read.
pub fn source(label: &str, why: Option<&str>) -> LogSource {
    LogSource {
        stream: why.is_none().then_some(1),
        task: TaskId(1),
        label: label.into(),
        node: format!("node-of-{label}"),
        missing: why.map(Into::into),
    }
}
