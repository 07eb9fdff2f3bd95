//! A browser on this machine, which comes back to a port that only this machine reaches (RFC 8252), with PKCE (RFC 7636): who
//! catches the code on its way has nothing of it.

use std::{process::Stdio, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
    time::{Instant, timeout_at},
};

use super::{Asking, Refusal, Tokens, https::form_of, refused, secret};
use crate::{exit::Failure, output};

/// A person finds the password and the telephone.
const PATIENCE: Duration = Duration::from_secs(300);
/// A request's head; ours has some hundred bytes.
const MAX_HEAD: usize = 16 << 10;
/// One that connects and says nothing.
const MAX_SILENCE: Duration = Duration::from_secs(5);
const PATH: &str = "/callback";

pub(super) async fn ask(asking: &Asking<'_>) -> Result<Tokens, Failure> {
    let broken =
        |error: std::io::Error| Failure::error(format!("no port for the browser to come back to: {error}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(broken)?;
    let redirect = format!("http://127.0.0.1:{}{PATH}", listener.local_addr().map_err(broken)?.port());
    let (state, verifier) = (secret()?, secret()?);
    let challenge = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes()));
    let scope = asking.scope();
    let query = form_of(&[
        ("response_type", "code"),
        ("client_id", &asking.issuer.client),
        ("redirect_uri", &redirect),
        ("scope", &scope),
        ("state", &state),
        ("nonce", &asking.nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    let endpoint = &asking.discovery.authorization_endpoint;
    let link = format!("{endpoint}{}{query}", if endpoint.contains('?') { '&' } else { '?' });
    output::note(format!("Open this in a browser on this machine, if none opens by itself:\n\n    {link}\n"));
    open(&link);
    let code = come_back(&listener, &state).await?;
    let form: [(&str, &str); 5] = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", &redirect),
        ("client_id", &asking.issuer.client),
        ("code_verifier", &verifier),
    ];
    let at = &asking.discovery.token_endpoint;
    let answer = asking.https.post(at, &form).await?;
    match answer.refusal() {
        Some(refusal) => Err(refused(&refusal)),
        None => answer.read(at),
    }
}

/// Whether a browser opened cannot be known; the link is on the screen.
fn open(link: &str) {
    let mut command = Command::new("xdg-open");
    command.arg(link).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    drop(command.spawn());
}

/// The code with which the browser comes back. Whoever else knocks is told so, and waited past.
async fn come_back(listener: &TcpListener, state: &str) -> Result<String, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        let late = |_| Failure::error("nobody came back from the browser in time: log in again");
        let Ok((stream, _)) = timeout_at(until, listener.accept()).await.map_err(late)? else { continue };
        let heard = timeout_at((Instant::now() + MAX_SILENCE).min(until), answer(stream, state)).await;
        match heard {
            Ok(Some(Ok(code))) => return Ok(code),
            Ok(Some(Err(refusal))) => return Err(refused(&refusal)),
            Ok(None) | Err(_) => {}
        }
    }
}

async fn answer(mut stream: TcpStream, state: &str) -> Option<Result<String, Refusal>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut buffer = [0; 2048];
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        head.extend_from_slice(&buffer[..count]);
        if head.len() > MAX_HEAD {
            return None;
        }
    }
    let found = outcome(&String::from_utf8_lossy(&head), state);
    let (status, words) = match &found {
        Some(Ok(_)) => ("200 OK", "You are logged in: this page may be closed."),
        Some(Err(_)) => ("200 OK", "You are not logged in: see the terminal."),
        None => ("404 Not Found", "Nothing is here."),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n{words}",
        words.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    found
}

/// What a request of a browser says; `None`: it is not the one that is waited for.
fn outcome(head: &str, state: &str) -> Option<Result<String, Refusal>> {
    let target = head.strip_prefix("GET ")?.split(' ').next()?;
    let (path, query) = target.split_once('?')?;
    let value = |name: &str| {
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    // Somebody else's answer could log us in as somebody else.
    if path != PATH || decoded(value("state")?)? != state {
        return None;
    }
    match (value("code"), value("error")) {
        (Some(code), None) => Some(Ok(decoded(code)?)),
        (_, Some(error)) => Some(Err(Refusal {
            error: decoded(error)?,
            error_description: value("error_description").and_then(decoded).unwrap_or_default(),
        })),
        (None, None) => None,
    }
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut letters = text.bytes();
    while let Some(letter) = letters.next() {
        bytes.push(match letter {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(letters.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::{super::https::encoded, *};

    #[test]
    fn only_the_answer_to_our_own_question_is_taken() {
        let get = |target: &str| outcome(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"), "s+1");
        assert!(matches!(get("/callback?code=a%2Fb&state=s%2B1"), Some(Ok(code)) if code == "a/b"));
        assert!(
            matches!(get("/callback?error=access_denied&state=s%2B1"), Some(Err(no)) if no.error == "access_denied")
        );
        for target in [
            "/callback?code=a&state=other",
            "/callback?code=a",
            "/favicon.ico",
            "/?code=a&state=s%2B1",
            "/callback?state=s%2B1",
        ] {
            assert!(get(target).is_none(), "{target}");
        }
        assert!(outcome("POST /callback?code=a&state=s%2B1 HTTP/1.1\r\n\r\n", "s+1").is_none());
        assert_eq!(decoded(&encoded("a b&c=d/é")).as_deref(), Some("a b&c=d/é"));
    }
}
