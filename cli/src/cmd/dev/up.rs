//! `dev up`

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use model::{
    event::Revision,
    node::NodeState,
    request::{NodeView, Request, Response},
};

use super::{
    Session, engine,
    home::{CONTEXT, Home},
    process::Daemon,
};
use crate::{
    args::{RoleArg, TokenCreate},
    client::{Client, unexpected},
    cmd::{context, token},
    context::{Context, Contexts},
    exit::{Code, Failure},
    output,
};

/// A manager on a slow disk, an agent on a busy engine: longer than this and something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts what does not run yet; a second time changes nothing.
///
/// # Errors
/// A program is missing, or a daemon does not come up: its log's end is in the message, and what was started is
/// stopped again.
pub async fn run(session: &Session, home: &Home, port: Option<u16>) -> Result<Code, Failure> {
    let programs = Programs::find()?;
    engine::check().await?;
    home.make()?;
    let started = start(session, home, &programs, port).await;
    if started.is_err() {
        home.agent().stop().await?;
        home.manager().stop().await?;
    }
    let node = started?;
    session.print(
        &serde_json::json!({ "dir": home.dir(), "context": CONTEXT, "node": node.node.id }),
        || {
            let image = "nginx:stable";
            format!(
                "a manager and an agent run on this machine (node {}, everything in {})\n\ntry:\n  \
             orchctl service create --name web --replicas 2 --publish 80 {image}\n  \
             orchctl scale web=3\n  \
             orchctl status\n\nremove it all: orchctl dev down",
                node.node.facts.hostname,
                home.dir().display(),
            )
        },
    );
    Ok(Code::DONE)
}

async fn start(
    session: &Session,
    home: &Home,
    programs: &Programs,
    port: Option<u16>,
) -> Result<NodeView, Failure> {
    if !home.context_file().exists() {
        init(home, programs, port).await?;
    }
    let manager = home.manager();
    if manager.pid().is_none() {
        output::note("starting the manager");
        manager.start(&programs.manager, &arguments("run", &home.manager_dir()))?;
    }
    let mut made = context::from_file(&home.context_file(), Some(CONTEXT.into()))?;
    let mut made = made.pop().expect("a file with a context has at least one");
    let client = Client::new(&made, &home.context_file(), false, Some(PATIENCE))?;
    let cluster = serving(&client, &manager).await?;
    home.set_cluster(&cluster)?;
    made.cluster = Some(cluster);
    let address = made.managers[0].clone();
    adopt_context(session, home, made)?;
    let agent = home.agent();
    if agent.pid().is_none() {
        if !joined(home) {
            join(home, programs, &client, &address).await?;
        }
        output::note("starting the agent");
        agent.start(&programs.agent, &arguments("run", &home.agent_dir()))?;
    }
    ready(&client, &agent).await
}

/// The daemons beside this program, or in the search path.
pub(super) struct Programs {
    manager: PathBuf,
    pub(super) agent: PathBuf,
}

impl Programs {
    pub(super) fn find() -> Result<Self, Failure> {
        let own = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
        let paths: Vec<PathBuf> =
            std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        let find = |name: &str| {
            let found = own.iter().chain(&paths).map(|dir| dir.join(name)).find(|path| path.is_file());
            found.ok_or_else(|| {
                Failure::error(format!("{name} is neither beside orchctl nor in PATH: install it"))
            })
        };
        Ok(Self { manager: find("orch-manager")?, agent: find("orch-agent")? })
    }
}

async fn init(home: &Home, programs: &Programs, port: Option<u16>) -> Result<(), Failure> {
    output::note("making the cluster");
    // What an earlier attempt left half-made is of no use to anybody.
    let dir = home.manager_dir();
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(|error| Failure::file("remove", &dir, &error))?;
    }
    let address = format!("127.0.0.1:{}", port.map_or_else(free_port, Ok)?);
    let file = home.context_file();
    let mut call = arguments("init", &dir);
    // Nobody else has business with it: it listens on this machine only.
    call.extend(
        ["--name", CONTEXT, "--address", &address, "--listen", &address, "--context-out"].map(OsStr::new),
    );
    call.push(file.as_os_str());
    output_of("orch-manager init", &programs.manager, &call).await
}

fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| Failure::error(format!("no free port: {error}")))
}

