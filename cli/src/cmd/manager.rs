//! `manager …`

use model::{
    id::MemberId,
    request::{MemberStatus, Request, Response},
};

use super::Session;
use crate::{
    args::ManagerCommand,
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{age, rows},
};

/// Runs a command about managers.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: ManagerCommand) -> Result<Code, Failure> {
    let client = session.client()?;
    match command {
        ManagerCommand::Ls { quiet } => {
            let members = members(&client).await?;
            session.list(
                quiet,
                &members,
                |status| status.member.id.to_string(),
                || rows::members(&members, age::now()).to_string(),
            );
        }
        ManagerCommand::Transfer { to } => {
            let to = match to {
                Some(name) => Some(find(&members(&client).await?, &name)?),
                None => None,
            };
            client.change(Request::TransferLeader { to }).await?;
            let members = members(&client).await?;
            let leader = members.iter().find(|status| status.leader);
            session.print(&members, || {
                leader.map_or("the lead is being handed over".into(), |status| {
                    format!("manager {} ({}) leads", status.member.name, status.member.id)
                })
            });
        }
        ManagerCommand::Remove { manager } => {
            let member = find(&members(&client).await?, &manager)?;
            client.change(Request::RemoveMember(member)).await?;
            session.print(&member, || format!("manager {member} was removed"));
        }
    }
    Ok(Code::DONE)
}

async fn members(client: &Client) -> Result<Vec<MemberStatus>, Failure> {
    match client.call(Request::ListMembers).await?.response {
        Response::Members(members) => Ok(members),
        _ => Err(unexpected()),
    }
}

/// The member of that id or name.
fn find(members: &[MemberStatus], reference: &str) -> Result<MemberId, Failure> {
    let named: Vec<&MemberStatus> = members
        .iter()
        .filter(|status| status.member.name == reference || reference.parse() == Ok(status.member.id))
        .collect();
    match named[..] {
        [only] => Ok(only.member.id),
        [] => Err(Failure::error(format!(
            "manager \"{reference}\" does not exist; orchctl manager ls shows all"
        ))),
        _ => Err(Failure::invalid(format!("several managers are named \"{reference}\": use the id"))),
    }
}
