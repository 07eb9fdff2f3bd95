//! One call of the agent, carried out. Each has a time limit that says when its outcome counts as unknown.

use std::{future::Future, time::Duration};

use agent_core::engine::{
    ContainerRequest, ContainerView, EngineCall, EngineError, EngineErrorKind, OpOutcome,
};
use bollard::{
    errors::Error as DockerError,
    models::Mount as DockerMount,
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, RemoveContainerOptionsBuilder,
        StopContainerOptionsBuilder,
    },
};
use futures_util::TryStreamExt;
use model::{registry::ImageName, service::ImagePin};
use time::OffsetDateTime;

use super::{
    Engine, create,
    credentials::{self, Login},
    error::{Doing, sorted},
    places, view,
};

/// An engine that lives answers a ping in milliseconds.
const PING: Duration = Duration::from_secs(5);
/// Reading and making take tens of milliseconds, seconds on a machine that is overloaded.
const SHORT: Duration = Duration::from_secs(60);
/// Starts queue in the engine.
const START: Duration = Duration::from_secs(120);
/// What a stop may take beyond its grace.
const STOP_MARGIN: Duration = Duration::from_secs(30);
/// The engine's own default.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// A large image over a slow line.
const PULL: Duration = Duration::from_secs(3_600);
/// A registry that does not answer must not hold up a service whose image is here.
const RESOLVE: Duration = Duration::from_secs(15);

type Outcome = Result<OpOutcome, EngineError>;

impl Engine {
    /// Carries out a call. Dropping the future abandons it; the engine may finish it all the same.
    pub async fn call(&self, call: EngineCall) -> Outcome {
        match call {
            EngineCall::Ping => within(PING, self.ping()).await,
            EngineCall::Pull { image, login } => within(PULL, self.pull(&image, login)).await,
            EngineCall::Create(request) => within(SHORT, self.create(&request)).await,
            EngineCall::Start { container } => within(START, self.start(&container)).await,
            EngineCall::Stop { container, grace } => {
                let limit = grace.unwrap_or(DEFAULT_GRACE) + STOP_MARGIN;
                within(limit, self.stop(&container, grace)).await
            }
            EngineCall::Remove { container, keep } => {
                if let Some(attempt) = keep {
                    self.keep_last_words(&container, attempt).await;
                }
                within(SHORT, self.remove(&container)).await
            }
            EngineCall::Diagnose { container, diagnosis, attempt } => {
                self.diagnose(&container, &diagnosis, attempt).await
            }
            EngineCall::Inspect { container } => within(SHORT, self.inspect(&container)).await,
            EngineCall::FindImage { images } => within(SHORT, self.find(&images)).await,
            EngineCall::ResolveImage { image } => self.resolve(&image).await.map(OpOutcome::Resolved),
        }
    }

    async fn ping(&self) -> Outcome {
        self.client().await.map_err(using)?.ping().await.map_err(using)?;
        Ok(OpOutcome::Done)
    }

    async fn pull(&self, image: &str, given: Option<model::registry::Login>) -> Outcome {
        let login = given.map_or_else(|| self.0.logins.of(image), |login| Login::given(image, login));
        let pulling = |error| {
            let EngineError { kind, message } = sorted(Doing::Pull, &error);
            EngineError { kind, message: login.explain(credentials::advised(image, message)) }
        };
        let client = self.client().await.map_err(pulling)?;
        let options = CreateImageOptionsBuilder::new().from_image(&with_tag(image)).build();
        let mut progress = client.create_image(Some(options), None, login.credentials.clone());
        while let Some(step) = progress.try_next().await.map_err(pulling)? {
            if let Some(message) = step.error_detail.and_then(|detail| detail.message) {
                return Err(pulling(DockerError::DockerStreamError { error: message }));
            }
        }
        Ok(OpOutcome::Done)
    }

