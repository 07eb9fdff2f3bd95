//! What people do with secrets: they make them, give them new values, mount them, go back, change the key, and declare logins.
//!
//! The services that mount them are apart from those whose histories are checked as linearizable: a new value is a release that nobody
//! asked of the service itself.

use std::sync::Arc;

use model::{
    item::{FileMount, ItemKind, ItemSpec},
    registry::{Login, RegistrySpec, Secret},
    request::Request,
    sealed::Clear,
    service::ServiceSpec,
};

use crate::dice::Dice;

/// What every value begins with, so that it is found wherever it should not be.
pub(crate) const CANARY: &str = "canary-of-a-secret";
/// Names of secrets; few, so that services share them.
const SECRETS: [&str; 3] = ["db", "tls", "token"];
/// Names of services that mount them.
const KEEPERS: [&str; 2] = ["keeper", "vault"];

/// All of them, with the choices of one world.
pub(crate) struct Secrets {
    dice: Dice,
    values: u64,
    made: usize,
}

impl Secrets {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed, "secrets"), values: 0, made: 0 }
    }

    /// Every fourth step is theirs; `base` makes a declaration of a name.
    pub(crate) fn step(&mut self, base: impl FnOnce(&str) -> ServiceSpec) -> Option<Request> {
        if !self.dice.permille(250) {
            return None;
        }
        let secret = (*self.dice.pick(&SECRETS).expect("not empty")).to_owned();
        let keeper = *self.dice.pick(&KEEPERS).expect("not empty");
        if self.made < SECRETS.len() {
            self.made += 1;
            let name = SECRETS[self.made - 1].to_owned();
            let spec = ItemSpec { kind: ItemKind::Secret, name, labels: [].into(), template: false };
            return Some(Request::CreateItem { spec, value: self.value() });
        }
        Some(match self.dice.range(0, 99) {
            0..35 => Request::CreateService(Arc::new(self.mounting(base(keeper)))),
            35..75 => {
                let value = self.value();
                Request::UpdateItem { kind: ItemKind::Secret, name: secret, value }
            }
            75..85 => Request::RollbackService(keeper.to_owned()),
            85..90 => Request::RemoveService(keeper.to_owned()),
            90..93 => Request::RemoveItem { kind: ItemKind::Secret, name: secret },
            93..97 => Request::RotateKey,
            97..99 => Request::SetRegistry { spec: self.registry(), check: false },
            _ => Request::ListItems(ItemKind::Secret),
        })
    }

    fn value(&mut self) -> Clear {
        self.values += 1;
        Clear::new(format!("{CANARY} {}", self.values))
    }

    /// One that no image is of: what it says is not what this is about.
    fn registry(&mut self) -> RegistrySpec {
        self.values += 1;
        let password = Secret::new(format!("{CANARY} {}", self.values));
        let login = Login::Password { username: "ci".into(), password };
        RegistrySpec { host: "reg.example".into(), login: Some(login), ..RegistrySpec::default() }
    }

    fn mounting(&mut self, mut spec: ServiceSpec) -> ServiceSpec {
        let mounts = SECRETS.iter().filter(|_| self.dice.permille(500));
        let mount = |name: &&str| FileMount { name: (*name).to_owned(), ..FileMount::default() };
        spec.template.container.secrets = mounts.map(mount).collect();
        spec.template.container.ports.clear();
        spec.ports.clear();
        spec
    }
}
