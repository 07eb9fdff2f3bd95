//! The part of an issuer that people meet: codes that are typed in (RFC 8628), and a page that sends a browser back (RFC 6749 with PKCE).
//!
//! Whoever asks gets what the test has said of the person last; the test is the browser, too.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The person's answer, and who waits for it.
#[derive(Default)]
pub(crate) struct LoginPage(Mutex<State>);

#[derive(Default)]
struct State {
    /// What is claimed of the person, beside and in place of what an issuer claims; `None`: no answer yet.
    person: Option<Value>,
    denied: bool,
    /// Codes of the one kind and of the other, with what was asked for them.
    waiting: BTreeMap<String, BTreeMap<String, String>>,
}

/// What an endpoint answers.
pub(crate) enum Reply {
    Token(Value),
    Document(Value),
    Refusal(&'static str),
}

impl LoginPage {
    pub(crate) fn say(&self, person: Option<Value>, denied: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.person, state.denied) = (person, denied);
    }

    /// A browser that opens the page of a login, and comes back: where to.
    pub(crate) fn visit(&self, query: &str) -> String {
        let form = fields(query);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let back = format!("{}?state={}", form["redirect_uri"], form["state"]);
        if state.denied {
            return format!("{back}&error=access_denied");
        }
        let code = format!("code-{}", state.waiting.len());
        state.waiting.insert(code.clone(), form);
        format!("{back}&code={code}")
    }

    pub(crate) fn device(&self, url: &str, body: &str) -> Reply {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let code = format!("device-{}", state.waiting.len());
        state.waiting.insert(code.clone(), fields(body));
        Reply::Document(json!({
            "device_code": code, "user_code": "WDJB-MJHT", "verification_uri": format!("{url}/device"), "expires_in": 60,
            "interval": 1,
        }))
    }

    pub(crate) fn token(&self, body: &str) -> Reply {
        let form = fields(body);
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_browser = field("grant_type") == "authorization_code";
        let code = field(if by_browser { "code" } else { "device_code" });
        let Some(asked) = state.waiting.get(code).cloned() else { return Reply::Refusal("invalid_grant") };
        if asked.get("client_id").map(String::as_str) != Some(field("client_id")) {
            return Reply::Refusal("invalid_client");
        }
        if by_browser {
            let digest = ring::digest::digest(&ring::digest::SHA256, field("code_verifier").as_bytes());
            let same = asked.get("redirect_uri").map(String::as_str) == Some(field("redirect_uri"));
            if asked.get("code_challenge") != Some(&URL_SAFE_NO_PAD.encode(digest)) || !same {
                return Reply::Refusal("invalid_grant");
            }
        }
        if state.denied {
            return Reply::Refusal("access_denied");
        }
        let Some(person) = state.person.clone() else { return Reply::Refusal("authorization_pending") };
        state.waiting.remove(code);
        let mut claims = json!({ "aud": field("client_id") });
        // As many issuers do, codes that are typed in come without it.
        if by_browser {
            claims["nonce"] = asked.get("nonce").cloned().into();
        }
        if let (Some(claims), Value::Object(person)) = (claims.as_object_mut(), person) {
            claims.extend(person);
        }
        Reply::Token(claims)
    }
}

fn fields(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = hex.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
