//! I20: a node gets the secrets that its own tasks mount, in the versions that they are pinned to, and no other; a container is made only when
//! they are there; and a value lies in clear nowhere that lasts.

use agent_core::{
    action::{Action, KeptFile},
    engine::EngineCall,
};
use model::{
    id::TaskId,
    item::{ItemKind, TaskFile},
    sealed::Clear,
    session::{FileAnswer, ManagerMessage},
};
use seal::{Of, Place};
use store::Store;
use wal::Disk as _;

use crate::{secrets::CANARY, world::World};

impl World {
    /// What a manager tells a node of a task's files.
    pub(crate) fn watch_files(&mut self, manager: usize, node: usize, message: &ManagerMessage) {
        let ManagerMessage::Files { task, answer: FileAnswer::Some { files, .. } } = message else { return };
        self.checks.count("secrets sent");
        let id = self.nodes[node].node;
        let Some(store) = self.managers[manager].process.as_ref().map(|process| process.core.store().clone())
        else {
            return;
        };
        let about = vec![format!("n{node}"), task.to_string()];
        if store.task(*task).and_then(|task| task.node) != Some(id) {
            return self.violate(
                "I20",
                format!("n{node} is sent secrets of task {task}, not its own"),
                about,
            );
        }
        for TaskFile { place, value } in files {
            match self.pinned(&store, *task, *place) {
                Some(right) if right == *value => {}
                found => {
                    let what =
                        if found.is_some() { "another version" } else { "what the task does not mount" };
                    let text = format!("n{node} is sent {what} as file {place} of task {task}");
                    return self.violate("I20", text, about);
                }
            }
        }
    }

    /// The value that a task's template names, opened with whichever keyring has the key on disk.
    fn pinned(&self, store: &Store, task: TaskId, place: u32) -> Option<Clear> {
        let task = store.task(task)?;
        let template = store.service(task.service)?.template_of(task.template)?;
        let (kind, mount) = template.container.files().nth(place as usize)?;
        let number = mount.version?;
        let sealed = &store.item(kind, &mount.name)?.version(number)?.value;
        let of = Of::Item { kind, name: &mount.name, version: number };
        let place = Place { cluster: self.cluster, of };
        self.managers.iter().find_map(|host| host.keyring.open(&place, sealed).ok())
    }

    /// What an agent wants done.
    pub(crate) fn watch_agent_files(&mut self, node: usize, action: &Action) {
        match action {
            Action::KeepFiles { task, files } => {
                let own = |file: &KeptFile| file.value.reveal().starts_with(CANARY.as_bytes());
                if !files.iter().all(own) {
                    self.violate("I20", format!("n{node} keeps what no secret is"), vec![task.to_string()]);
                }
            }
            Action::Engine { call: EngineCall::Create(request), .. } => {
                let Some(task) = request.files else { return };
                self.checks.count("containers with secrets");
                let kept = self.nodes[node].files.get(&task).map_or(0, Vec::len);
                if kept != request.spec.files().count() {
                    let what = format!("n{node} makes a container of task {task} without its secrets");
                    self.violate("I20", what, vec![format!("n{node}"), task.to_string()]);
                }
            }
            _ => {}
        }
    }

    /// At the end: on no disk, and in no state; no secret, no login, no authority's key.
    pub(crate) fn check_canaries(&mut self) {
        let finds = |bytes: &[u8]| bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        let disks = self.managers.iter().enumerate().filter(|(_, host)| {
            let names = host.disk.list().unwrap_or_default();
            names.iter().any(|name| host.disk.contents(name).is_some_and(|contents| finds(&contents)))
        });
        let ledgers = self.nodes.iter().enumerate().filter(|(_, host)| {
            let stored = proto::codec::encode(&(&host.ledger.assignments, &host.ledger.records));
            finds(&stored)
        });
        let disks = disks.map(|(number, _)| format!("the disk of m{number}"));
        let found = disks.chain(ledgers.map(|(number, _)| format!("the ledger of n{number}"))).next();
        if let Some(place) = found {
            self.violate("I20", format!("a secret lies in clear on {place}"), Vec::new());
        }
        if self.trace.all().iter().any(|line| line.contains(CANARY)) {
            self.violate("I20", "a secret is in the trace".to_owned(), Vec::new());
        }
        let kind = ItemKind::Secret;
        let secrets = self.checks.frontier().map_or(0, |s| s.items().filter(|i| i.spec.kind == kind).count());
        if secrets > 0 {
            self.checks.count("worlds with secrets");
        }
        let logins =
            |store: &Store| store.registries().iter().any(|registry| registry.spec.login_key().is_some());
        if self.checks.frontier().is_some_and(logins) {
            self.checks.count("worlds with logins");
        }
        let upgraded = |store: &Store| store.members().all(|member| member.version == crate::versions::USUAL);
        if self.checks.frontier().is_some_and(|store| upgraded(store) && store.is_in_clear()) {
            let text = "a login or the authority's key was never sealed".to_owned();
            self.violate("I20", text, Vec::new());
        }
    }
}
