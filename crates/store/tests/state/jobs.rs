//! Jobs and crons: what runs, what ends, and what is decided once.

use std::{sync::Arc, time::Duration};

use crate::common::{SERVICE, World, encode, load, observed, spec};
use model::{
    command::{Command, Decision, Rejection},
    cron::{Cron, CronSpec, CronStep, MAX_RUNS, Overlap, RunState},
    id::{CronId, ServiceId},
    job::{JobPolicy, JobState},
    service::{RestartPolicy, ServiceSpec},
    task::TaskState,
    time::ClusterTime,
};

const CRON: CronId = CronId(7);
const MINUTE: Duration = Duration::from_secs(60);

fn job(name: &str, completions: u32, concurrency: u32) -> ServiceSpec {
    let mut spec = spec(name, "sum:1", completions);
    spec.template.restart = RestartPolicy::retries(0);
    spec.job = Some(JobPolicy { concurrency, ..JobPolicy::default() });
    spec
}

fn with_job(completions: u32, concurrency: u32) -> World {
    let mut world = World::with_nodes(&[1, 2]);
    world.create(job("sum", completions, concurrency));
    world
}

fn end(world: &mut World, state: JobState) -> Result<(), Rejection> {
    let (service, expected) = (SERVICE, world.generation());
    world.decide(Decision::EndJob { service, expected, state, message: String::new() })
}

#[test]
fn a_slot_that_completed_is_never_filled_again_and_no_more_run_than_may() {
    let mut world = with_job(3, 2);
    world.fill(11, 1, Some(1)).expect("room for two");
    world.fill(12, 2, Some(2)).expect("room for two");
    assert!(
        matches!(world.fill(13, 3, Some(1)), Err(Rejection::Conflict(why)) if why.contains("all that may"))
    );
    world.report(11, observed(TaskState::Completed, 1));
    assert!(matches!(world.fill(14, 1, Some(1)), Err(Rejection::Conflict(why)) if why.contains("completed")));
    world.fill(13, 3, Some(1)).expect("one has ended");
}

#[test]
fn a_job_is_complete_when_every_slot_is_and_then_for_good() {
    let mut world = with_job(2, 0);
    world.fill(11, 1, Some(1)).expect("a free slot");
    world.report(11, observed(TaskState::Completed, 1));
    assert!(end(&mut world, JobState::Complete).is_err(), "slot 2 is missing");
    assert!(end(&mut world, JobState::Running).is_err(), "that is no end");
    world.fill(12, 2, Some(2)).expect("a free slot");
    world.report(12, observed(TaskState::Completed, 1));
    end(&mut world, JobState::Complete).expect("all have completed");
    assert!(end(&mut world, JobState::Failed).is_err(), "it has ended");
    assert!(world.fill(13, 1, Some(1)).is_err());
    let status = world.service().job.clone().expect("a job");
    assert_eq!((status.state, status.ended.is_some()), (JobState::Complete, true));
}

#[test]
fn a_job_never_changes_and_a_service_never_becomes_one() {
    let mut world = with_job(2, 0);
    let change = |world: &World, spec: ServiceSpec| Command::UpdateService {
        id: SERVICE,
        expected: world.generation(),
        spec: Arc::new(spec),
        note: Default::default(),
    };
    for spec in [job("sum", 3, 0), job("sum", 2, 1), spec("sum", "sum:1", 2)] {
        let refused = change(&world, spec);
        assert!(matches!(world.refused(refused), Rejection::Invalid(why) if why.contains("never changes")));
    }
    assert!(matches!(world.refused(Command::ScaleServices(vec![(SERVICE, 5)])), Rejection::Invalid(_)));
    let mut world = World::with_nodes(&[1]);
    world.create(spec("sum", "sum:1", 2));
    let refused = change(&world, job("sum", 2, 0));
    assert!(matches!(world.refused(refused), Rejection::Invalid(why) if why.contains("cannot become")));
}

fn declared(overlap: Overlap) -> CronSpec {
    CronSpec {
        name: "sync".into(),
        schedule: "* * * * *".into(),
        job: Arc::new(job("", 1, 0)),
        overlap,
        ..CronSpec::default()
    }
}

fn with_cron(overlap: Overlap) -> World {
    let mut world = World::with_nodes(&[1]);
    let next = Some(first(&world));
    world.done(Command::SetCron { id: CRON, spec: Arc::new(declared(overlap)), next });
    world
}

/// The first whole minute after the present.
fn first(world: &World) -> ClusterTime {
    ClusterTime((world.store.time().0 / 60_000_000 + 1) * 60_000_000)
}

fn cron(world: &World) -> &Cron {
    world.store.cron(CRON).expect("the cron")
}

fn decide(world: &mut World, due: ClusterTime, step: CronStep) -> Result<(), Rejection> {
    let expected = cron(world).generation;
    world.decide(Decision::RunCron { cron: CRON, expected, due, next: Some(due + MINUTE), step })
}

