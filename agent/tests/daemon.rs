//! The real daemon on a real Docker Engine, without any manager: what it stored is all that it knows.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use agent_core::stored::TaskRecord;
use ledger::{Batch, Ledger, Table};
use model::{
    container::{ContainerSpec, Resources},
    id::{ClusterId, NodeId, ServiceId, TaskId},
    identity::{CertName, Identity},
    service::{RestartPolicy, Slot, TemplateVersion},
    session::Assignment,
    task::DesiredState,
    time::WallTime,
};
use pki::{ClusterCa, KeyAndCsr};
use tests::{
    hosts::Lab,
    image::{self, MIMIC_1, MIMIC_PORT},
    process::Process,
    require::{LAB, can_run},
    wait,
};

const CLUSTER: ClusterId = ClusterId(1);
const NODE: NodeId = NodeId(2);
/// As the daemon's `memory` says; a change of it is a change of a stored format.
const ASSIGNMENTS: Table = Table(3);
const RECORDS: Table = Table(4);
/// What a task may have: little, so that one test can exceed it quickly.
const MEMORY: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A host with an engine, and an agent that was assigned tasks before.
struct Node {
    lab: Lab,
    agent: Option<Process>,
    starts: u32,
}

impl Node {
    fn new(tasks: &[u64]) -> Self {
        let lab = Lab::start(1).unwrap();
        lab.host(0).engine().load(&image::mimic_archive().unwrap()).unwrap();
        let node = Self { lab, agent: None, starts: 0 };
        fs::create_dir_all(node.dir()).unwrap();
        fs::write(node.dir().join("agent.toml"), format!("engine = {:?}\n", node.lab.host(0).engine().url()))
            .unwrap();
        fs::write(node.dir().join("identity.json"), identity()).unwrap();
        let opened = Ledger::open(&node.dir().join("ledger")).unwrap();
        let mut batch = Batch::default();
        for task in tasks {
            batch.put(ASSIGNMENTS, *task, &assignment(*task)).unwrap();
        }
        opened.ledger.write(batch).unwrap();
        node
    }

    fn dir(&self) -> PathBuf {
        self.lab.host(0).disk().join("agent")
    }

    fn command(&self) -> Command {
        let mut command = self.lab.host(0).command(env!("CARGO_BIN_EXE_orch-agent"));
        command.arg("run").arg("--dir").arg(self.dir());
        command
    }

    fn start(&mut self) {
        // A log of its own for each start, so that a line in it is of this one.
        self.starts += 1;
        let name = format!("agent-{}", self.starts);
        self.agent = Some(self.lab.host(0).spawn(&name, self.command()).unwrap());
    }

    fn agent(&self) -> &Process {
        self.agent.as_ref().unwrap()
    }

    /// Ids of the running containers of a task.
    fn running(&self, task: u64) -> Vec<String> {
        let filter = format!("label=orch.task={}", TaskId(task));
        self.lab
            .host(0)
            .engine()
            .lines(&["ps", "--quiet", "--no-trunc", "--filter", &filter])
            .unwrap_or_default()
    }

    /// Waits for one running container that is not `old`.
    fn runs(&self, task: u64, old: Option<&str>) -> String {
        wait::until("a container to run", PATIENCE, || match &self.running(task)[..] {
            [only] if Some(only.as_str()) != old => Some(only.clone()),
            _ => None,
        })
        .unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.lab.host(0).engine().lines(&["ps", "--all", "--format", "{{.Names}}"]).unwrap()
    }
}

fn assignment(task: u64) -> Assignment {
    let container = ContainerSpec {
        image: MIMIC_1.into(),
        env: [("WHO".to_owned(), "{{.Service.Name}}.{{.Task.Slot}}".to_owned())].into(),
        stop_grace: Some(Duration::from_secs(2)),
        resources: Resources { memory_limit: MEMORY, ..Default::default() },
        ..Default::default()
    };
    Assignment {
        task: TaskId(task),
        service: ServiceId(3),
        service_name: "ispyb".into(),
        slot: Slot::Replica(u32::try_from(task).unwrap()),
        template: TemplateVersion(1),
        desired: DesiredState::Running,
        container: Arc::new(container),
        restart: RestartPolicy::default(),
        pin: None,
        node: NODE,
        node_name: "host".into(),
    }
}

