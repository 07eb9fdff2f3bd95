//! The secrets and configs of tasks: asked for when a container is to start that mounts them, kept in the node's memory by the shell,
//! wiped when nothing here can need them again.
//!
//! They are never stored. While the machine runs they stay where the shell keeps them, so that a crash of a container, or of this
//! agent, needs no manager; after a reboot they are asked for again, and until they come the task waits and says for what. A value lies
//! here from the manager's answer to the next action and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{
    id::TaskId,
    item::{ItemKind, TaskFile},
    session::{AgentMessage, FileAnswer},
    task::TaskState,
    time::Instant,
};

use crate::{
    action::{Action, KeptFile},
    agent::Agent,
    task::Task,
};

/// The version of the conversation that knows secrets and configs.
const PROTOCOL: u32 = 4;
/// A manager answers at once; one that cannot yet is asked again after this, too.
const AGAIN: Duration = Duration::from_secs(2);

/// How far the files of a task have come.
#[derive(Debug)]
enum Standing {
    /// Asked on this connection; what has come so far.
    Asked { connection: u64, until: Instant, files: Vec<TaskFile> },
    /// The manager cannot give them yet.
    Refused { until: Instant, why: String },
    /// The shell is keeping them.
    Keeping,
    /// They are there.
    Kept,
}

/// The files of all tasks.
#[derive(Debug, Default)]
pub(crate) struct Files(BTreeMap<TaskId, Standing>);

impl Files {
    /// What the shell still has of a former life of this agent.
    pub(crate) fn new(kept: BTreeSet<TaskId>) -> Self {
        Self(kept.into_iter().map(|task| (task, Standing::Kept)).collect())
    }
}

impl Files {
    /// A container could not be made or started: perhaps because what it mounts is gone. It is asked for anew.
    pub(crate) fn doubt(&mut self, task: TaskId) {
        if matches!(self.0.get(&task), Some(Standing::Kept)) {
            self.0.remove(&task);
        }
    }
}

impl Agent {
    /// Whether what a task mounts is there; until when to wait if not, `None` within: until something changes.
    pub(crate) fn files_ready(&mut self, id: TaskId, now: Instant) -> Result<(), Option<Instant>> {
        let Some(task) = self.tasks.get(&id) else { return Ok(()) };
        let Some(missing) = task.spec().filter(|spec| spec.has_files()).map(|_| words(task)) else {
            return Ok(());
        };
        let open = self.session.open_with(PROTOCOL);
        let (wait, message) = match (self.files.0.get(&id), open) {
            (Some(Standing::Kept), _) => return Ok(()),
            (Some(Standing::Keeping), _) => (None, None),
            (Some(Standing::Asked { connection, until, .. }), Some(open))
                if *connection == open && *until > now =>
            {
                (Some(*until), None)
            }
            (Some(Standing::Refused { until, why }), _) if *until > now => {
                (Some(*until), Some(format!("waits for {missing} from the managers: {why}")))
            }
            (_, Some(connection)) => {
                let until = now + AGAIN;
                self.files.0.insert(id, Standing::Asked { connection, until, files: Vec::new() });
                self.tell(AgentMessage::FileWish { task: id });
                (Some(until), None)
            }
            (_, None) => {
                (None, Some(format!("waits for {missing} from the managers, which cannot be reached")))
            }
        };
        if let Some(task) = self.tasks.get_mut(&id) {
            task.observed.attempt = task.attempt;
            // A container that is made already is on its way.
            if task.observed.state != TaskState::Starting {
                task.observed.state = TaskState::Preparing;
            }
            task.observed.message =
                message.unwrap_or_else(|| format!("waits for {missing} from the managers"));
        }
        self.starts.release(id);
        Err(wait)
    }

