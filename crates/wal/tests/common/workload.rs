//! A seeded workload that uses all of the log, and knows at each moment what a crash may leave.

use super::*;

/// What the next steps do, and what a reader may find if one of them is cut short.
pub struct Workload {
    dice: Dice,
    pub acknowledged: Model,
    /// What is there if the step under way took effect although it did not return.
    pub in_flight: Option<Model>,
    /// A hard state that was accepted without a sync.
    pub deferred: Option<Bytes>,
}

impl Workload {
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice(seed), acknowledged: Model::default(), in_flight: None, deferred: None }
    }

    /// Checks what was recovered and goes on from there.
    pub fn resume(&mut self, recovered: &Recovered, context: &str) {
        let found = Model::of(recovered);
        let mut allowed = vec![self.acknowledged.clone()];
        allowed.extend(self.in_flight.take());
        for mut model in allowed.clone() {
            if self.deferred.is_some() {
                model.hard_state = self.deferred.clone();
                allowed.push(model);
            }
        }
        assert!(
            allowed.contains(&found),
            "{context}: recovered something that was not acknowledged, or lost what was:\n\
             last {} of {:?}, hard state {:?}",
            found.last(),
            allowed.iter().map(Model::last).collect::<Vec<_>>(),
            found.hard_state
        );
        self.acknowledged = found;
        self.deferred = None;
    }

    /// Goes on until the disk refuses.
    pub fn run(&mut self, wal: &mut Wal) {
        loop {
            match self.step(wal) {
                Ok(()) => {}
                Err(WalError::Io { .. }) => return,
                Err(error) => panic!("the workload is in order: {error}"),
            }
        }
    }

    /// Does one step.
    pub fn step(&mut self, wal: &mut Wal) -> Result<(), WalError> {
        match self.dice.roll(16) {
            0..=6 => {
                let batch = self.some_records(1400);
                self.append(wal, &[batch])
            }
            7 => {
                let batch = self.some_records(6000);
                self.append(wal, &[batch])
            }
            8 => {
                let conflict = self.conflict();
                self.append(wal, &[conflict])
            }
            9 => {
                let batches =
                    [self.some_records(300), Batch { hard_state: hard_state("merged"), ..Batch::default() }];
                self.append(wal, &batches)
            }
            10 => self.local_snapshot(wal),
            11 if self.dice.roll(3) == 0 => {
                let meta = SnapshotMeta {
                    index: self.acknowledged.last() + 5,
                    term: self.acknowledged.last_term() + 1,
                };
                self.snapshot(wal, meta)
            }
            11 | 12 => wal.compact(u64::MAX).map(drop),
            13 => self.seal(wal),
            14 => {
                let state = hard_state(&format!("deferred {}", self.dice.roll(1000)));
                wal.append(&Batch { hard_state: state.clone(), ..Batch::default() })?;
                self.deferred = state;
                Ok(())
            }
            _ => tend_fully(wal),
        }
    }

    fn some_records(&mut self, length: u64) -> Batch {
        let first = self.acknowledged.last() + 1;
        let term = self.acknowledged.last_term() + u64::from(self.dice.roll(8) == 0);
        let count = 1 + self.dice.roll(3);
        let records =
            (0..count).map(|at| record(first + at, term, self.dice.roll(length) as usize)).collect();
        let state = if self.dice.roll(16) == 0 { hard_state(&format!("vote {first}")) } else { None };
        Batch { hard_state: state, ..entries(records) }
    }

    fn conflict(&mut self) -> Batch {
        let snapshot = self.acknowledged.snapshot.map_or(0, |meta| meta.index);
        let live = self.acknowledged.last() - snapshot;
        if live == 0 {
            return self.some_records(500);
        }
        let from = snapshot + 1 + self.dice.roll(live);
        let term = self.acknowledged.last_term() + 1;
        Batch { truncate_from: Some(from), ..entries(vec![record(from, term, 700)]) }
    }

    fn append(&mut self, wal: &mut Wal, batches: &[Batch]) -> Result<(), WalError> {
        let mut next = self.acknowledged.clone();
        if self.deferred.is_some() {
            next.hard_state = self.deferred.clone();
        }
        batches.iter().for_each(|batch| next.apply(batch));
        self.in_flight = Some(next.clone());
        wal.append_all(batches)?;
        self.settled(next);
        Ok(())
    }

    fn local_snapshot(&mut self, wal: &mut Wal) -> Result<(), WalError> {
        let count = self.acknowledged.entries.len() as u64;
        if count == 0 {
            return Ok(());
        }
        let entry = &self.acknowledged.entries[self.dice.roll(count) as usize];
        let meta = SnapshotMeta { index: entry.index, term: entry.term };
        self.snapshot(wal, meta)
    }

    fn snapshot(&mut self, wal: &mut Wal, meta: SnapshotMeta) -> Result<(), WalError> {
        let state =
            if self.dice.roll(2) == 0 { hard_state(&format!("snapshot {}", meta.index)) } else { None };
        let mut next = self.acknowledged.clone();
        if self.deferred.is_some() {
            next.hard_state = self.deferred.clone();
        }
        next.install(meta, state.clone());
        self.in_flight = Some(next.clone());
        take_snapshot(wal, meta, state)?;
        self.settled(next);
        Ok(())
    }

    fn seal(&mut self, wal: &mut Wal) -> Result<(), WalError> {
        wal.seal()?;
        let mut next = self.acknowledged.clone();
        if self.deferred.is_some() {
            next.hard_state = self.deferred.clone();
        }
        self.settled(next);
        Ok(())
    }

    fn settled(&mut self, model: Model) {
        self.acknowledged = model;
        self.in_flight = None;
        self.deferred = None;
    }
}
