//! Which object a command is about. Exhaustive on purpose: a new command does not build without a word for it here.

use model::{
    audit::{Digest, chain::Hasher},
    command::Command,
    id::{CronId, MemberId, NetworkId, NodeId, ServiceId, TokenId, UserId},
    item::ItemKind,
    registry::Registry,
};
use serde::Serialize;

use crate::Store;

/// What a command does, to what.
pub(super) struct Subject {
    pub(super) verb: &'static str,
    pub(super) kind: &'static str,
    object: Object,
    /// What it is called as long as it is not in the tables.
    pub(super) called: String,
}

/// Where it lies.
enum Object {
    Services(Vec<ServiceId>),
    Network(NetworkId),
    Freeze(String),
    Cron(CronId, String),
    Registry(String),
    Token(TokenId),
    Node(NodeId),
    Member(MemberId),
    User(UserId),
    DeployToken(String),
    Policy(String),
    Issuer(String),
    Binding(String),
    Item(ItemKind, String),
    LoginMethod(String),
    UserNamed(String),
    Settings,
    /// Nowhere.
    None,
}

impl Subject {
    /// `None` for what the managers do and note by themselves: it is nobody's wish, and the state and its events tell of it.
    pub(super) fn of(command: &Command) -> Option<Self> {
        let subject = |verb, kind, object, called: &dyn ToString| {
            Some(Self { verb, kind, object, called: called.to_string() })
        };
        let service = |verb, id: &ServiceId| subject(verb, "service", Object::Services(vec![*id]), id);
        let item = |verb, kind: ItemKind, name: &String| {
            let word = match kind {
                ItemKind::Secret => "secret",
                ItemKind::Config => "config",
            };
            subject(verb, word, Object::Item(kind, name.clone()), name)
        };
        match command {
            Command::Bootstrap { cluster, .. } => subject("found", "cluster", Object::None, cluster),
            Command::SetSettings(_) => subject("set", "settings", Object::Settings, &"cluster"),
            Command::CreateService { id, spec } => {
                subject("create", "service", Object::Services(vec![*id]), &spec.name)
            }
            Command::UpdateService { id, note, .. } => {
                service(if note.is_empty() { "update" } else { "deploy" }, id)
            }
            Command::ScaleServices(scales) => {
                let ids = scales.iter().map(|(id, _)| *id).collect();
                subject("scale", "service", Object::Services(ids), &"")
            }
            Command::RollbackService { id, .. } => service("roll back", id),
            Command::SteerRollout { id, step, .. } => {
                use model::service::RolloutStep::{Abort, Pause, Promote, Resume};
                let verb = match step {
                    Pause => "pause",
                    Resume => "resume",
                    Abort => "abort",
                    Promote => "promote",
                };
                service(verb, id)
            }
            Command::RemoveService { id } => service("remove", id),
            Command::CreateNetwork { id, spec, .. } => {
                subject("create", "network", Object::Network(*id), &spec.name)
            }
            Command::RemoveNetwork { id } => subject("remove", "network", Object::Network(*id), id),
            Command::SetFreeze(spec) => {
                subject("set", "freeze", Object::Freeze(spec.name.clone()), &spec.name)
            }
            Command::RemoveFreeze { name } => subject("remove", "freeze", Object::Freeze(name.clone()), name),
            Command::SetCron { id, spec, .. } => {
                subject("set", "cron", Object::Cron(*id, spec.name.clone()), &spec.name)
            }
            Command::RemoveCron { id } => subject("remove", "cron", Object::Cron(*id, String::new()), id),
            Command::RunCron { id, .. } => subject("run", "cron", Object::Cron(*id, String::new()), id),
            Command::SetRegistry(spec) => {
                subject("set", "registry", Object::Registry(spec.host.clone()), &spec.host)
            }
            Command::RemoveRegistry { host } => {
                subject("remove", "registry", Object::Registry(host.clone()), host)
            }
            Command::CreateToken(token) => subject("create", "token", Object::Token(token.id), &token.id),
            Command::RevokeToken { id } => subject("revoke", "token", Object::Token(*id), id),
            Command::JoinNode { id, facts, .. } => {
                subject("join", "node", Object::Node(*id), &facts.hostname)
            }
            Command::UpdateNode { id, .. } => subject("update", "node", Object::Node(*id), id),
            Command::RemoveNode { id, .. } => subject("remove", "node", Object::Node(*id), id),
            Command::JoinMember { id, name, .. } => subject("join", "manager", Object::Member(*id), name),
            Command::ReplaceMember { old, id, .. } => {
                subject("replace", "manager", Object::Member(*id), &format!("m{}", old.0))
            }
            Command::UpdateMember { id, .. } => subject("update", "manager", Object::Member(*id), &id.0),
            Command::RemoveMember { id } => subject("remove", "manager", Object::Member(*id), &id.0),
            Command::RecoverMembers { survivor, .. } => {
                subject("recover", "cluster", Object::None, &format!("by manager {}", survivor.0))
            }
            Command::RotateAuthority { .. } => subject("rotate", "authority", Object::None, &""),
            Command::FinishRotation { .. } => subject("finish", "rotation", Object::None, &""),
            Command::CertificateIssued { serial, node, proven, .. } => {
                let object = node.map_or(Object::None, Object::Node);
                subject(if proven.is_some() { "re-enrol" } else { "renew" }, "certificate", object, serial)
            }
            Command::CreateUser { id, spec } => subject("create", "user", Object::User(*id), &spec.name),
            Command::UpdateUser { id, .. } => subject("update", "user", Object::User(*id), id),
            Command::RemoveUser { id } => subject("remove", "user", Object::User(*id), id),
            Command::CreateDeployToken { spec, .. } => {
                subject("create", "deploy-token", Object::DeployToken(spec.name.clone()), &spec.name)
            }
            Command::RemoveDeployToken { name } => {
                subject("remove", "deploy-token", Object::DeployToken(name.clone()), name)
            }
            Command::SetPolicy { spec, .. } => {
                subject("set", "policy", Object::Policy(spec.name.clone()), &spec.name)
            }
            Command::RemovePolicy { name } => subject("remove", "policy", Object::Policy(name.clone()), name),
            Command::CreateItem { spec, .. } => item("create", spec.kind, &spec.name),
            Command::UpdateItem { kind, name, .. } => item("update", *kind, name),
            Command::RemoveItem { kind, name } => item("remove", *kind, name),
            Command::AddKey { id, .. } => subject("rotate", "data-key", Object::None, &id.0),
            Command::SetIssuer(spec) => {
                subject("set", "issuer", Object::Issuer(spec.name.clone()), &spec.name)
            }
            Command::RemoveIssuer { name } => subject("remove", "issuer", Object::Issuer(name.clone()), name),
            Command::CreateBinding(spec) => {
                subject("create", "deploy-binding", Object::Binding(spec.name.clone()), &spec.name)
            }
            Command::RemoveBinding { name } => {
                subject("remove", "deploy-binding", Object::Binding(name.clone()), name)
            }
            Command::Exchange { binding, .. } => {
                subject("exchange", "id-token", Object::Binding(binding.clone()), binding)
            }
            Command::JudgeJoiner { name, approved, .. } => {
                subject(if *approved { "approve" } else { "deny" }, "manager", Object::None, name)
            }
            Command::BeginAudit => subject("begin", "audit", Object::None, &""),
            Command::SetLoginMethod { spec, .. } => {
                subject("set", "login-method", Object::LoginMethod(spec.name.clone()), &spec.name)
            }
            Command::RemoveLoginMethod { name } => {
                subject("remove", "login-method", Object::LoginMethod(name.clone()), name)
            }
            Command::LogIn { name, .. } => subject("log in", "user", Object::UserNamed(name.clone()), name),
            // Its notes are the records.
            Command::Audit(_)
            | Command::NoteFault { .. }
            | Command::UseKey { .. }
            | Command::Reseal { .. }
            | Command::DropKey { .. }
            | Command::ResealLogin { .. }
            | Command::ResealAuthority { .. }
            | Command::PinImage { .. }
            | Command::NodeUp { .. }
            | Command::NodeFacts { .. }
            | Command::NodeDown { .. }
            | Command::Observe { .. }
            | Command::Decide(_) => None,
        }
    }
}

