//! What the node's agent asks the containers itself, and what follows from the answers.

use tests::cluster::view::Task;
use tests::image::MIMIC_1;

use super::{PATIENCE, Site};

/// It answers 200 while it is broken, with the text of an exception.
const STATUS: &str =
    "http:8080/ispyb/ispyb-ws/rest/schema/status,body-not=Exception,interval=300ms,failures=2";

impl Site {
    /// Waits until a task of the service is as it should be.
    fn wait_task(&self, what: &str, service: &str, condition: impl Fn(&Task) -> bool) -> Task {
        let tasks = self.cluster.wait_tasks(what, service, PATIENCE, |tasks| tasks.iter().any(&condition));
        tasks.expect("in time").into_iter().find(|task| condition(task)).expect("one of them")
    }
}

#[test]
fn replica_that_answers_200_with_an_exception_takes_no_traffic_and_is_not_restarted() {
    let Some(site) = Site::start("readiness") else { return };
    site.create("web", 2, &["--probe-readiness", STATUS, "--publish", "8080:8080"]);
    let ids = site.ids("web");
    let broken = site.running("web").remove(0);
    site.get(&broken, "/break").expect("asked to break");
    let task = site.wait_task("one that is not ready", "web", |task| task.health == "unready");
    assert!(task.message.contains("the body matches Exception"), "{task:?}");
    assert!(task.container.starts_with(&broken.id) || broken.id.starts_with(&task.container), "{task:?}");
    let endpoints = site.ok(&["service", "endpoints", "web"]);
    assert!(endpoints.contains("it is not ready"), "{endpoints}");
    assert!(site.ok(&["why", "web"]).contains("is not ready: its readiness probe says"), "the cause is told");

    // Neither that nor an agent that begins anew restarts anything, or takes the other one out.
    site.stays("web", &ids);
    site.node().agent().kill().expect("killed");
    site.node().agent().start().expect("started");
    site.stays("web", &ids);
    let tasks = site.cluster.tasks("web").expect("tasks");
    assert_eq!(tasks.iter().filter(|task| task.is_healthy()).count(), 1, "{tasks:?}");

    site.get(&broken, "/mend").expect("asked to mend");
    site.cluster.wait_healthy("web", 2, PATIENCE).expect("ready again");
    assert_eq!(site.ids("web"), ids);
}

#[test]
fn replica_that_hangs_is_restarted_by_its_liveness_probe_and_the_cause_is_told() {
    let Some(site) = Site::start("liveness") else { return };
    let flags =
        ["--probe-liveness", "http:8080/version,interval=300ms,timeout=500ms", "--restart-delay", "0s"];
    site.create("web", 1, &flags);
    let hung = site.only("web");
    site.get(&hung, "/hang").expect("asked to hang");
    site.wait_successor("web", &hung);
    site.wait_task("a restart", "web", |task| task.restarts == 1 && task.is_healthy());
    let told = site.ok(&["service", "inspect", "--json", "web"]);
    assert!(
        told.contains("unhealthy: its liveness probe says: GET :8080/version: no answer within 500ms"),
        "{told}"
    );
}

#[test]
fn each_kind_of_probe_is_asked_and_an_attempt_that_does_not_start_in_time_ends() {
    let Some(site) = Site::start("start-up") else { return };
    let flags = [
        "--env",
        "MIMIC_START_MS=1500",
        "--probe-startup",
        "tcp:8080,deadline=60s",
        "--probe-readiness",
        "exec:/mimic check",
        "--probe-liveness",
        "http:8080/",
    ];
    site.create("web", 1, &flags);
    site.cluster.wait_healthy("web", 1, PATIENCE).expect("started, ready and alive");

    let flags = ["--probe-startup", "grpc:8080,interval=300ms,deadline=2s", "--restart-delay", "0s"];
    site.declare("odd", &[&flags[..], &[MIMIC_1]].concat());
    site.wait_task("an attempt that did not start", "odd", |task| task.restarts > 0);
    let told = site.ok(&["service", "inspect", "--json", "odd"]);
    assert!(told.contains("it did not start within 2.0 s; its start-up probe says: gRPC :8080"), "{told}");
}

#[test]
fn probe_that_cannot_be_is_refused_with_its_field() {
    let Some(site) = Site::start("bad probes") else { return };
    let refused = |flag: &str, probe: &str| {
        let said =
            site.cluster.ctl().say(&["service", "create", "--name", "x", "--detach", flag, probe, MIMIC_1]);
        assert_eq!(said.code, 2, "{said:?}");
        said.all()
    };
    let said = refused("--probe-readiness", "http:8080/,body-not=(");
    assert!(said.contains("template.container.probes.readiness.check.http.body_not"), "{said}");
    let said = refused("--probe-liveness", "udp:53");
    assert!(said.contains("--probe-liveness: \"udp:53\" is no probe; write http:PORT/PATH"), "{said}");
}
