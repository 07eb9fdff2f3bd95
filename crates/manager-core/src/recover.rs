//! A new cluster of one from a survivor's disk, when a majority is lost for good.
//!
//! Everything on the disk is kept, what was never acknowledged included: an entry that others had acknowledged may look
//! like that here, and losing it would break a promise, while applying one more breaks none. The survivor gets a new Raft
//! id and a later term, so that the lost members, should they come back, are strangers.

use bytes::Bytes;
use consensus::{Body, Membership, SnapshotMeta};
use model::{
    command::{Command, Entry},
    id::MemberId,
    identity::Identity,
    time::WallTime,
};
use proto::codec::encode;

use crate::{RecoverError, Recovered, records};

/// Terms are raised by so many: the lost majority may have held elections that the survivor did not see.
const TERM_GAP: u64 = 1_000;

/// What recovery gives.
#[derive(Debug)]
pub struct Recovery {
    /// The survivor's new Raft id: its certificate must name it.
    pub member: MemberId,
    /// To be written to an empty log, as the only contents.
    pub recovered: Recovered,
    /// The state, for its authority, which signs the new certificate.
    pub state: store::Store,
}

/// Rewrites what a survivor's disk has into a cluster of one. Pure: the disk is the caller's, and the old one should be
/// kept.
///
/// # Errors
/// The disk has no cluster, or what it has cannot be read.
pub fn recover(old: &Recovered, address: &str, wall: WallTime) -> Result<Recovery, RecoverError> {
    let (start, mut state) = records::start(old)?;
    let mut last = (start.snapshot.index, start.snapshot.term.max(start.hard_state.term));
    for entry in start.entries.iter().filter(|entry| entry.index > start.snapshot.index) {
        last = (entry.index, last.1.max(entry.term));
        if let Body::Normal(bytes) = &entry.body
            && !bytes.is_empty()
        {
            let what = format!("entry {}", entry.index);
            let entry_read: Entry =
                proto::codec::decode(bytes).map_err(|source| RecoverError::Unreadable { what, source })?;
            state.apply(entry.index, &entry_read);
        }
    }
    let Some(cluster) = state.cluster() else { return Err(RecoverError::Nothing) };
    let member = MemberId(cluster.last_member.0 + 1);
    let (index, term) = (last.0 + 1, last.1 + TERM_GAP);
    let entry = Entry {
        at: state.time().next(wall),
        request: None,
        actor: Identity::Manager(member),
        command: Command::RecoverMembers { survivor: member, address: address.to_owned() },
        origin: Default::default(),
    };
    state.apply(index, &entry);
    let meta = SnapshotMeta { index, term, membership: Membership::alone(member) };
    let hard_state = consensus::HardState { term, vote: 0, commit: index };
    let bytes: Bytes = records::encode_state(&state);
    let recovered = Recovered {
        hard_state: Some(encode(&hard_state)),
        snapshot: Some(records::blob(&meta, bytes)),
        entries: Vec::new(),
    };
    Ok(Recovery { member, recovered, state })
}
