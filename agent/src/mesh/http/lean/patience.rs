//! How long something may take, without a timer for each time that it is asked.
//!
//! A timer costs as much as half a head. So each connection has one, which is moved only to an earlier time; when it fires
//! too early, because what it was set for is long done, it is set again for what is waited for now.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A connection's timer.
#[derive(Debug, Default)]
pub struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    /// Ready when it is later than `until`.
    pub fn poll(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if until < timer.deadline() {
            timer.as_mut().reset(until);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::time::timeout;

    use super::*;

    /// Waits until so many milliseconds after `begun`; when that was over.
    async fn wait(patience: &mut Patience, begun: Instant, millis: u64) -> u128 {
        let until = begun + Duration::from_millis(millis);
        poll_fn(|cx| patience.poll(cx, until)).await;
        begun.elapsed().as_millis()
    }

    #[tokio::test]
    async fn each_time_is_kept_whatever_was_waited_for_before() {
        let begun = Instant::now();
        let mut patience = Patience::default();
        assert!((20..5_000).contains(&wait(&mut patience, begun, 20).await));
        // Given up for what is due earlier, and then for what is due later.
        let given_up = timeout(Duration::from_millis(1), wait(&mut patience, begun, 60_000)).await;
        assert!(given_up.is_err());
        assert!((40..5_000).contains(&wait(&mut patience, begun, 40).await));
        let given_up = timeout(Duration::from_millis(1), wait(&mut patience, begun, 60)).await;
        assert!(given_up.is_err());
        assert!((80..5_000).contains(&wait(&mut patience, begun, 80).await));
    }
}
