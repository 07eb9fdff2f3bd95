//! Clients that write and read while managers are hurt, and remember what they were answered.
//!
//! They use `orchctl`'s own client as a library, so that its retries with one request id are part of what is shown.
//! A register is a service without replicas whose label holds the value; a change carries the generation that it was
//! read with, so it is a compare-and-set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cli::client::Client;
use cli::context::Contexts;
use cli::exit::Failure;
use model::request::{ErrorCode, Request, Response};
use model::service::{Mode, Service, ServiceSpec};

use crate::history::{End, Entry, Op, is_linearizable};
use crate::meanwhile;

const VALUE: &str = "value";
/// Between two operations of a client unless told otherwise: this is no load test, and the machine is shared.
const PAUSE: Duration = Duration::from_millis(5);
/// What one call may take: longer than any fault of the tests.
const CALL: Duration = Duration::from_secs(30);

/// The registers and the record.
pub struct Workload {
    config: PathBuf,
    prefix: String,
    keys: Vec<String>,
    pause: Duration,
    /// Orders calls and returns; a counter orders as well as a clock.
    tick: AtomicU64,
    values: AtomicU64,
    stop: AtomicBool,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    registers: BTreeMap<String, Vec<Entry>>,
    created: Vec<String>,
    /// Calls that nobody answered for good.
    unknown: usize,
}

impl Record {
    fn acknowledged(&self) -> usize {
        let done = |entry: &&Entry| matches!((entry.op, entry.end), (Op::Change { .. }, End::Done));
        self.registers.values().flatten().filter(done).count() + self.created.len()
    }
}

/// What a checked history holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub operations: usize,
    /// Changes and creations that were answered.
    pub acknowledged: usize,
    /// Calls that nobody answered for good.
    pub unknown: usize,
}

impl Workload {
    /// Makes `keys` registers with value 0.
    ///
    /// # Panics
    /// The cluster does not take them.
    pub fn new(config: &Path, keys: usize) -> Workload {
        Workload::named(config, "", keys, PAUSE).expect("registers")
    }

    /// Makes `keys` registers whose names begin with `prefix`; clients rest for `pause` between two operations.
    ///
    /// # Errors
    /// The cluster does not take them.
    pub fn named(config: &Path, prefix: &str, keys: usize, pause: Duration) -> Result<Workload> {
        let workload = Workload {
            config: config.to_owned(),
            prefix: prefix.to_owned(),
            keys: (0..keys).map(|key| format!("{prefix}register-{key}")).collect(),
            pause,
            tick: AtomicU64::new(0),
            values: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            record: Mutex::default(),
        };
        workload.with_client(|client, runtime| {
            let mut keys = workload.keys.iter();
            keys.try_for_each(|key| {
                runtime.block_on(client.change(create(key))).map(drop).map_err(anyhow::Error::from)
            })
        })?;
        Ok(workload)
    }

    /// Runs `clients` clients on the registers and one that creates services, while `hurt` runs.
    ///
    /// # Panics
    /// `hurt` does.
    pub fn run_while<T>(&self, clients: usize, hurt: impl FnOnce() -> T) -> T {
        let hurt = std::thread::scope(|scope| {
            for number in 0..clients {
                scope.spawn(move || self.use_registers(number));
            }
            scope.spawn(|| self.create_services());
            meanwhile::work(&self.stop, hurt)
        });
        self.stop.store(false, Ordering::Relaxed);
        hurt
    }

