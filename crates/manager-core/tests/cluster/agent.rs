//! An agent without an engine: holds assignments, runs them at once, and remembers every start.

use std::collections::BTreeMap;

use model::{
    id::{NodeId, ServiceId, TaskId},
    node::{Facts, Incarnation},
    registry::Login,
    route::{RouteVersion, ServiceRoute},
    service::ImagePin,
    session::{
        AgentMessage, Assignment, AssignmentSet, Fence, FileAnswer, ManagerMessage, PROTOCOL, RouteChange,
        TaskReport, set_hash,
    },
    task::{DesiredState, Observed, TaskState},
};

pub struct Agent {
    pub node: NodeId,
    /// Held on disk.
    pub fence: Option<Fence>,
    pub held: BTreeMap<TaskId, Assignment>,
    pub states: BTreeMap<TaskId, TaskState>,
    /// Containers ever started.
    pub starts: BTreeMap<TaskId, u32>,
    /// The open session's fence, once welcome.
    pub session: Option<Fence>,
    pub refused: bool,
    pub whole_sets: u32,
    /// The parts so far of a set that is arriving.
    arriving: Option<AssignmentSet>,
    /// Answers what an image means.
    pub resolves: bool,
    /// Times that it was asked so.
    pub asked: u32,
    /// What it was answered about files.
    pub files: Vec<(TaskId, FileAnswer)>,
    /// Pulls that it got leave for.
    pub granted: Vec<TaskId>,
    /// With which logins.
    pub logins: Vec<Option<Login>>,
    beats: u64,
    /// What it says of its engine.
    pub engine_ok: bool,
    /// The routes that it goes by.
    pub routes: BTreeMap<ServiceId, ServiceRoute>,
    pub routed: Option<RouteVersion>,
    /// Nodes that it has nothing to do with any more.
    pub removed: Vec<NodeId>,
    /// It answers to routes.
    pub routes_at_once: bool,
    /// Parts of a change of the routes that is arriving.
    routes_arriving: Vec<RouteChange>,
    /// The newest version of the conversation that its program speaks.
    /// What it was last told of the authority, and whether it is to have another certificate.
    pub authority: Option<(String, bool)>,
    pub protocol: u32,
}

