//! `job create`, `run` and `cron set`: declarations of what comes to an end.

use std::{sync::Arc, time::Duration};

use model::{
    container::Healthcheck,
    cron::{CronSpec, Missed},
    job::JobPolicy,
    probe::Probes,
    service::{Mode, RestartCondition, RestartPolicy, ServiceSpec},
};

use super::{create, problems::Problems};
use crate::{
    args::{Create, CronSet, JobCreate, JobFlags, Run},
    exit::Failure,
    value,
};

/// So long the job of a `run` is kept for whoever looks at it the next morning.
const RUN_KEPT: Duration = Duration::from_secs(24 * 3600);
/// With `--rm` it is removed by `run` itself, and so late by the managers if nobody is there to do it.
const RUN_REMOVED: Duration = Duration::from_secs(60);
/// A service's names are not all its jobs': 63 letters, with a hyphen and eight more behind them.
const MAX_STEM: usize = 50;

/// `job create`
///
/// # Errors
/// Everything that is wrong with the flags, the file, or the whole.
pub fn created(job: &JobCreate) -> Result<ServiceSpec, Failure> {
    let (mut spec, mut problems) = create::draft(&job.create, ServiceSpec::default())?;
    flags(&job.job, &mut spec, &mut problems);
    problems.finish_spec(spec)
}

/// `run`; `like` is the declaration that `--like` names, `tail` makes a name of its own.
///
/// # Errors
/// As for [`created`].
pub fn run(run: &Run, like: Option<&ServiceSpec>, tail: &str) -> Result<ServiceSpec, Failure> {
    let mut create = run.create.clone();
    if like.is_some() {
        // With an image at hand all words are the command.
        create.args = create.image.take().into_iter().chain(create.args).collect();
        create.image.clone_from(&run.image);
    }
    let base = like.map(alike).unwrap_or_default();
    let stem = like.map(|like| stem(&like.name)).or_else(|| create.image.as_deref().map(stem));
    create.name.get_or_insert_with(|| format!("{}-{tail}", stem.as_deref().unwrap_or("run")));
    let (mut spec, mut problems) = create::draft(&create, base)?;
    flags(&run.job, &mut spec, &mut problems);
    if let Some(policy) = &mut spec.job {
        policy.keep = match run.rm {
            true => Some(RUN_REMOVED),
            false => policy.keep.or(Some(RUN_KEPT)),
        };
    }
    problems.finish_spec(spec)
}

/// A service's template without what makes sense for a service only.
fn alike(service: &ServiceSpec) -> ServiceSpec {
    let mut template = service.template.clone();
    template.container.ports.clear();
    template.container.probes = Probes::default();
    template.container.healthcheck = None;
    template.container.args.clear();
    template.placement.max_per_node = 0;
    template.restart = RestartPolicy::retries(0);
    ServiceSpec { template, ..ServiceSpec::default() }
}

/// The last part of an image's name, as far as it can be in a service's.
fn stem(image: &str) -> String {
    let name = image.split('@').next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default().split(':').next().unwrap_or_default();
    let plain: String =
        name.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let plain: String = plain.trim_matches('-').chars().take(MAX_STEM).collect();
    if plain.is_empty() { "run".into() } else { plain }
}

/// `cron set`
///
/// # Errors
/// As for [`created`].
pub fn cron(set: &CronSet) -> Result<CronSpec, Failure> {
    let Create { name, .. } = &set.create;
    let (mut job, mut problems) = create::draft(&set.create, ServiceSpec::default())?;
    flags(&set.job, &mut job, &mut problems);
    let missed = match set.missed.as_str() {
        "skip" => Missed::Skip,
        late => problems.take("--missed", value::duration(late)).map_or(Missed::Skip, Missed::RunOnce),
    };
    let name = name.clone().unwrap_or_else(|| job.name.clone());
    job.name = String::new();
    let spec = CronSpec {
        name,
        schedule: set.schedule.clone(),
        zone: set.tz.clone(),
        job: Arc::new(job),
        overlap: set.overlap.map(Into::into).unwrap_or_default(),
        missed,
        keep_complete: set.keep_complete,
        keep_failed: set.keep_failed,
        suspended: set.suspended,
    };
    problems.finish(spec)
}

