//! The thread that writes.

use std::{
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    },
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use serde::Serialize;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

use super::{Item, Place, file::Files, note::Entry};

/// After the first line so long is waited for more: many are written at once, and requests wake no thread.
const GATHER: Duration = Duration::from_millis(20);
/// So many bytes are written at a time, about.
const BATCH: usize = 256 * 1024;
/// A disk that fails is told of so often.
const TELL: Duration = Duration::from_secs(60);

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// What stands in the file.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: String,
    client: String,
    port: u16,
    service: &'a str,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    status: Option<u16>,
    bytes: u64,
    total_ms: f64,
    upstream_ms: Option<f64>,
    replica: Option<String>,
    tries: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

/// Says that lines are missing before it.
#[derive(Debug, Serialize)]
struct Missing {
    time: String,
    dropped: u64,
}

/// Writes what comes, until it is told to end.
pub fn write(items: &Receiver<Item>, place: &Place, dropped: &AtomicU64) {
    let (mut files, mut batch, mut told) = (Files::new(place.clone()), Vec::new(), None::<Instant>);
    let mut ended = None;
    while ended.is_none()
        && let Ok(first) = items.recv()
    {
        let mut lines = 0;
        let mut next = Some(first);
        if matches!(next, Some(Item::Line(_))) {
            sleep(GATHER);
        }
        loop {
            match next {
                Some(Item::Line(entry)) => {
                    append(&mut batch, &Line::of(&entry));
                    lines += 1;
                }
                Some(Item::End(done)) => ended = Some(done),
                None => break,
            }
            next = if batch.len() < BATCH && ended.is_none() { items.try_recv().ok() } else { None };
        }
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            append(&mut batch, &Missing { time: text(SystemTime::now()), dropped: missing });
        }
        if let Err(error) = files.append(&batch) {
            dropped.fetch_add(missing + lines, Ordering::Relaxed);
            if told.is_none_or(|told| told.elapsed() > TELL) {
                tracing::warn!(path = %place.path.display(), %error, "the access log cannot be written");
                told = Some(Instant::now());
            }
        }
        batch.clear();
    }
    if let Some(done) = ended {
        // Who does not wait any more has no use for it.
        let _ = done.send(());
    }
}

fn append(batch: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *batch, line).expect("a line is plain data");
    batch.push(b'\n');
}

fn text(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(TIME).unwrap_or_default()
}

/// To a thousandth.
fn millis(span: Duration) -> f64 {
    span.as_micros() as f64 / 1_000.0
}

impl<'a> Line<'a> {
    fn of(entry: &'a Entry) -> Self {
        Self {
            time: text(entry.at),
            client: entry.client.to_string(),
            port: entry.port,
            service: &entry.service.name,
            method: &entry.method,
            host: &entry.host,
            path: &entry.path,
            status: entry.status,
            bytes: entry.bytes,
            total_ms: millis(entry.total),
            upstream_ms: entry.upstream.map(millis),
            replica: entry.replica.map(|task| task.to_string()),
            tries: entry.tries,
            cut: entry.is_cut,
        }
    }
}