/// As the daemon writes it after joining.
fn identity() -> String {
    let now =
        WallTime(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap());
    let authority = ClusterCa::generate(CLUSTER, now).unwrap();
    let pair = KeyAndCsr::generate().unwrap();
    let name = CertName { cluster: CLUSTER, identity: Identity::Node(NODE) };
    let certificate =
        authority.issue(pair.csr_pem.as_bytes(), &name, Duration::from_secs(86_400), now, 1).unwrap();
    format!(
        "{{\"format\":1,\"cluster\":\"{CLUSTER}\",\"node\":\"{NODE}\",\"managers\":[\"127.0.0.1:9\"],\
         \"authority\":{:?},\"certificate\":{certificate:?},\"key\":{:?}}}",
        authority.certificate_pem(),
        pair.key_pem()
    )
}

#[test]
fn without_any_manager_stored_tasks_run_and_a_killed_container_is_replaced_at_once() {
    if !can_run("agent: restart without managers", &LAB) {
        return;
    }
    let mut node = Node::new(&[1, 2]);
    node.start();
    let first = node.runs(1, None);
    node.runs(2, None);
    let engine = node.lab.host(0).engine();
    assert!(engine.inspect(&first, "{{.Config.Env}}").unwrap().contains("WHO=ispyb.1"));
    let began = Instant::now();
    engine.docker(&["kill", &first]).unwrap();
    let second = node.runs(1, Some(&first));
    println!("killed to replaced, seen through the docker client: {:?}", began.elapsed());
    // The newest ended container is kept for its logs, older ones go.
    engine.docker(&["kill", &second]).unwrap();
    let third = node.runs(1, Some(&second));
    wait::until_true("only the newest ended container is kept", PATIENCE, || {
        engine.inspect(&first, "{{.Id}}").is_err() && engine.inspect(&second, "{{.Id}}").is_ok()
    })
    .unwrap();
    assert_eq!(node.running(1), [third]);
    let status = fs::read_to_string(format!("/proc/{}/status", node.agent().pid())).unwrap();
    println!("resident: {}", status.lines().find(|line| line.starts_with("VmRSS")).unwrap());
}

#[test]
fn a_killed_agent_finds_its_containers_and_starts_nothing_twice() {
    if !can_run("agent: adoption", &LAB) {
        return;
    }
    let mut node = Node::new(&[1, 2, 3]);
    node.start();
    let before: Vec<_> = [1, 2, 3].map(|task| node.runs(task, None)).into();
    let names = node.names();
    for _ in 0..3 {
        node.agent().kill().unwrap();
        node.start();
        node.agent().wait_for_line("ready", PATIENCE).unwrap();
    }
    assert_eq!([1, 2, 3].map(|task| node.running(task)).concat(), before);
    assert_eq!(node.names(), names);
}

#[test]
fn an_agent_killed_while_it_starts_containers_doubles_none() {
    if !can_run("agent: killed while starting", &LAB) {
        return;
    }
    let tasks: Vec<u64> = (1..=8).collect();
    let mut node = Node::new(&tasks);
    for round in 0..6u64 {
        node.start();
        // As far as it gets until so many containers exist.
        let wanted = usize::try_from(round + 1).unwrap();
        wait::until_true("containers", PATIENCE, || node.names().len() >= wanted).unwrap();
        node.agent().kill().unwrap();
    }
    node.start();
    for task in &tasks {
        node.runs(*task, None);
    }
    assert_eq!(node.names().len(), tasks.len(), "{:?}", node.names());
}

