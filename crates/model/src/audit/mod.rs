//! The audit: what was done and what was refused, one [`Record`] each, chained by SHA-256.
//!
//! Records of applied changes are made by the state machine, of the log entry and the state alone; what is refused before
//! it comes into the log is written there as [`Note`]s. So every manager has the same records, and the head's hash stands
//! for all of them. A record holds no part of a declaration but names: digests say that something changed, never to what.
//!
//! The words that a record is made of (verbs, kinds, verdicts, whom [`holder`] names) are hashed. Two versions of the software
//! that say them differently would split one chain in two: they are added to, and never changed.
//!
//! Read in this order: this file, [`chain`], [`about`].

pub mod about;
pub mod chain;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use chain::{Broken, Digest, Link};

use crate::{
    id::RequestId,
    identity::Identity,
    request::{ApiError, ErrorCode},
    time::ClusterTime,
};

/// Bytes of a name, a job or a reason that are kept.
pub const MAX_TEXT: usize = 256;
/// Bytes of a source address that are kept: an IPv6 address with a zone.
pub const MAX_SOURCE: usize = 64;

/// Where a change came from, beside who asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The address that the manager which took the call saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What the client says it works for, such as the URL of a CI job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Why it is done although something speaks against it, in the client's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Origin {
    /// A call's origin; texts are cut to their bounds, in one line.
    pub fn new(source: Option<String>, job: Option<String>) -> Self {
        let kept =
            |text: Option<String>, most| text.map(|text| cut(&text, most)).filter(|text| !text.is_empty());
        Self { source: kept(source, MAX_SOURCE), job: kept(job, MAX_TEXT), reason: None }
    }

    /// Whether it says nothing.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// What somebody wanted to do, and to what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct About {
    /// What, such as `update`.
    pub verb: String,
    /// The kind of object, such as `service`.
    pub kind: String,
    /// Its name; several are separated by commas.
    pub name: String,
}

impl About {
    /// Puts it together; the name is cut to its bound.
    pub fn new(verb: &str, kind: &str, name: impl fmt::Display) -> Self {
        Self { verb: verb.to_owned(), kind: kind.to_owned(), name: cut(&name.to_string(), MAX_TEXT) }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was done.
    Accepted,
    /// The state is against it: there is no such thing, there is one already, it changed meanwhile, it is busy.
    Rejected,
    /// The request is wrong in itself.
    Invalid,
    /// Not allowed to.
    Denied,
    /// Not, or no longer, of this cluster.
    Unauthenticated,
    /// A beam-time window forbids it.
    Frozen,
    /// A bound was reached.
    Exhausted,
    /// So many refusals of one identity that there are no records of them: the reason says how many.
    Summed,
}

impl Verdict {
    /// Of a refusal; `None` for what is no decision, only a try that has to be repeated.
    pub fn of(code: ErrorCode) -> Option<Self> {
        Some(match code {
            ErrorCode::Invalid => Self::Invalid,
            ErrorCode::NotFound | ErrorCode::AlreadyExists | ErrorCode::Conflict | ErrorCode::Internal => {
                Self::Rejected
            }
            ErrorCode::Denied => Self::Denied,
            ErrorCode::Unauthenticated => Self::Unauthenticated,
            ErrorCode::Frozen => Self::Frozen,
            ErrorCode::Exhausted => Self::Exhausted,
            ErrorCode::Deadline | ErrorCode::Unavailable | ErrorCode::NotLeader => return None,
        })
    }

    /// The word that is hashed, and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::Frozen => "frozen",
            Self::Exhausted => "exhausted",
            Self::Summed => "summed",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What is recorded of something that does not come into the log by itself: a refusal, or the handing over of the lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Who asked, as [`holder`] says it.
    pub who: String,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Origin::is_unknown")]
    pub origin: Origin,
    /// The client's request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// What it was.
    pub about: About,
    /// How it ended.
    pub verdict: Verdict,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// One thing that was done or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// From 1, without a gap.
    pub number: u64,
    /// When, by the cluster's time.
    pub at: ClusterTime,
    /// Who asked, as [`holder`] says it.
    pub who: String,
    /// The address that the manager which took the call saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What the client said it works for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The client's request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// What, such as `update`.
    pub verb: String,
    /// The kind of object, such as `service`.
    pub kind: String,
    /// Its name; several are separated by commas.
    pub name: String,
    /// Of the declaration before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Digest>,
    /// Of the declaration after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Digest>,
    /// How it ended.
    pub verdict: Verdict,
    /// Why it was refused, or why it was done although something spoke against it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The hash of the record before.
    pub previous: Digest,
    /// This record's hash, over the one before and everything above.
    pub hash: Digest,
}

/// A part of the audit, as a manager answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The last record that is no longer kept; before the first one, what the chain began with.
    pub anchor: Link,
    /// The newest record.
    pub head: Link,
    /// Records in order, without a gap.
    pub records: Vec<Record>,
}

