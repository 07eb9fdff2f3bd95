//! Every request by every caller to a running cluster: what is refused, and what is not.

use std::collections::BTreeMap;

use anyhow::Result;
use manager_core::matrix::{Caller, Row, rows};
use model::request::Request;
use proto::v1::{agents_client::AgentsClient, peers_client::PeersClient};
use rpc::tls::{ClientTls, channel};
use tonic::Status;
use tonic::transport::Channel;

use super::answer::{Answer, Verdict};
use super::cast::Papers;
use super::site::Site;
use super::tally::Tally;
use crate::client::{Client, block_on};

/// Who asks in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    /// Somebody whom the table knows.
    Of(Caller),
    /// The admin whom `init` made, who may do what admins do.
    FirstAdmin,
    /// A certificate of another authority.
    WrongAuthority,
    /// A certificate whose time is over.
    Expired,
    RemovedUser,
    DisabledUser,
    RemovedNode,
    ExpiredDeployToken,
}

const STRANGERS: [Column; 7] = [
    Column::FirstAdmin,
    Column::WrongAuthority,
    Column::Expired,
    Column::RemovedUser,
    Column::DisabledUser,
    Column::RemovedNode,
    Column::ExpiredDeployToken,
];

impl Column {
    fn all() -> impl Iterator<Item = Column> {
        Caller::ALL.into_iter().map(|(caller, _)| Column::Of(caller)).chain(STRANGERS)
    }

    fn allowed(self, row: &Row) -> bool {
        match self {
            // A join token stands for nobody but in a join.
            Column::Of(Caller::Joiner) => row.allows(Caller::Joiner) || row.allows(Caller::Nobody),
            Column::Of(caller) => row.allows(caller),
            Column::FirstAdmin => row.allows(Caller::Admin),
            _ => false,
        }
    }

    /// How it is refused.
    fn refusal(self) -> Verdict {
        match self {
            Column::WrongAuthority | Column::Expired => Verdict::NoHandshake,
            Column::Of(Caller::Joiner | Caller::Nobody)
            | Column::RemovedUser
            | Column::DisabledUser
            | Column::RemovedNode
            | Column::ExpiredDeployToken => Verdict::Unauthenticated,
            Column::Of(_) | Column::FirstAdmin => Verdict::Denied,
        }
    }

    /// Whose proofs do not fail may come from one address.
    fn proves_itself(self) -> bool {
        match self {
            Column::Of(caller) => !matches!(caller, Caller::Joiner | Caller::Nobody),
            Column::FirstAdmin | Column::RemovedUser | Column::DisabledUser | Column::RemovedNode => true,
            Column::WrongAuthority | Column::Expired | Column::ExpiredDeployToken => false,
        }
    }

    /// A connection to manager `manager` as this one has it.
    fn channel(self, site: &Site<'_>, manager: usize) -> Result<Channel> {
        let cast = &site.cast;
        let papers: Option<&Papers> = match self {
            Column::Of(Caller::Admin) => Some(&cast.admin),
            Column::Of(Caller::Operator) => Some(&cast.operator),
            Column::Of(Caller::Team) => Some(&cast.team),
            Column::Of(Caller::Beamline) => Some(&cast.beamline),
            Column::Of(Caller::Viewer) => Some(&cast.viewer),
            Column::Of(Caller::Manager) => Some(&cast.manager),
            Column::Of(Caller::Node) => Some(&cast.n1.papers),
            Column::FirstAdmin => Some(&cast.first),
            Column::WrongAuthority => Some(&cast.forged),
            Column::Expired => Some(&cast.expired),
            Column::RemovedUser => Some(&cast.removed),
            Column::DisabledUser => Some(&cast.disabled),
            Column::RemovedNode => Some(&cast.removed_node.papers),
            Column::Of(Caller::Deployer | Caller::Joiner | Caller::Nobody) | Column::ExpiredDeployToken => {
                None
            }
        };
        let tls = match (self, papers) {
            (_, Some(papers)) => site.tls(papers)?,
            (Column::Of(Caller::Joiner), None) => {
                ClientTls::pinned(*cast.join_token.fingerprint().as_bytes())?
            }
            (_, None) => ClientTls::anonymous(&site.authority)?,
        };
        let from_here = papers.is_some() && self.proves_itself();
        let address = if from_here { site.cluster.address(manager) } else { site.elsewhere(manager) };
        Ok(block_on(async { channel(&address, tls) }))
    }
}

/// Tries every cell; on every manager, or on one each in turn.
///
/// # Errors
/// A client cannot be made.
pub fn run(site: &Site<'_>, every_manager: bool, tally: &mut Tally) -> Result<()> {
    tally.begin("matrix");
    let managers = site.cluster.managers().len();
    let rows = rows();
    for (place, column) in Column::all().enumerate() {
        let mut clients = Clients { site, column, kept: BTreeMap::new() };
        for (number, row) in rows.iter().enumerate() {
            let turn = (number + place) % managers;
            let all = if every_manager { 0..managers } else { turn..turn + 1 };
            for manager in all {
                cell(&mut clients, row, manager, tally)?;
            }
        }
    }
    methods(site, tally)
}

