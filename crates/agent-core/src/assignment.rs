//! The desired set: which tasks the managers want here, and which of their messages may change it.
//!
//! Every set carries a fence. The highest one ever accepted is stored; lower ones come from a manager that was deposed
//! or from a message that was late, and change nothing. A set that says something else under the number of the last one
//! is a contradiction: the session is closed rather than guessed about.
//!
//! A large set comes in parts. They are collected beside the set that is held and take its place all at once.

use std::collections::BTreeMap;

use model::{
    id::{ClusterId, NodeId, TaskId},
    session::{Assignment, AssignmentSet, Fence, set_hash},
};

use planted::Bug;

/// A set of more tasks than any node can hold is not collected.
const MAX_TASKS: usize = 65_536;

/// The set that is held, and its place in the order.
#[derive(Debug)]
pub(crate) struct Assignments {
    cluster: ClusterId,
    node: NodeId,
    set: BTreeMap<TaskId, Assignment>,
    highest: Option<Fence>,
    /// The open session, and the sequence of it that the set corresponds to.
    session: Option<(Fence, u64)>,
    /// The parts so far of a set that is still arriving.
    arriving: Option<AssignmentSet>,
}

/// What came of a set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is the set now.
    Applied(Difference),
    /// Its base is not held, or the result is not what the manager meant: the whole set is needed.
    NeedFullSet,
    /// Late, repeated, or only a part so far: nothing to do.
    Ignored,
    /// A contradiction: this session cannot go on.
    Refused(String),
}

/// What changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// New, or other than before.
    pub upserted: Vec<Assignment>,
    /// No longer wanted.
    pub removed: Vec<TaskId>,
}

impl Assignments {
    /// The set as stored.
    pub(crate) fn new(
        cluster: ClusterId,
        node: NodeId,
        fence: Option<Fence>,
        stored: Vec<Assignment>,
    ) -> Self {
        let set = stored.into_iter().map(|a| (a.task, a)).collect();
        Self { cluster, node, set, highest: fence, session: None, arriving: None }
    }

    /// The highest fence ever accepted.
    pub(crate) fn fence(&self) -> Option<Fence> {
        self.highest
    }

    /// The hash of the whole set.
    pub(crate) fn hash(&self) -> u64 {
        set_hash(self.set.values())
    }

    /// A manager opens a session under this fence; what is held counts as its sequence 0 (it was offered as a hash).
    ///
    /// # Errors
    /// The fence is of another cluster, or not above all that was accepted before: do not talk to this manager.
    pub(crate) fn open(&mut self, fence: Fence) -> Result<(), String> {
        if fence.cluster != self.cluster {
            return Err(format!(
                "the manager is of cluster {}, this node of {}",
                fence.cluster, self.cluster
            ));
        }
        if self.highest.is_some_and(|highest| fence <= highest) && !planted::is(Bug::StaleSession) {
            return Err("the manager's session is older than one that was already accepted".to_owned());
        }
        self.highest = Some(fence);
        self.session = Some((fence, 0));
        self.arriving = None;
        Ok(())
    }

    /// The session ended; what is held stays.
    pub(crate) fn close(&mut self) {
        self.session = None;
        self.arriving = None;
    }

    /// Takes a set, all of it or nothing.
    pub(crate) fn apply(&mut self, set: AssignmentSet) -> Outcome {
        let Some((session, held)) = self.session else {
            return Outcome::Ignored;
        };
        if (Fence { sequence: session.sequence, ..set.fence }) != session && planted::is(Bug::StaleSession) {
            return self.replace(set.fence, set.base.unwrap_or_default(), set);
        }
        if (Fence { sequence: session.sequence, ..set.fence }) != session {
            return if set.fence > session {
                Outcome::Refused("a set of another session was sent in this one".to_owned())
            } else {
                Outcome::Ignored
            };
        }
        if set.fence.sequence < held {
            return Outcome::Ignored;
        }
        if set.fence.sequence == held {
            return if set.hash == self.hash() {
                Outcome::Ignored
            } else {
                Outcome::Refused(format!("set {held} was sent twice with different contents"))
            };
        }
        match self.collect(set) {
            Ok(Some(set)) => self.replace(session, held, set),
            Ok(None) => Outcome::Ignored,
            Err(outcome) => outcome,
        }
    }

