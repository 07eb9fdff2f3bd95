//! An issuer of ID tokens as GitLab is one: TLS of an authority that nobody knows, a discovery document, a key set that changes, and
//! tokens that claim whatever a test wants.
//!
//! ```no_run
//! let issuer = tests::issuer::Issuer::start()?;
//! let token = issuer.sign(&issuer.claims());
//! issuer.rotate(); // the next token is signed with another key, which is published
//! issuer.stop(); // nobody listens any more
//! # Ok::<(), anyhow::Error>(())
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::login_page::{LoginPage, Reply};

/// Keys are made once: to make one takes seconds.
const KEYS: [(&str, &str); 3] = [
    ("one", include_str!("../../crates/idtoken/tests/keys/one.pem")),
    ("two", include_str!("../../crates/idtoken/tests/keys/two.pem")),
    ("three", include_str!("../../crates/idtoken/tests/keys/three.pem")),
];
/// A client that says nothing is not waited for longer.
const LIMIT: Duration = Duration::from_secs(5);

/// Whom its tokens are for unless a test says otherwise.
pub const AUDIENCE: &str = "orch.example";

/// A running issuer.
pub struct Issuer {
    address: SocketAddr,
    authority: String,
    tls: Arc<ServerConfig>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    numbers: AtomicUsize,
}

struct Shared {
    url: String,
    /// The key that signs and is published.
    key: AtomicUsize,
    asked: AtomicUsize,
    stopping: AtomicBool,
    page: LoginPage,
    /// Tokens of logins are signed with a key that is not published.
    forging: AtomicBool,
}

impl Issuer {
    /// Starts one on loopback.
    ///
    /// # Errors
    /// There is no port for it.
    pub fn start() -> Result<Issuer> {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            url: format!("https://{address}"),
            key: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            page: LoginPage::default(),
            forging: AtomicBool::new(false),
        });
        let issuer = Issuer {
            address,
            authority: made.cert.pem(),
            tls: Arc::new(tls),
            shared,
            thread: Mutex::new(None),
            numbers: AtomicUsize::new(1),
        };
        issuer.serve(listener);
        Ok(issuer)
    }

    /// Its `iss`.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// The certificate that vouches for it, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// How often its keys were asked for.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// Signs with the next key from now on, and publishes that one only.
    pub fn rotate(&self) {
        let next = (self.shared.key.load(Ordering::Relaxed) + 1) % KEYS.len();
        self.shared.key.store(next, Ordering::Relaxed);
    }

    /// Nobody listens any more.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // The listener waits for somebody.
        let _ = TcpStream::connect_timeout(&self.address, LIMIT);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            thread.join().expect("the issuer did not panic");
        }
    }

    /// Listens again, where it did.
    ///
    /// # Errors
    /// Somebody else does.
    pub fn resume(&self) -> Result<()> {
        let listener = TcpListener::bind(self.address).context("the port is free again")?;
        self.shared.stopping.store(false, Ordering::Relaxed);
        self.serve(listener);
        Ok(())
    }

    /// What GitLab claims of a job of project 42 that deploys its protected main branch. Each call numbers another token.
    pub fn claims(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        json!({
            "iss": self.url(), "aud": AUDIENCE, "sub": "project_path:mx/ispyb:ref_type:branch:ref:main",
            "jti": format!("{number}-{now}"), "iat": now, "nbf": now - 5, "exp": now + 3600,
            "project_id": "42", "project_path": "mx/ispyb", "namespace_path": "mx", "user_login": "ann",
            "job_project_id": "42", "job_id": number.to_string(), "pipeline_id": "7", "pipeline_source": "push",
            "ref": "main", "ref_type": "branch", "ref_protected": "true", "environment": "production",
        })
    }

    /// A token as the issuer signs it.
    pub fn sign(&self, claims: &Value) -> String {
        let (name, _) = KEYS[self.shared.key.load(Ordering::Relaxed)];
        self.sign_as(&json!({ "alg": "RS256", "typ": "JWT", "kid": name }), claims)
    }

    /// A token with another header, signed with the key of today all the same.
    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        signed_with(self.shared.key.load(Ordering::Relaxed), header, claims)
    }

    /// A token that uses what everybody can read, the public key, as a shared secret.
    pub fn sign_by_public_key(&self, claims: &Value) -> String {
        let jwk = jwk(self.shared.key.load(Ordering::Relaxed));
        let signed = unsigned(&json!({ "alg": "HS256", "typ": "JWT", "kid": jwk["kid"] }), claims);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, jwk.to_string().as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, signed.as_bytes())))
    }

    /// The person who logs in says yes, or has said nothing yet; what is claimed then, beside and in place of the usual.
    pub fn person(&self, claims: Option<Value>) {
        self.shared.page.say(claims, false);
    }

    /// The person who logs in says no.
    pub fn deny(&self) {
        self.shared.page.say(None, true);
    }

    /// A browser opens the page of a login: where it is sent back to.
    pub fn visit(&self, link: &str) -> String {
        self.shared.page.visit(link.split_once('?').map_or("", |(_, query)| query))
    }

    /// Tokens of logins are signed with a key that nobody knows, under the name of one that is known.
    pub fn forge(&self, forging: bool) {
        self.shared.forging.store(forging, Ordering::Relaxed);
    }

    fn serve(&self, listener: TcpListener) {
        let (tls, shared) = (self.tls.clone(), self.shared.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopping.load(Ordering::Relaxed) {
                    return;
                }
                // A client that breaks off has its own reasons.
                let _ = stream.map_err(anyhow::Error::from).and_then(|stream| answer(stream, &tls, &shared));
            }
        });
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Header and claims without a signature.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// A token for whoever has just logged in.
fn login_token(shared: &Shared, person: Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut claims = json!({ "iss": shared.url, "sub": "7", "iat": now, "exp": now + 300 });
    if let (Some(claims), Value::Object(person)) = (claims.as_object_mut(), person) {
        claims.extend(person);
    }
    let key = shared.key.load(Ordering::Relaxed);
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": KEYS[key].0 });
    let forged = usize::from(shared.forging.load(Ordering::Relaxed));
    signed_with((key + forged) % KEYS.len(), &header, &claims)
}