    async fn find(&self, images: &[String]) -> Outcome {
        let client = self.client().await.map_err(using)?;
        for image in images {
            match client.inspect_image(image).await {
                Ok(_) => return Ok(OpOutcome::Found(true)),
                Err(error) => match sorted(Doing::Use, &error) {
                    error if error.kind == EngineErrorKind::NotFound => {}
                    error => return Err(error),
                },
            }
        }
        Ok(OpOutcome::Found(false))
    }

    async fn create(&self, request: &ContainerRequest) -> Outcome {
        let creating = |error| sorted(Doing::Create, &error);
        let client = self.client().await.map_err(creating)?;
        if let Some(networks) = &self.0.networks {
            let made = networks.make(self, &request.networks).await;
            made.map_err(|message| EngineError { kind: EngineErrorKind::Other, message })?;
        }
        let options = CreateContainerOptionsBuilder::new().name(&request.name).build();
        let files = self.files(request)?;
        self.is_what_was_signed(request).await?;
        let request = places::resolved(request, &self.own_places()).await?;
        let body = create::body(&request, files, self.cpu_millis());
        let created = client.create_container(Some(options), body).await.map_err(creating)?;
        // Such as a memory limit on a kernel that cannot enforce it.
        for warning in created.warnings {
            tracing::warn!(container = %request.name, %warning, "the engine could not do all that was asked");
            if create::is_security(&warning) {
                // Without it the container would be less bounded than it was promised to be.
                self.remove(&created.id).await?;
                let message = format!("this node cannot hold the container as it has to: {warning}");
                return Err(EngineError { kind: EngineErrorKind::Invalid, message });
            }
        }
        self.connect(&created.id, request.networks.get(1..).unwrap_or_default()).await.map_err(creating)?;
        Ok(OpOutcome::Created { id: created.id })
    }

    /// Of a signed image the engine's has to be the one that the signatures name.
    async fn is_what_was_signed(&self, request: &ContainerRequest) -> Result<(), EngineError> {
        if request.spec.signatures.is_empty() {
            return Ok(());
        }
        let creating = |error| sorted(Doing::Create, &error);
        let digest = ImageName::parse(&request.spec.image).filter(ImageName::is_digest);
        let digest = digest.map_or("no digest", |name| name.reference);
        let client = self.client().await.map_err(creating)?;
        let image = client.inspect_image(&request.image).await.map_err(creating)?;
        let known = image.repo_digests.unwrap_or_default();
        if known.iter().any(|known| known.split_once('@').is_some_and(|(_, known)| known == digest)) {
            return Ok(());
        }
        let message = format!(
            "the engine's image {} is not the one that was signed, {digest}, but {}",
            request.image,
            if known.is_empty() { "of no registry".to_owned() } else { known.join(", ") }
        );
        Err(EngineError { kind: EngineErrorKind::Invalid, message })
    }

    /// The container's secrets and configs as mounts. Without one of them it is not made.
    fn files(&self, request: &ContainerRequest) -> Result<Vec<DockerMount>, EngineError> {
        let Some(task) = request.files else { return Ok(Vec::new()) };
        let mounts = request.spec.files().zip(0u32..).map(|((kind, mount), place)| {
            let path = self.0.files.as_ref().and_then(|files| files.path(task, place));
            let path = path.filter(|path| path.exists()).ok_or_else(|| EngineError {
                kind: EngineErrorKind::Other,
                message: format!("{kind} {} is not in this node's memory any more", mount.name),
            })?;
            Ok(create::file(&path, mount.path(kind)))
        });
        mounts.collect()
    }

    async fn start(&self, container: &str) -> Outcome {
        let client = self.client().await.map_err(using)?;
        client.start_container(container, None).await.map_err(using)?;
        self.inspect(container).await
    }

    async fn stop(&self, container: &str, grace: Option<Duration>) -> Outcome {
        let client = self.client().await.map_err(using)?;
        let mut options = StopContainerOptionsBuilder::new();
        if let Some(grace) = grace {
            options = options.t(i32::try_from(create::whole_seconds(grace)).unwrap_or(i32::MAX));
        }
        client.stop_container(container, Some(options.build())).await.map_err(using)?;
        self.inspect(container).await
    }

