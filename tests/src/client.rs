//! The control API as a program uses it: no process a call, so that what is measured is the cluster.

use std::{path::Path, sync::LazyLock, time::Duration};

use anyhow::{Context, Result, bail};
use model::{
    cluster::ClusterSettings,
    event::Event,
    request::{ApiError, Reply, Request, Response},
};
use proto::{
    codec,
    v1::{CallReply, CallRequest, call_reply::Outcome, control_client::ControlClient, logs_reply::Item},
};
use rpc::tls::{CertReloader, ClientTls, Credentials, channel};
use tokio::{runtime::Runtime, task::JoinHandle};
use tonic::{Streaming, transport::Channel};

/// Runs the client's side to its end; the cluster's processes have runtimes of their own. One for the whole run, since
/// a channel lives on the runtime that it was made in.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.block_on(work)
}

/// Runs it beside whatever else the client's side does.
pub fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    RUNTIME.spawn(work)
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a thread can be started")
});

/// One client of one manager.
#[derive(Clone)]
pub struct Client {
    control: ControlClient<Channel>,
    /// A deploy token, presented with every call.
    token: Option<String>,
}

impl Client {
    /// A client of the manager at `address`, with the only identity of a context file.
    ///
    /// # Errors
    /// It is no context file.
    pub fn of(context: &Path, address: &str) -> Result<Self> {
        let file: toml::Table = toml::from_str(&std::fs::read_to_string(context)?)?;
        let entry = file["context"].as_array().and_then(|all| all.first()).context("a context")?;
        let text = |key: &str| entry.get(key).and_then(toml::Value::as_str).context("a context's text");
        let credentials = Credentials::from_pem(text("certificate")?, text("ca")?, text("key")?)?;
        let tls = ClientTls::mutual(text("ca")?, CertReloader::new(credentials))?;
        Ok(block_on(async { Self::with(address, tls) }))
    }

    /// A client of the manager at `address` that dials like this; to be made within a runtime, in which it then lives.
    pub fn with(address: &str, tls: ClientTls) -> Self {
        Self::on(channel(address, tls))
    }

    /// A client on a channel.
    pub fn on(channel: Channel) -> Self {
        Self { control: ControlClient::new(channel), token: None }
    }

    /// The same, which presents a deploy token.
    #[must_use]
    pub fn bearing(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// Asks; `deadline` bounds the managers' side.
    ///
    /// # Errors
    /// It is refused, or nobody answers.
    pub async fn call(&self, request: &Request, deadline: Duration) -> Result<Reply> {
        self.send(message(request, deadline)?).await
    }

    /// Sends a call as it is.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn send(&self, call: CallRequest) -> Result<Reply> {
        let reply = self.control.clone().call(self.signed(call)?).await?;
        read(reply.into_inner())
    }

    /// The first answer to any request, by the method that it takes.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn first(&self, request: &Request, deadline: Duration) -> Result<Reply> {
        let call = self.signed(message(request, deadline)?)?;
        let mut control = self.control.clone();
        match request {
            Request::Watch { .. } => {
                let reply = control.watch(call).await?.into_inner().message().await?;
                read(reply.context("the watch ended")?)
            }
            Request::Logs { .. } => {
                let reply = control.logs(call).await?.into_inner().message().await?;
                match reply.and_then(|reply| reply.item).context("the logs ended")? {
                    Item::Plan(plan) => read(plan),
                    Item::Piece(_) => bail!("a line before the plan"),
                }
            }
            _ => read(control.call(call).await?.into_inner()),
        }
    }

    fn signed(&self, call: CallRequest) -> Result<tonic::Request<CallRequest>> {
        let mut call = tonic::Request::new(call);
        if let Some(token) = &self.token {
            call.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        }
        Ok(call)
    }

    /// The smallest change that commits: the settings as they are.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn write(&self, deadline: Duration) -> Result<()> {
        self.call(&Request::SetSettings(ClusterSettings::default()), deadline).await.map(drop)
    }

    /// Events from now on.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn watch(&self) -> Result<Events> {
        let request = message(&Request::Watch { after: None, until: None }, Duration::from_secs(600))?;
        let mut events =
            Events { stream: self.control.clone().watch(request).await?.into_inner(), ready: Vec::new() };
        // The first answer says where the stream stands; from here on nothing is missed.
        events.more().await?;
        Ok(events)
    }
}

/// A watch.
pub struct Events {
    stream: Streaming<CallReply>,
    ready: Vec<Event>,
}

impl Events {
    /// The first event that `pick` takes.
    ///
    /// # Errors
    /// The stream ends, or a minute passes.
    pub async fn until<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> Result<T> {
        let search = async {
            loop {
                for event in std::mem::take(&mut self.ready) {
                    if let Some(found) = pick(&event) {
                        return Ok(found);
                    }
                }
                self.more().await?;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), search)
            .await
            .context("no such event within a minute")?
    }

    async fn more(&mut self) -> Result<()> {
        let reply = self.stream.message().await?.context("the watch ended")?;
        match read(reply)?.response {
            Response::Events(events) => self.ready.extend(events),
            Response::Resync { .. } | Response::EventsEnd => {}
            other => bail!("an unexpected answer to a watch: {other:?}"),
        }
        Ok(())
    }
}

/// A call with a request id of its own, when it changes something.
///
/// # Errors
/// The machine has no entropy.
pub fn message(request: &Request, deadline: Duration) -> Result<CallRequest> {
    let mut id = [0u8; 8];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    Ok(CallRequest {
        request: codec::encode(request),
        request_id: if request.is_read() { 0 } else { u64::from_le_bytes(id).max(1) },
        stale: false,
        deadline_ms: u64::try_from(deadline.as_millis())?,
        ..CallRequest::default()
    })
}

fn read(reply: CallReply) -> Result<Reply> {
    match reply.outcome.context("an empty answer")? {
        Outcome::Reply(bytes) => Ok(codec::decode(&bytes)?),
        Outcome::Error(bytes) => Err(codec::decode::<ApiError>(&bytes)?.into()),
    }
}
