//! `token …`

use model::{
    id::TokenId,
    identity::JoinRole,
    node::{Availability, NodeSpec},
    request::{Request, Response},
    time::ClusterTime,
};

use super::Session;
use crate::{
    args::{TokenCommand, TokenCreate},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{self, age, rows},
    spec::problems::Problems,
};

/// Runs a command about tokens.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: TokenCommand) -> Result<Code, Failure> {
    match command {
        TokenCommand::Create(create) => print_new(session, create).await,
        TokenCommand::Ls { quiet } => {
            let Response::Tokens(tokens) = session.client()?.call(Request::ListTokens).await?.response else {
                return Err(unexpected());
            };
            session.list(
                quiet,
                &tokens,
                |token| token.id.to_string(),
                || rows::tokens(&tokens, age::now()).to_string(),
            );
            Ok(Code::DONE)
        }
        TokenCommand::Revoke { tokens } => revoke(session, &tokens).await,
    }
}

/// Makes a token; returns its text and when it ends.
///
/// # Errors
/// Those of the call.
pub async fn create(client: &Client, create: &TokenCreate) -> Result<(String, ClusterTime), Failure> {
    let node_spec = NodeSpec {
        availability: Availability::Active,
        class: create.class.map(Into::into).unwrap_or_default(),
        labels: create.label.iter().cloned().collect(),
    };
    let request =
        Request::CreateToken { role: create.role.into(), ttl: create.ttl, uses: create.uses, node_spec };
    match client.call(request).await?.response {
        Response::Token { text, expires } => Ok((text, expires)),
        _ => Err(unexpected()),
    }
}

async fn print_new(session: &Session, flags: TokenCreate) -> Result<Code, Failure> {
    let client = session.client()?;
    let (text, expires) = create(&client, &flags).await?;
    if session.global.json {
        output::json::print(&serde_json::json!({ "token": text, "expires": expires }));
        return Ok(Code::DONE);
    }
    output::print(&text);
    if !flags.quiet {
        let program = match flags.role.into() {
            JoinRole::Agent => "orch-agent",
            JoinRole::Manager => "orch-manager",
        };
        let uses = if flags.uses == 1 { "once".into() } else { format!("{} times", flags.uses) };
        output::note(format!(
            "works {uses}, until {}; on the new machine:\n  {program} join --manager {} --token {text}",
            age::date(expires),
            client.manager(),
        ));
    }
    Ok(Code::DONE)
}

async fn revoke(session: &Session, texts: &[String]) -> Result<Code, Failure> {
    let mut problems = Problems::default();
    let tokens =
        problems.all("TOKEN", texts, |text| text.parse::<TokenId>().map_err(|error| error.to_string()));
    let tokens = problems.finish(tokens)?;
    let client = session.client()?;
    for token in &tokens {
        client.change(Request::RevokeToken(*token)).await?;
    }
    session.print(&tokens, || texts.join("\n"));
    Ok(Code::DONE)
}
