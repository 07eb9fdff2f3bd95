//! Calls that another manager has to answer: handed on with the caller's identity, which this manager vouches for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use model::id::MemberId;
use proto::v1::control_client::ControlClient;
use rpc::tls::{ClientTls, channel};
use tonic::transport::Channel;

use super::MAX_MESSAGE;

/// Channels to the other managers' control service, opened when first needed.
#[derive(Clone)]
pub struct Forwarder {
    tls: ClientTls,
    open: Arc<Mutex<HashMap<(MemberId, String), Channel>>>,
}

impl Forwarder {
    /// None yet.
    pub fn new(tls: ClientTls) -> Self {
        Self { tls, open: Arc::default() }
    }

    /// A client of the member at that address.
    pub fn client(&self, member: MemberId, address: &str) -> ControlClient<Channel> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (member, address.to_owned());
        let channel = open.entry(key).or_insert_with(|| channel(address, self.tls.clone())).clone();
        ControlClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}
