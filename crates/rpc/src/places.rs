//! Bounded places for each of many owners: what one of them has under way takes nothing from the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places that are taken, by owner. Clones share them. Nobody who has none costs anything.
#[derive(Debug)]
pub struct Places<K: Ord>(Arc<Mutex<BTreeMap<K, usize>>>);

/// One place; given back when it is dropped.
#[derive(Debug)]
pub struct Place<K: Ord> {
    places: Places<K>,
    owner: K,
}

impl<K: Ord + Clone> Places<K> {
    /// One more place for an owner, or `None` when it has `bound` of them.
    pub fn take(&self, owner: &K, bound: usize) -> Option<Place<K>> {
        let mut taken = self.taken();
        let count = taken.get(owner).copied().unwrap_or(0);
        if count >= bound {
            return None;
        }
        taken.insert(owner.clone(), count + 1);
        drop(taken);
        Some(Place { places: self.clone(), owner: owner.clone() })
    }
}

impl<K: Ord> Places<K> {
    /// Counts are whole at any time, so a poisoned lock is as good as a healthy one.
    fn taken(&self) -> MutexGuard<'_, BTreeMap<K, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Ord> Default for Places<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_at_its_bound_gets_no_more_until_one_is_given_back_and_nobody_is_remembered() {
        let places = Places::default();
        let mut own: Vec<_> = (0..3).map(|_| places.take(&"ann", 3).expect("below the bound")).collect();
        assert!(places.take(&"ann", 3).is_none());
        let other = places.take(&"bob", 3).expect("another owner");
        own.pop();
        own.push(places.take(&"ann", 3).expect("one was given back"));
        drop((own, other));
        assert!(places.taken().is_empty());
    }
}
