//! `registry …`

use std::io::Read as _;

use model::{
    cluster::PullBound,
    registry::{Login, RegistrySpec, Secret, canonical_host},
    request::{RegistryView, Request, Response},
};

use super::{Session, network};
use crate::{
    args::{RegistryCommand, RegistrySet},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{self, rows},
};

/// More than any password or token has.
const MAX_SECRET: u64 = 64 << 10;

/// Runs a command about registries.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: RegistryCommand) -> Result<Code, Failure> {
    let client = session.client()?;
    match command {
        RegistryCommand::Set(set) => {
            let check = !set.no_check;
            let spec = spec(set)?;
            let host = spec.host.clone();
            client.change(Request::SetRegistry { spec, check }).await?;
            let views = views(&client).await?;
            let view = views.iter().find(|view| view.host == host);
            session.print(&view, || view.map_or(host, rows::registry));
        }
        RegistryCommand::Ls { quiet } => {
            let views = views(&client).await?;
            let host = |view: &RegistryView| view.host.clone();
            session.list(quiet, &views, host, || rows::registries(&views).to_string());
        }
        RegistryCommand::Inspect { host } => {
            let views = views(&client).await?;
            let view = views.iter().find(|view| view.host == canonical_host(&host));
            let view = view.ok_or_else(|| Failure::error(format!("registry \"{host}\" is not declared")))?;
            session.print(view, || rows::registry(view));
        }
        RegistryCommand::Pulls { bound } => {
            let mut settings = network::settings(&client).await?;
            if let Some(bound) = bound {
                settings.pulls = PullBound(bound);
                client.change(Request::SetSettings(settings.clone())).await?;
            }
            session.print(&settings.pulls, || settings.pulls.0.to_string());
        }
        RegistryCommand::Rm { hosts } => {
            for host in &hosts {
                client.change(Request::RemoveRegistry(canonical_host(host).to_owned())).await?;
                if !session.global.json {
                    output::print(host);
                }
            }
            if session.global.json {
                output::json::print(&hosts);
            }
        }
    }
    Ok(Code::DONE)
}

async fn views(client: &Client) -> Result<Vec<RegistryView>, Failure> {
    match client.call(Request::ListRegistries).await?.response {
        Response::Registries(views) => Ok(views),
        _ => Err(unexpected()),
    }
}

fn spec(set: RegistrySet) -> Result<RegistrySpec, Failure> {
    let login = match (set.username, set.token_stdin) {
        (Some(username), _) => Some(Login::Password { username, password: secret()? }),
        (None, true) => Some(Login::Token(secret()?)),
        (None, false) => None,
    };
    let authority = match &set.ca {
        Some(path) => {
            Some(std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?)
        }
        None => None,
    };
    let host = set.host.trim_start_matches("https://").trim_end_matches('/');
    let host = canonical_host(host).to_owned();
    Ok(RegistrySpec { host, login, authority, plain_http: set.plain_http, sealed: None })
}

/// The first line of standard input.
///
/// # Errors
/// There is none.
pub fn secret() -> Result<Secret, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().take(MAX_SECRET).read_to_string(&mut text);
    read.map_err(|error| Failure::error(format!("cannot read the secret from standard input: {error}")))?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(Failure::invalid("there is no secret on standard input"));
    }
    Ok(Secret::new(line))
}
