//! Jobs and crons, as clients ask for them: whatever leads and falls, a time of a cron makes one job.

use std::time::Duration;

use model::{
    cron::{CronSpec, RunState},
    job::JobPolicy,
    request::{ErrorCode, Request},
    service::{RestartPolicy, ServiceSpec},
    time::ClusterTime,
};

use crate::world::{ONE, World, admin, spec};

fn job(name: &str) -> ServiceSpec {
    let mut job = spec(name, 1);
    job.template.restart = RestartPolicy::retries(0);
    job.job = Some(JobPolicy::default());
    job
}

fn cron(schedule: &str, zone: &str) -> Request {
    let (schedule, zone) = (schedule.to_owned(), zone.to_owned());
    let job = job("any").into();
    Request::SetCron(CronSpec { name: "sync".into(), schedule, zone, job, ..CronSpec::default() }.into())
}

#[test]
fn every_minute_makes_one_job_although_each_time_the_leader_dies_just_then() {
    let mut world = World::of_three(21);
    world.insist(admin(), cron("* * * * *", "Europe/Paris")).expect("declared");
    for _ in 0..3 {
        let leader = world.leader().expect("a leader");
        let next = world.store(leader).cron_by_name("sync").and_then(|cron| cron.next).expect("a next time");
        let sooner = Duration::from_millis(world.roll(100));
        world.until("the time has nearly come", |world| {
            world.leader().is_some_and(|id| {
                let idle = Duration::from_secs(3);
                world.manager(id).store().time() + idle + sooner >= next
            })
        });
        // Nothing is committed in a quiet cluster, so that its time says little: whoever leads falls again and again.
        for _ in 0..8 {
            let leader = world.leader();
            leader.into_iter().for_each(|id| world.crash(id));
            world.run_for(Duration::from_millis(400));
            leader.into_iter().for_each(|id| world.restart(id));
            world.until("one leads", |world| world.leader().is_some());
        }
        world.until("it was decided", |world| {
            let leader = world.leader().map(|id| world.store(id));
            let cron = leader.and_then(|store| store.cron_by_name("sync"));
            cron.is_some_and(|cron| cron.decided >= next)
        });
    }
    let store = world.store(world.leader().expect("a leader"));
    let runs = &store.cron_by_name("sync").expect("the cron").runs;
    let due: Vec<ClusterTime> = runs.iter().map(|run| run.due).collect();
    assert!(due.len() >= 3 && due.is_sorted_by(|one, other| one < other), "{due:?}");
    assert!(due.windows(2).all(|pair| pair[1].since(pair[0]) == Duration::from_secs(60)), "{due:?}");
    // Without a node the first job goes on, and those that are due meanwhile are left out.
    assert_eq!((runs[0].state, runs[1].state), (RunState::Running, RunState::Skipped));
    assert_eq!(store.services().filter(|service| service.job.is_some()).count(), 1);
}

#[test]
fn a_schedule_or_a_zone_that_means_nothing_is_refused_with_its_path() {
    let mut world = World::new(22);
    let cases = [
        ("every night", "UTC", "schedule"),
        ("12 4 * * *", "Europe/Grenoble", "zone"),
        ("0 0 30 2 *", "UTC", "schedule"),
    ];
    for (schedule, zone, path) in cases {
        let refused = world.insist(admin(), cron(schedule, zone)).expect_err("refused");
        assert_eq!((refused.code, refused.problems[0].path.as_str()), (ErrorCode::Invalid, path));
    }
    let refused = world.insist(admin(), Request::RunCron("sync".into())).expect_err("there is none");
    assert_eq!(refused.code, ErrorCode::NotFound);
}

#[test]
fn jobs_and_crons_wait_until_every_manager_can_read_them() {
    let mut world = World::with_older_manager(23);
    for request in [Request::CreateService(job("sum").into()), cron("12 4 * * *", "UTC")] {
        let refused = world.insist(admin(), request).expect_err("refused");
        assert_eq!(refused.code, ErrorCode::Conflict);
        assert!(refused.message.contains("until all managers are upgraded"), "{}", refused.message);
    }
    world.insist(admin(), Request::CreateService(spec("web", 1).into())).expect("a service");
    assert!(world.running().any(|(id, _)| id == ONE));
}
