//! Releases: what the history says, which way back there is, and who may take a place.

use std::sync::Arc;

use crate::common::{SERVICE, World, spec};
use model::{
    command::{Command, Decision, Entry, Rejection},
    id::RequestId,
    identity::{Identity, Role},
    service::{
        CanaryPolicy, ImagePin, ReleaseNote, ReleaseResult, RolloutState, RolloutStep, Service, ServiceSpec,
        TemplateVersion,
    },
};
use store::Store;

fn world() -> World {
    let mut world = World::new();
    world.create(spec("web", "web:1", 3));
    world
}

fn results(service: &Service) -> Vec<ReleaseResult> {
    service.releases.iter().map(|release| release.result).collect()
}

fn rollback(to: u64) -> Command {
    Command::RollbackService { id: SERVICE, to: Some(TemplateVersion(to)), note: ReleaseNote::default() }
}

fn pinned(world: &mut World, release: u64, digest: &str) {
    let pin = ImagePin::Digest(format!("web@sha256:{digest}"));
    world.done(Command::PinImage { service: SERVICE, template: TemplateVersion(release), pin });
}

fn reach(world: &mut World, state: RolloutState) {
    let mut rollout = world.service().rollout.clone().expect("a rollout");
    rollout.state = state;
    let expected = world.generation();
    world.decide(Decision::SetRollout { service: SERVICE, expected, rollout }).expect("the cursor moves");
}

fn update(world: &mut World, image: &str, note: ReleaseNote) -> Result<(), Rejection> {
    let command = Command::UpdateService {
        id: SERVICE,
        expected: world.generation(),
        spec: Arc::new(spec("web", image, 3)),
        note,
    };
    world.apply(command).outcome.map(drop)
}

fn steer(step: RolloutStep) -> impl Fn(&World) -> Command {
    move |world| Command::SteerRollout { id: SERVICE, release: world.service().template, step }
}

#[test]
fn history_tells_who_brought_what_for_which_job_and_what_became_of_it() {
    let mut world = world();
    let ann = Identity::Operator { name: "ann".into(), role: Role::Admin };
    let note = ReleaseNote { job: "https://ci.example/7".into(), ..ReleaseNote::default() };
    let expected = world.generation();
    let changed = Arc::new(spec("web", "web:2", 3));
    let command = Command::UpdateService { id: SERVICE, expected, spec: changed.clone(), note };
    let entry = Entry { actor: ann.clone(), ..world.entry(command) };
    world.apply_entry(&entry).outcome.expect("accepted");
    let newest = world.service().releases.last().expect("a release").clone();
    assert_eq!((newest.number, &newest.by, newest.ended), (TemplateVersion(2), &Some(ann), None));
    assert_eq!((newest.job.as_str(), &newest.spec), ("https://ci.example/7", &changed));
    assert_eq!(results(world.service()), [ReleaseResult::Done, ReleaseResult::Running]);

    reach(&mut world, RolloutState::Paused);
    assert_eq!(results(world.service())[1], ReleaseResult::Paused);
    update(&mut world, "web:3", ReleaseNote::default()).expect("accepted");
    reach(&mut world, RolloutState::Done);
    let newest = world.service().releases.last().expect("a release");
    assert!(newest.ended.is_some_and(|ended| ended > newest.at));
    assert_eq!(
        results(world.service()),
        [ReleaseResult::Done, ReleaseResult::Superseded, ReleaseResult::Done]
    );
}

#[test]
fn any_kept_release_can_be_returned_to_with_its_digest_and_older_ones_are_forgotten() {
    let mut world = World::new();
    let with_history = |image: &str| {
        let mut spec = spec("web", image, 3);
        spec.update.history = 3;
        spec
    };
    world.create(with_history("web:1"));
    pinned(&mut world, 1, "aa");
    for (number, digest) in [(2, "bb"), (3, "cc")] {
        world.update(with_history(&format!("web:{number}")));
        pinned(&mut world, number, digest);
        reach(&mut world, RolloutState::Done);
    }
    world.done(Command::ScaleServices(vec![(SERVICE, 9)]));
    world.refused(rollback(3));
    world.refused(rollback(7));
    world.done(rollback(1));
    let service = world.service();
    assert_eq!(
        *service.spec,
        ServiceSpec { mode: model::service::Mode::Replicated(9), ..with_history("web:1") }
    );
    let pin = ImagePin::Digest("web@sha256:aa".into());
    assert_eq!(service.pins.get(&TemplateVersion(4)), Some(&pin), "no registry is asked");
    assert_eq!(service.releases.last().and_then(|r| r.returns_to), Some(TemplateVersion(1)));
    assert_eq!(
        results(service),
        [ReleaseResult::Done, ReleaseResult::RolledBack, ReleaseResult::Running],
        "the first one is forgotten, the one that was left is marked"
    );
    reach(&mut world, RolloutState::RolledBack);
    let refusal = world.refused(rollback(1)).to_string();
    assert!(refusal.contains("no release 1") && refusal.contains("2, 3, 4"), "{refusal}");
    assert!(!world.service().pins.contains_key(&TemplateVersion(1)), "its pin goes with it");
}

