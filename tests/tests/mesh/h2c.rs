//! Replicas that speak HTTP/2 without TLS, gRPC among them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::control::MeshConfig;
use model::id::NodeId;
use model::route::{Backend, HttpPort, IngressPort};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::{ServingStatus, server::health_reporter};

use super::client::Client;
use super::stage::{Authority, LIMIT, Mesh, address_of, config, free_port, http, peer, wait_for, withdrawn};

/// A port whose replicas speak HTTP/2.
fn h2c(published: u16, target: u16) -> IngressPort {
    let settings = HttpPort { backend: Backend::H2c, ..HttpPort::default() };
    IngressPort { http: Some(settings), ..http(published, target) }
}

/// A body whose frames come one by one.
struct Channel(mpsc::Receiver<Frame<Bytes>>);

impl Body for Channel {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

fn channel() -> (mpsc::Sender<Frame<Bytes>>, Channel) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, Channel(receiver))
}

/// A server of HTTP/2 and nothing else: `/echo` answers each frame with itself and ends with trailers, everything else answers with
/// what was asked.
struct Replica {
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Replica {
    async fn start(task: u64, port: u16) -> Self {
        let listener = TcpListener::bind((address_of(task), port)).await.unwrap();
        let (requests, connections): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let (seen, opened) = (requests.clone(), connections.clone());
        let serving = tokio::spawn(async move {
            // Those that are open end with this one.
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                opened.fetch_add(1, Ordering::SeqCst);
                let seen = seen.clone();
                open.spawn(async move {
                    let service = service_fn(move |request| {
                        seen.fetch_add(1, Ordering::SeqCst);
                        answer(task, request)
                    });
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { requests, connections, serving }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(task: u64, request: Request<Incoming>) -> Result<Response<Channel>, Infallible> {
    let (sender, body) = channel();
    if request.uri().path() == "/echo" {
        tokio::spawn(async move {
            let (mut incoming, mut count) = (request.into_body(), 0);
            while let Some(Ok(frame)) = incoming.frame().await {
                count += u64::from(frame.data_ref().is_some_and(|data| !data.is_empty()));
                if sender.send(frame).await.is_err() {
                    return;
                }
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", count.into());
            drop(sender.send(Frame::trailers(trailers)).await);
        });
    } else {
        let head = format!("task {task} {:?} {} {:?}", request.version(), request.uri(), request.headers());
        let body = request.into_body().collect().await.map(|body| body.to_bytes().len()).unwrap_or(0);
        let text = format!("{head} body {body}");
        tokio::spawn(async move { drop(sender.send(Frame::data(text.into())).await) });
    }
    Ok(Response::new(body))
}

/// A client that speaks HTTP/2 with a published port.
async fn connect(port: u16) -> SendRequest<Channel> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(path: &str, body: Channel) -> Request<Channel> {
    let builder = Request::post(format!("http://grpc.example{path}"));
    builder.header("te", "trailers").header("content-type", "application/grpc").body(body).unwrap()
}

/// Within the time that a test has for one thing.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.expect("it takes too long")
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
}

/// Whether a message comes back before the next one is sent, and trailers at the end.
async fn check_both_ways(port: u16) {
    let mut client = connect(port).await;
    let (sender, body) = channel();
    let answering = tokio::spawn(async move { client.send_request(request("/echo", body)).await });
    soon(sender.send(Frame::data("first".into()))).await.unwrap();
    let response = soon(answering).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    for (sent, next) in [("first", Some("second")), ("second", Some("third")), ("third", None)] {
        let frame = soon(body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), sent);
        if let Some(next) = next {
            soon(sender.send(Frame::data(next.into()))).await.unwrap();
        }
    }
    drop(sender);
    let end = soon(body.frame()).await.unwrap().unwrap();
    assert_eq!(end.into_trailers().unwrap()["grpc-status"], "3");
    assert!(soon(body.frame()).await.is_none());
}

#[test]
fn messages_go_both_ways_at_once_and_trailers_come_at_the_end() {
    run(async {
        let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
        let _replica = Replica::start(1, target).await;
        mesh.serve(&config(h2c(port, target), &[1]));
        check_both_ways(port).await;
    });
}

#[test]
fn the_leg_to_another_node_carries_them_as_well() {
    run(async {
        let authority = Authority::found();
        let (mut here, mut there) = (Mesh::start(&authority, 1), Mesh::start(&authority, 2));
        let (port, target) = (free_port(), free_port());
        let address = format!("127.0.0.1:{}", free_port());
        let _replica = Replica::start(1, target).await;
        let mut wanted = config(h2c(port, target), &[1]);
        wanted.table.services[0].endpoints[0].node = NodeId(2);
        let mut away = wanted.clone();
        (away.table.ingress, away.table.peers) = (false, vec![peer(1, None)]);
        there.serve(&MeshConfig { listen: Some(address.clone()), ..away });
        (wanted.locals, wanted.table.peers) = (Vec::new(), vec![peer(2, Some(address))]);
        here.serve(&wanted);
        let served = || Client::connect(port).and_then(|mut client| client.ask("GET", "/", "", ""));
        wait_for("the nodes to meet", || served().is_ok_and(|answer| answer.status == 200));
        check_both_ways(port).await;
    });
}

#[test]
fn grpc_goes_through_one_message_or_many_and_its_errors_too() {
    run(async {
        let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
        let (reporter, service) = health_reporter();
        reporter.set_service_status("ispyb", ServingStatus::Serving).await;
        let listener = TcpListener::bind(SocketAddr::from((address_of(1), target))).await.unwrap();
        let server = tonic::transport::Server::builder().add_service(service);
        let server = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        mesh.serve(&config(h2c(port, target), &[1]));
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
        let mut client = HealthClient::new(soon(endpoint.connect()).await.unwrap());
        let of = |service: &str| HealthCheckRequest { service: service.to_owned() };
        let checked = soon(client.check(of("ispyb"))).await.unwrap().into_inner();
        assert_eq!(checked.status, ServingStatus::Serving as i32);
        assert_eq!(soon(client.check(of("nobody"))).await.unwrap_err().code(), Code::NotFound);
        let mut watched = soon(client.watch(of("ispyb"))).await.unwrap().into_inner();
        for next in [ServingStatus::NotServing, ServingStatus::Serving] {
            let message = soon(watched.message()).await.unwrap().unwrap();
            assert_ne!(message.status, next as i32);
            reporter.set_service_status("ispyb", next).await;
        }
        // The replica dies: a client is told so in words that it understands, and nothing hangs.
        server.abort();
        drop(server.await);
        mesh.serve(&withdrawn(&config(h2c(port, target), &[1]), 1));
        assert_eq!(soon(client.check(of("ispyb"))).await.unwrap_err().code(), Code::Unavailable);
    });
}

#[test]
fn clients_of_http1_reach_such_a_replica_and_requests_share_a_connection() {
    run(async {
        let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
        let replica = Replica::start(1, target).await;
        mesh.serve(&config(h2c(port, target), &[1]));
        let asking = tokio::task::spawn_blocking(move || {
            let claims =
                "X-Forwarded-For: 1.2.3.4\r\nX-Kept: 1\r\nConnection: keep-alive, X-Gone\r\nX-Gone: 1\r\n";
            for _ in 0..10 {
                let mut client = Client::connect(port).unwrap();
                for extra in ["X-Kept: 1\r\n", claims] {
                    client.send(format!("PUT /a?b=c HTTP/1.1\r\nHost: h.example\r\nContent-Length: 5\r\n{extra}\r\nhello").as_bytes()).unwrap();
                    let answer = client.receive_chunked().unwrap();
                    for part in [
                        "task 1 HTTP/2.0 http://h.example/a?b=c",
                        "\"x-forwarded-for\": \"127.0.0.1\"",
                        "\"x-kept\": \"1\"",
                        "body 5",
                    ] {
                        assert!(answer.contains(part), "{part}: {answer}");
                    }
                    assert!(
                        !answer.contains("1.2.3.4")
                            && !answer.contains("x-gone")
                            && !answer.contains("\"te\""),
                        "{answer}"
                    );
                }
            }
            let mut last = Client::connect(port).unwrap();
            last.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
            last.receive_chunked().unwrap();
            assert!(last.is_closed(LIMIT));
        });
        soon(asking).await.unwrap();
        assert_eq!(replica.requests(), 21);
        assert!(replica.connections.load(Ordering::SeqCst) <= 2, "{:?}", replica.connections);
    });
}

#[test]
fn a_drain_waits_for_a_stream_and_takes_no_new_one() {
    run(async {
        let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
        let replicas = [Replica::start(1, target).await, Replica::start(2, target).await];
        let both = config(h2c(port, target), &[1, 2]);
        mesh.serve(&withdrawn(&both, 2));
        let mut client = connect(port).await;
        let (sender, body) = channel();
        let mut second = client.clone();
        let answering = tokio::spawn(async move { second.send_request(request("/echo", body)).await });
        soon(sender.send(Frame::data("one".into()))).await.unwrap();
        let mut streamed = soon(answering).await.unwrap().unwrap().into_body();
        soon(streamed.frame()).await.unwrap().unwrap();
        mesh.serve(&withdrawn(&both, 1));
        mesh.drain(1);
        assert!(!mesh.is_drained(1, Duration::from_millis(300)));
        let before = replicas[0].requests();
        for _ in 0..10 {
            let (_, body) = channel();
            let answer = soon(client.send_request(request("/", body))).await.unwrap();
            let text = soon(answer.into_body().collect()).await.unwrap().to_bytes();
            assert!(text.starts_with(b"task 2 "), "{text:?}");
        }
        assert_eq!(replicas[0].requests(), before);
        soon(sender.send(Frame::data("two".into()))).await.unwrap();
        assert_eq!(soon(streamed.frame()).await.unwrap().unwrap().into_data().unwrap(), "two");
        drop(sender);
        assert!(soon(streamed.frame()).await.unwrap().unwrap().is_trailers());
        drop(streamed);
        assert!(mesh.is_drained(1, LIMIT));
    });
}

#[test]
fn a_replica_that_dies_costs_no_request_that_may_be_repeated() {
    run(async {
        let (mut mesh, port, target) = (Mesh::alone(), free_port(), free_port());
        let [first, _second] = [Replica::start(1, target).await, Replica::start(2, target).await];
        mesh.serve(&config(h2c(port, target), &[1, 2]));
        let mut client = connect(port).await;
        let mut first = Some(first);
        for number in 0..60 {
            if number == 30 {
                first.take();
            }
            let (_, body) = channel();
            let mut request = request("/", body);
            *request.method_mut() = http::Method::GET;
            assert_eq!(soon(client.send_request(request)).await.unwrap().status(), 200, "{number}");
        }
    });
}
