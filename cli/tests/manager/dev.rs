//! `dev up` and `dev down` with stand-ins for the two daemons and for the engine.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use model::{
    cluster::ClusterSettings,
    id::{ClusterId, Generation, MemberId, NodeId},
    node::{Facts, Incarnation, Node, NodeState},
    request::{ClusterStatus, NodeView, Request, Response},
    time::ClusterTime,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};

use crate::fake::{Ended, Manager, Site};

/// Writes down its arguments; `init` hands out a context, `run` stays.
const DAEMON: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$(basename "$0") $*" >> "$here/calls"
case "$1" in
init) for last; do :; done; cp "$here/context.toml" "$last" ;;
run) exec sleep 1000 ;;
esac
"#;

/// What the engine was asked.
type Asked = Arc<Mutex<Vec<String>>>;

/// An installation in a directory of its own.
struct Installation {
    dir: PathBuf,
    engine: String,
    removed: Asked,
}

impl Installation {
    fn new(site: &Site, manager: &Manager) -> Self {
        let dir = site.dir.path().join("bin");
        std::fs::create_dir(&dir).expect("made");
        std::fs::copy(env!("CARGO_BIN_EXE_orchctl"), dir.join("orchctl")).expect("copied");
        std::fs::copy(site.context(&[&manager.address]), dir.join("context.toml")).expect("copied");
        for name in ["orch-manager", "orch-agent"] {
            std::fs::write(dir.join(name), DAEMON).expect("written");
            std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o755))
                .expect("runnable");
        }
        let (engine, removed) = engine(&dir);
        Self { dir, engine, removed }
    }

    async fn run(&self, line: &str) -> Ended {
        let output = tokio::process::Command::new(self.dir.join("orchctl"))
            .args(line.split_whitespace())
            .arg("--dir")
            .arg(self.home())
            .env("ORCH_CONFIG", self.config())
            .env("DOCKER_HOST", &self.engine)
            .env_remove("ORCH_CONTEXT")
            .output();
        let output = crate::fake::within(output).await.expect("orchctl starts");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    fn calls(&self) -> String {
        std::fs::read_to_string(self.dir.join("calls")).unwrap_or_default()
    }

    fn pid(&self, daemon: &str) -> String {
        let text = std::fs::read_to_string(self.home().join(format!("{daemon}.pid"))).expect("a process");
        text.split_whitespace().next().expect("an id").to_owned()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        // A test that failed half-way leaves no process behind.
        let mut down = Command::new(self.dir.join("orchctl"));
        down.args(["dev", "down", "--keep-data", "--dir"]).arg(self.home()).env("ORCH_CONFIG", self.config());
        let _ = down.output();
    }
}

/// An engine with one container and one volume that carry the cluster's label.
fn engine(dir: &Path) -> (String, Asked) {
    let path = dir.join("docker.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let removed = Asked::default();
    let log = removed.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 16 << 10];
            let length = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let line = head.lines().next().unwrap_or_default().to_owned();
            let labelled = line.contains(&format!("orch.cluster%3D{}", ClusterId(1)));
            let body = match () {
                () if line.contains("/version") => r#"{"ApiVersion":"1.41","Version":"20.10"}"#,
                () if line.contains("/containers/json") && labelled => r#"[{"Id":"c1"}]"#,
                () if line.starts_with("GET") && line.contains("/volumes") && labelled => {
                    r#"{"Volumes":[{"Name":"v1","Driver":"local","Mountpoint":"/v1","Labels":{},"Options":{},"Scope":"local"}]}"#
                }
                () => "",
            };
            if line.starts_with("DELETE") {
                let path = line.split(['?', ' ']).nth(1).unwrap_or_default();
                log.lock().expect("no panic").push(path.trim_start_matches("/v1.41").to_owned());
            }
            let status = if body.is_empty() { "204 No Content" } else { "200 OK" };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (format!("unix://{}", path.display()), removed)
}