#[test]
fn an_engine_that_is_killed_and_back_runs_each_task_once() {
    if !can_run("agent: engine restart", &LAB) {
        return;
    }
    let mut node = Node::new(&[1, 2]);
    node.start();
    node.runs(1, None);
    node.runs(2, None);
    let engine = node.lab.host(0).engine();
    engine.kill().unwrap();
    node.agent().wait_for_line("not reachable", PATIENCE).unwrap();
    engine.start().unwrap();
    node.runs(1, None);
    node.runs(2, None);
    engine.restart().unwrap();
    node.runs(1, None);
    node.runs(2, None);
    wait::steadily("one container each", Duration::from_secs(2), || {
        node.running(1).len() == 1 && node.running(2).len() == 1
    })
    .unwrap();
}

#[test]
fn an_asked_agent_ends_and_its_containers_go_on() {
    if !can_run("agent: shutdown", &LAB) {
        return;
    }
    let mut node = Node::new(&[1]);
    node.start();
    let container = node.runs(1, None);
    let second = node.command().output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another orch-agent"), "{second:?}");
    assert!(node.agent().terminate(Duration::from_secs(10)).unwrap().success());
    assert_eq!(node.running(1), [container]);
    let mode = fs::metadata(node.dir().join("lock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn without_an_engine_the_agent_waits_and_says_so() {
    if !can_run("agent: no engine", &LAB) {
        return;
    }
    let mut node = Node::new(&[1]);
    node.lab.host(0).engine().stop().unwrap();
    node.start();
    node.agent().wait_for_line("not reachable", PATIENCE).unwrap();
    node.lab.host(0).engine().start().unwrap();
    node.runs(1, None);
}

#[test]
fn a_container_beyond_its_memory_is_restarted_and_its_end_is_remembered_in_words() {
    if !can_run("agent: out of memory", &LAB) {
        return;
    }
    let mut node = Node::new(&[1]);
    node.start();
    let first = node.runs(1, None);
    let host = node.lab.host(0);
    let address = host.engine().address(&first).unwrap();
    let leak = || host.get((address, MIMIC_PORT), "/leak?mb=32").is_err();
    wait::until_true("the container to be killed", PATIENCE, leak).unwrap();
    node.runs(1, Some(&first));
    node.agent().terminate(Duration::from_secs(10)).unwrap();
    let ledger = Ledger::open(&node.dir().join("ledger")).unwrap().ledger;
    let records = ledger.read::<TaskRecord>(RECORDS).unwrap().values;
    let [(1, record)] = &records[..] else { panic!("{records:?}") };
    let exit = record.observed.exit.as_ref().unwrap();
    assert!(exit.oom, "{exit:?}");
    assert_eq!(exit.message, "killed: out of memory, its limit is 64 MiB");
}

#[test]
fn an_engine_that_hangs_stops_nothing() {
    if !can_run("agent: engine hangs", &LAB) {
        return;
    }
    let mut node = Node::new(&[1]);
    node.start();
    let container = node.runs(1, None);
    node.lab.host(0).engine().freeze().unwrap();
    node.agent().wait_for_line("does not answer in time", PATIENCE).unwrap();
    node.lab.host(0).engine().thaw().unwrap();
    wait::steadily("the container to stay", Duration::from_secs(3), || {
        node.running(1) == [container.clone()]
    })
    .unwrap();
}

#[test]
fn a_node_that_leaves_takes_its_own_containers_with_it_and_no_other() {
    if !can_run("agent: leave", &LAB) {
        return;
    }
    let mut node = Node::new(&[1, 2]);
    node.start();
    node.runs(1, None);
    node.runs(2, None);
    let host = node.lab.host(0);
    host.engine().docker(&["run", "--detach", "--name", "other", MIMIC_1]).unwrap();
    let leave = || {
        let mut command = host.command(env!("CARGO_BIN_EXE_orch-agent"));
        command.arg("leave").arg("--dir").arg(node.dir());
        command.output().unwrap()
    };
    let refused = leave();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop the agent first"), "{refused:?}");
    node.agent().terminate(Duration::from_secs(10)).unwrap();
    let left = leave();
    assert!(left.status.success(), "{left:?}");
    assert_eq!(node.names(), ["other"]);
    assert!(!node.dir().join("identity.json").exists());
}
