//! Thousands of random commands, sensible and absurd, each followed by every check that there is.
//!
//! The ids come from small pools, so that commands meet the same objects again and again. A failure prints its seed, which
//! repeats it.

mod chooser;

use std::sync::Arc;

use crate::common::{bootstrap, encode, load};
use chooser::{Chooser, Random};
use model::{
    cluster::Cluster,
    command::{Command, Entry, Rejection},
    deployer::{DeployToken, beyond_image},
    id::{Generation, RequestId},
    identity::Identity,
    task::Task,
    time::ClusterTime,
};
use store::{Change, Store};

const SEEDS: u64 = 8;
const STEPS: u64 = 2_550;

/// What an entry must have left as it was, or changed in one direction only.
fn compare(before: &Store, after: &Store, entry: &Entry, changes: &[Change]) {
    assert!(after.time() >= before.time());
    assert!(after.revision() >= before.revision());
    for old in before.tasks() {
        let Some(new) = after.task(old.id) else {
            let told =
                changes.iter().any(|change| matches!(change, Change::TaskGone { id, .. } if *id == old.id));
            assert!(told, "a task went in silence");
            continue;
        };
        if new.created == old.created {
            compare_task(old, new, entry);
        }
    }
    let last = |store: &Store| store.cluster().map(|cluster| (cluster.last_serial, cluster.last_member));
    assert!(last(after) >= last(before), "a number was given out again");
}

fn compare_task(old: &Task, new: &Task, entry: &Entry) {
    assert!(new.desired >= old.desired, "the desired state shrank");
    assert!(old.node.is_none() || new.node == old.node, "a task changed its node");
    assert_eq!((new.service, new.slot, new.template), (old.service, old.slot, old.template));
    if old.observed.state.is_terminal() {
        assert_eq!(new.observed, old.observed, "an ended task changed");
    }
    let anew = matches!(entry.command, Command::NodeUp { .. });
    assert!(anew || new.observed.attempt >= old.observed.attempt, "the attempt went back");
    assert_eq!(new == old, new.generation == old.generation, "a change without a new generation");
}

/// How often each kind of command was accepted and refused: a test whose commands are all refused shows nothing.
#[derive(Default)]
struct Tally {
    accepted: u64,
    refused: u64,
    decided: u64,
    undecided: u64,
    replayed: u64,
    deployed: u64,
    tasks: usize,
}

/// Of two states the second differs by the image of one service and the use of a token, or not at all (invariant I21).
fn only_an_image(before: &Store, after: &Store) -> Result<bool, String> {
    let mut changed = 0;
    for (old, new) in before.services().zip(after.services()) {
        let beyond = beyond_image(&old.spec, &new.spec);
        if old.id != new.id || !beyond.is_empty() {
            return Err(format!("{} became {}: {beyond:?}", old.spec.name, new.spec.name));
        }
        changed += u32::from(old != new);
    }
    let whole = before.service_count() == after.service_count()
        && before.nodes().eq(after.nodes())
        && before.tasks().eq(after.tasks())
        && before.members().eq(after.members())
        && before.tokens().eq(after.tokens())
        && before.networks().eq(after.networks())
        && before.crons().eq(after.crons());
    let cluster = |store: &Store| {
        let cluster = store.cluster().cloned()?;
        let tokens = cluster.deploy_tokens.iter().cloned().map(|token| DeployToken { used: None, ..token });
        Some(Cluster { deploy_tokens: Arc::new(tokens.collect()), generation: Generation(0), ..cluster })
    };
    if changed > 1 || !whole || cluster(before) != cluster(after) {
        return Err(format!("{changed} services changed, or something else"));
    }
    Ok(changed == 1)
}

