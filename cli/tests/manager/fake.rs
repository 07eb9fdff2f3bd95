//! A manager that answers from a script, over the real TLS, and `orchctl` run against it.

use std::{
    future::Future,
    path::PathBuf,
    pin::Pin,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use model::{
    event::{Event, EventKind, ObjectChange, Revision},
    id::{ClusterId, MemberId, ServiceId, TaskId},
    identity::{CertName, Identity, Role},
    request::{ApiError, Reply, Request, Response},
    service::Slot,
    session::LogFrame,
    task::{Health, TaskState},
    time::{ClusterTime, WallTime},
};
use pki::{ClusterCa, KeyAndCsr};
use proto::{
    codec,
    v1::{
        CallReply, CallRequest, LogPiece, LogsReply,
        call_reply::Outcome,
        control_server::{Control, ControlServer},
        logs_reply::Item,
    },
};
use rpc::tls::{CertReloader, Credentials, Incoming, ServerTls};
use tokio::{net::TcpListener, sync::broadcast, task::JoinHandle};
use tokio_stream::{Stream, StreamExt as _, wrappers::BroadcastStream};
use tonic::Status;

const HOUR: Duration = Duration::from_secs(3600);

/// Answers the n-th call (from 0).
type Script = dyn Fn(&Request, usize) -> Result<Response, ApiError> + Send + Sync;

/// What was asked: the request id and the request.
pub type Asked = Arc<Mutex<Vec<(u64, Request)>>>;

/// A manager that runs until it is dropped.
pub struct Manager {
    pub address: String,
    pub asked: Asked,
    events: broadcast::Sender<Vec<Event>>,
    task: JoinHandle<()>,
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Manager {
    /// Tells every watch.
    pub fn tell(&self, events: Vec<Event>) {
        // Nobody watches yet: then the next look sees the new state anyway.
        let _ = self.events.send(events);
    }

    /// Waits until somebody watches.
    pub async fn watched(&self) {
        while self.events.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// What was asked so far, watches and logs left out.
    pub fn asked(&self) -> Vec<(u64, Request)> {
        self.asked.lock().expect("no panic").clone()
    }
}

/// A cluster's authority and a directory for the operator.
pub struct Site {
    ca: ClusterCa,
    pub dir: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        let ca = ClusterCa::generate(ClusterId(1), ago(100 * HOUR)).expect("an authority");
        Self { ca, dir: tempfile::tempdir().expect("a directory") }
    }

    fn issue(&self, identity: Identity) -> (String, String) {
        let request = KeyAndCsr::generate().expect("a key");
        let name = CertName { cluster: self.ca.cluster(), identity };
        let leaf =
            self.ca.issue(request.csr_pem.as_bytes(), &name, HOUR, ago(Duration::ZERO), 2).expect("signed");
        (leaf, request.key_pem())
    }

    /// Starts a manager that answers from a script, and log frames.
    pub async fn manager(
        &self,
        frames: Vec<(u32, LogFrame)>,
        script: impl Fn(&Request, usize) -> Result<Response, ApiError> + Send + Sync + 'static,
    ) -> Manager {
        let (leaf, key) = self.issue(Identity::Manager(MemberId(1)));
        let own = Credentials::from_pem(&leaf, self.ca.certificate_pem(), &key).expect("credentials");
        let tls = ServerTls::new(self.ca.certificate_pem(), CertReloader::new(own)).expect("settings");
        let incoming = Incoming::new(TcpListener::bind("127.0.0.1:0").await.expect("a port"), tls);
        let address = incoming.local_addr().expect("bound").to_string();
        let asked = Asked::default();
        let events = broadcast::channel(64).0;
        let fake = Fake { script: Arc::new(script), asked: asked.clone(), events: events.clone(), frames };
        let task = tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(ControlServer::new(fake));
            server.serve_with_incoming(incoming).await.expect("serves");
        });
        Manager { address, asked, events, task }
    }

    /// Writes the operator's context for these managers.
    pub fn context(&self, managers: &[&str]) -> PathBuf {
        let (leaf, key) = self.issue(Identity::Operator { name: "ann".into(), role: Role::Admin });
        let managers: Vec<String> = managers.iter().map(|manager| format!("\"{manager}\"")).collect();
        let text = format!(
            "[[context]]\nname = \"test\"\nmanagers = [{}]\nca = '''{}'''\ncertificate = '''{leaf}'''\nkey = '''{key}'''\n",
            managers.join(", "),
            self.ca.certificate_pem(),
        );
        let path = self.dir.path().join("config.toml");
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Starts `orchctl` with one manager.
    pub fn start(&self, manager: &Manager, line: &str) -> Orchctl {
        self.start_with(&[&manager.address], line)
    }

    /// Starts `orchctl` with these managers.
    pub fn start_with(&self, managers: &[&str], line: &str) -> Orchctl {
        let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_orchctl"))
            .args(line.split_whitespace())
            .env("ORCH_CONFIG", self.context(managers))
            .env_remove("ORCH_CONTEXT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("orchctl starts");
        Orchctl(child)
    }

    /// Runs `orchctl` to its end.
    pub async fn run(&self, manager: &Manager, line: &str) -> Ended {
        self.start(manager, line).end().await
    }
}

/// A running `orchctl`.
pub struct Orchctl(tokio::process::Child);

impl Orchctl {
    pub fn pid(&self) -> i32 {
        self.0.id().and_then(|id| i32::try_from(id).ok()).expect("it runs")
    }

    /// Its standard error, to be read while it runs.
    pub fn stderr(&mut self) -> tokio::process::ChildStderr {
        self.0.stderr.take().expect("it is piped")
    }

    /// Its standard output, to be read while it runs.
    pub fn stdout(&mut self) -> tokio::process::ChildStdout {
        self.0.stdout.take().expect("it is piped")
    }

    pub async fn end(self) -> Ended {
        let output = within(self.0.wait_with_output()).await.expect("its output");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// How `orchctl` ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Its exit code, and parts of what it said on either stream.
    pub fn check(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.out.contains(part) || self.err.contains(part), "{part} in {self:?}");
        }
    }
}

/// Ends a test that hangs.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("the test hangs")
}

