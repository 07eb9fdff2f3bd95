//! The agent's end of its mesh process: started when there is something to serve, found again by a later agent, started anew
//! when it is gone.
//!
//! The mesh is no part of the agent's life: it goes on when the agent ends, however that happens, and the next agent talks to it
//! over the socket in the directory. Only `orch-agent leave` ends it.

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use agent_core::event::{Event, Part};
use anyhow::{Context, Result, bail};
use mesh::control::{AgentFrame, MeshConfig, MeshFrame, TaskStats};
use model::{
    id::{NodeId, TaskId},
    session::Seen,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{frame, mesh::AccessLogBounds};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// A process that was started listens within this; a machine under load needs seconds.
const START: Duration = Duration::from_secs(20);
/// Between two looks for its socket.
const LOOK: Duration = Duration::from_millis(10);
/// Before a mesh that ended, or did not start, is started again; doubles up to the cap.
const AGAIN: Duration = Duration::from_millis(50);
const AGAIN_MOST: Duration = Duration::from_secs(5);
/// A mesh that listens answers the greeting within this.
const GREETING: Duration = Duration::from_secs(5);
/// Between two looks at what it saw of replicas.
const SEE: Duration = Duration::from_secs(2);
/// A replica counts as new for so long: releases are hardly watched for longer.
const NEW: Duration = Duration::from_secs(3600);
/// A mesh that is asked to end lets connections finish for a minute at most.
const END: Duration = Duration::from_secs(70);

/// What the core wants of the mesh.
#[derive(Debug)]
pub enum Wish {
    /// Serve this.
    Configure(Box<MeshConfig>),
    /// Take nothing new for a task, and say when nothing is under way.
    Drain(TaskId),
}

/// Keeps a mesh process for as long as the agent lives; wishes come in, events go out.
pub async fn keep(
    directory: PathBuf,
    node: NodeId,
    log: AccessLogBounds,
    mut wishes: mpsc::UnboundedReceiver<Wish>,
    events: mpsc::Sender<Event>,
) {
    let mut keeper =
        Keeper { directory, node, log, config: None, number: 0, seen: Vec::new(), known: BTreeMap::new() };
    let mut pause = AGAIN;
    loop {
        let stream = match keeper.meet(&mut wishes).await {
            Ok(Some(stream)) => stream,
            // The agent ends.
            Ok(None) => return,
            Err(error) => {
                tracing::error!(error = %format!("{error:#}"), "the mesh does not start; no traffic is balanced here");
                sleep(pause).await;
                pause = (pause * 2).min(AGAIN_MOST);
                continue;
            }
        };
        let since = Instant::now();
        if events.send(Event::MeshUp).await.is_err() {
            return;
        }
        let reason = match keeper.converse(stream, &mut wishes, &events).await {
            Ok(()) => return,
            Err(error) => format!("{error:#}"),
        };
        tracing::warn!(reason, "the mesh is gone");
        if events.send(Event::MeshDown { reason }).await.is_err() {
            return;
        }
        pause = if since.elapsed() > AGAIN_MOST { AGAIN } else { (pause * 2).min(AGAIN_MOST) };
        sleep(pause).await;
    }
}

struct Keeper {
    directory: PathBuf,
    node: NodeId,
    log: AccessLogBounds,
    /// What it is to serve, as last wished.
    config: Option<Box<MeshConfig>>,
    number: u64,
    /// What was last told of replicas.
    seen: Vec<Seen>,
    /// Since when each replica is known here.
    known: BTreeMap<TaskId, Instant>,
}

impl Keeper {
    /// A mesh of our version that has greeted: one that is there, or a new one once something is to be served or one of another
    /// version is there to hand over. `None`: the agent ends.
    async fn meet(&mut self, wishes: &mut mpsc::UnboundedReceiver<Wish>) -> Result<Option<UnixStream>> {
        match self.greet().await {
            Ok((stream, version)) if version == VERSION => return Ok(Some(stream)),
            Ok((_, version)) => {
                tracing::info!(version, "a mesh of another version serves; a new one takes over");
            }
            Err(_) => {
                while self.config.is_none() {
                    match wishes.recv().await {
                        Some(wish) => self.remember(wish),
                        None => return Ok(None),
                    }
                }
            }
        }
        self.start()?;
        let deadline = Instant::now() + START;
        loop {
            match self.greet().await {
                Ok((stream, version)) if version == VERSION => return Ok(Some(stream)),
                Ok((_, version)) if Instant::now() >= deadline => {
                    bail!("version {version} does not hand over")
                }
                Err(error) if Instant::now() >= deadline => return Err(error),
                Ok(_) | Err(_) => sleep(LOOK).await,
            }
        }
    }

    fn remember(&mut self, wish: Wish) {
        if let Wish::Configure(config) = wish {
            self.config = Some(config);
        }
    }

    async fn greet(&self) -> Result<(UnixStream, String)> {
        let mut stream = UnixStream::connect(socket(&self.directory)).await.context("its socket")?;
        let (version, _) = greeting(&mut stream, self.node).await?;
        Ok((stream, version))
    }

    fn start(&self) -> Result<()> {
        let program = std::env::current_exe().context("our own program")?;
        let mut command = Command::new(program);
        command.arg("mesh").arg("--dir").arg(&self.directory).stdin(Stdio::null());
        command.arg(format!("--access-log-size={}", self.log.size));
        command.arg(format!("--access-log-files={}", self.log.files));
        // A group of its own: a Ctrl-C for the agent is none for it.
        command.process_group(0);
        let mut child = command.spawn().context("orch-agent mesh")?;
        tracing::info!(pid = child.id(), "started the mesh");
        // Reaped when it ends; when the agent ends first, it is init's.
        std::thread::Builder::new()
            .name("mesh-reaper".into())
            .stack_size(64 << 10)
            .spawn(move || child.wait())?;
        Ok(())
    }

    async fn converse(
        &mut self,
        stream: UnixStream,
        wishes: &mut mpsc::UnboundedReceiver<Wish>,
        events: &mpsc::Sender<Event>,
    ) -> Result<()> {
        let (mut reader, mut writer) = stream.into_split();
        let (answers, mut heard) = mpsc::channel(64);
        let reading = tokio::spawn(async move { listen(&mut reader, &answers).await });
        let mut looks = interval(SEE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                frame = heard.recv() => match frame {
                    Some(frame) => self.hear(frame, events).await?,
                    None => match reading.await {
                        Ok(Err(error)) => return Err(error),
                        _ => bail!("it closed the connection"),
                    },
                },
                _ = looks.tick() => frame::write(&mut writer, &AgentFrame::Stats).await?,
                wish = wishes.recv() => match wish {
                    Some(wish) => self.say(wish, wishes, &mut writer).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Says what is wished; of several configurations that wait only the newest.
    async fn say(
        &mut self,
        wish: Wish,
        wishes: &mut mpsc::UnboundedReceiver<Wish>,
        writer: &mut OwnedWriteHalf,
    ) -> Result<()> {
        let mut drains = Vec::new();
        let mut newest = None;
        let mut next = Some(wish);
        while let Some(wish) = next {
            match wish {
                Wish::Configure(config) => newest = Some(config),
                Wish::Drain(task) => drains.push(task),
            }
            next = wishes.try_recv().ok();
        }
        if let Some(config) = newest {
            self.number += 1;
            self.config = Some(config.clone());
            frame::write(writer, &AgentFrame::Configure { number: self.number, config }).await?;
        }
        for task in drains {
            frame::write(writer, &AgentFrame::Drain { task }).await?;
        }
        Ok(())
    }

    /// Replicas that are new, so that whoever watches a release knows how much went well elsewhere, and those that failed.
    fn worth_telling(&mut self, stats: &[TaskStats]) -> Vec<Seen> {
        let now = Instant::now();
        let since = |task| (task, self.known.get(&task).copied().unwrap_or(now));
        self.known = stats.iter().map(|stats| since(stats.task)).collect();
        let one = |stats: &TaskStats| Seen {
            task: stats.task,
            requests: stats.total,
            failures: stats.failed.saturating_add(stats.errors),
        };
        let tells = |seen: &Seen| seen.failures > 0 || now.duration_since(self.known[&seen.task]) < NEW;
        stats.iter().map(one).filter(tells).collect()
    }

    async fn hear(&mut self, frame: MeshFrame, events: &mpsc::Sender<Event>) -> Result<()> {
        let event = match frame {
            MeshFrame::Problems(problems) => Event::Problems { of: Part::Mesh, problems },
            MeshFrame::Applied { number, version, .. } => {
                if number != self.number {
                    return Ok(());
                }
                Event::MeshApplied { version }
            }
            MeshFrame::Drained { task } => Event::MeshDrained { task },
            MeshFrame::Stats(stats) => {
                let seen = self.worth_telling(&stats);
                if seen == self.seen {
                    return Ok(());
                }
                self.seen.clone_from(&seen);
                Event::MeshSaw(seen)
            }
            MeshFrame::Hello { .. } => return Ok(()),
        };
        events.send(event).await.context("the agent ends")
    }
}

async fn listen(reader: &mut OwnedReadHalf, answers: &mpsc::Sender<MeshFrame>) -> Result<()> {
    while let Some(frame) = frame::read(reader).await? {
        if answers.send(frame).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn greeting(stream: &mut UnixStream, node: NodeId) -> Result<(String, u32)> {
    let hello = AgentFrame::Hello { version: VERSION.to_owned(), node };
    let answer = async {
        frame::write(stream, &hello).await?;
        frame::read::<MeshFrame>(stream).await
    };
    match timeout(GREETING, answer).await.context("it does not answer")?? {
        Some(MeshFrame::Hello { version, pid }) => Ok((version, pid)),
        _ => bail!("it does not greet"),
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("mesh.sock")
}

/// Ends the mesh of a directory, if there is one, and waits until it has ended.
///
/// # Errors
/// It does not end in time.
pub async fn end(directory: &Path, node: NodeId) -> Result<()> {
    let Ok(mut stream) = UnixStream::connect(socket(directory)).await else { return Ok(()) };
    let (_, pid) = greeting(&mut stream, node).await?;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("its process")?;
    kill_process(pid, Signal::TERM).context("ending the mesh")?;
    let ended =
        async { while frame::read::<MeshFrame>(&mut stream).await.is_ok_and(|frame| frame.is_some()) {} };
    timeout(END, ended).await.context("the mesh does not end")
}
