//! What waits for the core, in four classes with a queue and a share of each turn of their own: a flood of one class fills its own
//! queue and makes its own senders wait, and neither a heartbeat nor another class waits behind it.

use model::identity::Identity;
use tokio::sync::mpsc;

use crate::core_loop::Input;

/// Inputs of one class that may wait; more make their senders wait.
const QUEUE: usize = 4_096;

/// One class of inputs. What belongs together (a request and its cancellation, a session's opening, messages and end) is of one
/// class, because only within a class the order is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Raft, and what the daemon itself has done: log written, certificate signed, registry asked.
    Raft,
    /// Agents: heartbeats and statuses.
    Nodes,
    /// People, and managers that speak for themselves.
    Operators,
    /// Everybody whom a program speaks for or nobody knows yet: pipelines and joiners.
    Pipelines,
}

impl Class {
    const ALL: [Self; 4] = [Self::Raft, Self::Nodes, Self::Operators, Self::Pipelines];

    /// The class of what an identity asks.
    pub fn of(identity: &Identity) -> Self {
        match identity {
            Identity::Node(_) => Self::Nodes,
            Identity::Manager(_) | Identity::Operator { .. } | Identity::User { .. } => Self::Operators,
            Identity::Joiner(_) | Identity::Anonymous | Identity::Bearer(_) | Identity::Deployer { .. } => {
                Self::Pipelines
            }
        }
    }

    /// Its inputs that one turn takes: long enough to form batches, short enough for a heartbeat.
    fn share(self) -> usize {
        match self {
            Self::Raft => 256,
            Self::Nodes => 128,
            Self::Operators => 64,
            Self::Pipelines => 32,
        }
    }
}

/// Where inputs go in. Cheap to clone.
#[derive(Clone)]
pub struct Inputs([mpsc::Sender<Input>; 4]);

impl Inputs {
    /// The four queues, and the end that the core's loop reads.
    pub fn new() -> (Self, Queues) {
        let (senders, queues): (Vec<_>, Vec<_>) = (0..4).map(|_| mpsc::channel(QUEUE)).unzip();
        let of_four = "four queues were made";
        let senders = senders.try_into().unwrap_or_else(|_| panic!("{of_four}"));
        let queues = queues.try_into().unwrap_or_else(|_| panic!("{of_four}"));
        (Self(senders), Queues(queues))
    }

    /// The way in for one class.
    pub fn of(&self, class: Class) -> &mpsc::Sender<Input> {
        &self.0[class as usize]
    }
}

/// Where the core's loop takes them.
pub struct Queues([mpsc::Receiver<Input>; 4]);

impl Queues {
    /// The next input, of the first class that has one; waits when there is none. `None`: nobody sends any more.
    pub async fn next(&mut self) -> Option<Input> {
        let [raft, nodes, operators, pipelines] = &mut self.0;
        tokio::select! {
            biased;
            input = raft.recv() => input,
            input = nodes.recv() => input,
            input = operators.recv() => input,
            input = pipelines.recv() => input,
        }
    }

    /// What waits now, at most each class's share, Raft first.
    pub fn turn(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        for class in Class::ALL {
            let queue = &mut self.0[class as usize];
            inputs.extend(std::iter::from_fn(|| queue.try_recv().ok()).take(class.share()));
        }
        inputs
    }
}

#[cfg(test)]
mod tests {
    use manager_core::Event;

    use super::*;

    fn cancel(handle: u64) -> Input {
        Input::Core(Event::Cancel { handle })
    }

    fn handles(inputs: Vec<Input>) -> Vec<u64> {
        let of = |input| match input {
            Input::Core(Event::Cancel { handle }) => handle,
            _ => panic!("only cancellations were sent"),
        };
        inputs.into_iter().map(of).collect()
    }

    #[test]
    fn a_flood_of_one_class_leaves_every_other_its_place_and_its_share_of_each_turn() {
        let (inputs, mut queues) = Inputs::new();
        while inputs.of(Class::Pipelines).try_send(cancel(0)).is_ok() {}
        for (class, handle) in [(Class::Operators, 3), (Class::Nodes, 2), (Class::Raft, 1)] {
            inputs
                .of(class)
                .try_send(cancel(handle))
                .expect("another class's flood takes no place of this one");
        }
        let turn = handles(queues.turn());
        assert_eq!(turn[..3], [1, 2, 3], "Raft first, then nodes, then people");
        assert_eq!(turn[3..].len(), Class::Pipelines.share(), "the flood gets its share and no more");
    }

    #[test]
    fn a_class_keeps_its_order() {
        let (inputs, mut queues) = Inputs::new();
        for handle in 0..100 {
            inputs.of(Class::Nodes).try_send(cancel(handle)).expect("there is room");
        }
        assert_eq!(handles(queues.turn()), (0..100).collect::<Vec<_>>());
    }
}
