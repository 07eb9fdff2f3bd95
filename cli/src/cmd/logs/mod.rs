//! `logs`: lines of all tasks as they come, each with its task; nodes that are away are named, the others are printed.
//!
//! [`once`] prints what there is. [`follow`] goes on, with tasks that start later, too. [`printer`] makes lines.

mod follow;
mod printer;

use model::{
    request::{LogSource, Request},
    session::{LogFrame, LogOptions},
};
use printer::Printer;

pub use follow::{keep, until};
pub use printer::{Kept, Style};

use super::Session;
use crate::{
    args::Logs,
    client::LogStream,
    exit::{Code, Failure},
    output,
};

/// Prints logs.
///
/// # Errors
/// They were refused, or none of them can be read.
pub async fn run(session: &Session, logs: Logs) -> Result<Code, Failure> {
    let options =
        LogOptions { follow: logs.follow, tail: logs.tail, since: logs.since, timestamps: logs.timestamps };
    let client = session.client()?;
    let subject = if logs.follow { Some(follow::subject(&client, &logs.of).await?) } else { None };
    let stream = client.logs(Request::Logs { of: logs.of.clone(), options: options.clone() }).await?;
    if stream.plan.is_empty() && !logs.follow {
        output::note(format!("{} has no task that has written anything", logs.of));
        return Ok(Code::DONE);
    }
    name_missing(&stream.plan)?;
    let style = match (session.global.json, logs.no_prefix) {
        (true, _) => Style::Json,
        (false, true) => Style::Bare,
        (false, false) => Style::Prefixed,
    };
    let printer = Printer::new(style);
    let printing = async {
        match subject {
            Some(subject) => follow::follow(&client, subject, options, Some(stream), printer).await,
            None => once(stream, printer).await,
        }
    };
    tokio::select! {
        code = printing => code,
        _ = tokio::signal::ctrl_c() => Ok(Code::INTERRUPTED),
    }
}

/// Names what cannot be read now.
///
/// # Errors
/// That is all there is.
fn name_missing(plan: &[LogSource]) -> Result<(), Failure> {
    for source in plan {
        if let Some(why) = &source.missing {
            output::warn(format!("no logs of {} on {}: {why}", source.label, source.node));
        }
    }
    if !plan.is_empty() && plan.iter().all(|source| source.missing.is_some()) {
        return Err(Failure::error("none of the logs can be read now"));
    }
    Ok(())
}

async fn once(mut stream: LogStream, mut printer: Printer) -> Result<Code, Failure> {
    printer.add(&stream.plan);
    let broken = loop {
        match stream.next().await {
            Ok(Some(item)) => match item.frame {
                LogFrame::Data { stderr, bytes } => printer.data(item.source, stderr, &bytes),
                LogFrame::End(why) => {
                    printer.end(item.source);
                    if let (Some(why), Some(source)) = (why, stream.plan.get(item.source)) {
                        name_end(source, &why);
                    }
                }
            },
            Ok(None) => break None,
            Err(why) => break Some(why),
        }
    };
    (0..stream.plan.len()).for_each(|source| printer.end(source));
    match broken {
        None => Ok(Code::DONE),
        Some(why) => Err(Failure::error(format!("the connection broke: {why}"))),
    }
}

fn name_end(source: &LogSource, why: &str) {
    output::warn(format!("logs of {} on {} end here: {why}", source.label, source.node));
}
