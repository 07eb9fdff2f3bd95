//! Which requests were applied, and what they were answered: a client that did not hear the answer asks again with the
//! same id and gets the same one, and nothing happens twice (invariant I1).

use imbl::{OrdMap, Vector};
use model::{
    command::{Answer, Rejection},
    id::RequestId,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hash::{Table, object_hash};

/// Requests remembered. A client retries within its deadline of minutes; at 30 changes a second this covers two.
pub const MAX_REQUESTS: usize = 4096;

/// What a request was answered.
pub(crate) type Outcome = Result<Answer, Rejection>;

/// The newest [`MAX_REQUESTS`] requests with their outcomes.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct RequestRing {
    /// Oldest first.
    order: Vector<RequestId>,
    outcomes: OrdMap<RequestId, Outcome>,
}

impl RequestRing {
    /// What the request was answered, if it is remembered.
    pub fn get(&self, id: RequestId) -> Option<&Outcome> {
        self.outcomes.get(&id)
    }

    /// Remembers a new request; gives back what the sum of hashes gains.
    pub fn record(&mut self, id: RequestId, outcome: Outcome) -> u64 {
        let mut gain = object_hash(Table::Request, &(id, &outcome));
        self.order.push_back(id);
        self.outcomes.insert(id, outcome);
        if self.order.len() > MAX_REQUESTS
            && let Some(oldest) = self.order.pop_front()
            && let Some(outcome) = self.outcomes.remove(&oldest)
        {
            gain = gain.wrapping_sub(object_hash(Table::Request, &(oldest, &outcome)));
        }
        gain
    }

    /// The sum of the hashes of all remembered requests.
    pub fn sum(&self) -> u64 {
        self.outcomes.iter().fold(0, |sum, pair| sum.wrapping_add(object_hash(Table::Request, &pair)))
    }

    /// Whether order and outcomes speak of the same requests, within the bound.
    pub fn is_consistent(&self) -> bool {
        self.order.len() == self.outcomes.len()
            && self.order.len() <= MAX_REQUESTS
            && self.order.iter().all(|id| self.outcomes.contains_key(id))
    }
}

impl Serialize for RequestRing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.order.iter().filter_map(|id| Some((id, self.outcomes.get(id)?))))
    }
}

impl<'de> Deserialize<'de> for RequestRing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = Vec::<(RequestId, Outcome)>::deserialize(deserializer)?;
        let order = pairs.iter().map(|(id, _)| *id).collect();
        Ok(Self { order, outcomes: pairs.into_iter().collect() })
    }
}
