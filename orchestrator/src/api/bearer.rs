//! Deploy tokens at the door: read from a call's metadata, and handed on with it.
//!
//! A token is never a field of a request: it comes as `authorization: Bearer …` over TLS, is verified by the leader for every
//! call anew, and is written down nowhere. Its 256 random bits are not guessed; what a flood of wrong ones could do is cost us
//! work: see [`rpc::offences`].

use pki::DeployToken;
use tonic::{Request, Status, metadata::MetadataValue};

const HEADER: &str = "authorization";
const SCHEME: &str = "Bearer ";
/// A token has some 150 letters.
const MAX_TEXT: usize = 512;
/// What every wrong token is told, whichever part of it is wrong.
pub const REFUSED: &str = "the deploy token is not accepted: it is not of this cluster, was removed, or is mistyped; ask an \
                           administrator for a new one";

/// The token that a call presents.
///
/// # Errors
/// There is something, and it is no deploy token.
pub fn presented<T>(request: &Request<T>) -> Result<Option<DeployToken>, Status> {
    let Some(value) = request.metadata().get(HEADER) else { return Ok(None) };
    let refused = || Status::unauthenticated(REFUSED);
    let text = value.to_str().ok().filter(|text| text.len() <= MAX_TEXT);
    let token = text.and_then(|text| text.strip_prefix(SCHEME)).ok_or_else(refused)?;
    token.parse().map(Some).map_err(|_| refused())
}

/// Lets a call present a token.
pub fn present<T>(request: &mut Request<T>, token: &DeployToken) {
    let text = format!("{SCHEME}{}", token.reveal());
    let mut value = MetadataValue::try_from(text).expect("a token is ASCII without control letters");
    value.set_sensitive(true);
    request.metadata_mut().insert(HEADER, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_token_is_refused_without_telling_why() {
        for text in ["Bearer ORCHD1-", "ORCHD1-abc", "Basic YTpi", "Bearer "] {
            let mut request = Request::new(());
            request.metadata_mut().insert(HEADER, text.parse().expect("ASCII"));
            assert_eq!(presented(&request).expect_err(text).message(), REFUSED);
        }
        assert_eq!(presented(&Request::new(())).expect("nothing"), None);
    }
}
