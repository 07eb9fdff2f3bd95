//! Nodes that want more than what runs on them, or are no nodes any more.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use model::id::TaskId;
use model::node::Facts;
use model::request::{Request, Response, TaskFilter};
use model::session::{AgentMessage, LogFrame, LogOptions, ManagerMessage, TaskReport};
use model::task::{Exit, TaskState};
use proto::codec;
use proto::v1::{LogPush, agents_client::AgentsClient};
use rpc::tls::channel;

use crate::client::block_on;
use crate::trust::answer::{Answer, Verdict};
use crate::trust::node::{Talker, facts};
use crate::trust::site::Site;
use crate::trust::tally::Tally;
use crate::wait;

/// A revocation reaches open streams within a second; a loaded machine has more.
const CUT: Duration = Duration::from_secs(10);

pub fn run(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let [n1, n2] = &site.talkers;
    let of = |talker: &Talker, service: &str| {
        let found = talker.assigned().into_iter().find(|assignment| assignment.service_name == service);
        found.map(|assignment| assignment.task).with_context(|| format!("no task of {service}"))
    };
    let (own, others) = (of(n1, "ispyb")?, of(n2, "shop")?);
    assignments(n1, others, tally)?;
    files(n1, own, others, tally)?;
    pull(n1, others, tally)?;
    report(site, n1, others, tally)?;
    logs(site, tally)?;
    asks(site, tally)?;
    speech(site, tally)?;
    removed(site, tally)
}

/// What is silently not given.
fn withheld(given: bool) -> Answer {
    if given { Answer::done() } else { Answer::refused(Verdict::Denied, "") }
}

fn assignments(n1: &Talker, others: TaskId, tally: &mut Tally) -> Result<()> {
    n1.say(AgentMessage::NeedFullSet);
    n1.catch_up(10)?;
    let given = n1.assigned().iter().any(|assignment| assignment.task == others);
    tally.tried("a node that is told another's assignments", &withheld(given)).silently();
    Ok(())
}

fn files(n1: &Talker, own: TaskId, others: TaskId, tally: &mut Tally) -> Result<()> {
    n1.say(AgentMessage::FileWish { task: others });
    n1.say(AgentMessage::FileWish { task: own });
    n1.catch_up(1)?;
    wait::until_true("its own secrets", CUT, || !n1.files_of(own).is_empty())?;
    let given = !n1.files_of(others).is_empty();
    tally.tried("a node that asks for the secrets of another's task", &withheld(given)).silently();
    let got = n1.files_of(own).len();
    tally.holds("a node gets the secret and the config of its own task", got == 2);
    Ok(())
}

/// With an image whose registry has a login.
fn pull(n1: &Talker, others: TaskId, tally: &mut Tally) -> Result<()> {
    n1.say(AgentMessage::PullWish { pull: others, image: "registry.invalid/x:1".into() });
    n1.catch_up(2)?;
    let given = n1
        .messages()
        .iter()
        .any(|message| matches!(message, ManagerMessage::PullGranted { pull, .. } if *pull == others));
    tally.tried("a node that asks for the login of another's image", &withheld(given)).silently();
    Ok(())
}

fn report(site: &Site<'_>, n1: &Talker, others: TaskId, tally: &mut Tally) -> Result<()> {
    let row = || -> Result<_> {
        let filter = TaskFilter { all: true, ..TaskFilter::default() };
        let Response::Tasks(rows) = site.admin(&Request::ListTasks(filter))? else {
            anyhow::bail!("no tasks")
        };
        rows.into_iter().find(|row| row.task.id == others).map(|row| row.task).context("the other's task")
    };
    let before = row()?;
    let mut observed = before.observed.clone();
    observed.state = TaskState::Failed;
    observed.exit = Some(Box::new(Exit { code: 1, oom: false, message: "it burns".into() }));
    n1.say(AgentMessage::Report(vec![TaskReport { task: others, observed }]));
    n1.catch_up(3)?;
    // Whatever a report becomes is applied before the next change of this admin.
    site.admin(&Request::SetSettings(model::cluster::ClusterSettings::default()))?;
    let taken = row()?.observed != before.observed;
    tally.tried("a node that says that another's task failed", &withheld(taken)).silently();
    Ok(())
}