async fn manager(site: &Site) -> Manager {
    let status = ClusterStatus {
        cluster: ClusterId(1),
        settings: ClusterSettings::default(),
        answered_by: MemberId(1),
        leader: Some(MemberId(1)),
        term: 1,
        applied: 7,
        time: ClusterTime(1),
        members: Vec::new(),
        nodes_ready: (1, 1),
        services: 0,
        tasks_running: (0, 0),
        waiting: Vec::new(),
    };
    let node = Node {
        id: NodeId(1),
        generation: Generation(1),
        spec: Default::default(),
        facts: Facts { hostname: "laptop".into(), engine_ok: true, ..Facts::default() },
        state: NodeState::Ready,
        since: ClusterTime(1),
        message: String::new(),
        incarnation: Incarnation(1),
        joined: ClusterTime(1),
        certificate: 1,
        proven: None,
        key: None,
        number: 1,
    };
    site.manager(Vec::new(), move |request, _| {
        Ok(match request {
            Request::GetStatus => Response::Status(Box::new(status.clone())),
            Request::CreateToken { .. } => {
                Response::Token { text: "ORCHJ1-agent-x".into(), expires: ClusterTime(9) }
            }
            _ => Response::Nodes(vec![NodeView { node: node.clone(), tasks: Vec::new(), reserved: (0, 0) }]),
        })
    })
    .await
}

fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn dev_up_makes_a_cluster_once_and_dev_down_removes_what_it_made_and_nothing_else() {
    let site = Site::new();
    let manager = manager(&site).await;
    let here = Installation::new(&site, &manager);
    std::fs::copy(site.context(&[&manager.address]), here.config()).expect("a context from before");

    here.run("dev up")
        .await
        .check(0, &["laptop", "orchctl service create", "orchctl scale", "orchctl status"]);
    let calls = here.calls();
    for part in ["orch-manager init --dir", "--name dev", "join --dir", "--token ORCHJ1-agent-x"] {
        assert!(calls.contains(part), "{part} in {calls}");
    }
    let config =
        std::fs::read_to_string(here.home().join("agent/agent.toml")).expect("the agent's configuration");
    assert!(config.contains(&format!("engine = \"{}\"", here.engine)), "{config}");
    let (first, agent) = (here.pid("manager"), here.pid("agent"));
    assert!(runs(&first) && runs(&agent));
    here.run("dev up").await.check(0, &["laptop"]);
    let again = (here.pid("manager"), here.pid("agent"));
    assert_eq!(again, (first.clone(), agent.clone()), "a second time starts nothing");
    here.run("dev status").await.check(0, &[&first, &agent]);
    let contexts = std::fs::read_to_string(here.config()).expect("contexts");
    assert!(contexts.contains("current = \"dev\"") && contexts.contains("name = \"test\""), "{contexts}");

    here.run("dev down").await.check(0, &["removed 1 containers, 1 volumes"]);
    assert!(!runs(&first) && !runs(&agent));
    assert_eq!(*here.removed.lock().expect("no panic"), ["/containers/c1", "/volumes/v1"]);
    let contexts = std::fs::read_to_string(here.config()).expect("contexts");
    assert!(!contexts.contains("\"dev\"") && contexts.contains("name = \"test\""), "{contexts}");
    assert!(!here.home().exists());
    here.run("dev down").await.check(0, &["nothing to do"]);
}

#[tokio::test]
async fn what_dev_down_keeps_dev_up_continues() {
    let site = Site::new();
    let manager = manager(&site).await;
    let here = Installation::new(&site, &manager);
    here.run("dev up").await.check(0, &[]);
    here.run("dev down --keep-data").await.check(0, &["kept"]);
    here.run("dev status").await.check(1, &["does not run"]);
    here.run("dev up").await.check(0, &["laptop"]);
    assert_eq!(here.calls().matches("init").count(), 1, "{}", here.calls());
    assert_eq!(here.calls().matches("join").count(), 1, "{}", here.calls());
    assert!(here.removed.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn without_an_engine_dev_up_says_so_and_makes_nothing() {
    let site = Site::new();
    let manager = manager(&site).await;
    let mut here = Installation::new(&site, &manager);
    here.engine = "unix:///does/not/exist".into();
    here.run("dev up").await.check(1, &["Docker Engine", "docker.io"]);
    assert!(!here.home().exists() && here.calls().is_empty());
}

#[tokio::test]
async fn a_daemon_that_ends_at_once_is_told_with_the_end_of_its_log() {
    let site = Site::new();
    let manager = manager(&site).await;
    let here = Installation::new(&site, &manager);
    let script = DAEMON.replace("exec sleep 1000", "echo 'the port is taken' >&2; exit 1");
    std::fs::write(here.dir.join("orch-manager"), script).expect("written");
    drop(manager);
    here.run("dev up").await.check(1, &["the manager ended", "the port is taken"]);
}
