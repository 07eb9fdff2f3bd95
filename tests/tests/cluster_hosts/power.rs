//! A host loses its power and comes back.

use tests::image::MIMIC_1;

use super::Site;

#[test]
fn replicas_of_a_dead_host_run_elsewhere_and_are_not_doubled_when_it_is_back() {
    let Some(site) = Site::start("power off") else { return };
    site.create("web", 5, &[]);
    let lost = site.node(1).name().to_owned();
    assert!(site.by_node("web").contains_key(&lost), "it has replicas: {:?}", site.by_node("web"));
    site.host(1).power_off().expect("off");
    site.becomes(1, "down");
    site.moved_off("web", 5, &lost);

    site.host(1).power_on().expect("on");
    site.host(1).engine().start().expect("its engine starts");
    site.node(1).agent().start().expect("its agent starts");
    site.becomes(1, "ready");
    // It asks before it starts what it remembers.
    site.whole("web", 5);
    site.stays("web");
    // What it had is cleared away, not only stopped.
    let left = tests::cluster::containers::on(site.node(1).engine(), "web").expect("a list");
    assert!(left.iter().all(|container| !container.running), "{left:?}");

    // The rejoined node takes new work.
    site.ok(&["scale", "web=9"]);
    site.whole("web", 9);
    assert!(site.by_node("web").contains_key(&lost), "{:?}", site.by_node("web"));

    // Two of three go: everything runs on the last one.
    site.host(0).power_off().expect("off");
    site.host(1).power_off().expect("off");
    site.cluster
        .wait_tasks("all on the last node", "web", super::PATIENCE, |tasks| {
            tasks.iter().filter(|task| task.node == "h3" && task.is_healthy()).count() == 9
        })
        .expect("on h3");
}

#[test]
fn slot_of_a_job_on_a_dead_host_runs_again_elsewhere_or_the_job_fails_as_it_says() {
    let Some(site) = Site::start("a job and a dead host") else { return };
    let lost = site.node(1).name().to_owned();
    let here = format!("node.hostname=={lost}");
    let create = |flags: &[&str]| {
        let job =
            [&["job", "create", "--detach"][..], flags, &[MIMIC_1, "work", "6000", "0", "done"]].concat();
        site.ok(&job);
    };
    create(&["--name", "again", "--completions", "3"]);
    create(&["--name", "once", "--on-lost", "fail", "--constraint", &here]);
    for job in ["again", "once"] {
        let runs = || site.by_node(job).contains_key(&lost).then_some(());
        site.cluster.ask("it to run there", super::PATIENCE, runs).expect("running");
    }
    site.host(1).power_off().expect("off");
    let say = |args: &[&str]| site.cluster.ctl().say(args);
    let once = say(&["job", "wait", "once"]);
    assert!(once.code == 1 && once.err.contains("which is lost"), "{}", once.all());
    let again = say(&["job", "wait", "again"]);
    assert_eq!(again.code, 0, "{}", again.all());
    let tasks = site.cluster.history("again").expect("tasks");
    let completed = tasks.iter().filter(|task| task.state == "completed" && task.node != lost);
    assert_eq!((tasks.len(), completed.count()), (4, 3), "{tasks:#?}");
}