/// Frames for a stream that it was not asked for.
fn logs(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let tls = site.tls(&site.cast.n1.papers)?;
    let frame = codec::encode(&LogFrame::End(None));
    let pushed = block_on(async {
        let mut client = AgentsClient::new(channel(&site.cluster.address(0), tls));
        client.push_logs(tokio_stream::once(LogPush { stream: 1, frame })).await.map(drop)
    });
    let answer = pushed.err().map_or_else(Answer::done, |status| Answer::of_status(&status));
    tally.tried("a node that writes into a log that nobody asked it for", &answer).saying(&["nobody waits"]);
    Ok(())
}

/// Questions that people may ask.
fn asks(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let client = site.client(&site.cast.n1.papers, 1 % site.cluster.managers().len())?;
    let logs = Request::Logs { of: "shop".into(), options: LogOptions::default() };
    for (name, request) in [
        ("a node that reads another's logs", logs),
        ("a node that lists nodes", Request::ListNodes),
        ("a node that looks at a service", Request::GetService("shop".into())),
        ("a node that watches events", Request::Watch { after: None, until: None }),
        ("a node that reads the audit", Request::GetAudit { after: 0 }),
    ] {
        tally.tried(name, &site.ask(&client, &request)).saying(&["may only renew its own certificate"]);
    }
    let drain = Request::RemoveNode { node: "n2".into(), force: true };
    let who = format!("node {}", site.cast.n1.id);
    tally
        .tried("a node that removes another", &site.ask(&client, &drain))
        .saying(&["only renew"])
        .on_record(&who, "remove");
    Ok(())
}

/// A conversation that does not begin as it has to.
fn speech(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let papers = site.join("n5")?;
    let leader = site.cluster.address(site.cluster.leader()?);
    let talker = Talker::mute(papers.id, &leader, site.tls(&papers.papers)?);
    talker.say(AgentMessage::Facts(facts("n5")));
    let end = wait::until("the end of a session without a hello", CUT, || talker.end())?;
    tally.tried("a node that does not say hello first", &Answer::refused(Verdict::Denied, end)).silently();
    let huge = Facts { hostname: "h".repeat(100_000), ..facts("n5") };
    let talker = Talker::open(papers.id, &leader, site.tls(&papers.papers)?, huge);
    let welcome = talker.welcome();
    let answer = welcome
        .err()
        .map_or_else(Answer::done, |error| Answer::refused(Verdict::Denied, format!("{error:#}")));
    tally.tried("a node with a name of 100,000 letters", &answer).silently();
    Ok(())
}

/// One that works, and is removed meanwhile.
fn removed(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let papers = site.join("n4")?;
    let leader = site.cluster.address(site.cluster.leader()?);
    let tls = site.tls(&papers.papers)?;
    let talker = Talker::open(papers.id, &leader, tls.clone(), facts("n4"));
    talker.welcome()?;
    talker.catch_up(1)?;
    ensure!(talker.end().is_none(), "its session is open");
    site.admin(&Request::RemoveNode { node: "n4".into(), force: true })?;
    let end = wait::until("the end of a removed node's session", CUT, || talker.end()).ok();
    tally.tried("a removed node on its open stream", &withheld(end.is_none())).silently();
    for manager in 0..site.cluster.managers().len() {
        let again = Talker::open(papers.id, &site.cluster.address(manager), tls.clone(), facts("n4"));
        let end = wait::until("the end of its next session", CUT, || again.end()).ok();
        let answer = end.map_or_else(Answer::done, |end| Answer::refused(Verdict::Unauthenticated, end));
        tally
            .tried(format!("a removed node that comes back, at manager {manager}"), &answer)
            .saying(&["was removed"]);
    }
    Ok(())
}
