//! Puts on record whom this manager refuses before there is a request: with a certificate of another authority, one that has run out or
//! none of ours, with a deploy token that is none, on behalf of somebody else.
//!
//! Of a stranger an address is all that there is to record. A machine that was forgotten tries for months: of each address and reason the
//! first is recorded at once, and how many more there were once an hour.

use std::{
    collections::BTreeMap,
    mem::{discriminant, take},
    net::IpAddr,
    time::Duration,
};

use model::{
    audit::{self, MAX_TEXT},
    identity::Identity,
    request::{ApiError, ErrorCode, Request},
};
use rpc::{
    offences::source,
    tls::{ClientTls, TlsError},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tonic::Status;

use crate::{client, core_loop::Shared};

/// Between records of the same.
const AGAIN: Duration = Duration::from_secs(3_600);
/// How often is looked whether something is due.
const CHECK: Duration = Duration::from_secs(60);
/// What is told apart; of all else one is recorded in an hour.
const MAX_KNOWN: usize = 128;
/// Refusals that wait to be counted; more at once are not.
const WAITING: usize = 256;
/// Records that wait to be written, for as long as no manager can.
const UNWRITTEN: usize = 64;
/// Until a record that could not be written is tried again, unless another manager leads before.
const PAUSE: Duration = Duration::from_secs(10);

/// Somebody who was refused.
#[derive(Debug, Clone)]
pub struct Refused {
    address: IpAddr,
    who: Identity,
    /// The same for the same reason, whatever numbers its sentence has.
    kind: String,
    reason: String,
}

impl Refused {
    /// In the handshake. What a certificate says of itself goes into no record: anybody can write one.
    fn at_the_door(address: IpAddr, error: &TlsError) -> Self {
        let reason = match error {
            TlsError::BadCertificate { .. } | TlsError::NoIdentity { .. } => {
                "the other side's certificate is none that this cluster gives".to_owned()
            }
            other => other.to_string(),
        };
        let kind = format!("{:?}", discriminant(error));
        Self { address: source(address), who: Identity::Anonymous, kind, reason }
    }

    /// Afterwards.
    pub fn inside(address: IpAddr, who: Identity, refusal: &Status) -> Self {
        let reason = refusal.message().to_owned();
        Self { address: source(address), who, kind: reason.clone(), reason }
    }

    fn key(&self) -> Key {
        Some((self.address, audit::holder(&self.who), self.kind.clone()))
    }
}

/// What is told apart; nothing for all that is too many.
type Key = Option<(IpAddr, String, String)>;

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
    pub async fn record(self) {
        let Self { at_the_door, inside, tls, address, shared } = self;
        let (notes, mut unwritten) = mpsc::channel(UNWRITTEN);
        let write = async {
            while let Some(note) = unwritten.recv().await {
                write(note, &tls, &address, &shared).await;
            }
        };
        tokio::join!(count(at_the_door, inside, notes), write);
    }
}

/// Puts a note on record, however long nobody can.
async fn write(Note { who, source, reason }: Note, tls: &ClientTls, address: &str, shared: &Shared) {
    let request = Request::NoteRefusal { who, source, reason: audit::cut(&reason, MAX_TEXT) };
    let mut standing = shared.standing.clone();
    loop {
        let mut managers = vec![address.to_owned()];
        managers.extend(standing.borrow_and_update().addresses.values().cloned());
        let Err(error) = client::call(&managers, tls, &request).await else { return };
        match error.downcast_ref::<ApiError>().map(|error| error.code) {
            Some(ErrorCode::Unauthenticated) => return,
            None | Some(ErrorCode::Unavailable | ErrorCode::NotLeader | ErrorCode::Exhausted) => {
                tracing::debug!(error = format!("{error:#}"), "a refusal is not on record yet");
                let _ = timeout(PAUSE, standing.changed()).await;
            }
            Some(_) => {
                tracing::warn!(?request, error = format!("{error:#}"), "a refusal cannot be recorded");
                return;
            }
        }
    }
}

/// Decides what is recorded of what is refused.
async fn count(
    mut at_the_door: mpsc::Receiver<(IpAddr, TlsError)>,
    mut inside: mpsc::Receiver<Refused>,
    notes: mpsc::Sender<Note>,
) {
    let mut seen = Seen::default();
    let mut check = interval(CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some((address, error)) = at_the_door.recv() => {
                seen.note(Refused::at_the_door(address, &error), &notes, Instant::now());
            }
            Some(refused) = inside.recv() => seen.note(refused, &notes, Instant::now()),
            _ = check.tick() => seen.sum_up(&notes, Instant::now()),
        }
    }
}

/// What is to be recorded.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    who: Identity,
    source: String,
    reason: String,
}

/// Who was refused lately.
#[derive(Default)]
struct Seen(BTreeMap<Key, Again>);

struct Again {
    since: Instant,
    more: u64,
    refused: Refused,
}

