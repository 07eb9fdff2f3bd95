//! The files of a task: opened when its node asks for them, for that node, and for what the task mounts (invariant I20).

use model::{
    id::{NodeId, TaskId},
    item::{ItemKind, TaskFile},
    node::Node,
    sealed::Clear,
    session::{FileAnswer, ManagerMessage},
    task::{DesiredState, Task},
    template::{self, Piece, Value},
};
use planted::Bug;
use seal::SealError;

use crate::{Action, Manager, parts};

/// The version of the conversation that knows secrets and configs.
pub(crate) const PROTOCOL: u32 = 4;
/// Bytes of one file with its placeholders filled in.
const MAX_FILLED: usize = 1 << 20;
/// What a file takes beside its value.
const FIXED: usize = 16;

/// Why a task's files do not come.
enum Lack {
    /// They may come later.
    NotYet(String),
    /// Not on this node.
    Never(String),
}

impl From<SealError> for Lack {
    fn from(error: SealError) -> Self {
        Self::NotYet(error.to_string())
    }
}

impl Manager {
    pub(crate) fn on_file_wish(&mut self, connection: u64, node: NodeId, id: TaskId) {
        let own = |task: &&Task| task.node == Some(node) && task.may_have_container();
        let task = self.store.task(id).filter(own).filter(|task| task.desired == DesiredState::Running);
        // What is not its own, or not any more, a node hears nothing about.
        let Some(task) = task.cloned() else { return };
        let answers = match self.files_of(&task) {
            Ok(files) => self.in_parts(files),
            Err(Lack::NotYet(why)) => vec![FileAnswer::NotYet(why)],
            Err(Lack::Never(why)) => vec![FileAnswer::Never(why)],
        };
        for answer in answers {
            self.act(Action::SendAgent { connection, message: ManagerMessage::Files { task: id, answer } });
        }
    }

    fn in_parts(&self, files: Vec<TaskFile>) -> Vec<FileAnswer> {
        let groups = parts::groups(files, self.config.knobs.assignment_part, |file| FIXED + file.value.len());
        let last = groups.len().saturating_sub(1);
        let part = |(index, files)| FileAnswer::Some { files, more: index < last };
        groups.into_iter().enumerate().map(part).collect()
    }

    fn files_of(&self, task: &Task) -> Result<Vec<TaskFile>, Lack> {
        let gone = || Lack::NotYet("its service has just changed".into());
        let service = self.store.service(task.service).ok_or_else(gone)?;
        let container = &service.template_of(task.template).ok_or_else(gone)?.container;
        let node = task.node.and_then(|node| self.store.node(node)).ok_or_else(gone)?;
        let mut files = Vec::new();
        for (place, (kind, mount)) in container.files().enumerate() {
            let item = self.store.item(kind, &mount.name).ok_or_else(gone)?;
            let mut value = self.unseal(item, mount.version.unwrap_or_default())?;
            if item.spec.template {
                let secret = |name: &str| {
                    let number = container.mounts_item(ItemKind::Secret, name).next().ok_or_else(gone)?;
                    Ok(self.unseal(self.store.item(ItemKind::Secret, name).ok_or_else(gone)?, number)?)
                };
                let filled = fill(&value, task, (&service.spec.name, node), secret);
                value = filled.map_err(|lack| lack.of(&mount.name))?;
            }
            files.push(TaskFile { place: u32::try_from(place).unwrap_or(u32::MAX), value });
        }
        if planted::is(Bug::EveryonesSecrets) {
            let others = self.store.items().filter(|item| item.spec.kind == ItemKind::Secret);
            let values = others.filter_map(|item| self.unseal(item, item.newest().number).ok());
            files.extend(values.map(|value| TaskFile { place: u32::MAX, value }));
        }
        Ok(files)
    }
}

impl Lack {
    fn of(self, config: &str) -> Self {
        match self {
            Self::NotYet(why) => Self::NotYet(why),
            Self::Never(why) => Self::Never(format!("config {config}: {why}")),
        }
    }
}

/// A template for one task.
fn fill(
    value: &Clear,
    task: &Task,
    (service, node): (&str, &Node),
    secret: impl Fn(&str) -> Result<Clear, Lack>,
) -> Result<Clear, Lack> {
    let wrong = |why: String| Lack::Never(why);
    let text = std::str::from_utf8(value.reveal()).map_err(|error| wrong(error.to_string()))?;
    let pieces = template::parse(text).map_err(|error| wrong(error.to_string()))?;
    let mut filled = Vec::with_capacity(value.len());
    for piece in pieces {
        match piece {
            Piece::Text(text) => filled.extend(text.bytes()),
            Piece::Value(Value::ServiceName) => filled.extend(service.bytes()),
            Piece::Value(Value::TaskSlot) => filled.extend(task.slot.to_string().bytes()),
            Piece::Value(Value::TaskId) => filled.extend(task.id.to_string().bytes()),
            Piece::Value(Value::NodeHostname) => filled.extend(node.facts.hostname.bytes()),
            Piece::Value(Value::NodeId) => filled.extend(node.id.to_string().bytes()),
            Piece::Value(Value::NodeLabel(key)) => {
                let label = node.spec.labels.get(&key).or_else(|| node.facts.labels.get(&key));
                let label = label.ok_or_else(|| {
                    wrong(format!("node {} has no label {key}, which it names", node.facts.hostname))
                })?;
                filled.extend(label.bytes());
            }
            Piece::Value(Value::Secret(name)) => filled.extend(secret(&name)?.reveal()),
        }
        if filled.len() > MAX_FILLED {
            return Err(wrong(format!("it has more than {MAX_FILLED} bytes when it is filled in")));
        }
    }
    Ok(Clear::new(filled))
}
