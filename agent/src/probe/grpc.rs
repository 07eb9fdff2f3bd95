//! The gRPC health protocol: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.

use std::net::SocketAddrV4;

use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

pub(super) async fn ask(address: SocketAddrV4, service: &str) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| crate::engine::chain(&error))?;
    let request = HealthCheckRequest { service: service.to_owned() };
    match HealthClient::new(channel).check(request).await {
        Ok(answer) => match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            other => Err(other.as_str_name().to_owned()),
        },
        Err(status) if status.code() == Code::Unimplemented => Err("it has no health service".to_owned()),
        Err(status) if status.code() == Code::NotFound => Err("it does not know this service".to_owned()),
        Err(status) => Err(crate::engine::chain(&status)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tonic_health::server::health_reporter;

    use super::*;

    #[tokio::test]
    async fn a_service_is_asked_by_its_name() {
        let (reporter, service) = health_reporter();
        reporter.set_service_status("up", tonic_health::ServingStatus::Serving).await;
        reporter.set_service_status("down", tonic_health::ServingStatus::NotServing).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let SocketAddr::V4(address) = listener.local_addr().expect("bound") else { panic!("asked for IPv4") };
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
        let server = tokio::spawn(server);
        assert_eq!(ask(address, "up").await, Ok(()));
        assert_eq!(ask(address, "down").await, Err("NOT_SERVING".to_owned()));
        assert_eq!(ask(address, "other").await, Err("it does not know this service".to_owned()));
        server.abort();
    }
}
