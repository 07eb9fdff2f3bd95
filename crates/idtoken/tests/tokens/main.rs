//! Tokens and key sets, as issuers sign and publish them and as others forge them.

mod issuer;
mod keys;
mod verify;
