//! `deploy-token …`
//!
//! The secret is drawn here and only its digest is sent: it is in no request, no log and no state, and an answer that was lost
//! loses nothing.

use std::collections::BTreeSet;

use model::{
    command::Answer,
    deployer::{DeployTokenSpec, DeployTokenView, DeployVerb},
    request::{ErrorCode, Request, Response},
};
use pki::{DeploySecret, DeployToken};

use super::{Session, authority};
use crate::{
    args::{DeployTokenCommand, DeployTokenCreate},
    client::{Client, random, unexpected},
    exit::{Code, Failure},
    output::{self, age, rows},
};

/// Runs a command about deploy tokens.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: DeployTokenCommand) -> Result<Code, Failure> {
    match command {
        DeployTokenCommand::Create(flags) => create(session, flags).await?,
        DeployTokenCommand::Ls { quiet } => {
            let views = views(&session.client()?).await?;
            let name = |view: &DeployTokenView| view.spec.name.clone();
            session.list(quiet, &views, name, || rows::deploy_tokens(&views, age::now()).to_string());
        }
        DeployTokenCommand::Rm { names } => {
            let client = session.client()?;
            for name in &names {
                client.change(Request::RemoveDeployToken(name.clone())).await?;
            }
            session.print(&names, || names.join("\n"));
        }
    }
    Ok(Code::DONE)
}

async fn views(client: &Client) -> Result<Vec<DeployTokenView>, Failure> {
    match client.call(Request::ListDeployTokens).await?.response {
        Response::DeployTokens(views) => Ok(views),
        _ => Err(unexpected()),
    }
}

async fn create(session: &Session, flags: DeployTokenCreate) -> Result<(), Failure> {
    let client = session.client()?;
    if client.is_bearer() {
        let message = "a deploy token makes no others: use an administrator's context";
        return Err(Failure::new(Code::DENIED, message));
    }
    let authority = authority::present(&client).await?;
    let secret = DeploySecret::from_bytes(random::secret()?);
    let spec = DeployTokenSpec {
        name: flags.name,
        service: flags.service,
        image: flags.image,
        allow: with_status(&flags.allow),
    };
    let request =
        Request::CreateDeployToken { spec: Box::new(spec.clone()), ttl: flags.ttl, digest: secret.digest() };
    let (Answer::DeployToken { id, expires }, _) = client.change(request).await? else {
        return Err(unexpected());
    };
    let text = DeployToken::new(authority.fingerprint(), id, secret).reveal();
    if session.global.json {
        let document = serde_json::json!({ "id": id, "name": spec.name, "token": text, "expires": expires });
        output::json::print(&document);
        return Ok(());
    }
    output::print(&text);
    if flags.quiet {
        return Ok(());
    }
    output::note(format!(
        "shown only now; works until {}: {} of service {} with images of {}\nin the pipeline set ORCH_TOKEN to it (masked, \
         protected) and ORCH_MANAGERS to {}",
        age::date(expires),
        spec.verbs(),
        spec.service,
        spec.image,
        client.manager(),
    ));
    match client.call(Request::GetService(spec.service.clone())).await {
        Err(failure) if failure.api == Some(ErrorCode::NotFound) => {
            output::warn(format!("there is no service {} yet", spec.service));
        }
        _ => {}
    }
    Ok(())
}

/// Whoever brings a release has to see what becomes of it.
pub(super) fn with_status(allow: &[DeployVerb]) -> BTreeSet<DeployVerb> {
    let mut verbs: BTreeSet<DeployVerb> = allow.iter().copied().collect();
    if verbs.contains(&DeployVerb::Deploy) || verbs.contains(&DeployVerb::Rollback) {
        verbs.insert(DeployVerb::Status);
    }
    verbs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_deploy_may_see_what_becomes_of_it() {
        assert_eq!(with_status(&[DeployVerb::Deploy]), [DeployVerb::Deploy, DeployVerb::Status].into());
        assert_eq!(with_status(&[DeployVerb::Logs]), [DeployVerb::Logs].into());
    }
}
