//! Deploy tokens at the moment that counts, when an entry is applied: nothing of one that was removed or has expired, and
//! nothing beyond the image of its one service (invariant I21).

use std::sync::Arc;

use crate::common::{SERVICE, STEP, World, encode, load, spec};
use model::{
    command::{Answer, Command, Entry, Rejection},
    deployer::{DeployTokenSpec, DeployVerb, MAX_DEPLOY_TOKENS, TokenDigest},
    id::{DeployTokenId, Generation, RequestId, ServiceId},
    identity::Identity,
    node::NodeSpec,
    service::{ReleaseNote, RolloutStep, ServiceSpec, TemplateVersion},
    time::ClusterTime,
};
use store::Applied;

const ID: DeployTokenId = DeployTokenId(9);
const OTHER: ServiceId = ServiceId(101);

fn bearer() -> Identity {
    Identity::Deployer { id: ID, name: "ci".into(), job: None }
}

fn create(id: u64, name: &str, expires: ClusterTime) -> Command {
    let spec = DeployTokenSpec {
        name: name.into(),
        service: "web".into(),
        image: "reg.example/web".into(),
        allow: DeployVerb::ALL.into(),
    };
    Command::CreateDeployToken { id: DeployTokenId(id), spec, digest: TokenDigest([7; 32]), expires }
}

fn world() -> World {
    let mut world = World::new();
    world.create(spec("web", "reg.example/web:1", 3));
    let other = Arc::new(spec("api", "reg.example/web:1", 1));
    world.done(Command::CreateService { id: OTHER, spec: other });
    let expires = ClusterTime(world.now.0 + 1_000 * STEP);
    world.done(create(ID.0, "ci", expires));
    world
}

fn entry(world: &World, command: Command) -> Entry {
    Entry { actor: bearer(), ..world.entry(command) }
}

fn by_bearer(world: &mut World, command: Command) -> Applied {
    let entry = entry(world, command);
    world.apply_entry(&entry)
}

fn update(world: &World, id: ServiceId, change: impl FnOnce(&mut ServiceSpec)) -> Command {
    let service = world.store.service(id).expect("a service");
    let mut spec = (*service.spec).clone();
    change(&mut spec);
    let (expected, note) = (service.generation, ReleaseNote::default());
    Command::UpdateService { id, expected, spec: Arc::new(spec), note }
}

fn deploy(world: &World, image: &str) -> Command {
    update(world, SERVICE, |spec| spec.template.container.image = image.into())
}

