//! Deploy bindings: which jobs of an issuer's pipelines may bring images of one service (invariant I21).
//!
//! A job shows its ID token once and gets a session: a deploy token of its own, which lives for an hour at most and allows what the
//! binding allows. What is decided here looks at a verified token's claims and a binding alone.

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    deployer::{DeployToken, DeployTokenSpec, DeployVerb, TokenDigest},
    id::Generation,
    identity::Identity,
    registry::Secret,
    time::ClusterTime,
};

/// Bindings of a cluster at most: a few for each service of a large one.
pub const MAX_BINDINGS: usize = 256;
/// ID tokens that are remembered at once, each until it ends: a job shows one for each call of `orchctl`.
pub const MAX_SESSIONS: usize = 1_024;
/// How long a session lives at most, whatever its ID token says.
pub const MAX_SESSION: Duration = Duration::from_secs(3600);

/// What a pipeline runs for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefType {
    /// A branch.
    #[default]
    Branch,
    /// A tag.
    Tag,
}

impl fmt::Display for RefType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Branch => "branch",
            Self::Tag => "tag",
        })
    }
}

/// What an admin grants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BindingSpec {
    /// Unique among the bindings.
    pub name: String,
    /// The name of the one service; it need not exist yet.
    pub service: String,
    /// The repository of its images, without tag or digest.
    pub image: String,
    /// What a job may do.
    pub allow: BTreeSet<DeployVerb>,
    /// The issuer's name.
    pub issuer: String,
    /// The project's number: names can be given to another project.
    pub project_id: u64,
    /// The number of the project that the job belongs to; `None`: the same.
    pub job_project_id: Option<u64>,
    /// The protected branch or tag, to the letter.
    #[serde(rename = "ref")]
    pub ref_name: String,
    /// Which of the two it is.
    pub ref_type: RefType,
    /// The environment that the job names; `None`: any or none.
    pub environment: Option<String>,
}

/// A binding as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// What it grants.
    pub spec: BindingSpec,
    /// Index of its making: one that was made again under the same name is another.
    pub generation: Generation,
    /// Who made it.
    pub by: Identity,
    /// When.
    pub created: ClusterTime,
    /// When a job last got a session; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<ClusterTime>,
}

/// What a verified ID token says of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobClaims {
    /// `project_id`.
    pub project_id: Option<u64>,
    /// `project_path`, for people.
    pub project_path: String,
    /// `job_project_id`.
    pub job_project_id: Option<u64>,
    /// `job_id`, for people.
    pub job_id: String,
    /// `ref`.
    pub ref_name: String,
    /// `ref_type`.
    pub ref_type: String,
    /// `ref_protected`, which is text.
    pub ref_protected: String,
    /// `pipeline_source`.
    pub pipeline_source: String,
    /// `environment`.
    pub environment: Option<String>,
}

/// What a pipeline asks with: its ID token, for a session whose secret it has drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeRequest {
    /// The ID token; blank once it was verified.
    pub id_token: Secret,
    /// The binding's name; `None`: the only one that lets the job in.
    pub binding: Option<String>,
    /// Of the session's secret.
    pub digest: TokenDigest,
    /// What the leader's shell has verified. It never comes from outside.
    #[serde(skip)]
    pub proof: Option<Box<Proof>>,
}

/// An ID token that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The issuer's name.
    pub issuer: String,
    /// The issuer as it was when its keys verified the token.
    pub generation: Generation,
    /// Tells the token from every other: of the issuer and the token's `jti`.
    pub id_token: TokenDigest,
    /// What it says of the job.
    pub claims: JobClaims,
    /// From when on nobody accepts it: so long it is remembered.
    pub until: ClusterTime,
}

/// An ID token that was used, and what its bearer has for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Tells the ID token from every other.
    pub id_token: TokenDigest,
    /// So long it is remembered.
    pub until: ClusterTime,
    /// The issuer's name.
    pub issuer: String,
    /// The session's deploy token, under the binding's name; `None`: it ended before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<DeployToken>,
}

/// A rule of a binding that a job does not keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}: {why}")]
pub struct Unkept {
    /// The claim that the rule is about.
    pub rule: &'static str,
    /// What it says, and what it should.
    pub why: String,
}

