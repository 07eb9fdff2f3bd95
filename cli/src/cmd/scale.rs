//! `scale`, and the end that all changes of services have in common: wait, then say what there is now.

use model::{
    id::ServiceId,
    request::{Reference, Request, ServiceView},
    service::Mode,
};

use super::Session;
use crate::{
    args::{Scale, WaitFlags},
    client::Client,
    exit::{Code, Failure},
    output::{self, json, progress::Progress},
    spec::problems::Problems,
    value,
    wait::{self, Target, converge::Expected},
};

/// `scale a=3 b=2`
pub async fn run(session: &Session, scale: Scale) -> Result<Code, Failure> {
    let wanted = targets(&scale.targets)?;
    let client = session.client()?;
    let mut targets = Vec::new();
    let mut problems = Problems::default();
    for (reference, _) in &wanted {
        let service = wait::view(&client, reference.clone()).await?.0.service;
        if service.spec.mode == Mode::Global {
            problems.add(reference, "is global: it has one task on every node that fits, no count");
        }
        if targets.iter().any(|target: &Target| target.id == service.id) {
            problems.add(reference, "is named twice");
        }
        let expected = Expected { before: service.rollout, ..Expected::default() };
        targets.push(Target { id: service.id, name: service.spec.name.clone(), expected });
    }
    problems.finish(())?;
    let (_, index) = client.change(Request::ScaleServices(wanted)).await?;
    finish(session, &client, targets, index, &scale.wait).await
}

fn targets(texts: &[String]) -> Result<Vec<(Reference, u32)>, Failure> {
    let mut problems = Problems::default();
    let targets = problems.all("SERVICE=REPLICAS", texts, |text| {
        let (name, count) = value::pair(text).map_err(|_| format!("\"{text}\" is no SERVICE=REPLICAS"))?;
        let count = count.parse().map_err(|_| format!("{text}: \"{count}\" is no number of replicas"))?;
        Ok((name, count))
    });
    problems.finish(targets)
}

/// Waits unless that is not wanted, then prints what there is now.
///
/// # Errors
/// The change did not arrive; it may still.
pub async fn finish(
    session: &Session,
    client: &Client,
    mut targets: Vec<Target>,
    index: u64,
    flags: &WaitFlags,
) -> Result<Code, Failure> {
    if flags.detach {
        return Ok(detached(session, &targets, index, flags.quiet));
    }
    let mut progress = Progress::new(flags.quiet || session.global.json);
    let waiting = wait::services(client, &mut targets, index, &mut progress);
    let waited = wait::bounded(client, "the change", waiting).await;
    progress.finish();
    let views = waited?;
    if session.global.json {
        json::print(&serde_json::json!({
            "index": index, "state": "converged", "services": views.iter().map(summary).collect::<Vec<_>>(),
        }));
        return Ok(Code::DONE);
    }
    for view in &views {
        output::print(if flags.quiet { view.service.id.to_string() } else { sentence(view) });
    }
    Ok(Code::DONE)
}

fn detached(session: &Session, targets: &[Target], index: u64, quiet: bool) -> Code {
    if session.global.json {
        let services: Vec<serde_json::Value> =
            targets.iter().map(|t| serde_json::json!({ "id": t.id, "name": t.name })).collect();
        json::print(&serde_json::json!({ "index": index, "state": "accepted", "services": services }));
        return Code::DONE;
    }
    for target in targets {
        output::print(if quiet {
            target.id.to_string()
        } else {
            format!("{}: accepted ({})", target.name, target.id)
        });
    }
    Code::DONE
}

fn healthy(view: &ServiceView) -> usize {
    view.tasks.iter().filter(|task| task.is_active() && task.observed.is_healthy()).count()
}

fn sentence(view: &ServiceView) -> String {
    let healthy = healthy(view);
    let word = if healthy == 1 { "task" } else { "tasks" };
    format!("{}: {healthy} {word} healthy ({})", view.service.spec.name, view.service.id)
}

fn summary(view: &ServiceView) -> serde_json::Value {
    let id: ServiceId = view.service.id;
    serde_json::json!({
        "id": id, "name": view.service.spec.name, "generation": view.service.generation, "healthy": healthy(view),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_target_is_reported() {
        let parse =
            |texts: &[&str]| targets(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(parse(&["a=3", "b=0"]), Ok(vec![("a".into(), 3), ("b".into(), 0)]));
        assert_eq!(parse(&["a", "b=-1", "c=many", "d=1"]).unwrap_err().problems.len(), 3);
    }
}
