//! `manager …`

use model::{
    id::MemberId,
    request::{JoinerView, MemberStatus, Request, Response},
};

use super::{Session, network};
use crate::{
    args::{ManagerCommand, SwitchArg},
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
        ManagerCommand::Approval { switch } => {
            let mut settings = network::settings(&client).await?;
            if let Some(switch) = switch {
                settings.approve_managers = switch == SwitchArg::On;
                client.change(Request::SetSettings(settings.clone())).await?;
            }
            session.print(&settings.approve_managers, || {
                if settings.approve_managers {
                    "managers that join wait for orchctl manager approve".into()
                } else {
                    "managers join with a token alone".into()
                }
            });
        }
        ManagerCommand::Pending => {
            let views = pending(&client).await?;
            session.print(&views, || rows::joiners(&views, age::now()).to_string());
        }
        ManagerCommand::Approve { manager } => {
            client.change(Request::JudgeJoiner { joiner: manager.clone(), approve: true }).await?;
            session.print(&manager, || format!("manager {manager} may join"));
        }
        ManagerCommand::Deny { manager } => {
            client.change(Request::JudgeJoiner { joiner: manager.clone(), approve: false }).await?;
            session.print(&manager, || format!("manager {manager} may not join"));
        }
        ManagerCommand::Remove { manager } => {
            let member = find(&members(&client).await?, &manager)?;
            client.change(Request::RemoveMember(member)).await?;
            session.print(&member, || format!("manager {member} was removed"));
        }
    }
    Ok(Code::DONE)
}

async fn pending(client: &Client) -> Result<Vec<JoinerView>, Failure> {
    match client.call(Request::ListJoiners).await?.response {
        Response::Joiners(views) => Ok(views),
        _ => Err(unexpected()),
    }
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
