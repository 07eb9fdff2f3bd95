//! Slots of a replicated service: the numbers 1 to n. Scaling down therefore removes the highest numbers, and a slot keeps
//! its number, its history and what is named after it (host names, volumes) for as long as it exists.

use model::service::Slot;

/// Ended tasks of slots that were scaled away stay visible for the first few of them.
const KEPT_BEYOND: u32 = 5;

pub(crate) fn slots(replicas: u32, from: u32) -> impl Iterator<Item = Slot> {
    (from.max(1)..=replicas).map(Slot::Replica)
}

pub(crate) fn wants(replicas: u32, number: u32) -> bool {
    (1..=replicas).contains(&number)
}

/// Ended tasks kept in a slot that was scaled away.
pub(crate) fn kept_of_surplus(replicas: u32, number: u32) -> usize {
    usize::from(number <= replicas.saturating_add(KEPT_BEYOND))
}
