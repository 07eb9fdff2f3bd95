//! `policy …`

use model::{
    id::Generation,
    policy::{Policy, PolicySpec},
    request::{PolicyVerdict, Request, Response},
};

use super::Session;
use crate::{
    args::{PolicyCommand, PolicySet},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{self, policy as rows},
    spec::policy as file,
};

/// Runs a command about policies.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: PolicyCommand) -> Result<Code, Failure> {
    let client = session.client()?;
    match command {
        PolicyCommand::Set(set) => return self::set(session, &client, *set).await,
        PolicyCommand::Ls { quiet } => {
            let policies = policies(&client).await?;
            let name = |policy: &Policy| policy.spec.name.clone();
            session.list(quiet, &policies, name, || rows::policies(&policies).to_string());
        }
        PolicyCommand::Inspect { name, spec } => {
            let policies = policies(&client).await?;
            let policy = policies.iter().find(|policy| policy.spec.name == name);
            let policy = policy.ok_or_else(|| Failure::error(format!("policy \"{name}\" does not exist")))?;
            match spec {
                true => session.print(&policy.spec, || file::to_toml(&policy.spec).trim_end().to_owned()),
                false => session.print(policy, || rows::policy(policy)),
            }
        }
        PolicyCommand::Rm { names } => {
            for name in &names {
                client.change(Request::RemovePolicy(name.clone())).await?;
                if !session.global.json {
                    output::print(name);
                }
            }
            if session.global.json {
                output::json::print(&names);
            }
        }
        PolicyCommand::Check { file } => {
            let with = file.as_deref().map(file::load).transpose()?.map(Box::new);
            let verdicts = check(&client, with).await?;
            session.print(&verdicts, || rows::verdicts(&verdicts));
            return Ok(if verdicts.is_empty() { Code::DONE } else { Code::DENIED });
        }
    }
    Ok(Code::DONE)
}

async fn set(session: &Session, client: &Client, set: PolicySet) -> Result<Code, Failure> {
    let known = policies(client).await?;
    let (base, expected) = match (&set.file, &set.name) {
        (Some(path), _) => (file::load(path)?, None),
        (None, name) => {
            let known = known.into_iter().find(|policy| Some(&policy.spec.name) == name.as_ref());
            // Whoever adds to what he saw must not undo what came since.
            let seen = known.as_ref().map_or(Generation(0), |policy| policy.generation);
            (known.map(|policy| policy.spec).unwrap_or_default(), Some(seen))
        }
    };
    let spec: PolicySpec = file::apply(&set, base)?;
    let verdicts = check(client, Some(Box::new(spec.clone()))).await?;
    if set.dry_run {
        session.print(&verdicts, || rows::verdicts(&verdicts));
        return Ok(if verdicts.is_empty() { Code::DONE } else { Code::DENIED });
    }
    let name = spec.name.clone();
    client.change(Request::SetPolicy { spec: Box::new(spec.clone()), expected }).await?;
    if !verdicts.is_empty() {
        let count = verdicts.len();
        output::warn(format!(
            "{count} of what runs or is scheduled would be refused if it came today; it goes on: see orchctl policy check"
        ));
    }
    session.print(&spec, || name);
    Ok(Code::DONE)
}

async fn policies(client: &Client) -> Result<Vec<Policy>, Failure> {
    match client.call(Request::ListPolicies).await?.response {
        Response::Policies(policies) => Ok(policies),
        _ => Err(unexpected()),
    }
}

async fn check(client: &Client, with: Option<Box<PolicySpec>>) -> Result<Vec<PolicyVerdict>, Failure> {
    match client.call(Request::CheckPolicies { with }).await?.response {
        Response::PolicyCheck(verdicts) => Ok(verdicts),
        _ => Err(unexpected()),
    }
}
