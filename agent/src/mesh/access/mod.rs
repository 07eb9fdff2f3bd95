//! The access log: a line of JSON for each request that its port wants written.
//!
//! No request waits for it. What is to be written is put into a queue of bounded length and written by a thread of its own; when that
//! does not keep up (a slow disk, a full one), lines are dropped and counted, and the next line that is written says how many. There
//! is neither a thread nor a queue before the first line.
//!
//! Reading order: `note` (what is said of a request), `writer` (the thread), `file` (the files).

mod file;
mod note;
mod writer;

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use note::Entry;
pub use note::{Asked, Note};

/// Lines that wait to be written: what a busy node says in some tenths of a second.
const QUEUE: usize = 8_192;
/// At the end the disk is waited for so long.
const END: Duration = Duration::from_secs(2);

/// Where the log is written, and how much of it is kept.
#[derive(Debug, Clone)]
pub struct Place {
    /// The newest file; older ones lie beside it, with numbers.
    pub path: PathBuf,
    /// Bytes of one file, about.
    pub size: u64,
    /// Files in all, at least 1.
    pub files: u32,
}

/// The log of this process.
#[derive(Debug)]
pub struct AccessLog {
    place: Place,
    queue: OnceLock<Option<SyncSender<Item>>>,
    dropped: Arc<AtomicU64>,
}

/// What the writer is given.
enum Item {
    Line(Box<Entry>),
    /// Nothing comes after it; to be told when everything is written.
    End(SyncSender<()>),
}

impl AccessLog {
    /// One of which nothing is written so far.
    pub fn new(place: Place) -> Self {
        Self { place, queue: OnceLock::new(), dropped: Arc::default() }
    }

    /// Has a line written, unless too many wait.
    fn write(&self, entry: Box<Entry>) {
        let queue = self.queue.get_or_init(|| self.start());
        let taken = queue.as_ref().is_some_and(|queue| queue.try_send(Item::Line(entry)).is_ok());
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn start(&self) -> Option<SyncSender<Item>> {
        let (sender, receiver) = sync_channel(QUEUE);
        let (place, dropped) = (self.place.clone(), self.dropped.clone());
        let started = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer::write(&receiver, &place, &dropped));
        match started {
            // It ends with the process, or when it is told so.
            Ok(_) => Some(sender),
            Err(error) => {
                tracing::error!(%error, "there is no access log");
                None
            }
        }
    }

    /// Writes what waits, at the end of the process.
    pub fn close(&self) {
        let Some(Some(queue)) = self.queue.get() else { return };
        let (done, written) = sync_channel(1);
        if queue.try_send(Item::End(done)).is_ok() {
            // A disk that hangs is not waited for.
            let _ = written.recv_timeout(END);
        }
    }
}