impl Seen {
    fn note(&mut self, refused: Refused, notes: &mpsc::Sender<Note>, now: Instant) {
        let mut key = refused.key();
        if !self.0.contains_key(&key) && self.0.len() >= MAX_KNOWN {
            key = None;
        }
        if let Some(again) = self.0.get_mut(&key) {
            again.more += 1;
        } else if notes.try_send(noted(&key, &refused, 0)).is_ok() {
            // One that has no place is told when it comes again.
            self.0.insert(key, Again { since: now, more: 0, refused });
        }
    }

    fn sum_up(&mut self, notes: &mpsc::Sender<Note>, now: Instant) {
        self.0.retain(|key, again| {
            if now - again.since < AGAIN {
                return true;
            }
            if again.more > 0 && notes.try_send(noted(key, &again.refused, again.more)).is_err() {
                return true;
            }
            again.since = now;
            take(&mut again.more) > 0
        });
    }
}

fn noted(key: &Key, refused: &Refused, more: u64) -> Note {
    let Refused { address, who, reason, .. } = refused.clone();
    let reason = if more > 0 { format!("{more} more in an hour: {reason}") } else { reason };
    match key {
        Some(_) => Note { who, source: address.to_string(), reason },
        None => {
            let reason = format!("such as: {reason}");
            Note { who: Identity::Anonymous, source: "many addresses".into(), reason }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::sleep;

    use super::*;

    fn address(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(10, 0, high, low).into()
    }

    fn expired(seconds: u64) -> TlsError {
        TlsError::Expired { not_after: "then".into(), now: "now".into(), seconds }
    }

    /// All that is told by now.
    fn told(notes: &mut mpsc::Receiver<Note>) -> Vec<Note> {
        std::iter::from_fn(|| notes.try_recv().ok()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_again_is_told_once_an_hour_with_how_often_it_was() {
        let ((door, at_the_door), (inside, from_inside)) = (mpsc::channel(WAITING), channel());
        let (tell, mut notes) = mpsc::channel(UNWRITTEN);
        let counting = tokio::spawn(count(at_the_door, from_inside, tell));
        // Far more often than is looked for what is due.
        for second in 0..5_400 {
            door.send((address(7), expired(second))).await.expect("somebody counts");
            sleep(Duration::from_secs(1)).await;
        }
        let all = told(&mut notes);
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!((all[0].source.as_str(), &all[0].who), ("10.0.0.7", &Identity::Anonymous));
        assert!(all[0].reason.contains(": 0 seconds too late"), "{all:?}");
        assert!(all[1].reason.contains(" more in an hour: the other side's certificate expired"), "{all:?}");
        door.send((address(7), TlsError::WrongCa)).await.expect("somebody counts");
        let refusal = Status::permission_denied("only managers speak on behalf of others");
        let known = Refused::inside(address(7), Identity::Manager(model::id::MemberId(2)), &refusal);
        let elsewhere = Status::permission_denied("only nodes' agents of this cluster may open a session");
        let again = Refused::inside(address(7), known.who.clone(), &elsewhere);
        for refused in [known.clone(), known, again] {
            inside.send(refused).await.expect("somebody counts");
        }
        sleep(Duration::from_secs(1)).await;
        let others = told(&mut notes);
        assert_eq!(others.len(), 3, "another reason, somebody else, and that for another reason: {others:?}");
        counting.abort();
    }

    #[tokio::test]
    async fn addresses_beyond_the_bound_are_one_and_leave_when_they_are_quiet() {
        let (tell, mut notes) = mpsc::channel(10_000);
        let (mut seen, now) = (Seen::default(), Instant::now());
        for number in 0..10_000 {
            seen.note(Refused::at_the_door(address(number), &TlsError::WrongCa), &tell, now);
        }
        assert_eq!(told(&mut notes).len(), MAX_KNOWN + 1);
        seen.sum_up(&tell, now + AGAIN);
        assert!(matches!(&told(&mut notes)[..], [sum] if sum.source == "many addresses"));
        seen.sum_up(&tell, now + AGAIN * 2);
        assert!(seen.0.is_empty() && told(&mut notes).is_empty());
        let network: IpAddr = "2001:db8::1".parse().expect("an address");
        for host in 1..9_u128 {
            let IpAddr::V6(network) = network else { unreachable!("it is one of IPv6") };
            let host = IpAddr::V6((network.to_bits() + host).into());
            seen.note(Refused::at_the_door(host, &TlsError::WrongCa), &tell, now);
        }
        assert_eq!(told(&mut notes).len(), 1, "one machine");
    }

    #[tokio::test]
    async fn what_finds_no_place_is_told_when_it_comes_again() {
        let (tell, mut notes) = mpsc::channel(1);
        let (mut seen, now) = (Seen::default(), Instant::now());
        for number in [1, 2] {
            seen.note(Refused::at_the_door(address(number), &TlsError::WrongCa), &tell, now);
        }
        assert_eq!(told(&mut notes).len(), 1);
        seen.note(Refused::at_the_door(address(2), &TlsError::WrongCa), &tell, now);
        assert_eq!(told(&mut notes)[0].source, "10.0.0.2");
    }
}
