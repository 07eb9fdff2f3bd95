//! `secret …` and `config …`: values come from files and standard input, never from a command line.

use std::{io::Read as _, path::Path, time::Duration};

use model::{
    command::Answer,
    item::{ItemKind, ItemSpec, MAX_VALUE},
    request::{ItemView, KeysView, Request, Response},
    sealed::Clear,
};

use super::{Session, scale};
use crate::{
    args::{ConfigCommand, ItemCreate, ItemUpdate, SecretCommand},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{self, items},
    value,
    wait::{self, Target, converge::Expected},
};

/// How often a rotation is looked at while it goes on.
const LOOK: Duration = Duration::from_millis(200);
/// What a change of keys takes when all managers are there.
const USUAL: Duration = Duration::from_secs(3);

/// Runs a command about secrets.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn secret(session: &Session, command: SecretCommand) -> Result<Code, Failure> {
    let kind = ItemKind::Secret;
    match command {
        SecretCommand::Create(create) => self::create(session, kind, create, false).await,
        SecretCommand::Update(update) => self::update(session, kind, update).await,
        SecretCommand::Ls { quiet } => list(session, kind, quiet).await,
        SecretCommand::Inspect { name } => {
            let view = view(&session.client()?, kind, name).await?;
            session.print(&view, || items::item(&view));
            Ok(Code::DONE)
        }
        SecretCommand::Rm { names } => remove(session, kind, &names).await,
        SecretCommand::Keys => {
            let keys = keys(&session.client()?).await?;
            session.print(&keys, || items::keys(&keys));
            Ok(Code::DONE)
        }
        SecretCommand::RotateKey { detach } => rotate(session, detach).await,
    }
}

/// Runs a command about configs.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn config(session: &Session, command: ConfigCommand) -> Result<Code, Failure> {
    let kind = ItemKind::Config;
    match command {
        ConfigCommand::Create { create, template } => self::create(session, kind, create, template).await,
        ConfigCommand::Update(update) => self::update(session, kind, update).await,
        ConfigCommand::Ls { quiet } => list(session, kind, quiet).await,
        ConfigCommand::Inspect { name, value } => {
            let view = view(&session.client()?, kind, name).await?;
            if value {
                let value = view.value.as_ref().ok_or_else(|| {
                    Failure::error(
                        "this manager does not have the key that the value is sealed with; try again",
                    )
                })?;
                output::raw(value.reveal());
            } else {
                session.print(&items::json(&view), || items::item(&view));
            }
            Ok(Code::DONE)
        }
        ConfigCommand::Rm { names } => remove(session, kind, &names).await,
    }
}

async fn create(
    session: &Session,
    kind: ItemKind,
    create: ItemCreate,
    template: bool,
) -> Result<Code, Failure> {
    let labels: Result<_, _> = create.label.iter().map(|label| value::pair(label)).collect();
    let labels = labels.map_err(|wrong| Failure::invalid(format!("--label: {wrong}")))?;
    let value = read(kind, &create.file)?;
    let spec = ItemSpec { kind, name: create.name.clone(), labels, template };
    session.client()?.change(Request::CreateItem { spec, value }).await?;
    session.print(&serde_json::json!({ "name": create.name, "version": 1 }), || create.name.clone());
    Ok(Code::DONE)
}

async fn update(session: &Session, kind: ItemKind, update: ItemUpdate) -> Result<Code, Failure> {
    let value = read(kind, &update.file)?;
    let client = session.client()?;
    let name = update.name.clone();
    // What each rollout was before, so that the one of this change is told from it.
    let mounted = view(&client, kind, name.clone()).await?;
    let mut before = Vec::new();
    for service in mounted.versions.iter().flat_map(|version| &version.mounted_by) {
        if let Ok((seen, _)) = wait::view(&client, service.clone()).await {
            before.push(seen.service);
        }
    }
    let (answer, index) = client.change(Request::UpdateItem { kind, name, value }).await?;
    let Answer::Item { version, services } = answer else { return Err(unexpected()) };
    let known = mounted.versions.last().is_some_and(|newest| newest.number == version);
    if !session.global.json && !update.wait.quiet {
        let note = if known { "; it had this value already" } else { "" };
        output::note(format!("{kind} {} has version {version}{note}", update.name));
    }
    let targets = before.into_iter().filter(|service| services.contains(&service.spec.name));
    let targets: Vec<Target> = targets
        .map(|service| {
            let expected = Expected { before: service.rollout, ..Expected::default() };
            Target { id: service.id, name: service.spec.name.clone(), expected }
        })
        .collect();
    if targets.is_empty() {
        let told = serde_json::json!({ "name": update.name, "version": version, "services": services });
        session.print(&told, || update.name.clone());
        return Ok(Code::DONE);
    }
    scale::finish(session, &client, targets, index, &update.wait).await
}

async fn list(session: &Session, kind: ItemKind, quiet: bool) -> Result<Code, Failure> {
    let views = match session.client()?.call(Request::ListItems(kind)).await?.response {
        Response::Items(views) => views,
        _ => return Err(unexpected()),
    };
    session.list(quiet, &views, |view| view.spec.name.clone(), || items::items(&views).to_string());
    Ok(Code::DONE)
}

async fn remove(session: &Session, kind: ItemKind, names: &[String]) -> Result<Code, Failure> {
    let client = session.client()?;
    for name in names {
        client.change(Request::RemoveItem { kind, name: name.clone() }).await?;
        if !session.global.json {
            output::print(name);
        }
    }
    if session.global.json {
        output::json::print(names);
    }
    Ok(Code::DONE)
}

/// Waits until everything is sealed with the new key, and says meanwhile what that waits for.
async fn rotate(session: &Session, detach: bool) -> Result<Code, Failure> {
    let client = session.client()?;
    client.change(Request::RotateKey).await?;
    let (mut said, begun) = (String::new(), tokio::time::Instant::now());
    loop {
        let keys = keys(&client).await?;
        let done = keys.next.is_none() && keys.behind == 0;
        if done || detach {
            session.print(&keys, || items::keys(&keys));
            return Ok(Code::DONE);
        }
        if keys.waits != said && begun.elapsed() > USUAL {
            output::note(format!("{} (it goes on without this command)", keys.waits));
            said = keys.waits;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn view(client: &Client, kind: ItemKind, name: String) -> Result<ItemView, Failure> {
    match client.call(Request::GetItem { kind, name }).await?.response {
        Response::Item(view) => Ok(*view),
        _ => Err(unexpected()),
    }
}

async fn keys(client: &Client) -> Result<KeysView, Failure> {
    match client.call(Request::GetKeys).await?.response {
        Response::Keys(keys) => Ok(keys),
        _ => Err(unexpected()),
    }
}

/// A value as it stands, its last line's end included; that is said, because a password seldom has one.
fn read(kind: ItemKind, path: &Path) -> Result<Clear, Failure> {
    // One byte more than there may be: so it is seen to be too long.
    let most = MAX_VALUE as u64 + 1;
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::file("read", path, &error))?;
    if bytes.len() > MAX_VALUE {
        return Err(Failure::invalid(format!("{}: a value has at most {MAX_VALUE} bytes", path.display())));
    }
    if kind == ItemKind::Secret
        && bytes.ends_with(b"\n")
        && bytes.iter().filter(|byte| **byte == b'\n').count() == 1
    {
        output::warn(
            "the value is one line and its end, a line feed, belongs to it; leave that out with `printf %s` or `tr -d '\\n'`",
        );
    }
    Ok(Clear::new(bytes))
}
