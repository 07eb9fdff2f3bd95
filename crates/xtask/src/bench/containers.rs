//! Scale and crash against the engine's own create and start, taken in turns.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use model::{
    container::ContainerSpec,
    event::{Event, EventKind},
    request::Request,
    service::{Mode, ServiceSpec, Slot, TaskTemplate},
    task::TaskState,
};
use tests::{cluster::Cluster, image::MIMIC_1};

use super::{
    block_on,
    client::Client,
    table::{Table, Times, above},
};

const SERVICE: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(60);

/// Adds the rows.
///
/// # Errors
/// A replica does not come up.
pub fn measure(table: &mut Table, cluster: &Cluster, rounds: usize) -> Result<()> {
    let client = Client::of(cluster.ctl().config(), &cluster.address(0))?;
    let socket = cluster.node(0).engine().socket().to_owned();
    let figures = block_on(figures(&client, &Raw { socket }, rounds))?;
    let floor = format!("engine create + start {}", figures.start.said());
    let scale = above(&figures.scale, &figures.start);
    table.row("scale n -> n + 1 to running", figures.scale.said(), floor, scale, "+ 20 ms p50");
    let floor = format!("engine kill + create + start {}", figures.replace.said());
    let crash = above(&figures.crash, &figures.replace);
    table.row("container killed -> next attempt running", figures.crash.said(), floor, crash, "+ 50 ms p50");
    Ok(())
}

struct Figures {
    scale: Times,
    crash: Times,
    /// The engine's create and start.
    start: Times,
    /// The engine's kill of one container, and create and start of the next.
    replace: Times,
}

async fn figures(client: &Client, engine: &Raw, rounds: usize) -> Result<Figures> {
    client.call(&Request::CreateService(Arc::new(spec())), PATIENCE).await?;
    let mut events = client.watch().await?;
    let (mut scale, mut crash, mut start, mut replace) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=u32::try_from(rounds)? {
        start.push(engine.create_and_start(&name(round, "a"))?);
        let begun = Instant::now();
        client.call(&Request::ScaleServices(vec![(SERVICE.to_owned(), round)]), PATIENCE).await?;
        events.until(|event| runs(event, round)).await?;
        scale.push(begun.elapsed());
        replace.push(engine.replace(&name(round, "a"), &name(round, "b"))?);
        let victim = engine.container_of(round)?;
        let begun = Instant::now();
        engine.kill(&victim)?;
        events.until(|event| runs(event, round)).await?;
        crash.push(begun.elapsed());
        engine.remove(&name(round, "a"))?;
        engine.remove(&name(round, "b"))?;
    }
    client.call(&Request::RemoveService(SERVICE.to_owned()), PATIENCE).await?;
    let [scale, crash, start, replace] = [scale, crash, start, replace].map(Times::new);
    Ok(Figures { scale, crash, start, replace })
}

/// Of a container of the floor.
fn name(round: u32, which: &str) -> String {
    format!("orch-bench-{}-{round}{which}", std::process::id())
}

fn spec() -> ServiceSpec {
    let container = ContainerSpec { image: MIMIC_1.to_owned(), ..ContainerSpec::default() };
    ServiceSpec {
        name: SERVICE.to_owned(),
        mode: Mode::Replicated(0),
        template: TaskTemplate { container, ..TaskTemplate::default() },
        ..ServiceSpec::default()
    }
}

fn runs(event: &Event, replica: u32) -> Option<()> {
    let is = matches!(
        &event.kind,
        EventKind::Task { slot: Slot::Replica(number), state: TaskState::Running, .. } if *number == replica
    );
    is.then_some(())
}

/// The engine's API without any client library in between.
struct Raw {
    socket: PathBuf,
}

impl Raw {
    /// What the engine needs for a container like ours.
    fn create_and_start(&self, name: &str) -> Result<Duration> {
        let log = r#""LogConfig":{"Type":"json-file","Config":{"max-size":"10485760","max-file":"3"}}"#;
        let body = format!(r#"{{"Image":"{MIMIC_1}","HostConfig":{{{log},"PidsLimit":4096}}}}"#);
        let begun = Instant::now();
        self.ask("POST", &format!("/containers/create?name={name}"), &body)?;
        self.ask("POST", &format!("/containers/{name}/start"), "")?;
        Ok(begun.elapsed())
    }

    /// What the engine needs to kill one and to start the next.
    fn replace(&self, old: &str, new: &str) -> Result<Duration> {
        let begun = Instant::now();
        self.kill(old)?;
        self.create_and_start(new)?;
        Ok(begun.elapsed())
    }

    fn kill(&self, name: &str) -> Result<()> {
        self.ask("POST", &format!("/containers/{name}/kill"), "").map(drop)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.ask("DELETE", &format!("/containers/{name}?force=1"), "").map(drop)
    }

    fn container_of(&self, replica: u32) -> Result<String> {
        let filter = format!(
            "%7B%22label%22%3A%5B%22orch.service.name%3D{SERVICE}%22%2C%22orch.slot%3D{replica}%22%5D%7D"
        );
        let answer = self.ask("GET", &format!("/containers/json?filters={filter}"), "")?;
        let list: serde_json::Value = serde_json::from_str(&answer)?;
        list[0]["Id"]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("no container of replica {replica}"))
    }

    /// One request on a connection of its own, HTTP/1.0 so that the answer ends with the connection.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let mut stream = UnixStream::connect(Path::new(&self.socket))?;
        let head = format!("{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\n");
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        ensure!(
            head.split(' ').nth(1).is_some_and(|code| code.starts_with('2')),
            "{method} {path}: {answer}"
        );
        Ok(body.to_owned())
    }
}