/// Writes the job's flags into a declaration, and makes it a job's where they say nothing.
fn flags(flags: &JobFlags, spec: &mut ServiceSpec, problems: &mut Problems) {
    let mut policy = spec.job.take().unwrap_or_default();
    match (flags.completions, &mut spec.mode) {
        (Some(completions), Mode::Replicated(count)) => *count = completions,
        (Some(_), Mode::Global) => {
            problems.add("--completions", "a global job completes once on every node, no count");
        }
        (None, _) => {}
    }
    policy.concurrency = flags.concurrency.unwrap_or(policy.concurrency);
    policy.on_lost = flags.on_lost.map_or(policy.on_lost, Into::into);
    let JobPolicy { deadline, keep, .. } = &mut policy;
    if let Some(text) = &flags.deadline {
        *deadline = problems.take("--deadline", value::duration(text)).unwrap_or(*deadline);
    }
    if let Some(text) = &flags.keep {
        *keep = problems.take("--keep", value::duration(text)).or(*keep);
    }
    spec.job = Some(policy);
    // An image's own check is that of a server; what ends by itself is not restarted because it does not answer.
    let off = || Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() };
    spec.template.container.healthcheck.get_or_insert_with(off);
    let restart = &mut spec.template.restart;
    // A service's own default would never let a job end.
    let retries = flags.retries.or((restart.condition == RestartCondition::Any).then_some(0));
    if let Some(retries) = retries {
        let RestartPolicy { condition, max_attempts, .. } = RestartPolicy::retries(retries);
        (restart.condition, restart.max_attempts) = (condition, max_attempts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_after_what_it_runs() {
        let names = [
            ("busybox", "busybox"),
            ("registry.example:5000/team/My_App:8.1", "my-app"),
            ("r/x@sha256:abcd", "x"),
            ("___", "run"),
        ];
        for (image, name) in names {
            assert_eq!(stem(image), name);
        }
    }

    #[test]
    fn a_run_like_a_service_takes_its_template_and_all_words_as_the_command() {
        let mut service = ServiceSpec { name: "ispyb".into(), ..ServiceSpec::default() };
        service.template.container.image = "ispyb:8".into();
        service.template.container.args = vec!["serve".into()];
        service.template.container.env.insert("DB".into(), "db:3306".into());
        service.template.placement.max_per_node = 1;
        let words = Run {
            like: Some("ispyb".into()),
            create: Create {
                image: Some("sh".into()),
                args: vec!["-c".into(), "migrate".into()],
                ..Create::default()
            },
            ..Run::default()
        };
        let spec = run(&words, Some(&service), "x1").expect("valid");
        let container = &spec.template.container;
        assert_eq!((spec.name.as_str(), container.image.as_str()), ("ispyb-x1", "ispyb:8"));
        assert_eq!(container.args, ["sh", "-c", "migrate"]);
        assert_eq!(container.env["DB"], "db:3306");
        assert_eq!(spec.template.restart.condition, RestartCondition::None);
        assert_eq!(spec.job.expect("a job").keep, Some(RUN_KEPT));
    }

    #[test]
    fn everything_that_is_wrong_with_a_job_is_told_at_once() {
        let wrong = JobCreate {
            job: JobFlags {
                completions: Some(0),
                deadline: Some("soon".into()),
                retries: Some(1_000),
                ..JobFlags::default()
            },
            create: Create { image: Some("a:1".into()), ..Create::default() },
        };
        let problems = created(&wrong).expect_err("wrong").problems;
        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["--name", "--deadline", "mode.replicated", "template.restart.max_attempts"]);
    }
}
