//! `network …`

use model::{
    network::NetworkSpec,
    request::{NetworkView, Request, Response},
};

use super::Session;
use crate::{
    args::NetworkCommand,
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{self, rows},
};

/// Runs a command about networks.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: NetworkCommand) -> Result<Code, Failure> {
    let client = session.client()?;
    match command {
        NetworkCommand::Create { name, label } => {
            let spec = NetworkSpec { name: name.clone(), labels: label.into_iter().collect() };
            client.change(Request::CreateNetwork(spec)).await?;
            let views = views(&client, Request::GetNetwork(name)).await?;
            let id = views.first().map(|view| view.network.id.to_string()).unwrap_or_default();
            session.print(&views.first(), || id);
        }
        NetworkCommand::Ls { quiet } => {
            let views = views(&client, Request::ListNetworks).await?;
            let id = |view: &NetworkView| view.network.id.to_string();
            session.list(quiet, &views, id, || rows::networks(&views).to_string());
        }
        NetworkCommand::Inspect { network } => {
            let views = views(&client, Request::GetNetwork(network)).await?;
            let view = views.first().ok_or_else(unexpected)?;
            session.print(view, || rows::network(view));
        }
        NetworkCommand::Rm { networks } => {
            for network in &networks {
                client.change(Request::RemoveNetwork(network.clone())).await?;
                if !session.global.json {
                    output::print(network);
                }
            }
            if session.global.json {
                output::json::print(&networks);
            }
        }
    }
    Ok(Code::DONE)
}

async fn views(client: &Client, request: Request) -> Result<Vec<NetworkView>, Failure> {
    match client.call(request).await?.response {
        Response::Networks(views) => Ok(views),
        _ => Err(unexpected()),
    }
}
