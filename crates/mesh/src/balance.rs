//! The choice among replicas, from what this node has seen of them.
//!
//! Of two replicas drawn at random the one with less under way takes the connection: nearly as even as the best of all, without
//! herding onto one that has just become idle. A replica that fails leaves the choice for a time that doubles with each further
//! failure; after it one request is let through as a probe, and its success brings the replica back. When every replica is out,
//! the one whose time ends soonest is tried all the same: a refusal by a replica is no worse than one of our own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{
    id::{ServiceId, TaskId},
    time::Instant,
};

use planted::Bug;

use crate::{control::TaskStats, retry::Budget};

/// The first exclusion. Long enough that a dead replica costs one connect timeout a second, short enough that one that only
/// restarted is back before anybody asks.
const FIRST_EJECTION: Duration = Duration::from_millis(1_000);
/// The longest exclusion: a healed replica is used again within this time.
const LONGEST_EJECTION: Duration = Duration::from_secs(8);
/// What a planted bug takes for the longest.
const FOR_GOOD: Duration = Duration::from_secs(1 << 30);
/// A replica that its own agent does not open (it drains, or its container is gone): the next table will say so.
const REFUSED_EJECTION: Duration = Duration::from_millis(500);
/// Broken answers in a row until a replica is excluded: one may be the request's own fault.
const STRIKES: u32 = 3;
/// Late answers in a row: each has cost a client the whole time of a try.
const LATE_STRIKES: u32 = 2;

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: nothing was sent.
    Unreachable,
    /// The replica's agent does not open it: nothing was sent.
    Withdrawn,
    /// The connection broke before the answer began.
    Broken,
    /// The answer did not begin in time.
    Late,
}

/// What this node knows of every replica.
#[derive(Debug, Default)]
pub struct Balancer {
    replicas: BTreeMap<TaskId, Health>,
    budgets: BTreeMap<ServiceId, Budget>,
}

#[derive(Debug, Default)]
struct Health {
    in_flight: u32,
    total: u64,
    failed: u64,
    errors: u64,
    strikes: u32,
    ejections: u32,
    until: Option<Instant>,
    probing: bool,
}

impl Balancer {
    /// Chooses one of `endpoints` that is not among `tried`; `preferred` (a sticky client's) whenever it is not excluded.
    pub fn choose(
        &self,
        endpoints: &mut dyn Iterator<Item = TaskId>,
        tried: &[TaskId],
        preferred: Option<TaskId>,
        now: Instant,
        random: u64,
    ) -> Option<TaskId> {
        let (mut good, mut probe, mut least_bad) = (Vec::new(), None, None);
        for task in endpoints.filter(|task| !tried.contains(task)) {
            let health = self.replicas.get(&task);
            match health.and_then(|health| health.until.map(|until| (until, health.probing))) {
                None if preferred == Some(task) => return Some(task),
                None => good.push((task, health.map_or(0, |health| health.in_flight))),
                Some((until, probing)) => {
                    if until <= now && !probing {
                        probe = probe.or(Some(task));
                    }
                    least_bad = least_bad.into_iter().chain([(until, task)]).min();
                }
            }
        }
        probe.or_else(|| of_two(&good, random)).or(least_bad.map(|(_, task)| task))
    }

    /// A connection or request goes to a replica. To be followed by one [`Balancer::end`].
    pub fn begin(&mut self, task: TaskId, now: Instant) {
        let health = self.replicas.entry(task).or_default();
        health.in_flight += 1;
        health.total += 1;
        health.probing |= health.until.is_some_and(|until| until <= now);
    }

    /// The replica does its work: it answered, or took the connection.
    pub fn succeed(&mut self, task: TaskId) {
        let health = self.replicas.entry(task).or_default();
        (health.strikes, health.ejections, health.until, health.probing) = (0, 0, None, false);
    }

    /// It answered that it has failed itself. It stays in the choice: another replica would hardly do better with the same request.
    pub fn answer_error(&mut self, task: TaskId) {
        self.replicas.entry(task).or_default().errors += 1;
    }

