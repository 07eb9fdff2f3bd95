//! The check before anything is sent: every problem at once, and advice that is no problem.

use model::{
    service::ServiceSpec,
    validate::{lint_service, validate_service},
};

use crate::{exit::Failure, output};

/// Refuses a declaration that the cluster would refuse, and warns about what it would accept but nobody should want.
///
/// # Errors
/// All problems, each with its path.
pub fn check(spec: &ServiceSpec) -> Result<(), Failure> {
    let problems = validate_service(spec);
    if !problems.is_empty() {
        return Err(problems.into());
    }
    for advice in lint_service(spec) {
        output::warn(advice.to_string());
    }
    Ok(())
}
