//! How a release reaches the replicas: the policy that a user declares, and the stored cursor that any leader resumes from.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    container::MountSource,
    hook::Hook,
    service::{Mode, ServiceSpec, TemplateVersion},
    time::ClusterTime,
};

/// Which replica comes first when one replaces another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The old one is stopped, then the new one starts: one replica fewer for the time of a start.
    StopFirst,
    /// The new one is healthy before the old one stops: two containers of one slot meanwhile.
    StartFirst,
    /// Start-first where two containers of one slot can live side by side; see [`ServiceSpec::order`].
    #[default]
    Auto,
}

/// The order that a declaration comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// The new replica comes first.
    pub start_first: bool,
    /// Why, in words.
    pub why: &'static str,
}

impl ServiceSpec {
    /// Which order `auto` comes to, and why. A function of the declaration alone, so that everybody comes to the same.
    ///
    /// Caveat: whether the nodes have room for a second replica is not known here. Where they have not, the managers stop
    /// the old one first, as long as `auto` chose and not the user.
    pub fn order(&self) -> Chosen {
        let container = &self.template.container;
        let chosen = |start_first, why| Chosen { start_first, why };
        match self.update.order {
            UpdateOrder::StopFirst => return chosen(false, "declared"),
            UpdateOrder::StartFirst => return chosen(true, "declared"),
            UpdateOrder::Auto => {}
        }
        if self.job.is_some() {
            return chosen(false, "a job's slot runs once at a time");
        }
        if self.mode == Mode::Global {
            return chosen(false, "a global service has one replica on a node");
        }
        if container.ports.iter().any(|port| port.published != 0) {
            return chosen(false, "two replicas cannot have one port of a node");
        }
        if container
            .mounts
            .iter()
            .any(|mount| !mount.read_only && !matches!(mount.source, MountSource::Tmpfs { .. }))
        {
            return chosen(false, "it writes to a mount, which two replicas might do at once");
        }
        if self.template.placement.max_per_node > 0 {
            return chosen(false, "a node has at most so many of its replicas");
        }
        chosen(true, "two replicas of a slot can live side by side")
    }
}

/// What a rollout does when new replicas fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureAction {
    /// Stop here and wait for a person.
    #[default]
    Pause,
    /// Go on with the next slot.
    Continue,
    /// Return to the previous template.
    Rollback,
}

/// A number of replicas, or a part of them: `2` or `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Share {
    /// So many.
    Count(u32),
    /// So many of a hundred, 0 to 100.
    Percent(u32),
}

impl Default for Share {
    fn default() -> Self {
        Self::Count(0)
    }
}

impl Share {
    /// So many of `total`, rounded down.
    pub fn of(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (u64::from(total) * u64::from(percent) / 100) as u32,
        }
    }

    /// So many of `total`, rounded up, at least one and at most all.
    pub fn some_of(self, total: u32) -> u32 {
        let some = match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (u64::from(total) * u64::from(percent)).div_ceil(100) as u32,
        };
        some.max(1).min(total)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| {
            let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok())
        };
        let read = match text.strip_suffix('%') {
            Some(digits) => number(digits).filter(|percent| *percent <= 100).map(Self::Percent),
            None => number(text).map(Self::Count),
        };
        read.ok_or_else(|| format!("\"{text}\" is neither a number of replicas nor a part of them: 2, 10%"))
    }
}

impl TryFrom<String> for Share {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

/// Who lets a rollout go on after its canaries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promotion {
    /// The managers, when the canaries were good for long enough.
    #[default]
    Automatic,
    /// A person: `orchctl deploy promote`.
    Manual,
}

/// A first part of the replicas, watched before the others follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CanaryPolicy {
    /// How many, at least one: those in the lowest slots.
    pub replicas: Share,
    /// How long all of them must be good in a row.
    pub soak: Duration,
    /// Who decides then.
    pub promotion: Promotion,
}

impl Default for CanaryPolicy {
    fn default() -> Self {
        Self { replicas: Share::Count(1), soak: Duration::ZERO, promotion: Promotion::Automatic }
    }
}

/// How an update of the template replaces the replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdatePolicy {
    /// Slots replaced at the same time, at least 1.
    pub parallelism: u32,
    /// Which comes first.
    pub order: UpdateOrder,
    /// The pause between two batches.
    pub delay: Duration,
    /// How long a new replica is watched after it became healthy before it counts as good.
    pub monitor: Duration,
    /// How long a new replica may take to become healthy.
    pub progress_deadline: Duration,
    /// What happens when more fail than may.
    pub failure_action: FailureAction,
    /// So many slots may fail and are given up before that happens.
    pub max_failures: Share,
    /// How long the whole rollout may take; `None` = what the other settings add up to.
    pub deadline: Option<Duration>,
    /// A first part that is watched before the others follow.
    pub canary: Option<CanaryPolicy>,
    /// Releases kept for `service history` and `rollback --to`.
    pub history: u32,
    /// What must succeed before the first replica changes.
    pub pre_deploy: Option<Hook>,
    /// Such a part of a new replica's requests may be seen to fail by routers while it is watched, in percent; 100 = all.
    pub max_errors: Share,
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        Self {
            parallelism: 1,
            order: UpdateOrder::Auto,
            delay: Duration::ZERO,
            monitor: Duration::ZERO,
            progress_deadline: Duration::from_secs(600),
            failure_action: FailureAction::Pause,
            max_failures: Share::Count(0),
            deadline: None,
            canary: None,
            history: 10,
            pre_deploy: None,
            max_errors: Share::Percent(25),
        }
    }
}