    /// The whole of a set, once its last part is there.
    fn collect(&mut self, part: AssignmentSet) -> Result<Option<AssignmentSet>, Outcome> {
        let whole = match (self.arriving.take(), part.part) {
            (_, 0) => part,
            (Some(mut whole), number) if whole.fence == part.fence && whole.part + 1 == number => {
                whole.upsert.extend(part.upsert);
                whole.remove.extend(part.remove);
                (whole.part, whole.more) = (number, part.more);
                whole
            }
            (_, _) => return Err(Outcome::NeedFullSet),
        };
        if whole.upsert.len().max(whole.remove.len()) > MAX_TASKS {
            return Err(Outcome::Refused(format!("a set of more than {MAX_TASKS} tasks was sent")));
        }
        if !whole.more {
            return Ok(Some(whole));
        }
        self.arriving = Some(whole);
        Ok(None)
    }

    fn replace(&mut self, session: Fence, held: u64, set: AssignmentSet) -> Outcome {
        if let Some(other) = set.upsert.iter().find(|a| a.node != self.node) {
            return Outcome::Refused(format!("task {} of node {} was sent here", other.task, other.node));
        }
        let mut next = match set.base {
            None => BTreeMap::new(),
            Some(base) if base == held => self.set.clone(),
            Some(_) => return Outcome::NeedFullSet,
        };
        for task in &set.remove {
            next.remove(task);
        }
        next.extend(set.upsert.into_iter().map(|a| (a.task, a)));
        if set_hash(next.values()) != set.hash {
            return match set.base {
                None => {
                    Outcome::Refused("the whole set does not have the hash that it was sent with".to_owned())
                }
                Some(_) => Outcome::NeedFullSet,
            };
        }
        let difference = difference(&self.set, &next);
        self.set = next;
        self.session = Some((session, set.fence.sequence));
        self.highest = Some(set.fence);
        Outcome::Applied(difference)
    }
}

