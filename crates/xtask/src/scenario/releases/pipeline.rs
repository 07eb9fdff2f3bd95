//! A runner of pipelines: the script lines of deploy/gitlab as they stand, in a shell with the variables that GitLab sets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::cluster::Cluster;
use tests::cluster::ctl::Said;
use tests::command::finish;
use tests::engine::Engine;
use tests::registry::Registry;

/// The templates, as projects include them.
const TEMPLATE: &str = include_str!("../../../../../deploy/gitlab/orch.gitlab-ci.yml");
/// The project's path in the registry.
const PROJECT: &str = "mx/ispyb";

/// A project with its runner.
pub struct Project<'a> {
    cluster: &'a Cluster,
    registry: &'a Registry,
    login: (&'static str, &'static str),
    service: &'static str,
    scripts: BTreeMap<String, String>,
    token: String,
    home: PathBuf,
    jobs: AtomicU32,
}

impl<'a> Project<'a> {
    /// A runner beside node 0, whose engine builds.
    ///
    /// # Errors
    /// The template is no YAML, or there is no disk.
    pub fn new(
        cluster: &'a Cluster,
        registry: &'a Registry,
        login: (&'static str, &'static str),
        service: &'static str,
    ) -> Result<Project<'a>> {
        let jobs: BTreeMap<String, Value> = serde_saphyr::from_str(TEMPLATE).context("the template")?;
        let script = |job: &Value| {
            let lines: Vec<&str> = job["script"].as_array()?.iter().filter_map(Value::as_str).collect();
            Some(lines.join("\n"))
        };
        let scripts = jobs.iter().filter_map(|(name, job)| Some((name.clone(), script(job)?))).collect();
        let home = cluster.lab().dir().join("runner");
        std::fs::create_dir_all(&home)?;
        let image = registry.image(PROJECT);
        let args = ["deploy-token", "create", "--quiet", "pipeline", "--service", service, "--image", &image];
        let token = cluster.ctl().ok(&[&args[..], &["--allow", "deploy,rollback,logs"]].concat())?;
        Ok(Project { cluster, registry, login, service, scripts, token, home, jobs: AtomicU32::new(0) })
    }

    /// Builds and pushes an image from these lines of a Dockerfile; its name with the digest. The runner keeps nothing of it.
    ///
    /// # Errors
    /// The job fails.
    pub fn build(&self, dockerfile: &str) -> Result<String> {
        let number = self.jobs.load(Ordering::Relaxed);
        let work = self.home.join(format!("build-{number}"));
        std::fs::create_dir_all(&work)?;
        let base = self.registry.image("base/mimic:1");
        std::fs::write(work.join("Dockerfile"), format!("FROM {base}\n{dockerfile}\n"))?;
        let said: Said = finish(self.job("orch:build", &[])?.current_dir(&work))?.into();
        ensure!(said.code == 0, "the build failed: {}", said.all());
        let file = std::fs::read_to_string(work.join("image.env"))?;
        let image = file.trim().strip_prefix("ORCH_IMAGE=").context("no image in image.env")?.to_owned();
        let tag = format!("{}:{}", self.registry.image(PROJECT), commit(number));
        self.engine().docker(&["rmi", &tag])?;
        Ok(image)
    }

    /// The deploy job; `job` is one of the template's.
    ///
    /// # Errors
    /// There is no such job.
    pub fn run(&self, job: &str, image: &str, more: &[(&str, &str)]) -> Result<Said> {
        let mut command = self.job(job, &[&[("ORCH_IMAGE", image)], more].concat())?;
        Ok(finish(&mut command)?.into())
    }

    /// The same, not waited for.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(&self, job: &str, image: &str) -> Result<Child> {
        let mut command = self.job(job, &[("ORCH_IMAGE", image)])?;
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    fn job(&self, name: &str, more: &[(&str, &str)]) -> Result<Command> {
        let script = self.scripts.get(name).with_context(|| format!("no job {name}"))?;
        let number = self.jobs.fetch_add(1, Ordering::Relaxed);
        let ctl = self.cluster.ctl();
        let programs = ctl.program().parent().unwrap_or(Path::new("/"));
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = self.cluster.lab().switch().command("sh");
        command.arg("-ec").arg(script);
        command.env("PATH", format!("{}:{path}", programs.display()));
        // All that the runner has: no operator's context.
        command.env_remove("ORCH_CONTEXT").env("ORCH_CONFIG", self.home.join("none.toml"));
        command.env("ORCH_TOKEN", &self.token).env("ORCH_MANAGERS", self.cluster.address(0));
        command.env("DOCKER_HOST", self.engine().url()).env("DOCKER_CONFIG", &self.home);
        command.env("DOCKER_BUILDKIT", "0");
        let own = [
            ("ORCH_SERVICE", self.service),
            ("ORCH_TIMEOUT", "5m"),
            ("ORCH_WAIT_BUSY", "0s"),
            ("ORCH_RELEASE", ""),
            ("CI_REGISTRY_USER", self.login.0),
            ("CI_REGISTRY_PASSWORD", self.login.1),
        ];
        command.envs(own);
        command.env("CI_REGISTRY", self.registry.address());
        command.env("CI_REGISTRY_IMAGE", self.registry.image(PROJECT));
        command.env("CI_COMMIT_SHA", commit(number));
        command.env("CI_JOB_URL", format!("https://gitlab.example/mx/ispyb/-/jobs/{number}"));
        command.envs(more.iter().copied());
        Ok(command)
    }

    fn engine(&self) -> &Engine {
        self.cluster.node(0).engine()
    }
}

fn commit(number: u32) -> String {
    format!("{number:040x}")
}
