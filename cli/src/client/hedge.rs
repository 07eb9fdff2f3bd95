//! One call over several managers at once, so that a frozen one costs a moment and not its time limit.
//!
//! Managers are asked in turn. The next one is asked as soon as one has failed, and also when the last one asked has said
//! nothing for [`HEDGE`]; it is not given up for that, and the first answer counts. Whoever could not decide is asked again
//! after a pause.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use model::{
    id::RequestId,
    request::{ErrorCode, Reply, Request},
};
use proto::codec;

use super::{ATTEMPT_LIMIT, Attempt, Attempts, Client, FIRST_PAUSE, LONGEST_PAUSE};
use crate::exit::Failure;

/// A manager that lives answers most questions in milliseconds, and in this time even through an election.
pub(super) const HEDGE: Duration = Duration::from_millis(800);

pub(super) struct Call<'a> {
    client: &'a Client,
    request: &'a Request,
    id: RequestId,
    payload: Bytes,
    deadline: Instant,
    /// Not asked in this round, in order.
    next: VecDeque<usize>,
    /// Asked in this round without success.
    tried: VecDeque<usize>,
    attempts: Attempts,
    pause: Duration,
}

impl<'a> Call<'a> {
    pub(super) fn new(client: &'a Client, request: &'a Request, id: RequestId, deadline: Instant) -> Self {
        let managers = client.managers.len();
        Self {
            client,
            request,
            id,
            payload: codec::encode(request),
            deadline,
            next: (0..managers).map(|n| (client.preferred.get() + n) % managers).collect(),
            tried: VecDeque::new(),
            attempts: Attempts::new(&client.context, managers, client.patience.get()),
            pause: FIRST_PAUSE,
        }
    }

    pub(super) async fn run(mut self) -> Result<Reply, Failure> {
        let mut asked = FuturesUnordered::new();
        let mut ask_at = Instant::now();
        loop {
            let waiting = !self.next.is_empty() || !self.tried.is_empty();
            tokio::select! {
                Some((manager, left, attempt)) = asked.next(), if !asked.is_empty() => {
                    if let Some(reply) = self.answered(manager, left, attempt)? {
                        return Ok(reply);
                    }
                    let now = Instant::now();
                    ask_at = match (self.next.is_empty(), asked.is_empty()) {
                        (false, _) => now,
                        (true, true) => now + self.pause,
                        // The silent ones keep their chance before the others are asked again.
                        (true, false) => ask_at.max(now + self.pause),
                    };
                }
                () = tokio::time::sleep_until(ask_at.into()), if waiting => {
                    let left = self.deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(self.attempts.deadline(self.request));
                    }
                    asked.push(self.ask(left)?);
                    ask_at = Instant::now() + self.patience();
                }
            }
        }
    }

    /// Asks the next manager; begins the next round when all were tried.
    fn ask(
        &mut self,
        left: Duration,
    ) -> Result<impl Future<Output = (usize, Duration, Attempt)> + use<'a>, Failure> {
        if self.next.is_empty() {
            self.attempts.round()?;
            self.next = std::mem::take(&mut self.tried);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        let manager = self.next.pop_front().expect("a round has managers that are not being asked");
        let (client, envelope) = (self.client, self.client.envelope(self.payload.clone(), self.id, left));
        Ok(async move { (manager, left, client.attempt(&client.managers[manager], envelope).await) })
    }

    /// How long the manager asked last may be silent before another one is asked as well. A hand-over of the lead leaves
    /// no trace in the log by which a second one of it would be known as the same.
    fn patience(&self) -> Duration {
        match self.request {
            Request::TransferLeader { .. } => 2 * ATTEMPT_LIMIT,
            _ => HEDGE,
        }
    }

    fn answered(
        &mut self,
        manager: usize,
        left: Duration,
        attempt: Attempt,
    ) -> Result<Option<Reply>, Failure> {
        match attempt {
            Attempt::Answered(reply) => {
                self.client.preferred.set(manager);
                return Ok(Some(reply));
            }
            // Only this attempt's share of the time is over.
            Attempt::Refused(error) if error.code == ErrorCode::Deadline && left > ATTEMPT_LIMIT => {
                self.attempts.busy(error);
            }
            Attempt::Refused(error) => return Err(error.into()),
            Attempt::Busy(error) => self.attempts.busy(error),
            Attempt::Failed(status) => {
                self.attempts.failed(self.client.managers[manager].address.clone(), &status)?;
            }
        }
        self.tried.push_back(manager);
        Ok(None)
    }
}
