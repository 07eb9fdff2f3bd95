//! `network …`

use model::{
    cluster::ClusterSettings,
    network::NetworkSpec,
    request::{NetworkView, Request, Response},
};

use super::Session;
use crate::{
    args::{NetworkCommand, PoolCommand},
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
        NetworkCommand::Pool(PoolCommand::Show) => {
            let (settings, views) = (settings(&client).await?, views(&client, Request::ListNetworks).await?);
            session.print(&settings.pool, || rows::pool(&settings.pool, views.len()));
        }
        NetworkCommand::Pool(PoolCommand::Set { pool }) => {
            let settings = ClusterSettings { pool, ..settings(&client).await? };
            client.change(Request::SetSettings(settings)).await?;
            session.print(&pool, || pool.to_string());
        }
    }
    Ok(Code::DONE)
}

/// The cluster's settings.
///
/// # Errors
/// They cannot be read.
pub async fn settings(client: &Client) -> Result<ClusterSettings, Failure> {
    match client.call(Request::GetStatus).await?.response {
        Response::Status(status) => Ok(status.settings),
        _ => Err(unexpected()),
    }
}

async fn views(client: &Client, request: Request) -> Result<Vec<NetworkView>, Failure> {
    match client.call(request).await?.response {
        Response::Networks(views) => Ok(views),
        _ => Err(unexpected()),
    }
}