    /// The replica failed. Of many requests that fail at once only the first lengthens the exclusion.
    pub fn fail(&mut self, task: TaskId, failure: Failure, now: Instant) {
        let health = self.replicas.entry(task).or_default();
        health.failed += 1;
        let is_out = health.until.is_some_and(|until| until > now);
        health.strikes += 1;
        let enough = match failure {
            Failure::Unreachable | Failure::Withdrawn => true,
            Failure::Broken => health.probing || health.strikes >= STRIKES,
            Failure::Late => health.probing || health.strikes >= LATE_STRIKES,
        };
        if !enough || is_out {
            return;
        }
        let span = match failure {
            _ if planted::is(Bug::ExcludedForGood) => FOR_GOOD,
            Failure::Withdrawn => REFUSED_EJECTION,
            _ => (FIRST_EJECTION * 2u32.pow(health.ejections.min(8))).min(LONGEST_EJECTION),
        };
        health.ejections += u32::from(failure != Failure::Withdrawn);
        (health.until, health.probing, health.strikes) = (Some(now + span), false, 0);
    }

    /// A connection or request is over.
    pub fn end(&mut self, task: TaskId) {
        if let Some(health) = self.replicas.get_mut(&task) {
            health.in_flight = health.in_flight.saturating_sub(1);
            // A probe that ended without a verdict (its client went away) leaves room for the next one.
            health.probing = false;
        }
    }

    /// Forgets replicas that take no traffic and have none under way, and the budgets of services that are gone.
    pub fn retain(&mut self, endpoints: &BTreeSet<TaskId>, services: &BTreeSet<ServiceId>) {
        self.replicas.retain(|task, health| health.in_flight > 0 || endpoints.contains(task));
        self.budgets.retain(|service, _| services.contains(service));
    }

    /// A service's allowance for retries.
    pub fn budget(&mut self, service: ServiceId) -> &mut Budget {
        self.budgets.entry(service).or_default()
    }

    /// What was seen of each replica.
    pub fn stats(&self, now: Instant) -> Vec<TaskStats> {
        let one = |(task, health): (&TaskId, &Health)| TaskStats {
            task: *task,
            in_flight: health.in_flight,
            total: health.total,
            failed: health.failed,
            errors: health.errors,
            ejected: health.until.is_some_and(|until| until > now),
        };
        self.replicas.iter().map(one).collect()
    }
}

