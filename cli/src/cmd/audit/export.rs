//! An export: a line that says where the chain begins and ends, then a line for each record.

use std::{fs, io::BufWriter, os::unix::fs::OpenOptionsExt as _, path::Path};

use model::{
    audit::{Link, Record},
    id::ClusterId,
};
use serde::{Deserialize, Serialize};

use super::Chain;
use crate::exit::Failure;

/// The form of the file.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    #[serde(rename = "orch-audit")]
    format: u32,
    cluster: ClusterId,
    anchor: Link,
    head: Link,
}

/// Writes a file that only its owner may read; `-` is standard output.
pub(super) fn write(path: &Path, cluster: ClusterId, chain: &Chain) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::file("write", path, &error);
    if path == Path::new("-") {
        return lines(std::io::stdout().lock(), cluster, chain).map_err(failed);
    }
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    let mut out = BufWriter::new(file);
    lines(&mut out, cluster, chain).map_err(failed)?;
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)
}

fn lines(mut out: impl std::io::Write, cluster: ClusterId, chain: &Chain) -> std::io::Result<()> {
    let head = Head { format: FORMAT, cluster, anchor: chain.anchor, head: chain.head };
    writeln!(out, "{}", serde_json::to_string(&head)?)?;
    for record in &chain.records {
        writeln!(out, "{}", serde_json::to_string(record)?)?;
    }
    out.flush()
}

/// Reads one, as it is: whether it is whole says who checks it.
pub(super) fn read(path: &Path) -> Result<Chain, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
    parse(&text).map_err(|wrong| Failure::error(format!("{}: {wrong}", path.display())))
}

pub(super) fn parse(text: &str) -> Result<Chain, String> {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let head: Head =
        serde_json::from_str(first).map_err(|error| format!("it is no export of an audit: {error}"))?;
    if head.format != FORMAT {
        return Err(format!("its format is {}; this program reads {FORMAT}: upgrade it", head.format));
    }
    let mut records: Vec<Record> = Vec::new();
    for line in lines {
        let next = records.last().map_or(head.anchor.number, |record| record.number) + 1;
        let record = serde_json::from_str(line)
            .map_err(|error| format!("record {next} is broken: it cannot be read: {error}"))?;
        records.push(record);
    }
    Ok(Chain { anchor: head.anchor, head: head.head, records })
}

/// Whether a cluster still says what it said when the export was made. Both are whole.
pub(super) fn compare(exported: &Chain, cluster: &Chain) -> Result<(), String> {
    let (there, here) = (exported.head, cluster.head);
    if there.number > here.number {
        return Err(format!(
            "record {} is broken: the export has records up to {}, the cluster ends with {}",
            here.number + 1,
            there.number,
            here.number
        ));
    }
    let hash = |chain: &Chain, number: u64| {
        let found = chain.records.iter().find(|record| record.number == number).map(|record| record.hash);
        found.or_else(|| (chain.anchor.number == number).then_some(chain.anchor.hash))
    };
    let begin = exported.anchor.number.max(cluster.anchor.number);
    if begin > there.number {
        return Err(format!(
            "the export ends with record {}, and the cluster keeps none before {}: they cannot be compared",
            there.number,
            begin + 1
        ));
    }
    match (begin..=there.number).find(|number| hash(exported, *number) != hash(cluster, *number)) {
        Some(number) => {
            Err(format!("record {number} is broken: the export and the cluster say different things"))
        }
        None => Ok(()),
    }
}