impl BindingSpec {
    /// Whether a job may have a session.
    ///
    /// # Errors
    /// The first rule that it does not keep.
    pub fn admits(&self, job: &JobClaims) -> Result<(), Unkept> {
        let own = self.job_project_id.unwrap_or(self.project_id);
        let job_project = job.job_project_id.or_else(|| self.job_project_id.is_none().then_some(own));
        let source = &job.pipeline_source;
        let of_request = source.contains("merge_request") || source.contains("pull_request");
        let (found, wanted) = (job.environment.as_deref(), self.environment.as_deref());
        let (ref_type, ref_name) = (said(&job.ref_type), said(&job.ref_name));
        // Whose job it is comes first: to a stranger a binding says nothing else.
        let rules = [
            (
                job.project_id == Some(self.project_id),
                "project_id",
                format!("the job is of project {}, the binding is for another", number(job.project_id)),
            ),
            (
                job_project == Some(own),
                "job_project_id",
                format!("the job belongs to project {}, and has to to {own}", number(job.job_project_id)),
            ),
            (
                !source.is_empty() && !of_request,
                "pipeline_source",
                format!("the pipeline runs for {}; one of a merge request never deploys", said(source)),
            ),
            (
                job.ref_type == self.ref_type.to_string(),
                "ref_type",
                format!("the job runs for a {ref_type}, and has to for a {}", self.ref_type),
            ),
            (
                job.ref_name == self.ref_name,
                "ref",
                format!("the job runs for {ref_name}, and has to for \"{}\"", self.ref_name),
            ),
            (
                job.ref_protected == "true",
                "ref_protected",
                format!("{ref_name} is not protected: protect it in the project's settings"),
            ),
            (
                wanted.is_none() || wanted == found,
                "environment",
                format!(
                    "the job's is {}, and has to be {}",
                    said(found.unwrap_or("")),
                    said(wanted.unwrap_or(""))
                ),
            ),
        ];
        let unkept = rules.into_iter().find(|(kept, ..)| !kept);
        unkept.map_or(Ok(()), |(_, rule, why)| Err(Unkept { rule, why }))
    }

    /// What a session allows.
    pub fn grant(&self) -> DeployTokenSpec {
        DeployTokenSpec {
            name: self.name.clone(),
            service: self.service.clone(),
            image: self.image.clone(),
            allow: self.allow.clone(),
        }
    }
}

impl JobClaims {
    /// The job in a few words, for records: `mx/ispyb (42) main, job 4711`.
    pub fn words(&self) -> String {
        let short =
            |text: &str| -> String { text.chars().filter(|letter| !letter.is_control()).take(96).collect() };
        let project = number(self.project_id);
        format!(
            "{} ({project}) {}, job {}",
            short(&self.project_path),
            short(&self.ref_name),
            short(&self.job_id)
        )
    }
}

fn number(id: Option<u64>) -> String {
    id.map_or_else(|| "(not said)".to_owned(), |id| id.to_string())
}

/// What a token says, cut to what can be shown.
fn said(text: &str) -> String {
    let short: String = text.chars().take(128).collect();
    if short.is_empty() { "(not said)".to_owned() } else { format!("{short:?}") }
}

