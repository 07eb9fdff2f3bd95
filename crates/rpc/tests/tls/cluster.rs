//! A cluster's certificates, a server that tells each caller who it is, and clients. Everything the tests share.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use model::id::{ClusterId, MemberId, NodeId};
use model::identity::{CertName, Identity};
use model::time::WallTime;
use pki::{ClusterCa, KeyAndCsr};
use rpc::identity::Peer;
use rpc::offences::Offences;
use rpc::tls::{CertReloader, ClientTls, Connections, Credentials, Incoming, ServerTls, channel};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::{Channel, Server};
use tower::{Service, ServiceExt};

pub const HOUR: Duration = Duration::from_secs(3600);

/// Ends a test that hangs.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("the test hangs")
}

pub fn now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    WallTime(since.as_micros() as u64)
}

pub fn before_now(distance: Duration) -> WallTime {
    WallTime(now().0 - distance.as_micros() as u64)
}

pub fn after_now(distance: Duration) -> WallTime {
    WallTime(now().0 + distance.as_micros() as u64)
}

pub struct Cluster {
    pub ca: ClusterCa,
}

impl Cluster {
    pub fn new(id: u64) -> Self {
        let founded = before_now(1000 * HOUR);
        Self { ca: ClusterCa::generate(ClusterId(id), founded).expect("an authority") }
    }

    /// The same cluster under another authority, and what it gives everybody: itself, this one and the bridge to it; itself and the bridge.
    pub fn rotated(&self) -> (Self, String, String) {
        let (ca, bridge) = self.ca.successor(before_now(2 * HOUR)).expect("a successor");
        let own = ca.certificate_pem();
        let (both, after) = (format!("{own}{}{bridge}", self.ca_pem()), format!("{own}{bridge}"));
        (Self { ca }, both, after)
    }

    pub fn ca_pem(&self) -> &str {
        self.ca.certificate_pem()
    }

    /// Credentials that were issued at `issued` and live for an hour.
    pub fn issue(&self, identity: Identity, serial: u64, issued: WallTime) -> Credentials {
        self.issue_beside(self.ca_pem(), identity, serial, issued)
    }

    /// The same, to be presented with this bundle.
    pub fn issue_beside(
        &self,
        bundle: &str,
        identity: Identity,
        serial: u64,
        issued: WallTime,
    ) -> Credentials {
        let request = KeyAndCsr::generate().expect("a request");
        let name = CertName { cluster: self.ca.cluster(), identity };
        let leaf =
            self.ca.issue(request.csr_pem.as_bytes(), &name, HOUR, issued, serial).expect("a certificate");
        Credentials::from_pem(&leaf, bundle, &request.key_pem()).expect("credentials")
    }

    pub fn manager(&self, serial: u64) -> Credentials {
        self.issue(Identity::Manager(MemberId(1)), serial, now())
    }

    pub fn node(&self, serial: u64) -> Credentials {
        self.issue(Identity::Node(NodeId(7)), serial, now())
    }

    pub async fn serve(&self) -> RunningServer {
        self.serve_with(self.manager(1)).await
    }

    pub async fn serve_with(&self, credentials: Credentials) -> RunningServer {
        self.serve_on(credentials, |incoming| incoming).await
    }

    /// A server that cuts callers without a certificate who are allowed nothing for so long.
    pub async fn serve_patiently(&self, patience: Duration) -> RunningServer {
        self.serve_on(self.manager(1), |incoming| incoming.with_patience(patience)).await
    }

    async fn serve_on(
        &self,
        credentials: Credentials,
        settings: impl FnOnce(Incoming) -> Incoming,
    ) -> RunningServer {
        let credentials = CertReloader::new(credentials);
        let tls = ServerTls::new(self.ca_pem(), credentials.clone()).expect("server settings");
        let settings_of = tls.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let incoming = settings(Incoming::new(listener, tls));
        let address = incoming.local_addr().expect("bound");
        let (connections, offences) = (incoming.connections(), incoming.offences());
        let task = tokio::spawn(async move {
            Server::builder().add_service(WhoAmI).serve_with_incoming(incoming).await.expect("serves");
        });
        RunningServer { address, credentials, tls: settings_of, connections, offences, task }
    }

    /// A client with a node's certificate.
    pub fn client(&self) -> ClientTls {
        self.client_with(CertReloader::new(self.node(2)))
    }

    pub fn client_with(&self, credentials: CertReloader) -> ClientTls {
        ClientTls::mutual(self.ca_pem(), credentials).expect("client settings")
    }
}

/// A server that runs until it is dropped.
pub struct RunningServer {
    pub address: SocketAddr,
    pub credentials: CertReloader,
    pub tls: ServerTls,
    pub connections: Connections,
    pub offences: Offences,
    task: JoinHandle<()>,
}

impl RunningServer {
    pub fn channel(&self, tls: ClientTls) -> Channel {
        channel(&self.address.to_string(), tls)
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the server said about its caller.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    pub identity: String,
    pub serial: u64,
    pub address: String,
}

/// Calls the server; an error is what a daemon would see.
pub async fn ask(channel: &Channel) -> Result<Caller, tonic::Status> {
    let request =
        Request::post("https://orch-manager/test.WhoAmI/Ask").body(Body::empty()).expect("a request");
    let response =
        channel.clone().oneshot(request).await.map_err(|error| tonic::Status::from_error(error.into()))?;
    let header = |name: &str| response.headers()[name].to_str().expect("ascii").to_owned();
    Ok(Caller {
        identity: header("identity"),
        serial: header("serial").parse().expect("a number"),
        address: header("address"),
    })
}

/// Answers with what the connection says about the caller.
#[derive(Clone)]
struct WhoAmI;

impl NamedService for WhoAmI {
    const NAME: &'static str = "test.WhoAmI";
}

impl Service<Request<Body>> for WhoAmI {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let request = tonic::Request::from_http(request);
        let peer = Peer::of(&request).expect("served on Incoming");
        let response = Response::builder()
            .header("identity", peer.identity().to_string())
            .header("serial", peer.certificate().map_or(0, |certificate| certificate.serial))
            .header("address", peer.address().to_string())
            .body(Body::empty());
        std::future::ready(Ok(response.expect("a response")))
    }
}
