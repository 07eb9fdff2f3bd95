//! Jobs, crons and one-off runs, as somebody types them, and what the engine ran for it.

use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::cluster::ctl::Said;
use tests::cluster::{Cluster, Plan};
use tests::image::MIMIC_1;
use tests::require::{LAB, can_run};
use tests::wait;

use super::{PATIENCE, Site};

/// So much before a minute its leader dies: it may just have decided, or not.
const BEFORE: Duration = Duration::from_millis(150);

impl Site {
    fn say(&self, args: &[&str]) -> Said {
        self.cluster.ctl().say(args)
    }

    /// The slots of all containers that a job had, each as often as it had one.
    fn slots(&self, job: &str) -> Vec<String> {
        let mut slots: Vec<String> = self.cluster.containers(job).into_iter().map(|c| c.slot).collect();
        slots.sort();
        slots
    }

    fn job(&self, name: &str) -> Value {
        let view = self.cluster.ctl().json(&["job", "inspect", name]).expect("a job");
        view[0]["service"]["job"].clone()
    }
}

#[test]
fn job_completes_every_slot_once_a_few_at_a_time() {
    let Some(site) = Site::start("a job") else { return };
    let mut create = site
        .cluster
        .ctl()
        .command(&["job", "create", "--name", "sums", "--completions", "4", "--concurrency", "2"])
        .args([MIMIC_1, "work", "600", "0", "sum"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("orchctl starts");
    let mut most = 0;
    let code = site.cluster.ask("the job's end", PATIENCE, || {
        most = most.max(site.running("sums").len());
        create.try_wait().expect("a child")
    });
    assert_eq!(code.expect("it ended").code(), Some(0));
    assert!(most == 2, "{most} ran at a time");
    assert_eq!(site.slots("sums"), ["1", "2", "3", "4"]);
    assert!(site.ok(&["job", "ls"]).contains("complete"), "{}", site.ok(&["job", "ls"]));
    assert!(!site.ok(&["service", "ls"]).contains("sums"), "a job is no service in a list");
    assert!(site.ok(&["why", "sums"]).contains("complete"));
    assert_eq!(site.ok(&["job", "logs", "--no-prefix", "sums"]), "sum\nsum\nsum\nsum");
    // It is over: nothing changes it, and nothing of it runs again.
    for refused in [
        &["scale", "sums=5"][..],
        &["service", "update", "--image", "orch/mimic:2", "sums"],
        &["deploy", "sums", "--image", "orch/mimic:2"],
    ] {
        let said = site.say(refused);
        assert!(said.code == 2 && said.err.contains("is a job"), "{}", said.all());
    }
    site.ok(&["job", "rm", "sums"]);
    let gone = || site.cluster.containers("sums").is_empty().then_some(());
    site.cluster.ask("its containers to be gone", PATIENCE, gone).expect("removed");
}

#[test]
fn job_that_fails_says_why_after_its_retries_and_one_that_is_late_is_stopped() {
    let Some(site) = Site::start("failing jobs") else { return };
    let flags = ["job", "create", "--name", "bad", "--retries", "2", "--restart-delay", "100ms"];
    let said = site.say(&[&flags[..], &[MIMIC_1, "work", "0", "3"]].concat());
    assert_eq!(said.code, 1, "{}", said.all());
    assert!(said.err.contains("job bad has failed") && said.err.contains('3'), "{}", said.all());
    let task = &site.cluster.history("bad").expect("tasks")[0];
    assert_eq!(task.restarts, 2, "{task:?}");

    let flags = ["job", "create", "--name", "late", "--deadline", "3s", "--stop-grace-period", "1s"];
    let said = site.say(&[&flags[..], &[MIMIC_1, "serve"]].concat());
    assert!(said.code == 1 && said.err.contains("its deadline"), "{}", said.all());
    site.cluster
        .ask("its container to stop", PATIENCE, || site.running("late").is_empty().then_some(()))
        .expect("stopped");
    assert_eq!(site.job("late")["state"], "failed");

    let said =
        site.say(&["job", "create", "--name", "nowhere", "--pull", "never", "--detach", "orch/none:1"]);
    assert_eq!(said.code, 0, "{}", said.all());
    let waited = site.say(&["job", "wait", "nowhere"]);
    assert!(waited.code == 1 && waited.err.contains("orch/none:1"), "{}", waited.all());
}

#[test]
fn run_prints_what_it_writes_and_ends_as_it_does() {
    let Some(site) = Site::with_web("run", 1, &["--env", "MIMIC_VERSION=like"]) else { return };
    let good = site.say(&["run", "--rm", "--name", "hello", MIMIC_1, "work", "300", "0", "hello", "world"]);
    assert_eq!((good.code, good.out.as_str()), (0, "hello world"), "{}", good.all());
    site.cluster
        .ask("nothing left of it", PATIENCE, || site.cluster.containers("hello").is_empty().then_some(()))
        .expect("removed");

    let bad = site.say(&["run", MIMIC_1, "work", "0", "7", "oops"]);
    assert_eq!((bad.code, bad.out.as_str()), (7, "oops"), "{}", bad.all());
    assert!(bad.err.contains("the work failed with 7"), "{}", bad.all());

    // As the service, but without what only a service has.
    let like = site.say(&["run", "--like", "web", "work", "0", "0", "as", "web"]);
    assert_eq!((like.code, like.out.as_str()), (0, "as web"), "{}", like.all());

    // Whoever goes away leaves it running.
    let mut left = site
        .cluster
        .ctl()
        .command(&["run", "--name", "left", MIMIC_1, "work", "4000", "0", "still"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("orchctl starts");
    site.cluster
        .ask("it to run", PATIENCE, || (!site.running("left").is_empty()).then_some(()))
        .expect("running");
    kill_process(Pid::from_child(&left), Signal::INT).expect("interrupted");
    wait::until_true("its end", PATIENCE, || left.try_wait().expect("a child").is_some()).expect("it ended");
    let said: Said = left.wait_with_output().expect("its output").into();
    assert!(said.code == 130 && said.err.contains("orchctl job wait left"), "{}", said.all());
    assert_eq!(site.say(&["job", "wait", "left"]).code, 0);
    assert_eq!(site.ok(&["logs", "--no-prefix", "left"]), "still");
}

#[test]
fn cron_runs_once_although_the_leader_dies_when_it_is_due() {
    if !can_run("nodes: a cron and a dying leader", &LAB) {
        return;
    }
    let cluster = Cluster::start(Plan::lab(3, 1)).expect("three managers and a node");
    cluster.load_mimic().expect("the mimic's images");
    let site = Site { cluster };
    let cron = ["cron", "set", "--name", "sync", "--schedule", "* * * * *", "--tz", "Europe/Paris"];
    site.ok(&[&cron[..], &[MIMIC_1, "work", "200", "0", "synced"]].concat());
    let leader = site.cluster.leader().expect("a leader");
    let due = next_minute();
    wait::until_true("the moment before", Duration::from_secs(70), || now() >= due - BEFORE)
        .expect("time passes");
    site.cluster.manager(leader).kill().expect("killed");
    let runs = site.cluster.ask("the run of that minute", PATIENCE, || {
        let runs = runs(&site).into_iter().filter(|run| run["due"].as_u64() == Some(micros(due)));
        let runs: Vec<Value> = runs.collect();
        (!runs.is_empty() && runs.iter().all(|run| run["state"] == "complete")).then_some(runs)
    });
    let runs = runs.expect("it ran");
    assert_eq!(runs.len(), 1, "{runs:?}");
    let job = format!("sync-{}", due.as_secs() / 60);
    assert_eq!(runs[0]["job"][1], job.as_str());
    assert_eq!(site.slots(&job), ["1"], "one container, once");
    assert_eq!(site.ok(&["logs", "--no-prefix", &job]), "synced");
    assert!(site.ok(&["why", "sync"]).contains("complete"));
    site.ok(&["cron", "suspend", "sync"]);
    assert!(site.ok(&["cron", "inspect", "sync"]).contains("suspended"));
    site.ok(&["cron", "run-now", "sync"]);
    site.ok(&["cron", "rm", "sync"]);
    site.cluster
        .ask("its jobs to go with it", PATIENCE, || site.cluster.containers(&job).is_empty().then_some(()))
        .expect("gone");
}

fn runs(site: &Site) -> Vec<Value> {
    let cron = site.cluster.ctl().json(&["cron", "inspect", "sync"]).unwrap_or_default();
    cron["runs"].as_array().cloned().unwrap_or_default()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// The first whole minute that is at least three seconds away.
fn next_minute() -> Duration {
    Duration::from_secs(((now().as_secs() + 3) / 60 + 1) * 60)
}

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).expect("of this century")
}
