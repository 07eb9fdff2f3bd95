//! Applying an entry: find out whether it was applied before, check everything, then write.
//!
//! Every function here checks first and writes last, so that an `Err` has changed nothing. Checks look only at the entry and
//! the tables and never at rules that may differ between two versions of the software (`model::validate` runs before an
//! entry is proposed, not here): all managers must come to the same answer during an upgrade.
//!
//! Read in this order: this file, then `cluster`, `authority`, `service`, `release`, `network`, `node`, `observe`, `decide`, `job`, `cron`, `user`, `login`, `deployer`, `pipeline`, `policy`, `item`.

mod authority;
mod cluster;
mod cron;
mod decide;
mod deployer;
mod item;
mod job;
mod joiner;
mod login;
mod network;
mod node;
mod observe;
mod pipeline;
mod policy;
mod release;
mod service;
mod user;

use model::{
    command::{Answer, Command, Entry, Rejection},
    id::{CronId, Generation, MemberId, NetworkId, NodeId, ServiceId, TaskId, TokenId},
    sealed::LoginAt,
    service::Slot,
};

use planted::Bug;

use crate::{Store, requests::Outcome, write::Writer};

/// What an entry did.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// What the client is answered.
    pub outcome: Outcome,
    /// The decisions of a batch that were not applied, by their place in it.
    pub rejected: Vec<(usize, Rejection)>,
    /// What changed, in order; an object may occur more than once.
    pub changes: Vec<Change>,
    /// The request was applied before; `outcome` is what it was answered then.
    pub replay: bool,
}

/// One object that changed: look it up; one that is not found is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The settings or the authority's serial number.
    Cluster,
    /// A service.
    Service(ServiceId),
    /// A task that is new or changed.
    Task(TaskId),
    /// A task that was forgotten, with what its readers can no longer look up.
    TaskGone {
        /// Which.
        id: TaskId,
        /// Whose it was.
        service: ServiceId,
        /// Which place it filled.
        slot: Slot,
        /// Where it was.
        node: Option<NodeId>,
    },
    /// A node.
    Node(NodeId),
    /// A member.
    Member(MemberId),
    /// A token.
    Token(TokenId),
    /// A network.
    Network(NetworkId),
    /// A cron.
    Cron(CronId),
    /// A secret or config: which is not said.
    Items,
}

impl Applied {
    fn without_changes(outcome: Outcome, replay: bool) -> Self {
        Self { outcome, rejected: Vec::new(), changes: Vec::new(), replay }
    }
}

impl Store {
    /// Applies the entry at a log index. Deterministic, total, and once per [request id](Entry::request): a retry gets the
    /// recorded answer. A rejected command changes no object; it is remembered and recorded like an accepted one. An index that is not
    /// beyond [`applied`](Self::applied) changes nothing at all.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> Applied {
        if index <= self.applied {
            let message = format!("entry {index} was applied before: the state stands at {}", self.applied);
            return Applied::without_changes(Err(Rejection::Conflict(message)), false);
        }
        self.applied = index;
        self.time = self.time.max(entry.at);
        if let Some(outcome) = entry.request.and_then(|request| self.requests.get(request))
            && !planted::is(Bug::RetryApplied)
        {
            let outcome = outcome.clone();
            if planted::is(Bug::ReplayAudited) {
                self.record(entry, self.look_at(&entry.command), &outcome);
            }
            return Applied::without_changes(outcome, true);
        }
        let look = self.look_at(&entry.command);
        let mut rejected = Vec::new();
        let judged =
            self.welcome(&entry.actor).and_then(|()| self.within_scope(&entry.actor, &entry.command));
        let mut writer = Writer::new(self, &entry.actor);
        let outcome = judged.and_then(|()| writer.command(&entry.command, &mut rejected));
        if outcome.is_ok() {
            writer.note_use();
        }
        let changes = writer.changes;
        if let Some(request) = entry.request {
            let gain = self.requests.record(request, outcome.clone());
            self.sum = self.sum.wrapping_add(gain);
        }
        self.record(entry, look, &outcome);
        Applied { outcome, rejected, changes, replay: false }
    }
}

