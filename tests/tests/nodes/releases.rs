//! Deployments as a pipeline makes them: the command lines of deploy/gitlab, their exit codes, and what runs afterwards.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::cluster::ctl::Said;
use tests::image::{MIMIC_1, MIMIC_2, MIMIC_BROKEN, MIMIC_FAILING};
use tests::load::{Load, Plan};
use tests::wait;

use super::{PATIENCE, Site};

const STATUS: &str =
    "http:8080/ispyb/ispyb-ws/rest/schema/status,body-not=Exception,interval=300ms,failures=2";
/// Two replicas that show what is wrong with a release, and go back by themselves.
const FLAGS: [&str; 10] = [
    "--restart-delay",
    "100ms",
    "--probe-readiness",
    STATUS,
    "--update-failure-action",
    "rollback",
    "--update-monitor",
    "1s",
    "--update-progress-deadline",
    "15s",
];

impl Site {
    fn deploy(&self, image: &str, more: &[&str]) -> Said {
        let args = [&["deploy", "web", "--image", image, "--wait"], more].concat();
        self.cluster.ctl().say(&args)
    }

    /// What each replica says that it is.
    fn versions(&self) -> Vec<String> {
        self.answered().expect("every replica answers")
    }

    /// The same, while replicas come and go; `None` when one does not answer.
    fn answered(&self) -> Option<Vec<String>> {
        let answers = self.running("web").into_iter().map(|container| {
            let answer = self.get(&container, "/version").ok()?;
            let body: Value = serde_json::from_str(&answer.body).ok()?;
            Some(body["version"].as_str()?.to_owned())
        });
        answers.collect()
    }

    fn releases(&self) -> Vec<(u64, String)> {
        let history = self.cluster.ctl().json(&["service", "history", "web"]).expect("a history");
        let releases = history.as_array().expect("a list").iter();
        let read = |r: &Value| {
            (r["number"].as_u64().expect("a number"), r["result"].as_str().expect("a result").to_owned())
        };
        releases.map(read).collect()
    }
}

fn results(releases: &[(u64, String)]) -> Vec<&str> {
    releases.iter().map(|(_, result)| result.as_str()).collect()
}

#[test]
fn good_release_lands_and_bad_ones_go_back_by_themselves_with_what_they_said() {
    let Some(site) = Site::start("releases") else { return };
    site.create("web", 2, &FLAGS);

    let job = "https://gitlab.example/mx/ispyb/-/jobs/1";
    let good = site.deploy(MIMIC_2, &["--job", job]);
    assert_eq!(good.code, 0, "{}", good.all());
    assert_eq!(site.versions(), ["2", "2"]);
    let again = site.deploy(MIMIC_2, &[]);
    assert!(again.code == 0 && again.out.contains("already"), "{}", again.all());
    assert!(site.ok(&["service", "history", "web"]).contains(job));

    let before = site.ids("web");
    let failing = site.deploy(MIMIC_FAILING, &[]);
    assert_eq!(failing.code, 3, "{}", failing.all());
    assert!(failing.err.contains("was rolled back"), "{}", failing.all());
    assert!(failing.err.contains("initialisation failed: no database"), "its last lines: {}", failing.all());
    assert_eq!(site.versions(), ["2", "2"]);

    let broken = site.deploy(MIMIC_BROKEN, &[]);
    assert_eq!(broken.code, 3, "{}", broken.all());
    assert!(broken.err.contains("the body matches Exception"), "{}", broken.all());
    assert!(!broken.err.contains("code 3"), "that was the release before: {}", broken.all());
    assert_eq!(site.versions(), ["2", "2"]);
    // The new one came beside the old one, so that none of these had to go.
    assert_eq!(site.ids("web"), before);
    let expected = ["done", "done", "rolled-back", "done", "rolled-back", "done"];
    assert_eq!(results(&site.releases()), expected);

    // Back to the first one, whatever came since.
    site.ok(&["service", "rollback", "web", "--to", "1"]);
    assert_eq!(site.versions(), ["1", "1"]);
    let unknown = site.cluster.ctl().say(&["service", "rollback", "web", "--to", "99"]);
    assert!(unknown.code == 5 && unknown.err.contains("no release 99"), "{}", unknown.all());
}

