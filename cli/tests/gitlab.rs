//! The pipelines of deploy/gitlab: they are YAML that GitLab can read, and every `orchctl` line is one that `orchctl` takes.

use std::{collections::BTreeMap, path::Path};

use clap::Parser as _;
use cli::args::Cli;
use serde_json::Value;

const FILES: [&str; 2] = ["orch.gitlab-ci.yml", "review.gitlab-ci.yml"];
/// Words of a pipeline that are no jobs.
const GLOBAL: [&str; 2] = ["stages", "variables"];

fn jobs(file: &str) -> BTreeMap<String, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/gitlab").join(file);
    let text = std::fs::read_to_string(&path).expect("the template is there");
    let mut jobs: BTreeMap<String, Value> =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    jobs.retain(|name, _| !GLOBAL.contains(&name.as_str()));
    jobs
}

/// The scripts of all jobs, each with its name.
fn scripts() -> Vec<(String, String)> {
    let jobs = FILES.iter().flat_map(|file| jobs(file));
    let lines = jobs.flat_map(|(name, job)| {
        let script = job["script"].as_array().cloned().unwrap_or_default();
        script.into_iter().map(move |line| (name.clone(), line.as_str().expect("a line of text").to_owned()))
    });
    lines.collect()
}

/// The commands of a script that begin with `orchctl`, each as its words with every variable filled in.
fn orchctl(script: &str) -> Vec<Vec<String>> {
    let commands = script
        .split(['\n', ';', '{', '}'])
        .flat_map(|line| line.split("||"))
        .flat_map(|part| part.split("&&"));
    let ours = commands.map(str::trim).filter(|command| command.starts_with("orchctl "));
    ours.map(|command| command.split_whitespace().map(filled).collect()).collect()
}

fn filled(word: &str) -> String {
    let digest = format!("registry.example/ispyb@sha256:{}", "a".repeat(64));
    let mut word = word.replace('"', "");
    for (name, value) in [
        ("$ORCH_SERVICE", "ispyb"),
        ("$ORCH_REVIEW", "ispyb-branch"),
        ("$ORCH_IMAGE", digest.as_str()),
        ("$ORCH_TIMEOUT", "30m"),
        ("$ORCH_WAIT_BUSY", "10m"),
        ("$ORCH_RELEASE", "7"),
        ("$CI_JOB_URL", "https://gitlab.example/mx/ispyb/-/jobs/1"),
        ("$CI_COMMIT_REF_SLUG", "branch"),
    ] {
        word = word.replace(name, value);
    }
    assert!(!word.contains('$'), "a variable that this test does not know: {word}");
    word
}

#[test]
fn every_orchctl_line_of_the_pipelines_is_one_that_orchctl_takes() {
    let mut seen = 0;
    for (job, script) in scripts() {
        for words in orchctl(&script) {
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{job}: {}\n{error}", words.join(" "));
            }
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen} lines were found");
}

#[test]
fn every_job_has_a_stage_a_script_and_the_jobs_that_it_names() {
    let all: BTreeMap<String, Value> = FILES.iter().flat_map(|file| jobs(file)).collect();
    let inherited = |job: &Value, field: &str| {
        let mut job = job.clone();
        loop {
            if !job[field].is_null() {
                return Some(job[field].clone());
            }
            job = all.get(job["extends"].as_str()?)?.clone();
        }
    };
    for (name, job) in all.iter().filter(|(name, _)| !name.starts_with('.')) {
        assert!(inherited(job, "script").is_some(), "{name} has no script");
        let stage = inherited(job, "stage").unwrap_or_else(|| panic!("{name} has no stage"));
        assert!(
            ["build", "deploy", "rollback", "review"].contains(&stage.as_str().unwrap_or_default()),
            "{name}"
        );
        let needs = job["needs"].as_array().cloned().unwrap_or_default();
        let named = needs.iter().chain(job["extends"].as_str().map(|_| &job["extends"]));
        let stop = &job["environment"]["on_stop"];
        for other in named.chain(Some(stop).filter(|stop| !stop.is_null())) {
            let other = other.as_str().expect("a name");
            assert!(all.contains_key(other), "{name} names {other}, which is no job");
        }
    }
}
