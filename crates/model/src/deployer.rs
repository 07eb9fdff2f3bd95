//! Deploy tokens: what lets a pipeline bring a new image of one service, and nothing else (invariant I21).
//!
//! A token names the service, the repository of its images and what its bearer may do. The text of a token is put together
//! by whoever makes it; managers keep a digest, which lets nobody in. What is decided here looks at declarations alone, so
//! that it is asked before a change is proposed and again when it is applied.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::DeployTokenId, identity::Identity, registry::ImageName, service::ServiceSpec, time::ClusterTime,
};

/// Deploy tokens of a cluster at most: a few for each service of a large one.
pub const MAX_DEPLOY_TOKENS: usize = 256;
/// How long a deploy token may live: somebody has to look after it four times a year.
pub const MAX_DEPLOY_TOKEN_TTL: Duration = Duration::from_secs(90 * 24 * 3600);

/// What a deploy token may let its bearer do to its one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeployVerb {
    /// Bring an image.
    Deploy,
    /// Return to an earlier image, or abort the release under way.
    Rollback,
    /// See the service, its releases and its events.
    Status,
    /// Read what its tasks write.
    Logs,
}

impl DeployVerb {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Deploy, Self::Rollback, Self::Status, Self::Logs];
}

impl fmt::Display for DeployVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Status => "status",
            Self::Logs => "logs",
        })
    }
}

/// A word that is none of [`DeployVerb`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a deploy token may allow deploy, rollback, status and logs")]
pub struct ParseDeployVerbError;

impl FromStr for DeployVerb {
    type Err = ParseDeployVerbError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|verb| verb.to_string() == text).ok_or(ParseDeployVerbError)
    }
}

/// What tells a token's secret from any other; the secret cannot be had from it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenDigest(pub [u8; 32]);

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(<redacted>)")
    }
}

/// What an admin grants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeployTokenSpec {
    /// Unique among the tokens that there are.
    pub name: String,
    /// The name of the one service; it need not exist yet.
    pub service: String,
    /// The repository of its images, such as `registry.example/ispyb`, without tag or digest.
    pub image: String,
    /// What the bearer may do.
    pub allow: BTreeSet<DeployVerb>,
}

/// What it grants, in words.
impl fmt::Display for DeployTokenSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, image, .. } = self;
        write!(f, "{} of service \"{service}\" with images of {image}", self.verbs())
    }
}

/// A deploy token as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployToken {
    /// Its public part; a name that is used again gets another.
    pub id: DeployTokenId,
    /// What it grants.
    pub spec: DeployTokenSpec,
    /// Of its secret.
    pub digest: TokenDigest,
    /// Who made it.
    pub by: Identity,
    /// When.
    pub created: ClusterTime,
    /// When it ends.
    pub expires: ClusterTime,
    /// When it last changed something; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<ClusterTime>,
    /// The job that showed an ID token for it, in words; `None`: a static token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

impl DeployToken {
    /// Whom it makes of its bearer.
    pub fn identity(&self) -> Identity {
        Identity::Deployer { id: self.id, name: self.spec.name.clone(), job: self.job.clone() }
    }

    /// What it is called in messages.
    pub fn title(&self) -> String {
        let kind = if self.job.is_some() { "binding" } else { "token" };
        format!("deploy {kind} \"{}\"", self.spec.name)
    }
}

/// A deploy token as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployTokenView {
    /// Its public part.
    pub id: DeployTokenId,
    /// What it grants.
    pub spec: DeployTokenSpec,
    /// Who made it.
    pub by: Identity,
    /// When.
    pub created: ClusterTime,
    /// When it ends.
    pub expires: ClusterTime,
    /// It has ended.
    pub expired: bool,
    /// When it last changed something; `None`: never.
    pub used: Option<ClusterTime>,
}

impl DeployTokenSpec {
    /// Whether an image is of the token's repository, however it is named there.
    pub fn holds(&self, image: &str) -> bool {
        let of = |image| ImageName::parse(image).map(|name| (name.host, name.repository()));
        of(image).is_some() && of(image) == of(&self.image)
    }

    /// Whether the bearer may bring an image: of the repository, by digest or by a tag that names a version.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, image: &str) -> Result<(), String> {
        if !self.holds(image) {
            return Err(format!("it is for images of {} only, and {image} is none of them", self.image));
        }
        match ImageName::parse(image) {
            Some(name) if name.is_digest() => Ok(()),
            Some(name) if names_a_version(name.reference) => Ok(()),
            _ => Err(format!(
                "{image} may mean another image tomorrow: name it by its digest ({}@sha256:…) or by the tag of a version",
                self.image
            )),
        }
    }

    /// What the bearer may do, as people write it.
    pub fn verbs(&self) -> String {
        let verbs: Vec<String> = self.allow.iter().map(ToString::to_string).collect();
        verbs.join(",")
    }
}