/// How far a rollout has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutState {
    /// Replacing.
    Updating,
    /// Stopped after a failure or on request; waits for `resume`, a new spec or a rollback.
    Paused,
    /// Returning to the previous template.
    RollingBack,
    /// Every slot runs the target.
    Done,
    /// Every slot runs the previous template again.
    RolledBack,
    /// The canaries are good; the others follow when they were so for long enough, or when a person says so.
    AwaitingPromotion,
}

impl RolloutState {
    /// Whether it is neither over nor stopped.
    pub fn is_under_way(self) -> bool {
        match self {
            Self::Updating | Self::RollingBack | Self::AwaitingPromotion => true,
            Self::Paused | Self::Done | Self::RolledBack => false,
        }
    }
}

/// The canaries of one rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// As the service or the deployment declared them.
    pub policy: CanaryPolicy,
    /// The others follow: nothing is held back any more.
    pub promoted: bool,
}

/// The stored cursor of a rollout: any leader resumes from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// What the slots are being moved to.
    pub target: TemplateVersion,
    /// What they came from; `None` for the first template.
    pub from: Option<TemplateVersion>,
    /// Where it stands.
    pub state: RolloutState,
    /// When it began.
    pub started: ClusterTime,
    /// When `state` last changed.
    pub since: ClusterTime,
    /// The earliest time of the next batch (the `delay` between batches).
    pub next_batch_at: ClusterTime,
    /// Why it is paused or was rolled back, in words.
    pub message: String,
    /// When it fails as a whole. `None` until the managers have computed it: at the start, and anew after a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<ClusterTime>,
    /// Its canaries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// When a person let it go on after a pause: what was late has its whole time again from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<ClusterTime>,
    /// While it is paused: what it was doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_from: Option<RolloutState>,
    /// Why no freeze holds it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub despite_freeze: Option<String>,
    /// The hook that has not succeeded yet; `None` when it has, or when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
}

impl Rollout {
    /// The hook that runs now: no replica changes before it has succeeded.
    pub fn awaited_hook(&self) -> Option<&Hook> {
        self.hook.as_ref().filter(|_| self.state == RolloutState::Updating)
    }

    /// When it began, or was last resumed: what failed before does not count any more.
    pub fn begun(&self) -> ClusterTime {
        self.resumed.unwrap_or(self.started).max(self.started)
    }

    /// The canaries that hold the other slots back.
    pub fn holding(&self) -> Option<&CanaryPolicy> {
        self.canary.as_ref().filter(|canary| !canary.promoted).map(|canary| &canary.policy)
    }
}

/// What a person does to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutStep {
    /// Stop here; every slot keeps what it runs.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Return to the release before it.
    Abort,
    /// The canaries are good: the others follow.
    Promote,
}

impl fmt::Display for RolloutStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Promote => "promote",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{Mount, PortSpec};

    #[test]
    fn a_share_reads_back_and_rounds_to_the_safe_side() {
        for text in ["0", "2", "10%", "100%"] {
            assert_eq!(text.parse::<Share>().expect("a share").to_string(), text);
        }
        for text in ["", "%", "101%", "-1", "+1", "1.5", "2 %"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        assert_eq!((Share::Percent(10).of(19), Share::Percent(10).some_of(19)), (1, 2));
        assert_eq!((Share::Percent(0).some_of(3), Share::Count(9).some_of(3)), (1, 3));
        assert_eq!(Share::Count(1).some_of(0), 0);
    }

    #[test]
    fn auto_starts_first_only_where_two_replicas_can_live_side_by_side() {
        let plain = ServiceSpec::default();
        assert!(plain.order().start_first);
        let changed = |change: fn(&mut ServiceSpec)| {
            let mut spec = ServiceSpec::default();
            change(&mut spec);
            spec.order().start_first
        };
        assert!(!changed(|spec| spec.mode = Mode::Global));
        assert!(!changed(|spec| spec.template.placement.max_per_node = 1));
        assert!(!changed(|spec| spec.update.order = UpdateOrder::StopFirst));
        let mount = |read_only| Mount {
            source: MountSource::Volume("data".into()),
            target: "/data".into(),
            read_only,
        };
        let with = |mount| {
            let mut spec = ServiceSpec::default();
            spec.template.container.mounts.push(mount);
            spec.order().start_first
        };
        assert!(!with(mount(false)));
        assert!(with(mount(true)));
        let port = |published| {
            let mut spec = ServiceSpec::default();
            let port = PortSpec { target: 80, published, protocol: Default::default() };
            spec.template.container.ports.push(port);
            spec.order().start_first
        };
        assert!(!port(8080) && port(0));
    }
}
