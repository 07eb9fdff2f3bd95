//! A node that only talks: the agents' conversation by hand, so that it can say what no agent of ours would.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use model::id::{NodeId, TaskId};
use model::node::Facts;
use model::session::{AgentMessage, Assignment, FileAnswer, ManagerMessage, PROTOCOL};
use proto::codec;
use proto::v1::{SessionFrame, agents_client::AgentsClient};
use rpc::tls::{ClientTls, channel};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use crate::client::spawn;
use crate::wait;

const PATIENCE: Duration = Duration::from_secs(30);

/// A session with the manager that leads, kept alive until it is dropped.
#[derive(Debug)]
pub struct Talker {
    pub node: NodeId,
    said: mpsc::Sender<AgentMessage>,
    heard: Arc<Mutex<Heard>>,
    work: JoinHandle<()>,
}

/// What a manager said.
#[derive(Debug, Default)]
pub struct Heard {
    pub messages: Vec<ManagerMessage>,
    /// Why the session ended.
    pub end: Option<String>,
}

/// What the node says of itself.
pub fn facts(name: &str) -> Facts {
    Facts {
        hostname: name.to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        engine: "talk".to_owned(),
        engine_api: "1.44".to_owned(),
        cpu_millis: 4_000,
        memory: 8 << 30,
        engine_ok: true,
        files: true,
        ..Facts::default()
    }
}

impl Talker {
    /// Opens a session; `hello` says what the node says of itself. It beats by itself once it is welcome.
    pub fn open(node: NodeId, address: &str, tls: ClientTls, hello: Facts) -> Talker {
        let talker = Talker::mute(node, address, tls);
        talker.say(AgentMessage::Hello {
            protocol: PROTOCOL,
            facts: hello,
            fence: None,
            hash: 0,
            incarnation: None,
            reports: Vec::new(),
        });
        talker
    }

    /// A session in which nothing was said yet.
    pub fn mute(node: NodeId, address: &str, tls: ClientTls) -> Talker {
        let (said, words) = mpsc::channel(256);
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (ears, address, beats) = (heard.clone(), address.to_owned(), said.clone());
        let work = spawn(async move {
            let end = converse(&address, tls, words, &ears, beats).await;
            let end = end.err().map_or_else(|| "closed".to_owned(), |error| format!("{error:#}"));
            held(&ears).end = Some(end);
        });
        Talker { node, said, heard, work }
    }

    /// Says something.
    pub fn say(&self, message: AgentMessage) {
        // One that has ended says nothing more, which its end tells.
        drop(self.said.try_send(message));
    }

    /// Waits for something that a manager says.
    ///
    /// # Errors
    /// It is not said, or the session ends first.
    pub fn hear<T>(&self, what: &str, mut pick: impl FnMut(&ManagerMessage) -> Option<T>) -> Result<T> {
        let heard = wait::until(what, PATIENCE, || {
            let heard = held(&self.heard);
            let found = heard.messages.iter().find_map(&mut pick);
            found.map(Ok).or_else(|| heard.end.clone().map(Err))
        })?;
        heard.map_err(anyhow::Error::msg).with_context(|| format!("no {what}"))
    }

    /// Waits until it may work.
    ///
    /// # Errors
    /// It is not welcome; the message says what it was told.
    pub fn welcome(&self) -> Result<()> {
        let told = self.hear("welcome", |message| match message {
            ManagerMessage::Welcome { .. } => Some(Ok(())),
            ManagerMessage::Refused { message } => Some(Err(message.clone())),
            ManagerMessage::Redirect { .. } => Some(Err("another manager leads".to_owned())),
            _ => None,
        })?;
        told.map_err(anyhow::Error::msg)
    }

    /// Waits until everything that was said so far was heard at the other end: the answer to a heartbeat comes after the answers before.
    ///
    /// # Errors
    /// The session ended.
    pub fn catch_up(&self, number: u64) -> Result<()> {
        self.say(AgentMessage::Heartbeat { number, engine_age_ms: Some(0) });
        self.hear("answer to a heartbeat", |message| {
            matches!(message, ManagerMessage::HeartbeatAck { number: of } if *of == number).then_some(())
        })
    }

    /// Why the session ended, once it has.
    pub fn end(&self) -> Option<String> {
        held(&self.heard).end.clone()
    }

    /// Everything that it was told.
    pub fn messages(&self) -> Vec<ManagerMessage> {
        held(&self.heard).messages.clone()
    }

    /// What it was told to run.
    pub fn assigned(&self) -> Vec<Assignment> {
        let sets = self.messages().into_iter().filter_map(|message| match message {
            ManagerMessage::Assign(set) => Some(set.upsert),
            _ => None,
        });
        sets.flatten().collect()
    }

    /// Files that it got of a task.
    pub fn files_of(&self, of: TaskId) -> Vec<Vec<u8>> {
        let answers = self.messages().into_iter().filter_map(|message| match message {
            ManagerMessage::Files { task, answer: FileAnswer::Some { files, .. } } if task == of => {
                Some(files)
            }
            _ => None,
        });
        answers.flatten().map(|file| file.value.reveal().to_vec()).collect()
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.work.abort();
    }
}

fn held(heard: &Mutex<Heard>) -> std::sync::MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn converse(
    address: &str,
    tls: ClientTls,
    mut words: mpsc::Receiver<AgentMessage>,
    heard: &Mutex<Heard>,
    beats: mpsc::Sender<AgentMessage>,
) -> Result<()> {
    let (frames, queue) = mpsc::channel(256);
    let mut client = AgentsClient::new(channel(address, tls)).max_decoding_message_size(32 << 20);
    let speak = async move {
        while let Some(message) = words.recv().await {
            if frames.send(SessionFrame { message: codec::encode(&message) }).await.is_err() {
                return;
            }
        }
    };
    let listen = async {
        let mut answers = client.session(ReceiverStream::new(queue)).await?.into_inner();
        while let Some(frame) = answers.message().await? {
            let message: ManagerMessage = codec::decode(&frame.message)?;
            if let ManagerMessage::Welcome { heartbeat, .. } = &message {
                tokio::spawn(beat(beats.downgrade(), *heartbeat));
            }
            held(heard).messages.push(message);
        }
        bail!("closed by the manager")
    };
    tokio::select! {
        () = speak => Ok(()),
        ended = listen => ended,
    }
}

/// Far from the numbers that tests count with.
const OWN_BEATS: u64 = 1 << 40;

async fn beat(sender: mpsc::WeakSender<AgentMessage>, every: Duration) {
    let mut number = OWN_BEATS;
    loop {
        tokio::time::sleep(every).await;
        let Some(sender) = sender.upgrade() else { return };
        number += 1;
        if sender.send(AgentMessage::Heartbeat { number, engine_age_ms: Some(0) }).await.is_err() {
            return;
        }
    }
}
