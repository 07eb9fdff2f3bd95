//! What a container answers when its node's agent asks: the truth, a little late, and now and then nothing.

use agent_core::probes::ProbeRequest;
use model::{
    probe::{Check, Diagnosis, DiagnosisBy, Probe, Probes},
    task::Health,
};

use super::{Engine, Status};
use crate::{
    dice::Dice,
    queue::{MS, Time},
};

/// How long an application takes until it is ready.
const BOOT: Time = 300 * MS;

/// The probes of a declaration that has some; what each of them asks is named.
pub(crate) fn declared(dice: &mut Dice) -> Probes {
    let mut probe = |word: &str, permille: u32| {
        let probe = Probe {
            interval: dice.span(200, 2_000),
            timeout: dice.span(200, 1_000),
            failures: dice.range(2, 3) as u32,
            ..Probe::of(Check::Exec(vec![word.to_owned()]))
        };
        dice.permille(permille).then_some(probe)
    };
    let (startup, readiness, liveness) =
        (probe("startup", 300), probe("readiness", 700), probe("liveness", 400));
    let start_deadline = if startup.is_some() { dice.span(3_000, 6_000) } else { std::time::Duration::ZERO };
    // Not drawn, so that worlds keep their course.
    let diagnosis = liveness.as_ref().filter(|liveness| liveness.failures == 3).map(|_| Diagnosis {
        by: DiagnosisBy::Signal("SIGQUIT".to_owned()),
        within: std::time::Duration::from_secs(2),
    });
    Probes { startup, readiness, liveness, start_deadline, diagnosis }
}

impl Engine {
    /// The answer, and when it comes. A sound application is not ready once in a while, never twice in a row.
    pub(crate) fn probe(
        &mut self,
        request: &ProbeRequest,
        calm: bool,
        now: Time,
    ) -> (Time, Result<(), String>) {
        let mut dice = Dice::new(now, &request.container);
        let soon = dice.millis(0, 50);
        let Some(container) = self.containers.get_mut(&request.container) else {
            return (soon, Err("connection refused".into()));
        };
        let Status::Running { since, health, .. } = container.status else {
            return (soon, Err("connection refused".into()));
        };
        if now < since + BOOT {
            return (soon, Err("connection refused".into()));
        }
        let asks = |word: &str| request.check == Check::Exec(vec![word.to_owned()]);
        let slips = asks("readiness") && !calm && !container.slipped && dice.permille(100);
        if asks("readiness") {
            container.slipped = slips;
        }
        if slips {
            let timeout = u64::try_from(request.timeout.as_nanos()).unwrap_or(Time::MAX);
            return (timeout, Err("no answer".into()));
        }
        let fit = asks("startup") || health != Health::Unhealthy;
        (soon, if fit { Ok(()) } else { Err("status 503".into()) })
    }
}
