//! Streams that end with the right to them: what a user or a deploy token's bearer watches and reads ends within a second of the
//! user, the role or the token, however that ends. A token's are held by the leader only; with the lead they end too, and
//! the next leader verifies the token anew.

use std::time::Duration;

use model::{
    identity::Identity,
    request::{ApiError, ErrorCode, Request},
    time::Instant,
};

use crate::{Manager, manager::ByHandle};

/// Tokens expire without an entry in the log: so often is looked while somebody holds a stream.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The open ones.
#[derive(Default)]
pub(crate) struct Held {
    open: ByHandle<(Identity, Request)>,
    /// Identities changed since the last look.
    stale: bool,
    look_at: Instant,
}

impl Held {
    pub(crate) fn remove(&mut self, handle: u64) {
        self.open.remove(&handle);
    }

    /// Tokens or users were made, changed or ended.
    pub(crate) fn identities_changed(&mut self) {
        self.stale = true;
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        (!self.open.is_empty()).then_some(self.look_at)
    }
}

impl Manager {
    /// From now on a stream ends when its owner may not have it any more; says whether it is of such a one.
    pub(crate) fn hold(&mut self, handle: u64, identity: &Identity, request: &Request) -> bool {
        let held = matches!(identity, Identity::Deployer { .. } | Identity::User { .. });
        if held {
            if self.held.open.is_empty() {
                self.held.look_at = self.now.mono + LOOK_EVERY;
            }
            self.held.open.insert(handle, (identity.clone(), request.clone()));
        }
        held
    }

    /// Ends the streams of those who may not have them any more. Free while nothing has changed and nothing is due.
    pub(crate) fn cut_unwelcome(&mut self) {
        if self.held.open.is_empty() || (!self.held.stale && self.held.look_at > self.now.mono) {
            return;
        }
        (self.held.stale, self.held.look_at) = (false, self.now.mono + LOOK_EVERY);
        let refusal = |(handle, (identity, request)): (&u64, &(Identity, Request))| {
            self.authorize(identity, request).err().map(|error| (*handle, error))
        };
        let refused: Vec<_> = self.held.open.iter().filter_map(refusal).collect();
        for (handle, error) in refused {
            self.end_stream(handle, error);
        }
    }

    /// The lead ended, and with it what only a leader verifies.
    pub(crate) fn end_held(&mut self) {
        let by_token = |identity: &Identity| matches!(identity, Identity::Deployer { .. });
        let open = self.held.open.iter().filter(|(_, (identity, _))| by_token(identity));
        for handle in open.map(|(handle, _)| *handle).collect::<Vec<_>>() {
            let message = "the lead changed; ask the next leader";
            self.end_stream(handle, ApiError::new(ErrorCode::Unavailable, message));
        }
    }

    fn end_stream(&mut self, handle: u64, error: ApiError) {
        self.held.remove(handle);
        self.watchers.remove(handle);
        self.reply(handle, Err(error));
    }
}
