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
        Err(status) => Err(status.message().to_owned()),
    }
}
