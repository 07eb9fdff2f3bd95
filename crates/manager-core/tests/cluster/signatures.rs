//! Policies that ask for signatures: the leader reads them before it proposes, and the log carries them to everybody else.

use std::time::Duration;

use manager_core::{RegistryAnswer, RegistryQuestion, RegistryRefusal, RegistryWish, RegistryWord};
use model::{
    cron::CronSpec,
    job::JobPolicy,
    policy::PolicySpec,
    registry::RegistrySpec,
    request::{ApiError, ErrorCode, Request, Response},
    service::{ReleaseNote, RestartPolicy, Service, ServiceSpec, TemplateVersion},
    session::PROTOCOL,
    signature::{FoundSignature, ImageSignature},
};

use crate::world::{ONE, World, admin, spec};

const TAG: &str = "reg.example/app:1";
/// What openssl made, of reg.example/app with the digest of ones unless the name says otherwise.
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEa0IVRSAws4wWbLphn+xar6iH3L7a
7INhn0n3z3n33kQuRuAw/Bme9FMweobQmdv6vRnANNrNUhGNaWg6J6aw4A==
-----END PUBLIC KEY-----
";
const OTHER_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+IZCZ+U7GvlKDdE2RjAWLVFbCYs5
xF3OzvCYLDm+RDvI8nyUwpCURXtsu3qkyfVT6CblVZfSZSzZ+FwBEAL6Xw==
-----END PUBLIC KEY-----
";
const GOOD: &str =
    "MEQCIFI7TvoRS2/sCDaunp9puMBiERedTPjJabg5FNUJDDfAAiABjA5QcTH48wHPyHdtWsV8OYqG35VA2fyATpxxqdwa4Q==";
const BY_OTHER: &str =
    "MEYCIQCTbAgbvFzsb0Gc1F+7Vowhw+AUHyHV+cry4ub5iZYT4gIhALEwK54HljQj2ehy5rxLSbUcgDQo4H8YLh/AXZGypxWC";
const OF_TWOS: &str =
    "MEUCIQDXxT9eqtk544f6t1qLSYq6rCcIaUCTygADet+foDm7owIgdvOtsWxBtpUpq4pSz6k2PuZb4pQmH9ndmjta87D987Y=";
const OF_OTHER: &str =
    "MEQCIACuSiGMPcNQsH2noEC7UC5xHtdQKO3BD/rvaVQuNVjVAiASKO+1+7ZZkKQjKK4diBDujcnsBH5XV+7H/zX1YyOF7Q==";

fn digest(of: &str) -> String {
    format!("sha256:{}", of.repeat(64))
}

fn signature(repository: &str, of: &str, signature: &str) -> FoundSignature {
    let payload = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"{repository}"}},"image":{{"docker-manifest-digest":"{}"}},"type":"cosign container image signature"}},"optional":null}}"#,
        digest(of)
    );
    FoundSignature { payload, signature: signature.into(), certified: None }
}

fn says(question: &RegistryQuestion, found: Vec<FoundSignature>) -> RegistryAnswer {
    // The tag 2 and the digest of twos are the second image; all else is the first.
    let second = |reference: &str| reference == "2" || reference == digest("2");
    let digest = |reference: &str| digest(if second(reference) { "2" } else { "1" });
    Ok(match &question.wish {
        RegistryWish::Greeting => RegistryWord::Welcome,
        RegistryWish::Digest { reference, .. } => RegistryWord::Digest(digest(reference)),
        RegistryWish::Signatures { reference, .. } => RegistryWord::Signatures(digest(reference), found),
    })
}

fn good(question: &RegistryQuestion) -> RegistryAnswer {
    let mut found = vec![
        signature("reg.example/app", "1", GOOD),
        signature("reg.example/app", "2", OF_TWOS),
        signature("reg.example/app", "1", BY_OTHER),
    ];
    found.push(FoundSignature { payload: "nonsense".into(), signature: "nonsense".into(), certified: None });
    says(question, found)
}

fn by_another_key(question: &RegistryQuestion) -> RegistryAnswer {
    says(question, vec![signature("reg.example/app", "1", BY_OTHER)])
}

fn of_another_image(question: &RegistryQuestion) -> RegistryAnswer {
    says(question, vec![signature("reg.example/app", "2", OF_TWOS)])
}

fn of_another_repository(question: &RegistryQuestion) -> RegistryAnswer {
    says(question, vec![signature("reg.example/other", "1", OF_OTHER)])
}

fn unsigned(question: &RegistryQuestion) -> RegistryAnswer {
    says(question, vec![])
}

fn denies(question: &RegistryQuestion) -> RegistryAnswer {
    match question.wish {
        RegistryWish::Greeting => Ok(RegistryWord::Welcome),
        _ => Err(RegistryRefusal::Denied("it refuses the login of ci (401)".into())),
    }
}

