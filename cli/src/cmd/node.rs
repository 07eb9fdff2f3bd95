//! `node …`

use model::{
    id::NodeId,
    node::Availability,
    request::{NodeChange, NodeView, Request, Response},
};

use super::{Session, inspect};
use crate::{
    args::{NodeCommand, NodeUpdate, WaitFlags},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{age, progress::Progress, rows},
    wait,
};

/// Runs a command about nodes.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: NodeCommand) -> Result<Code, Failure> {
    let client = session.client()?;
    match command {
        NodeCommand::Ls { quiet } => {
            let Response::Nodes(nodes) = client.call(Request::ListNodes).await?.response else {
                return Err(unexpected());
            };
            session.list(
                quiet,
                &nodes,
                |view| view.node.id.to_string(),
                || rows::nodes(&nodes, age::now()).to_string(),
            );
            Ok(Code::DONE)
        }
        NodeCommand::Inspect { node } => {
            let view = get(&client, node).await?;
            let services = wait::service_names(&client).await?;
            session.print(&view, || inspect::node(&view, &services, age::now()));
            Ok(Code::DONE)
        }
        NodeCommand::Update(update) => {
            let wait = WaitFlags { detach: true, quiet: false };
            change(session, &client, update.node.clone(), from_flags(update)?, &wait).await
        }
        NodeCommand::Drain { node, despite_freeze, wait } => {
            let drain = NodeChange { despite_freeze, ..availability(Availability::Drain) };
            change(session, &client, node, drain, &wait).await
        }
        NodeCommand::Activate { node } => {
            change(session, &client, node, availability(Availability::Active), &WaitFlags::default()).await
        }
        NodeCommand::Pause { node } => {
            change(session, &client, node, availability(Availability::Pause), &WaitFlags::default()).await
        }
        NodeCommand::Rm { nodes, force } => remove(session, &client, &nodes, force).await,
    }
}

async fn get(client: &Client, node: String) -> Result<NodeView, Failure> {
    match client.call(Request::GetNode(node)).await?.response {
        Response::Node(view) => Ok(*view),
        _ => Err(unexpected()),
    }
}

fn availability(availability: Availability) -> NodeChange {
    NodeChange { availability: Some(availability), ..NodeChange::default() }
}

fn from_flags(update: NodeUpdate) -> Result<NodeChange, Failure> {
    let change = NodeChange {
        availability: update.availability.map(Into::into),
        class: update.class.map(Into::into),
        set_labels: update.label_add,
        remove_labels: update.label_rm,
        despite_freeze: update.despite_freeze,
    };
    if change == (NodeChange { despite_freeze: change.despite_freeze.clone(), ..NodeChange::default() }) {
        return Err(Failure::invalid(
            "nothing to change: give --availability, --class, --label-add or --label-rm",
        ));
    }
    Ok(change)
}

async fn change(
    session: &Session,
    client: &Client,
    node: String,
    change: NodeChange,
    flags: &WaitFlags,
) -> Result<Code, Failure> {
    let id = get(client, node).await?.node.id;
    let drains = change.availability == Some(Availability::Drain);
    let (_, index) = client.change(Request::UpdateNode { node: id.to_string(), change }).await?;
    if drains && !flags.detach {
        wait_until_empty(session, client, id, index, flags).await?;
    }
    let view = get(client, id.to_string()).await?;
    session.print(&view, || if flags.quiet { id.to_string() } else { sentence(&view) });
    Ok(Code::DONE)
}

async fn wait_until_empty(
    session: &Session,
    client: &Client,
    node: NodeId,
    index: u64,
    flags: &WaitFlags,
) -> Result<(), Failure> {
    let mut progress = Progress::new(flags.quiet || session.global.json);
    let waited = wait::bounded(client, "the drain", wait::drained(client, node, index, &mut progress)).await;
    progress.finish();
    waited
}

fn sentence(view: &NodeView) -> String {
    let tasks = view.tasks.iter().filter(|task| task.may_have_container()).count();
    let spec = &view.node.spec;
    let labels = if spec.labels.is_empty() { "none".into() } else { rows::pairs(&spec.labels) };
    format!(
        "{}: {}, {}, labels {labels}, {tasks} tasks",
        view.node.facts.hostname,
        rows::availability(spec.availability),
        spec.class
    )
}

async fn remove(session: &Session, client: &Client, nodes: &[String], force: bool) -> Result<Code, Failure> {
    for node in nodes {
        client.change(Request::RemoveNode { node: node.clone(), force }).await?;
    }
    session.print(nodes, || nodes.join("\n"));
    Ok(Code::DONE)
}
