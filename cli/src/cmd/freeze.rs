//! `freeze …`

use jiff::Timestamp;
use model::{
    freeze::FreezeSpec,
    request::{FreezeView, Request, Response},
};

use super::Session;
use crate::{
    args::{FreezeCommand, FreezeSet},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{self, rows},
    value::window,
};

/// Runs a command about freezes.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: FreezeCommand) -> Result<Code, Failure> {
    let client = session.client()?;
    match command {
        FreezeCommand::Set(set) => {
            let spec = spec(set).map_err(Failure::invalid)?;
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
    let windows = if set.weekly.is_empty() {
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
