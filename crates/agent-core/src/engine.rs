//! What the agent asks of the container engine, and what the engine answers, without any engine's own words.
//!
//! Two rules keep the agent honest. An error never reads as "gone": only [`EngineErrorKind::NotFound`] says that
//! something is not there. And a call that may or may not have happened ([`EngineErrorKind::is_uncertain`]) is followed
//! by a look, never by a second call.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use model::{
    container::ContainerSpec,
    id::TaskId,
    probe::Diagnosis,
    registry::Login,
    route::NetworkRoute,
    service::ImagePin,
    task::{BoundPort, Exit, Health},
};

use crate::labels::Labels;

/// One call to the engine. Every call is answered by exactly one `EngineDone`, unless it was cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineCall {
    /// Does it answer at all? Answered by [`OpOutcome::Done`].
    Ping,
    /// Fetch an image. Answered by [`OpOutcome::Done`].
    Pull {
        /// `name:tag` or `name@sha256:…`.
        image: String,
        /// How to log in at its registry; `None`: as the node does it itself.
        login: Option<Login>,
    },
    /// Is one of these images here? Answered by [`OpOutcome::Found`].
    FindImage {
        /// Names, digests or ids.
        images: Vec<String>,
    },
    /// Make a container, without starting it. Answered by [`OpOutcome::Created`];
    /// [`EngineErrorKind::Conflict`] when the name is taken.
    Create(Box<ContainerRequest>),
    /// Start a container that was created, then look at it. Answered by [`OpOutcome::Container`].
    Start {
        /// Its id.
        container: String,
    },
    /// Ask it to stop with its own stop signal, kill it after the grace, then look at it. Answered by
    /// [`OpOutcome::Container`], also when it had ended before.
    Stop {
        /// Its id.
        container: String,
        /// `None`: what it was created with.
        grace: Option<Duration>,
    },
    /// Remove a container; a running one is killed. Answered by [`OpOutcome::Done`].
    Remove {
        /// Its id.
        container: String,
        /// Keep the last lines that it printed, under this name. `None`: it never ran.
        keep: Option<AttemptId>,
    },
    /// Ask a container that is about to be stopped what it does, and keep the answer with its attempt. Answered by
    /// [`OpOutcome::Done`].
    Diagnose {
        /// Its id.
        container: String,
        /// How.
        diagnosis: Diagnosis,
        /// Whose attempt it is.
        attempt: AttemptId,
    },
    /// Look at a container. Answered by [`OpOutcome::Container`] or [`EngineErrorKind::NotFound`].
    Inspect {
        /// Its id or its name.
        container: String,
    },
    /// What does this reference mean? Answered by [`OpOutcome::Resolved`].
    ResolveImage {
        /// The reference.
        image: String,
    },
}

/// Names one attempt for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptId {
    /// Of which task.
    pub task: TaskId,
    /// From 1.
    pub number: u32,
}

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRequest {
    /// Its name: one per task and attempt, so that the engine itself refuses a double.
    pub name: String,
    /// The image to use: a reference by digest, an image id or a tag; `spec.image` is only what the user wrote.
    pub image: String,
    /// `spec.hostname` with its templates filled in.
    pub hostname: Option<String>,
    /// `spec.env` with its templates filled in.
    pub env: BTreeMap<String, String>,
    /// `spec.labels` and the agent's own.
    pub labels: BTreeMap<String, String>,
    /// Whose secrets and configs the container mounts, as its [`files`](ContainerSpec::files) say; kept by `KeepFiles` before.
    pub files: Option<TaskId>,
    /// The networks to be in, each made first where it is not there; empty: the engine's default bridge.
    pub networks: Vec<NetworkRoute>,
    /// Everything else.
    pub spec: Arc<ContainerSpec>,
}

/// What a call brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpOutcome {
    /// It is done; there is nothing to say.
    Done,
    /// The container is made.
    Created {
        /// The engine's id.
        id: String,
    },
    /// The container as it is after the call.
    Container(ContainerView),
    /// What the image means.
    Resolved(ImagePin),
    /// Whether the image is here.
    Found(bool),
}

/// One of our containers as the engine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    /// The engine's id.
    pub id: String,
    /// Whose it is.
    pub labels: Labels,
    /// What it does.
    pub status: ContainerStatus,
    /// The image's id.
    pub image: String,
    /// Ports as bound; empty while it does not run.
    pub ports: Vec<BoundPort>,
    /// Its addresses by the engine's names of its networks; empty while it does not run.
    pub addresses: Vec<(String, Ipv4Addr)>,
}

/// The most of a health check's output that is kept: a line, not a page, since every change of it costs a commit.
pub const MAX_CHECK_OUTPUT: usize = 240;

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerStatus {
    /// Made, never started.
    Created,
    /// Its process runs (or is paused).
    Running {
        /// The health check's word.
        health: Health,
        /// What the check printed when it last failed: one line, at most [`MAX_CHECK_OUTPUT`] bytes. Empty unless unhealthy.
        check: String,
        /// How long it has run.
        running_for: Duration,
    },
    /// Its process ended.
    Ended {
        /// How; `message` may be empty, the agent finds the words.
        exit: Exit,
        /// How long the process ran.
        ran: Duration,
    },
}

/// What the engine's event stream says of one of our containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerChange {
    /// The engine's id.
    pub id: String,
    /// Whose it is.
    pub labels: Labels,
    /// What happened.
    pub change: Change,
}

/// What happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was made. The agent hears it from its own calls as well, but not from one that a former life of it had asked for.
    Created,
    /// Its process started.
    Started,
    /// The kernel killed one of its processes for memory; `Died` follows when it was the main one.
    OutOfMemory,
    /// Its process ended.
    Died {
        /// 128 + n for signal n.
        code: i64,
    },
    /// The health check changed its mind.
    Health(Health),
    /// It was removed.
    Destroyed,
}

/// What kind of failure, sorted by what the agent does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EngineErrorKind {
    /// The container is not there.
    NotFound,
    /// The name is taken, or another call works on the same container.
    Conflict,
    /// The image is not on this node.
    ImageMissing,
    /// The registry refused, does not know the image, or is not reachable.
    ImagePullFailed,
    /// The registry wants another login.
    ImageDenied,
    /// A host port is in use.
    PortTaken,
    /// A bind mount's source does not exist.
    MountMissing,
    /// The engine cannot make a container of this declaration; trying again will not help.
    Invalid,
    /// The engine is not reachable. It may have done what was asked before the connection broke.
    Unavailable,
    /// No answer in time. It may still be doing what was asked.
    Timeout,
    /// Anything else.
    Other,
}

impl EngineErrorKind {
    /// The call may or may not have happened.
    pub fn is_uncertain(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::Conflict | Self::Other)
    }
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineError {
    /// What to do about it.
    pub kind: EngineErrorKind,
    /// What the engine said.
    pub message: String,
}
