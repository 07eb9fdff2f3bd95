//! I1: an acknowledged write is never lost; reads are linearizable.
//!
//! Per service, the history of requests and answers must have an order that respects real time and in which each answer
//! is right for a plain register: after Wing and Gong, with Lowe's memory of what was tried. Requests without an answer
//! may take effect at any later time or never. The check trusts nothing that the cluster says about itself (no index, no
//! generation).

use std::collections::BTreeSet;

use crate::history::{Ask, Call, Outcome, Seen, Value};

/// Configurations looked at before a history counts as undecided.
const BUDGET: usize = 300_000;

/// What came of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    /// Too many requests without an answer.
    Undecided,
    /// No order explains it; the call that no order could pass.
    Broken(usize),
}

/// The register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Absent,
    Present {
        value: Value,
        previous: Option<u64>,
    },
    /// Being removed; it goes by itself.
    Removing,
}

type Config = (Vec<u64>, State);

/// Looks for an order.
pub(crate) fn check(calls: &[Call]) -> Verdict {
    let calls: Vec<&Call> = calls.iter().collect();
    let mut order: Vec<usize> = (0..calls.len()).collect();
    order.sort_by_key(|call| calls[*call].invoked);
    let answered = calls.iter().filter(|call| is_settled(call)).count();
    let mut seen: BTreeSet<Config> = BTreeSet::new();
    let mut stack: Vec<(Config, usize)> = vec![((vec![0; calls.len().div_ceil(64)], State::Absent), 0)];
    let mut furthest = (0, 0);
    while let Some(((done, state), settled)) = stack.pop() {
        if settled == answered {
            return Verdict::Linearizable;
        }
        if seen.len() > BUDGET {
            return Verdict::Undecided;
        }
        let open = || order.iter().copied().filter(|call| !has(&done, *call));
        let Some(first) =
            open().filter(|call| is_settled(calls[*call])).min_by_key(|call| calls[*call].returned)
        else {
            continue;
        };
        if settled >= furthest.0 {
            furthest = (settled, first);
        }
        let latest = calls[first].returned.unwrap_or(u64::MAX);
        for call in open().take_while(|call| calls[*call].invoked <= latest) {
            for next in steps(state, calls[call]) {
                let config = (with(&done, call), next);
                if seen.insert(config.clone()) {
                    stack.push((config, settled + usize::from(is_settled(calls[call]))));
                }
            }
        }
    }
    Verdict::Broken(furthest.1)
}

fn is_settled(call: &Call) -> bool {
    call.returned.is_some() && call.outcome != Outcome::Unknown
}

fn has(done: &[u64], call: usize) -> bool {
    done[call / 64] & (1 << (call % 64)) != 0
}

fn with(done: &[u64], call: usize) -> Vec<u64> {
    let mut done = done.to_vec();
    done[call / 64] |= 1 << (call % 64);
    done
}

/// Every state that the register may have after the call, given what was answered.
fn steps(state: State, call: &Call) -> Vec<State> {
    let mut next = step(state, call);
    next.extend(by_itself(state).into_iter().flat_map(|state| step(state, call)));
    next
}

/// What the register may become without a request: a removal ends, an update that failed is rolled back.
fn by_itself(state: State) -> Option<State> {
    match state {
        State::Removing => Some(State::Absent),
        State::Present { value, previous: Some(tag) } if value.rolls_back_alone() => {
            Some(State::Present { value: Value { tag, ..value }, previous: None })
        }
        State::Absent | State::Present { .. } => None,
    }
}

fn step(state: State, call: &Call) -> Vec<State> {
    let outcome = match call.outcome {
        Outcome::Unknown => Outcome::Done,
        outcome => outcome,
    };
    match (state, call.ask, outcome) {
        (State::Absent, Ask::Create(value), Outcome::Done) => vec![State::Present { value, previous: None }],
        (State::Absent, Ask::Read, Outcome::Saw(Seen::Absent)) => vec![state],
        (State::Absent, Ask::Create(_) | Ask::Read, _) => Vec::new(),
        (State::Absent, _, Outcome::Missing) => vec![state],
        (State::Absent, ..) => Vec::new(),
        (State::Removing, Ask::Read, Outcome::Saw(Seen::Removing)) => vec![state],
        (State::Removing, Ask::Remove, Outcome::Done) => vec![state],
        (State::Removing, Ask::Read | Ask::Remove, _) => Vec::new(),
        (State::Removing, _, Outcome::Conflict) => vec![state],
        (State::Removing, ..) => Vec::new(),
        (State::Present { value, previous }, ask, outcome) => present(value, previous, ask, outcome),
    }
}