/// `latest`, `main`, `stable` and their like are moved by everybody's habit; a version has a number or is a commit.
fn names_a_version(tag: &str) -> bool {
    tag != "latest" && tag.bytes().any(|byte| byte.is_ascii_digit())
}

/// What of a declaration differs beside the image and its signatures, as the fields are called; empty when a deployment may lead from one to the other.
pub fn beyond_image(old: &ServiceSpec, new: &ServiceSpec) -> Vec<&'static str> {
    let mut image = new.template.container.clone();
    image.image.clone_from(&old.template.container.image);
    image.signatures.clone_from(&old.template.container.signatures);
    let fields = [
        ("name", old.name == new.name),
        ("labels", old.labels == new.labels),
        ("mode", old.mode == new.mode),
        ("container", old.template.container == image),
        ("placement", old.template.placement == new.template.placement),
        ("restart", old.template.restart == new.template.restart),
        ("force", old.template.force == new.template.force),
        ("update", old.update == new.update),
        ("ports", old.ports == new.ports),
        ("job", old.job == new.job),
    ];
    let differs: Vec<_> = fields.into_iter().filter(|(_, same)| !same).map(|(field, _)| field).collect();
    // A field that is not listed above must not slip through.
    let mut whole = new.clone();
    whole.template.container.image.clone_from(&old.template.container.image);
    whole.template.container.signatures.clone_from(&old.template.container.signatures);
    if differs.is_empty() && whole != *old { vec!["declaration"] } else { differs }
}

/// As [`beyond_image`] for a way back, which leaves the count of replicas and the published ports as they are.
pub fn beyond_image_on_return(old: &ServiceSpec, to: &ServiceSpec) -> Vec<&'static str> {
    beyond_image(old, &ServiceSpec { mode: old.mode, ports: old.ports.clone(), ..to.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Mode;

    fn token() -> DeployTokenSpec {
        DeployTokenSpec {
            name: "ci".into(),
            service: "ispyb".into(),
            image: "registry.example/mx/ispyb".into(),
            allow: DeployVerb::ALL.into(),
        }
    }

    #[test]
    fn only_images_of_the_repository_by_digest_or_version_are_admitted() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for image in [
            format!("registry.example/mx/ispyb@{digest}"),
            format!("registry.example/mx/ispyb:8.1@{digest}"),
            "registry.example/mx/ispyb:8.1".into(),
            "registry.example/mx/ispyb:3f2c9ab".into(),
        ] {
            assert_eq!(token().admits(&image), Ok(()), "{image}");
        }
        for image in [
            format!("registry.example/mx/ispyb-evil@{digest}"),
            format!("registry.example/ispyb@{digest}"),
            format!("registry.example.evil/mx/ispyb@{digest}"),
            format!("registry.example:5000/mx/ispyb@{digest}"),
            format!("registry.example/mx/ispyb/more@{digest}"),
            format!("mx/ispyb@{digest}"),
            digest,
            "registry.example/mx/ispyb".into(),
            "registry.example/mx/ispyb:latest".into(),
            "registry.example/mx/ispyb:main".into(),
            String::new(),
        ] {
            assert!(token().admits(&image).is_err(), "{image}");
        }
    }

    #[test]
    fn hub_repositories_are_the_same_under_all_their_names() {
        let token = DeployTokenSpec { image: "nginx".into(), ..token() };
        assert!(token.holds("docker.io/library/nginx:1.27") && token.holds("nginx:1.27"));
        assert!(!token.holds("docker.io/team/nginx:1.27"));
    }

    #[test]
    fn whatever_differs_beside_the_image_is_named() {
        let old = ServiceSpec { name: "ispyb".into(), ..ServiceSpec::default() };
        let with = |change: fn(&mut ServiceSpec)| {
            let mut new = old.clone();
            new.template.container.image = "other".into();
            change(&mut new);
            beyond_image(&old, &new)
        };
        assert_eq!(with(|_| {}), Vec::<&str>::new());
        assert_eq!(with(|spec| spec.mode = Mode::Replicated(9)), ["mode"]);
        assert_eq!(with(|spec| spec.template.force = 1), ["force"]);
        assert_eq!(with(|spec| spec.template.container.command = vec!["sh".into()]), ["container"]);
        assert_eq!(with(|spec| _ = spec.labels.insert("a".into(), "b".into())), ["labels"]);
        let scaled = ServiceSpec { mode: Mode::Replicated(9), ..old.clone() };
        assert_eq!(beyond_image_on_return(&old, &scaled), Vec::<&str>::new());
    }
}