    /// How many changes were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.held().acknowledged()
    }

    /// Reads everything once more and holds it against what was acknowledged.
    ///
    /// # Panics
    /// As [`Workload::verdict`] errs.
    pub fn check(&self) {
        println!("{:?}", self.verdict().expect("a history without a flaw"));
    }

    /// Reads everything once more and holds it against what was acknowledged.
    ///
    /// # Errors
    /// An acknowledged write is missing, a register's history has no order that explains it, or nobody answers.
    pub fn verdict(&self) -> Result<Totals> {
        let there = self.with_client(|client, runtime| {
            for key in &self.keys {
                let called = self.tick();
                let service = runtime
                    .block_on(read(client, key))
                    .map_err(anyhow::Error::from)
                    .context("the last read")?;
                self.note(key, Op::Read(value(&service)), End::Done, called);
            }
            runtime.block_on(names(client)).map_err(anyhow::Error::from)
        })?;
        let record = self.held();
        let lost: Vec<_> = record.created.iter().filter(|name| !there.contains(name)).collect();
        ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        for (key, entries) in &record.registers {
            ensure!(is_linearizable(0, entries), "{key}: no order explains {entries:#?}");
        }
        Ok(Totals {
            operations: record.registers.values().map(Vec::len).sum::<usize>() + record.created.len(),
            acknowledged: record.acknowledged(),
            unknown: record.unknown,
        })
    }

    /// Removes the registers and all that was created.
    ///
    /// # Errors
    /// The cluster does not do it.
    pub fn clear(&self) -> Result<()> {
        self.with_client(|client, runtime| {
            let there = runtime.block_on(names(client)).map_err(anyhow::Error::from)?;
            let own = |name: &&String| {
                self.keys.contains(name) || name.starts_with(&format!("{}created-", self.prefix))
            };
            there.iter().filter(own).try_for_each(|name| {
                runtime
                    .block_on(client.change(Request::RemoveService(name.clone())))
                    .map(drop)
                    .map_err(anyhow::Error::from)
            })
        })
    }

    /// Updates a service with the generation before its newest.
    ///
    /// # Panics
    /// It is not refused.
    pub fn update_with_an_old_generation(&self, service: &str) -> Failure {
        self.with_client(|client, runtime| {
            let seen = runtime.block_on(read(client, service)).expect("the service");
            let update = |value: &str| {
                let mut spec = ServiceSpec::clone(&seen.spec);
                spec.labels.insert(VALUE.to_owned(), value.to_owned());
                let (service, expected) = (service.to_owned(), seen.generation);
                runtime.block_on(client.change(Request::UpdateService {
                    service,
                    expected,
                    spec: spec.into(),
                }))
            };
            update("1").expect("the first one is accepted");
            update("2").expect_err("the second one saw an older version")
        })
    }

    fn use_registers(&self, number: usize) {
        self.with_client(|client, runtime| {
            for round in number.. {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                let key = &self.keys[round % self.keys.len()];
                runtime.block_on(async {
                    self.change(client, key).await;
                    tokio::time::sleep(self.pause).await;
                });
            }
        });
    }

    async fn change(&self, client: &Client, key: &str) {
        let called = self.tick();
        let Ok(service) = read(client, key).await else { return };
        let from = value(&service);
        self.note(key, Op::Read(from), End::Done, called);
        let to = self.values.fetch_add(1, Ordering::Relaxed) + 1;
        let mut spec = ServiceSpec::clone(&service.spec);
        spec.labels.insert(VALUE.to_owned(), to.to_string());
        let request = Request::UpdateService {
            service: key.to_owned(),
            expected: service.generation,
            spec: spec.into(),
        };
        let called = self.tick();
        let end = match client.change(request).await {
            Ok(_) => End::Done,
            Err(failure) => end_of(&failure),
        };
        self.note(key, Op::Change { from, to }, end, called);
    }

    fn create_services(&self) {
        self.with_client(|client, runtime| {
            for number in 0.. {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                let name = format!("{}created-{}-{number}", self.prefix, self.tick());
                runtime.block_on(async {
                    if client.change(create(&name)).await.is_ok() {
                        self.held().created.push(name);
                    }
                    tokio::time::sleep(self.pause).await;
                });
            }
        });
    }

    fn with_client<T>(&self, work: impl FnOnce(&Client, &tokio::runtime::Runtime) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let contexts = Contexts::load(&self.config).expect("a context file");
        // A channel wants its runtime at hand when it is made.
        let client = {
            let _entered = runtime.enter();
            Client::new(contexts.choose(None).expect("a context"), &self.config, false, None)
        };
        work(&client.expect("a client"), &runtime)
    }

    fn note(&self, key: &str, op: Op, end: End, called: u64) {
        let returned = self.tick();
        let mut record = self.held();
        record.unknown += usize::from(end == End::Unknown);
        record.registers.entry(key.to_owned()).or_default().push(Entry { op, end, called, returned });
    }

    fn tick(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::SeqCst)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(client: &Client, key: &str) -> Result<Service, Failure> {
    let reply = tokio::time::timeout(CALL, client.call(Request::GetService(key.to_owned()))).await;
    match reply.map_err(|_| Failure::error("no answer"))??.response {
        Response::Service(view) => Ok(view.service),
        _ => Err(Failure::error("another answer")),
    }
}

async fn names(client: &Client) -> Result<Vec<String>, Failure> {
    match client.call(Request::ListServices).await?.response {
        Response::Services(rows) => Ok(rows.iter().map(|row| row.service.spec.name.clone()).collect()),
        _ => Err(Failure::error("another answer")),
    }
}

fn value(service: &Service) -> u64 {
    service.spec.labels.get(VALUE).map_or(0, |text| text.parse().expect("a number"))
}

/// Only a conflict says for sure that nothing happened.
fn end_of(failure: &Failure) -> End {
    match failure.api {
        Some(ErrorCode::Conflict) => End::Refused,
        _ => End::Unknown,
    }
}

fn create(name: &str) -> Request {
    let mut spec = ServiceSpec { name: name.to_owned(), mode: Mode::Replicated(0), ..ServiceSpec::default() };
    spec.template.container.image = "orch/mimic:1".to_owned();
    Request::CreateService(spec.into())
}
