//! Watches: an ordered stream without a gap, or the word that it starts anew.

use model::{
    event::{Event, EventKind, Revision},
    request::{ApiError, ErrorCode, Reply, Response},
};

use crate::{Action, Manager, manager::ByHandle};

/// Events of one reply: about a chunk of 64 KiB.
const MAX_EVENTS: usize = 256;
/// Watches at once on one manager; a dashboard needs one.
const MAX_WATCHES: usize = 1_024;

struct Watch {
    after: Revision,
    until: Option<u64>,
    /// Events of this service only.
    only: Option<String>,
    stale: bool,
}

/// All open watches.
#[derive(Default)]
pub(crate) struct Watchers {
    open: ByHandle<Watch>,
    served: Revision,
    fresh: bool,
    /// The lowest index at which a watch ends.
    ends: Option<u64>,
}

impl Watchers {
    pub(crate) fn remove(&mut self, handle: u64) {
        self.open.remove(&handle);
    }
}

impl Manager {
    pub(crate) fn begin_watch(
        &mut self,
        handle: u64,
        (after, until): (Option<Revision>, Option<u64>),
        only: Option<String>,
        stale: bool,
    ) {
        if self.watchers.open.len() >= MAX_WATCHES {
            let message = format!("{MAX_WATCHES} watches are open on this manager already");
            return self.reply(handle, Err(ApiError::new(ErrorCode::Exhausted, message)));
        }
        self.queries.lift_deadline(handle);
        let after = after.unwrap_or_else(|| self.store.revision());
        self.watchers.open.insert(handle, Watch { after, until, only, stale });
        self.watchers.fresh = true;
        // So that a client knows that from here on it misses nothing.
        self.stream(handle, Response::Events(Vec::new()), stale);
    }

    /// Sends every watch what is new. Free when nothing is.
    pub(crate) fn serve_watchers(&mut self) {
        let newest = self.store.revision();
        let same = newest == self.watchers.served && !self.watchers.fresh;
        let ends = self.watchers.ends.is_some_and(|index| index <= self.node.applied());
        if self.watchers.open.is_empty() || (same && !ends) {
            return;
        }
        (self.watchers.served, self.watchers.fresh) = (newest, false);
        let handles: Vec<u64> = self.watchers.open.keys().copied().collect();
        for handle in handles {
            self.serve_watch(handle);
            self.end_watch(handle);
        }
        self.watchers.ends = self.watchers.open.values().filter_map(|watch| watch.until).min();
    }

    /// Ends a watch that has been told all that it asked for.
    fn end_watch(&mut self, handle: u64) {
        let applied = self.node.applied();
        let ends = |watch: &Watch| watch.until.is_some_and(|until| until <= applied);
        if self.watchers.open.get(&handle).is_some_and(ends) {
            self.watchers.open.remove(&handle);
            self.reply(handle, Ok(Reply { response: Response::EventsEnd, index: applied, stale: false }));
        }
    }

    fn serve_watch(&mut self, handle: u64) {
        loop {
            let Some(watch) = self.watchers.open.get_mut(&handle) else { return };
            let response = match self.store.events_after(Some(watch.after)) {
                Ok(events) => {
                    let last = watch.until.unwrap_or(u64::MAX);
                    let wanted = events.take_while(|event| event.revision.index <= last);
                    let events: Vec<&Event> = wanted.take(MAX_EVENTS).collect();
                    let Some(last) = events.last() else { return };
                    watch.after = last.revision;
                    let only = watch.only.as_deref();
                    let shown = events.into_iter().filter(|event| only.is_none_or(|name| is_of(event, name)));
                    let shown: Vec<Event> = shown.cloned().collect();
                    if shown.is_empty() {
                        continue;
                    }
                    Response::Events(shown)
                }
                Err(resync) => {
                    watch.after = resync.at;
                    Response::Resync { at: resync.at }
                }
            };
            let stale = watch.stale;
            self.stream(handle, response, stale);
        }
    }

    pub(crate) fn stream(&mut self, handle: u64, response: Response, stale: bool) {
        let reply = Reply { response, index: self.node.applied(), stale };
        self.act(Action::Reply { handle, result: Ok(reply), more: true });
    }
}

/// Whether an event is about the service of that name.
fn is_of(event: &Event, service: &str) -> bool {
    match &event.kind {
        EventKind::Service { name, .. } | EventKind::Rollout { name, .. } | EventKind::Task { name, .. } => {
            name == service
        }
        EventKind::Node { .. }
        | EventKind::Member { .. }
        | EventKind::Network { .. }
        | EventKind::Item { .. }
        | EventKind::Token { .. } => false,
    }
}
