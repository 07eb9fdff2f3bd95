//! The laboratory itself: a test of the product is worth nothing if its engine lies.

use std::time::Duration;

use tests::hosts::Lab;
use tests::image::{self, MIMIC_1, MIMIC_2, MIMIC_CHECKED, MIMIC_PORT};
use tests::require::{LAB, can_run};
use tests::wait;

const STATUS: &str = "/ispyb/ispyb-ws/rest/schema/status";
const PATIENCE: Duration = Duration::from_secs(20);

fn lab_with_mimic() -> Lab {
    let lab = Lab::start(1).expect("a host with an engine");
    let archive = image::mimic_archive().expect("the mimic's image");
    lab.host(0).engine().load(&archive).expect("the image loads");
    lab
}

fn run(lab: &Lab, name: &str, options: &[&str], image: &str) {
    let mut args = vec!["run", "--detach", "--name", name];
    args.extend(options);
    args.push(image);
    lab.host(0).engine().docker(&args).expect("the container starts");
}

/// The body that the container answers for `path`, once it answers.
fn body(lab: &Lab, container: &str, path: &str) -> String {
    let address = lab.host(0).engine().address(container).expect("an address");
    let answer = wait::until(path, PATIENCE, || lab.host(0).get((address, MIMIC_PORT), path).ok());
    answer.expect("an answer").body
}

#[test]
fn mimic_runs_in_an_image_from_scratch_and_answers_on_its_container_address() {
    if !can_run("engine: mimic", &LAB) {
        return;
    }
    let lab = lab_with_mimic();
    run(&lab, "one", &[], MIMIC_1);
    run(&lab, "two", &[], MIMIC_2);
    assert!(body(&lab, "one", STATUS).contains("\"schemaStatus\":\"DONE\""));
    assert!(body(&lab, "one", "/version").contains("\"version\":\"1\""));
    assert!(body(&lab, "two", "/version").contains("\"version\":\"2\""));
}

#[test]
fn health_check_sees_the_exception_behind_a_200() {
    if !can_run("engine: health", &LAB) {
        return;
    }
    let lab = lab_with_mimic();
    run(&lab, "checked", &[], MIMIC_CHECKED);
    let health = || lab.host(0).engine().inspect("checked", "{{.State.Health.Status}}").ok();
    let becomes = |wanted: &str| {
        wait::until_true(wanted, PATIENCE, || health().as_deref() == Some(wanted))
            .expect("the health changes");
    };
    becomes("healthy");
    body(&lab, "checked", "/break");
    becomes("unhealthy");
    body(&lab, "checked", "/mend");
    becomes("healthy");
}

#[test]
fn crash_term_and_memory_limit_end_the_container_with_their_exit_codes() {
    if !can_run("engine: exit codes", &LAB) {
        return;
    }
    let lab = lab_with_mimic();
    let engine = lab.host(0).engine();
    run(&lab, "crash", &[], MIMIC_1);
    run(&lab, "leak", &["--memory=64m", "--memory-swap=64m"], MIMIC_1);
    run(&lab, "term", &[], MIMIC_1);
    run(&lab, "stubborn", &["--env=MIMIC_IGNORE_TERM=1"], MIMIC_1);
    run(&lab, "init", &["--env=MIMIC_FAIL_INIT=3"], MIMIC_1);
    body(&lab, "crash", "/crash?code=42");
    body(&lab, "term", "/");
    body(&lab, "stubborn", "/");
    let leak = engine.address("leak").expect("an address");
    assert!(lab.host(0).get((leak, MIMIC_PORT), "/leak?mb=200").is_err(), "killed before it could answer");
    engine.docker(&["stop", "--time=20", "term"]).expect("stops");
    engine.docker(&["stop", "--time=1", "stubborn"]).expect("is killed");
    let exit = |name: &str| engine.docker(&["wait", name]).expect("an exit code");
    let codes = ["crash", "leak", "term", "stubborn", "init"].map(exit);
    assert_eq!(codes, ["42", "137", "0", "137", "3"]);
    assert_eq!(engine.inspect("leak", "{{.State.OOMKilled}}").expect("a state"), "true");
}

#[test]
fn hang_keeps_the_port_open_and_answers_nothing() {
    if !can_run("engine: hang", &LAB) {
        return;
    }
    let lab = lab_with_mimic();
    run(&lab, "hung", &[], MIMIC_1);
    body(&lab, "hung", "/hang");
    let address = lab.host(0).engine().address("hung").expect("an address");
    let connects = lab.host(0).within(|| std::net::TcpStream::connect((address, MIMIC_PORT)).is_ok());
    assert!(connects.expect("the namespace"));
    assert!(lab.host(0).get((address, MIMIC_PORT), STATUS).is_err());
}

#[test]
fn container_outlives_a_killed_engine_and_not_a_stopped_one() {
    if !can_run("engine: kill", &LAB) {
        return;
    }
    let lab = lab_with_mimic();
    let engine = lab.host(0).engine();
    run(&lab, "one", &[], MIMIC_1);
    let address = engine.address("one").expect("an address");
    let alive = || lab.host(0).get((address, MIMIC_PORT), "/version").is_ok();
    wait::until_true("the container to answer", PATIENCE, alive).expect("it starts");
    engine.kill().expect("killed");
    assert!(!engine.answers());
    assert!(alive(), "a container does not need its engine to serve");
    engine.start().expect("starts again");
    engine.restart().expect("restarts");
    assert_eq!(engine.inspect("one", "{{.State.Running}}").expect("still known"), "false");
}

#[test]
fn frozen_engine_accepts_and_stays_silent_until_it_is_thawed() {
    if !can_run("engine: freeze", &LAB) {
        return;
    }
    let lab = Lab::start(1).expect("a host with an engine");
    let engine = lab.host(0).engine();
    engine.freeze().expect("frozen");
    assert!(std::os::unix::net::UnixStream::connect(engine.socket()).is_ok());
    assert!(!engine.answers());
    engine.thaw().expect("thawed");
    wait::until_true("the engine to answer again", PATIENCE, || engine.answers()).expect("it does");
    engine.freeze().expect("frozen");
    engine.kill().expect("a frozen engine can be killed");
    // Its wrapper may see it stop or be stopped first: both must let it end.
    for round in 0..50 {
        let mut command = lab.host(0).command("sleep");
        command.arg("1000");
        let sleeper = lab.host(0).spawn("sleeper", command).expect("started");
        sleeper.freeze().expect("frozen");
        sleeper.kill().unwrap_or_else(|error| panic!("round {round}: {error:#}"));
    }
}
