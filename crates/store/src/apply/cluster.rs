//! The cluster's settings and authority, its members, its join tokens.

use std::sync::Arc;

use model::{
    cluster::{Authority, Cluster, ClusterSettings, Member, Token},
    command::{Answer, Rejection},
    event::ObjectChange,
    freeze::{Freeze, FreezeSpec, MAX_FREEZES},
    id::{ClusterId, Generation, MemberId, NodeId, TokenId},
    identity::JoinRole,
    registry::{MAX_REGISTRIES, Registry, RegistrySpec, SealedLogin},
    sealed::{DataKeys, KeyId, KeyRecord, LoginAt, Sealed},
    time::ClusterTime,
};

use planted::Bug;

use super::joiner::approved;
use crate::{requests::Outcome, resolve::missing, write::Writer};

/// Join tokens at a time: each is a way in, and a person hands it out.
const MAX_TOKENS: usize = 1024;
/// Members at a time: five vote in a large cluster, the rest are changes under way.
const MAX_MEMBERS: usize = 32;
/// The serial number of the first manager's certificate, which `init` signs before there is a log.
const FIRST_SERIAL: u64 = 1;
/// The data key that a cluster is founded with.
const FIRST_KEY: KeyId = KeyId(1);

impl Writer<'_> {
    pub(super) fn bootstrap(
        &mut self,
        id: ClusterId,
        settings: &ClusterSettings,
        authority: &Authority,
        (name, address): (&str, &str),
        data_key: Option<u64>,
    ) -> Outcome {
        if let Some(cluster) = &self.store.cluster {
            return Err(Rejection::Conflict(format!("this is cluster {} already", cluster.id)));
        }
        let first = MemberId(1);
        self.put_cluster(Cluster {
            id,
            generation: self.generation,
            settings: settings.clone(),
            authority: authority.clone(),
            last_serial: FIRST_SERIAL,
            last_member: first,
            created: self.at,
            freezes: Arc::default(),
            registries: Arc::default(),
            users: Arc::default(),
            deploy_tokens: Arc::default(),
            issuers: Arc::default(),
            bindings: Arc::default(),
            sessions: Arc::default(),
            policies: None,
            judged: Arc::default(),
            keys: data_key.map(|fingerprint| first_key(fingerprint, self.at)).unwrap_or_default(),
            login_methods: Arc::default(),
        });
        self.add_member(first, name, address, None, "the cluster was made");
        if data_key.is_some() {
            self.update_member(first, address, "", Some(FIRST_KEY))?;
        }
        Ok(Answer::Member { id: first })
    }

    pub(super) fn set_settings(&mut self, settings: &ClusterSettings) -> Outcome {
        let cluster = self.cluster()?;
        if cluster.settings != *settings {
            let generation = self.generation;
            self.put_cluster(Cluster { settings: settings.clone(), generation, ..(*cluster).clone() });
        }
        Ok(Answer::Done)
    }

    pub(super) fn set_freeze(&mut self, spec: &FreezeSpec) -> Outcome {
        let cluster = self.cluster()?;
        let mut freezes = (*cluster.freezes).clone();
        let known = freezes.iter_mut().find(|freeze| freeze.spec.name == spec.name);
        let freeze = Freeze { spec: spec.clone(), by: self.actor.clone(), set: self.at };
        match known {
            // A retry, or the same again.
            Some(known) if known.spec == *spec => return Ok(Answer::Done),
            Some(known) => *known = freeze,
            None => freezes.push(freeze),
        }
        // What is over is forgotten, or a calendar that is read every week would fill it up.
        let at = self.at;
        freezes.retain(|freeze| freeze.spec.windows.iter().any(|window| window.until > at));
        if freezes.len() > MAX_FREEZES {
            let message = format!("there are {MAX_FREEZES} freezes, the most there may be; remove some");
            return Err(Rejection::Conflict(message));
        }
        freezes.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        self.put_freezes(&cluster, freezes);
        Ok(Answer::Done)
    }

    pub(super) fn remove_freeze(&mut self, name: &str) -> Outcome {
        let cluster = self.cluster()?;
        let mut freezes = (*cluster.freezes).clone();
        freezes.retain(|freeze| freeze.spec.name != name);
        if freezes.len() == cluster.freezes.len() {
            return Err(missing("freeze", name));
        }
        self.put_freezes(&cluster, freezes);
        Ok(Answer::Done)
    }

    fn put_freezes(&mut self, cluster: &Cluster, freezes: Vec<Freeze>) {
        let (freezes, generation) = (Arc::new(freezes), self.generation);
        self.put_cluster(Cluster { freezes, generation, ..cluster.clone() });
    }

    pub(super) fn set_registry(&mut self, spec: &RegistrySpec) -> Outcome {
        let cluster = self.cluster()?;
        let mut registries = (*cluster.registries).clone();
        let registry = Registry { spec: spec.clone(), by: self.actor.clone(), set: self.at };
        match registries.iter_mut().find(|known| known.spec.host == spec.host) {
            // A retry, or the same again.
            Some(known) if known.spec == *spec => return Ok(Answer::Done),
            Some(known) => *known = registry,
            None => registries.push(registry),
        }
        let former = self.store.registries().iter().find(|known| known.spec.host == spec.host);
        let former = former.and_then(|former| former.spec.sealed.as_ref());
        if spec.sealed.as_ref() != former {
            sealed_now(&cluster, spec.sealed.as_ref().map(|login| &login.value))?;
        }
        if registries.len() > MAX_REGISTRIES {
            let message =
                format!("there are {MAX_REGISTRIES} registries, the most there may be; remove some");
            return Err(Rejection::Conflict(message));
        }
        registries.sort_by(|a, b| a.spec.host.cmp(&b.spec.host));
        self.put_registries(&cluster, registries);
        Ok(Answer::Done)
    }

    pub(super) fn remove_registry(&mut self, host: &str) -> Outcome {
        let cluster = self.cluster()?;
        let mut registries = (*cluster.registries).clone();
        registries.retain(|registry| registry.spec.host != host);
        if registries.len() == cluster.registries.len() {
            return Err(missing("registry", host));
        }
        self.put_registries(&cluster, registries);
        Ok(Answer::Done)
    }

    pub(super) fn reseal_login(
        &mut self,
        host: &str,
        set: ClusterTime,
        from: Option<KeyId>,
        value: &Sealed,
    ) -> Outcome {
        let cluster = self.cluster()?;
        let mut registries = (*cluster.registries).clone();
        let known = registries.iter_mut().find(|known| known.spec.host == host && known.set == set);
        let known = known.filter(|known| known.spec.login_key() == Some(from));
        let known = known.filter(|_| value.key == cluster.keys.active);
        let Some((known, kind)) = known.and_then(|known| known.spec.login_kind().map(|kind| (known, kind)))
        else {
            return Err(not_sealed_so(&LoginAt::Registry(host.to_owned())));
        };
        (known.spec.login, known.spec.sealed) = (None, Some(SealedLogin { kind, value: value.clone() }));
        self.put_registries(&cluster, registries);
        Ok(Answer::Done)
    }

    pub(super) fn reseal_authority(&mut self, from: Option<KeyId>, value: &Sealed) -> Outcome {
        let cluster = self.cluster()?;
        let present = cluster.authority.sealed.as_ref().map(|sealed| sealed.key);
        if present != from || value.key != cluster.keys.active {
            return Err(Rejection::Conflict("the authority's key is not sealed so any more".into()));
        }
        let certificate = cluster.authority.certificate.clone();
        let former = cluster.authority.former.clone();
        let authority = Authority { certificate, key: String::new(), sealed: Some(value.clone()), former };
        let generation = self.generation;
        self.put_cluster(Cluster { authority, generation, ..(*cluster).clone() });
        Ok(Answer::Done)
    }

    fn put_registries(&mut self, cluster: &Cluster, registries: Vec<Registry>) {
        let (registries, generation) = (Arc::new(registries), self.generation);
        self.put_cluster(Cluster { registries, generation, ..cluster.clone() });
    }

    pub(super) fn certificate_issued(
        &mut self,
        serial: u64,
        node: Option<NodeId>,
        proven: Option<u64>,
        member: Option<MemberId>,
        key: Option<&String>,
    ) -> Outcome {
        let cluster = self.next_serial(serial)?;
        let member = match member {
            None => None,
            Some(id) => Some(self.store.members.get(&id).cloned().ok_or_else(|| missing("manager", id))?),
        };
        let node = match node {
            None => None,
            Some(id) => Some(self.store.nodes.get(&id).cloned().ok_or_else(|| missing("node", id))?),
        };
        if let (Some(node), Some(proven)) = (&node, proven)
            && !node.is_proven_by(proven)
        {
            let message = format!("certificate {proven} is not the newest of node {}", node.facts.hostname);
            return Err(Rejection::Conflict(message));
        }
        self.take_serial(&cluster, serial);
        if let Some(node) = node {
            let mut node = (*node).clone();
            (node.certificate, node.proven) = (serial, proven);
            if !planted::is(Bug::NodeKeyForgotten) {
                node.key = key.cloned();
            }
            node.generation = self.generation;
            self.node_event(&node, ObjectChange::Updated, format!("certificate {serial} was issued"));
            self.put_node(node);
        }
        if let Some(member) = member {
            self.put_member(Member { certificate: serial, generation: self.generation, ..(*member).clone() });
        }
        Ok(Answer::Done)
    }

    pub(super) fn create_token(&mut self, token: &Token) -> Outcome {
        if self.store.tokens.contains_key(&token.id) {
            return Err(Rejection::Exists { kind: "token".into(), name: token.id.to_string() });
        }
        if token.uses_left == 0 || token.expires <= self.at {
            return Err(Rejection::Invalid("a token without uses or time would admit nobody".into()));
        }
        if self.store.tokens.len() >= MAX_TOKENS {
            let message = format!("there are {MAX_TOKENS} join tokens, the most there may be; revoke some");
            return Err(Rejection::Conflict(message));
        }
        self.put_token(token.clone());
        let message = format!("{} token for {} uses", token.role, token.uses_left);
        self.token_event(token.id, ObjectChange::Created, message);
        Ok(Answer::Token { id: token.id, expires: token.expires })
    }

    pub(super) fn revoke_token(&mut self, id: TokenId) -> Outcome {
        if !self.store.tokens.contains_key(&id) {
            return Err(missing("token", id));
        }
        self.remove_token(id);
        self.token_event(id, ObjectChange::Removed, "revoked");
        Ok(Answer::Done)
    }

    /// A token that admits to a role now.
    pub(super) fn usable_token(&self, id: TokenId, role: JoinRole) -> Result<Arc<Token>, Rejection> {
        let refuse = |why: String| Rejection::Token { id, role, why };
        let token = self.store.tokens.get(&id);
        let token = token.ok_or_else(|| refuse("it is unknown or was revoked; ask for a new one".into()))?;
        if token.role != role {
            return Err(refuse(format!("it was made for joining as {}", token.role)));
        }
        if token.expires <= self.at {
            return Err(refuse(format!("it expired at {}; ask for a new one", token.expires)));
        }
        if token.uses_left == 0 {
            return Err(refuse("it is used up; ask for a new one".into()));
        }
        Ok(token.clone())
    }

    /// Takes one use of a token that [`usable_token`](Self::usable_token) gave.
    pub(super) fn use_token(&mut self, token: &Token) {
        let uses_left = token.uses_left.saturating_sub(1);
        self.put_token(Token { uses_left, ..token.clone() });
        self.token_event(token.id, ObjectChange::Updated, format!("used, {uses_left} uses left"));
    }

    /// Checks that a serial number is the next one.
    pub(super) fn next_serial(&self, serial: u64) -> Result<Arc<Cluster>, Rejection> {
        let cluster = self.cluster()?;
        if cluster.last_serial.checked_add(1) == Some(serial) {
            return Ok(cluster);
        }
        Err(Rejection::Conflict(format!(
            "certificate {serial} is not the one after {}; ask again",
            cluster.last_serial
        )))
    }

    /// Takes a serial number that [`next_serial`](Self::next_serial) allowed.
    pub(super) fn take_serial(&mut self, cluster: &Cluster, serial: u64) {
        let generation = self.generation;
        self.put_cluster(Cluster { last_serial: serial, generation, ..cluster.clone() });
    }

    pub(super) fn join_member(
        &mut self,
        id: MemberId,
        token: TokenId,
        (name, address): (&str, &str),
        serial: u64,
        fingerprint: &str,
    ) -> Outcome {
        let token = self.usable_token(token, JoinRole::Manager)?;
        let cluster = self.next_serial(serial)?;
        approved(&cluster, fingerprint, name)?;
        if cluster.last_member.0.checked_add(1) != Some(id.0) {
            let message = format!("manager {id} is not the one after {}; ask again", cluster.last_member);
            return Err(Rejection::Conflict(message));
        }
        if self.store.members.len() >= MAX_MEMBERS {
            let message = format!("there are {MAX_MEMBERS} managers, the most there may be; remove some");
            return Err(Rejection::Conflict(message));
        }
        self.use_token(&token);
        self.take_serial(&Cluster { last_member: id, ..(*cluster).clone() }, serial);
        self.add_member(id, name, address, None, "joined");
        Ok(Answer::Member { id })
    }

    pub(super) fn replace_member(
        &mut self,
        old: MemberId,
        id: MemberId,
        address: &str,
        serial: u64,
    ) -> Outcome {
        let former = self.store.members.get(&old).cloned().ok_or_else(|| missing("manager", old))?;
        let cluster = self.next_serial(serial)?;
        if cluster.last_member.0.checked_add(1) != Some(id.0) {
            let message = format!("manager {id} is not the one after {}; ask again", cluster.last_member);
            return Err(Rejection::Conflict(message));
        }
        self.take_serial(&Cluster { last_member: id, ..(*cluster).clone() }, serial);
        self.remove_member(old);
        self.member_event(&former, ObjectChange::Removed, format!("lost its log; it comes back as {id}"));
        self.add_member(id, &former.name, address, Some(old), &format!("was {old}, which lost its log"));
        Ok(Answer::Member { id })
    }

    pub(super) fn update_member(
        &mut self,
        id: MemberId,
        address: &str,
        version: &str,
        key: Option<KeyId>,
    ) -> Outcome {
        let old = self.store.members.get(&id).cloned().ok_or_else(|| missing("manager", id))?;
        if key > old.key {
            self.put_member(Member { key, generation: self.generation, ..(*old).clone() });
        }
        let old = self.store.members.get(&id).cloned().unwrap_or(old);
        if old.address != address || old.version != version {
            let mut member = (*old).clone();
            address.clone_into(&mut member.address);
            version.clone_into(&mut member.version);
            member.generation = self.generation;
            let message = format!("version {version} at {address}");
            self.member_event(&member, ObjectChange::Updated, message);
            self.put_member(member);
        }
        Ok(Answer::Member { id })
    }

    pub(super) fn remove_member_of(&mut self, id: MemberId) -> Outcome {
        let member = self.store.members.get(&id).cloned().ok_or_else(|| missing("manager", id))?;
        if self.store.members.len() == 1 {
            return Err(Rejection::Conflict(format!("manager {id} is the last one: it cannot be removed")));
        }
        self.remove_member(id);
        self.member_event(&member, ObjectChange::Removed, "left; its certificate is refused from now on");
        Ok(Answer::Member { id })
    }

    pub(super) fn recover_members(&mut self, survivor: MemberId, address: &str) -> Outcome {
        let cluster = self.cluster()?;
        if survivor <= cluster.last_member {
            return Err(Rejection::Conflict(format!(
                "manager ids are never reused: {survivor} is not beyond {}",
                cluster.last_member
            )));
        }
        let old: Vec<Arc<Member>> = self.store.members.values().cloned().collect();
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let same = old.iter().find(|member| member.address == address);
        let name = same.map_or_else(|| host.to_owned(), |member| member.name.clone());
        for member in &old {
            self.remove_member(member.id);
            self.member_event(member, ObjectChange::Removed, "left behind by a recovery");
        }
        let generation = self.generation;
        self.put_cluster(Cluster { last_member: survivor, generation, ..(*cluster).clone() });
        self.add_member(survivor, &name, address, None, "survived: the only manager now");
        Ok(Answer::Member { id: survivor })
    }

    fn add_member(
        &mut self,
        id: MemberId,
        name: &str,
        address: &str,
        replaces: Option<MemberId>,
        message: &str,
    ) {
        let member = Member {
            id,
            generation: self.generation,
            name: name.to_owned(),
            address: address.to_owned(),
            version: String::new(),
            joined: self.at,
            replaces,
            key: None,
            certificate: 0,
        };
        self.member_event(&member, ObjectChange::Created, format!("{message}, at {address}"));
        self.put_member(member);
    }

    pub(super) fn cluster(&self) -> Result<Arc<Cluster>, Rejection> {
        self.store.cluster.clone().ok_or_else(|| Rejection::Conflict("there is no cluster yet".into()))
    }
}

fn first_key(fingerprint: u64, made: ClusterTime) -> DataKeys {
    DataKeys { active: FIRST_KEY, known: vec![KeyRecord { id: FIRST_KEY, fingerprint, made }] }
}

/// A login that is not as it was before comes sealed with the active key. One that is needs the key that it needed before.
pub(super) fn sealed_now(cluster: &Cluster, login: Option<&Sealed>) -> Result<(), Rejection> {
    let active = cluster.keys.active;
    if login.is_none_or(|login| login.key == active) {
        return Ok(());
    }
    Err(Rejection::Conflict(format!("the data key is {active} by now; ask again")))
}

pub(super) fn not_sealed_so(at: &LoginAt) -> Rejection {
    Rejection::Conflict(format!("the login of {at} is not sealed so any more"))
}

/// The cluster with other data keys.
pub(super) fn with_keys(cluster: &Cluster, keys: DataKeys, generation: Generation) -> Cluster {
    Cluster { keys, generation, ..cluster.clone() }
}
