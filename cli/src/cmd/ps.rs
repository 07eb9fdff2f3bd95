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
    let filter = TaskFilter { service: ps.service, node: ps.node, all: ps.all };
    let Response::Tasks(mut rows) = session.client()?.call(Request::ListTasks(filter)).await?.response else {
        return Err(unexpected());
    };
    rows.sort_by(|a, b| {
        (&a.service, a.task.slot, b.task.created).cmp(&(&b.service, b.task.slot, a.task.created))
    });
    session.list(
        ps.quiet,
        &rows,
        |row| row.task.id.to_string(),
        || rows::tasks(&rows, age::now()).to_string(),
    );
    Ok(Code::DONE)
}
