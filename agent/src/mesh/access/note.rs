//! What is noted of a request on its way; written when it is over.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh::table::{HttpRoute, Service};
use model::id::TaskId;
use tokio::time::Instant;

use crate::mesh::world::World;

/// The longest host that is written: names are shorter.
const MAX_HOST: usize = 255;

/// A request as it came.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its client.
    pub client: SocketAddr,
    /// The published port.
    pub port: u16,
    /// The method.
    pub method: &'a str,
    /// The host, as the client wrote it.
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
}

/// What is to be said of one request; nothing, for most.
#[derive(Debug, Default)]
pub struct Note(Option<Box<Noted>>);

#[derive(Debug)]
struct Noted {
    world: Arc<World>,
    /// When the last try began.
    tried: Instant,
    began: Instant,
    /// Taken when it is written.
    entry: Option<Box<Entry>>,
}

/// A line.
#[derive(Debug)]
pub struct Entry {
    pub at: SystemTime,
    pub client: SocketAddr,
    pub port: u16,
    pub service: Arc<Service>,
    pub method: String,
    pub host: String,
    pub path: String,
    /// Of the answer that began; `None`: the client went first.
    pub status: Option<u16>,
    /// Of the answer's body.
    pub bytes: u64,
    pub total: Duration,
    /// From the beginning of the last try until its answer began.
    pub upstream: Option<Duration>,
    pub replica: Option<TaskId>,
    pub tries: u32,
    /// The answer did not reach the client in full.
    pub is_cut: bool,
}

impl Note {
    /// Begins to note, if the route wants this request written.
    pub fn begin(world: &Arc<World>, route: &HttpRoute, began: Instant, asked: Asked<'_>) -> Self {
        let Some(rules) = &route.log else { return Self(None) };
        if !rules.takes(world.random.next()) {
            return Self(None);
        }
        let entry = Box::new(Entry {
            at: SystemTime::now(),
            client: asked.client,
            port: asked.port,
            service: route.service.clone(),
            method: asked.method.to_owned(),
            host: asked.host[..asked.host.floor_char_boundary(MAX_HOST)].to_owned(),
            path: rules.shown(asked.target),
            status: None,
            bytes: 0,
            total: Duration::ZERO,
            upstream: None,
            replica: None,
            tries: 0,
            is_cut: true,
        });
        Self(Some(Box::new(Noted { world: world.clone(), tried: began, began, entry: Some(entry) })))
    }

    /// A replica is asked.
    pub fn try_begins(&mut self, replica: TaskId) {
        self.change(|entry, tried| {
            *tried = Instant::now();
            (entry.tries, entry.replica) = (entry.tries + 1, Some(replica));
        });
    }

    /// The replica's answer has begun.
    pub fn answered(&mut self, status: u16) {
        self.change(|entry, tried| {
            (entry.status, entry.upstream) = (Some(status), Some(tried.elapsed()));
        });
    }

    /// The client is answered by ourselves.
    pub fn refused(&mut self, status: u16) {
        self.change(|entry, _| (entry.status, entry.upstream) = (Some(status), None));
    }

    /// Whether an answer was noted.
    pub fn is_answered(&self) -> bool {
        let entry = self.0.as_ref().and_then(|noted| noted.entry.as_ref());
        entry.is_some_and(|entry| entry.status.is_some())
    }

    /// Bytes of the answer's body are on their way to the client.
    pub fn passed(&mut self, bytes: usize) {
        self.change(|entry, _| entry.bytes += bytes as u64);
    }

    /// That was all of it.
    pub fn is_whole(&mut self) {
        self.change(|entry, _| entry.is_cut = false);
    }

    fn change(&mut self, change: impl FnOnce(&mut Entry, &mut Instant)) {
        if let Some(noted) = &mut self.0
            && let Some(entry) = &mut noted.entry
        {
            change(entry, &mut noted.tried);
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if let Some(mut entry) = self.entry.take() {
            entry.total = self.began.elapsed();
            self.world.access.write(entry);
        }
    }
}
