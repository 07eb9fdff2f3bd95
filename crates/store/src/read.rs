//! The read API: what every decision, answer and assignment is made from. Nothing here copies an object.

use model::{
    access::User,
    cluster::{Cluster, Member, Token},
    container::Protocol,
    cron::Cron,
    event::{Event, Revision},
    freeze::Freeze,
    id::{CronId, MemberId, NetworkId, NodeId, ServiceId, TaskId, TokenId, UserId},
    identity::Identity,
    login::LoginMethod,
    network::Network,
    node::Node,
    registry::{ImageName, Registry},
    service::{Service, Slot, TemplateVersion},
    task::Task,
    time::ClusterTime,
};

use crate::{Resync, Store};

impl Store {
    /// The index of the last entry applied; 0 before the first.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The greatest stamp applied.
    pub fn time(&self) -> ClusterTime {
        self.time
    }

    /// The cluster; `None` before its first entry.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// Nodes that were removed, the newest first: so many as are remembered at most.
    pub fn removed_nodes(&self) -> impl Iterator<Item = NodeId> {
        self.removed_nodes.iter().rev().copied()
    }

    /// One service.
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(&id).map(|service| &**service)
    }

    /// One service by its whole name.
    pub fn service_by_name(&self, name: &str) -> Option<&Service> {
        self.service(*self.index.service_names.get(name)?)
    }

    /// All services, by id.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().map(|service| &**service)
    }

    /// How many services there are.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// One task.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(&id).map(|task| &**task)
    }

    /// All tasks, ended ones included, by id.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values().map(|task| &**task)
    }

    /// How many tasks there are, ended ones included.
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// A service's tasks, ended ones included, by slot, then by id.
    pub fn tasks_of_service(&self, service: ServiceId) -> impl Iterator<Item = &Task> {
        let (first, last) = (Slot::Replica(0), Slot::Node(NodeId(u64::MAX)));
        self.slot_range((service, first, TaskId(0)), (service, last, TaskId(u64::MAX)))
    }

    /// As [`tasks_of_service`](Self::tasks_of_service), but for the pre-deploy hook: it is no replica.
    pub fn replicas_of_service(&self, service: ServiceId) -> impl Iterator<Item = &Task> {
        self.tasks_of_service(service).filter(|task| task.slot != Slot::HOOK)
    }

    /// A slot's tasks, ended ones included, by id.
    pub fn tasks_of_slot(&self, service: ServiceId, slot: Slot) -> impl Iterator<Item = &Task> {
        self.slot_range((service, slot, TaskId(0)), (service, slot, TaskId(u64::MAX)))
    }

    /// A node's tasks, ended ones included, by id.
    pub fn tasks_on_node(&self, node: NodeId) -> impl Iterator<Item = &Task> {
        let range = (node, TaskId(0))..=(node, TaskId(u64::MAX));
        self.index.on_node.range(range).filter_map(|(_, id)| self.task(*id))
    }

    /// Tasks that wait for a node, by id.
    pub fn pending_tasks(&self) -> impl Iterator<Item = &Task> {
        self.index.pending.iter().filter_map(|id| self.task(*id))
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).map(|node| &**node)
    }

    /// One node by its host's name; of several with one name (a host that was set up anew) the one that joined last.
    pub fn node_by_name(&self, name: &str) -> Option<&Node> {
        self.nodes_by_name(name).max_by_key(|node| (node.joined, node.id))
    }

    /// All nodes whose host has this name, by id.
    pub fn nodes_by_name(&self, name: &str) -> impl Iterator<Item = &Node> {
        let range = (name.to_owned(), NodeId(0))..=(name.to_owned(), NodeId(u64::MAX));
        self.index.node_names.range(range).filter_map(|(_, id)| self.node(*id))
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(|node| &**node)
    }

    /// Nodes whose certificate is of an authority that is being replaced, by id.
    pub fn nodes_behind(&self) -> impl Iterator<Item = &Node> {
        let authority = self.cluster().map(|cluster| &cluster.authority);
        self.nodes()
            .filter(move |node| authority.is_some_and(|of| of.is_behind(node.certificate, node.joined)))
    }

    /// Managers whose certificate is of an authority that is being replaced, by id.
    pub fn members_behind(&self) -> impl Iterator<Item = &Member> {
        let authority = self.cluster().map(|cluster| &cluster.authority);
        self.members()
            .filter(move |member| authority.is_some_and(|of| of.is_behind(member.certificate, member.joined)))
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// All freezes, by name.
    pub fn freezes(&self) -> &[Freeze] {
        self.cluster().map(|cluster| cluster.freezes.as_slice()).unwrap_or_default()
    }

    /// All registries, by host.
    pub fn registries(&self) -> &[Registry] {
        self.cluster().map(|cluster| cluster.registries.as_slice()).unwrap_or_default()
    }

    /// All login methods, by name.
    pub fn login_methods(&self) -> &[LoginMethod] {
        self.cluster().map(|cluster| cluster.login_methods.as_slice()).unwrap_or_default()
    }

    /// One login method. Linear in their number, which is bounded.
    pub fn login_method(&self, name: &str) -> Option<&LoginMethod> {
        self.login_methods().iter().find(|method| method.spec.name == name)
    }

    /// All users, by name.
    pub fn users(&self) -> &[User] {
        self.cluster().map(|cluster| cluster.users.as_slice()).unwrap_or_default()
    }

    /// One user. Linear in the number of users, which is bounded.
    pub fn user(&self, id: UserId) -> Option<&User> {
        self.users().iter().find(|user| user.id == id)
    }

    /// The declared registry of an image.
    pub fn registry_of(&self, image: &str) -> Option<&Registry> {
        let host = ImageName::parse(image)?.host;
        self.registries().iter().find(|registry| registry.spec.host == host)
    }

    /// The freeze that a node is in, and until when: of several the one that lasts longest.
    pub fn freeze_of(&self, node: NodeId, now: ClusterTime) -> Option<(&Freeze, ClusterTime)> {
        let freezes = self.freezes();
        let node = self.node(node).filter(|_| !freezes.is_empty())?;
        let open = freezes.iter().filter(|freeze| freeze.covers(node));
        open.filter_map(|freeze| Some((freeze, freeze.open_until(now)?))).max_by_key(|(_, until)| *until)
    }

    /// One cron.
    pub fn cron(&self, id: CronId) -> Option<&Cron> {
        self.crons.get(&id).map(|cron| &**cron)
    }

    /// One cron by its whole name. Linear in the number of crons, which is bounded.
    pub fn cron_by_name(&self, name: &str) -> Option<&Cron> {
        self.crons().find(|cron| cron.spec.name == name)
    }

    /// All crons, by id.
    pub fn crons(&self) -> impl Iterator<Item = &Cron> {
        self.crons.values().map(|cron| &**cron)
    }

    /// The jobs of a cron that have not come to their end, oldest first.
    pub fn running_jobs(&self, cron: &Cron) -> impl Iterator<Item = &Service> {
        let jobs = cron.runs.iter().filter_map(|run| self.service(run.job.as_ref()?.0));
        jobs.filter(|service| !service.removing && service.job.as_ref().is_some_and(|job| !job.is_over()))
    }

    /// One network.
    pub fn network(&self, id: NetworkId) -> Option<&Network> {
        self.networks.get(&id).map(|network| &**network)
    }

    /// One network by its whole name. Linear in the number of networks, which the pool bounds.
    pub fn network_by_name(&self, name: &str) -> Option<&Network> {
        self.networks().find(|network| network.spec.name == name)
    }

    /// All networks, by id.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values().map(|network| &**network)
    }

    /// All members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(|member| &**member)
    }

    /// One member.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id).map(|member| &**member)
    }

    /// All join tokens, by id, used-up and expired ones included.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values().map(|token| &**token)
    }

    /// One join token.
    pub fn token(&self, id: TokenId) -> Option<&Token> {
        self.tokens.get(&id).map(|token| &**token)
    }

    /// Whether an identity with a valid certificate is refused all the same (invariant I19).
    ///
    /// A node is refused unless it is in the table; a manager is refused once it was removed. A manager with an id beyond
    /// [`Cluster::last_member`] is not: this state may lag behind the entry that admitted it, and refusing its Raft
    /// messages would keep it behind. For the same reason a state that lags may refuse a node that has just joined: only a
    /// leader may turn an agent or a user away for good. Before the first entry nobody is refused. A joiner's token is judged when
    /// the join is applied.
    pub fn is_revoked(&self, identity: &Identity) -> bool {
        let Some(cluster) = self.cluster() else { return false };
        match identity {
            Identity::Manager(id) => *id <= cluster.last_member && !self.members.contains_key(id),
            Identity::Node(id) => !self.nodes.contains_key(id),
            Identity::User { .. } => self.welcome(identity).is_err(),
            Identity::Operator { .. }
            | Identity::Joiner(_)
            | Identity::Anonymous
            | Identity::Bearer(_)
            | Identity::Deployer { .. } => false,
        }
    }

    /// The id under which a manager that lost its log comes back, if it was not heard under it yet: until then it may ask
    /// for that id once more, in case the answer was lost.
    pub fn unheard_successor(&self, old: MemberId) -> Option<MemberId> {
        let successor = self.members.values().find(|member| member.replaces == Some(old));
        successor.filter(|member| member.is_unheard()).map(|member| member.id)
    }

    /// What the tasks that may have a container on a node reserve there: thousandths of a core, bytes.
    pub fn reserved_on(&self, node: NodeId) -> (u64, u64) {
        self.index.usage.get(&node).map_or((0, 0), |usage| usage.reserved())
    }

    /// The host ports that tasks which may have a container on a node publish there, each once, in order.
    pub fn ports_on(&self, node: NodeId) -> impl Iterator<Item = (u16, Protocol)> {
        let usage = self.index.usage.get(&node);
        usage.into_iter().flat_map(|usage| usage.ports.iter().map(|held| (held.0, held.1)))
    }

    /// Whether a host port is published on a node by a task that may have a container there.
    pub fn is_port_taken(&self, node: NodeId, port: u16, protocol: Protocol) -> bool {
        self.index.usage.get(&node).is_some_and(|usage| usage.holds(port, protocol))
    }

    /// How many tasks, ended ones included, carry a template.
    pub fn template_uses(&self, service: ServiceId, template: TemplateVersion) -> u32 {
        self.index.template_uses.get(&(service, template)).copied().unwrap_or(0)
    }

    /// Whether a task runs what its service declares now: the newest template, or one of the same contents and the same
    /// image (after a rollback the tasks that were never replaced). False when the service is gone.
    pub fn is_current(&self, task: &Task) -> bool {
        let Some(service) = self.service(task.service) else { return false };
        let same_contents = || service.template_of(task.template) == service.template_of(service.template);
        let same_pin = || service.pins.get(&task.template) == service.pins.get(&service.template);
        task.template == service.template || (same_contents() && same_pin())
    }

    /// The newest event's revision; zero before the first. A watch that begins now resumes after it.
    pub fn revision(&self) -> Revision {
        self.events.newest()
    }

    /// The events after a revision, oldest first; `None`: all that are kept.
    ///
    /// # Errors
    /// [`Resync`] when some of them are no longer kept, or when the revision lies beyond what was applied here (the
    /// watcher comes from a manager that was ahead of this one).
    pub fn events_after(&self, after: Option<Revision>) -> Result<impl Iterator<Item = &Event>, Resync> {
        self.events.after(after, self.applied)
    }

    /// A hash over everything that is replicated; equal on all managers at an equal [`applied`](Self::applied) index
    /// (invariant I3). O(1).
    pub fn hash(&self) -> u64 {
        let mut hash = model::hash::Fnv::new();
        hash.write_u64(self.sum);
        hash.write_u64(self.applied);
        hash.write_u64(self.time.0);
        hash.finish()
    }

    /// A hash over objects and events alone: what a rejected command leaves as it was. Linear in the number of
    /// remembered requests.
    pub fn objects_hash(&self) -> u64 {
        self.sum.wrapping_sub(self.requests.sum()).wrapping_sub(self.audit.sum())
    }

    fn slot_range(&self, first: SlotKey, last: SlotKey) -> impl Iterator<Item = &Task> {
        self.index.slots.range(first..=last).filter_map(|(_, _, id)| self.task(*id))
    }
}

type SlotKey = (ServiceId, Slot, TaskId);
