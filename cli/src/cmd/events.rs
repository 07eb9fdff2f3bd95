//! `events`: a watch that resumes by itself, and says so when it cannot.

use model::{
    event::{Event, Revision},
    request::Request,
};

use super::Session;
use crate::{
    args::Events,
    client::{Client, WatchItem},
    exit::{Code, Failure},
    output::{self, event, json},
};

/// Prints events.
///
/// # Errors
/// The watch was refused, or no manager can be reached.
pub async fn run(session: &Session, events: Events) -> Result<Code, Failure> {
    let client = session.client()?;
    let mut watch = match events.after {
        Some(_) if !events.follow => client.read_events(events.after, present(&client).await?),
        _ => client.watch(events.after),
    };
    loop {
        let item = tokio::select! {
            item = watch.next() => item?,
            _ = tokio::signal::ctrl_c() => return Ok(Code::INTERRUPTED),
            () = deadline(&client) => return Ok(Code::DONE),
        };
        match item {
            WatchItem::Events(events) => events.iter().for_each(|event| print(session, event)),
            WatchItem::Resync(at) => resync(session, at),
            WatchItem::End => return Ok(Code::DONE),
        }
    }
}

fn print(session: &Session, event: &Event) {
    if session.global.json {
        json::line(event);
    } else {
        output::print(event::line(event));
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
    // What everybody may ask.
    Ok(client.call(Request::Whoami).await?.index)
}

/// `--timeout` ends the printing.
async fn deadline(client: &Client) {
    match client.deadline() {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
