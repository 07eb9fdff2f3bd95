//! The audit as a table.

use model::audit::Record;

use super::{age, table::Table};

/// `audit ls`
pub fn records(records: &[&Record]) -> Table {
    let mut table = Table::new(["NUMBER", "TIME", "WHO", "FROM", "WHAT", "VERDICT", "NOTE"]);
    for record in records {
        let what = format!("{} {} {}", record.verb, record.kind, record.name);
        let job = record.job.iter().map(String::as_str);
        let note: Vec<&str> =
            [record.reason.as_str()].into_iter().filter(|text| !text.is_empty()).chain(job).collect();
        table.row([
            record.number.to_string(),
            age::date(record.at),
            record.who.clone(),
            record.source.clone().unwrap_or_else(|| "-".into()),
            what.trim_end().to_owned(),
            record.verdict.to_string(),
            note.join("; "),
        ]);
    }
    table
}