fn signed_with(key: usize, header: &Value, claims: &Value) -> String {
    let key = pair(key);
    let signed = unsigned(header, claims);
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).expect("signed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn pair(index: usize) -> RsaKeyPair {
    let der = PrivatePkcs8KeyDer::from_pem_slice(KEYS[index].1.as_bytes()).expect("a key in PEM");
    RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("an RSA key")
}

fn jwk(index: usize) -> Value {
    let public = PublicKeyComponents::<Vec<u8>>::from(pair(index).public());
    json!({
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEYS[index].0,
        "n": URL_SAFE_NO_PAD.encode(public.n), "e": URL_SAFE_NO_PAD.encode(public.e),
    })
}

fn answer(stream: TcpStream, tls: &Arc<ServerConfig>, shared: &Shared) -> Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(tls.clone())?, stream));
    let mut first = String::new();
    stream.read_line(&mut first)?;
    let (mut line, mut length) = (String::new(), 0);
    while stream.read_line(&mut line)? > 2 {
        let header = line.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body);
    let mut status = "200 OK";
    let document = match first.split(' ').nth(1).unwrap_or_default() {
        "/.well-known/openid-configuration" => json!({
            "issuer": shared.url,
            "jwks_uri": format!("{}/oauth/discovery/keys", shared.url),
            "authorization_endpoint": format!("{}/authorize", shared.url),
            "token_endpoint": format!("{}/token", shared.url),
            "device_authorization_endpoint": format!("{}/device", shared.url),
        }),
        "/oauth/discovery/keys" => {
            shared.asked.fetch_add(1, Ordering::Relaxed);
            json!({ "keys": [jwk(shared.key.load(Ordering::Relaxed))] })
        }
        path @ ("/device" | "/token") => {
            let reply = match path {
                "/device" => shared.page.device(&shared.url, &body),
                _ => shared.page.token(&body),
            };
            match reply {
                Reply::Document(document) => document,
                Reply::Token(claims) => json!({ "id_token": login_token(shared, claims) }),
                Reply::Refusal(error) => {
                    status = "400 Bad Request";
                    json!({ "error": error })
                }
            }
        }
        _ => {
            status = "404 Not Found";
            Value::Null
        }
    };
    let body = document.to_string();
    let stream = stream.get_mut();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}
