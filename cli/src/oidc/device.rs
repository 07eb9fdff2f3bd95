//! A code that the person types in on any machine with a browser (RFC 8628).

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{Asking, Refusal, Tokens, refused};
use crate::{exit::Failure, output};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Between two questions, where the issuer does not say (RFC 8628, 3.2), and what each "slow down" adds.
const INTERVAL: u64 = 5;
/// No issuer makes us ask less often, or wait longer for a person.
const LONGEST: (u64, u64) = (60, 1_800);

#[derive(Deserialize)]
struct Device {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

pub(super) async fn ask(asking: &Asking<'_>) -> Result<Tokens, Failure> {
    let at = asking.discovery.device_authorization_endpoint.as_deref().ok_or_else(|| {
        Failure::error(format!("{} knows no codes for other machines: --browser", asking.issuer.url))
    })?;
    let (client, scope) = (asking.issuer.client.as_str(), asking.scope());
    let form: [(&str, &str); 3] = [("client_id", client), ("scope", &scope), ("nonce", &asking.nonce)];
    let answer = asking.https.post(at, &form).await?;
    if let Some(refusal) = answer.refusal() {
        return Err(refused(&refusal));
    }
    let device: Device = answer.read(at)?;
    let link = device.verification_uri_complete.as_ref().unwrap_or(&device.verification_uri);
    output::note(format!(
        "Open {} in a browser and enter the code\n\n    {}\n\nor open {}",
        printable(&device.verification_uri),
        printable(&device.user_code),
        printable(link)
    ));
    wait(asking, &device).await
}

async fn wait(asking: &Asking<'_>, device: &Device) -> Result<Tokens, Failure> {
    let until = Instant::now() + Duration::from_secs(device.expires_in.min(LONGEST.1));
    let mut interval = device.interval.unwrap_or(INTERVAL).clamp(1, LONGEST.0);
    let at = &asking.discovery.token_endpoint;
    let form = [
        ("grant_type", GRANT),
        ("device_code", device.device_code.as_str()),
        ("client_id", asking.issuer.client.as_str()),
    ];
    while Instant::now() < until {
        sleep(Duration::from_secs(interval)).await;
        let answer = asking.https.post(at, &form).await?;
        match answer.refusal() {
            None => return answer.read(at),
            Some(Refusal { error, .. }) if error == "authorization_pending" => {}
            Some(Refusal { error, .. }) if error == "slow_down" => interval += INTERVAL,
            Some(refusal) => return Err(refused(&refusal)),
        }
    }
    Err(Failure::error("nobody entered the code in time: log in again"))
}

/// An issuer's words on a terminal: nothing that the terminal would obey.
fn printable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(300).collect()
}
