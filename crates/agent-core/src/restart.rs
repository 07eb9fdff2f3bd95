//! Whether and when an ended container is started again: a pure judgement of policy, history and the end.
//!
//! The first restart after a stable period is immediate; every further end in a row doubles the pause up to the
//! policy's cap. A service that dies at once therefore slows itself down, and one that dies once a day is back at once.

use std::{collections::VecDeque, time::Duration};

use model::{
    service::{RestartCondition, RestartPolicy},
    time::Instant,
};
use planted::Bug;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// After so many ends in a row the task is shown as crash-looping.
pub(crate) const CRASH_LOOP_AFTER: u32 = 5;
/// A policy with a shorter delay (zero included) still slows down from here.
const MIN_DELAY: Duration = Duration::from_millis(100);
/// A policy that calls everything stable still needs so long a run.
const MIN_STABLE: Duration = Duration::from_secs(1);
/// Restarts remembered for `max_attempts` within `window`; a policy that allows more never gives up.
const MAX_RESTARTS_KEPT: usize = 1_024;

/// What the judgement needs of the past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Ends in a row.
    pub failures: u32,
    /// Restarts that count towards `max_attempts`, oldest first.
    pub restarts: VecDeque<Instant>,
}

/// One end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// A non-zero exit, a signal, an OOM kill or an unhealthy check.
    pub failed: bool,
    /// How long the process ran; nothing when it never came up, however long it tried.
    pub ran: Duration,
    /// It ended while the engine or the machine was away: the service is not to blame.
    pub blameless: bool,
}

/// What follows from an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start again.
    Restart {
        /// After so long.
        after: Duration,
        /// It ended again and again.
        crash_loop: bool,
    },
    /// Done, as it should be.
    Completed,
    /// Not started again.
    Failed {
        /// Why not, beyond the end itself.
        reason: Option<String>,
    },
}

/// Judges one end and remembers it.
pub(crate) fn judge(
    policy: &RestartPolicy,
    history: &mut History,
    end: End,
    now: Instant,
    rng: &mut ChaCha8Rng,
) -> Verdict {
    match policy.condition {
        RestartCondition::None if end.failed => return Verdict::Failed { reason: None },
        RestartCondition::None => return Verdict::Completed,
        RestartCondition::OnFailure if !end.failed => return Verdict::Completed,
        RestartCondition::OnFailure | RestartCondition::Any => {}
    }
    if end.blameless {
        return Verdict::Restart { after: Duration::ZERO, crash_loop: false };
    }
    if end.ran >= policy.stable_after.max(MIN_STABLE) {
        history.failures = 0;
    }
    if let Some(reason) = exhausted(policy, history, now) {
        return Verdict::Failed { reason: Some(reason) };
    }
    let after = pause(policy, history.failures, rng);
    history.failures = history.failures.saturating_add(1);
    history.restarts.push_back(now + after);
    Verdict::Restart { after, crash_loop: history.failures >= CRASH_LOOP_AFTER }
}

fn exhausted(policy: &RestartPolicy, history: &mut History, now: Instant) -> Option<String> {
    let allowed = policy.max_attempts?;
    let forgotten = |at: &Instant| !policy.window.is_zero() && now.since(*at) > policy.window;
    while history.restarts.front().is_some_and(forgotten) || history.restarts.len() > MAX_RESTARTS_KEPT {
        history.restarts.pop_front();
    }
    if history.restarts.len() < usize::try_from(allowed).unwrap_or(usize::MAX) {
        return None;
    }
    let window = match policy.window {
        Duration::ZERO => String::new(),
        window => format!(" within {}", crate::exit::seconds(window)),
    };
    let restarts = if allowed == 1 { "restart" } else { "restarts" };
    Some(format!("gave up after {allowed} {restarts}{window}"))
}

fn pause(policy: &RestartPolicy, failures: u32, rng: &mut ChaCha8Rng) -> Duration {
    if failures == 0 || planted::is(Bug::NoBackoff) {
        return Duration::ZERO;
    }
    // Between 80 % and 120 %, so that replicas that died together do not come back together.
    let jittered = nominal(policy, failures).saturating_mul(rng.random_range(800..=1_200)) / 1_000;
    jittered.min(cap(policy))
}

/// The pause that a task was in when its agent ended, in full: how much of it has passed nobody knows.
pub(crate) fn pause_again(policy: &RestartPolicy, history: &History) -> Duration {
    match history.failures {
        0 | 1 => Duration::ZERO,
        failures => nominal(policy, failures - 1),
    }
}