fn ago(distance: Duration) -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970") - distance;
    WallTime(u64::try_from(since.as_micros()).expect("not that late"))
}

struct Fake {
    script: Arc<Script>,
    asked: Asked,
    events: broadcast::Sender<Vec<Event>>,
    frames: Vec<(u32, LogFrame)>,
}

impl Fake {
    fn answer(&self, call: &CallRequest) -> CallReply {
        let request: Request = codec::decode(&call.request).expect("a request");
        let mut asked = self.asked.lock().expect("no panic");
        let number = asked.len();
        asked.push((call.request_id, request.clone()));
        drop(asked);
        reply((self.script)(&request, number), call.stale)
    }
}

fn reply(result: Result<Response, ApiError>, stale: bool) -> CallReply {
    let outcome = match result {
        Ok(response) => Outcome::Reply(codec::encode(&Reply { response, index: 7, stale })),
        Err(error) => Outcome::Error(codec::encode(&error)),
    };
    CallReply { outcome: Some(outcome) }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Control for Fake {
    type WatchStream = Answers<CallReply>;
    type LogsStream = Answers<LogsReply>;

    async fn call(&self, request: tonic::Request<CallRequest>) -> Result<tonic::Response<CallReply>, Status> {
        Ok(tonic::Response::new(self.answer(request.get_ref())))
    }

    async fn watch(
        &self,
        _request: tonic::Request<CallRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let events = BroadcastStream::new(self.events.subscribe());
        let news = events.filter_map(Result::ok).map(|events| Ok(reply(Ok(Response::Events(events)), false)));
        let first = tokio_stream::once(Ok(reply(Ok(Response::Events(Vec::new())), false)));
        Ok(tonic::Response::new(Box::pin(first.chain(news))))
    }

    async fn logs(
        &self,
        request: tonic::Request<CallRequest>,
    ) -> Result<tonic::Response<Self::LogsStream>, Status> {
        let plan = LogsReply { item: Some(Item::Plan(self.answer(request.get_ref()))) };
        let pieces = self.frames.clone().into_iter().map(|(source, frame)| {
            let piece = LogPiece { source, frame: codec::encode(&frame) };
            Ok(LogsReply { item: Some(Item::Piece(piece)) })
        });
        let all: Vec<Result<LogsReply, Status>> = [Ok(plan)].into_iter().chain(pieces).collect();
        Ok(tonic::Response::new(Box::pin(tokio_stream::iter(all))))
    }
}

/// An event of the service at this index, which makes whoever waits look again.
pub fn service_event(index: u64, change: ObjectChange) -> Event {
    event(index, EventKind::Service { id: ServiceId(1), name: "ispyb".into(), change })
}

/// A task of the service runs.
pub fn task_runs(index: u64, id: TaskId) -> Event {
    let (service, slot, state) = (ServiceId(1), Slot::Replica(2), TaskState::Running);
    event(
        index,
        EventKind::Task { id, service, name: "ispyb".into(), slot, node: None, state, health: Health::None },
    )
}

fn event(index: u64, kind: EventKind) -> Event {
    Event { revision: Revision { index, ordinal: 0 }, at: ClusterTime(0), kind, message: String::new() }
}
