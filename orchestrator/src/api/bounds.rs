//! How much one caller may have under way. It is counted before anything of a call is parsed; a caller beyond it is refused at once and
//! told the bound, and nobody else notices.

use std::net::IpAddr;

use model::{
    identity::Identity,
    request::{ApiError, ErrorCode},
};
use rpc::places::{Place, Places};

/// Calls, watches and logs together that a person or a manager may have open on one manager: several screens and a script that
/// works in parallel.
const OF_AN_OPERATOR: usize = 1_024;
/// The same for a node: it has one session, and renews its certificate.
const OF_A_NODE: usize = 16;
/// The same for everybody without a certificate from one address: a runner with many jobs, or machines behind one address that join.
const WITHOUT_A_CERTIFICATE: usize = 256;

/// What a caller without a certificate may send in one message: a join and a deployment are some kilobytes.
pub const SMALL_CALL: usize = 64 << 10;

/// Whom calls are counted for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// By what the certificate says.
    Known(String),
    /// Without a certificate: by where it is.
    At(IpAddr),
}

/// Calls under way, by caller. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Bounds(Places<Caller>);

impl Bounds {
    /// A place for one more call.
    ///
    /// # Errors
    /// The caller has as many under way as it may; the message says how many that are.
    pub fn enter(&self, identity: &Identity, address: IpAddr) -> Result<Place<Caller>, ApiError> {
        let (caller, bound) = match identity {
            Identity::Manager(_) | Identity::Operator { .. } | Identity::User { .. } => {
                (Caller::Known(identity.to_string()), OF_AN_OPERATOR)
            }
            Identity::Node(_) => (Caller::Known(identity.to_string()), OF_A_NODE),
            Identity::Joiner(_) | Identity::Anonymous | Identity::Bearer(_) | Identity::Deployer { .. } => {
                (Caller::At(address), WITHOUT_A_CERTIFICATE)
            }
        };
        self.0.take(&caller, bound).ok_or_else(|| {
            let whose = match &caller {
                Caller::Known(name) => name.clone(),
                Caller::At(address) => format!("callers without a certificate at {address}"),
            };
            let message = format!(
                "{whose}: {bound} calls are under way, the most there may be at once; retry when some have ended"
            );
            ApiError::new(ErrorCode::Exhausted, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use model::identity::Role;

    use super::*;

    #[test]
    fn a_caller_at_its_bound_is_refused_and_nobody_else_is() {
        let bounds = Bounds::default();
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let there = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        let ann = Identity::Operator { name: "ann".into(), role: Role::Viewer };
        let mut places: Vec<Place<Caller>> = (0..WITHOUT_A_CERTIFICATE)
            .map(|_| bounds.enter(&Identity::Anonymous, here).expect("below the bound"))
            .collect();
        let refused = bounds.enter(&Identity::Anonymous, here).expect_err("at the bound");
        assert_eq!(refused.code, ErrorCode::Exhausted);
        assert!(refused.message.contains("127.0.0.1: 256 calls"), "{refused}");
        bounds.enter(&Identity::Anonymous, there).expect("another address");
        bounds.enter(&ann, here).expect("somebody with a certificate");
        places.pop();
        bounds.enter(&Identity::Anonymous, here).expect("a place was given back");
    }
}