fn nominal(policy: &RestartPolicy, failures: u32) -> Duration {
    let first = policy.delay.max(MIN_DELAY);
    first.saturating_mul(1u32.checked_shl(failures - 1).unwrap_or(u32::MAX)).min(cap(policy))
}

fn cap(policy: &RestartPolicy) -> Duration {
    policy.max_delay.max(policy.delay).max(MIN_DELAY)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const CRASH: End = End { failed: true, ran: Duration::from_millis(10), blameless: false };

    fn pauses(policy: &RestartPolicy, ends: &[End]) -> Vec<Verdict> {
        let mut history = History::default();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut now = Instant::ZERO;
        ends.iter()
            .map(|end| {
                now = now + end.ran;
                let verdict = judge(policy, &mut history, *end, now, &mut rng);
                if let Verdict::Restart { after, .. } = verdict {
                    now = now + after;
                }
                verdict
            })
            .collect()
    }

    fn after(verdict: &Verdict) -> Duration {
        match verdict {
            Verdict::Restart { after, .. } => *after,
            other => panic!("expected a restart, got {other:?}"),
        }
    }

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_double_up_to_the_cap() {
        let verdicts = pauses(&RestartPolicy::default(), &[CRASH; 12]);
        assert_eq!(after(&verdicts[0]), Duration::ZERO);
        for (index, verdict) in verdicts.iter().enumerate().skip(1) {
            let nominal = Duration::from_secs(1u64 << (index - 1)).min(Duration::from_secs(60));
            assert!(after(verdict) >= nominal * 8 / 10, "{index}: {verdict:?}");
            assert!(
                after(verdict) <= (nominal * 12 / 10).min(Duration::from_secs(60)),
                "{index}: {verdict:?}"
            );
        }
    }

    #[test]
    fn a_stable_run_makes_the_next_restart_immediate_again() {
        let stable = End { ran: Duration::from_secs(31), ..CRASH };
        let verdicts = pauses(&RestartPolicy::default(), &[CRASH, CRASH, CRASH, stable, CRASH]);
        assert!(after(&verdicts[2]) > Duration::from_secs(1));
        assert_eq!(after(&verdicts[3]), Duration::ZERO);
        assert!(after(&verdicts[4]) >= Duration::from_millis(800));
    }

    #[test]
    fn a_policy_without_any_delay_still_slows_a_crash_loop_down() {
        let policy =
            RestartPolicy { delay: Duration::ZERO, stable_after: Duration::ZERO, ..Default::default() };
        let verdicts = pauses(&policy, &[CRASH; 8]);
        assert!(after(&verdicts[7]) >= Duration::from_secs(4));
    }

    #[test]
    fn the_fifth_end_in_a_row_is_a_crash_loop() {
        let verdicts = pauses(&RestartPolicy::default(), &[CRASH; 5]);
        assert!(matches!(verdicts[3], Verdict::Restart { crash_loop: false, .. }));
        assert!(matches!(verdicts[4], Verdict::Restart { crash_loop: true, .. }));
    }

    #[test]
    fn restarts_beyond_the_allowed_number_within_the_window_fail() {
        let policy = RestartPolicy { max_attempts: Some(2), ..Default::default() };
        let verdicts = pauses(&policy, &[CRASH; 3]);
        assert_eq!(verdicts[2], Verdict::Failed { reason: Some("gave up after 2 restarts".into()) });
        let long = End { ran: Duration::from_secs(100), ..CRASH };
        let windowed = RestartPolicy { window: Duration::from_secs(150), ..policy };
        assert!(pauses(&windowed, &[long; 9]).iter().all(|v| matches!(v, Verdict::Restart { .. })));
    }

    #[test]
    fn the_condition_decides_whether_there_is_a_restart_at_all() {
        let fine = End { failed: false, ..CRASH };
        let of =
            |condition, end| pauses(&RestartPolicy { condition, ..Default::default() }, &[end]).remove(0);
        assert_eq!(of(RestartCondition::None, CRASH), Verdict::Failed { reason: None });
        assert_eq!(of(RestartCondition::None, fine), Verdict::Completed);
        assert_eq!(of(RestartCondition::OnFailure, fine), Verdict::Completed);
        assert_eq!(after(&of(RestartCondition::OnFailure, CRASH)), Duration::ZERO);
        assert_eq!(after(&of(RestartCondition::Any, fine)), Duration::ZERO);
    }

    #[test]
    fn an_end_with_the_engine_counts_against_nobody() {
        let policy = RestartPolicy { max_attempts: Some(1), ..Default::default() };
        let verdicts = pauses(&policy, &[End { blameless: true, ..CRASH }; 4]);
        assert!(verdicts.iter().all(|verdict| after(verdict).is_zero()));
    }
}