fn policy(world: &mut World, name: &str, keys: &[&str]) {
    let mut spec = PolicySpec { name: name.into(), contact: "ops".into(), ..PolicySpec::default() };
    spec.services.names = vec!["web".into(), "sync".into()];
    spec.require.signed_by = keys.iter().map(|key| key.parse().expect("a key")).collect();
    world.admin(Request::SetPolicy { spec: Box::new(spec), expected: None });
}

/// A registry that says this, a policy for one key, and a node.
fn site(registry: fn(&RegistryQuestion) -> RegistryAnswer) -> World {
    let mut world = World::new(71);
    world.join_node();
    world.registry = Some(registry);
    let spec = RegistrySpec { host: "reg.example".into(), ..RegistrySpec::default() };
    world.insist(admin(), Request::SetRegistry { spec, check: false }).expect("declared");
    policy(&mut world, "signed", &[KEY]);
    world
}

fn of(image: &str) -> ServiceSpec {
    let mut spec = spec("web", 1);
    spec.template.container.image = image.into();
    spec
}

fn create(world: &mut World, image: &str) -> Result<Response, ApiError> {
    world.insist(admin(), Request::CreateService(of(image).into()))
}

fn refusal(world: &mut World, image: &str) -> String {
    let error = create(world, image).expect_err("refused");
    assert_eq!(error.code, ErrorCode::Denied, "{error}");
    assert_eq!(world.store(ONE).services().count(), 0);
    error.to_string()
}

fn deploy(world: &mut World, image: &str) -> Result<Response, ApiError> {
    let note = Box::<ReleaseNote>::default();
    world.insist(admin(), Request::Deploy { service: "web".into(), image: image.into(), note })
}

fn update(world: &mut World, change: impl FnOnce(&mut ServiceSpec)) -> Result<Response, ApiError> {
    let service = web(world);
    let mut spec = (*service.spec).clone();
    change(&mut spec);
    let expected = service.generation;
    world.insist(admin(), Request::UpdateService { service: "web".into(), expected, spec: spec.into() })
}

fn web(world: &World) -> Service {
    world.store(ONE).service_by_name("web").expect("the service").clone()
}

fn image(world: &World) -> String {
    web(world).spec.template.container.image.clone()
}

fn settled(world: &mut World) {
    world.until("its rollout is over", |world| {
        let service = web(world);
        !service.is_rolling() && world.agents.values().map(crate::agent::Agent::running).sum::<usize>() == 1
    });
}

fn asked(world: &World) -> usize {
    world.asked.iter().filter(|question| matches!(question.wish, RegistryWish::Signatures { .. })).count()
}

#[test]
fn signed_tag_comes_as_the_digest_that_was_signed_and_its_task_carries_the_signature() {
    let mut world = site(good);
    create(&mut world, TAG).expect("signed");
    assert_eq!(image(&world), format!("{TAG}@{}", digest("1")));
    let service = web(&world);
    let signatures = &service.spec.template.container.signatures;
    assert_eq!(signatures.len(), 1, "what proves the key, and nothing more");
    assert_eq!(signatures[0].signature, GOOD);
    settled(&mut world);
    let agent = world.agents.values().next().expect("an agent");
    let held = agent.held.values().next().expect("an assignment");
    assert_eq!(held.container.signatures, *signatures);
    assert_eq!(held.container.image, image(&world));
    assert_eq!(asked(&world), 1);
    // The same again, by the tag or by what is stored, is no change and asks nobody.
    for name in [TAG.to_owned(), image(&world)] {
        deploy(&mut world, &name).expect("there");
        update(&mut world, |spec| spec.template.container.image = name).expect("the same");
    }
    assert_eq!((web(&world).template, asked(&world)), (TemplateVersion(1), 1));
    // Nor does another change of what is signed.
    update(&mut world, |spec| {
        spec.template.container.env.insert("A".into(), "1".into());
    })
    .expect("signed still");
    assert_eq!((image(&world), asked(&world)), (format!("{TAG}@{}", digest("1")), 1));
}

