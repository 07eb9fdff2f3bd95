//! The threads that carry clients' connections: one for each core, each with a reactor of its own.
//!
//! A connection stays on the thread that it was given to, with its connections to replicas: no request wakes another thread. A
//! port has one listening socket, which the next process takes over as it is; all threads accept from it, and one that has many
//! more connections than another gives the next ones away. (A socket for each thread would spread them as well, but connections that
//! wait in its queue are lost with it.)

use std::{
    cell::Cell,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A thread keeps what it accepts until it has so many more than another: moving a connection costs two turns of a reactor.
const SLACK: usize = 4;
/// More threads than this help nobody on a node that runs containers.
const MOST: usize = 4;

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// All threads; they end when this is dropped, with everything that they carry.
#[derive(Debug)]
pub struct Lanes {
    lanes: Vec<Lane>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Lane {
    handle: Handle,
    carried: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// One connection of a lane.
struct Carried(Arc<AtomicUsize>);

impl Lanes {
    /// Starts them.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let lanes =
            (0..count()).map(|number| Lane::start(number, stop.clone())).collect::<io::Result<_>>()?;
        Ok(Self { lanes, stop })
    }

    /// Runs something on each thread.
    ///
    /// # Errors
    /// It cannot be made for one of them; those that it was made for run.
    pub fn spawn_on_each<W>(&self, mut make: impl FnMut() -> io::Result<W>) -> io::Result<()>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        for lane in &self.lanes {
            lane.handle.spawn(make()?);
        }
        Ok(())
    }

    /// Carries a connection that was accepted on one of the threads on the one that has the fewest.
    pub fn carry<F, W>(&self, connections: &TaskTracker, client: TcpStream, work: F)
    where
        F: FnOnce(TcpStream) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let number = self.place();
        let lane = &self.lanes[number];
        lane.carried.fetch_add(1, Ordering::Relaxed);
        let carried = Carried(lane.carried.clone());
        if number == here() {
            connections.spawn_on(
                async move {
                    let _carried = carried;
                    work(client).await;
                },
                &lane.handle,
            );
            return;
        }
        // It leaves this thread's reactor for the other one's. One that cannot be moved is broken.
        let Ok(client) = client.into_std() else { return };
        connections.spawn_on(
            async move {
                let _carried = carried;
                if let Ok(client) = TcpStream::from_std(client) {
                    work(client).await;
                }
            },
            &lane.handle,
        );
    }

    /// Where the next connection is carried: here, unless that is out of balance.
    fn place(&self) -> usize {
        let carried = |number: &usize| self.lanes[*number].carried.load(Ordering::Relaxed);
        let fewest = (0..self.lanes.len()).min_by_key(carried).unwrap_or(0);
        if carried(&here()) < carried(&fewest) + SLACK { here() } else { fewest }
    }
}

impl Lane {
    fn start(number: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let thread = thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
            HERE.set(number);
            runtime.block_on(stop.cancelled());
        })?;
        Ok(Self { handle, carried: Arc::default(), thread: Some(thread) })
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.lanes.iter_mut().filter_map(|lane| lane.thread.take()) {
            // Whose last holder is one of them ends without waiting for itself.
            if thread.thread().id() != thread::current().id() {
                drop(thread.join());
            }
        }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many threads there are.
pub fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MOST)
}

/// Which of them this is; the first, for every other thread.
pub fn here() -> usize {
    HERE.get()
}
