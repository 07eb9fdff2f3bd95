//! Wrong variants of our own code, to show that the simulator's checks can see; and rare paths that it can force.
//!
//! A hook in the code asks [`is`] or [`rarely`]. Without the feature `bugs` both are the constant `false`, and the
//! compiler drops the hook; the daemons assert at compile time that it is so ([`COMPILED_IN`]). With it, the simulator
//! chooses per thread, that is per world, what is wrong in it. Not here: what each bug does; that stands where it is.

use std::fmt;

/// Whether hooks can be switched on in this build.
pub const COMPILED_IN: bool = cfg!(feature = "bugs");

macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// One wrong variant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug { $($(#[doc = $what])+ $name,)+ }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$name,)+];

            /// In words.
            pub fn what(self) -> &'static str {
                match self { $(Bug::$name => concat!($($what),+).trim_ascii(),)+ }
            }
        }
    };
}

bugs! {
    /// A follower answers before its write is durable.
    AckBeforeSync,
    /// The log reports a batch as durable without a sync.
    SyncSkipped,
    /// The vote is left out of the hard state.
    VoteNotPersisted,
    /// A proposal counts as committed although another leader's entry took its place.
    TermCheckDropped,
    /// A leader serves before it has applied what earlier leaders committed.
    ServesTooEarly,
    /// After a restart the first entry behind the snapshot counts as applied.
    AppliedSavedEarly,
    /// A manager's own snapshot drops the newer entries of its log.
    SnapshotOverNewerLog,
    /// A learner votes before it has caught up.
    LearnerCounted,
    /// A retried request is applied again.
    RetryApplied,
    /// A slot that is filled is filled again.
    SlotFilledTwice,
    /// A change decided on an old view is applied.
    GenerationIgnored,
    /// A read is answered without asking the others who leads.
    ReadWithoutQuorum,
    /// A new leader grants the nodes no time to find it.
    DownAtOnce,
    /// An engine's error counts as the container being gone.
    ErrorMeansGone,
    /// What the engine runs is not adopted when the agent starts.
    NoAdoption,
    /// An agent that begins anew tells of a container before its probes have spoken.
    ProbesForgotten,
    /// A container that is not ready is restarted.
    UnreadyRestarted,
    /// A create without an answer is not looked for before the next one.
    CreateNotLookedFor,
    /// An agent takes any session, however old.
    StaleSession,
    /// The agent does not store its fence.
    FenceNotStored,
    /// A replica that is not known to be fit counts as fit.
    UnknownIsHealthy,
    /// A drain takes every replica down at once.
    DrainIgnoresFloor,
    /// The next task of a slot does not inherit the backoff after rejections.
    BackoffForgotten,
    /// The agent starts a container that ended again without a pause.
    NoBackoff,
    /// The ring of events wraps without a word.
    RingWrapsSilently,
    /// The leader's stamps follow every leap of the wall clock.
    WallClockInStamps,
    /// Ended tasks are never forgotten.
    HistoryUnbounded,
    /// The hard state is written before the entries that it speaks of, with a sync of its own.
    HardStateTorn,
    /// A node is sent the tasks of its neighbour.
    NeighboursTasks,
    /// An empty directory passes for the log of a member that has vouched for entries.
    LostLogAccepted,
    /// What the log finds damaged is cut off as if it had never been finished.
    DamageCutOff,
    /// Changes are taken although the disk is full.
    FullDiskIgnored,
    /// A deployment that saw an older release takes the place of the newer one.
    ReleaseNotCompared,
    /// A rollout takes no notice of a freeze.
    FreezeIgnored,
    /// A slot of a job that completed is filled again.
    CompletedRunsAgain,
    /// More slots of a job run at a time than may.
    ConcurrencyIgnored,
    /// A job goes on beyond its deadline.
    JobDeadlineIgnored,
    /// A time of a cron is decided on again.
    CronRunsTwice,
    /// A run of a cron begins beside one that goes on, although they may not overlap.
    CronOverlaps,
    /// The other replicas do not wait for the canaries.
    CanariesNotAwaited,
    /// A release is judged as if routers had seen nothing.
    FaultIgnored,
    /// The replicas do not wait for the pre-deploy hook.
    HookNotAwaited,
    /// A replica is stopped before its successor's image is there.
    StopsBeforeFetch,
    /// Nobody looks at a rollout's own deadline.
    RolloutDeadlineIgnored,
    /// A node says that a task has drained while requests are under way to it.
    DrainedAtOnce,
    /// A replica that failed is left out for good.
    ExcludedForGood,
    /// An agent does not tell its mesh of a replica that has left.
    StaleRoutes,
    /// A deploy token that was removed or has expired goes on to be accepted.
    TokenOutlivesRemoval,
    /// A deploy token lets its bearer change anything.
    DeployerUnbounded,
    /// A request that is answered from memory is recorded once more.
    ReplayAudited,
    /// What the kept records are chained to is not moved on when older ones go.
    AuditAnchorLost,
    /// A declaration is applied as it was proposed, whatever policy was set in between.
    PolicyNotAsked,
    /// A node is sent secrets that its tasks do not mount.
    EveryonesSecrets,
    /// An ID token that made a session is not remembered.
    IdTokenForgotten,
    /// The sessions of a deploy binding that is removed go on.
    SessionOutlivesBinding,
    /// A login is taken that an earlier declaration of its method judged.
    StaleLogin,
    /// A rotation of the authority ends although managers have certificates of the former one.
    ManagersLeftBehind,
    /// The key that a node was issued its newest certificate for is not noted.
    NodeKeyForgotten,
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A path that is right but hardly ever taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rare {
    /// The leader decides again while its last decisions are on their way.
    DecideTwice,
}

#[cfg(feature = "bugs")]
mod switch {
    use std::cell::{Cell, RefCell};

    use super::{Bug, Rare};

    /// Says when a rare path is taken.
    pub type Choose = Box<dyn FnMut(Rare) -> bool>;

    thread_local! {
        static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
        static RARE: RefCell<Option<Choose>> = const { RefCell::new(None) };
        static RING: Cell<Option<usize>> = const { Cell::new(None) };
        static AUDIT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Plants a bug into everything that this thread runs, or none.
    pub fn plant(bug: Option<Bug>) {
        BUG.set(bug);
    }

    /// From now on `choose` says on this thread when a rare path is taken; `None`: never.
    pub fn force(choose: Option<Choose>) {
        RARE.set(choose);
    }

    /// Bounds the ring of events on this thread; `None`: as in a daemon.
    pub fn bound_ring(events: Option<usize>) {
        RING.set(events);
    }

    /// Bounds the bytes of the audit on this thread; `None`: as in a daemon.
    pub fn bound_audit(bytes: Option<usize>) {
        AUDIT.set(bytes);
    }

    pub(super) fn is(bug: Bug) -> bool {
        BUG.get() == Some(bug)
    }

    pub(super) fn rarely(path: Rare) -> bool {
        RARE.with_borrow_mut(|choose| choose.as_mut().is_some_and(|choose| choose(path)))
    }

    pub(super) fn ring() -> Option<usize> {
        RING.get()
    }

    pub(super) fn audit() -> Option<usize> {
        AUDIT.get()
    }
}

#[cfg(feature = "bugs")]
pub use switch::{Choose, bound_audit, bound_ring, force, plant};

/// Whether this bug is planted here.
#[inline]
pub fn is(bug: Bug) -> bool {
    #[cfg(feature = "bugs")]
    return switch::is(bug);
    #[cfg(not(feature = "bugs"))]
    return {
        let _ = bug;
        false
    };
}

/// Whether a rare path is to be taken now.
#[inline]
pub fn rarely(path: Rare) -> bool {
    #[cfg(feature = "bugs")]
    return switch::rarely(path);
    #[cfg(not(feature = "bugs"))]
    return {
        let _ = path;
        false
    };
}

/// How many events are kept where a daemon keeps `usual`.
#[inline]
pub fn ring(usual: usize) -> usize {
    #[cfg(feature = "bugs")]
    return switch::ring().unwrap_or(usual);
    #[cfg(not(feature = "bugs"))]
    return usual;
}

/// How many bytes of the audit are kept where a daemon keeps `usual`.
#[inline]
pub fn audit(usual: usize) -> usize {
    #[cfg(feature = "bugs")]
    return switch::audit().unwrap_or(usual);
    #[cfg(not(feature = "bugs"))]
    return usual;
}

/// The hash of a state as this version of the software takes it. Versions that the simulator calls `sim-…` differ as if each
/// knew one field more than the one before.
#[inline]
pub fn dialect(version: &str, hash: u64) -> u64 {
    #[cfg(feature = "bugs")]
    if let Some(number) = version.strip_prefix("sim-") {
        return number.bytes().fold(hash, |hash, byte| hash.rotate_left(7) ^ u64::from(byte));
    }
    let _ = version;
    hash
}

#[cfg(all(test, feature = "bugs"))]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_planted_on_its_own_thread_only() {
        plant(Some(Bug::NoAdoption));
        assert!(is(Bug::NoAdoption) && !is(Bug::StaleSession));
        std::thread::scope(|scope| scope.spawn(|| assert!(!is(Bug::NoAdoption))).join().expect("no panic"));
        plant(None);
        assert!(!is(Bug::NoAdoption));
    }
}
