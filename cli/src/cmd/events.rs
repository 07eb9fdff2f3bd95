//! `events`: a watch that resumes by itself, and says so when it cannot.

use std::time::Duration;

use model::{event::Revision, request::Request};

use super::Session;
use crate::{
    args::Events,
    client::{Client, WatchItem},
    exit::{Code, Failure},
    output::{self, event, json},
};

/// Without --follow, a stream that is silent for this long has told everything up to the present.
const SILENCE: Duration = Duration::from_millis(500);

/// Prints events.
///
/// # Errors
/// The watch was refused, or no manager can be reached.
pub async fn run(session: &Session, events: Events) -> Result<Code, Failure> {
    let client = session.client()?;
    let until = if events.after.is_some() && !events.follow { Some(present(&client).await?) } else { None };
    if until.is_some_and(|until| events.after.is_some_and(|after| after.index >= until)) {
        return Ok(Code::DONE);
    }
    let mut watch = client.watch(events.after);
    loop {
        let next = async {
            match until {
                None => watch.next().await.map(Some),
                Some(_) => {
                    tokio::time::timeout(SILENCE, watch.next()).await.map_or(Ok(None), |item| item.map(Some))
                }
            }
        };
        let item = tokio::select! {
            item = next => item?,
            _ = tokio::signal::ctrl_c() => return Ok(Code::INTERRUPTED),
            () = deadline(&client) => return Ok(Code::DONE),
        };
        let Some(item) = item else { return Ok(Code::DONE) };
        let reached = print(session, &item);
        if until.is_some_and(|until| reached >= until) {
            return Ok(Code::DONE);
        }
    }
}

/// Prints an item and returns the index of its last event. The applied index beside the events says nothing about how far
/// they reach: older ones may still follow.
fn print(session: &Session, item: &WatchItem) -> u64 {
    match item {
        WatchItem::Events(events) => {
            for event in events {
                if session.global.json {
                    json::line(event);
                } else {
                    output::print(event::line(event));
                }
            }
            events.last().map_or(0, |event| event.revision.index)
        }
        WatchItem::Resync(at) => {
            resync(session, *at);
            at.index
        }
    }
}

fn resync(session: &Session, at: Revision) {
    if session.global.json {
        json::line(&serde_json::json!({ "resync": at.to_string() }));
    } else {
        output::note(format!(
            "events before {at} are no longer kept: some were missed; read the state again"
        ));
    }
}

/// The applied index of now.
async fn present(client: &Client) -> Result<u64, Failure> {
    Ok(client.call(Request::GetStatus).await?.index)
}

/// `--timeout` ends the printing.
async fn deadline(client: &Client) {
    match client.deadline() {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