#[test]
fn what_is_not_signed_as_the_policy_says_is_refused_with_the_reason_and_whom_to_ask() {
    let exact = format!("reg.example/app@{}", digest("1"));
    for (registry, why) in [
        (unsigned as fn(&RegistryQuestion) -> RegistryAnswer, "its registry has no signature of it"),
        (by_another_key, "all by other keys"),
        (of_another_image, "another image"),
        (of_another_repository, "another repository"),
        (denies, "registry reg.example did not say: it refuses the login of ci (401)"),
    ] {
        for image in [TAG, &exact] {
            let mut world = site(registry);
            let text = refusal(&mut world, image);
            for part in [why, "require.signed_by of policy \"signed\"", "ask ops"] {
                assert!(text.contains(part), "{part}: {text}");
            }
            // Signed now, the same is taken at once.
            world.registry = Some(good);
            create(&mut world, image).expect("signed");
        }
    }
    let mut world = site(good);
    let text = refusal(&mut world, "other.example/app:1");
    assert!(text.contains("orchctl registry set other.example"), "{text}");
    let text = refusal(&mut world, &digest("1"));
    assert!(text.contains("of no registry"), "{text}");
    world.registry = None;
    let text = refusal(&mut world, TAG);
    assert!(text.contains("did not answer within"), "{text}");
}

#[test]
fn signatures_that_come_with_a_request_count_as_much_as_they_prove() {
    let mut world = site(good);
    create(&mut world, TAG).expect("signed");
    let container = web(&world).spec.template.container.clone();
    world.admin(Request::RemoveService("web".into()));
    world.until("it is gone", |world| world.store(ONE).services().count() == 0);
    world.registry = Some(unsigned);
    // What is signed once needs no registry, wherever it comes from.
    let mut spec = of(TAG);
    spec.template.container = container.clone();
    let before = asked(&world);
    world.insist(admin(), Request::CreateService(spec.clone().into())).expect("it proves itself");
    assert_eq!(asked(&world), before);
    world.admin(Request::RemoveService("web".into()));
    world.until("it is gone", |world| world.store(ONE).services().count() == 0);
    spec.template.container.image = format!("{TAG}@{}", digest("2"));
    let error =
        world.insist(admin(), Request::CreateService(spec.clone().into())).expect_err("of another image");
    assert_eq!(error.code, ErrorCode::Denied, "{error}");
    spec.template.container = container;
    spec.template.container.signatures[0].key = OTHER_KEY.parse().expect("a key");
    let error = world.insist(admin(), Request::CreateService(spec.into())).expect_err("by another key");
    assert_eq!(error.code, ErrorCode::Denied, "{error}");
}

#[test]
fn every_policy_wants_a_key_of_its_own_and_any_of_them() {
    let mut world = site(good);
    policy(&mut world, "signed", &[OTHER_KEY, KEY]);
    policy(&mut world, "second", &[OTHER_KEY]);
    create(&mut world, TAG).expect("signed by both");
    let keys = web(&world).spec.template.container.signatures.len();
    assert!((1..=2).contains(&keys), "{keys}");
    world.registry = Some(of_another_image);
    let error = deploy(&mut world, "reg.example/app:2").expect_err("only one key signed it");
    let text = error.to_string();
    assert!(text.contains("policy \"second\"") && !text.contains("policy \"signed\""), "{text}");
}

#[test]
fn key_that_counts_no_more_refuses_the_way_back_and_the_next_change_and_stops_nothing() {
    let mut world = site(good);
    create(&mut world, TAG).expect("signed");
    settled(&mut world);
    deploy(&mut world, "reg.example/app:2").expect("signed");
    settled(&mut world);
    // As long as the key counts, the way back needs no registry.
    world.registry = Some(denies);
    world.admin(Request::RollbackService("web".into()));
    assert_eq!(image(&world), format!("{TAG}@{}", digest("1")));
    settled(&mut world);

    policy(&mut world, "signed", &[OTHER_KEY]);
    let error = world.insist(admin(), Request::RollbackService("web".into())).expect_err("by the old key");
    let text = error.to_string();
    assert!(error.code == ErrorCode::Denied && text.contains("deploy its image instead"), "{text}");
    let Response::PolicyCheck(verdicts) = world.admin(Request::CheckPolicies { with: None }) else {
        panic!("a check")
    };
    assert_eq!(verdicts.iter().map(|verdict| verdict.what.as_str()).collect::<Vec<_>>(), ["service web"]);
    let label = |spec: &mut ServiceSpec| {
        spec.labels.insert("a".into(), "b".into());
    };
    update(&mut world, label).expect_err("not signed by the new key, as far as its registry says");
    settled(&mut world);
    assert_eq!(image(&world), format!("{TAG}@{}", digest("1")), "what runs goes on");
    // Signed by the new key too, the same contents stay.
    world.registry = Some(good);
    update(&mut world, label).expect("signed by the new key");
    assert_eq!(image(&world), format!("{TAG}@{}", digest("1")));
    assert_eq!(web(&world).spec.template.container.signatures[0].signature, BY_OTHER);
}

