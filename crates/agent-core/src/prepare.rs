//! Getting one attempt to its start: which image, how many tries, and when the node gives up on it.

use std::time::Duration;

use model::{container::PullPolicy, service::ImagePin, session::Assignment};

use crate::{
    engine::{EngineError, EngineErrorKind},
    pulls::Begun,
};

/// Pulls that may fail before the task is rejected; a registry may be restarting.
const PULL_TRIES: u32 = 5;
/// Creates and starts that may fail; a port may be on its way out with the task before.
const START_TRIES: u32 = 5;
/// The pause after the first failure; it doubles.
const PULL_PAUSE: Duration = Duration::from_secs(1);
/// A manager that comes back is not waited for much longer than this.
const LONGEST_PULL_PAUSE: Duration = Duration::from_secs(30);
/// As [`PULL_PAUSE`], for creates and starts.
const START_PAUSE: Duration = Duration::from_millis(250);

/// How far the preparation of the present attempt has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Prepare {
    /// Which of [`candidates`] to try.
    pub candidate: usize,
    /// The image was pulled for this attempt.
    pub pulled: bool,
    /// The image is not there: pull before the next try.
    pub missing: bool,
    /// A create may have happened without an answer: look by name before the next try.
    pub name_doubted: bool,
    /// How the last pull began.
    pub begun: Begun,
    pulls: u32,
    /// Pulls without a manager's leave that a registry refused.
    refused_alone: u32,
    starts: u32,
}

/// What to do after a failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Try again after a pause.
    Retry(Duration),
    /// Give up, for this reason.
    Reject(String),
}

/// The names under which the engine may have the image, best first.
pub(crate) fn candidates(assignment: &Assignment) -> Vec<&str> {
    let spec = &assignment.container;
    names(&spec.image, spec.pull, assignment.pin.as_ref())
}

/// The same, of an image without a task.
pub(crate) fn names<'a>(image: &'a str, pull: PullPolicy, pin: Option<&'a ImagePin>) -> Vec<&'a str> {
    match pin {
        Some(ImagePin::Digest(digest)) if pull != PullPolicy::Never => vec![digest],
        Some(ImagePin::Digest(pin) | ImagePin::LocalId(pin)) => vec![pin, image],
        None => vec![image],
    }
}

/// What to ask a registry for; `None` when it cannot be asked.
pub(crate) fn pullable(assignment: &Assignment) -> Option<&str> {
    from_registry(&assignment.container.image, assignment.pin.as_ref())
}

/// The same, of an image without a task.
pub(crate) fn from_registry<'a>(image: &'a str, pin: Option<&'a ImagePin>) -> Option<&'a str> {
    match pin {
        Some(ImagePin::Digest(digest)) => Some(digest),
        Some(ImagePin::LocalId(_)) | None => Some(image).filter(|image| !image.starts_with("sha256:")),
    }
}

impl Prepare {
    /// Whether a pull comes before the create.
    pub(crate) fn needs_pull(&self, assignment: &Assignment) -> bool {
        match assignment.container.pull {
            PullPolicy::Always => !self.pulled && pullable(assignment).is_some(),
            PullPolicy::Missing => self.missing,
            PullPolicy::Never => false,
        }
    }

    /// The name to create with.
    pub(crate) fn image<'a>(&self, assignment: &'a Assignment) -> &'a str {
        let candidates = candidates(assignment);
        candidates[self.candidate.min(candidates.len() - 1)]
    }

    /// The image came.
    pub(crate) fn pulled(&mut self, assignment: &Assignment) {
        self.pulled = true;
        self.missing = false;
        self.candidate = candidates(assignment).len() - 1;
    }

    /// The pull failed.
    pub(crate) fn pull_failed(&mut self, assignment: &Assignment, error: &EngineError) -> Failure {
        let image = pullable(assignment).unwrap_or(&assignment.container.image);
        let message = format!("image {image}: {}", error.message);
        if self.begun.explains(error) {
            self.refused_alone += 1;
            return Failure::Retry(pull_pause(self.refused_alone));
        }
        self.pulls += 1;
        match error.kind {
            EngineErrorKind::Unavailable => Failure::Retry(PULL_PAUSE),
            EngineErrorKind::ImageMissing | EngineErrorKind::NotFound | EngineErrorKind::Invalid => {
                Failure::Reject(message)
            }
            // No registry knew it when it was pinned; asking once more is enough.
            _ if matches!(assignment.pin, Some(ImagePin::LocalId(_))) => Failure::Reject(message),
            _ if self.pulls >= PULL_TRIES => Failure::Reject(message),
            _ => Failure::Retry(pull_pause(self.pulls)),
        }
    }

    /// The engine does not have the image under the name that was tried.
    pub(crate) fn image_missing(&mut self, assignment: &Assignment) -> Failure {
        self.starts += 1;
        let image = &assignment.container.image;
        if self.candidate + 1 < candidates(assignment).len() {
            self.candidate += 1;
            return Failure::Retry(Duration::ZERO);
        }
        match pullable(assignment) {
            _ if assignment.container.pull == PullPolicy::Never => {
                Failure::Reject(format!("image {image} is not on this node, and its pull policy is never"))
            }
            None => Failure::Reject(format!("image {image} is not on this node, and an id cannot be pulled")),
            Some(_) if self.starts >= START_TRIES => {
                Failure::Reject(format!("image {image} is not there although it was pulled"))
            }
            Some(_) => {
                self.missing = true;
                self.pulled = false;
                Failure::Retry(Duration::ZERO)
            }
        }
    }

    /// A create or a start failed for another reason.
    pub(crate) fn start_failed(&mut self, error: &EngineError) -> Failure {
        self.starts += 1;
        match error.kind {
            EngineErrorKind::MountMissing | EngineErrorKind::Invalid => {
                Failure::Reject(error.message.clone())
            }
            EngineErrorKind::Unavailable => {
                self.starts -= 1;
                Failure::Retry(START_PAUSE)
            }
            _ if self.starts >= START_TRIES => Failure::Reject(error.message.clone()),
            _ => Failure::Retry(START_PAUSE * (1 << (self.starts - 1))),
        }
    }
}

/// After so many failures in a row.
pub(crate) fn pull_pause(failures: u32) -> Duration {
    let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    PULL_PAUSE.saturating_mul(doubled).min(LONGEST_PULL_PAUSE)
}
