//! Services: declarations, templates, pins, rollbacks, removal.

use std::sync::Arc;

use crate::common::{SERVICE, World, observed, spec};
use model::{
    command::{Answer, Command, Decision, Rejection},
    id::{Generation, ServiceId},
    service::{ImagePin, Mode, RolloutState, TemplateVersion},
    task::TaskState,
};

const V1: TemplateVersion = TemplateVersion(1);
const V2: TemplateVersion = TemplateVersion(2);
const V3: TemplateVersion = TemplateVersion(3);

fn world() -> World {
    let mut world = World::with_nodes(&[1, 2]);
    world.create(spec("web", "web:1", 3));
    world
}

fn pin(digest: &str) -> ImagePin {
    ImagePin::Digest(digest.into())
}

#[test]
fn a_name_is_taken_once() {
    let mut world = world();
    let again = Command::CreateService { id: ServiceId(101), spec: Arc::new(spec("web", "web:2", 1)) };
    assert!(matches!(world.refused(again), Rejection::Exists { .. }));
}

#[test]
fn an_update_on_an_old_view_is_refused_and_names_both_versions() {
    let mut world = world();
    let old = world.generation();
    world.update(spec("web", "web:2", 3));
    let stale = Command::UpdateService {
        id: SERVICE,
        expected: old,
        spec: Arc::new(spec("web", "web:9", 3)),
        note: Default::default(),
    };
    let Rejection::Stale { expected, actual, .. } = world.refused(stale) else { panic!("not stale") };
    assert_eq!((expected, actual), (old, world.generation()));
}

#[test]
fn a_changed_template_gets_a_number_and_a_rollout_and_a_changed_count_gets_neither() {
    let mut world = world();
    world.update(spec("web", "web:1", 5));
    assert_eq!((world.service().template, &world.service().rollout), (V1, &None));
    world.update(spec("web", "web:2", 5));
    let service = world.service();
    let rollout = service.rollout.as_ref().expect("a rollout");
    assert_eq!((service.template, rollout.target, rollout.from), (V2, V2, Some(V1)));
    assert_eq!(rollout.state, RolloutState::Updating);
}

#[test]
fn the_same_declaration_again_changes_nothing() {
    let mut world = world();
    let (before, generation) = (world.store.objects_hash(), world.generation());
    let same = Command::UpdateService {
        id: SERVICE,
        expected: generation,
        spec: Arc::new(spec("web", "web:1", 3)),
        note: Default::default(),
    };
    let applied = world.done(same);
    assert_eq!(applied.outcome, Ok(Answer::Service { id: SERVICE, generation }));
    assert_eq!(world.store.objects_hash(), before);
}

#[test]
fn a_service_keeps_its_name_and_its_mode() {
    let mut world = world();
    let expected = world.generation();
    let renamed = Arc::new(spec("shop", "web:1", 3));
    world.refused(Command::UpdateService { id: SERVICE, expected, spec: renamed, note: Default::default() });
    let mut global = spec("web", "web:1", 3);
    global.mode = Mode::Global;
    world.refused(Command::UpdateService {
        id: SERVICE,
        expected,
        spec: Arc::new(global),
        note: Default::default(),
    });
}

#[test]
fn scaling_is_all_or_none() {
    let mut world = world();
    let other = ServiceId(101);
    world.done(Command::CreateService { id: other, spec: Arc::new(spec("shop", "shop:1", 1)) });
    world.refused(Command::ScaleServices(vec![(SERVICE, 9), (ServiceId(999), 1)]));
    world.refused(Command::ScaleServices(vec![(SERVICE, 9), (SERVICE, 8)]));
    assert_eq!(world.service().spec.mode, Mode::Replicated(3));
    world.done(Command::ScaleServices(vec![(SERVICE, 9), (other, 2)]));
    assert_eq!(world.service().spec.mode, Mode::Replicated(9));
    let before = world.store.objects_hash();
    world.done(Command::ScaleServices(vec![(SERVICE, 9)]));
    assert_eq!(world.store.objects_hash(), before, "a count that holds already changes nothing");
}

#[test]
fn a_rollback_returns_to_the_older_contents_and_digest_and_keeps_the_present_count() {
    let mut world = world();
    world.done(Command::PinImage { service: SERVICE, template: V1, pin: pin("web@sha256:aa") });
    world.update(spec("web", "web:2", 3));
    world.done(Command::PinImage { service: SERVICE, template: V2, pin: pin("web@sha256:bb") });
    world.done(Command::ScaleServices(vec![(SERVICE, 10)]));
    world.done(Command::RollbackService { id: SERVICE, to: None, note: Default::default() });

    let service = world.service();
    assert_eq!(*service.spec, spec("web", "web:1", 10));
    assert_eq!((service.template, service.pins.get(&V3)), (V3, Some(&pin("web@sha256:aa"))));
    let rollout = service.rollout.as_ref().expect("a rollout");
    assert_eq!((rollout.state, rollout.target, rollout.from), (RolloutState::RollingBack, V3, Some(V2)));
}