impl Writer<'_> {
    fn command(&mut self, command: &Command, rejected: &mut Vec<(usize, Rejection)>) -> Outcome {
        if self.store.cluster.is_none() && !matches!(command, Command::Bootstrap { .. }) {
            return Err(Rejection::Conflict("there is no cluster yet".into()));
        }
        if self.store.is_policed() && !planted::is(Bug::PolicyNotAsked) {
            self.store.admits(self.actor, command)?;
        }
        match command {
            Command::Bootstrap { cluster, settings, authority, name, address, data_key } => {
                self.bootstrap(*cluster, settings, authority, (name, address), *data_key)
            }
            Command::SetSettings(settings) => self.set_settings(settings),
            Command::CreateService { id, spec } => self.create_service(*id, spec),
            Command::UpdateService { id, expected, spec, note } => {
                self.update_service(*id, *expected, spec, note)
            }
            Command::ScaleServices(scales) => self.scale_services(scales),
            Command::RollbackService { id, to, note } => self.rollback_service(*id, *to, note),
            Command::SteerRollout { id, release, step } => self.steer_rollout(*id, *release, *step),
            Command::RemoveService { id } => self.remove_service_of(*id),
            Command::NoteFault { task, release, message } => self.note_fault(*task, *release, message),
            Command::PinImage { service, template, pin } => self.pin_image(*service, *template, pin),
            Command::CreateNetwork { id, base, spec } => self.create_network(*id, *base, spec),
            Command::RemoveNetwork { id } => self.remove_network_of(*id),
            Command::SetFreeze(spec) => self.set_freeze(spec),
            Command::RemoveFreeze { name } => self.remove_freeze(name),
            Command::SetCron { id, spec, next } => self.set_cron(*id, spec, *next),
            Command::RemoveCron { id } => self.remove_cron_of(*id),
            Command::RunCron { id, job } => self.run_cron_now(*id, *job),
            Command::SetRegistry(spec) => self.set_registry(spec),
            Command::RemoveRegistry { host } => self.remove_registry(host),
            Command::SetPolicy { spec, expected } => self.set_policy(spec, *expected),
            Command::RemovePolicy { name } => self.remove_policy(name),
            Command::CreateToken(token) => self.create_token(token),
            Command::RevokeToken { id } => self.revoke_token(*id),
            Command::JoinNode { id, token, facts, serial, key } => {
                self.join_node(*id, *token, facts, *serial, key.as_ref())
            }
            Command::UpdateNode { id, expected, spec } => self.update_node(*id, *expected, spec),
            Command::RemoveNode { id, force } => self.remove_node_of(*id, *force),
            Command::NodeUp { id, incarnation, facts } => self.node_up(*id, *incarnation, facts),
            Command::NodeFacts { id, incarnation, facts } => self.node_facts(*id, *incarnation, facts),
            Command::NodeDown { id, expected, message } => self.node_down(*id, *expected, message),
            Command::Observe { node, incarnation, reports } => self.observe(*node, *incarnation, reports),
            Command::JoinMember { id, token, name, address, serial, fingerprint } => {
                self.join_member(*id, *token, (name, address), *serial, fingerprint)
            }
            Command::ReplaceMember { old, id, address, serial } => {
                self.replace_member(*old, *id, address, *serial)
            }
            Command::UpdateMember { id, address, version, key } => {
                self.update_member(*id, address, version, *key)
            }
            Command::RemoveMember { id } => self.remove_member_of(*id),
            Command::RecoverMembers { survivor, address } => self.recover_members(*survivor, address),
            Command::CertificateIssued { serial, node, proven, member, key } => {
                self.certificate_issued(*serial, *node, *proven, *member, key.as_ref())
            }
            Command::RotateAuthority { current, certificate, bridge, sealed } => {
                self.rotate_authority(current, certificate, bridge, sealed)
            }
            Command::FinishRotation { current, leave_behind } => self.finish_rotation(current, *leave_behind),
            Command::Decide(decisions) => {
                for (place, decision) in decisions.iter().enumerate() {
                    if let Err(rejection) = self.decide(decision) {
                        rejected.push((place, rejection));
                    }
                }
                Ok(Answer::Done)
            }
            Command::CreateUser { id, spec } => self.create_user(*id, spec),
            Command::UpdateUser { id, change } => self.update_user(*id, change),
            Command::RemoveUser { id } => self.remove_user(*id),
            Command::CreateDeployToken { id, spec, digest, expires } => {
                self.create_deploy_token(*id, spec, *digest, *expires)
            }
            Command::RemoveDeployToken { name } => self.remove_deploy_token(name),
            Command::BeginAudit => self.begin_audit(),
            Command::Audit(notes) => self.note_audit(notes),
            Command::CreateItem { spec, version } => self.create_item(spec, version),
            Command::UpdateItem { kind, name, version } => self.update_item(*kind, name, version),
            Command::RemoveItem { kind, name } => self.remove_item_of(*kind, name),
            Command::AddKey { id, fingerprint } => self.add_key(*id, *fingerprint),
            Command::UseKey { id } => self.use_key(*id),
            Command::Reseal { kind, name, number, from, value } => {
                self.reseal(*kind, name, *number, *from, value)
            }
            Command::DropKey { id } => self.drop_key(*id),
            Command::SetIssuer(spec) => self.set_issuer(spec),
            Command::RemoveIssuer { name } => self.remove_issuer(name),
            Command::CreateBinding(spec) => self.create_binding(spec),
            Command::RemoveBinding { name } => self.remove_binding(name),
            Command::Exchange {
                id,
                binding,
                expected,
                issuer,
                issuer_expected,
                id_token,
                until,
                digest,
                expires,
                job,
            } => self.exchange(&pipeline::Exchange {
                id: *id,
                binding: (binding, *expected),
                issuer: (issuer, *issuer_expected),
                id_token: *id_token,
                until: *until,
                digest: *digest,
                expires: *expires,
                job,
            }),
            Command::ResealLogin { at: LoginAt::Registry(host), set, from, value } => {
                self.reseal_login(host, *set, *from, value)
            }
            Command::ResealLogin { at: LoginAt::Directory(method), set, from, value } => {
                self.reseal_account(method, *set, *from, value)
            }
            Command::JudgeJoiner { fingerprint, name, approved } => {
                self.judge_joiner(fingerprint, name, *approved)
            }
            Command::ResealAuthority { from, value } => self.reseal_authority(*from, value),
            Command::SetLoginMethod { spec, password } => self.set_login_method(spec, password.as_ref()),
            Command::RemoveLoginMethod { name } => self.remove_login_method(name),
            Command::LogIn { id, method, set, subject, name, roles, serial } => self.log_in(&login::Proven {
                id: *id,
                method,
                set: *set,
                subject,
                name,
                roles,
                serial: *serial,
            }),
        }
    }
}

/// Compare-and-set: the object must still be as it was decided on.
fn expect_generation(
    kind: &str,
    name: impl ToString,
    expected: Generation,
    actual: Generation,
) -> Result<(), Rejection> {
    if expected == actual || planted::is(Bug::GenerationIgnored) {
        return Ok(());
    }
    Err(Rejection::Stale { kind: kind.to_owned(), name: name.to_string(), expected, actual })
}