fn unwelcome(world: &mut World, command: Command, why: &str) {
    let before = world.store.objects_hash();
    let applied = by_bearer(world, command);
    assert_eq!(world.store.objects_hash(), before, "a refusal changed something");
    match applied.outcome {
        Err(Rejection::Unwelcome(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_of_the_repository_is_brought_and_the_token_remembers_its_use() {
    let mut world = world();
    let command = deploy(&world, "reg.example/web:2");
    by_bearer(&mut world, command).outcome.expect("accepted");
    assert_eq!(world.service().spec.template.container.image, "reg.example/web:2");
    let newest = world.service().releases.last().expect("a release");
    assert_eq!(newest.by, Some(bearer()));
    assert_eq!(newest.by.as_ref().map(ToString::to_string).as_deref(), Some("deploy token ci"));
    assert_eq!(world.store.deploy_token(ID).expect("it").used, Some(newest.at));
    assert_eq!(load(&encode(&world.store)).hash(), world.store.hash());
}

#[test]
fn nothing_of_a_removed_or_expired_token_is_applied() {
    let mut removed = world();
    removed.done(Command::RemoveDeployToken { name: "ci".into() });
    let command = deploy(&removed, "reg.example/web:2");
    unwelcome(&mut removed, command, "was removed");
    // The name again is another token.
    let later = ClusterTime(removed.now.0 + 1_000 * STEP);
    removed.done(create(10, "ci", later));
    let command = deploy(&removed, "reg.example/web:2");
    unwelcome(&mut removed, command, "was removed");

    let mut expired = world();
    expired.now = expired.store.deploy_token(ID).expect("it").expires;
    let command = deploy(&expired, "reg.example/web:2");
    unwelcome(&mut expired, command, "expired at");
}

#[test]
fn nothing_but_the_image_of_the_one_service_changes() {
    let mut world = world();
    let image = |spec: &mut ServiceSpec| spec.template.container.image = "reg.example/web:2".into();
    for (command, why) in [
        (update(&world, OTHER, image), "for service \"web\" only"),
        (deploy(&world, "reg.example/evil:2"), "images of reg.example/web only"),
        (
            update(&world, SERVICE, |spec| _ = spec.template.container.env.insert("A".into(), "b".into())),
            "changes container",
        ),
        (update(&world, SERVICE, |spec| spec.update.parallelism = 9), "changes update"),
        (Command::ScaleServices(vec![(SERVICE, 9)]), "nothing else"),
        (Command::RemoveService { id: SERVICE }, "nothing else"),
        (
            Command::UpdateNode { id: model::id::NodeId(1), expected: None, spec: NodeSpec::default() },
            "nothing else",
        ),
        (create(11, "mine", ClusterTime(u64::MAX)), "nothing else"),
        (
            Command::SteerRollout { id: SERVICE, release: TemplateVersion(1), step: RolloutStep::Promote },
            "nothing else",
        ),
        (
            match deploy(&world, "reg.example/web:2") {
                Command::UpdateService { id, expected, spec, .. } => {
                    let note = ReleaseNote { despite_freeze: Some("now".into()), ..ReleaseNote::default() };
                    Command::UpdateService { id, expected, spec, note }
                }
                other => other,
            },
            "freeze",
        ),
    ] {
        unwelcome(&mut world, command, why);
    }
}

#[test]
fn a_way_back_that_changes_more_than_the_image_is_an_operators() {
    let mut world = world();
    world.update(spec("web", "reg.example/web:2", 3));
    let back = |to| Command::RollbackService { id: SERVICE, to, note: ReleaseNote::default() };
    let mut env = spec("web", "reg.example/web:3", 3);
    env.template.container.env.insert("A".into(), "b".into());
    world.update(env);
    unwelcome(&mut world, back(None), "changes container");
    unwelcome(&mut world, back(Some(TemplateVersion(1))), "changes container");
    let abort =
        Command::SteerRollout { id: SERVICE, release: world.service().template, step: RolloutStep::Abort };
    unwelcome(&mut world, abort, "changes container");
    let command = deploy(&world, "reg.example/web:4");
    by_bearer(&mut world, command).outcome.expect("accepted");
    by_bearer(&mut world, back(None)).outcome.expect("accepted");
    assert_eq!(world.service().spec.template.container.image, "reg.example/web:3");
}

#[test]
fn a_token_that_may_not_deploy_does_not() {
    let mut world = World::new();
    world.create(spec("web", "reg.example/web:1", 3));
    let mut command = create(ID.0, "ci", ClusterTime(u64::MAX));
    if let Command::CreateDeployToken { spec, .. } = &mut command {
        spec.allow = [DeployVerb::Rollback].into();
    }
    world.done(command);
    let command = deploy(&world, "reg.example/web:2");
    unwelcome(&mut world, command, "may not deploy");
}

#[test]
fn a_retry_is_answered_the_same_although_the_token_is_gone() {
    let mut world = world();
    let first = Entry { request: Some(RequestId(5)), ..entry(&world, deploy(&world, "reg.example/web:2")) };
    let answer = world.apply_entry(&first).outcome;
    world.done(Command::RemoveDeployToken { name: "ci".into() });
    let again = world.apply_entry(&first);
    assert!(again.replay);
    assert_eq!(again.outcome, answer);
}

#[test]
fn names_are_unique_and_a_token_that_has_ended_makes_room() {
    let mut world = world();
    assert!(matches!(world.refused(create(12, "ci", ClusterTime(u64::MAX))), Rejection::Exists { .. }));
    let soon = ClusterTime(world.now.0 + 500 * STEP);
    for number in 1..MAX_DEPLOY_TOKENS as u64 {
        world.done(create(1_000 + number, &format!("t{number}"), soon));
    }
    assert!(matches!(world.refused(create(12, "more", ClusterTime(u64::MAX))), Rejection::Conflict(_)));
    world.now = soon;
    let applied = world.done(create(12, "more", ClusterTime(u64::MAX)));
    assert_eq!(
        applied.outcome,
        Ok(Answer::DeployToken { id: DeployTokenId(12), expires: ClusterTime(u64::MAX) })
    );
    assert_eq!(world.store.deploy_tokens().len(), MAX_DEPLOY_TOKENS);
    assert!(world.store.deploy_token(ID).is_some(), "one that lives stays");
    assert_ne!(world.store.cluster().expect("it").generation, Generation(0));
}