/// Who, in the words of the audit. They are hashed: a kind of identity that is added gets words of its own, and the others
/// keep theirs.
pub fn holder(identity: &Identity) -> String {
    match identity {
        Identity::Manager(id) => format!("manager {}", id.0),
        Identity::Node(id) => format!("node {id}"),
        Identity::Operator { name, .. } => format!("operator {}", cut(name, MAX_TEXT)),
        Identity::Joiner(token) => format!("token {token}"),
        Identity::Anonymous => "anonymous".to_owned(),
        Identity::User { name, .. } => format!("user {}", cut(name, MAX_TEXT)),
        Identity::Bearer(token) => format!("unproven deploy-token {token}"),
        Identity::Deployer { name, job: None, .. } => format!("deploy-token {}", cut(name, MAX_TEXT)),
        Identity::Deployer { name, job: Some(job), .. } => {
            format!("deploy-binding {}", cut(&format!("{name} ({job})"), MAX_TEXT))
        }
    }
}

/// Why a request was refused, as far as it may be kept: what is wrong with a declaration is said by its paths alone, since
/// its values may be anything.
pub fn reason(error: &ApiError) -> String {
    if error.problems.is_empty() {
        return cut(&error.message, MAX_TEXT);
    }
    let paths: Vec<&str> = error.problems.iter().map(|problem| problem.path.as_str()).collect();
    cut(&paths.join(", "), MAX_TEXT)
}

/// The first bytes of a text, in one line.
pub fn cut(text: &str, most: usize) -> String {
    let mut kept = String::with_capacity(text.len().min(most));
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        if kept.len() + letter.len_utf8() > most {
            break;
        }
        kept.push(letter);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{DeployTokenId, MemberId, NodeId, TokenId, UserId},
        identity::Role,
        validate::Problem,
    };

    #[test]
    fn the_words_for_identities_and_verdicts_stay_as_they_are() {
        let ann = Identity::Operator { name: "ann".into(), role: Role::Admin };
        let identities = [
            (Identity::Manager(MemberId(3)), "manager 3"),
            (Identity::Node(NodeId(31)), "node 000000000000z"),
            (ann, "operator ann"),
            (Identity::Joiner(TokenId(1)), "token 0000000000001"),
            (Identity::Anonymous, "anonymous"),
            (Identity::User { id: UserId(1), name: "ann".into() }, "user ann"),
            (Identity::Bearer(DeployTokenId(1)), "unproven deploy-token 0000000000001"),
            (Identity::Deployer { id: DeployTokenId(1), name: "ci".into(), job: None }, "deploy-token ci"),
            (
                Identity::Deployer { id: DeployTokenId(1), name: "b".into(), job: Some("p, job 1".into()) },
                "deploy-binding b (p, job 1)",
            ),
        ];
        for (identity, words) in identities {
            assert_eq!(holder(&identity), words);
        }
        assert_eq!(Verdict::of(ErrorCode::Denied).map(Verdict::word), Some("denied"));
        assert_eq!(Verdict::of(ErrorCode::Deadline), None);
    }

    #[test]
    fn a_reason_names_what_is_wrong_and_never_its_value() {
        let problem = Problem { path: "env".into(), message: "PASSWORD=hunter2 is not right".into() };
        assert_eq!(reason(&vec![problem].into()), "env");
        assert_eq!(reason(&ApiError::new(ErrorCode::Denied, "vic may\nread")), "vic mayread");
    }

    #[test]
    fn a_text_is_cut_between_letters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("a\u{7}b", 9), "ab");
        let origin = Origin::new(Some(String::new()), Some("x".repeat(1_000)));
        assert_eq!((origin.source, origin.job.map(|job| job.len())), (None, Some(MAX_TEXT)));
    }
}