#[test]
fn of_two_deployments_that_saw_one_release_the_second_is_refused() {
    let mut world = world();
    let after = |release| ReleaseNote { after: Some(TemplateVersion(release)), ..ReleaseNote::default() };
    update(&mut world, "web:2", after(1)).expect("the first");
    let refusal = update(&mut world, "web:3", after(1)).expect_err("the second").to_string();
    assert!(refusal.contains("release 2 by anonymous"), "{refusal}");
    assert_eq!(world.service().spec.template.container.image, "web:2");
}

#[test]
fn steps_are_taken_once_and_only_when_it_is_their_time() {
    let mut world = world();
    let [pause, resume, abort, promote] =
        [RolloutStep::Pause, RolloutStep::Resume, RolloutStep::Abort, RolloutStep::Promote].map(steer);
    world.refused(pause(&world));
    let note = ReleaseNote { canary: Some(CanaryPolicy::default()), ..ReleaseNote::default() };
    update(&mut world, "web:2", note).expect("accepted");
    world.refused(promote(&world));
    let stale = Command::SteerRollout { id: SERVICE, release: TemplateVersion(1), step: RolloutStep::Abort };
    world.refused(stale);

    let command = pause(&world);
    world.retry(5, command.clone());
    let paused = world.store.objects_hash();
    assert!(world.retry(5, command).replay);
    world.done(pause(&world));
    assert_eq!(world.store.objects_hash(), paused, "paused is paused");
    world.done(resume(&world));
    assert_eq!(world.service().rollout.as_ref().map(|r| r.state), Some(RolloutState::Updating));

    reach(&mut world, RolloutState::AwaitingPromotion);
    world.done(promote(&world));
    assert!(world.service().rollout.as_ref().is_some_and(|rollout| rollout.holding().is_none()));
    world.done(promote(&world));

    world.done(abort(&world));
    let service = world.service();
    assert_eq!(service.spec.template.container.image, "web:1");
    assert_eq!(results(service), [ReleaseResult::Done, ReleaseResult::Aborted, ReleaseResult::Running]);
    world.done(abort(&world));
    assert_eq!(world.service().template, TemplateVersion(3), "it is on its way back already");

    // What a person stopped goes on where it was going: back.
    world.done(pause(&world));
    world.refused(abort(&world));
    world.done(resume(&world));
    assert_eq!(world.service().rollout.as_ref().map(|r| r.state), Some(RolloutState::RollingBack));
}

#[test]
fn request_of_a_step_that_is_sent_again_is_applied_once() {
    let mut world = world();
    update(&mut world, "web:2", ReleaseNote::default()).expect("accepted");
    let abort = steer(RolloutStep::Abort)(&world);
    let entry = Entry { request: Some(RequestId(9)), ..world.entry(abort) };
    let first = world.apply_entry(&entry).outcome;
    assert_eq!(world.apply_entry(&entry).outcome, first);
    assert_eq!(world.service().template, TemplateVersion(3));
}

#[test]
fn state_without_releases_is_read_and_begins_to_keep_them() {
    let mut world = world();
    update(&mut world, "web:2", ReleaseNote::default()).expect("accepted");
    let mut tree = serde_json::to_value(&world.store).expect("a state");
    let service = tree["services"][0].as_object_mut().expect("a service");
    service.remove("releases").expect("there are some");
    let policy = service["spec"]["update"].as_object_mut().expect("a policy");
    for field in ["max_failures", "deadline", "canary", "history"] {
        policy.remove(field).expect("it was there");
    }
    world.store = serde_json::from_value::<Store>(tree).expect("what 0.1.0 wrote");
    assert_eq!(world.service().releases, []);
    reach(&mut world, RolloutState::Done);
    world.done(Command::RollbackService { id: SERVICE, to: None, note: ReleaseNote::default() });
    assert_eq!(results(world.service()), [ReleaseResult::Running]);
}
