//! What a manager makes of the answer when it lost its log and asked for a new id.
//!
//! It asked under its old id, with [`Request::ReplaceMember`](model::request::Request::ReplaceMember). From the answer on it
//! is another member, with an empty log; the old id is gone for good. Shells keep the answer durably before they act on it.

use model::{
    id::MemberId,
    request::{ApiError, ErrorCode, Response},
};

/// Who a manager becomes that lost its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    /// Its new id.
    pub member: MemberId,
    /// Its certificate.
    pub certificate: String,
    /// Where the others are: neither itself nor the id that is gone.
    pub seeds: Vec<(MemberId, String)>,
}

impl Successor {
    /// What the leader answered to member `former`; `None`: an answer to something else.
    pub fn from_answer(former: MemberId, answer: Response) -> Option<Self> {
        let Response::Joined { certificate, member: Some(member), managers, .. } = answer else {
            return None;
        };
        let others = managers.into_iter().filter(|other| other.id != member && other.id != former);
        let seeds = others.map(|other| (other.id, other.address)).collect();
        Some(Self { member, certificate, seeds })
    }
}

/// Whether asking again may help: nobody leading, and no majority, may pass.
pub fn may_pass(refusal: &ApiError) -> bool {
    matches!(refusal.code, ErrorCode::Unavailable | ErrorCode::NotLeader | ErrorCode::Exhausted)
}
