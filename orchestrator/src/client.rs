//! Calls of this program to other managers' control API: join, leave, transfer, renewal of the own certificate.

use anyhow::{Context, Result, bail};
use model::request::{ApiError, Reply, Request};
use proto::{
    codec,
    v1::{CallRequest, call_reply::Outcome, control_client::ControlClient},
};
use rpc::tls::{ClientTls, TlsError, channel};

use crate::entropy;

/// A call without an answer for so long has failed.
const DEADLINE_MS: u64 = 30_000;

/// Asks the managers in turn until one answers.
pub async fn call(managers: &[String], tls: &ClientTls, request: &Request) -> Result<Reply> {
    let request_id = entropy::number()?;
    let mut failures = Vec::new();
    for address in managers {
        let message = CallRequest {
            request: codec::encode(request),
            request_id,
            stale: false,
            deadline_ms: DEADLINE_MS,
            ..CallRequest::default()
        };
        match ControlClient::new(channel(address, tls.clone())).call(message).await {
            Ok(reply) => return answer(reply.into_inner().outcome),
            Err(status) => {
                let why = TlsError::in_chain(&status).map_or(status.message().to_owned(), |e| e.to_string());
                failures.push(format!("{address}: {why}"));
            }
        }
    }
    bail!("no manager could be asked:\n  {}", failures.join("\n  "))
}

fn answer(outcome: Option<Outcome>) -> Result<Reply> {
    match outcome.context("an empty answer")? {
        Outcome::Reply(bytes) => Ok(codec::decode(&bytes)?),
        Outcome::Error(bytes) => Err(codec::decode::<ApiError>(&bytes)?.into()),
    }
}
