//! The lane of processes: real managers on loopback, no engine. They are killed, frozen, removed and lied to while
//! clients write, and the recorded history is held against what was acknowledged.

mod audit;
mod authority;
mod damage;
mod deploy_tokens;
mod faults;
mod id_tokens;
mod input;
mod lifecycle;
mod login;
mod login_oidc;
mod membership;
mod policy;
mod reenrol;
mod secrets;
mod tokens;
mod trust;
mod units;
mod users;

use std::time::Duration;

/// For what a cluster on an idle machine does in a second.
const PATIENCE: Duration = Duration::from_secs(60);
