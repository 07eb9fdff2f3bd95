//! What pipelines and the people behind them do: they deploy, go back to older releases, pause, resume, abort and promote, two
//! of them at once, and none looks at what the other one does.
//!
//! Their services have names of their own: which declaration a way back leads to is not for the linearizability check.

use std::{collections::BTreeMap, time::Duration};

use model::{
    freeze::{FreezeSpec, Window},
    hook::Hook,
    request::Request,
    service::{
        CanaryPolicy, Promotion, ReleaseNote, RolloutStep, Service, ServiceSpec, Share, TemplateVersion,
        UpdateOrder,
    },
    time::ClusterTime,
};

use crate::{dice::Dice, engine::app::Behaviour};

/// Names of services that are deployed.
pub(crate) const RELEASED: [&str; 2] = ["shop", "mail"];
/// How a deployment's job begins: the release that it saw as the newest one follows.
pub(crate) const AFTER: &str = "after ";

/// An image that answers most requests with an error, however well it seems.
pub(crate) const SOUR: &str = "app:v6";

/// What one of them does next.
pub(crate) enum Step {
    /// This request.
    Ask(Request),
    /// A service of this name, which the usual workload declares.
    Create(&'static str),
}

/// All of them, with the choices of one world.
pub(crate) struct Deployers {
    dice: Dice,
    hooks: Dice,
    /// The newest release of each service, as somebody last read it.
    seen: BTreeMap<String, TemplateVersion>,
    /// The cluster's time, as far as what was read tells.
    time: ClusterTime,
}

impl Deployers {
    pub(crate) fn new(seed: u64) -> Self {
        let (dice, hooks) = (Dice::new(seed, "deployers"), Dice::new(seed, "hooks"));
        Self { dice, hooks, seen: BTreeMap::new(), time: ClusterTime(0) }
    }

    /// A service was read.
    pub(crate) fn saw(&mut self, service: &Service) {
        let known = service.rollout.as_ref().map(|rollout| rollout.since);
        self.time = self.time.max(service.updated).max(known.unwrap_or_default());
        if RELEASED.contains(&service.spec.name.as_str()) {
            self.seen.insert(service.spec.name.clone(), service.template);
        }
    }

    /// Every third step is theirs.
    pub(crate) fn step(&mut self) -> Option<Step> {
        if !self.dice.permille(350) {
            return None;
        }
        let name = *self.dice.pick(&RELEASED).expect("not empty");
        let service = name.to_owned();
        let seen = self.seen.get(name).copied();
        Some(Step::Ask(match self.dice.range(0, 99) {
            0..14 => return Some(Step::Create(name)),
            14..34 => Request::GetService(service),
            34..60 => {
                let image = if self.dice.permille(100) {
                    "app:missing".to_owned()
                } else {
                    format!("app:v{}", self.dice.range(1, 6))
                };
                let job = seen.map_or_else(String::new, |seen| format!("{AFTER}{}", seen.0));
                let canary = self.dice.permille(300).then(|| self.canary());
                Request::Deploy {
                    service,
                    image,
                    note: Box::new(ReleaseNote {
                        job,
                        after: seen,
                        canary,
                        at_next_window: true,
                        ..ReleaseNote::default()
                    }),
                }
            }
            60..70 => {
                let newest = seen.map_or(1, |seen| seen.0);
                let release = Some(TemplateVersion(self.dice.range(1, newest.max(2))));
                let release = release.filter(|_| self.dice.permille(800));
                Request::ReturnTo { service, release, note: Box::default() }
            }
            70..86 => {
                let steps = [
                    RolloutStep::Pause,
                    RolloutStep::Resume,
                    RolloutStep::Resume,
                    RolloutStep::Abort,
                    RolloutStep::Promote,
                ];
                let step = *self.dice.pick(&steps).expect("not empty");
                Request::SteerRollout { service, release: seen.filter(|_| self.dice.permille(300)), step }
            }
            86..90 => Request::ScaleServices(vec![(service, self.dice.range(0, 5) as u32)]),
            90..98 => self.freeze(),
            _ => Request::RemoveService(service),
        }))
    }

    /// A few seconds in which nodes are left alone, or the end of them.
    fn freeze(&mut self) -> Request {
        let dice = &mut self.dice;
        let name = format!("beam-{}", dice.range(1, 2));
        if dice.permille(200) {
            return Request::RemoveFreeze(name);
        }
        let from = self.time + dice.span(0, 2_000);
        let windows = vec![Window { from, until: from + dice.span(2_000, 25_000) }];
        Request::SetFreeze(FreezeSpec { name, windows, ..FreezeSpec::default() })
    }

    /// A declaration with all that a rollout's policy can say.
    pub(crate) fn released(&mut self, mut spec: ServiceSpec) -> ServiceSpec {
        let canary = self.dice.permille(400).then(|| self.canary());
        let dice = &mut self.dice;
        let policy = &mut spec.update;
        if dice.permille(500) {
            policy.order = UpdateOrder::Auto;
        }
        if dice.permille(300) {
            policy.max_failures = if dice.permille(500) { Share::Count(1) } else { Share::Percent(40) };
        }
        if dice.permille(300) {
            // Less than all of its batches need, however quick each is.
            policy.progress_deadline = dice.span(3_000, 5_000);
            policy.monitor = dice.span(1_500, 3_000);
            policy.deadline = Some(policy.progress_deadline + dice.span(100, 1_000));
        }
        policy.canary = canary;
        policy.pre_deploy = self.hooks.permille(300).then(|| hook(&mut self.hooks));
        policy.history = dice.range(1, 6) as u32;
        spec
    }

    fn canary(&mut self) -> CanaryPolicy {
        let dice = &mut self.dice;
        CanaryPolicy {
            replicas: if dice.permille(700) {
                Share::Count(dice.range(1, 2) as u32)
            } else {
                Share::Percent(dice.range(10, 60) as u32)
            },
            soak: if dice.permille(600) { dice.span(200, 4_000) } else { Duration::ZERO },
            promotion: if dice.permille(300) { Promotion::Manual } else { Promotion::Automatic },
        }
    }
}

/// A hook that succeeds, fails, or outlasts its time.
fn hook(dice: &mut Dice) -> Hook {
    let behaviours = [Behaviour::Job, Behaviour::Job, Behaviour::Job, Behaviour::Crash, Behaviour::Serve];
    let behaviour = *dice.pick(&behaviours).expect("not empty");
    Hook {
        command: behaviour.command(dice.range(20, 3_000)),
        timeout: dice.span(2_000, 8_000),
        retries: dice.range(0, 2) as u32,
        migration: false,
    }
}
