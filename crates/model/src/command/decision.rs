//! The managers' own decisions.

use serde::{Deserialize, Serialize};

use crate::{
    cron::CronStep,
    id::{CronId, Generation, NodeId, ServiceId, TaskId, TokenId},
    job::JobState,
    service::{Rollout, Slot, TemplateVersion},
    task::{Inheritance, PendingReason},
    time::ClusterTime,
};

/// One of the managers' own decisions, with what it was decided on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// Fill a slot. Rejected when the slot has an active task other than `alongside` (start-first), when the service is
    /// gone or removing, or when it has not this template.
    CreateTask {
        /// Chosen by the leader.
        id: TaskId,
        /// Whose.
        service: ServiceId,
        /// Which place.
        slot: Slot,
        /// From which template.
        template: TemplateVersion,
        /// Where; `None` = pending.
        node: Option<NodeId>,
        /// Why it has no node.
        pending: Option<PendingReason>,
        /// What it inherits.
        inherited: Inheritance,
        /// The one active task of the slot that may stay beside it.
        alongside: Option<TaskId>,
    },
    /// Give a pending task its node. Rejected when the node is not ready and active.
    AssignTask {
        /// Which.
        id: TaskId,
        /// Decided on.
        expected: Generation,
        /// Where.
        node: NodeId,
    },
    /// Why a task stays pending, when that changed.
    ExplainPending {
        /// Which.
        id: TaskId,
        /// Decided on.
        expected: Generation,
        /// Why.
        reason: PendingReason,
    },
    /// Desired state `Stopped`. A task without a node ends at once.
    StopTask {
        /// Which.
        id: TaskId,
        /// Decided on.
        expected: Generation,
        /// Its service, as decided on: what it declares says who has to go. `None` in logs of 0.1.0: not compared.
        #[serde(default)]
        service: Option<Generation>,
        /// The task of its slot that is kept in place of it: without that one it goes on. `None`: nobody is, or not compared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keeps: Option<TaskId>,
        /// Its node, as decided on, where that is why it goes: one that is active again by now keeps it. `None`: not compared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<Generation>,
        /// Why, for the history.
        reason: String,
    },
    /// Nobody will report on it again.
    LoseTask {
        /// Which.
        id: TaskId,
        /// Decided on.
        expected: Generation,
        /// Why.
        reason: String,
    },
    /// Forget an ended task.
    ReapTask {
        /// Which.
        id: TaskId,
        /// Decided on.
        expected: Generation,
    },
    /// Move the rollout's cursor.
    SetRollout {
        /// Whose.
        service: ServiceId,
        /// Decided on.
        expected: Generation,
        /// The whole new cursor.
        rollout: Rollout,
    },
    /// Make the previous template the newest one (automatic rollback): the declaration returns, the cursor is set.
    RollBack {
        /// Whose.
        service: ServiceId,
        /// Decided on.
        expected: Generation,
        /// Why.
        reason: String,
    },
    /// Forget a removed service that has no task left.
    DropService {
        /// Which.
        service: ServiceId,
        /// Decided on.
        expected: Generation,
    },
    /// A job has come to its end. Rejected when it has before.
    EndJob {
        /// Which.
        service: ServiceId,
        /// Decided on.
        expected: Generation,
        /// Complete or failed.
        state: JobState,
        /// Why it failed.
        message: String,
    },
    /// Forget an ended job with its tasks.
    RemoveJob {
        /// Which.
        service: ServiceId,
        /// Decided on.
        expected: Generation,
    },
    /// What happens at one time of a cron. Rejected unless it is later than every one decided before.
    RunCron {
        /// Which.
        cron: CronId,
        /// Decided on.
        expected: Generation,
        /// The time that was due.
        due: ClusterTime,
        /// The next one.
        next: Option<ClusterTime>,
        /// What happens.
        step: CronStep,
    },
    /// Forget a token that expired or has no use left.
    DropToken {
        /// Which.
        id: TokenId,
    },
}
