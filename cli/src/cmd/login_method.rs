//! `login-method …`

use model::{
    login::{Directory, LoginMethodSpec, Oidc, Password, People, Provider, Search},
    request::{LoginMethodView, Request, Response},
};

use super::{Session, authority, registry};
use crate::{
    args::{LoginMethodCommand, LoginMethodSet},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{self, logins},
};

/// Runs a command about login methods.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: LoginMethodCommand) -> Result<Code, Failure> {
    let client = session.client()?;
    match command {
        LoginMethodCommand::Set(set) => {
            let (spec, password) = spec(*set)?;
            let name = spec.name.clone();
            client.change(Request::SetLoginMethod { spec: Box::new(spec), password }).await?;
            show(session, &client, &name).await?;
        }
        LoginMethodCommand::Ls { quiet } => {
            let views = views(&client).await?;
            let name = |view: &LoginMethodView| view.spec.name.clone();
            session.list(quiet, &views, name, || logins::table(&views).to_string());
        }
        LoginMethodCommand::Inspect { name } => show(session, &client, &name).await?,
        LoginMethodCommand::Rm { names } => {
            for name in &names {
                client.change(Request::RemoveLoginMethod(name.clone())).await?;
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

async fn show(session: &Session, client: &Client, name: &str) -> Result<(), Failure> {
    let views = views(client).await?;
    let view = views.iter().find(|view| view.spec.name == name);
    let view = view.ok_or_else(|| Failure::error(format!("login method \"{name}\" does not exist")))?;
    let fingerprint =
        authority::present(client).await.ok().map(|authority| authority.fingerprint().to_string());
    session.print(view, || logins::one(view, client.manager(), fingerprint.as_deref()));
    Ok(())
}

async fn views(client: &Client) -> Result<Vec<LoginMethodView>, Failure> {
    match client.call(Request::ListLoginMethods).await?.response {
        Response::LoginMethods(views) => Ok(views),
        _ => Err(unexpected()),
    }
}

/// What is declared, and the password of the account that searches.
fn spec(set: LoginMethodSet) -> Result<(LoginMethodSpec, Option<Password>), Failure> {
    let authority = match &set.ca {
        Some(path) => {
            Some(std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?)
        }
        None => None,
    };
    if let Some(url) = set.oidc {
        let issuer = Oidc {
            url,
            client: set.client_id.unwrap_or_default(),
            authority,
            groups_claim: set.groups_claim,
            name_claim: set.name_claim,
            scopes: set.scope,
        };
        let provider = Provider::Oidc(Box::new(issuer));
        let spec = LoginMethodSpec { name: set.name, provider, rules: set.role, life: set.ttl };
        return Ok((spec, None));
    }
    let (people, password) = match (set.user_dn, set.search_base, set.bind_dn) {
        (Some(template), _, _) => (People::At(template), None),
        (None, Some(base), Some(account)) => {
            let search = Search { base, filter: set.search_filter };
            (People::Found { search, account }, Some(Password::new(registry::secret()?.reveal())))
        }
        _ => return Err(Failure::invalid("where are people? --user-dn, or --search-base with --bind-dn")),
    };
    let groups = set.group_base.map(|base| Search { base, filter: set.group_filter });
    let url = set.ldap.unwrap_or_default();
    let provider = Provider::Ldap(Box::new(Directory { url, authority, people, groups }));
    Ok((LoginMethodSpec { name: set.name, provider, rules: set.role, life: set.ttl }, password))
}
