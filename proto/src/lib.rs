//! What crosses the wire and what lies in the log: the gRPC services and the one encoding of the model's values.
//!
//! [`v1`] holds the generated services: typed envelopes for routing, identity and flow. The objects inside are encoded
//! by [`codec`], so that each has one definition (in `model`), not three twins. Not here: sockets and TLS (`rpc`).

pub mod codec;

/// The services of `orch/v1/*.proto`. Behind the feature `services`, so that the cores link no runtime.
#[cfg(feature = "services")]
#[allow(missing_docs, reason = "generated code; the proto files hold the documentation")]
pub mod v1 {
    tonic::include_proto!("orch.v1");
}
