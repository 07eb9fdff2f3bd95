//! Who failed to prove an identity lately: each further try of that address begins later, so that guessing and knocking cost a
//! manager little, however many machines do it.
//!
//! Only failed proofs count: a wrong authority, an expired certificate, a wrong token. A connection that breaks says nothing about
//! its owner, and a node that comes back after a fault must not wait. An address may have many owners behind it (a router that
//! translates addresses), so tries are spread out and not refused.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Mistakes happen: so many failures cost nothing.
const FREE: u32 = 3;
/// Between two tries after the first failure that costs; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A program that tries again for ever has one answer in so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// No try waits longer for its turn, so that a client with patience of its own (4 s to connect) still gets an answer.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Without a further failure everything is forgotten after this.
const MEMORY: Duration = Duration::from_secs(60);
/// Addresses that are remembered, some 300 KiB; beyond, the one whose failure is the oldest is forgotten.
const MOST: usize = 4_096;

/// Failures by address. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Offences(Arc<Mutex<BTreeMap<IpAddr, Offence>>>);

#[derive(Debug)]
struct Offence {
    failures: u32,
    last: Instant,
    /// When the next try may begin.
    next: Instant,
}

impl Offence {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) > MEMORY
    }

    fn pause(&self) -> Duration {
        match self.failures.saturating_sub(FREE) {
            0 => Duration::ZERO,
            more => FIRST_PAUSE.saturating_mul(1 << (more - 1).min(10)).min(LONGEST_PAUSE),
        }
    }
}

impl Offences {
    /// Notes that a proof of this address failed.
    pub fn note(&self, address: IpAddr, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = source(address);
        if known.len() >= MOST && !known.contains_key(&address) {
            known.retain(|_, offence| !offence.is_over(now));
            let oldest = known.iter().min_by_key(|(_, offence)| offence.last).map(|(address, _)| *address);
            if let Some(oldest) = oldest.filter(|_| known.len() >= MOST) {
                known.remove(&oldest);
            }
        }
        let offence = known.entry(address).or_insert(Offence { failures: 0, last: now, next: now });
        offence.failures = if offence.is_over(now) { 1 } else { offence.failures.saturating_add(1) };
        offence.last = now;
        offence.next = offence.next.max(now + offence.pause());
    }

    /// How long a try of this address has to wait before it begins, which takes its turn. The caller bounds how many wait.
    pub fn turn(&self, address: IpAddr, now: Instant) -> Duration {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = source(address);
        let Some(offence) = known.get_mut(&address) else { return Duration::ZERO };
        if offence.is_over(now) {
            known.remove(&address);
            return Duration::ZERO;
        }
        let wait = offence.next.saturating_duration_since(now).min(LONGEST_WAIT);
        offence.next = now + wait + offence.pause();
        wait
    }
}

/// Whom an address stands for: one machine has a whole /64 of IPv6.
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(prefix).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn after_failures(failures: u32, now: Instant) -> Offences {
        let offences = Offences::default();
        (0..failures).for_each(|_| offences.note(GUEST, now));
        offences
    }

    #[test]
    fn a_few_mistakes_cost_nothing_and_more_cost_their_address_ever_more() {
        let now = Instant::now();
        let wait = |failures| after_failures(failures, now).turn(GUEST, now).as_millis();
        assert_eq!([0, 1, FREE].map(wait), [0; 3]);
        assert_eq!([FREE + 1, FREE + 2, FREE + 3].map(wait), [100, 200, 400]);
        assert_eq!([FREE + 9, 1_000].map(wait), [1_000; 2]);
        assert_eq!(after_failures(1_000, now).turn(OTHER, now), Duration::ZERO);
    }

    #[test]
    fn tries_at_a_time_take_turns_and_none_waits_for_long() {
        let now = Instant::now();
        let offences = after_failures(1_000, now);
        let waits: Vec<u64> = (0..4).map(|_| offences.turn(GUEST, now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 2, 2]);
        assert_eq!(offences.turn(GUEST, now + Duration::from_secs(2)), Duration::from_secs(1));
    }

    #[test]
    fn a_minute_without_a_failure_is_forgiven() {
        let now = Instant::now();
        let later = now + MEMORY + Duration::from_secs(1);
        let offences = after_failures(1_000, now);
        assert_eq!(offences.turn(GUEST, later), Duration::ZERO);
        let offences = after_failures(1_000, now);
        offences.note(GUEST, later);
        assert_eq!(offences.turn(GUEST, later), Duration::ZERO);
    }

    #[test]
    fn neighbours_of_one_prefix_are_one_machine_and_a_mapped_address_is_itself() {
        let now = Instant::now();
        let offences = Offences::default();
        for host in 0..10_u16 {
            offences.note(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host).into(), now);
            offences.note("::ffff:192.0.2.1".parse().expect("an address"), now);
        }
        let waits = |address: &str| offences.turn(address.parse().expect("an address"), now) > Duration::ZERO;
        assert!(waits("2001:db8:0:1:ffff::1") && waits("192.0.2.1"));
        assert!(!waits("2001:db8:0:2::1") && !waits("192.0.2.2"));
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_latest() {
        let now = Instant::now();
        let offences = Offences::default();
        for number in 0..=u32::try_from(MOST).expect("small") {
            offences.note(IpAddr::from(number.to_be_bytes()), now + Duration::from_millis(number.into()));
        }
        let known = offences.0.lock().expect("no panic");
        assert_eq!(known.len(), MOST);
        assert!(!known.contains_key(&IpAddr::from([0, 0, 0, 0])));
    }
}
