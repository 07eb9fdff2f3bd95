//! What went wrong, sorted by what the agent does about it.
//!
//! The engine says most things in prose. The phrases below are the ones of Docker Engine 20.10 to 29; what none of them
//! fits is [`EngineErrorKind::Other`], which the agent tries again a few times and never reads as "gone".

use agent_core::engine::{EngineError, EngineErrorKind as Kind};
use bollard::errors::Error as DockerError;

/// What was being done; the same status means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Fetching an image.
    Pull,
    /// Making a container.
    Create,
    /// Anything with a container that exists.
    Use,
}

const PORT_TAKEN: [&str; 2] = ["port is already allocated", "address already in use"];
const MOUNT_MISSING: [&str; 2] =
    ["bind source path does not exist", "error while creating mount source path"];
const INVALID: [&str; 5] = [
    "OCI runtime create failed",
    "executable file not found",
    "invalid reference format",
    "failed to create shim task",
    "unable to find user",
];
const NO_SUCH_IMAGE: [&str; 5] = [
    "manifest unknown",
    "repository does not exist",
    "not found: manifest",
    "no matching manifest",
    "requested access to the resource is denied",
];

const DENIED: [&str; 3] = ["unauthorized", "no basic auth credentials", "authentication required"];

/// Sorts an error of the engine or of the way to it.
pub fn sorted(doing: Doing, error: &DockerError) -> EngineError {
    let (kind, message) = match error {
        DockerError::DockerResponseServerError { status_code, message } => {
            (of_status(doing, *status_code, message), message.clone())
        }
        DockerError::DockerStreamError { error } => (of_stream(doing, error), error.clone()),
        DockerError::RequestTimeoutError => (Kind::Timeout, "the engine did not answer in time".to_owned()),
        DockerError::IOError { .. }
        | DockerError::HyperResponseError { .. }
        | DockerError::HyperLegacyError { .. }
        | DockerError::SocketNotFoundError(_) => (Kind::Unavailable, chain(error)),
        other => (Kind::Other, chain(other)),
    };
    EngineError { kind, message }
}

fn of_status(doing: Doing, status: u16, message: &str) -> Kind {
    match (doing, status) {
        (_, 503) => Kind::Unavailable,
        (Doing::Pull, _) => of_stream(doing, message),
        (Doing::Create, 404) if message.contains("No such image") => Kind::ImageMissing,
        // A container whose network was removed by hand is there; only its network is not.
        (_, 404) if message.contains("network") => Kind::Other,
        (Doing::Use, 404) => Kind::NotFound,
        (_, 409) => Kind::Conflict,
        _ if says(message, &PORT_TAKEN) => Kind::PortTaken,
        _ if says(message, &MOUNT_MISSING) => Kind::MountMissing,
        (_, 400) => Kind::Invalid,
        _ if says(message, &INVALID) => Kind::Invalid,
        _ => Kind::Other,
    }
}

fn of_stream(doing: Doing, message: &str) -> Kind {
    match doing {
        Doing::Pull if says(message, &NO_SUCH_IMAGE) => Kind::ImageMissing,
        Doing::Pull if says(message, &DENIED) => Kind::ImageDenied,
        Doing::Pull if says(message, &INVALID) => Kind::Invalid,
        Doing::Pull => Kind::ImagePullFailed,
        Doing::Create | Doing::Use => Kind::Other,
    }
}

fn says(message: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| message.contains(phrase))
}

/// An error with its causes: "client error (Connect): connection refused" rather than the first half.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(doing: Doing, status_code: u16, message: &str, expected: Kind) {
        let error = DockerError::DockerResponseServerError { status_code, message: message.to_owned() };
        assert_eq!(sorted(doing, &error).kind, expected, "{message}");
    }

    #[test]
    fn what_the_engine_says_is_sorted_by_what_to_do_about_it() {
        check(Doing::Create, 404, "No such image: app:1", Kind::ImageMissing);
        check(Doing::Create, 409, "Conflict. The container name \"/x\" is already in use", Kind::Conflict);
        let mount = "invalid mount config for type \"bind\": bind source path does not exist: /data";
        check(Doing::Create, 400, mount, Kind::MountMissing);
        check(Doing::Create, 400, "invalid CPU set", Kind::Invalid);
        check(Doing::Create, 500, "something", Kind::Other);
        check(Doing::Use, 404, "No such container: x", Kind::NotFound);
        let port = "driver failed programming external connectivity: Bind for 0.0.0.0:80 failed: port is already allocated";
        check(Doing::Use, 500, port, Kind::PortTaken);
        check(Doing::Use, 500, "listen tcp4 0.0.0.0:80: bind: address already in use", Kind::PortTaken);
        let exec = "OCI runtime create failed: exec: \"nope\": executable file not found in $PATH: unknown";
        check(Doing::Use, 400, exec, Kind::Invalid);
        check(Doing::Use, 409, "removal of container x is already in progress", Kind::Conflict);
        check(Doing::Pull, 404, "pull access denied for app, repository does not exist", Kind::ImageMissing);
        check(Doing::Pull, 500, "Get \"https://r/v2/\": dial tcp: no such host", Kind::ImagePullFailed);
    }

    #[test]
    fn an_engine_that_is_not_reached_is_never_read_as_an_answer() {
        let refused = DockerError::IOError { err: std::io::ErrorKind::ConnectionRefused.into() };
        for doing in [Doing::Pull, Doing::Create, Doing::Use] {
            assert_eq!(sorted(doing, &refused).kind, Kind::Unavailable);
        }
        let missing = DockerError::SocketNotFoundError("/run/x.sock".to_owned());
        assert_eq!(sorted(Doing::Use, &missing).kind, Kind::Unavailable);
        assert_eq!(sorted(Doing::Use, &DockerError::RequestTimeoutError).kind, Kind::Timeout);
    }
}
