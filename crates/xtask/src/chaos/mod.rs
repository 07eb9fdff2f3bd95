//! `chaos`: a whole cluster of real processes and engines, hurt round after round while clients write.
//!
//! A round is a seed: one or two faults, healed after some seconds, then the cluster must be as declared within a bound.
//! Every acknowledged write must be there and every history linearizable; no slot runs twice on nodes that nobody hurt;
//! no container of a service that nobody touches ends there; no daemon ends by itself; a whole majority takes writes.
//!
//! Read in this order: [`fault`] (what is drawn), [`site`] (the cluster), [`wound`] (how it is hurt and healed), this file
//! (a round), [`operator`] and [`probe`] (what goes on meanwhile), [`tally`].

mod fault;
mod operator;
mod probe;
mod site;
mod tally;
mod wound;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use tests::wait;
use tests::workload::Workload;

use fault::{MANAGERS, Manner, Round};
use operator::Operator;
use probe::Probe;
use site::Site;
use tally::{Outcome, Tally};
use wound::{Hit, Wound};

/// Everything is as declared so long after the last heal, image pull and container starts on a loaded machine included.
const RECOVERY: Duration = Duration::from_secs(90);
/// A majority that is whole acknowledges something within this time.
const STALL: Duration = Duration::from_secs(10);
/// Between two operations of a client.
const PAUSE: Duration = Duration::from_millis(40);
const REGISTERS: usize = 3;
const CLIENTS: usize = 3;
const DEFAULT_ROUNDS: u64 = 10;

/// Options of `chaos`.
#[derive(Args, Debug)]
pub struct Options {
    /// How many rounds
    #[arg(long, conflicts_with = "hours")]
    rounds: Option<u64>,
    /// How long
    #[arg(long)]
    hours: Option<f64>,
    /// The first round's seed; each round's is one more
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End at the first violation
    #[arg(long)]
    exit_on_failure: bool,
    /// Short rounds, as the test suite has them
    #[arg(long)]
    short: bool,
    /// Only faults with this in their names, such as kill, many in a round and each healed at once
    #[arg(long)]
    only: Option<String>,
}

impl Options {
    fn manner(&self) -> Result<Manner> {
        let kinds = self.only.as_deref().map(fault::kinds_like);
        let names = || fault::KINDS.map(|(_, name)| name).join("\n  ");
        ensure!(
            kinds.as_ref().is_none_or(|kinds| !kinds.is_empty()),
            "no such fault; there are\n  {}",
            names()
        );
        Ok(Manner { short: self.short, only: kinds })
    }

    /// What a person types for one round again.
    fn again(&self, seed: u64) -> String {
        let short = if self.short { " --short" } else { "" };
        let only = self.only.as_ref().map(|only| format!(" --only {only}")).unwrap_or_default();
        format!("cargo xtask chaos --seed {seed} --rounds 1{short}{only}")
    }
}