/// The binding that lets a job in: the one that it names, or the only one of its issuer that does.
///
/// # Errors
/// Why there is none, with the rule that failed if it is the job's own project's binding.
pub fn choose<'a>(
    bindings: &'a [Binding],
    issuer: &str,
    named: Option<&str>,
    job: &JobClaims,
) -> Result<&'a Binding, String> {
    let project = number(job.project_id);
    if let Some(name) = named {
        let binding =
            bindings.iter().find(|binding| binding.spec.name == name && binding.spec.issuer == issuer);
        let none = || format!("there is no deploy binding \"{name}\" for issuer \"{issuer}\"");
        let binding = binding.ok_or_else(none)?;
        let judged = binding.spec.admits(job);
        return judged.map(|()| binding).map_err(|unkept| format!("deploy binding \"{name}\", {unkept}"));
    }
    let of_project: Vec<&Binding> = bindings
        .iter()
        .filter(|binding| binding.spec.issuer == issuer && Some(binding.spec.project_id) == job.project_id)
        .collect();
    let open: Vec<&Binding> =
        of_project.iter().copied().filter(|binding| binding.spec.admits(job).is_ok()).collect();
    match (&open[..], &of_project[..]) {
        ([only], _) => Ok(only),
        ([], []) => Err(format!("no deploy binding is for project {project} of issuer \"{issuer}\"")),
        ([], all) => {
            let why = all.iter().filter_map(|binding| {
                let unkept = binding.spec.admits(job).err()?;
                Some(format!("deploy binding \"{}\", {unkept}", binding.spec.name))
            });
            Err(why.collect::<Vec<_>>().join("; "))
        }
        (several, _) => {
            let names: Vec<&str> = several.iter().map(|binding| binding.spec.name.as_str()).collect();
            Err(format!(
                "several deploy bindings let this job in: name one (--binding): {}",
                names.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> BindingSpec {
        BindingSpec {
            name: "ispyb-main".into(),
            issuer: "gitlab".into(),
            project_id: 42,
            ref_name: "main".into(),
            environment: Some("production".into()),
            ..BindingSpec::default()
        }
    }

    fn job() -> JobClaims {
        JobClaims {
            project_id: Some(42),
            project_path: "mx/ispyb".into(),
            job_project_id: Some(42),
            job_id: "4711".into(),
            ref_name: "main".into(),
            ref_type: "branch".into(),
            ref_protected: "true".into(),
            pipeline_source: "push".into(),
            environment: Some("production".into()),
        }
    }

    fn binding(spec: BindingSpec) -> Binding {
        Binding {
            spec,
            generation: Generation(1),
            by: Identity::Anonymous,
            created: ClusterTime(1),
            used: None,
        }
    }

    #[test]
    fn each_rule_refuses_by_its_name_what_does_not_keep_it() {
        assert_eq!(spec().admits(&job()), Ok(()));
        let check = |rule: &str, change: fn(&mut JobClaims)| {
            let mut job = job();
            change(&mut job);
            assert_eq!(spec().admits(&job).map_err(|unkept| unkept.rule), Err(rule), "{job:?}");
        };
        check("project_id", |job| job.project_id = Some(43));
        check("project_id", |job| job.project_id = None);
        check("job_project_id", |job| job.job_project_id = Some(43));
        check("pipeline_source", |job| job.pipeline_source = "merge_request_event".into());
        check("pipeline_source", |job| job.pipeline_source = "external_pull_request_event".into());
        check("pipeline_source", |job| job.pipeline_source = String::new());
        check("ref_type", |job| job.ref_type = "tag".into());
        check("ref", |job| job.ref_name = "main2".into());
        check("ref", |job| job.ref_name = "refs/heads/main".into());
        check("ref_protected", |job| job.ref_protected = "false".into());
        check("ref_protected", |job| job.ref_protected = String::new());
        check("environment", |job| job.environment = Some("review/1".into()));
        check("environment", |job| job.environment = None);
    }

    #[test]
    fn job_of_another_project_needs_a_binding_that_names_that_project() {
        let bound = BindingSpec { job_project_id: Some(7), ..spec() };
        assert_eq!(bound.admits(&JobClaims { job_project_id: Some(7), ..job() }), Ok(()));
        assert!(bound.admits(&job()).is_err());
        assert!(bound.admits(&JobClaims { job_project_id: None, ..job() }).is_err());
        assert_eq!(spec().admits(&JobClaims { job_project_id: None, ..job() }), Ok(()));
    }

    #[test]
    fn binding_is_the_one_that_is_named_or_the_only_one_that_fits() {
        let other = BindingSpec { name: "ispyb-tag".into(), ref_type: RefType::Tag, ..spec() };
        let bindings = [binding(spec()), binding(other)];
        let chosen = |bindings: &[Binding], named, job: &JobClaims| {
            choose(bindings, "gitlab", named, job).map(|binding| binding.spec.name.clone())
        };
        assert_eq!(chosen(&bindings, None, &job()), Ok("ispyb-main".into()));
        assert_eq!(chosen(&bindings, Some("ispyb-main"), &job()), Ok("ispyb-main".into()));
        assert!(chosen(&bindings, Some("ispyb-tag"), &job()).unwrap_err().contains("rule ref_type"));
        assert!(chosen(&bindings, Some("ghost"), &job()).unwrap_err().contains("no deploy binding"));
        assert!(choose(&bindings, "other", None, &job()).is_err());
        let stranger = JobClaims { project_id: Some(43), ..job() };
        let said = chosen(&bindings, None, &stranger).unwrap_err();
        assert!(said.contains("43") && !said.contains("ispyb"), "{said}");
        let twice = [binding(spec()), binding(BindingSpec { name: "again".into(), ..spec() })];
        assert!(chosen(&twice, None, &job()).unwrap_err().contains("ispyb-main, again"));
    }
}