fn difference(old: &BTreeMap<TaskId, Assignment>, new: &BTreeMap<TaskId, Assignment>) -> Difference {
    Difference {
        upserted: new.values().filter(|a| old.get(&a.task) != Some(*a)).cloned().collect(),
        removed: old.keys().filter(|task| !new.contains_key(*task)).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CLUSTER, NODE, assignment, fence};

    fn whole(session: u64, sequence: u64, tasks: &[u64]) -> AssignmentSet {
        let upsert: Vec<_> = tasks.iter().map(|task| assignment(*task)).collect();
        let hash = set_hash(&upsert);
        AssignmentSet {
            fence: fence(session, sequence),
            base: None,
            upsert,
            remove: vec![],
            hash,
            part: 0,
            more: false,
        }
    }

    /// The same in as many parts as it has tasks.
    fn parts(session: u64, sequence: u64, tasks: &[u64]) -> Vec<AssignmentSet> {
        let all = whole(session, sequence, tasks);
        let one = |(number, assignment): (usize, &Assignment)| AssignmentSet {
            upsert: vec![assignment.clone()],
            part: u32::try_from(number).unwrap(),
            more: number + 1 < all.upsert.len(),
            ..whole(session, sequence, tasks)
        };
        all.upsert.iter().enumerate().map(one).collect()
    }

    fn opened(session: u64) -> Assignments {
        let mut held = Assignments::new(CLUSTER, NODE, None, vec![]);
        held.open(fence(session, 0)).unwrap();
        held
    }

    #[test]
    fn a_whole_set_replaces_what_was_held() {
        let mut held = opened(1);
        assert!(matches!(held.apply(whole(1, 1, &[1, 2])), Outcome::Applied(_)));
        let Outcome::Applied(difference) = held.apply(whole(1, 2, &[2, 3])) else { panic!("refused") };
        assert_eq!(difference.upserted, [assignment(3)]);
        assert_eq!(difference.removed, [TaskId(1)]);
    }

    #[test]
    fn a_difference_to_the_offered_set_is_taken_without_a_whole_set() {
        let mut held = Assignments::new(CLUSTER, NODE, Some(fence(1, 5)), vec![assignment(1)]);
        held.open(fence(2, 0)).unwrap();
        let empty = AssignmentSet { base: Some(0), upsert: vec![], ..whole(2, 1, &[1]) };
        assert_eq!(held.apply(empty), Outcome::Applied(Difference::default()));
    }

    #[test]
    fn a_difference_to_a_set_that_is_not_held_asks_for_all() {
        let mut held = opened(1);
        let difference = AssignmentSet { base: Some(4), ..whole(1, 5, &[1]) };
        assert_eq!(held.apply(difference), Outcome::NeedFullSet);
        assert_eq!(held.hash(), 0);
    }

    #[test]
    fn a_difference_with_another_result_than_meant_asks_for_all() {
        let mut held = opened(1);
        let difference = AssignmentSet { base: Some(0), hash: 99, ..whole(1, 1, &[1]) };
        assert_eq!(held.apply(difference), Outcome::NeedFullSet);
    }

    #[test]
    fn an_older_session_is_refused_and_its_sets_ignored() {
        let mut held = opened(2);
        assert!(held.open(fence(1, 0)).is_err());
        assert!(held.open(fence(2, 0)).is_err());
        assert_eq!(held.apply(whole(1, 9, &[1])), Outcome::Ignored);
    }

    #[test]
    fn the_same_number_with_other_contents_ends_the_session() {
        let mut held = opened(1);
        held.apply(whole(1, 1, &[1]));
        assert_eq!(held.apply(whole(1, 1, &[1])), Outcome::Ignored);
        assert!(matches!(held.apply(whole(1, 1, &[2])), Outcome::Refused(_)));
    }

    #[test]
    fn a_set_for_another_node_or_cluster_is_refused() {
        let mut held = opened(1);
        let mut set = whole(1, 1, &[1]);
        set.upsert[0].node = NodeId(99);
        assert!(matches!(held.apply(set), Outcome::Refused(_)));
        let foreign = Fence { cluster: ClusterId(99), ..fence(9, 0) };
        assert!(held.open(foreign).is_err());
    }

    #[test]
    fn the_stored_fence_outlives_the_process() {
        let mut held = Assignments::new(CLUSTER, NODE, Some(fence(5, 3)), vec![assignment(1)]);
        assert!(held.open(fence(4, 0)).is_err());
        assert!(held.open(fence(6, 0)).is_ok());
    }

    #[test]
    fn a_set_in_parts_holds_when_the_last_one_is_there_and_not_before() {
        let mut held = opened(1);
        held.apply(whole(1, 1, &[9]));
        let before = held.hash();
        for part in parts(1, 2, &[1, 2, 3]).into_iter().take(2) {
            assert_eq!(held.apply(part), Outcome::Ignored);
            assert_eq!((held.hash(), held.fence()), (before, Some(fence(1, 1))));
        }
        let last = parts(1, 2, &[1, 2, 3]).pop().unwrap();
        let Outcome::Applied(difference) = held.apply(last) else { panic!("applied") };
        assert_eq!((difference.upserted.len(), difference.removed), (3, vec![TaskId(9)]));
        assert_eq!(held.fence(), Some(fence(1, 2)));
    }

    #[test]
    fn parts_of_an_earlier_session_and_parts_without_a_beginning_hold_nothing() {
        let mut held = opened(1);
        let mut sent = parts(1, 1, &[1, 2, 3]);
        held.apply(sent.remove(0));
        held.close();
        held.open(fence(2, 0)).unwrap();
        assert_eq!(held.apply(sent.remove(0)), Outcome::Ignored, "another session's");
        let mut sent = parts(2, 1, &[1, 2, 3]);
        held.apply(sent.remove(0));
        assert_eq!(held.apply(sent.pop().unwrap()), Outcome::NeedFullSet, "the second of three is missing");
        assert_eq!(held.apply(sent.pop().unwrap()), Outcome::NeedFullSet, "what was collected is forgotten");
        assert!(matches!(held.apply(whole(2, 2, &[1])), Outcome::Applied(_)));
    }
}