#[test]
fn no_replica_changes_before_the_pre_deploy_hook_has_succeeded() {
    let Some(site) = Site::start("hooks") else { return };
    site.create("web", 2, &[&FLAGS[..], &["--pre-deploy", "/mimic help"]].concat());
    let good = site.deploy(MIMIC_2, &[]);
    assert_eq!(good.code, 0, "{}", good.all());
    assert_eq!(site.versions(), ["2", "2"]);
    assert!(site.ok(&["logs", "web.hook"]).contains("usage: mimic"), "its own command ran");

    // Nobody listens in its container, so that this one fails; twice, since it is tried again.
    let failing = ["--pre-deploy", "/mimic check", "--pre-deploy-retries", "1", "--pre-deploy-migration"];
    site.ok(&[&["service", "update", "web"][..], &failing].concat());
    let before = site.ids("web");
    let failed = site.deploy(MIMIC_1, &[]);
    assert_eq!(failed.code, 3, "{}", failed.all());
    assert!(failed.err.contains("the pre-deploy hook failed"), "{}", failed.all());
    assert!(failed.err.contains("| unhealthy: "), "its last lines: {}", failed.all());
    assert!(failed.err.contains("the migration of release 3 is not undone"), "{}", failed.all());
    assert_eq!(site.ids("web"), before, "no replica was touched");
    assert_eq!(results(&site.releases()), ["done", "done", "rolled-back", "done"]);

    // It outlasts its time: nothing waits for it beyond that.
    let slow = ["--pre-deploy", "/mimic serve", "--pre-deploy-timeout", "3s", "--pre-deploy-retries", "0"];
    site.ok(&[&["service", "update", "web"][..], &slow].concat());
    let late = site.deploy(MIMIC_1, &[]);
    assert!(late.code == 3 && late.err.contains("has not ended within its time"), "{}", late.all());
    assert_eq!(site.ids("web"), before);
    let back = site.cluster.ctl().say(&["service", "rollback", "web", "--to", "1"]);
    assert!(back.code == 0 && back.err.contains("release 5 came with a migration"), "{}", back.all());
    assert_eq!(site.versions(), ["1", "1"]);
}

#[test]
fn second_deployment_is_told_who_is_busy_and_a_killed_runner_changes_nothing() {
    let Some(site) = Site::start("two deployments") else { return };
    site.create("web", 3, &FLAGS);
    // It watches each replica for a second, so that there is time to get in its way.
    let mut runner = spawned(&site, &["deploy", "web", "--image", MIMIC_2, "--job", "pipeline 7"]);
    let busy = || {
        let status = site.cluster.ctl().json(&["deploy", "status", "web"]).ok()?;
        (status["rollout"]["state"] == "updating").then_some(())
    };
    site.cluster.ask("a deployment under way", PATIENCE, busy).expect("it began");
    let second = site.deploy(MIMIC_BROKEN, &[]);
    assert_eq!(second.code, 5, "{}", second.all());
    assert!(second.err.contains("pipeline 7") && second.err.contains(MIMIC_2), "{}", second.all());
    runner.kill().expect("killed");
    runner.wait().expect("it ended");

    // The same again follows it; another one may wait for its end.
    let follower = site.deploy(MIMIC_2, &[]);
    assert_eq!(follower.code, 0, "{}", follower.all());
    assert_eq!(site.versions(), ["2", "2", "2"]);
    assert_eq!(results(&site.releases()), ["done", "done"]);

    let mut runner = spawned(&site, &["deploy", "web", "--image", MIMIC_1]);
    site.cluster.ask("a deployment under way", PATIENCE, busy).expect("it began");
    let patient = site.deploy(MIMIC_2, &["--wait-busy", "90s", "--timeout", "90s"]);
    assert_eq!(patient.code, 0, "{}", patient.all());
    runner.wait().expect("it ended");
    assert_eq!(site.versions(), ["2", "2", "2"]);
    assert_eq!(results(&site.releases()), ["done", "done", "done", "done"]);
}

