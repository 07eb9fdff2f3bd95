//! A store as bytes: the tables only. What is derived from them is built anew by whoever loads them, so that a snapshot of
//! an older version never carries an older version's index.

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use model::{
    cluster::{Cluster, Member, Token},
    cron::Cron,
    id::NodeId,
    item::Item,
    network::Network,
    node::Node,
    service::Service,
    task::Task,
    time::ClusterTime,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeStruct};

use crate::{Store, audit::Audit, events::EventRing, intern::Texts, requests::RequestRing};

/// The stored form, as it is read; [`Store::serialize`] writes the same fields.
#[derive(Default, Deserialize)]
#[serde(default, rename = "Store")]
struct Tables {
    applied: u64,
    time: ClusterTime,
    cluster: Option<Arc<Cluster>>,
    services: Vec<Arc<Service>>,
    tasks: Vec<Arc<Task>>,
    nodes: Vec<Arc<Node>>,
    members: Vec<Arc<Member>>,
    tokens: Vec<Arc<Token>>,
    networks: Vec<Arc<Network>>,
    crons: Vec<Arc<Cron>>,
    items: Vec<Arc<Item>>,
    removed_nodes: Vector<NodeId>,
    requests: RequestRing,
    events: EventRing,
    audit: Audit,
}

impl Serialize for Store {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tables = serializer.serialize_struct("Store", 14 + usize::from(self.audit.is_begun()))?;
        tables.serialize_field("applied", &self.applied)?;
        tables.serialize_field("time", &self.time)?;
        tables.serialize_field("cluster", &self.cluster)?;
        tables.serialize_field("services", &Values(&self.services))?;
        tables.serialize_field("tasks", &Values(&self.tasks))?;
        tables.serialize_field("nodes", &Values(&self.nodes))?;
        tables.serialize_field("members", &Values(&self.members))?;
        tables.serialize_field("tokens", &Values(&self.tokens))?;
        tables.serialize_field("networks", &Values(&self.networks))?;
        tables.serialize_field("crons", &Values(&self.crons))?;
        tables.serialize_field("items", &Values(&self.items))?;
        tables.serialize_field("removed_nodes", &self.removed_nodes)?;
        tables.serialize_field("requests", &self.requests)?;
        tables.serialize_field("events", &self.events)?;
        if self.audit.is_begun() {
            tables.serialize_field("audit", &self.audit)?;
        }
        tables.end()
    }
}

impl<'de> Deserialize<'de> for Store {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut tables = Tables::deserialize(deserializer)?;
        let images = share_images(&mut tables.tasks);
        let mut store = Store {
            applied: tables.applied,
            time: tables.time,
            cluster: tables.cluster,
            services: by_key("service", tables.services, |service| service.id)?,
            tasks: by_key("task", tables.tasks, |task| task.id)?,
            nodes: by_key("node", tables.nodes, |node| node.id)?,
            members: by_key("member", tables.members, |member| member.id)?,
            tokens: by_key("token", tables.tokens, |token| token.id)?,
            networks: by_key("network", tables.networks, |network| network.id)?,
            crons: by_key("cron", tables.crons, |cron| cron.id)?,
            items: by_key("item", tables.items, |item| (item.spec.kind, item.spec.name.clone()))?,
            removed_nodes: tables.removed_nodes,
            requests: tables.requests,
            events: tables.events,
            audit_bytes: tables.audit.bytes(),
            audit: tables.audit,
            images,
            ..Store::default()
        };
        store.audit.verify().map_err(|broken| de::Error::custom(format_args!("the audit: {broken}")))?;
        store.check_references().map_err(de::Error::custom)?;
        store.index = store.rebuilt_index();
        store.sum = store.rebuilt_sum();
        Ok(store)
    }
}

/// Each task was read with a copy of its own.
fn share_images(tasks: &mut [Arc<Task>]) -> Texts {
    let mut images = Texts::default();
    for task in tasks.iter_mut().filter_map(Arc::get_mut) {
        task.observed.image = images.share(&task.observed.image);
    }
    images
}

/// A table without its keys: they are in the values.
struct Values<'a, K, V>(&'a OrdMap<K, Arc<V>>);

impl<K: Ord, V: Serialize> Serialize for Values<'_, K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.values())
    }
}

fn by_key<K: Ord + Clone, V, E: de::Error>(
    kind: &str,
    values: Vec<Arc<V>>,
    key: impl Fn(&V) -> K,
) -> Result<OrdMap<K, Arc<V>>, E> {
    let count = values.len();
    let table: OrdMap<K, Arc<V>> = values.into_iter().map(|value| (key(&value), value)).collect();
    if table.len() == count {
        return Ok(table);
    }
    Err(E::custom(format_args!("two entries of the {kind} table have one id")))
}
