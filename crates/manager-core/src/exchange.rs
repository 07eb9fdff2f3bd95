//! Sessions of pipelines: a job's ID token, which the shell has verified, for a deploy token that lives for an hour at most.
//!
//! Which keys verified it, which binding lets the job in and whether the token was used before are decided on one state; applying the
//! session asks again whether issuer and binding are still those.

use model::{
    binding::{ExchangeRequest, MAX_SESSION, choose},
    command::Command,
    id::DeployTokenId,
    request::{ApiError, ErrorCode},
    time::ClusterTime,
};

use crate::Manager;

impl Manager {
    /// The time that the next entry would get: never before that of an entry, whichever manager's clock it was.
    pub fn cluster_time(&self) -> ClusterTime {
        self.stamps.peek(self.now)
    }

    /// # Errors
    /// Denied: no binding lets the job in; the message names the rule. Unavailable: nobody has verified the token.
    pub(crate) fn exchange(&mut self, exchange: ExchangeRequest) -> Result<Command, ApiError> {
        let ExchangeRequest { binding: named, digest, proof, .. } = exchange;
        let Some(proof) = proof else {
            // The lead came here after the shell had looked.
            return Err(ApiError::new(ErrorCode::Unavailable, "the lead has just changed; ask again"));
        };
        self.same_versions("a session of a pipeline")?;
        let bindings = self.store.bindings();
        let chosen = choose(bindings, &proof.issuer, named.as_deref(), &proof.claims);
        let chosen = chosen.map_err(|why| {
            let message =
                format!("the ID token is the issuer's, and is refused: {why}; ask an administrator");
            ApiError::new(ErrorCode::Denied, message)
        })?;
        let (binding, expected) = (chosen.spec.name.clone(), chosen.generation);
        let expires = proof.until.min(self.cluster_time() + MAX_SESSION);
        Ok(Command::Exchange {
            id: DeployTokenId(self.next_id()),
            binding,
            expected,
            issuer: proof.issuer,
            issuer_expected: proof.generation,
            id_token: proof.id_token,
            until: proof.until,
            digest,
            expires,
            job: proof.claims.words(),
        })
    }
}