    async fn remove(&self, container: &str) -> Outcome {
        let client = self.client().await.map_err(using)?;
        // `v`: anonymous volumes of the image go with it; named ones stay.
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        client.remove_container(container, Some(options)).await.map_err(using)?;
        Ok(OpOutcome::Done)
    }

    async fn inspect(&self, container: &str) -> Outcome {
        match self.look(container).await? {
            Some(view) => Ok(OpOutcome::Container(view)),
            None => Err(EngineError {
                kind: EngineErrorKind::Conflict,
                message: format!("container {container} does not carry this agent's labels"),
            }),
        }
    }

    /// A container; `None` when it is not one of ours.
    pub(super) async fn look(&self, container: &str) -> Result<Option<ContainerView>, EngineError> {
        let client = self.client().await.map_err(using)?;
        let inspected = client.inspect_container(container, None).await.map_err(using)?;
        Ok(view::view(inspected, OffsetDateTime::now_utc()))
    }

    /// What a reference means: what the registry says; where it says nothing, what the engine has. An image that was
    /// only ever built or loaded here is no registry's business.
    async fn resolve(&self, image: &str) -> Result<ImagePin, EngineError> {
        if image.contains("@sha256:") {
            return Ok(ImagePin::Digest(image.to_owned()));
        }
        let client = self.client().await.map_err(using)?;
        let local = client.inspect_image(image).await.ok();
        let digests = local.as_ref().and_then(|local| local.repo_digests.clone()).unwrap_or_default();
        let id = local.and_then(|local| local.id);
        if let (Some(id), true) = (&id, digests.is_empty() || image.starts_with("sha256:")) {
            return Ok(ImagePin::LocalId(id.clone()));
        }
        let repository = repository(image);
        let login = self.0.logins.of(image);
        let asking = client.inspect_registry_image(image, login.credentials.clone());
        let asked = tokio::time::timeout(RESOLVE, asking).await;
        let refusal = match asked.unwrap_or(Err(DockerError::RequestTimeoutError)) {
            Ok(answer) => match answer.descriptor.digest {
                Some(digest) => return Ok(ImagePin::Digest(format!("{repository}@{digest}"))),
                None => "the registry names no digest".to_owned(),
            },
            Err(error) => login.explain(sorted(Doing::Pull, &error).message),
        };
        let known = digests.into_iter().find(|digest| digest.split('@').next() == Some(repository));
        match (known, id) {
            (Some(digest), _) => Ok(ImagePin::Digest(digest)),
            (None, Some(id)) => Ok(ImagePin::LocalId(id)),
            (None, None) => Err(EngineError {
                kind: EngineErrorKind::ImageMissing,
                message: format!("image {image} is not on this node, and its registry says: {refusal}"),
            }),
        }
    }
}

fn using(error: DockerError) -> EngineError {
    sorted(Doing::Use, &error)
}

async fn within(limit: Duration, work: impl Future<Output = Outcome>) -> Outcome {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_elapsed| {
        Err(EngineError {
            kind: EngineErrorKind::Timeout,
            message: format!("the engine did not answer within {} s", limit.as_secs()),
        })
    })
}

/// `registry:5000/team/app:1` is `registry:5000/team/app`.
fn repository(image: &str) -> &str {
    let name_at = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[name_at..].find([':', '@']) {
        Some(end) => &image[..name_at + end],
        None => image,
    }
}

/// Without a tag the engine would fetch every tag there is.
fn with_tag(image: &str) -> String {
    if repository(image).len() == image.len() { format!("{image}:latest") } else { image.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_the_reference_without_tag_and_digest() {
        for (image, expected) in [
            ("app", "app"),
            ("app:1", "app"),
            ("registry:5000/team/app", "registry:5000/team/app"),
            ("registry:5000/team/app:1", "registry:5000/team/app"),
            ("app@sha256:00", "app"),
        ] {
            assert_eq!(repository(image), expected);
        }
        assert_eq!(with_tag("registry:5000/app"), "registry:5000/app:latest");
        assert_eq!(with_tag("app@sha256:00"), "app@sha256:00");
    }
}
