//! Managers that join where an administrator has to approve them.

use model::{
    cluster::ClusterSettings,
    identity::{Identity, JoinRole},
    request::{ApiError, ErrorCode, JoinerView, Request, Response},
};

use crate::world::{ONE, World, admin};

fn approval(world: &mut World, on: bool) {
    let settings = world.store(ONE).cluster().expect("founded").settings.clone();
    world.admin(Request::SetSettings(ClusterSettings { approve_managers: on, ..settings }));
}

fn waiting(world: &mut World) -> Vec<JoinerView> {
    match world.insist(admin(), Request::ListJoiners) {
        Ok(Response::Joiners(views)) => views,
        other => panic!("{other:?}"),
    }
}

fn judge(world: &mut World, joiner: &str, approve: bool) -> Result<Response, ApiError> {
    world.insist(admin(), Request::JudgeJoiner { joiner: joiner.into(), approve })
}

/// A joiner, told to wait, with the fingerprint that it shows.
fn told_to_wait(world: &mut World, name: &str) -> ((Identity, Request), String) {
    let (identity, request) = world.join_request(JoinRole::Manager, name, &format!("{name}:7420"));
    let answer = world.insist(identity.clone(), request.clone()).expect("no refusal");
    let Response::Waits { fingerprint } = answer else { panic!("{answer:?}") };
    ((identity, request), fingerprint)
}

#[test]
fn a_manager_waits_and_joins_when_it_is_approved_under_the_fingerprint_that_both_sides_show() {
    let mut world = World::new(51);
    approval(&mut world, true);
    let ((identity, request), fingerprint) = told_to_wait(&mut world, "m2");
    let Request::Join(join) = &request else { panic!("{request:?}") };
    assert_eq!(fingerprint, join.fingerprint());
    let views = waiting(&mut world);
    assert_eq!((views.len(), views[0].name.as_str()), (1, "m2"));
    assert_eq!(views[0].fingerprint, fingerprint);
    assert_eq!(world.store(ONE).members().count(), 1);
    judge(&mut world, "m2", true).expect("approved");
    let joined = world.insist(identity, request).expect("admitted");
    assert!(matches!(joined, Response::Joined { member: Some(_), .. }), "{joined:?}");
    assert!(waiting(&mut world).is_empty());
}

#[test]
fn a_manager_that_is_denied_is_told_so_and_nodes_and_others_do_not_wait() {
    let mut world = World::new(52);
    approval(&mut world, true);
    world.join_node();
    let ((identity, request), fingerprint) = told_to_wait(&mut world, "m2");
    let unknown = judge(&mut world, "m9", true).expect_err("nobody");
    assert!(unknown.code == ErrorCode::NotFound && unknown.message.contains("manager pending"), "{unknown}");
    judge(&mut world, &fingerprint[..9], false).expect("denied");
    let refused = world.insist(identity, request).expect_err("denied");
    assert!(refused.code == ErrorCode::Denied && refused.message.contains("denied it"), "{refused}");
    assert_eq!(world.store(ONE).members().count(), 1);
}

#[test]
fn who_does_not_ask_again_waits_no_more_and_without_the_setting_nobody_does() {
    let mut world = World::new(53);
    approval(&mut world, true);
    told_to_wait(&mut world, "m2");
    world.run_for(std::time::Duration::from_secs(40));
    assert!(waiting(&mut world).is_empty());
    approval(&mut world, false);
    world.join_member();
}
