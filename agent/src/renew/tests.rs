//! Against a manager's API in this process, over real mutual TLS.

use model::{
    id::{ClusterId, MemberId, NodeId},
    identity::{CertName, Identity as Who},
    request::{ApiError, ErrorCode, Reply},
};
use pki::ClusterCa;
use proto::{
    codec,
    v1::{
        CallReply, CallRequest, LogsReply,
        call_reply::Outcome,
        control_server::{Control, ControlServer},
    },
};
use rpc::{
    identity::Peer,
    tls::{Credentials, Incoming, ServerTls},
};
use tokio::{net::TcpListener, sync::Mutex as AsyncMutex};
use tonic::{Request as Asked, Response as Answered, Status};

use super::*;
use crate::identity::Given;

const CLUSTER: ClusterId = ClusterId(1);
const NODE: NodeId = NodeId(2);
const DAY: Duration = Duration::from_secs(86_400);

/// Signs for whoever the connection proves; refuses as often as it was told to first.
struct Signer {
    authority: ClusterCa,
    refusals: AsyncMutex<Vec<ErrorCode>>,
}

type Nothing<T> = tokio_stream::Empty<Result<T, Status>>;

#[tonic::async_trait]
impl Control for Signer {
    type WatchStream = Nothing<CallReply>;
    type LogsStream = Nothing<LogsReply>;

    async fn call(&self, asked: Asked<CallRequest>) -> Result<Answered<CallReply>, Status> {
        if let Some(code) = self.refusals.lock().await.pop() {
            let error = codec::encode(&ApiError::new(code, "not now"));
            return Ok(Answered::new(CallReply { outcome: Some(Outcome::Error(error)) }));
        }
        let identity = Peer::of(&asked)?.identity();
        let request: Request = codec::decode(&asked.get_ref().request).unwrap();
        let (identity, csr) = match request {
            Request::RenewCertificate { csr, .. } => (identity, csr),
            Request::Reenrol(proof) => {
                assert_eq!(identity, Who::Anonymous, "nobody lets in who presents what has ended");
                let holder = self.authority.certificate().holder(&proof.certificate, &proof.csr).unwrap();
                assert!(holder.own, "the key stays");
                (holder.leaf.name.identity, proof.csr)
            }
            other => panic!("{other:?}"),
        };
        let response = Response::Joined {
            certificate: sign(&self.authority, &csr, identity, wall_now(), 2),
            authority: self.authority.certificate_pem().to_owned(),
            cluster: CLUSTER,
            node: Some(NODE),
            member: None,
            managers: Vec::new(),
            pool: None,
        };
        let reply = codec::encode(&Reply { response, index: 1, stale: false });
        Ok(Answered::new(CallReply { outcome: Some(Outcome::Reply(reply)) }))
    }

    async fn watch(&self, _: Asked<CallRequest>) -> Result<Answered<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn logs(&self, _: Asked<CallRequest>) -> Result<Answered<Self::LogsStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

fn sign(authority: &ClusterCa, csr: &str, identity: Who, at: WallTime, serial: u64) -> String {
    let name = CertName { cluster: CLUSTER, identity };
    authority.issue(csr.as_bytes(), &name, DAY, at, serial).unwrap()
}

fn ago(span: Duration) -> WallTime {
    WallTime(wall_now().0 - u64::try_from(span.as_micros()).unwrap())
}

/// A node whose certificate is so old.
fn node(authority: &ClusterCa, age: Duration) -> Identity {
    let pair = KeyAndCsr::generate().unwrap();
    let certificate = sign(authority, &pair.csr_pem, Who::Node(NODE), ago(age), 1);
    let authority = authority.certificate_pem().to_owned();
    let given = Given { cluster: CLUSTER, node: NODE, authority, certificate };
    Identity::new(given, pair.key_pem(), Vec::new())
}

async fn serve(authority: ClusterCa, refusals: Vec<ErrorCode>) -> String {
    let pair = KeyAndCsr::generate().unwrap();
    let leaf = sign(&authority, &pair.csr_pem, Who::Manager(MemberId(1)), wall_now(), 3);
    let credentials = Credentials::from_pem(&leaf, authority.certificate_pem(), &pair.key_pem()).unwrap();
    let tls = ServerTls::new(authority.certificate_pem(), CertReloader::new(credentials)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let signer = Signer { authority, refusals: AsyncMutex::new(refusals) };
    let server = tonic::transport::Server::builder().add_service(ControlServer::new(signer));
    tokio::spawn(server.serve_with_incoming(Incoming::new(listener, tls)));
    address
}

async fn renewed(age: Duration, refusals: Vec<ErrorCode>) -> Option<Identity> {
    let place = tempfile::tempdir().unwrap();
    let directory = Arc::new(Directory::take(place.path()).unwrap());
    let authority = ClusterCa::generate(CLUSTER, ago(DAY * 30)).unwrap();
    let old = node(&authority, age);
    old.save(&directory).unwrap();
    let (tls, reloader) = old.tls().unwrap();
    let address = serve(authority, refusals).await;
    let managers = Arc::new(Mutex::new(vec!["127.0.0.1:9".to_owned(), address]));
    let (identity, news) = (old.clone(), News::none());
    let keeper = Keeper { identity, directory: directory.clone(), managers, tls, reloader, news };
    let keeper = tokio::spawn(keeper.keep_fresh());
    let changed = async {
        loop {
            let kept = Identity::load(&directory).unwrap().unwrap();
            if kept.certificate != old.certificate {
                return kept;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(3), changed).await.ok();
    keeper.abort();
    found
}

#[tokio::test]
async fn a_certificate_past_half_of_its_life_is_renewed_with_a_fresh_key() {
    let fresh = renewed(DAY * 2 / 3, vec![]).await.expect("a fresh certificate");
    assert_eq!(LeafCertificate::from_pem(&fresh.certificate).unwrap().serial, 2);
    fresh.credentials().expect("key and certificate belong together");
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_replaced_by_proof_of_its_key() {
    let fresh = renewed(DAY * 20, vec![]).await.expect("a fresh certificate");
    assert_eq!(LeafCertificate::from_pem(&fresh.certificate).unwrap().serial, 2);
    fresh.credentials().expect("key and certificate belong together");
}

#[tokio::test]
async fn a_manager_that_cannot_answer_now_is_asked_again() {
    assert!(renewed(DAY * 2 / 3, vec![ErrorCode::Unavailable]).await.is_some());
}

#[tokio::test]
async fn a_young_certificate_and_a_refused_renewal_leave_the_old_one_in_place() {
    assert!(renewed(Duration::from_secs(60), vec![]).await.is_none());
    assert!(renewed(DAY * 2 / 3, vec![ErrorCode::Denied]).await.is_none());
}
