//! One question to any manager that answers, for joining and renewing.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use model::request::{ApiError, ErrorCode, Reply, Request, Response};
use proto::{
    codec,
    v1::{CallRequest, call_reply::Outcome, control_client::ControlClient},
};
use rpc::tls::{ClientTls, TlsError, channel};

/// A manager may have to wait for an election before it can answer.
const DEADLINE: Duration = Duration::from_secs(15);
/// Rounds over all managers before giving up.
const ROUNDS: u32 = 3;
/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks the managers one after the other until one decides. The request id is the same for each, so that a question
/// that was answered without our hearing it is not carried out twice.
///
/// # Errors
/// Refused, or none answers; the message says what each said last.
pub async fn ask(managers: &[String], tls: &ClientTls, request: &Request) -> Result<Response> {
    let call = CallRequest {
        request: codec::encode(request),
        request_id: crate::entropy::number()?,
        stale: false,
        deadline_ms: u64::try_from(DEADLINE.as_millis()).expect("fits"),
        ..CallRequest::default()
    };
    let mut failures = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        failures.clear();
        for address in managers {
            match ask_one(address, tls.clone(), call.clone()).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(refusal)) if !is_passing(refusal.code) => return Err(refusal.into()),
                Ok(Err(refusal)) => failures.push(format!("{address}: {refusal}")),
                Err(error) => failures.push(format!("{address}: {error:#}")),
            }
        }
    }
    bail!("no manager answered:\n  {}", failures.join("\n  "))
}

fn is_passing(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unavailable | ErrorCode::NotLeader | ErrorCode::Deadline | ErrorCode::Exhausted)
}

async fn ask_one(address: &str, tls: ClientTls, call: CallRequest) -> Result<Result<Response, ApiError>> {
    let mut client = ControlClient::new(channel(address, tls));
    let answer = tokio::time::timeout(DEADLINE + PAUSE, client.call(call)).await;
    let answer =
        answer.context("no answer in time")?.map_err(|status| match TlsError::in_chain(&status) {
            Some(error) => anyhow::Error::from(error),
            None => anyhow!("{}", status.message()),
        })?;
    match answer.into_inner().outcome.context("an empty answer")? {
        Outcome::Reply(reply) => Ok(Ok(codec::decode::<Reply>(&reply)?.response)),
        Outcome::Error(error) => Ok(Err(codec::decode::<ApiError>(&error)?)),
    }
}
