//! `ps` and `service ps`

use model::request::{Request, Response, TaskFilter};

use super::Session;
use crate::{
    args::Ps,
    client::unexpected,
    exit::{Code, Failure},
    output::{age, rows},
};

/// Lists tasks.
///
/// # Errors
/// Those of the call.
pub async fn run(session: &Session, ps: Ps) -> Result<Code, Failure> {
    list(session, vec![TaskFilter { service: ps.service, node: ps.node, all: ps.all }], ps.quiet).await
}

/// Lists the tasks that any of the filters lets through.
///
/// # Errors
/// Those of the calls.
pub async fn list(session: &Session, filters: Vec<TaskFilter>, quiet: bool) -> Result<Code, Failure> {
    let client = session.client()?;
    let mut rows = Vec::new();
    for filter in filters {
        let Response::Tasks(more) = client.call(Request::ListTasks(filter)).await?.response else {
            return Err(unexpected());
        };
        rows.extend(more);
    }
    rows.sort_by(|a, b| {
        (&a.service, a.task.slot, b.task.created).cmp(&(&b.service, b.task.slot, a.task.created))
    });
    session.list(quiet, &rows, |row| row.task.id.to_string(), || rows::tasks(&rows, age::now()).to_string());
    Ok(Code::DONE)
}