/// The less loaded of two that are drawn at random; of equals the first drawn.
fn of_two(candidates: &[(TaskId, u32)], random: u64) -> Option<TaskId> {
    let count = candidates.len() as u64;
    if count < 2 {
        return candidates.first().map(|(task, _)| *task);
    }
    let first = (random >> 32) % count;
    let second = (first + 1 + (random & 0xffff_ffff) % (count - 1)) % count;
    let [first, second] = [first, second].map(|index| candidates[index as usize]);
    Some(if second.1 < first.1 { second.0 } else { first.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASKS: [TaskId; 3] = [TaskId(1), TaskId(2), TaskId(3)];

    fn at(millis: u64) -> Instant {
        Instant::from_millis(1_000_000 + millis)
    }

    fn random(seed: u64) -> u64 {
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn choose(balancer: &Balancer, tried: &[TaskId], now: Instant, seed: u64) -> Option<TaskId> {
        balancer.choose(&mut TASKS.into_iter(), tried, None, now, random(seed))
    }

    #[test]
    fn a_thousand_connections_that_stay_spread_evenly() {
        let mut balancer = Balancer::default();
        for seed in 0..999 {
            let task = choose(&balancer, &[], at(0), seed).unwrap();
            balancer.begin(task, at(0));
        }
        for stats in balancer.stats(at(0)) {
            assert!((323..=343).contains(&stats.in_flight), "{stats:?}");
        }
    }

    #[test]
    fn a_busy_replica_gets_less_than_idle_ones() {
        let mut balancer = Balancer::default();
        (0..50).for_each(|_| balancer.begin(TaskId(1), at(0)));
        let hits = (0..300).filter(|seed| choose(&balancer, &[], at(0), *seed) == Some(TaskId(1))).count();
        assert_eq!(hits, 0);
    }

    #[test]
    fn a_replica_that_refuses_is_left_alone_and_probed_later() {
        let mut balancer = Balancer::default();
        balancer.begin(TaskId(2), at(0));
        balancer.fail(TaskId(2), Failure::Unreachable, at(0));
        balancer.end(TaskId(2));
        assert!((0..100).all(|seed| choose(&balancer, &[], at(999), seed) != Some(TaskId(2))));
        assert_eq!(choose(&balancer, &[], at(1_000), 1), Some(TaskId(2)), "the probe");
        balancer.begin(TaskId(2), at(1_000));
        assert!((0..100).all(|seed| choose(&balancer, &[], at(1_001), seed) != Some(TaskId(2))), "one probe");
        balancer.succeed(TaskId(2));
        balancer.end(TaskId(2));
        assert!((0..100).any(|seed| choose(&balancer, &[], at(1_002), seed) == Some(TaskId(2))));
    }

    #[test]
    fn each_failed_probe_doubles_the_time_up_to_a_bound() {
        let mut balancer = Balancer::default();
        let (mut now, mut spans) = (at(0), Vec::new());
        for _ in 0..6 {
            balancer.begin(TaskId(1), now);
            balancer.fail(TaskId(1), Failure::Unreachable, now);
            balancer.end(TaskId(1));
            let until = balancer.replicas[&TaskId(1)].until.unwrap();
            spans.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(spans, [1, 2, 4, 8, 8, 8]);
    }

    #[test]
    fn many_failures_at_once_count_as_one_exclusion() {
        let mut balancer = Balancer::default();
        (0..100).for_each(|_| balancer.fail(TaskId(1), Failure::Unreachable, at(0)));
        assert_eq!(choose(&balancer, &[TaskId(2), TaskId(3)], at(1_000), 0), Some(TaskId(1)));
        assert_eq!(balancer.replicas[&TaskId(1)].until, Some(at(1_000)));
    }

    #[test]
    fn one_late_answer_is_forgiven_and_a_second_one_is_not() {
        let mut balancer = Balancer::default();
        balancer.fail(TaskId(1), Failure::Late, at(0));
        assert!((0..100).any(|seed| choose(&balancer, &[], at(0), seed) == Some(TaskId(1))));
        balancer.fail(TaskId(1), Failure::Late, at(0));
        assert!((0..100).all(|seed| choose(&balancer, &[], at(0), seed) != Some(TaskId(1))));
    }

    #[test]
    fn when_all_are_out_the_one_that_is_back_first_is_tried() {
        let mut balancer = Balancer::default();
        for (task, millis) in [(TaskId(1), 200), (TaskId(2), 100), (TaskId(3), 300)] {
            balancer.fail(task, Failure::Unreachable, at(millis));
        }
        assert_eq!(choose(&balancer, &[], at(400), 7), Some(TaskId(2)));
        assert_eq!(choose(&balancer, &[TaskId(2)], at(400), 7), Some(TaskId(1)));
        assert_eq!(choose(&balancer, &TASKS, at(400), 7), None);
    }

    #[test]
    fn a_sticky_client_stays_until_its_replica_is_out() {
        let mut balancer = Balancer::default();
        (0..50).for_each(|_| balancer.begin(TaskId(1), at(0)));
        let sticky = |balancer: &Balancer, seed| {
            balancer.choose(&mut TASKS.into_iter(), &[], Some(TaskId(1)), at(0), random(seed)).unwrap()
        };
        assert!((0..20).all(|seed| sticky(&balancer, seed) == TaskId(1)));
        balancer.fail(TaskId(1), Failure::Unreachable, at(0));
        assert!((0..20).all(|seed| sticky(&balancer, seed) != TaskId(1)));
    }

    #[test]
    fn a_replica_that_left_is_forgotten_when_its_last_connection_ends() {
        let mut balancer = Balancer::default();
        balancer.begin(TaskId(1), at(0));
        balancer.retain(&BTreeSet::new(), &BTreeSet::new());
        assert_eq!(balancer.stats(at(0)).len(), 1);
        balancer.end(TaskId(1));
        balancer.retain(&BTreeSet::new(), &BTreeSet::new());
        assert_eq!(balancer.stats(at(0)), []);
    }
}