/// Runs rounds and prints the table.
///
/// # Errors
/// The cluster cannot be set up.
pub fn run(options: &Options) -> Result<ExitCode> {
    let manner = options.manner()?;
    let begun = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let mut tally = Tally::default();
    let over = |tally: &Tally| {
        let rounds = tally.rounds() as u64;
        let enough = match options.hours {
            Some(hours) => begun.elapsed().as_secs_f64() >= hours * 3600.0,
            None => rounds >= options.rounds.unwrap_or(DEFAULT_ROUNDS),
        };
        enough || stop.load(Ordering::Relaxed) || (options.exit_on_failure && tally.violations() > 0)
    };
    while !over(&tally) {
        let site = Site::start()?;
        println!("cluster up after {:.1} s", begun.elapsed().as_secs_f64());
        let before = tally.violations();
        // What a violation leaves is no ground for further rounds.
        while !over(&tally) && tally.violations() == before {
            let seed = options.seed + tally.rounds() as u64;
            let held = tally.violations();
            play(&site, &mut tally, seed, &manner)?;
            if tally.violations() > held {
                println!("again: {}", options.again(seed));
            }
        }
        if tally.violations() > before {
            println!("the daemons' logs: {}", site.cluster.lab().keep_logs()?.display());
        }
    }
    println!("\n{}{}", tally.table(), tally.line(options.seed, begun.elapsed()));
    Ok(if tally.violations() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn play(site: &Site, tally: &mut Tally, seed: u64, manner: &Manner) -> Result<()> {
    let round = Round::draw(seed, manner);
    let begun = Instant::now();
    let names: Vec<String> = round.faults.iter().map(ToString::to_string).collect();
    println!("round {seed}: {}", names.join(" + "));
    let outcome = site.cluster.lab().switch().within(|| site.play(&round, seed))?;
    println!(
        "round {seed}: {} operations, recovered after {:.1} s, {} violations, {:.1} s",
        outcome.operations,
        outcome.recovery.as_secs_f64(),
        outcome.violations.len(),
        begun.elapsed().as_secs_f64()
    );
    for violation in &outcome.violations {
        println!("VIOLATION {violation}");
    }
    tally.add(outcome);
    Ok(())
}

impl Site {
    /// One round; whatever goes wrong is in the outcome.
    fn play(&self, round: &Round, seed: u64) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(error) = self.try_play(round, seed, &mut outcome) {
            outcome.violations.push(format!("{error:#}"));
        }
        outcome
    }

    fn try_play(&self, round: &Round, seed: u64, outcome: &mut Outcome) -> Result<()> {
        let config = self.cluster.ctl().config();
        let workload = Workload::named(config, &format!("r{seed}-"), REGISTERS, PAUSE)?;
        let probe = Probe::new(self, self.steady()?);
        let operator = Operator::new(self, round.seed);
        let hurt = workload.run_while(CLIENTS, || {
            probe.while_running(|| {
                let wounds = operator.while_running(|| self.wound(round, &workload, &probe, outcome))?;
                outcome.recovery = self.recover(round, wounds, &operator)?;
                anyhow::Ok(())
            })
        });
        outcome.changes = operator.accepted();
        let (wrong, looks) = probe.verdict();
        outcome.violations.extend(wrong);
        outcome.looks = looks;
        hurt?;
        let totals = workload.verdict()?;
        outcome.operations = totals.operations;
        outcome.acknowledged = totals.acknowledged;
        outcome.unknown = totals.unknown;
        workload.clear().context("the registers cannot be removed")
    }

    /// Does the faults of the round, and waits until it is time to heal.
    fn wound(
        &self,
        round: &Round,
        workload: &Workload,
        probe: &Probe<'_>,
        outcome: &mut Outcome,
    ) -> Result<Vec<Wound>> {
        let begun = Instant::now();
        let mut wounds = Vec::new();
        let mut flow = Flow::new(workload);
        let mut left = round.faults.iter().peekable();
        while begun.elapsed() < round.hurt {
            if let Some(fault) = left.next_if(|fault| fault.at <= begun.elapsed()) {
                // Before it happens, so that no look falls in between.
                probe.excuse(&may_hit(fault));
                let wound = self.hurt(*fault, &Hit::by(&wounds)).with_context(|| fault.to_string())?;
                outcome.faults.extend(wound.as_ref().map(|wound| wound.fault.kind));
                wounds.extend(wound);
                flow = Flow::new(workload);
            }
            drop(wait::until_true("the next look", Duration::from_millis(50), || false));
            for wound in wounds.extract_if(.., |wound| wound.is_due()) {
                let what = wound.fault.to_string();
                wound.heal(self).with_context(|| format!("healing: {what}"))?;
            }
            let hit = Hit::by(&wounds);
            let whole = hit.managers.len() <= MANAGERS / 2
                && wounds.iter().all(|wound| wound.fault.kind.lets_writes_flow());
            if whole && flow.stalled() {
                outcome.violations.push(format!("no write for {STALL:?} although a majority was whole"));
                flow = Flow::new(workload);
            }
            self.look_for_ended(&wounds)?;
        }
        Ok(wounds)
    }

    /// Heals, and waits until everything is as declared; says how long that took.
    fn recover(&self, round: &Round, wounds: Vec<Wound>, operator: &Operator<'_>) -> Result<Duration> {
        let supervised: Vec<usize> =
            wounds.iter().filter(|w| w.fault.kind.ends_its_manager()).map(|w| w.victim).collect();
        for wound in wounds {
            let what = wound.fault.to_string();
            wound.heal(self).with_context(|| format!("healing: {what}"))?;
        }
        let healed = Instant::now();
        operator.settle(round.replicas)?;
        let accepted = healed.elapsed();
        let converged = self.converge(round.replicas, RECOVERY, || {
            let ended = supervised.iter().filter(|index| !self.manager(**index).runs());
            ended.copied().try_for_each(|index| self.manager(index).start())
        })?;
        Ok(accepted + converged)
    }

    /// A daemon that was not killed and does not run has given up.
    fn look_for_ended(&self, wounds: &[Wound]) -> Result<()> {
        let hit = Hit::by(wounds);
        let managers = self.cluster.managers().iter().enumerate();
        let nodes = self.cluster.nodes().iter().enumerate();
        let ended = managers
            .filter(|(index, manager)| !manager.runs() && !hit.managers.contains(index))
            .map(|(_, manager)| manager)
            .chain(
                nodes
                    .filter(|(index, node)| !node.agent().runs() && !hit.nodes.contains(index))
                    .map(|(_, node)| node.agent()),
            );
        match ended.map(|daemon| daemon.last_words()).next() {
            Some(words) => anyhow::bail!("a daemon ended by itself:\n{words}"),
            None => Ok(()),
        }
    }
}

fn may_hit(fault: &fault::Fault) -> std::collections::BTreeSet<usize> {
    match fault.kind.target() {
        fault::Target::Node => [fault.victim].into(),
        _ => [].into(),
    }
}

/// Whether writes are acknowledged.
struct Flow<'a> {
    workload: &'a Workload,
    last: std::cell::Cell<(usize, Instant)>,
}

impl<'a> Flow<'a> {
    fn new(workload: &'a Workload) -> Flow<'a> {
        Flow { workload, last: (workload.acknowledged(), Instant::now()).into() }
    }

    fn stalled(&self) -> bool {
        let (before, since) = self.last.get();
        let now = self.workload.acknowledged();
        if now > before {
            self.last.set((now, Instant::now()));
        }
        now == before && since.elapsed() > STALL
    }
}
