//! Sessions of pipelines when they are applied: one for each ID token, whatever becomes of it, and none beyond issuer, binding and time.

use crate::common::{SERVICE, STEP, World, encode, load, spec};
use model::{
    binding::{BindingSpec, MAX_SESSIONS},
    command::{Answer, Command, Rejection},
    deployer::{DeployVerb, TokenDigest},
    id::{DeployTokenId, Generation, RequestId},
    identity::Identity,
    issuer::IssuerSpec,
    service::ReleaseNote,
    time::ClusterTime,
};

const HOUR: u64 = 3_600_000_000;

fn issuer(audience: &str) -> Command {
    let url = "https://gitlab.example".into();
    Command::SetIssuer(IssuerSpec { name: "gitlab".into(), url, audience: audience.into(), authority: None })
}

fn binding() -> Command {
    Command::CreateBinding(BindingSpec {
        name: "main".into(),
        service: "web".into(),
        image: "reg.example/web".into(),
        allow: DeployVerb::ALL.into(),
        issuer: "gitlab".into(),
        project_id: 42,
        ref_name: "main".into(),
        ..BindingSpec::default()
    })
}

fn world() -> World {
    let mut world = World::new();
    world.create(spec("web", "reg.example/web:1", 3));
    world.done(issuer("orch"));
    world.done(binding());
    world
}

/// Of the ID token of this number, as a leader would propose it now.
fn exchange(world: &World, number: u16, life: u64) -> Command {
    let mut id_token = [0; 32];
    id_token[..2].copy_from_slice(&number.to_be_bytes());
    let generation = |generation: Option<Generation>| generation.unwrap_or_default();
    let until = ClusterTime(world.now.0 + life);
    Command::Exchange {
        id: DeployTokenId(100 + u64::from(number)),
        binding: "main".into(),
        expected: generation(world.store.binding("main").map(|binding| binding.generation)),
        issuer: "gitlab".into(),
        issuer_expected: generation(world.store.issuer("gitlab").map(|issuer| issuer.generation)),
        id_token: TokenDigest(id_token),
        until,
        digest: TokenDigest([7; 32]),
        expires: until,
        job: "mx/web (42) main, job 1".into(),
    }
}

fn session(number: u16) -> Identity {
    let job = Some("mx/web (42) main, job 1".into());
    Identity::Deployer { id: DeployTokenId(100 + u64::from(number)), name: "main".into(), job }
}

fn deploy(world: &World, image: &str) -> Command {
    let service = world.store.service(SERVICE).expect("a service");
    let mut spec = (*service.spec).clone();
    spec.template.container.image = image.into();
    let (expected, note) = (service.generation, ReleaseNote::default());
    Command::UpdateService { id: SERVICE, expected, spec: spec.into(), note }
}

fn refused(world: &mut World, command: Command) -> Rejection {
    let before = world.store.objects_hash();
    let rejection = world.apply(command).outcome.expect_err("refused");
    assert_eq!(world.store.objects_hash(), before, "a refusal changed something");
    rejection
}

#[test]
fn an_id_token_opens_one_session_and_a_retry_gets_the_same_one() {
    let mut world = world();
    let command = exchange(&world, 1, HOUR);
    let mut entry = world.entry(command.clone());
    entry.request = Some(RequestId(5));
    let first = world.apply_entry(&entry);
    assert!(matches!(first.outcome, Ok(Answer::DeployToken { id: DeployTokenId(101), .. })), "{first:?}");
    entry.at = ClusterTime(entry.at.0 + STEP);
    let again = world.apply_entry(&entry);
    assert!(again.replay && again.outcome == first.outcome);
    assert!(
        matches!(refused(&mut world, command), Rejection::Unwelcome(why) if why.contains("used already"))
    );

    assert_eq!(world.store.welcome(&session(1)), Ok(()));
    let mut brings = world.entry(deploy(&world, "reg.example/web:2"));
    brings.actor = session(1);
    assert!(world.apply_entry(&brings).outcome.is_ok());
    let mut beyond = world.entry(deploy(&world, "reg.example/evil:2"));
    beyond.actor = session(1);
    let refusal = world.apply_entry(&beyond).outcome.expect_err("another repository").to_string();
    assert!(refusal.contains("deploy binding \"main\""), "{refusal}");
    assert_eq!(load(&encode(&world.store)).sessions(), world.store.sessions(), "a snapshot keeps it");
}

#[test]
fn sessions_end_with_binding_and_issuer_and_their_tokens_stay_used() {
    let ends: [fn() -> Command; 3] = [
        || Command::RemoveBinding { name: "main".into() },
        || Command::RemoveIssuer { name: "gitlab".into() },
        || issuer("another"),
    ];
    for end in ends {
        let mut world = world();
        let command = exchange(&world, 1, HOUR);
        world.done(command);
        world.done(end());
        let why = world.store.welcome(&session(1)).expect_err("it has ended").to_string();
        assert!(why.contains("has ended"), "{why}");
        // All is again as it was.
        world.done(issuer("orch"));
        let _ = world.apply(binding());
        let again = exchange(&world, 1, HOUR);
        assert!(refused(&mut world, again).to_string().contains("used already"));
        assert!(world.store.welcome(&session(1)).is_err());
    }
}

#[test]
fn session_is_of_the_issuer_and_the_binding_that_it_was_decided_on() {
    let mut world = world();
    let command = exchange(&world, 1, HOUR);
    world.done(Command::RemoveBinding { name: "main".into() });
    assert!(matches!(refused(&mut world, command.clone()), Rejection::Missing { .. }));
    world.done(binding());
    assert!(matches!(refused(&mut world, command), Rejection::Stale { .. }));
    let command = exchange(&world, 1, HOUR);
    world.done(issuer("another"));
    assert!(matches!(refused(&mut world, command), Rejection::Stale { .. }));
    // The same declaration again is no other issuer.
    let command = exchange(&world, 1, HOUR);
    world.done(issuer("another"));
    world.done(command);
    let unknown = BindingSpec { name: "x".into(), issuer: "ghost".into(), ..BindingSpec::default() };
    assert!(matches!(refused(&mut world, Command::CreateBinding(unknown)), Rejection::Missing { .. }));
}

#[test]
fn used_id_tokens_are_remembered_until_they_end_and_never_more_than_the_bound() {
    let mut world = world();
    let ended = exchange(&world, 1, 0);
    assert!(refused(&mut world, ended).to_string().contains("ended while"));
    for number in 0..u16::try_from(MAX_SESSIONS).expect("small") {
        let command = exchange(&world, number, HOUR);
        world.done(command);
    }
    let more = exchange(&world, 60_000, HOUR);
    assert!(matches!(refused(&mut world, more), Rejection::Conflict(_)));
    world.now = ClusterTime(world.now.0 + 2 * HOUR);
    let next = exchange(&world, 60_000, HOUR);
    world.done(next);
    assert_eq!(world.store.sessions().len(), 1);
    assert!(world.store.welcome(&session(1)).is_err());
}