async fn join(home: &Home, programs: &Programs, client: &Client, address: &str) -> Result<(), Failure> {
    let flags = TokenCreate {
        role: RoleArg::Agent,
        ttl: Duration::from_secs(600),
        uses: 1,
        class: None,
        label: Vec::new(),
        quiet: true,
    };
    let (text, _) = token::create(client, &flags).await?;
    let dir = home.agent_dir();
    let mut call = arguments("join", &dir);
    call.extend(["--manager", address, "--token", &text].map(OsStr::new));
    output_of("orch-agent join", &programs.agent, &call).await?;
    if let Some(address) = engine::address() {
        configure_agent(&dir, &address)?;
    }
    std::fs::write(joined_mark(home), "").map_err(|error| Failure::file("write", &joined_mark(home), &error))
}

/// The agent knows the usual place of the engine; another one, as rootless Docker has, it must be told.
fn configure_agent(dir: &Path, engine: &str) -> Result<(), Failure> {
    let file = dir.join("agent.toml");
    let text = format!("# made by orchctl dev up\nengine = {}\n", toml::Value::from(engine));
    let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&file, text));
    written.map_err(|error| Failure::file("write", &file, &error))
}

fn joined(home: &Home) -> bool {
    joined_mark(home).exists()
}

fn joined_mark(home: &Home) -> PathBuf {
    home.dir().join("agent.joined")
}

/// `COMMAND --dir DIR`
fn arguments<'a>(command: &'a str, dir: &'a Path) -> Vec<&'a OsStr> {
    vec![OsStr::new(command), OsStr::new("--dir"), dir.as_os_str()]
}

/// Runs a program to its end; what it says is shown only when it fails.
async fn output_of(what: &str, program: &Path, arguments: &[&OsStr]) -> Result<(), Failure> {
    let done = tokio::process::Command::new(program).args(arguments).stdin(Stdio::null()).output().await;
    let done = done.map_err(|error| Failure::file("start", program, &error))?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(Failure::error(format!("{what} failed ({}):\n  {}", done.status, said.trim().replace('\n', "\n  "))))
}

/// Makes the context the current one; the one before is remembered.
fn adopt_context(session: &Session, home: &Home, made: Context) -> Result<(), Failure> {
    let mut contexts = Contexts::load(&session.config)?;
    let other = contexts.get(CONTEXT).is_ok_and(|context| context.cluster != made.cluster);
    if other {
        return Err(Failure::error(format!(
            "there is a context \"{CONTEXT}\" for another cluster: orchctl context rm {CONTEXT}"
        )));
    }
    if let Some(current) = contexts.current.as_deref().filter(|current| *current != CONTEXT) {
        home.set_previous_context(current)?;
    }
    contexts.current = Some(made.name.clone());
    contexts.put(made);
    contexts.save(&session.config)
}

/// Waits until the manager answers; returns the cluster's id.
async fn serving(client: &Client, manager: &Daemon) -> Result<String, Failure> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answered = client.call(Request::GetStatus).await;
        match answered.map(|reply| reply.response) {
            Ok(Response::Status(status)) => return Ok(status.cluster.to_string()),
            Ok(_) => return Err(unexpected()),
            Err(_) if manager.pid().is_none() => return Err(manager.failure("ended")),
            Err(failure) if Instant::now() > end => {
                return Err(manager.failure(&format!("does not answer ({failure})")));
            }
            Err(_) => {}
        }
    }
}

/// Waits until the node is ready and its engine answers it.
async fn ready(client: &Client, agent: &Daemon) -> Result<NodeView, Failure> {
    let end = Instant::now() + PATIENCE;
    let mut watch = client.watch(Some(Revision::default()));
    loop {
        let Response::Nodes(nodes) = client.call(Request::ListNodes).await?.response else {
            return Err(unexpected());
        };
        if let Some(node) = nodes.into_iter().find(is_ready) {
            return Ok(node);
        }
        if agent.pid().is_none() {
            return Err(agent.failure("ended"));
        }
        if Instant::now() > end {
            return Err(agent.failure("does not become ready"));
        }
        // An event, or a moment in which the agent may have ended.
        if let Ok(item) = tokio::time::timeout(Duration::from_secs(1), watch.next()).await {
            item?;
        }
    }
}

fn is_ready(view: &NodeView) -> bool {
    view.node.state == NodeState::Ready && view.node.facts.engine_ok
}
