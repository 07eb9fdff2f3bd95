//! `audit …`: the records of a cluster, or of an export.

mod export;

use model::{
    audit::{Link, Record, Verdict},
    request::{Request, Response},
    time::ClusterTime,
};
use serde::Serialize;

use super::Session;
use crate::{
    args::{AuditCommand, AuditLs},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{age, audit},
};

/// How often reading begins anew because records went meanwhile.
const TRIES: u32 = 5;

/// A part of the chain: what it follows, its records, its end.
#[derive(Debug, Clone)]
struct Chain {
    anchor: Link,
    head: Link,
    records: Vec<Record>,
}

/// What `verify` found.
#[derive(Debug, Serialize)]
struct Intact {
    records: usize,
    anchor: Link,
    head: Link,
}

/// Runs a command about the audit.
///
/// # Errors
/// Why it did not do what it was asked; the first broken record.
pub async fn run(session: &Session, command: AuditCommand) -> Result<Code, Failure> {
    match command {
        AuditCommand::Ls(wanted) => {
            let chain = read(&session.client()?).await?;
            let records = chosen(&chain.records, &wanted, age::now());
            session.print(&records, || audit::records(&records).to_string());
        }
        AuditCommand::Verify { file: Some(file), .. } => told(session, &export::read(&file)?)?,
        AuditCommand::Verify { against, .. } => {
            let chain = read(&session.client()?).await?;
            if let Some(file) = against {
                let exported = export::read(&file)?;
                intact(&exported)?;
                intact(&chain)?;
                export::compare(&exported, &chain).map_err(Failure::error)?;
            }
            told(session, &chain)?;
        }
        AuditCommand::Export { file } => {
            let client = session.client()?;
            let chain = read(&client).await?;
            intact(&chain)?;
            let Response::Status(status) = client.call(Request::GetStatus).await?.response else {
                return Err(unexpected());
            };
            export::write(&file, status.cluster, &chain)?;
        }
    }
    Ok(Code::DONE)
}

/// Everything that is kept. What is recorded while it is read is left out.
async fn read(client: &Client) -> Result<Chain, Failure> {
    for _ in 0..TRIES {
        if let Some(chain) = read_once(client).await? {
            return Ok(chain);
        }
    }
    Err(Failure::error("the records go faster than they are read: try again when less is refused"))
}

/// `None`: some went while they were read.
async fn read_once(client: &Client) -> Result<Option<Chain>, Failure> {
    let mut page = page(client, 0).await?;
    let (anchor, end) = (page.anchor, page.head);
    let mut records: Vec<Record> = Vec::new();
    loop {
        // A manager that is behind the one that answered first has nothing to add.
        let more = !page.records.is_empty();
        records.append(&mut page.records);
        let last = records.last().map_or(anchor.number, |record| record.number);
        if last >= end.number || !more {
            records.truncate(records.partition_point(|record| record.number <= end.number));
            let newest = records.last().map(|record| Link { number: record.number, hash: record.hash });
            let head = if last >= end.number { end } else { newest.unwrap_or(anchor) };
            return Ok(Some(Chain { anchor, head, records }));
        }
        page = self::page(client, last).await?;
        if page.anchor.number > last {
            return Ok(None);
        }
    }
}

async fn page(client: &Client, after: u64) -> Result<model::audit::Page, Failure> {
    match client.call(Request::GetAudit { after }).await?.response {
        Response::Audit(page) => Ok(*page),
        _ => Err(unexpected()),
    }
}

/// Checks a chain from its anchor to its head.
fn intact(chain: &Chain) -> Result<(), Failure> {
    let broken = |why: String| Failure::error(format!("the audit is broken: {why}"));
    let end = chain.anchor.follow_all(&chain.records).map_err(|error| broken(error.to_string()))?;
    if end == chain.head {
        return Ok(());
    }
    let first = end.number + 1;
    Err(broken(format!("record {first} is broken: it is missing, the last one is {}", chain.head.number)))
}

fn told(session: &Session, chain: &Chain) -> Result<(), Failure> {
    intact(chain)?;
    let (anchor, head) = (chain.anchor, chain.head);
    let found = Intact { records: chain.records.len(), anchor, head };
    session.print(&found, || {
        format!(
            "{} records form one chain; none was changed or left out\nanchor {} {}\nhead   {} {}",
            found.records, anchor.number, anchor.hash, head.number, head.hash
        )
    });
    Ok(())
}

fn chosen<'a>(records: &'a [Record], wanted: &AuditLs, now: ClusterTime) -> Vec<&'a Record> {
    let fits = |record: &&Record| {
        wanted.since.is_none_or(|span| now.since(record.at) <= span)
            && wanted.who.as_deref().is_none_or(|who| is_of(&record.who, who))
            && wanted.object.as_deref().is_none_or(|object| concerns(record, object))
            && wanted.verdict.as_deref().is_none_or(|verdict| ended(record.verdict, verdict))
    };
    let mut found: Vec<&Record> = records.iter().filter(fits).collect();
    if wanted.limit > 0 {
        found.drain(..found.len().saturating_sub(wanted.limit));
    }
    found
}

/// The whole of it, its kind or its name.
fn is_of(holder: &str, who: &str) -> bool {
    holder == who || holder.split_once(' ').is_some_and(|(kind, name)| kind == who || name == who)
}

fn concerns(record: &Record, object: &str) -> bool {
    let named = |name: &str| record.name.split(',').any(|one| one == name);
    match object.split_once('/') {
        Some((kind, name)) if kind == record.kind => named(name),
        _ => record.kind == object || named(object),
    }
}

fn ended(verdict: Verdict, word: &str) -> bool {
    verdict.word() == word || (word == "refused" && verdict != Verdict::Accepted)
}

#[cfg(test)]
mod tests;