impl Agent {
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            fence: None,
            held: BTreeMap::new(),
            states: BTreeMap::new(),
            starts: BTreeMap::new(),
            session: None,
            refused: false,
            whole_sets: 0,
            arriving: None,
            resolves: true,
            asked: 0,
            files: Vec::new(),
            granted: Vec::new(),
            logins: Vec::new(),
            beats: 0,
            engine_ok: true,
            routes: BTreeMap::new(),
            routed: None,
            removed: Vec::new(),
            routes_at_once: true,
            routes_arriving: Vec::new(),
            protocol: PROTOCOL,
            authority: None,
        }
    }

    pub fn facts(&self) -> Facts {
        Facts {
            hostname: format!("host-{}", self.node.0 % 1_000),
            os: "linux".into(),
            arch: "x86_64".into(),
            engine: "28".into(),
            engine_ok: self.engine_ok,
            cpu_millis: 64_000,
            memory: 1 << 40,
            files: true,
            signatures: self.protocol >= 5,
            ..Facts::default()
        }
    }

    pub fn hello(&self) -> AgentMessage {
        AgentMessage::Hello {
            protocol: self.protocol,
            facts: self.facts(),
            fence: self.fence,
            hash: set_hash(self.held.values()),
            incarnation: self.fence.map(|fence| fence.incarnation),
            reports: self.states.iter().map(|(id, state)| report(*id, *state)).collect(),
        }
    }

    pub fn beat(&mut self) -> AgentMessage {
        self.beats += 1;
        AgentMessage::Heartbeat { number: self.beats, engine_age_ms: Some(1) }
    }

    /// Takes a message; what it says to it.
    pub fn take(&mut self, message: ManagerMessage) -> Vec<AgentMessage> {
        match message {
            ManagerMessage::Welcome { fence, .. } => {
                assert!(self.fence.is_none_or(|held| held < fence), "{:?} then {fence:?}", self.fence);
                self.session = Some(fence);
                self.fence = Some(fence);
                self.routes_arriving.clear();
                Vec::new()
            }
            ManagerMessage::Assign(set) => self.assign(set),
            ManagerMessage::Routes(change) => self.route(*change),
            ManagerMessage::ResolveImage { image } => {
                self.asked += 1;
                if !self.resolves {
                    return Vec::new();
                }
                let name = image.rsplit_once(':').map_or(image.as_str(), |(name, _)| name);
                let outcome = Ok(ImagePin::Digest(format!("{name}@sha256:{}", "0".repeat(64))));
                vec![AgentMessage::ImageResolved { image, outcome }]
            }
            ManagerMessage::PullGranted { pull, login } => {
                self.granted.push(pull);
                self.logins.push(login);
                Vec::new()
            }
            ManagerMessage::Files { task, answer } => {
                self.files.push((task, answer));
                Vec::new()
            }
            ManagerMessage::Authority { bundle, renew } => {
                self.authority = Some((bundle, renew));
                Vec::new()
            }
            ManagerMessage::Refused { .. } => {
                self.refused = true;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn route(&mut self, change: RouteChange) -> Vec<AgentMessage> {
        let (version, more) = (change.version, change.more);
        assert!(self.routed.is_none_or(|routed| routed < version), "{:?} then {version:?}", self.routed);
        let session = self.session.expect("routes follow a welcome");
        assert_eq!((version.term, version.session), (session.term, session.session));
        assert_eq!(change.whole, version.sequence == 1);
        self.routes_arriving.push(change);
        if more {
            return Vec::new();
        }
        let parts = std::mem::take(&mut self.routes_arriving);
        if parts[0].whole {
            self.routes.clear();
        }
        for part in parts {
            assert_eq!(part.version, version, "parts of one change");
            self.removed = part.removed.unwrap_or_else(|| std::mem::take(&mut self.removed));
            part.remove.iter().for_each(|id| drop(self.routes.remove(id)));
            self.routes.extend(part.upsert.into_iter().map(|route| (route.service, route)));
        }
        self.routed = Some(version);
        if self.routes_at_once { vec![AgentMessage::Routed(version)] } else { Vec::new() }
    }

    fn assign(&mut self, part: AssignmentSet) -> Vec<AgentMessage> {
        let mut set = self.arriving.take().filter(|_| part.part > 0).unwrap_or_else(|| AssignmentSet {
            upsert: Vec::new(),
            remove: Vec::new(),
            ..part.clone()
        });
        assert_eq!((set.fence, set.base), (part.fence, part.base), "parts of one set");
        set.upsert.extend(part.upsert);
        set.remove.extend(part.remove);
        if part.more {
            self.arriving = Some(set);
            return Vec::new();
        }
        let held = self.fence.expect("a set follows a welcome");
        assert!(set.fence > held, "a stale set: {:?} after {held:?}", set.fence);
        match set.base {
            None => {
                self.whole_sets += 1;
                self.held.clear();
            }
            Some(base) => assert_eq!(base, held.sequence),
        }
        self.fence = Some(set.fence);
        for task in &set.remove {
            self.held.remove(task);
        }
        self.held.extend(set.upsert.into_iter().map(|assignment| (assignment.task, assignment)));
        assert_eq!(set_hash(self.held.values()), set.hash);
        vec![AgentMessage::Report(self.reconcile())]
    }

    fn reconcile(&mut self) -> Vec<TaskReport> {
        let mut reports = Vec::new();
        for (id, assignment) in &self.held {
            let state = self.states.get(id).copied();
            let next = match assignment.desired {
                DesiredState::Running if state.is_none() => {
                    *self.starts.entry(*id).or_default() += 1;
                    TaskState::Running
                }
                DesiredState::Stopped if state != Some(TaskState::Stopped) => TaskState::Stopped,
                DesiredState::Running | DesiredState::Stopped => continue,
            };
            self.states.insert(*id, next);
            reports.push(report(*id, next));
        }
        self.states.retain(|id, _| self.held.contains_key(id));
        reports
    }

    pub fn running(&self) -> usize {
        self.states.values().filter(|state| **state == TaskState::Running).count()
    }

    pub fn incarnation(&self) -> Option<Incarnation> {
        self.fence.map(|fence| fence.incarnation)
    }
}

fn report(task: TaskId, state: TaskState) -> TaskReport {
    TaskReport {
        task,
        observed: Observed { state, attempt: 1, container: task.to_string(), ..Observed::default() },
    }
}
