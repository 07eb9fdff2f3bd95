//! Policies at the leader: what it refuses, what it could not know, what a retry is answered.

use model::{
    identity::{Identity, Role},
    policy::PolicySpec,
    request::{ErrorCode, Request, Response},
};

use crate::world::{ONE, World, admin, spec};

fn set() -> Request {
    let mut spec = PolicySpec { name: "digests".into(), contact: "ops".into(), ..PolicySpec::default() };
    spec.require.digest = true;
    Request::SetPolicy { spec: Box::new(spec), expected: None }
}

fn create(name: &str) -> Request {
    Request::CreateService(spec(name, 1).into())
}

#[test]
fn a_declaration_that_is_proposed_beside_a_policy_is_refused_if_it_comes_after_it() {
    let mut world = World::new(61);
    world.admin(Request::GetStatus);
    let policy = world.ask(ONE, admin(), Some(1), set());
    let late = world.ask(ONE, admin(), Some(2), create("web"));
    assert!(world.store(ONE).policies().is_empty(), "the leader admits it without knowing of the policy");
    world.until("both are answered", |world| world.answer(policy).is_some() && world.answer(late).is_some());
    world.answer(policy).expect("an answer").as_ref().expect("set");
    let refusal = world.answer(late).expect("an answer").as_ref().expect_err("refused");
    assert_eq!(refusal.code, ErrorCode::Denied);
    assert!(refusal.message.contains("require.digest") && refusal.message.contains("ask ops"), "{refusal}");
    assert_eq!(world.store(ONE).services().count(), 0);
}

#[test]
fn what_was_admitted_stays_so_for_its_retry_and_not_for_another_request() {
    let mut world = World::new(62);
    let first = world.insist_as(admin(), 7, create("web")).expect("free");
    world.insist(admin(), set()).expect("set");
    let answer = |response| match response {
        Response::Changed { answer, .. } => answer,
        other => panic!("{other:?}"),
    };
    assert_eq!(answer(world.insist_as(admin(), 7, create("web")).expect("the same answer")), answer(first));
    let other = world.insist_as(admin(), 8, create("api")).expect_err("refused");
    assert_eq!(other.code, ErrorCode::Denied);
}

#[test]
fn what_runs_against_a_policy_is_told_and_who_only_reads_sets_none() {
    let mut world = World::new(63);
    world.create("web", 1);
    let Response::PolicyCheck(none) = world.admin(Request::CheckPolicies { with: None }) else {
        panic!("a check")
    };
    assert!(none.is_empty());
    let Request::SetPolicy { spec, .. } = set() else { panic!("a policy") };
    let Response::PolicyCheck(some) = world.admin(Request::CheckPolicies { with: Some(spec) }) else {
        panic!("a check")
    };
    assert_eq!(some.iter().map(|verdict| verdict.what.as_str()).collect::<Vec<_>>(), ["service web"]);
    world.admin(set());
    let Response::Status(status) = world.admin(Request::GetStatus) else { panic!("a status") };
    assert!(
        status
            .waiting
            .iter()
            .any(|waiting| waiting.what == "service web" && waiting.why.contains("require.digest"))
    );
    let viewer = Identity::Operator { name: "vic".into(), role: Role::Viewer };
    assert_eq!(world.insist(viewer.clone(), set()).expect_err("denied").code, ErrorCode::Denied);
    let remove = Request::RemovePolicy("digests".into());
    assert_eq!(world.insist(viewer.clone(), remove).expect_err("denied").code, ErrorCode::Denied);
    assert!(
        matches!(world.insist(viewer, Request::ListPolicies), Ok(Response::Policies(list)) if list.len() == 1)
    );
}
