//! A service's life: created, scaled, updated both ways, rolled back, removed.

use std::sync::atomic::{AtomicBool, Ordering};

use tests::cluster::ASK;
use tests::image::{MIMIC_CHECKED, MIMIC_CHECKED_2};

use super::{PATIENCE, Site};

/// The smallest and the largest number of running containers of `web` while `work` runs.
fn extremes(site: &Site, work: impl FnOnce()) -> (usize, usize) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut least, mut most) = (usize::MAX, 0);
            while !done.load(Ordering::Relaxed) {
                let count = site.running("web").len();
                (least, most) = (least.min(count), most.max(count));
                std::thread::sleep(ASK);
            }
            (least, most)
        });
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        let seen = watch.join().expect("the watch does not panic");
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        seen
    })
}

/// What the three replicas answer, once the one that was replaced last has gone.
fn versions(site: &Site) -> Vec<String> {
    site.cluster.wait_one_per_slot("web", 3, PATIENCE).expect("one for each slot");
    let version = |container| site.get(container, "/version").map(|answer| answer.body);
    site.running("web").iter().map(|container| version(container).expect("it answers")).collect()
}

#[test]
fn service_is_created_scaled_updated_rolled_back_and_removed() {
    let Some(site) = Site::start("a service's life") else { return };
    let engine = site.node().engine();
    engine.docker(&["run", "--detach", "--name", "stranger", tests::image::MIMIC_1]).expect("not ours");
    let stranger = engine.inspect("stranger", "{{.Id}} {{.State.StartedAt}}").expect("it runs");

    site.create("web", 2, &[MIMIC_CHECKED]);
    let first = site.ids("web");
    site.ok(&["scale", "web=4"]);
    let four = site.ids("web");
    assert_eq!(four.len(), 4);
    assert!(first.iter().all(|id| four.contains(id)), "scaling up restarts nothing");
    site.ok(&["scale", "web=3"]);
    site.cluster.wait_one_per_slot("web", 3, PATIENCE).expect("three");

    // Stop-first: one less than wanted, never two.
    let (least, most) = extremes(&site, || {
        site.ok(&["service", "update", "--image", MIMIC_CHECKED_2, "--update-order", "stop-first", "web"]);
    });
    assert!(least >= 2 && most <= 3, "between {least} and {most} ran");
    assert!(versions(&site).iter().all(|body| body.contains("\"2\"")), "{:?}", versions(&site));

    // Start-first: never less than wanted.
    let (least, most) = extremes(&site, || {
        site.ok(&["service", "update", "--image", MIMIC_CHECKED, "--update-order", "start-first", "web"]);
    });
    assert!(least >= 3 && most <= 4, "between {least} and {most} ran");
    assert!(versions(&site).iter().all(|body| body.contains("\"1\"")), "{:?}", versions(&site));

    site.ok(&["service", "rollback", "web"]);
    assert!(versions(&site).iter().all(|body| body.contains("\"2\"")), "{:?}", versions(&site));

    // What changes no container restarts none.
    let before = site.ids("web");
    site.ok(&["service", "update", "--label-add", "team=mx", "web"]);
    assert_eq!(site.ids("web"), before);

    site.ok(&["service", "rm", "web"]);
    site.cluster
        .ask("no container of it", PATIENCE, || site.cluster.containers("web").is_empty().then_some(()))
        .expect("removed, ended ones too");
    let after = engine.inspect("stranger", "{{.Id}} {{.State.StartedAt}}").expect("it runs still");
    assert_eq!(after, stranger, "what does not carry our labels is not touched");
}

#[test]
fn update_to_a_version_that_does_not_start_pauses_and_no_replica_was_lost() {
    let Some(site) = Site::with_web("a bad update", 3, &[MIMIC_CHECKED]) else { return };
    let said = site.cluster.ctl().say(&[
        "service",
        "update",
        "--image",
        MIMIC_CHECKED_2,
        "--env-add",
        "MIMIC_FAIL_INIT=3",
        "--update-progress-deadline",
        "10s",
        "web",
    ]);
    assert_eq!(said.code, 3, "paused: {said:?}");
    let healthy = site.cluster.tasks("web").expect("tasks").into_iter().filter(|task| task.is_healthy());
    assert_eq!(healthy.count(), 3, "the one that was to be replaced is still there");
    site.ok(&["service", "rollback", "web"]);
    site.cluster.wait_healthy("web", 3, PATIENCE).expect("whole again");
}
