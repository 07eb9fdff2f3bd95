//! The cluster's authority as people and scripts see it.

use model::{
    node::NodeState,
    request::{AuthorityView, NodeBehind},
    time::ClusterTime,
};
use pki::CaCertificate;
use serde::Serialize;

use super::age;
use crate::exit::Failure;

/// `authority show --json`
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    fingerprint: String,
    valid_until: ClusterTime,
    /// Certificates of a former authority count still.
    rotating: bool,
    former: Vec<Former>,
    managers: &'a [String],
    nodes: &'a [NodeBehind],
    deploy_tokens: &'a [String],
    certificate: &'a str,
}

#[derive(Debug, Serialize)]
struct Former {
    fingerprint: String,
    replaced: ClusterTime,
    trusted: bool,
}

/// For scripts.
///
/// # Errors
/// A manager says what is no certificate.
pub fn json(view: &AuthorityView) -> Result<Document<'_>, Failure> {
    let read = |pem: &str| {
        CaCertificate::from_pem(pem).map_err(|error| Failure::error(format!("the authority: {error}")))
    };
    let certificate = read(&view.certificate)?;
    let former = view.former.iter().map(|former| {
        let fingerprint = read(&former.certificate)?.fingerprint().to_string();
        Ok(Former { fingerprint, replaced: former.replaced, trusted: former.trusted })
    });
    Ok(Document {
        fingerprint: certificate.fingerprint().to_string(),
        valid_until: ClusterTime(certificate.validity().not_after.0),
        rotating: view.former.first().is_some_and(|former| former.trusted),
        former: former.collect::<Result<_, Failure>>()?,
        managers: &view.managers,
        nodes: &view.nodes,
        deploy_tokens: &view.deploy_tokens,
        certificate: &view.certificate,
    })
}

/// For people.
pub fn text(view: &AuthorityView, now: ClusterTime) -> String {
    let mut lines = match CaCertificate::from_pem(&view.certificate) {
        Ok(certificate) => vec![
            format!("fingerprint  {}", certificate.fingerprint()),
            format!("valid until  {}", age::date(ClusterTime(certificate.validity().not_after.0))),
        ],
        Err(error) => vec![format!("the certificate cannot be read: {error}")],
    };
    let Some(former) = view.former.first() else { return lines.join("\n") };
    let ago = age::since(former.replaced, now);
    if !former.trusted {
        lines.push(format!("replaced another one {ago} ago; what that has issued counts no more"));
        return lines.join("\n");
    }
    lines.push(format!(
        "replaced another one {ago} ago; what that has issued counts still, until: orchctl authority finish"
    ));
    let away: Vec<&NodeBehind> = view.nodes.iter().filter(|node| node.state != NodeState::Ready).collect();
    let up = view.nodes.iter().filter(|node| node.state == NodeState::Ready);
    let up: Vec<&str> = up.map(|node| node.name.as_str()).collect();
    let back = |returns| {
        let names = away.iter().filter(move |node| node.returns == returns);
        names.map(|node| node.name.as_str()).collect::<Vec<_>>()
    };
    let managers: Vec<&str> = view.managers.iter().map(String::as_str).collect();
    let tokens: Vec<&str> = view.deploy_tokens.iter().map(String::as_str).collect();
    let parts = [
        ("managers that have no certificate of it yet", managers),
        ("nodes that have none yet", up),
        ("nodes that are away, and come back by themselves", back(true)),
        ("nodes that are away, and need a join token after the end", back(false)),
        ("deploy tokens that end with it: make new ones", tokens),
    ];
    let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
    lines.extend(parts.map(|(what, names)| format!("{what}: {}", names.join(", "))));
    lines.push(
        "people: certificates from before end with it; orchctl login or orchctl context renew gets another"
            .to_owned(),
    );
    lines.join("\n")
}