impl Store {
    /// The object's name, if there is one, and the digest of what is declared of it.
    pub(super) fn describe(&self, subject: &Subject) -> (Option<String>, Option<Digest>) {
        match &subject.object {
            Object::Services(ids) => {
                let services: Vec<_> = ids.iter().filter_map(|id| self.service(*id)).collect();
                let names: Vec<&str> = services.iter().map(|service| service.spec.name.as_str()).collect();
                let digest = match services[..] {
                    [] => None,
                    [only] => digest(&*only.spec),
                    _ => digest(&services.iter().map(|service| &*service.spec).collect::<Vec<_>>()),
                };
                (Some(names.join(",")).filter(|names| !names.is_empty()), digest)
            }
            Object::Network(id) => {
                known(self.network(*id), |network| (network.spec.name.clone(), digest(&network.spec)))
            }
            Object::Freeze(name) => {
                let freeze = self.freezes().iter().find(|freeze| freeze.spec.name == *name);
                known(freeze, |freeze| (name.clone(), digest(&freeze.spec)))
            }
            Object::Cron(id, name) => {
                let cron = self.cron(*id).or_else(|| self.cron_by_name(name));
                known(cron, |cron| (cron.spec.name.clone(), digest(&*cron.spec)))
            }
            Object::Registry(host) => {
                let registry = self.registries().iter().find(|registry| registry.spec.host == *host);
                known(registry, |registry| (host.clone(), digest(&without_secret(registry))))
            }
            Object::Token(id) => known(self.token(*id), |token| (token.id.to_string(), digest(token))),
            Object::Node(id) => {
                known(self.node(*id), |node| (node.facts.hostname.clone(), digest(&node.spec)))
            }
            Object::Member(id) => known(self.member(*id), |member| {
                (member.name.clone(), digest(&(&member.name, &member.address, &member.version)))
            }),
            Object::User(id) => {
                known(self.user(*id), |user| (user.spec.name.clone(), digest(&(&user.spec, user.disabled))))
            }
            Object::UserNamed(name) => {
                let user = self.users().iter().find(|user| user.spec.name == *name);
                known(user, |user| (name.clone(), digest(&(&user.spec, user.disabled))))
            }
            Object::LoginMethod(name) => {
                known(self.login_method(name), |method| (name.clone(), digest(&(&method.spec, method.set))))
            }
            Object::DeployToken(name) => {
                let token = self.deploy_tokens().iter().find(|token| token.spec.name == *name);
                known(token, |token| (name.clone(), digest(&(&token.spec, token.expires))))
            }
            Object::Policy(name) => {
                let policy = self.policies().iter().find(|policy| policy.spec.name == *name);
                known(policy, |policy| (name.clone(), digest(&policy.spec)))
            }
            Object::Issuer(name) => known(self.issuer(name), |issuer| (name.clone(), digest(&issuer.spec))),
            Object::Binding(name) => {
                known(self.binding(name), |binding| (name.clone(), digest(&binding.spec)))
            }
            Object::Item(kind, name) => known(self.item(*kind, name), |item| {
                (name.clone(), digest(&(&item.spec, item.newest().number)))
            }),
            Object::Settings => {
                known(self.cluster(), |cluster| ("cluster".to_owned(), digest(&cluster.settings)))
            }
            Object::None => (None, None),
        }
    }
}

fn known<T>(
    object: Option<&T>,
    describe: impl FnOnce(&T) -> (String, Option<Digest>),
) -> (Option<String>, Option<Digest>) {
    object.map_or((None, None), |object| {
        let (name, digest) = describe(object);
        (Some(name), digest)
    })
}

/// Who knows all of a declaration but its password could try passwords on a digest with it. The time at which it was
/// declared makes two logins differ instead.
fn without_secret(registry: &Registry) -> impl Serialize {
    let spec = &registry.spec;
    let login = spec.login_kind();
    (spec.host.clone(), login, spec.authority.clone(), spec.plain_http, registry.set)
}

/// SHA-256 of the declaration as JSON, in the form of `orchctl … --json`. Fields that an older version does not know are
/// left out of it as long as they say nothing, so two versions of the software agree.
fn digest(value: &impl Serialize) -> Option<Digest> {
    let mut hasher = Hasher::default();
    serde_json::to_writer(&mut hasher, value).ok().map(|()| hasher.finish())
}
