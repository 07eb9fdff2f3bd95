//! Policies in the state: what is refused when an entry is applied, whatever its proposer knew.

use std::sync::Arc;

use crate::common::{SERVICE, World, encode, load, spec};
use model::{
    command::{Command, Decision, Rejection},
    container::{Mount, MountSource},
    cron::{CronSpec, CronStep, RunState},
    id::{CronId, Generation, ServiceId},
    identity::Identity,
    job::JobPolicy,
    policy::{PolicySpec, Refusal},
    service::{Mode, ReleaseNote, RolloutState, ServiceSpec, TemplateVersion},
    time::ClusterTime,
};

fn digests_only() -> PolicySpec {
    let mut spec = PolicySpec { name: "digests".into(), ..PolicySpec::default() };
    spec.require.digest = true;
    spec.caps.replicas = 5;
    spec
}

fn set(spec: PolicySpec) -> Command {
    Command::SetPolicy { spec, expected: None }
}

fn by_digest() -> ServiceSpec {
    spec("web", &format!("web@sha256:{}", "a".repeat(64)), 3)
}

fn update(world: &World, spec: ServiceSpec) -> Command {
    let (expected, note) = (world.generation(), ReleaseNote::default());
    Command::UpdateService { id: SERVICE, expected, spec: Arc::new(spec), note }
}

fn refusal(rejection: Rejection) -> Refusal {
    match rejection {
        Rejection::Refused(refusal) => *refusal,
        other => panic!("refused by a policy, not {other}"),
    }
}

fn etc() -> ServiceSpec {
    let mut spec = by_digest();
    let source = MountSource::Bind("/etc".into());
    spec.template.container.mounts.push(Mount { source, target: "/host".into(), read_only: true });
    spec
}

#[test]
fn what_was_proposed_before_a_policy_came_is_refused_when_it_is_applied() {
    let mut world = World::new();
    let late = Command::CreateService { id: SERVICE, spec: Arc::new(spec("web", "web:1", 3)) };
    assert_eq!(world.store.admits(&Identity::Anonymous, &late), Ok(()), "the leader lets it through");
    world.done(set(digests_only()));
    assert_eq!(refusal(world.refused(late)).breaches[0].rule, "require.digest");
    world.create(by_digest());
    let late = update(&world, spec("web", "web:2", 3));
    assert_eq!(refusal(world.refused(late)).breaches[0].policy, "digests");
    let scale = |count| Command::ScaleServices(vec![(SERVICE, count)]);
    assert_eq!(refusal(world.refused(scale(6))).breaches[0].rule, "caps.replicas");
    world.done(scale(5));
}

#[test]
fn what_holds_by_default_holds_from_the_first_policy_on_and_after_the_last_one_is_gone() {
    let mut world = World::new();
    // As a version wrote it that knew of no policies: every version has to apply it alike.
    world.create(etc());
    world.done(set(digests_only()));
    world.done(Command::RemovePolicy { name: "digests".into() });
    assert_eq!(world.store.policies(), []);
    let mut again = etc();
    again.labels.insert("changed".into(), "yes".into());
    let change = update(&world, again);
    assert_eq!(refusal(world.refused(change)).breaches[0].rule, "grants.binds");
    let same = update(&world, etc());
    world.done(same);
    let checked = world.store.out_of_policy(world.store.policies());
    assert_eq!(checked.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), ["service web"]);
}

#[test]
fn a_person_returns_only_to_what_is_allowed_today_and_a_failed_release_returns_all_the_same() {
    let mut world = World::new();
    world.create(spec("web", "web:1", 3));
    world.update(by_digest());
    world.done(set(digests_only()));
    let back = |to| Command::RollbackService { id: SERVICE, to, note: ReleaseNote::default() };
    for to in [None, Some(TemplateVersion(1))] {
        assert_eq!(refusal(world.refused(back(to))).breaches[0].rule, "require.digest");
    }
    let expected = world.generation();
    world
        .decide(Decision::RollBack { service: SERVICE, expected, reason: "failed".into() })
        .expect("it returns");
    assert_eq!(world.service().spec.template.container.image, "web:1");
    assert_eq!(
        world.service().rollout.as_ref().map(|rollout| rollout.state),
        Some(RolloutState::RollingBack)
    );
}

