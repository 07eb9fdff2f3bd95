//! What people do with jobs and crons: they begin them, look at them, remove them, and change, suspend and run crons.
//!
//! Every minute is due: a world has few of them, and a storm begins around each.

use std::sync::Arc;

use model::{
    cron::{CronSpec, MAX_LATE, Missed, Overlap},
    job::{JobPolicy, OnLost},
    request::Request,
    service::{Mode, RestartPolicy, ServiceSpec},
};

use crate::{dice::Dice, engine::app::Behaviour};

/// Names of jobs that people begin.
const JOBS: [&str; 3] = ["sum", "scan", "copy"];
/// Names of crons.
const CRONS: [&str; 2] = ["tick", "tock"];

/// All of them, with the choices of one world.
pub(crate) struct Jobs {
    dice: Dice,
}

impl Jobs {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed, "jobs") }
    }

    /// Every third step is theirs; `base` makes a declaration of a name.
    pub(crate) fn step(&mut self, base: impl FnOnce(&str) -> ServiceSpec) -> Option<Request> {
        if !self.dice.permille(350) {
            return None;
        }
        let job = *self.dice.pick(&JOBS).expect("not empty");
        let cron = (*self.dice.pick(&CRONS).expect("not empty")).to_owned();
        Some(match self.dice.range(0, 99) {
            0..35 => Request::CreateService(Arc::new(self.job(base(job)))),
            35..48 => Request::RemoveService(job.to_owned()),
            48..52 => Request::GetService(job.to_owned()),
            52..54 => Request::ScaleServices(vec![(job.to_owned(), 2)]),
            54..80 => {
                let spec = ServiceSpec { name: String::new(), ..self.job(base(job)) };
                Request::SetCron(Arc::new(self.cron(cron, spec)))
            }
            80..84 => Request::RemoveCron(cron),
            84..90 => Request::SuspendCron { name: cron, suspended: self.dice.permille(300) },
            90..97 => Request::RunCron(cron),
            _ => Request::ListCrons,
        })
    }

    fn job(&mut self, mut spec: ServiceSpec) -> ServiceSpec {
        let dice = &mut self.dice;
        let behaviour = match dice.range(0, 99) {
            0..60 => Behaviour::Job,
            60..70 => Behaviour::Crash,
            70..75 => Behaviour::Leak,
            75..80 => Behaviour::Broken,
            80..95 => Behaviour::Serve,
            _ => Behaviour::Stubborn,
        };
        let container = &mut spec.template.container;
        container.command = behaviour.command(dice.range(50, 8_000));
        container.healthcheck = None;
        container.probes = Default::default();
        container.ports.clear();
        spec.template.placement.max_per_node = 0;
        let pauses = spec.template.restart.clone();
        spec.template.restart = RestartPolicy {
            delay: pauses.delay,
            max_delay: pauses.max_delay,
            ..RestartPolicy::retries(dice.range(0, 2) as u32)
        };
        spec.ports.clear();
        spec.mode = if dice.permille(150) { Mode::Global } else { Mode::Replicated(dice.range(1, 5) as u32) };
        spec.job = Some(JobPolicy {
            concurrency: dice.range(0, 3) as u32,
            deadline: if dice.permille(300) { dice.span(60_000, 90_000) } else { dice.span(2_000, 30_000) },
            keep: dice.permille(500).then(|| dice.span(0, 20_000)),
            on_lost: if dice.permille(200) { OnLost::Fail } else { OnLost::RunAgain },
        });
        spec
    }

    fn cron(&mut self, name: String, job: ServiceSpec) -> CronSpec {
        let dice = &mut self.dice;
        CronSpec {
            name,
            schedule: "* * * * *".into(),
            zone: "Europe/Paris".into(),
            job: Arc::new(job),
            overlap: *dice
                .pick(&[Overlap::Forbid, Overlap::Forbid, Overlap::Allow, Overlap::Replace])
                .expect("not empty"),
            missed: if dice.permille(500) {
                Missed::Skip
            } else {
                Missed::RunOnce(dice.span(60_000, 600_000).min(MAX_LATE))
            },
            keep_complete: dice.range(0, 2) as u32,
            keep_failed: dice.range(0, 2) as u32,
            suspended: dice.permille(50),
        }
    }
}
