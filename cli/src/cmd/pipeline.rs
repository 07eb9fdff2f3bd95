//! `issuer …` and `deploy-binding …`

use model::{
    binding::{Binding, BindingSpec},
    issuer::{IssuerSpec, IssuerView},
    request::{ErrorCode, Request, Response},
};

use super::{Session, authority, deploy_token::with_status};
use crate::{
    args::{BindingCommand, BindingCreate, IssuerCommand, IssuerSet},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{self, age, pipelines},
};

/// Runs a command about issuers.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn issuer(session: &Session, command: IssuerCommand) -> Result<Code, Failure> {
    let client = session.client()?;
    match command {
        IssuerCommand::Set(set) => {
            let spec = issuer_spec(set)?;
            let name = spec.name.clone();
            client.change(Request::SetIssuer(Box::new(spec))).await?;
            let view = issuer_named(&client, &name).await?;
            session.print(&view, || pipelines::issuer(&view));
        }
        IssuerCommand::Ls { quiet } => {
            let views = issuers(&client).await?;
            let name = |view: &IssuerView| view.name.clone();
            session.list(quiet, &views, name, || pipelines::issuers(&views).to_string());
        }
        IssuerCommand::Inspect { name } => {
            let view = issuer_named(&client, &name).await?;
            session.print(&view, || pipelines::issuer(&view));
        }
        IssuerCommand::Rm { names } => {
            for name in &names {
                client.change(Request::RemoveIssuer(name.clone())).await?;
            }
            session.print(&names, || names.join("\n"));
        }
    }
    Ok(Code::DONE)
}

/// Runs a command about deploy bindings.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn binding(session: &Session, command: BindingCommand) -> Result<Code, Failure> {
    let client = session.client()?;
    match command {
        BindingCommand::Create(flags) => create(session, &client, *flags).await?,
        BindingCommand::Ls { quiet } => {
            let all = bindings(&client).await?;
            let name = |binding: &Binding| binding.spec.name.clone();
            session.list(quiet, &all, name, || pipelines::bindings(&all, age::now()).to_string());
        }
        BindingCommand::Inspect { name } => {
            let all = bindings(&client).await?;
            let binding = all.iter().find(|binding| binding.spec.name == name);
            let binding =
                binding.ok_or_else(|| Failure::error(format!("there is no deploy binding \"{name}\"")))?;
            session.print(binding, || pipelines::binding(binding, age::now()));
        }
        BindingCommand::Rm { names } => {
            for name in &names {
                client.change(Request::RemoveBinding(name.clone())).await?;
            }
            session.print(&names, || names.join("\n"));
        }
    }
    Ok(Code::DONE)
}

async fn create(session: &Session, client: &Client, flags: BindingCreate) -> Result<(), Failure> {
    let spec = BindingSpec {
        name: flags.name,
        service: flags.service,
        image: flags.image,
        allow: with_status(&flags.allow),
        issuer: flags.issuer,
        project_id: flags.project_id,
        job_project_id: flags.job_project_id,
        ref_name: flags.ref_name,
        ref_type: flags.ref_type.into(),
        environment: flags.environment,
    };
    client.change(Request::CreateBinding(Box::new(spec.clone()))).await?;
    session.print(&spec, || spec.name.clone());
    if session.global.json {
        return Ok(());
    }
    let audience = issuer_named(client, &spec.issuer).await.map(|issuer| issuer.audience).unwrap_or_default();
    let authority = authority::present(client).await?.fingerprint();
    output::note(format!(
        "in the job: id_tokens: {{ ORCH_ID_TOKEN: {{ aud: {audience} }} }}, and these variables, which are no secrets:\n\
         ORCH_MANAGERS={}\nORCH_CA={authority}",
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

async fn issuers(client: &Client) -> Result<Vec<IssuerView>, Failure> {
    match client.call(Request::ListIssuers).await?.response {
        Response::Issuers(views) => Ok(views),
        _ => Err(unexpected()),
    }
}

async fn issuer_named(client: &Client, name: &str) -> Result<IssuerView, Failure> {
    let views = issuers(client).await?;
    let view = views.into_iter().find(|view| view.name == name);
    view.ok_or_else(|| Failure::error(format!("issuer \"{name}\" is not declared")))
}

async fn bindings(client: &Client) -> Result<Vec<Binding>, Failure> {
    match client.call(Request::ListBindings).await?.response {
        Response::Bindings(bindings) => Ok(bindings),
        _ => Err(unexpected()),
    }
}

fn issuer_spec(set: IssuerSet) -> Result<IssuerSpec, Failure> {
    let authority = match &set.ca {
        Some(path) => {
            Some(std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?)
        }
        None => None,
    };
    Ok(IssuerSpec { name: set.name, url: set.url, audience: set.audience, authority })
}
