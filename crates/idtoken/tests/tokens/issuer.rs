//! An issuer with keys of its own, which signs whatever it is told.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};

pub const ONE: &str = include_str!("../keys/one.pem");
pub const TWO: &str = include_str!("../keys/two.pem");
pub const ISSUER: &str = "https://gitlab.example";
pub const AUDIENCE: &str = "orch.example";
pub const NOW: u64 = 1_800_000_000;

pub struct Key(RsaKeyPair);

impl Key {
    pub fn new(pem: &str) -> Key {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).expect("a key in PEM");
        Key(RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("an RSA key"))
    }

    pub fn modulus(&self) -> Vec<u8> {
        PublicKeyComponents::from(self.0.public()).n
    }

    pub fn jwk(&self, name: &str) -> Value {
        json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": name,
            "n": URL_SAFE_NO_PAD.encode(self.modulus()),
            "e": URL_SAFE_NO_PAD.encode([1, 0, 1]),
        })
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .expect("signed");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

pub fn header() -> Value {
    json!({ "alg": "RS256", "typ": "JWT", "kid": "one" })
}

pub fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "project_path:mx/ispyb:ref_type:branch:ref:main",
        "jti": "6f2b", "iat": NOW - 10, "nbf": NOW - 15, "exp": NOW + 3600, "project_id": "42",
    })
}

pub fn set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}
