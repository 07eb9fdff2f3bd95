//! The engine's events, without a gap: subscribe, list, then apply what came meanwhile; again after every break.
//!
//! The engine keeps only its last 256 events, so a listing, not a replay, is what makes up for a break. The
//! subscription asks for events from just before the listing on; what both say twice does no harm.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use agent_core::{
    engine::{Change, ContainerChange, ContainerView, EngineError, EngineErrorKind},
    event::{EngineFacts, Event},
    labels,
};
use bollard::{
    Docker,
    errors::Error as DockerError,
    models::{EventActor, EventMessage, HealthStatusEnum, SystemInfo},
    query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use model::{
    id::{ClusterId, NodeId},
    task::Health,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Engine,
    error::{Doing, chain, sorted},
    view,
};

/// The pauses between two tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// To reach the engine and list its containers; a frozen one accepts and stays silent.
const GREETING: Duration = Duration::from_secs(20);
/// Containers looked at together.
const LOOKS: usize = 4;
/// How long an engine may take to clear up after a container before its end is acted upon.
const CLEARING: Duration = Duration::from_millis(300);
/// Ends that are waited for together; the events keep their order.
const SETTLING: usize = 64;
/// The only events asked for: health checks alone would otherwise send six for each check.
const ACTIONS: [&str; 6] = ["create", "start", "die", "oom", "health_status", "destroy"];

/// Whose containers are ours.
#[derive(Debug, Clone, Copy)]
pub struct Ours {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

impl Ours {
    pub(super) fn filters(self) -> HashMap<String, Vec<String>> {
        let labels =
            vec![format!("{}={}", labels::CLUSTER, self.cluster), format!("{}={}", labels::NODE, self.node)];
        HashMap::from([("label".to_owned(), labels)])
    }
}

/// Keeps the agent informed until it goes away: `EngineUp`, `EngineListed`, changes, `EngineDown`, and all over again.
pub async fn watch(engine: Engine, ours: Ours, events: mpsc::Sender<Event>) {
    let mut pause = PAUSE.0;
    let mut told = String::new();
    loop {
        let broken = match tokio::time::timeout(GREETING, engine.greet(ours)).await {
            Ok(Ok(greeting)) => {
                told.clear();
                let began = Instant::now();
                let broken = relay(greeting, &events).await;
                // An engine that breaks again at once is not asked more and more often.
                if began.elapsed() > PAUSE.1 {
                    pause = PAUSE.0;
                }
                broken
            }
            Ok(Err(error)) => error.message,
            Err(_elapsed) => format!("it did not list its containers within {} s", GREETING.as_secs()),
        };
        if broken != told {
            tracing::warn!(reason = %broken, "the engine is not reachable; containers go on, trying again");
            told.clone_from(&broken);
            if events.send(Event::EngineDown { reason: broken }).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// An engine that was reached.
struct Greeting {
    facts: EngineFacts,
    containers: Vec<ContainerView>,
    /// What came while it listed, then everything that comes.
    changes: stream::BoxStream<'static, Result<EventMessage, DockerError>>,
}

impl Engine {
    async fn greet(&self, ours: Ours) -> Result<Greeting, EngineError> {
        let using = |error| sorted(Doing::Use, &error);
        let client = self.renegotiate().await.map_err(using)?;
        let info = client.info().await.map_err(using)?;
        let facts = facts(&client, &info);
        self.0.cpu_millis.store(facts.cpu_millis, Ordering::Relaxed);
        self.knows_root(info.docker_root_dir.as_deref());
        let mut changes = subscribe(&client, ours, &info);
        let mut meanwhile = Vec::new();
        let listing = self.list(&client, ours);
        tokio::pin!(listing);
        // The subscription is only sent to the engine when the stream is polled.
        let containers = loop {
            tokio::select! {
                biased;
                change = changes.next() => match change {
                    Some(change) => meanwhile.push(change),
                    None => return Err(EngineError {
                        kind: EngineErrorKind::Unavailable,
                        message: "its event stream ended at once".to_owned(),
                    }),
                },
                listed = &mut listing => break listed?,
            }
        };
        let changes = stream::iter(meanwhile).chain(changes);
        let asked = client.clone();
        let settled = changes.map(move |message| settled(asked.clone(), message)).buffered(SETTLING);
        Ok(Greeting { facts, containers, changes: settled.boxed() })
    }

    /// All containers that carry our labels, running or not.
    ///
    /// # Errors
    /// The engine is not reachable, or does not know what it has.
    pub async fn containers(&self, ours: Ours) -> Result<Vec<ContainerView>, EngineError> {
        let client = self.renegotiate().await.map_err(|error| sorted(Doing::Use, &error))?;
        self.list(&client, ours).await
    }

    async fn list(&self, client: &Docker, ours: Ours) -> Result<Vec<ContainerView>, EngineError> {
        let options = ListContainersOptionsBuilder::new().all(true).filters(&ours.filters()).build();
        let listed =
            client.list_containers(Some(options)).await.map_err(|error| sorted(Doing::Use, &error))?;
        let looks = listed.into_iter().filter_map(|summary| summary.id).map(|id| async move {
            match self.look(&id).await {
                // Removed between the list and the look.
                Err(error) if error.kind == EngineErrorKind::NotFound => Ok(None),
                other => other,
            }
        });
        stream::iter(looks)
            .buffer_unordered(LOOKS)
            .try_filter_map(|view| async { Ok(view) })
            .try_collect()
            .await
    }
}

/// The message; of an end only once the engine has cleared up after it. An engine tells of an end first, and answers for
/// that container again when its network and file system are released; a successor that is made meanwhile gets in the way
/// of that and starts later, not earlier (Docker 20.10: 0.41 s after the kill, against 0.29 s).
async fn settled(
    client: Docker,
    message: Result<EventMessage, DockerError>,
) -> Result<EventMessage, DockerError> {
    if let Ok(EventMessage { action: Some(action), actor: Some(EventActor { id: Some(id), .. }), .. }) =
        &message
        && action == "die"
    {
        let look = client.inspect_container(id, None);
        // That it answers is the answer.
        drop(tokio::time::timeout(CLEARING, look).await);
    }
    message
}

fn facts(client: &Docker, info: &SystemInfo) -> EngineFacts {
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
    EngineFacts {
        version: info.server_version.clone().unwrap_or_default(),
        api: client.client_version().to_string(),
        cpu_millis: positive(info.ncpu) * 1_000,
        memory: positive(info.mem_total),
    }
}

fn subscribe(
    client: &Docker,
    ours: Ours,
    info: &SystemInfo,
) -> stream::BoxStream<'static, Result<EventMessage, DockerError>> {
    let mut filters = ours.filters();
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    filters.insert("event".to_owned(), ACTIONS.map(str::to_owned).to_vec());
    let mut options = EventsOptionsBuilder::new().filters(&filters);
    // By the engine's own clock; without it, only what happens after the subscription arrives, which is before the list.
    let now = info.system_time.as_deref().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    if let Some(now) = now {
        options = options.since(&format!("{}.{:09}", now.unix_timestamp(), now.nanosecond()));
    }
    client.events(Some(options.build())).boxed()
}

/// Tells the agent everything until the stream breaks; answers why it did.
async fn relay(greeting: Greeting, events: &mpsc::Sender<Event>) -> String {
    let Greeting { facts, containers, mut changes } = greeting;
    tracing::info!(version = %facts.version, api = %facts.api, containers = containers.len(), "the engine is ready");
    let gone = "the agent ends";
    if events.send(Event::EngineUp(facts)).await.is_err()
        || events.send(Event::EngineListed { containers }).await.is_err()
    {
        return gone.to_owned();
    }
    loop {
        match changes.next().await {
            Some(Ok(message)) => {
                let Some(change) = change(message) else { continue };
                if events.send(Event::EngineChanged(change)).await.is_err() {
                    return gone.to_owned();
                }
            }
            Some(Err(error)) => return chain(&error),
            None => return "its event stream ended".to_owned(),
        }
    }
}

/// `None` for what the agent need not know.
fn change(message: EventMessage) -> Option<ContainerChange> {
    let actor = message.actor?;
    let attributes = actor.attributes?;
    let change = match message.action?.as_str() {
        "create" => Change::Created,
        "start" => Change::Started,
        "oom" => Change::OutOfMemory,
        "destroy" => Change::Destroyed,
        "die" => {
            Change::Died { code: attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(-1) }
        }
        action => Change::Health(health(action.strip_prefix("health_status:")?.trim())),
    };
    Some(ContainerChange { id: actor.id?, labels: view::labels(&attributes)?, change })
}

fn health(word: &str) -> Health {
    view::health(match word {
        "healthy" => Some(HealthStatusEnum::HEALTHY),
        "unhealthy" => Some(HealthStatusEnum::UNHEALTHY),
        "starting" => Some(HealthStatusEnum::STARTING),
        _ => None,
    })
}