#[test]
fn canaries_wait_for_a_word_and_no_request_fails_meanwhile() {
    let Some(site) = Site::start("canaries") else { return };
    site.create(
        "web",
        3,
        &[&FLAGS[..], &["--publish", "published=80,target=8080,http", "--drain", "5s"]].concat(),
    );
    let target = SocketAddr::from((site.host().address(), 80));
    let served = || site.host().get(target, "/version").is_ok_and(|answer| answer.status == 200);
    wait::until_true("the published port to answer", PATIENCE, served).expect("it answers");
    let load = Load::start(Plan {
        namespace: site.cluster.lab().switch().namespace().to_owned(),
        targets: vec![target],
        method: "GET",
        path: "/version".into(),
        clients: 4,
        every: Duration::from_millis(40),
        keep_alive: false,
    });

    let canary = site.deploy(MIMIC_2, &["--canary", "1", "--manual"]);
    assert_eq!(canary.code, 0, "{}", canary.all());
    assert!(canary.out.contains("orchctl deploy promote web"), "{}", canary.all());
    let mut versions = site.versions();
    versions.sort();
    assert_eq!(versions, ["1", "1", "2"]);
    let busy = site.deploy(MIMIC_BROKEN, &[]);
    assert_eq!(busy.code, 5, "canaries that wait are a deployment under way: {}", busy.all());

    site.ok(&["deploy", "abort", "web"]);
    assert_eq!(site.versions(), ["1", "1", "1"]);
    assert_eq!(results(&site.releases()), ["done", "aborted", "done"]);

    site.ok(&["deploy", "web", "--image", MIMIC_2, "--canary", "34%", "--soak", "1s"]);
    assert_eq!(site.versions(), ["2", "2", "2"]);
    let outcome = load.finish();
    assert!(outcome.asked > 100 && outcome.failed() == 0, "{outcome:?}");
}

fn spawned(site: &Site, args: &[&str]) -> Child {
    let mut command = site.cluster.ctl().command(args);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("orchctl starts")
}

#[test]
fn frozen_node_is_left_alone_until_its_freeze_ends_or_somebody_says_why_not() {
    let Some(site) = Site::start("a freeze") else { return };
    site.create("web", 1, &FLAGS);
    let node = site.node().name();
    site.ok(&["node", "update", "--label-add", "beamline=id23-1", node]);
    let set = ["freeze", "set", "beam", "--nodes", "beamline=id23-1", "--for", "1h", "--reason", "MX-2345"];
    assert!(site.ok(&set).contains(node));

    let refused = site.deploy(MIMIC_2, &[]);
    assert!(refused.code == 6 && refused.err.contains("MX-2345"), "{}", refused.all());
    let drained = site.cluster.ctl().say(&["node", "drain", node]);
    assert!(drained.code == 6 && drained.err.contains("--despite-freeze"), "{}", drained.all());

    let queued = site.deploy(MIMIC_2, &["--at-next-window"]);
    assert!(queued.code == 0 && queued.out.contains("frozen"), "{}", queued.all());
    assert!(site.ok(&["why", "web"]).contains("MX-2345"));
    let old = site.only("web");
    drop(site.get(&old, "/crash?code=1"));
    site.wait_successor("web", &old);
    site.cluster.wait_healthy("web", 1, PATIENCE).expect("a crash is healed");
    assert_eq!(site.versions(), ["1"], "with what ran before");
    site.ok(&["freeze", "rm", "beam"]);
    let landed = || site.answered().is_some_and(|versions| versions == ["2"]);
    wait::until_true("the release to land", PATIENCE, landed).expect("it follows");

    site.ok(&set);
    let urgent = site.deploy(MIMIC_1, &["--despite-freeze", "the door is open"]);
    assert_eq!(urgent.code, 0, "{}", urgent.all());
    assert_eq!(site.versions(), ["1"]);
    let ill = ["freeze", "set", "beam", "--weekly", "Someday 08:00-Mon 09:00"];
    let ill = site.cluster.ctl().say(&ill);
    assert!(ill.code == 2 && ill.err.contains("--weekly"), "{}", ill.all());
}
