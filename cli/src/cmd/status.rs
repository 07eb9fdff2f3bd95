//! `status` and `why`

use model::{
    request::{ClusterStatus, Request, Response},
    time::ClusterTime,
};

use super::Session;
use crate::{
    client::unexpected,
    exit::{Code, Failure},
    output::{age, rows, table::Table},
};

/// `status`
///
/// # Errors
/// Those of the call.
pub async fn run(session: &Session) -> Result<Code, Failure> {
    let reply = session.client()?.call(Request::GetStatus).await?;
    let Response::Status(status) = reply.response else { return Err(unexpected()) };
    session.print(&*status, || text(&status, age::now()));
    Ok(Code::DONE)
}

/// `why REF`
///
/// # Errors
/// Those of the call.
pub async fn why(session: &Session, reference: String) -> Result<Code, Failure> {
    let reply = session.client()?.call(Request::Explain(reference.clone())).await?;
    let Response::Explanation(sentences) = reply.response else { return Err(unexpected()) };
    if sentences.is_empty() {
        return Err(Failure::error(format!("there is no service, task or node \"{reference}\"")));
    }
    session.print(&sentences, || sentences.join("\n"));
    Ok(Code::DONE)
}

fn text(status: &ClusterStatus, now: ClusterTime) -> String {
    let voters = status.members.iter().filter(|member| member.voter).count();
    let reachable = status.members.iter().filter(|member| member.voter && member.reachable).count();
    let needed = voters / 2 + 1;
    let mut lines = vec![
        format!("cluster   {}", status.cluster),
        format!("leader    {}", leader(status)),
        format!("quorum    {}", quorum(reachable, voters, needed)),
        format!(
            "state     index {}, term {}, told by manager {}",
            status.applied, status.term, status.answered_by
        ),
        format!("nodes     {} of {} ready", status.nodes_ready.0, status.nodes_ready.1),
        format!("services  {}", status.services),
        format!("tasks     {} of {} running", status.tasks_running.0, status.tasks_running.1),
    ];
    lines.push(format!("\n{}", rows::members(&status.members, now)));
    lines.push(String::new());
    if status.waiting.is_empty() {
        lines.push("nothing waits".into());
    } else {
        let mut table = Table::new(["WAITING", "SINCE", "WHY"]);
        for waiting in &status.waiting {
            table.row([waiting.what.clone(), age::since(waiting.since, now), waiting.why.clone()]);
        }
        lines.push(table.to_string());
    }
    lines.join("\n")
}

fn leader(status: &ClusterStatus) -> String {
    let Some(leader) = status.leader else { return "none is known".into() };
    let member = status.members.iter().find(|member| member.member.id == leader);
    member.map_or_else(
        || leader.to_string(),
        |member| format!("{} ({}, {})", member.member.name, leader, member.member.address),
    )
}

fn quorum(reachable: usize, voters: usize, needed: usize) -> String {
    let spare = reachable.checked_sub(needed);
    match spare {
        None => format!(
            "LOST: {reachable} of {voters} managers reachable, {needed} needed; reads work with --stale"
        ),
        Some(0) if voters > 1 => {
            format!("{reachable} of {voters} managers reachable: the loss of one more stops changes")
        }
        Some(_) if voters == 1 => "1 manager: its loss stops changes".into(),
        Some(spare) => format!("{reachable} of {voters} managers reachable, {spare} may fail"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quorum_line_says_what_may_still_fail() {
        assert!(quorum(3, 3, 2).ends_with("1 may fail"));
        assert!(quorum(2, 3, 2).contains("one more stops"));
        assert!(quorum(1, 3, 2).starts_with("LOST"));
        assert!(quorum(1, 1, 1).contains("1 manager"));
    }
}