fn run(seed: u64, tally: &mut Tally) {
    let mut random = Random(seed);
    let mut store = Store::new();
    let mut loaded: Option<Store> = None;
    let mut now = 1_000_000;
    for step in 0..STEPS {
        if step == STEPS / 2 {
            loaded = Some(load(&encode(&store)));
        }
        now += random.below(2_000);
        let mut chooser = Chooser { random: &mut random, store: &store };
        let (command, actor) = match step {
            0 => (bootstrap(), Identity::Anonymous),
            20 => (Command::BeginAudit, Identity::Anonymous),
            _ => {
                let command = chooser.command();
                let actor = chooser.actor(&command);
                (command, actor)
            }
        };
        let request = random.one_in(3).then(|| RequestId(random.below(600)));
        let at = ClusterTime(if random.one_in(50) { 5 } else { now });
        let entry = Entry { at, request, actor, command, origin: Default::default() };
        let index = store.applied() + 1 + random.below(2);

        let before = store.clone();
        let applied = store.apply(index, &entry);
        let context = || format!("seed {seed}, step {step}: {entry:?}");
        store.check().unwrap_or_else(|wrong| panic!("{wrong}, {}", context()));
        compare(&before, &store, &entry, &applied.changes);
        if before.welcome(&entry.actor).is_err() && !applied.replay {
            assert!(matches!(applied.outcome, Err(Rejection::Unwelcome(_))), "{}", context());
        }
        if matches!(entry.actor, Identity::Deployer { .. }) {
            let changed =
                only_an_image(&before, &store).unwrap_or_else(|what| panic!("{what}, {}", context()));
            tally.deployed += u64::from(changed);
        }
        if applied.outcome.is_err() || applied.replay || applied.changes.is_empty() {
            assert_eq!(store.objects_hash(), before.objects_hash(), "{}", context());
            assert_eq!(applied.changes, [], "{}", context());
        }
        if let Some(twin) = &mut loaded {
            assert_eq!(twin.apply(index, &entry), applied, "{}", context());
            assert_eq!(twin.hash(), store.hash(), "{}", context());
        }
        let decisions = if let Command::Decide(decisions) = &entry.command { decisions.len() } else { 0 };
        match (&applied.outcome, applied.replay) {
            (_, true) => tally.replayed += 1,
            (Ok(_), false) if decisions > 0 => {
                tally.undecided += applied.rejected.len() as u64;
                tally.decided += (decisions - applied.rejected.len()) as u64;
            }
            (Ok(_), false) => tally.accepted += 1,
            (Err(_), false) => tally.refused += 1,
        }
        tally.tasks = tally.tasks.max(store.task_count());
    }
    let (_, head) = store.audit_ends().expect("begun");
    assert!(head.number > 100, "only {} records", head.number);
    let again = load(&encode(&store));
    assert_eq!(again.hash(), store.hash(), "seed {seed}");
}

#[test]
fn whatever_is_applied_the_state_stays_consistent_and_the_same_everywhere() {
    let mut tally = Tally::default();
    for seed in 1..=SEEDS {
        run(seed, &mut tally);
    }
    let Tally { accepted, refused, decided, undecided, replayed, deployed, tasks } = tally;
    println!(
        "accepted {accepted}, refused {refused}, decided {decided}, undecided {undecided}, replayed {replayed}"
    );
    for (what, count) in [("accepted", accepted), ("refused", refused), ("decided", decided)] {
        assert!(count > SEEDS * 100, "only {count} commands were {what}");
    }
    assert!(deployed > 20, "only {deployed} images were brought by deployers");
    assert!(undecided > 100 && replayed > 100 && tasks > 8, "{undecided} {replayed} {tasks}");
}

#[test]
fn of_rejected_decisions_in_a_batch_nothing_remains() {
    for seed in 1..=SEEDS {
        let mut random = Random(seed);
        let mut store = Store::new();
        for step in 0..STEPS {
            let command = match step {
                0 => bootstrap(),
                _ => Chooser { random: &mut random, store: &store }.command(),
            };
            let at = ClusterTime(1_000_000 + step * 1_000);
            let entry = |command| Entry {
                at,
                request: None,
                actor: Identity::Anonymous,
                command,
                origin: Default::default(),
            };
            let before = store.clone();
            let applied = store.apply(step + 1, &entry(command.clone()));
            let Command::Decide(mut decisions) = command else { continue };
            for (place, _) in applied.rejected.iter().rev() {
                decisions.remove(*place);
            }
            let mut without = before;
            let accepted = without.apply(step + 1, &entry(Command::Decide(decisions)));
            assert_eq!(accepted.rejected, []);
            assert_eq!(accepted.changes, applied.changes, "seed {seed}, step {step}");
            assert_eq!(without.hash(), store.hash(), "seed {seed}, step {step}");
        }
    }
}