fn cell(clients: &mut Clients<'_>, row: &Row, manager: usize, tally: &mut Tally) -> Result<()> {
    let column = clients.column;
    let allowed = column.allowed(row);
    if allowed && row.changes {
        return Ok(());
    }
    let client = clients.of(manager)?;
    let answer = clients.site.ask(&client, &presented(clients.site, column, &row.request));
    let expected = match allowed {
        _ if row.is_proof() && column.refusal() != Verdict::NoHandshake => {
            wrong_proof(column, row, &answer, tally);
            return Ok(());
        }
        true => Verdict::Allowed,
        false => column.refusal(),
    };
    judge(&format!("{} by {column:?} at manager {manager}", row.name), expected, &answer, tally);
    Ok(())
}

/// What brings a wrong proof gets nothing, whoever brings it; a join token is a right one.
fn wrong_proof(column: Column, row: &Row, answer: &Answer, tally: &mut Tally) {
    tally.cells += 1;
    let decided = answer.verdict != Verdict::Undecided;
    if !(answer.refused && decided && !answer.said.is_empty()) {
        tally
            .wrong
            .push(format!("matrix: {} by {column:?}: {:?}: {}", row.name, answer.verdict, answer.said));
    }
}

/// Counts a cell and compares.
fn judge(what: &str, expected: Verdict, answer: &Answer, tally: &mut Tally) {
    tally.cells += 1;
    let (found, said) = (answer.verdict, &answer.said);
    if found != expected {
        tally.wrong.push(format!("matrix: {what}: {found:?}, not {expected:?}: {said}"));
    } else if answer.refused && said.is_empty() {
        tally.wrong.push(format!("matrix: {what}: refused without a word"));
    }
}

/// Clients of a column, by manager.
struct Clients<'a> {
    site: &'a Site<'a>,
    column: Column,
    kept: BTreeMap<usize, Client>,
}

impl Clients<'_> {
    fn of(&mut self, manager: usize) -> Result<Client> {
        if let Some(kept) = self.kept.get(&manager) {
            return Ok(kept.clone());
        }
        let client = Client::on(self.column.channel(self.site, manager)?);
        let cast = &self.site.cast;
        let client = match self.column {
            Column::Of(Caller::Deployer) => client.bearing(&cast.deploy_token),
            Column::ExpiredDeployToken => client.bearing(&cast.expired_deploy_token),
            _ => client,
        };
        if self.column.proves_itself() {
            self.kept.insert(manager, client.clone());
        }
        Ok(client)
    }
}

/// The request; one who joins presents the token.
fn presented(site: &Site<'_>, column: Column, request: &Request) -> Request {
    let mut request = request.clone();
    if let (Column::Of(Caller::Joiner), Request::Join(join)) = (column, &mut request) {
        (join.token, join.secret) = (site.cast.join_token.id(), site.cast.join_token.secret().to_vec());
    }
    request
}

/// Calls of the other services, and which caller may make them. Those of the control API are the rest of the matrix.
const METHODS: [(&str, Caller); 3] =
    [("Session", Caller::Node), ("PushLogs", Caller::Node), ("Exchange", Caller::Manager)];

fn methods(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    for column in Column::all() {
        for (method, caller) in METHODS {
            for manager in 0..site.cluster.managers().len() {
                let called = block_on(call(method, column.channel(site, manager)?));
                let answer = match &called {
                    Ok(()) => Answer::done(),
                    Err(status) => Answer::of_status(status),
                };
                let expected = match column {
                    Column::Of(of) if of == caller => Verdict::Allowed,
                    Column::WrongAuthority | Column::Expired => Verdict::NoHandshake,
                    Column::RemovedNode => Verdict::Unauthenticated,
                    // These services ask for no user, whatever has become of one.
                    Column::RemovedUser | Column::DisabledUser
                        if answer.verdict == Verdict::Unauthenticated =>
                    {
                        Verdict::Unauthenticated
                    }
                    _ => Verdict::Denied,
                };
                judge(&format!("{method} by {column:?} at manager {manager}"), expected, &answer, tally);
            }
        }
    }
    Ok(())
}

/// Opens a stream, says nothing, and ends it.
pub(super) async fn call(method: &str, channel: Channel) -> Result<(), Status> {
    match method {
        "Session" => AgentsClient::new(channel).session(tokio_stream::empty()).await.map(drop),
        "PushLogs" => AgentsClient::new(channel).push_logs(tokio_stream::empty()).await.map(drop),
        _ => PeersClient::new(channel).exchange(tokio_stream::empty()).await.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_every_service_is_in_the_matrix() {
        let files = [
            include_str!("../../../proto/orch/v1/agent.proto"),
            include_str!("../../../proto/orch/v1/control.proto"),
            include_str!("../../../proto/orch/v1/raft.proto"),
        ];
        let calls =
            files.iter().flat_map(|file| file.lines()).filter_map(|line| line.trim().strip_prefix("rpc "));
        let mut found: Vec<&str> = calls.filter_map(|call| call.split('(').next()).collect();
        let mut tried: Vec<&str> =
            METHODS.iter().map(|(name, _)| *name).chain(["Call", "Watch", "Logs"]).collect();
        found.sort_unstable();
        tried.sort_unstable();
        assert_eq!(found, tried);
    }
}
