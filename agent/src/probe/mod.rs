//! Asks containers what their probes ask: over the node's own way to them, or by a program inside.
//!
//! Each question is work of its own with a limit; what it found is one short line. Nothing is decided here.

mod exec;
mod grpc;
mod http;

use std::net::SocketAddrV4;

use agent_core::probes::ProbeRequest;
use model::probe::Check;
use tokio::net::TcpStream;

use crate::engine::Engine;

/// Asks, and says what was wrong with the answer.
///
/// # Errors
/// The container did not answer in time, or not as the check wants; in words.
pub async fn ask(engine: Engine, request: ProbeRequest) -> Result<(), String> {
    let limit = request.timeout;
    match tokio::time::timeout(limit, answer(&engine, &request)).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(format!("{}: no answer within {limit:?}", name(&request.check))),
    }
}

async fn answer(engine: &Engine, request: &ProbeRequest) -> Result<(), String> {
    let at = |port| request.address.map(|address| SocketAddrV4::new(address, port));
    let nowhere = || format!("{}: the container has no address that this node reaches", name(&request.check));
    let answer = match &request.check {
        Check::Http(check) => http::ask(at(check.port).ok_or_else(nowhere)?, check).await,
        Check::Tcp(port) => connect(at(*port).ok_or_else(nowhere)?).await.map(drop),
        Check::Grpc(check) => grpc::ask(at(check.port).ok_or_else(nowhere)?, &check.service).await,
        Check::Exec(command) => exec::ask(engine, &request.container, command).await,
    };
    answer.map_err(|why| format!("{}: {why}", name(&request.check)))
}

async fn connect(address: SocketAddrV4) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    })
}

/// What was asked, in few words.
fn name(check: &Check) -> String {
    match check {
        Check::Http(check) => {
            let method = if check.method.is_empty() { "GET" } else { &check.method };
            format!("{method} :{}{}", check.port, http::path(check))
        }
        Check::Tcp(port) => format!("TCP :{port}"),
        Check::Grpc(check) if check.service.is_empty() => format!("gRPC :{}", check.port),
        Check::Grpc(check) => format!("gRPC :{} {}", check.port, check.service),
        Check::Exec(command) => command.join(" "),
    }
}
