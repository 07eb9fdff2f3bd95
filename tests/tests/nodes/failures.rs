//! Containers that end, hang, or eat too much.

use tests::image::{MIMIC_1, MIMIC_CHECKED};

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
    site.ok(&[
        "service",
        "create",
        "--name",
        "web",
        "--detach",
        "--restart-delay",
        "50ms",
        "--env",
        "MIMIC_FAIL_INIT=3",
        MIMIC_1,
    ]);
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
        let none: [String; 0] = [];
        site.stays(name, &none);
    }
}

#[test]
fn container_killed_for_memory_says_so() {
    let Some(site) = Site::with_web("memory", 1, &["--limit-memory", "64m", "--restart-condition", "none"])
    else {
        return;
    };
    let container = site.only("web");
    drop(site.get(&container, "/leak?mb=200"));
    let ended = site
        .cluster
        .ask("the task to end", PATIENCE, || {
            site.cluster.history("web").ok()?.into_iter().find(|task| task.state == "failed")
        })
        .expect("it ends");
    assert!(ended.oom, "{ended:?}");
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
