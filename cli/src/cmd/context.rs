//! `context …`

use std::path::Path;

use super::{Session, whoami};
use crate::{
    args::ContextCommand,
    context::{Context, Contexts},
    exit::{Code, Failure},
    output::{self, json, table::Table},
};

/// Runs a command about contexts.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: ContextCommand) -> Result<Code, Failure> {
    let mut contexts = Contexts::load(&session.config)?;
    match command {
        ContextCommand::Ls { quiet } => list(session, &contexts, quiet),
        ContextCommand::Show { name } => {
            let name = name.or_else(|| session.global.context.clone());
            show(session, contexts.choose(name.as_deref())?);
        }
        ContextCommand::Renew { name } => return whoami::renew(session, name).await,
        ContextCommand::Use { name } => {
            contexts.get(&name)?;
            contexts.current = Some(name);
            contexts.save(&session.config)?;
        }
        ContextCommand::Rm { names } => {
            for name in &names {
                contexts.get(name)?;
            }
            names.iter().for_each(|name| _ = contexts.remove(name));
            contexts.save(&session.config)?;
        }
        ContextCommand::Import { file, name, force } => {
            let added = from_file(&file, name)?;
            add(&session.config, contexts, added, force)?;
        }
        ContextCommand::Add { name, manager, ca, certificate, key, force } => {
            let text = |path: &Path| path.to_string_lossy().into_owned();
            let context = Context {
                name,
                managers: manager,
                ca: text(&ca),
                certificate: text(&certificate),
                key: text(&key),
                ..Context::default()
            };
            context.check()?;
            // Paths on the command line are relative to where one stands.
            let here = context.embedded(Path::new("./here"))?;
            add(&session.config, contexts, vec![here], force)?;
        }
    }
    Ok(Code::DONE)
}

/// The contexts of a file, able to move.
///
/// # Errors
/// It cannot be read, or holds none.
pub fn from_file(file: &Path, name: Option<String>) -> Result<Vec<Context>, Failure> {
    std::fs::metadata(file).map_err(|error| Failure::file("read", file, &error))?;
    let mut found = Contexts::load(file)?.contexts;
    match (&mut found[..], name) {
        ([], _) => return Err(Failure::invalid(format!("{} holds no context", file.display()))),
        ([only], Some(name)) => only.name = name,
        (_, Some(_)) => return Err(Failure::invalid("--name works for a file with one context")),
        (_, None) => {}
    }
    found.iter().map(|context| context.check().and_then(|()| context.embedded(file))).collect()
}

/// Adds contexts; the last one becomes the current one if there was none.
fn add(config: &Path, mut contexts: Contexts, added: Vec<Context>, force: bool) -> Result<(), Failure> {
    for context in &added {
        if !force && contexts.get(&context.name).is_ok() {
            return Err(Failure::invalid(format!(
                "context \"{}\" exists already; --force replaces it, --name gives it another name",
                context.name
            )));
        }
    }
    for context in added {
        if contexts.current.is_none() {
            contexts.current = Some(context.name.clone());
        }
        output::note(format!("context {} added", context.name));
        contexts.put(context);
    }
    contexts.save(config)
}

fn list(session: &Session, contexts: &Contexts, quiet: bool) {
    let chosen = contexts.choose(session.global.context.as_deref()).ok().map(|context| context.name.clone());
    if session.global.json {
        let all: Vec<_> =
            contexts.contexts.iter().map(|context| document(context, chosen.as_deref())).collect();
        return json::print(&all);
    }
    let mut table = Table::new(["", "NAME", "MANAGERS", "CLUSTER"]);
    for context in &contexts.contexts {
        if quiet {
            output::print(&context.name);
            continue;
        }
        let mark = if chosen.as_deref() == Some(&context.name) { "*" } else { "" };
        let cluster = context.cluster.clone().unwrap_or_default();
        table.row([mark.into(), context.name.clone(), context.managers.join(", "), cluster]);
    }
    if !quiet {
        output::print(table.to_string());
    }
}

fn show(session: &Session, context: &Context) {
    session.print(&document(context, None), || {
        let shown = |value: &str| if value.contains("-----BEGIN") { "(in the file)".into() } else { value.to_owned() };
        format!(
            "name         {}\nmanagers     {}\ncluster      {}\nca           {}\ncertificate  {}\nkey          {}\nfile         {}",
            context.name,
            context.managers.join(", "),
            context.cluster.as_deref().unwrap_or("unknown"),
            shown(&context.ca),
            shown(&context.certificate),
            shown(&context.key),
            session.config.display(),
        )
    });
}

/// A context without its key.
fn document(context: &Context, chosen: Option<&str>) -> serde_json::Value {
    let mut document = serde_json::json!({
        "name": context.name, "managers": context.managers, "cluster": context.cluster,
    });
    if let Some(chosen) = chosen {
        document["current"] = (chosen == context.name).into();
    }
    document
}
