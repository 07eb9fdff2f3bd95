//! Puts on record whom this manager refuses before there is a request: with a certificate of another authority, one that has run out or
//! none of ours, with a deploy token that is none, on behalf of somebody else.
//!
//! Of a stranger an address is all that there is to record. A machine that was forgotten tries for months: of each address and reason the
//! first is recorded at once, and how many more there were once an hour.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use model::{
    audit::{self, MAX_TEXT},
    identity::Identity,
    request::{ApiError, ErrorCode, Request},
};
use rpc::tls::{ClientTls, TlsError};
use tokio::{sync::mpsc, time::Instant};

use crate::{client, core_loop::Shared};

/// Between records of the same.
const AGAIN: Duration = Duration::from_secs(3_600);
/// How often is looked whether something is due.
const CHECK: Duration = Duration::from_secs(60);
/// What is told apart; of all else one is recorded in an hour.
const MAX_KNOWN: usize = 128;
/// Refusals that wait to be counted; more at once are not.
const WAITING: usize = 256;
/// A record that could not be written is tried again so often, so long after.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(5);

/// Somebody who was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Where from.
    pub address: IpAddr,
    /// Who it was, as the connection proved it.
    pub who: Identity,
    /// Why, in words without anything that was presented.
    pub reason: String,
}

/// A way to tell of refusals, and where they come out.
pub fn channel() -> (mpsc::Sender<Refused>, mpsc::Receiver<Refused>) {
    mpsc::channel(WAITING)
}

/// What it takes.
pub struct Strangers {
    /// Whom this manager's server refuses in the handshake.
    pub at_the_door: mpsc::Receiver<(IpAddr, TlsError)>,
    /// Whom it refuses afterwards.
    pub inside: mpsc::Receiver<Refused>,
    /// The way to the managers.
    pub tls: ClientTls,
    /// Where this manager is.
    pub address: String,
    /// Where the others are.
    pub shared: Shared,
}

impl Strangers {
    /// Records for as long as it is polled.
    pub async fn record(mut self) {
        let mut seen = Seen::default();
        loop {
            let notes = tokio::select! {
                Some((address, error)) = self.at_the_door.recv() => {
                    let refused = Refused { address, who: Identity::Anonymous, reason: error.to_string() };
                    Vec::from_iter(seen.note(refused, Instant::now()))
                }
                Some(refused) = self.inside.recv() => Vec::from_iter(seen.note(refused, Instant::now())),
                () = tokio::time::sleep(CHECK) => seen.due(Instant::now()),
            };
            for note in notes {
                self.tell(note).await;
            }
        }
    }

    async fn tell(&self, Note { who, source, reason }: Note) {
        let request = Request::NoteRefusal { who, source, reason: audit::cut(&reason, MAX_TEXT) };
        for _ in 0..TRIES {
            let mut managers = vec![self.address.clone()];
            managers.extend(self.shared.standing.borrow().addresses.values().cloned());
            let error = match client::call(&managers, &self.tls, &request).await {
                Ok(_) => return,
                Err(error) => error,
            };
            if error.downcast_ref::<ApiError>().is_some_and(|e| e.code == ErrorCode::Unauthenticated) {
                return;
            }
            tracing::debug!(error = format!("{error:#}"), "a refusal is not on record yet");
            tokio::time::sleep(PAUSE).await;
        }
        tracing::warn!(?request, "a refusal could not be put on record");
    }
}

/// What is to be recorded.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    who: Identity,
    source: String,
    reason: String,
}

/// Who was refused lately, by address, identity and the words of the reason without its numbers; nothing for all that are too many.
#[derive(Default)]
struct Seen(BTreeMap<Option<(IpAddr, String, String)>, Again>);

struct Again {
    since: Instant,
    more: u64,
    refused: Refused,
}

impl Seen {
    fn note(&mut self, refused: Refused, now: Instant) -> Option<Note> {
        let words = refused.reason.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        let mut key = Some((refused.address, audit::holder(&refused.who), words));
        if !self.0.contains_key(&key) && self.0.len() >= MAX_KNOWN {
            key = None;
        }
        if let Some(again) = self.0.get_mut(&key) {
            again.more += 1;
            return None;
        }
        let note = noted(key.is_some(), &refused, 0);
        self.0.insert(key, Again { since: now, more: 0, refused });
        Some(note)
    }

    fn due(&mut self, now: Instant) -> Vec<Note> {
        let mut notes = Vec::new();
        self.0.retain(|key, again| {
            if now - again.since < AGAIN {
                return true;
            }
            let more = std::mem::take(&mut again.more);
            again.since = now;
            if more > 0 {
                notes.push(noted(key.is_some(), &again.refused, more));
            }
            more > 0
        });
        notes
    }
}

fn noted(is_known: bool, refused: &Refused, more: u64) -> Note {
    let Refused { address, who, reason } = refused.clone();
    let reason = if more > 0 { format!("{more} more in an hour: {reason}") } else { reason };
    if is_known {
        return Note { who, source: address.to_canonical().to_string(), reason };
    }
    Note { who: Identity::Anonymous, source: "many addresses".into(), reason: format!("such as: {reason}") }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn refused(number: u16, reason: &str) -> Refused {
        let [high, low] = number.to_be_bytes();
        let address = Ipv4Addr::new(10, 0, high, low).into();
        Refused { address, who: Identity::Anonymous, reason: reason.into() }
    }

    #[tokio::test]
    async fn the_same_again_is_told_once_an_hour_with_how_often_it_was() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let first = seen.note(refused(7, "expired: 30 seconds too late"), now).expect("it is new");
        assert_eq!(
            (first.source.as_str(), first.reason.as_str()),
            ("10.0.0.7", "expired: 30 seconds too late")
        );
        for seconds in 0..720 {
            let again = refused(7, &format!("expired: {seconds} seconds too late"));
            assert_eq!(seen.note(again, now), None);
        }
        assert!(seen.note(refused(7, "wrong CA"), now).is_some(), "another reason");
        let known = Refused { who: Identity::Manager(model::id::MemberId(2)), ..refused(7, "wrong CA") };
        assert!(seen.note(known, now).is_some(), "somebody else");
        assert_eq!(seen.due(now + AGAIN / 2), []);
        let due = seen.due(now + AGAIN);
        assert!(matches!(&due[..], [note] if note.reason.starts_with("720 more in an hour: ")), "{due:?}");
        assert_eq!(seen.due(now + AGAIN * 2), []);
        assert!(seen.0.is_empty());
        assert!(seen.note(refused(7, "wrong CA"), now + AGAIN * 2).is_some());
    }

    #[tokio::test]
    async fn addresses_beyond_the_bound_are_one() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let told = (0..10_000).filter_map(|number| seen.note(refused(number, "wrong CA"), now)).count();
        assert_eq!(told, MAX_KNOWN + 1);
        assert!(seen.due(now + AGAIN).iter().any(|note| note.source == "many addresses"));
    }
}