fn start(job: u64, replaces: Vec<ServiceId>) -> CronStep {
    CronStep::Start { job: ServiceId(job), replaces, message: String::new() }
}

fn skip() -> CronStep {
    CronStep::Skip { message: "why not".into() }
}

#[test]
fn a_time_is_decided_once_whoever_decides_and_whatever_for() {
    let mut world = with_cron(Overlap::Allow);
    let due = first(&world);
    let old = cron(&world).generation;
    decide(&mut world, due, start(50, vec![])).expect("it is due");
    assert!(decide(&mut world, due, start(51, vec![])).is_err(), "the same time");
    assert!(decide(&mut world, ClusterTime(due.0 - 1), skip()).is_err(), "an earlier one");
    let stale = Decision::RunCron { cron: CRON, expected: old, due: due + MINUTE, next: None, step: skip() };
    assert!(matches!(world.decide(stale), Err(Rejection::Stale { .. })), "on an older look");
    let runs = &cron(&world).runs;
    assert_eq!((runs.len(), runs[0].state), (1, RunState::Running));
    let job = world.store.service(ServiceId(50)).expect("its job");
    assert_eq!(job.spec.name, format!("sync-{}", due.0 / 60_000_000));
    decide(&mut world, due + MINUTE, skip()).expect("the next time");
}

#[test]
fn the_end_of_a_job_is_in_the_history_of_its_cron_and_a_replaced_one_has_failed() {
    let mut world = with_cron(Overlap::Replace);
    let due = first(&world);
    decide(&mut world, due, start(50, vec![])).expect("it is due");
    decide(&mut world, due + MINUTE, start(51, vec![ServiceId(50)])).expect("it is due");
    let state = |world: &World| cron(world).runs.iter().map(|run| run.state).collect::<Vec<_>>();
    assert_eq!(state(&world), [RunState::Failed, RunState::Running]);
    assert!(cron(&world).runs[0].message.contains("replaced by sync-"));
    world.done(Command::RemoveService { id: ServiceId(51) });
    assert_eq!(state(&world), [RunState::Failed, RunState::Failed]);
}

#[test]
fn a_run_that_cannot_be_made_has_failed_and_the_next_time_comes_all_the_same() {
    let mut world = with_cron(Overlap::Allow);
    let due = first(&world);
    world.create(spec(&cron(&world).spec.job_name(due), "taken:1", 1));
    decide(&mut world, due, start(50, vec![])).expect("decided");
    let cron = cron(&world);
    assert_eq!((cron.runs[0].state, cron.next), (RunState::Failed, Some(due + MINUTE)));
    assert!(cron.runs[0].message.contains("exists already"), "{}", cron.runs[0].message);
}

#[test]
fn a_run_on_request_waits_for_nobody_only_where_runs_may_overlap() {
    let mut world = with_cron(Overlap::Forbid);
    world.done(Command::RunCron { id: CRON, job: ServiceId(50) });
    let refused = world.refused(Command::RunCron { id: CRON, job: ServiceId(51) });
    assert!(matches!(refused, Rejection::Conflict(why) if why.contains("goes on")));
    let mut world = with_cron(Overlap::Allow);
    world.done(Command::RunCron { id: CRON, job: ServiceId(50) });
    world.done(Command::RunCron { id: CRON, job: ServiceId(51) });
    assert_eq!(world.store.running_jobs(cron(&world)).count(), 2);
}

#[test]
fn a_crons_history_is_bounded_and_survives_a_snapshot() {
    let mut world = with_cron(Overlap::Allow);
    let due = first(&world);
    decide(&mut world, due, start(50, vec![])).expect("it is due");
    for minute in 1..=2 * MAX_RUNS as u32 {
        decide(&mut world, due + MINUTE * minute, skip()).expect("a later time");
    }
    let runs = &cron(&world).runs;
    assert_eq!(runs.len(), MAX_RUNS);
    assert!(runs[0].job.is_some(), "what still runs is not forgotten");
    let again = load(&encode(&world.store));
    assert_eq!(again.cron(CRON), world.store.cron(CRON));
    assert_eq!(again.hash(), world.store.hash());
    world.store.check().expect("consistent");
}

#[test]
fn a_cron_that_is_declared_anew_owes_nothing_for_before() {
    let mut world = with_cron(Overlap::Allow);
    let due = first(&world);
    decide(&mut world, due + 5 * MINUTE, skip()).expect("a later time");
    let spec = CronSpec { suspended: true, ..declared(Overlap::Allow) };
    world.done(Command::SetCron { id: CronId(8), spec: Arc::new(spec), next: None });
    assert_eq!((cron(&world).next, world.store.crons().count()), (None, 1), "under its old id");
    assert_eq!(cron(&world).decided, world.store.time());
    world.done(Command::RemoveCron { id: CRON });
    assert_eq!(world.store.crons().count(), 0);
}