#[test]
fn policy_that_is_applied_between_propose_and_apply_refuses_what_was_not_signed_for_it() {
    let mut world = World::new(72);
    world.admin(Request::GetStatus);
    let mut spec = PolicySpec { name: "signed".into(), ..PolicySpec::default() };
    spec.require.signed_by = vec![KEY.parse().expect("a key")];
    let set = Request::SetPolicy { spec: Box::new(spec), expected: None };
    let first = world.ask(ONE, admin(), Some(1), set);
    let late = world.ask(ONE, admin(), Some(2), Request::CreateService(of(TAG).into()));
    world.until("both are answered", |world| world.answer(first).is_some() && world.answer(late).is_some());
    let refusal = world.answer(late).expect("an answer").as_ref().expect_err("refused");
    assert!(refusal.message.contains("require.signed_by"), "{refusal}");
    assert_eq!(world.store(ONE).services().count(), 0);
}

#[test]
fn what_ran_before_the_policy_is_asked_for_by_what_its_tag_meant() {
    let mut world = site(good);
    world.admin(Request::RemovePolicy("signed".into()));
    create(&mut world, TAG).expect("free");
    settled(&mut world);
    assert!(web(&world).spec.template.container.signatures.is_empty());
    policy(&mut world, "signed", &[KEY]);
    update(&mut world, |spec| {
        spec.labels.insert("a".into(), "b".into());
    })
    .expect("signed");
    assert_eq!(image(&world), format!("{TAG}@{}", digest("1")));
    settled(&mut world);
    // A forced update by the tag asks what it means now.
    let before = asked(&world);
    update(&mut world, |spec| {
        spec.template.container.image = TAG.into();
        spec.template.force += 1;
    })
    .expect("signed");
    assert_eq!((asked(&world), image(&world)), (before + 1, format!("{TAG}@{}", digest("1"))));
}

#[test]
fn cron_is_signed_when_it_is_declared_and_its_jobs_ask_nobody() {
    let mut world = site(good);
    let mut job = of(TAG);
    job.name = "any".into();
    job.job = Some(JobPolicy::default());
    job.template.restart = RestartPolicy::retries(0);
    let cron = |job: ServiceSpec| {
        let (name, schedule, zone) = ("sync".into(), "0 0 1 1 *".into(), "UTC".into());
        Request::SetCron(CronSpec { name, schedule, zone, job: job.into(), ..CronSpec::default() }.into())
    };
    world.insist(admin(), cron(job.clone())).expect("signed");
    let declared = world.store(ONE).cron_by_name("sync").expect("the cron").spec.job.clone();
    assert_eq!(declared.template.container.signatures.len(), 1);
    assert_eq!(declared.name, "any");
    world.registry = Some(denies);
    world.admin(Request::RunCron("sync".into()));
    assert_eq!(asked(&world), 1);
    policy(&mut world, "signed", &[OTHER_KEY]);
    let error = world.insist(admin(), Request::RunCron("sync".into())).expect_err("by the old key");
    assert!(error.to_string().contains("declare it again"), "{error}");
    world.insist(admin(), cron(job)).expect_err("its registry does not say");
}

#[test]
fn signatures_that_nobody_asks_for_are_not_kept_whoever_sends_them() {
    let mut world = site(unsigned);
    let FoundSignature { payload, signature, .. } = signature("reg.example/app", "1", GOOD);
    let sent = ImageSignature { key: KEY.parse().expect("a key"), payload, signature, certified: None };
    let mut spec = of(&format!("reg.example/app@{}", digest("1")));
    spec.template.container.signatures = vec![sent.clone()];
    // One that a policy asks for counts, wherever it comes from.
    world.insist(admin(), Request::CreateService(spec.clone().into())).expect("signed");
    spec.name = "other".into();
    world.insist(admin(), Request::CreateService(spec.into())).expect("nobody asks");
    let kept = |name: &str| {
        let mut services = world.store(ONE).services();
        let service = services.find(|service| service.spec.name == name).expect("it is there");
        service.spec.template.container.signatures.clone()
    };
    assert_eq!((kept("web"), kept("other")), (vec![sent], vec![]));
}

#[test]
fn agent_of_before_gets_no_signed_image_until_it_is_upgraded() {
    let mut world = site(good);
    let node = *world.agents.keys().next().expect("a node");
    let program = |world: &mut World, protocol| {
        world.agents.get_mut(&node).expect("the agent").protocol = protocol;
        world.hang_up(node);
        world.run_for(Duration::from_secs(5));
    };
    program(&mut world, 4);
    create(&mut world, TAG).expect("signed");
    world.run_for(Duration::from_secs(5));
    assert!(world.agents[&node].held.is_empty());
    let id = web(&world).id;
    let waiting = world.store(ONE).tasks_of_service(id).next().expect("a task").clone();
    let reason = waiting.pending.expect("it waits").message;
    assert!(reason.contains("do not verify signatures yet"), "{reason}");
    program(&mut world, PROTOCOL);
    settled(&mut world);
}