fn present(value: Value, previous: Option<u64>, ask: Ask, outcome: Outcome) -> Vec<State> {
    let same = State::Present { value, previous };
    match (ask, outcome) {
        (Ask::Read, Outcome::Saw(Seen::Present(seen))) if seen == value => vec![same],
        (Ask::Create(_), Outcome::Exists) => vec![same],
        (Ask::Update { saw, value: new }, Outcome::Done) if saw == value => {
            vec![State::Present { value: new, previous: Some(value.tag) }]
        }
        (Ask::Update { .. } | Ask::Rollback, Outcome::Conflict) => vec![same],
        (Ask::Scale(replicas), Outcome::Done) => {
            vec![State::Present { value: Value { replicas, ..value }, previous }]
        }
        (Ask::Rollback, Outcome::Done) => previous
            .map(|tag| State::Present { value: Value { tag, ..value }, previous: Some(value.tag) })
            .into_iter()
            .collect(),
        (Ask::Remove, Outcome::Done) => vec![State::Removing, State::Absent],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

    use super::*;

    fn value(number: u64, replicas: u32) -> Value {
        Value { tag: 2 * number, replicas }
    }

    fn call(ask: Ask, invoked: u64, returned: Option<u64>, outcome: Outcome) -> Call {
        Call { ask, invoked, returned, outcome }
    }

    fn created() -> Call {
        call(Ask::Create(value(1, 2)), 0, Some(10), Outcome::Done)
    }

    fn read(invoked: u64, seen: Seen) -> Call {
        call(Ask::Read, invoked, Some(invoked + 5), Outcome::Saw(seen))
    }

    #[test]
    fn a_write_that_was_acknowledged_and_is_not_seen_breaks_it() {
        let lost = [created(), read(20, Seen::Absent)];
        assert_eq!(check(&lost), Verdict::Broken(1));
        let kept = [created(), read(20, Seen::Present(value(1, 2)))];
        assert_eq!(check(&kept), Verdict::Linearizable);
    }

    #[test]
    fn a_write_without_an_answer_may_show_late_but_not_vanish_again() {
        let unknown = call(Ask::Scale(5), 20, None, Outcome::Unknown);
        let (before, after) = (Seen::Present(value(1, 2)), Seen::Present(value(1, 5)));
        let late = [created(), unknown.clone(), read(30, before), read(40, after)];
        assert_eq!(check(&late), Verdict::Linearizable);
        let again = [created(), unknown, read(30, after), read(40, before)];
        assert_eq!(check(&again), Verdict::Broken(3));
    }

    #[test]
    fn a_retry_that_was_applied_twice_shows_as_a_refusal_of_what_was_done() {
        let create = call(Ask::Create(value(7, 1)), 0, Some(10), Outcome::Exists);
        assert_eq!(check(&[create, read(20, Seen::Present(value(7, 1)))]), Verdict::Broken(0));
    }

    #[test]
    fn an_update_over_something_that_its_author_had_not_seen_is_a_lost_update() {
        let saw = value(1, 2);
        let calls = [
            created(),
            call(Ask::Scale(4), 20, Some(25), Outcome::Done),
            call(Ask::Update { saw, value: value(2, 2) }, 30, Some(35), Outcome::Done),
        ];
        assert_eq!(check(&calls), Verdict::Broken(2));
    }

    #[test]
    fn a_removed_service_goes_by_itself_and_its_name_can_be_used_again() {
        let calls = [
            created(),
            call(Ask::Remove, 20, Some(25), Outcome::Done),
            read(30, Seen::Removing),
            read(40, Seen::Absent),
            call(Ask::Create(value(9, 1)), 50, Some(55), Outcome::Done),
            read(60, Seen::Present(value(9, 1))),
        ];
        assert_eq!(check(&calls), Verdict::Linearizable);
    }

    #[test]
    fn an_update_that_rolls_back_alone_shows_once_as_what_was_before() {
        let alone = Value { tag: 9, replicas: 2 };
        let calls = [
            created(),
            call(Ask::Update { saw: value(1, 2), value: alone }, 20, Some(25), Outcome::Done),
            read(30, Seen::Present(alone)),
            read(40, Seen::Present(value(1, 2))),
        ];
        assert_eq!(check(&calls), Verdict::Linearizable);
        let again = [&calls[..], &[read(50, Seen::Present(alone))]].concat();
        assert_eq!(check(&again), Verdict::Broken(4));
    }

    /// Tries every order of every choice of the unanswered calls: slow, and too simple to be wrong.
    fn brute(calls: &[Call], done: &mut Vec<usize>, state: State) -> bool {
        let left: Vec<usize> = (0..calls.len()).filter(|call| !done.contains(call)).collect();
        if left.iter().all(|call| !is_settled(&calls[*call])) {
            return true;
        }
        let may_be_next = |call: usize| {
            left.iter().all(|other| {
                !is_settled(&calls[*other])
                    || calls[*other].returned.is_some_and(|at| at >= calls[call].invoked)
            })
        };
        left.iter().filter(|call| may_be_next(**call)).any(|call| {
            steps(state, &calls[*call]).into_iter().any(|next| {
                done.push(*call);
                let found = brute(calls, done, next);
                done.pop();
                found
            })
        })
    }

    fn random_call(dice: &mut crate::dice::Dice) -> Call {
        let some =
            |dice: &mut crate::dice::Dice| Value { tag: dice.range(1, 3), replicas: dice.range(1, 2) as u32 };
        let ask = match dice.range(0, 5) {
            0 => Ask::Create(some(dice)),
            1 => Ask::Update { saw: some(dice), value: some(dice) },
            2 => Ask::Scale(dice.range(1, 2) as u32),
            3 => Ask::Rollback,
            4 => Ask::Remove,
            _ => Ask::Read,
        };
        let outcome = match (ask, dice.range(0, 9)) {
            (_, 0) => Outcome::Unknown,
            (Ask::Read, 1..4) => Outcome::Saw(Seen::Absent),
            (Ask::Read, 4) => Outcome::Saw(Seen::Removing),
            (Ask::Read, _) => Outcome::Saw(Seen::Present(some(dice))),
            (_, 1) => Outcome::Conflict,
            (_, 2) => Outcome::Missing,
            (_, 3) => Outcome::Exists,
            _ => Outcome::Done,
        };
        let invoked = dice.range(0, 12);
        let returned = (outcome != Outcome::Unknown).then(|| invoked + dice.range(1, 6));
        Call { ask, invoked, returned, outcome }
    }

    #[test]
    fn it_agrees_with_every_order_tried_out_on_small_histories() {
        let mut dice = crate::dice::Dice::new(1, "histories");
        let mut found = [0, 0];
        for _ in 0..20_000 {
            let calls: Vec<Call> = (0..dice.range(1, 5)).map(|_| random_call(&mut dice)).collect();
            let expected = brute(&calls, &mut Vec::new(), State::Absent);
            assert_eq!(check(&calls) == Verdict::Linearizable, expected, "{calls:?}");
            found[usize::from(expected)] += 1;
        }
        assert!(found.iter().all(|count| *count > 1_000), "one-sided: {found:?}");
    }

    /// The register for a checker that we did not write, which knows one next state only: all that it may be in, at once.
    #[derive(Clone)]
    struct Register(BTreeSet<State>);

    impl Register {
        /// False when the answer fits none of them.
        fn take(&mut self, call: &Call) -> bool {
            let next: BTreeSet<State> = self.0.iter().flat_map(|state| steps(*state, call)).collect();
            let fits = !next.is_empty();
            if fits {
                self.0 = next;
            }
            fits
        }
    }

    impl SequentialSpec for Register {
        type Op = Call;
        type Ret = Outcome;

        /// Of a call without an answer, which may as well never happen.
        fn invoke(&mut self, call: &Call) -> Outcome {
            self.take(call);
            Outcome::Unknown
        }

        fn is_valid_step(&mut self, call: &Call, _: &Outcome) -> bool {
            self.take(call)
        }
    }

    fn stateright(calls: &[Call]) -> bool {
        let mut tester = LinearizabilityTester::new(Register([State::Absent].into()));
        // What is asked at the moment of an answer is asked before it: the two overlap.
        let mut moments: Vec<_> =
            calls.iter().enumerate().map(|(at, call)| (call.invoked, false, at)).collect();
        let answered = calls.iter().enumerate().filter(|(_, call)| is_settled(call));
        moments.extend(answered.filter_map(|(at, call)| Some((call.returned?, true, at))));
        moments.sort_unstable();
        for (_, returned, at) in moments {
            // Each call on a thread of its own.
            let taken = match returned {
                false => tester.on_invoke(at, calls[at].clone()),
                true => tester.on_return(at, calls[at].outcome),
            };
            taken.expect("each call begins once, and ends after that");
        }
        tester.is_consistent()
    }

    #[test]
    fn it_agrees_with_a_checker_that_others_wrote() {
        let mut dice = crate::dice::Dice::new(2, "histories");
        let mut found = [0, 0];
        for _ in 0..20_000 {
            let calls: Vec<Call> = (0..dice.range(1, 6)).map(|_| random_call(&mut dice)).collect();
            let expected = stateright(&calls);
            assert_eq!(check(&calls) == Verdict::Linearizable, expected, "{calls:?}");
            found[usize::from(expected)] += 1;
        }
        assert!(found.iter().all(|count| *count > 1_000), "one-sided: {found:?}");
    }
}
