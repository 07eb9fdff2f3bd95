//! `user …`

use std::path::{Path, PathBuf};

use model::{
    access::{User, UserChange, UserSpec},
    command::Answer,
    request::{Request, Response},
};
use pki::KeyAndCsr;

use super::Session;
use crate::{
    args::{Out, UserCommand, UserCreate, UserUpdate},
    client::{Client, unexpected},
    context::{Context, Contexts},
    exit::{Code, Failure},
    output::{self, age, users},
};

/// What a cluster's context is called that was made without one.
const NAME: &str = "orch";

/// Runs a command about users.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: UserCommand) -> Result<Code, Failure> {
    let client = session.client()?;
    match command {
        UserCommand::Create(create) => self::create(session, &client, create).await?,
        UserCommand::Ls { quiet } => {
            let all = list(&client).await?;
            session.list(
                quiet,
                &all,
                |user| user.spec.name.clone(),
                || users::table(&all, age::now()).to_string(),
            );
        }
        UserCommand::Inspect { user } => {
            let user = find(&client, &user).await?;
            session.print(&user, || users::one(&user, age::now()));
        }
        UserCommand::Update(update) => {
            let name = update.user.clone();
            let change = change(update);
            if change == UserChange::default() {
                return Err(Failure::invalid("nothing to change: --role, --ttl, --disable or --enable"));
            }
            client.change(Request::UpdateUser { user: name.clone(), change }).await?;
            let user = find(&client, &name).await?;
            session.print(&user, || users::one(&user, age::now()));
        }
        UserCommand::Certificate { user, out } => {
            let user = find(&client, &user).await?;
            let place = place(&user.spec.name, &out)?;
            certify(session, &client, &user, &place).await?;
        }
        UserCommand::Rm { users } => {
            for user in &users {
                client.change(Request::RemoveUser(user.clone())).await?;
                if !session.global.json {
                    output::print(user);
                }
            }
            if session.global.json {
                output::json::print(&users);
            }
        }
    }
    Ok(Code::DONE)
}

async fn create(session: &Session, client: &Client, flags: UserCreate) -> Result<(), Failure> {
    let UserCreate { name, role, ttl, out } = flags;
    // Before anything is made that would be of no use without its context.
    let place = place(&name, &out)?;
    let spec = UserSpec { name: name.clone(), roles: role, life: ttl };
    let (Answer::User { .. }, _) = client.change(Request::CreateUser(spec)).await? else {
        return Err(unexpected());
    };
    let user = find(client, &name).await?;
    certify(session, client, &user, &place).await.map_err(|failure| {
        let message =
            format!("{failure}\nthe user is there, without a certificate: orchctl user certificate {name}");
        Failure { message, ..failure }
    })
}

/// Makes a key here, has it certified, and writes both as a context.
async fn certify(session: &Session, client: &Client, user: &User, place: &Path) -> Result<(), Failure> {
    let pair = KeyAndCsr::generate().map_err(|error| Failure::error(format!("no key: {error}")))?;
    let request = Request::CertifyUser { user: user.id.to_string(), csr: pair.csr_pem.clone() };
    let Response::Joined { certificate, authority, cluster, managers, .. } =
        client.call(request).await?.response
    else {
        return Err(unexpected());
    };
    let name = match &session.global.socket {
        Some(_) => NAME.to_owned(),
        None => {
            let own = Contexts::load(&session.config)?;
            own.choose(session.global.context.as_deref())?.name.clone()
        }
    };
    let context = Context {
        name,
        managers: managers.into_iter().map(|manager| manager.address).collect(),
        ca: authority,
        certificate,
        key: pair.key_pem(),
        cluster: Some(cluster.to_string()),
        ..Context::default()
    };
    Contexts { current: None, contexts: vec![context] }.save(place)?;
    let file = place.display().to_string();
    session.print(&serde_json::json!({ "user": user, "context": file }), || file.clone());
    if !session.global.json {
        output::note(format!(
            "{} has the context of {} with its key: hand it over safely, and remove it here. There:\n  \
             orchctl context import {file}",
            file, user.spec.name
        ));
    }
    Ok(())
}

/// Where the context goes.
fn place(name: &str, out: &Out) -> Result<PathBuf, Failure> {
    let place = out.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.context.toml")));
    if !out.force && place.exists() {
        let message =
            format!("{} exists already; --force replaces it, --out FILE writes elsewhere", place.display());
        return Err(Failure::invalid(message));
    }
    Ok(place)
}

fn change(update: UserUpdate) -> UserChange {
    let UserUpdate { role, ttl, disable, enable, .. } = update;
    let disabled = (disable || enable).then_some(disable);
    UserChange { roles: Some(role).filter(|roles| !roles.is_empty()), life: ttl, disabled }
}

async fn list(client: &Client) -> Result<Vec<User>, Failure> {
    match client.call(Request::ListUsers).await?.response {
        Response::Users(users) => Ok(users),
        _ => Err(unexpected()),
    }
}

async fn find(client: &Client, reference: &str) -> Result<User, Failure> {
    let users = list(client).await?;
    let is = |user: &User| user.spec.name == reference || user.id.to_string() == reference;
    let found = users.into_iter().find(is);
    found.ok_or_else(|| Failure::error(format!("user \"{reference}\" does not exist")))
}
