//! Where binds lead on this machine. Managers admit the path that a service declares; only here can be seen where its symbolic links lead.
//!
//! A bind is refused when what it leads to gives power over the node, and the declared path is not that place itself, which a policy granted
//! by name; and when it leads to what is the agent's or the engine's own in places that managers do not know. The engine is given the path
//! that was looked at, so that a link which is changed meanwhile leads nowhere else.

use std::{io::ErrorKind, path::PathBuf, sync::Arc};

use agent_core::engine::{ContainerRequest, EngineError, EngineErrorKind};
use model::{
    container::{ContainerSpec, MountSource},
    policy::places::{clean, is_under, protected},
};

/// The request with every bind's own path in place of the declared one. A path that is not there is left to the engine, which says so.
/// `own`: what no service gets.
pub(super) async fn resolved(
    request: &ContainerRequest,
    own: &[String],
) -> Result<ContainerRequest, EngineError> {
    let mut request = request.clone();
    if !request.spec.mounts.iter().any(|mount| matches!(mount.source, MountSource::Bind(_))) {
        return Ok(request);
    }
    let mut spec: ContainerSpec = (*request.spec).clone();
    for mount in &mut spec.mounts {
        let MountSource::Bind(source) = &mut mount.source else { continue };
        let real = match tokio::fs::canonicalize(&*source).await {
            Ok(real) => text(source, real)?,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(invalid(format!("cannot look where the mount {source} leads: {error}")));
            }
        };
        judge(source, &real, mount.read_only, own)?;
        *source = real;
    }
    request.spec = Arc::new(spec);
    Ok(request)
}

fn judge(declared: &str, real: &str, read_only: bool, own: &[String]) -> Result<(), EngineError> {
    let path = clean(real);
    let place = protected(&path, read_only);
    if place.is_some() && path == clean(declared) {
        return Ok(());
    }
    if let Some(place) = place {
        return Err(invalid(format!(
            "the mount {declared} leads to {path} on this node, and {place} gives power over it; mount {path} itself, with a grant for it"
        )));
    }
    match own.iter().find(|place| is_under(&path, place) || is_under(place, &path)) {
        Some(place) => Err(invalid(format!("the mount {declared} leads to {place}, which no service gets"))),
        None => Ok(()),
    }
}

fn text(declared: &str, real: PathBuf) -> Result<String, EngineError> {
    let text = real.into_os_string().into_string();
    text.map_err(|real| {
        invalid(format!("the mount {declared} leads to {}, which is no text", real.display()))
    })
}

fn invalid(message: String) -> EngineError {
    EngineError { kind: EngineErrorKind::Invalid, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(declared: &str, real: &str) -> bool {
        judge(declared, real, false, &["/srv/agent".to_owned()]).is_err()
    }

    #[test]
    fn a_link_leads_to_no_place_that_its_own_path_was_not_granted_for() {
        assert!(!refused("/data", "/data") && !refused("/data", "/mnt/disk1"));
        assert!(
            refused("/data/x", "/etc") && refused("/data/x", "/") && refused("/data/s", "/run/docker.sock")
        );
        assert!(!refused("/etc/app", "/etc/app"), "managers admitted it by its name");
        assert!(!refused("/var/run/docker.sock", "/run/docker.sock"), "one place, two names");
        assert!(refused("/etc/app", "/etc/shadow"));
        assert!(
            refused("/srv/agent", "/srv/agent")
                && refused("/srv/x", "/srv/agent/identity")
                && refused("/srv", "/srv")
        );
    }
}
