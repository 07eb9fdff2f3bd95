//! Deploy tokens: made, used, ended.

use std::sync::Arc;

use model::{
    cluster::Cluster,
    command::{Answer, Rejection},
    deployer::{DeployToken, DeployTokenSpec, MAX_DEPLOY_TOKENS, TokenDigest},
    id::DeployTokenId,
    identity::Identity,
    time::ClusterTime,
};

use crate::{requests::Outcome, resolve::missing, write::Writer};

impl Writer<'_> {
    pub(super) fn create_deploy_token(
        &mut self,
        id: DeployTokenId,
        spec: &DeployTokenSpec,
        digest: TokenDigest,
        expires: ClusterTime,
    ) -> Outcome {
        let cluster = self.cluster()?;
        let mut tokens = (*cluster.deploy_tokens).clone();
        if tokens.iter().any(|token| token.spec.name == spec.name || token.id == id) {
            return Err(Rejection::Exists { kind: "deploy token".into(), name: spec.name.clone() });
        }
        if expires <= self.at {
            return Err(Rejection::Invalid("a token without time would let nobody in".into()));
        }
        let oldest = tokens.iter().filter(|token| token.expires <= self.at).min_by_key(|token| token.expires);
        if tokens.len() >= MAX_DEPLOY_TOKENS {
            // One that has ended is kept for people to see why their pipeline fails, not for its own sake.
            let oldest = oldest.map(|token| token.id).ok_or_else(|| {
                let message = format!(
                    "there are {MAX_DEPLOY_TOKENS} deploy tokens, the most there may be; remove some"
                );
                Rejection::Conflict(message)
            })?;
            tokens.retain(|token| token.id != oldest);
        }
        let (by, created) = (self.actor.clone(), self.at);
        tokens.push(DeployToken {
            id,
            spec: spec.clone(),
            digest,
            by,
            created,
            expires,
            used: None,
            job: None,
        });
        tokens.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        self.put_deploy_tokens(&cluster, tokens);
        Ok(Answer::DeployToken { id, expires })
    }

    pub(super) fn remove_deploy_token(&mut self, name: &str) -> Outcome {
        let cluster = self.cluster()?;
        let mut tokens = (*cluster.deploy_tokens).clone();
        tokens.retain(|token| token.spec.name != name);
        if tokens.len() == cluster.deploy_tokens.len() {
            return Err(missing("deploy token", name));
        }
        self.put_deploy_tokens(&cluster, tokens);
        Ok(Answer::Done)
    }

    /// A change of a deploy token's bearer was applied.
    pub(super) fn note_use(&mut self) {
        let Identity::Deployer { id, .. } = self.actor else { return };
        let Some(cluster) = self.store.cluster.clone() else { return };
        let mut tokens = (*cluster.deploy_tokens).clone();
        if let Some(token) = tokens.iter_mut().find(|token| token.id == *id) {
            token.used = Some(self.at);
            self.put_deploy_tokens(&cluster, tokens);
        }
    }

    fn put_deploy_tokens(&mut self, cluster: &Cluster, tokens: Vec<DeployToken>) {
        let (deploy_tokens, generation) = (Arc::new(tokens), self.generation);
        self.put_cluster(Cluster { deploy_tokens, generation, ..cluster.clone() });
    }
}
