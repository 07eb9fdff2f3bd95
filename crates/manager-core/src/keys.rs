//! The data keys: how every manager comes to have them, and how one takes another's place.
//!
//! A data key lies in each manager's keyring, which its shell keeps sealed on disk, and never in the log or the state. The state holds
//! its number and fingerprint, and of each member up to which key it keeps them. Everything follows from comparing the two:
//!
//! - A member whose keyring lacks a key that the state knows asks the leader for it, or all others when it leads itself, over the
//!   managers' own connections. So newcomers, replaced members and those that were away come to have it in one way.
//! - It says that it keeps a key only when that is durable. A learner gets a vote only when it keeps the active key: the loss of any minority
//!   of voters must not be the loss of the key.
//! - A cluster is founded with its first key, so that its authority's key never enters the log in clear.
//! - A new key is kept by its maker before its number enters the log. It becomes active when every member keeps it, then all values
//!   are sealed anew, one entry each, and a key that nothing is sealed with is forgotten. Whoever leads goes on from what the state says.

use std::{collections::BTreeMap, time::Duration};

use model::{
    command::Command,
    id::MemberId,
    request::{ApiError, ErrorCode, KeysView},
    sealed::{Clear, DataKeys, KeyId},
    time::Instant,
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use seal::{DataKey, Keyring, Of, Place};

use crate::{Action, Manager, audit::Asked, config::Entropy, peer::PeerMessage, proposal::Purpose};

/// A key that is missing is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A key that was made here, on its way into the keyring.
struct Making {
    id: KeyId,
    /// Who asked for it. `None`: the cluster's first one.
    client: Option<Asked>,
    /// The write that it is in.
    sequence: u64,
    /// Its number is on its way into the log.
    proposed: bool,
}

/// A manager's keys.
pub(crate) struct Keys {
    ring: Keyring,
    /// Its keys' fingerprints.
    prints: BTreeMap<KeyId, u64>,
    /// What of it is durable, by fingerprint.
    durable: BTreeMap<KeyId, u64>,
    /// Writes of the keyring so far.
    sequence: u64,
    making: Option<Making>,
    asked_at: Option<Instant>,
    rng: ChaCha20Rng,
}

impl Keys {
    pub(crate) fn new(ring: Keyring, entropy: &Entropy) -> Self {
        Self {
            prints: fingerprints(&ring),
            durable: fingerprints(&ring),
            ring,
            sequence: 0,
            making: None,
            asked_at: None,
            rng: ChaCha20Rng::from_seed(entropy.0),
        }
    }

    pub(crate) fn ring(&self) -> &Keyring {
        &self.ring
    }

    /// Twelve bytes that were never used before.
    pub(crate) fn nonce(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        self.rng.fill_bytes(&mut nonce);
        nonce
    }
}

fn fingerprints(ring: &Keyring) -> BTreeMap<KeyId, u64> {
    ring.iter().map(|(id, key)| (id, key.fingerprint())).collect()
}

impl Manager {
    /// Up to which key this member durably keeps all that the state knows.
    pub(crate) fn held_key(&self) -> Option<KeyId> {
        let known = self.store.data_keys()?.known.iter();
        let held = known.take_while(|record| self.keys.durable.get(&record.id) == Some(&record.fingerprint));
        held.last().map(|record| record.id)
    }

    /// Whether a member may vote as far as keys go.
    pub(crate) fn keeps_active_key(&self, id: MemberId) -> bool {
        let active = self.store.data_keys().map_or(KeyId(0), |keys| keys.active);
        active == KeyId(0) || self.store.member(id).is_some_and(|member| member.key >= Some(active))
    }

    fn lacks_keys(&self) -> bool {
        let has = |id, fingerprint| self.keys.prints.get(&id) == Some(&fingerprint);
        self.store
            .data_keys()
            .is_some_and(|keys| keys.known.iter().any(|record| !has(record.id, record.fingerprint)))
    }

    /// Brings the keyring in line with the state: asks for what is missing, forgets what is gone.
    pub(crate) fn tend_keyring(&mut self) {
        if self.lacks_keys() && self.keys_deadline().is_some_and(|at| at <= self.now.mono) {
            self.keys.asked_at = Some(self.now.mono);
            let me = self.config.member;
            let others: Vec<MemberId> =
                self.store.members().map(|member| member.id).filter(|id| *id != me).collect();
            let leader = self.node.leader().filter(|leader| *leader != me);
            for member in leader.map_or(others, |leader| vec![leader]) {
                self.send_peer(member, &PeerMessage::WantKeys);
            }
        }
        // A state that lags behind the keyring knows less than there is: only what it knows to be past goes.
        let Some(DataKeys { active, known }) = self.store.data_keys().cloned() else { return };
        let unknown = |id| known.iter().all(|record| record.id != id);
        let made = self.keys.making.as_ref().map(|making| making.id);
        // Who serves lags behind nobody: what it made and the log refused goes too.
        let (serves, last) = (self.lead.is_some() && self.is_serving(), known.last().map(|record| record.id));
        let past = |id| unknown(id) && (id < active || (serves && Some(id) > last && Some(id) != made));
        if self.keys.ring.retain(|id| !past(id)) {
            self.keep_ring();
        }
    }

    /// When a missing key is asked for again.
    pub(crate) fn keys_deadline(&self) -> Option<Instant> {
        let due = self.keys.asked_at.map_or(self.now.mono, |at| at + ASK_AGAIN);
        self.lacks_keys().then_some(due)
    }

    pub(crate) fn on_want_keys(&mut self, from: MemberId) {
        if self.store.member(from).is_none() {
            return;
        }
        let keys: Vec<(KeyId, Clear)> =
            self.keys.ring.iter().map(|(id, key)| (id, Clear::new(key.reveal().to_vec()))).collect();
        if !keys.is_empty() {
            self.send_peer(from, &PeerMessage::Keys(keys));
        }
    }

    /// Only what the state knows by its fingerprint is taken.
    pub(crate) fn on_keys(&mut self, keys: &[(KeyId, Clear)]) {
        let Some(known) = self.store.data_keys().cloned() else { return };
        let mut news = false;
        for (id, bytes) in keys {
            let Some(key) = DataKey::from_slice(bytes.reveal()) else { continue };
            let right = known.record(*id).is_some_and(|record| record.fingerprint == key.fingerprint());
            if right && self.keys.ring.get(*id) != Some(&key) {
                self.keys.ring.insert(*id, key);
                news = true;
            }
        }
        if news {
            self.keep_ring();
        }
    }

    fn keep_ring(&mut self) {
        self.keys.sequence += 1;
        self.keys.prints = fingerprints(&self.keys.ring);
        let (sequence, keyring) = (self.keys.sequence, self.keys.ring.clone());
        self.act(Action::KeepKeys { sequence, keyring });
    }

    /// The keyring as it was at this write is durable.
    pub(crate) fn on_keys_kept(&mut self, sequence: u64) {
        if sequence != self.keys.sequence {
            return;
        }
        self.keys.durable = self.keys.prints.clone();
        let Some(making) = &mut self.keys.making else { return };
        if making.proposed || making.sequence > sequence {
            return;
        }
        making.proposed = true;
        let (id, client) = (making.id, making.client.clone());
        let Some(fingerprint) = self.keys.durable.get(&id).copied().filter(|_| self.lead.is_some()) else {
            return;
        };
        let command = Command::AddKey { id, fingerprint };
        match client {
            None => self.propose_step(command),
            Some(asked) => {
                let purpose = Purpose::Client { handle: asked.handle };
                if let Err(error) = self.propose_for(&asked, command, purpose) {
                    self.keys.making = None;
                    self.refuse(&asked, error);
                }
            }
        }
    }

    /// A new data key.
    ///
    /// # Errors
    /// There is none to be followed, or not every manager knows what it is.
    pub(crate) fn rotate_key(&mut self, asked: &Asked) -> Result<(), ApiError> {
        self.same_versions("a new data key")?;
        if self.store.data_keys().is_none_or(DataKeys::is_empty) || self.keys.making.is_some() {
            let message = "a data key is being made just now; retry in a moment";
            return Err(ApiError::new(ErrorCode::Unavailable, message));
        }
        self.make_key(Some(asked.clone()));
        Ok(())
    }

    fn make_key(&mut self, client: Option<Asked>) {
        let keys = self.store.data_keys();
        let last = keys.and_then(|keys| keys.known.last()).map_or(KeyId(0), |record| record.id);
        let id = KeyId(last.0 + 1);
        let mut bytes = [0; seal::KEY_LEN];
        self.keys.rng.fill_bytes(&mut bytes);
        self.keys.ring.insert(id, DataKey::new(bytes));
        self.keep_ring();
        self.keys.making = Some(Making { id, client, sequence: self.keys.sequence, proposed: false });
    }

    /// The number of a key has come into the log, or was refused there.
    pub(crate) fn on_key_added(&mut self) {
        self.keys.making.take_if(|making| making.proposed);
    }

    /// The lead ended: whoever leads makes one when it is asked again.
    pub(crate) fn end_making(&mut self) {
        if let Some(asked) = self.keys.making.take().and_then(|making| making.client) {
            let message = "the lead changed; ask again with the same request id";
            self.reply(asked.handle, Err(ApiError::new(ErrorCode::Unavailable, message)));
        }
    }

    /// The next step of a key's way, one entry at a time.
    pub(crate) fn move_keys(&mut self) {
        let Some(keys) = self.store.data_keys() else { return };
        let Some(lead) = &self.lead else { return };
        if lead.keying || self.keys.making.is_some() {
            return;
        }
        if keys.is_empty() {
            if self.all_can_read() {
                self.make_key(None);
            }
            return;
        }
        let sealed = !self.store.is_in_clear() || !self.all_can_read();
        let settled = keys.known.len() == 1 && keys.next().is_none() && sealed;
        let Some(command) = (!settled).then(|| self.next_key_step()).flatten() else { return };
        self.propose_step(command);
    }

    /// A member that was not heard yet may have an older program, which could not read the entry.
    fn all_can_read(&self) -> bool {
        self.store.members().all(|member| !member.is_unheard()) && self.other_version().is_none()
    }

    fn propose_step(&mut self, command: Command) {
        if let Some(lead) = &mut self.lead {
            lead.keying = true;
        }
        self.propose_own(command, Purpose::Keys);
    }

    fn next_key_step(&mut self) -> Option<Command> {
        let keys = self.store.data_keys()?.clone();
        if let Some(next) = keys.next() {
            let kept = self.store.members().all(|member| member.key >= Some(next.id));
            return kept.then_some(Command::UseKey { id: next.id });
        }
        if self.store.is_in_clear() && self.all_can_read() {
            return self.reseal_other(keys.active);
        }
        let old = keys.known.iter().map(|record| record.id).find(|id| *id < keys.active)?;
        match self.reseal_one(keys.active) {
            Some(command) => Some(command),
            None => (self.store.sealed_with(old) == 0).then_some(Command::DropKey { id: old }),
        }
    }

    fn reseal_one(&mut self, active: KeyId) -> Option<Command> {
        let nonce = self.keys.nonce();
        let cluster = self.config.cluster;
        let behind = self.store.items().find_map(|item| {
            let version = item.versions.iter().find(|version| version.value.key != active)?;
            Some((item, version))
        });
        let Some((item, version)) = behind else { return self.reseal_other(active) };
        let (kind, name) = (item.spec.kind, &item.spec.name);
        let place = Place { cluster, of: Of::Item { kind, name, version: version.number } };
        let opened = self.keys.ring.open(&place, &version.value);
        let sealed = opened.and_then(|value| self.keys.ring.seal(active, nonce, &place, value.reveal()));
        let value = sealed.ok()?;
        let (name, number, from) = (name.clone(), version.number, version.value.key);
        Some(Command::Reseal { kind, name, number, from, value })
    }

    pub(crate) fn on_key_step_applied(&mut self) {
        if let Some(lead) = &mut self.lead {
            lead.keying = false;
        }
    }

    pub(crate) fn keys_view(&self) -> KeysView {
        let keys = self.store.data_keys().cloned().unwrap_or_default();
        let behind = self.store.sealings().filter(|with| *with != Some(keys.active)).count();
        KeysView {
            active: keys.active,
            made: keys.record(keys.active).map(|record| record.made),
            next: keys.next().map(|next| next.id),
            behind: u32::try_from(behind).unwrap_or(u32::MAX),
            waits: self.keys_wait(&keys).unwrap_or_default(),
        }
    }

    /// What a key waits for that does not come by itself.
    pub(crate) fn keys_wait(&self, keys: &DataKeys) -> Option<String> {
        let wanted = keys.next().map_or(keys.active, |next| next.id);
        let lacks = self.store.members().filter(|member| wanted > KeyId(0) && member.key < Some(wanted));
        let names: Vec<&str> = lacks.map(|member| member.name.as_str()).collect();
        if names.is_empty() {
            return None;
        }
        Some(format!("data key {wanted} has not reached manager {} yet", names.join(", ")))
    }
}
