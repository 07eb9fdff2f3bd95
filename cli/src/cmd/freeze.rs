//! `freeze …`

use std::path::Path;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use model::{
    freeze::{FreezeSpec, Window},
    request::{FreezeView, Request, Response},
};

use super::Session;
use crate::{
    args::{FreezeCommand, FreezeSet},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{self, rows},
    value::{calendar, window},
};

/// Runs a command about freezes.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: FreezeCommand) -> Result<Code, Failure> {
    let client = session.client()?;
    match command {
        FreezeCommand::Set(set) => {
            let spec = spec(*set).map_err(Failure::invalid)?;
            let name = spec.name.clone();
            client.change(Request::SetFreeze(spec)).await?;
            let views = views(&client).await?;
            let view = views.iter().find(|view| view.freeze.spec.name == name);
            session.print(&view, || view.map_or(name, rows::freeze));
        }
        FreezeCommand::Ls { quiet } => {
            let views = views(&client).await?;
            let name = |view: &FreezeView| view.freeze.spec.name.clone();
            session.list(quiet, &views, name, || rows::freezes(&views).to_string());
        }
        FreezeCommand::Inspect { name } => {
            let views = views(&client).await?;
            let view = views.iter().find(|view| view.freeze.spec.name == name);
            let view = view.ok_or_else(|| Failure::error(format!("there is no freeze \"{name}\"")))?;
            session.print(view, || rows::freeze(view));
        }
        FreezeCommand::Rm { names } => {
            for name in &names {
                client.change(Request::RemoveFreeze(name.clone())).await?;
                if !session.global.json {
                    output::print(name);
                }
            }
            if session.global.json {
                output::json::print(&names);
            }
        }
    }
    Ok(Code::DONE)
}

fn horizon(now: Timestamp, weeks: u32) -> Result<Timestamp, String> {
    now.checked_add(SignedDuration::from_hours(i64::from(weeks) * 7 * 24)).map_err(|error| error.to_string())
}

/// The windows of a calendar file.
fn events(
    path: &Path,
    only: Option<&str>,
    zone: &TimeZone,
    span: (Timestamp, Timestamp),
) -> Result<Vec<Window>, String> {
    let text = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(path),
    };
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    let windows = calendar::windows(&text, only, zone, span)?;
    match windows.is_empty() {
        true => Err(format!("{} has no such event that is not over", path.display())),
        false => Ok(windows),
    }
}

/// All freezes.
///
/// # Errors
/// They cannot be read.
pub async fn views(client: &Client) -> Result<Vec<FreezeView>, Failure> {
    match client.call(Request::ListFreezes).await?.response {
        Response::Freezes(views) => Ok(views),
        _ => Err(unexpected()),
    }
}

fn spec(set: FreezeSet) -> Result<FreezeSpec, String> {
    let zone = window::zone(set.tz.as_deref()).map_err(|wrong| format!("--tz: {wrong}"))?;
    let now = Timestamp::now();
    let windows = if let Some(path) = &set.calendar {
        events(path, set.events.as_deref(), &zone, (now, horizon(now, set.weeks)?))
            .map_err(|wrong| format!("--calendar: {wrong}"))?
    } else if set.weekly.is_empty() {
        vec![window::once(set.from.as_deref(), set.until.as_deref(), set.span, &zone, now)?]
    } else {
        let weekly = |text: &String| {
            window::weekly(text, set.weeks, &zone, now).map_err(|wrong| format!("--weekly: {wrong}"))
        };
        let mut windows = set.weekly.iter().map(weekly).collect::<Result<Vec<_>, _>>()?.concat();
        windows.sort();
        windows
    };
    Ok(FreezeSpec { name: set.name, nodes: set.nodes.into_iter().collect(), windows, reason: set.reason })
}