    /// The manager's answer, or a part of it.
    pub(crate) fn files_answered(&mut self, id: TaskId, answer: FileAnswer, now: Instant) {
        let Some(Standing::Asked { files, .. }) = self.files.0.get_mut(&id) else { return };
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.is_wanted()) else {
            self.files.0.remove(&id);
            return;
        };
        self.dirty.insert(id);
        match answer {
            FileAnswer::Some { files: part, more } => {
                files.extend(part);
                if more {
                    return;
                }
                let files = std::mem::take(files);
                if is_whole(task, &files) {
                    self.files.0.insert(id, Standing::Keeping);
                    self.actions.push_back(Action::KeepFiles { task: id, files: marked(task, files) });
                } else {
                    let why = "what came was not what it mounts".to_owned();
                    self.files.0.insert(id, Standing::Refused { until: now + AGAIN, why });
                }
            }
            FileAnswer::NotYet(why) => {
                self.files.0.insert(id, Standing::Refused { until: now + AGAIN, why });
            }
            FileAnswer::Never(why) => {
                self.files.0.remove(&id);
                task.reject(why);
            }
        }
    }

    /// The shell has them where the engine finds them, or cannot. A node that cannot keep a secret in memory runs nothing that has one.
    pub(crate) fn files_kept(&mut self, id: TaskId, outcome: Result<(), String>) {
        let Some(standing) =
            self.files.0.get_mut(&id).filter(|standing| matches!(standing, Standing::Keeping))
        else {
            // The task went meanwhile.
            self.actions.push_back(Action::WipeFiles { task: id });
            return;
        };
        self.dirty.insert(id);
        match outcome {
            Ok(()) => *standing = Standing::Kept,
            Err(why) => {
                self.files.0.remove(&id);
                if let Some(task) = self.tasks.get_mut(&id).filter(|task| task.is_wanted()) {
                    let what = words(task);
                    task.reject(format!("{what} cannot be kept in memory here: {why}"));
                }
            }
        }
    }

    /// Wipes what nothing can need again: of tasks that ended for good or left, once no container of theirs runs.
    pub(crate) fn wipe_files(&mut self, id: TaskId) {
        let needed = self.tasks.get(&id).is_some_and(|task| !task.is_over());
        if !needed && self.files.0.remove(&id).is_some() {
            self.actions.push_back(Action::WipeFiles { task: id });
        }
    }

    /// The managers have said what is wanted here: what is left of other tasks goes.
    pub(crate) fn wipe_strange_files(&mut self) {
        let strange: Vec<TaskId> =
            self.files.0.keys().filter(|id| !self.tasks.contains_key(*id)).copied().collect();
        strange.into_iter().for_each(|id| self.wipe_files(id));
    }
}

/// Each of its files once, and nothing else.
fn is_whole(task: &Task, files: &[TaskFile]) -> bool {
    let count = task.spec().map_or(0, |spec| spec.files().count());
    let places: BTreeSet<u32> = files.iter().map(|file| file.place).collect();
    files.len() == count && places.len() == count && places.iter().all(|place| (*place as usize) < count)
}

/// With who may read each, as the container declares it.
fn marked(task: &Task, files: Vec<TaskFile>) -> Vec<KeptFile> {
    let mounts: Vec<_> = task.spec().into_iter().flat_map(|spec| spec.files()).collect();
    let marked = files.into_iter().filter_map(|file| {
        let (_, mount) = mounts.get(file.place as usize)?;
        Some(KeptFile {
            place: file.place,
            value: file.value,
            uid: mount.uid,
            gid: mount.gid,
            mode: mount.mode(),
        })
    });
    marked.collect()
}

/// What it mounts, in words: `secret db and 2 more`.
fn words(task: &Task) -> String {
    let mut files = task.spec().into_iter().flat_map(|spec| spec.files());
    let Some((kind, mount)) = files.next() else { return "nothing".into() };
    let first = match kind {
        ItemKind::Secret => format!("secret {}", mount.name),
        ItemKind::Config => format!("config {}", mount.name),
    };
    match files.count() {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
