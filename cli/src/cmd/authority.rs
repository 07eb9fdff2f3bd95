//! `authority …`

use std::time::Duration;

use model::{
    node::NodeState,
    request::{AuthorityView, Request, Response},
};
use pki::CaCertificate;

use super::{Session, whoami};
use crate::{
    args::{AuthorityCommand, WaitFlags},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{
        self, age, authority as shown,
        progress::{Line, Progress},
    },
};

/// How often a rotation is looked at.
const LOOK: Duration = Duration::from_millis(300);

/// Runs a command about the authority.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: AuthorityCommand) -> Result<Code, Failure> {
    let client = session.client()?;
    match command {
        AuthorityCommand::Show => {
            let view = view(&client).await?;
            session.print(&shown::json(&view)?, || shown::text(&view, age::now()));
        }
        AuthorityCommand::Rotate { wait } => rotate(session, &client, &wait).await?,
        AuthorityCommand::Finish { leave_behind } => finish(session, &client, leave_behind).await?,
    }
    Ok(Code::DONE)
}

/// The authority's certificate as it is now: a context may have an earlier one.
///
/// # Errors
/// It may not be asked for, or is not to be read.
pub async fn present(client: &Client) -> Result<CaCertificate, Failure> {
    let view = view(client).await?;
    CaCertificate::from_pem(&view.certificate)
        .map_err(|error| Failure::error(format!("the authority's certificate: {error}")))
}

async fn view(client: &Client) -> Result<AuthorityView, Failure> {
    match client.call(Request::GetAuthority).await?.response {
        Response::Authority(view) => Ok(*view),
        _ => Err(unexpected()),
    }
}

async fn rotate(session: &Session, client: &Client, wait: &WaitFlags) -> Result<(), Failure> {
    let current = view(client).await?.certificate;
    client.change(Request::RotateAuthority { current, successor: None }).await?;
    match whoami::renewed(session, None).await {
        Ok(None) => {}
        Ok(Some((context, _))) => output::note(format!("context \"{context}\" has a certificate of it")),
        Err(failure) => output::warn(format!(
            "this context has a certificate of the former authority still ({}): log in or renew it before the end",
            failure.message
        )),
    }
    client.wait_longer();
    let mut progress = Progress::new(wait.quiet || wait.detach || session.global.json);
    let view = loop {
        let view = view(client).await?;
        progress.show(&lines(&view));
        // Whoever is away is not waited for.
        let present = view.nodes.iter().filter(|node| node.state == NodeState::Ready).count();
        if wait.detach || view.managers.is_empty() && present == 0 {
            break view;
        }
        if client.deadline().is_some_and(|deadline| deadline <= std::time::Instant::now()) {
            progress.finish();
            return Err(Failure::new(Code::DEADLINE, shown::text(&view, age::now())));
        }
        tokio::time::sleep(LOOK).await;
    };
    progress.finish();
    session.print(&shown::json(&view)?, || shown::text(&view, age::now()));
    Ok(())
}

async fn finish(session: &Session, client: &Client, leave_behind: bool) -> Result<(), Failure> {
    let current = view(client).await?.certificate;
    if !whoami::is_of(session, &current)? {
        // It would be shut out itself.
        whoami::renewed(session, None).await?;
    }
    let client = session.client()?;
    client.change(Request::FinishRotation { current, leave_behind }).await?;
    // So that this context parts with the former one too.
    if let Err(failure) = whoami::renewed(session, None).await {
        output::warn(format!(
            "this context trusts the former authority until the next login or renewal: {}",
            failure.message
        ));
    }
    let view = view(&session.client()?).await?;
    session.print(&shown::json(&view)?, || shown::text(&view, age::now()));
    Ok(())
}

fn lines(view: &AuthorityView) -> Vec<Line> {
    let line = |label: &str, names: Vec<&str>| Line {
        label: label.to_owned(),
        text: if names.is_empty() {
            "all have certificates of it".to_owned()
        } else {
            format!("{} to go", names.join(", "))
        },
        done: names.is_empty(),
    };
    let up = view.nodes.iter().filter(|node| node.state == NodeState::Ready);
    vec![
        line("managers", view.managers.iter().map(String::as_str).collect()),
        line("nodes", up.map(|node| node.name.as_str()).collect()),
    ]
}
