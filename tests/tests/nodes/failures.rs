//! Containers that end, hang, or eat too much.

use tests::image::{MIMIC_1, MIMIC_CHECKED};
use tests::wait;

use super::{PATIENCE, Site};

#[test]
fn crashed_container_is_restarted_in_place_under_the_same_task() {
    let Some(site) = Site::with_web("a crash", 1, &["--restart-delay", "0s"]) else { return };
    let old = site.only("web");
    drop(site.get(&old, "/crash?code=42"));
    let new = site.wait_successor("web", &old);
    assert_eq!(new.task, old.task, "the same task");
    assert_eq!((old.attempt.as_str(), new.attempt.as_str()), ("1", "2"));
    let tasks = site
        .cluster
        .wait_tasks("the restart to be reported", "web", PATIENCE, |tasks| {
            tasks.iter().any(|task| task.restarts == 1 && task.state == "running")
        })
        .expect("reported");
    assert_eq!(tasks.len(), 1);
}

#[test]
fn crash_loop_is_visible_backs_off_and_is_bounded() {
    let Some(site) = Site::start("a crash loop") else { return };
    site.declare("web", &["--restart-delay", "50ms", "--env", "MIMIC_FAIL_INIT=3", MIMIC_1]);
    let tasks = site
        .cluster
        .wait_tasks("a crash loop", "web", PATIENCE, |tasks| {
            tasks.iter().any(|task| task.state == "crash-loop")
        })
        .expect("visible");
    assert_eq!(tasks[0].exit, Some(3), "{tasks:?}");
    assert!(site.cluster.containers("web").len() <= 6, "five attempts are kept, and the current one");
    let why = site.ok(&["why", "web"]);
    assert!(why.contains("code 3"), "{why}");
    // Of at most two of them a container is left.
    let text = site.ok(&["logs", "--no-prefix", "web"]);
    assert!(text.matches(" starting").count() >= 3, "attempts whose containers are gone: {text}");
    // Mended, it recovers.
    site.ok(&["service", "update", "--env-rm", "MIMIC_FAIL_INIT", "web"]);
    site.cluster.wait_healthy("web", 1, PATIENCE).expect("mended");
}

#[test]
fn policies_that_do_not_restart_leave_the_ended_task_with_its_exit_code() {
    let Some(site) = Site::start("restart policies") else { return };
    for (name, condition, code, state) in
        [("never", "none", "7", "failed"), ("failure", "on-failure", "0", "completed")]
    {
        site.create(name, 1, &["--restart-condition", condition]);
        let container = site.only(name);
        drop(site.get(&container, &format!("/crash?code={code}")));
        let ended = site.cluster.ask("the task to end", PATIENCE, || {
            let tasks = site.cluster.history(name).ok()?;
            tasks.iter().find(|task| task.state == state).cloned()
        });
        assert_eq!(ended.expect("it ends").exit.map(|code| code.to_string()).as_deref(), Some(code));
        // The engine tells of an end before its own list shows it.
        wait::until_true("an empty list", PATIENCE, || site.ids(name).is_empty())
            .expect("the engine lists it as ended");
        site.stays(name, &[]);
    }
}

/// The engine learns of a memory kill by a notice that it misses now and then when the machine is busy; then nobody can
/// know. So it is asked as well, and tried again until it saw one.
#[test]
fn container_killed_for_memory_says_so() {
    let Some(site) = Site::start("memory") else { return };
    let seen = (1..=5).map(|round| format!("eater-{round}")).any(|name| {
        site.create(&name, 1, &["--limit-memory", "64m", "--restart-condition", "none"]);
        let container = site.only(&name);
        drop(site.get(&container, "/leak?mb=200"));
        let ended = site.cluster.ask("the task to end", PATIENCE, || {
            site.cluster.history(&name).ok()?.into_iter().find(|task| task.state == "failed")
        });
        let ended = ended.expect("it ends");
        let engine = site.node().engine().inspect(&container.id, "{{.State.OOMKilled}}").expect("it is kept");
        assert_eq!(ended.exit, Some(137));
        assert_eq!(ended.oom.to_string(), engine, "what the engine knows: {ended:?}");
        ended.oom
    });
    assert!(seen, "the engine saw none of five memory kills");
    let told = site.ok(&["ps", "--all"]);
    assert!(told.contains("memory"), "{told}");
}

#[test]
fn hung_container_is_found_by_its_health_check_and_restarted() {
    let Some(site) = Site::with_web("a hang", 1, &["--restart-delay", "0s", MIMIC_CHECKED]) else { return };
    site.cluster.wait_healthy("web", 1, PATIENCE).expect("healthy");
    let old = site.only("web");
    drop(site.get(&old, "/hang"));
    let new = site.wait_successor("web", &old);
    assert_eq!(new.task, old.task);
    site.cluster.wait_healthy("web", 1, PATIENCE).expect("healthy again");
}

#[test]
fn failed_health_check_is_told_in_its_own_words() {
    let Some(site) = Site::start("a health check's words") else { return };
    // The image has no shell, which only the check's output says.
    site.declare(
        "web",
        &[
            "--restart-condition",
            "none",
            "--health-cmd",
            "check-me",
            "--health-interval",
            "200ms",
            "--health-retries",
            "1",
            MIMIC_1,
        ],
    );
    let told = |args: &[&str]| {
        let said = site.cluster.ask("the check's words", PATIENCE, || {
            let said = site.cluster.ctl().say(args).out;
            (said.contains("unhealthy") && said.contains("/bin/sh")).then_some(said)
        });
        said.unwrap_or_else(|error| panic!("{error:#}\n{:?}", site.cluster.ctl().say(args)))
    };
    println!("{}", told(&["ps"]));
    println!("{}", told(&["why", "web"]));
}