#[test]
fn a_cron_is_judged_when_it_is_set_and_at_each_of_its_times_by_its_own_name() {
    let mut world = World::new();
    let mut job = spec("", "job:1", 1);
    job.job = Some(JobPolicy::default());
    let declare = |suspended| {
        let name = "sync".to_owned();
        let spec = CronSpec {
            name,
            schedule: "@daily".into(),
            job: Arc::new(job.clone()),
            suspended,
            ..CronSpec::default()
        };
        Command::SetCron { id: CronId(5), spec: Arc::new(spec), next: None }
    };
    world.done(declare(false));
    world.done(set(digests_only()));
    let by_hand = Command::RunCron { id: CronId(5), job: ServiceId(7) };
    assert!(refusal(world.refused(by_hand.clone())).what.contains("may not run job \"sync\""));
    let cron = |world: &World| world.store.cron(CronId(5)).expect("the cron").clone();
    let due = ClusterTime(world.now.0 + 1);
    let step = CronStep::Start { job: ServiceId(8), replaces: Vec::new(), message: String::new() };
    let (cron_id, expected) = (CronId(5), cron(&world).generation);
    world
        .decide(Decision::RunCron { cron: cron_id, expected, due, next: None, step })
        .expect("its time has come");
    let run = cron(&world).runs.pop().expect("a run");
    assert!(run.state == RunState::Failed && run.message.contains("require.digest"), "{run:?}");
    let mut other = declare(false);
    if let Command::SetCron { spec, .. } = &mut other {
        Arc::make_mut(spec).schedule = "@hourly".into();
    }
    assert_eq!(refusal(world.refused(other)).breaches[0].rule, "require.digest");
    world.done(declare(true));
    let mut lenient = digests_only();
    lenient.services.except = vec!["sync".into()];
    world.done(set(lenient));
    world.done(declare(false));
    world.done(by_hand);
}

#[test]
fn who_saw_an_older_policy_does_not_undo_what_came_since() {
    let mut world = World::new();
    let set_at = |spec: PolicySpec, at| Command::SetPolicy { spec, expected: Some(Generation(at)) };
    world.done(set_at(digests_only(), 0));
    let first = world.store.policies()[0].generation;
    let mut more = digests_only();
    more.forbid.ports = vec!["22".parse().expect("a port")];
    assert!(matches!(world.refused(set_at(more.clone(), 0)), Rejection::Stale { .. }));
    world.done(set_at(more, first.0));
    assert!(matches!(world.refused(set_at(digests_only(), first.0)), Rejection::Stale { .. }));
    assert!(matches!(
        world.refused(Command::RemovePolicy { name: "none".into() }),
        Rejection::Missing { .. }
    ));
}

#[test]
fn policies_survive_a_snapshot_and_are_bounded() {
    let mut world = World::new();
    for number in 0..model::policy::MAX_POLICIES {
        world.done(set(PolicySpec { name: format!("p{number}"), ..PolicySpec::default() }));
    }
    let one_more = PolicySpec { name: "more".into(), ..PolicySpec::default() };
    assert!(matches!(world.refused(set(one_more)), Rejection::Conflict(_)));
    let loaded = load(&encode(&world.store));
    assert_eq!(loaded.policies(), world.store.policies());
    assert_eq!(loaded.objects_hash(), world.store.objects_hash());
}

#[test]
fn what_an_admitted_declaration_still_needs_is_made_whatever_the_policies_say_now() {
    let mut world = World::with_nodes(&[1]);
    world.create(spec("web", "web:1", 3));
    world.fill(1, 1, Some(1)).expect("placed");
    let mut none = digests_only();
    none.caps.replicas = 1;
    world.done(set(none));
    world.fill(2, 2, Some(1)).expect("placed although it would be refused today");
    assert_eq!(world.service().spec.mode, Mode::Replicated(3));
}