#[test]
fn a_second_rollback_during_the_first_is_refused_and_after_it_goes_forward_again() {
    let mut world = world();
    world.update(spec("web", "web:2", 3));
    world.done(Command::RollbackService { id: SERVICE, to: None, note: Default::default() });
    world.refused(Command::RollbackService { id: SERVICE, to: None, note: Default::default() });
    let mut rollout = world.service().rollout.clone().expect("a rollout");
    rollout.state = RolloutState::RolledBack;
    let expected = world.generation();
    world.decide(Decision::SetRollout { service: SERVICE, expected, rollout }).expect("the cursor moves");
    world.done(Command::RollbackService { id: SERVICE, to: None, note: Default::default() });
    assert_eq!(world.service().spec.template.container.image, "web:2");
}

#[test]
fn an_automatic_rollback_cannot_be_undone_by_a_hasty_one() {
    let mut world = world();
    world.refused(Command::RollbackService { id: SERVICE, to: None, note: Default::default() });
    world.update(spec("web", "web:2", 3));
    let expected = world.generation();
    let reason = "slot 2 did not become healthy".to_owned();
    world
        .decide(Decision::RollBack { service: SERVICE, expected, reason: reason.clone() })
        .expect("rolls back");
    assert_eq!(world.service().spec.template.container.image, "web:1");
    assert_eq!(world.service().rollout.as_ref().map(|rollout| rollout.message.clone()), Some(reason));
    let mut rollout = world.service().rollout.clone().expect("a rollout");
    rollout.state = RolloutState::RolledBack;
    let expected = world.generation();
    world.decide(Decision::SetRollout { service: SERVICE, expected, rollout }).expect("the cursor moves");
    world.refused(Command::RollbackService { id: SERVICE, to: None, note: Default::default() });
}

#[test]
fn a_task_of_the_older_number_is_current_after_a_rollback_to_its_contents() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    assert!(world.store.is_current(world.task(11)));
    world.update(spec("web", "web:2", 3));
    assert!(!world.store.is_current(world.task(11)));
    world.done(Command::RollbackService { id: SERVICE, to: None, note: Default::default() });
    assert!(world.store.is_current(world.task(11)), "it need not be replaced");
}

#[test]
fn the_first_meaning_of_a_tag_holds() {
    let mut world = world();
    world.done(Command::PinImage { service: SERVICE, template: V1, pin: pin("web@sha256:aa") });
    world.done(Command::PinImage { service: SERVICE, template: V1, pin: pin("web@sha256:bb") });
    assert_eq!(world.service().pins[&V1], pin("web@sha256:aa"));
    world.refused(Command::PinImage { service: SERVICE, template: V2, pin: pin("web@sha256:bb") });
}

#[test]
fn templates_stay_while_a_task_carries_them_or_a_rollback_may_need_them() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    world.update(spec("web", "web:2", 3));
    world.update(spec("web", "web:3", 3));
    let kept = |world: &World| world.service().templates.keys().copied().collect::<Vec<_>>();
    assert_eq!(kept(&world), [V1, V2, V3], "carried, previous, newest");
    world.report(11, observed(TaskState::Failed, 1));
    world.reap(11).expect("ended");
    assert_eq!(kept(&world), [V2, V3]);
}

#[test]
fn a_cursor_is_set_on_the_view_it_was_decided_on_and_for_the_newest_template_only() {
    let mut world = world();
    world.update(spec("web", "web:2", 3));
    let expected = world.generation();
    let rollout = world.service().rollout.clone().expect("a rollout");
    let mut other = rollout.clone();
    other.target = V1;
    assert!(world.decide(Decision::SetRollout { service: SERVICE, expected, rollout: other }).is_err());
    let old = Generation(expected.0 - 1);
    assert!(
        world
            .decide(Decision::SetRollout { service: SERVICE, expected: old, rollout: rollout.clone() })
            .is_err()
    );
    world.decide(Decision::SetRollout { service: SERVICE, expected, rollout }).expect("the same again");
    assert_eq!(world.generation(), expected, "which changes nothing");
}

#[test]
fn a_service_goes_at_once_without_tasks_and_after_them_otherwise() {
    let mut world = world();
    world.fill(11, 1, Some(1)).expect("fills");
    world.done(Command::RemoveService { id: SERVICE });
    assert!(world.service().removing);
    assert!(world.fill(12, 2, Some(1)).is_err(), "no new task");
    let again = Command::CreateService { id: ServiceId(101), spec: Arc::new(spec("web", "web:1", 1)) };
    assert!(world.refused(again).to_string().contains("is being removed"));
    let drop = |world: &mut World| {
        let expected = world.generation();
        world.decide(Decision::DropService { service: SERVICE, expected })
    };
    assert!(drop(&mut world).is_err(), "a task is left");
    world.stop(11);
    world.report(11, observed(TaskState::Stopped, 1));
    world.reap(11).expect("ended");
    drop(&mut world).expect("nothing is left");
    assert!(world.store.service_by_name("web").is_none());

    world.create(spec("web", "web:1", 1));
    world.done(Command::RemoveService { id: SERVICE });
    assert!(world.store.service(SERVICE).is_none());
}

#[test]
fn a_service_that_nobody_removed_is_not_dropped() {
    let mut world = world();
    let expected = world.generation();
    assert!(world.decide(Decision::DropService { service: SERVICE, expected }).is_err());
}
