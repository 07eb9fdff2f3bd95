//! A client's connection, from its first byte to its last.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Request, StatusCode, Version, header::CONNECTION};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{lean, request::answer};
use crate::mesh::world::World;

/// A request's head comes in this time, and the next one on the same connection too.
pub const HEAD: Duration = Duration::from_secs(10);
/// Of a request's head. More than 100 headers, the library's own bound, are refused as well.
pub const MAX_HEAD: usize = 64 * 1024;
/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 200;
/// An HTTP/2 client that answers no ping is gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How HTTP/2 begins when nobody asked for it.
const PREFACE: &[u8] = b"PRI ";

/// A client's connection as its requests see it.
#[derive(Debug)]
pub struct Arrival {
    /// What all connections share.
    pub world: Arc<World>,
    /// The published port.
    pub port: u16,
    /// From where.
    pub client: SocketAddr,
    /// Over TLS.
    pub secure: bool,
}

/// Serves a plain connection: HTTP/1.1, or HTTP/2 when it begins so.
pub async fn serve(arrival: Arrival, socket: TcpStream) {
    let Some(rest) = lean::serve(&arrival, socket).await else { return };
    if rest.rest().starts_with(PREFACE) {
        Box::pin(serve_http2(arrival, rest)).await;
    } else {
        Box::pin(serve_in_full(arrival, rest)).await;
    }
}

/// Serves HTTP/1.1.
pub async fn serve_http1(arrival: Arrival, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    if let Some(rest) = lean::serve(&arrival, io).await {
        Box::pin(serve_in_full(arrival, rest)).await;
    }
}

/// Serves HTTP/1.1 by the library, with all that it can be.
async fn serve_in_full(arrival: Arrival, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let arrival = Arc::new(arrival);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_header_size(MAX_HEAD);
    let connection = builder.serve_connection(TokioIo::new(io), service_fn(service(arrival)));
    // How a client's connection ends is of no interest here: it is gone.
    drop(connection.with_upgrades().await);
}

/// Serves HTTP/2.
pub async fn serve_http2(arrival: Arrival, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let arrival = Arc::new(arrival);
    let retiring = arrival.world.retiring.clone();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD).expect("64 KiB"))
        .keep_alive_interval(PING_INTERVAL);
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(io), service_fn(service(arrival))));
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = retiring.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

fn service(
    arrival: Arc<Arrival>,
) -> impl Fn(Request<Incoming>) -> super::serve::Answering + Clone + Send + 'static {
    move |request| {
        let arrival = arrival.clone();
        Box::pin(async move {
            let version = request.version();
            let mut response = answer(&arrival, request).await;
            let is_changed = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            if arrival.world.retiring.is_cancelled() && version < Version::HTTP_2 && !is_changed {
                // With its answer, and not before: a request that is on its way is not lost.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

type Answering =
    std::pin::Pin<Box<dyn Future<Output = Result<http::Response<super::reply::Reply>, Infallible>> + Send>>;
