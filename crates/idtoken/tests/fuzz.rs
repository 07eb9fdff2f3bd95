//! Tokens and key sets that nobody wrote: refused, never a panic.

#[path = "tokens/issuer.rs"]
mod issuer;

use std::time::Duration;

use fuzz::Fuzz;
use idtoken::{Expected, IdToken, KeySet};

use issuer::{AUDIENCE, ISSUER, Key, NOW, ONE, TWO, claims, header, set};

#[test]
fn fuzz_id_token() {
    let samples = [
        Key::new(ONE).sign(&header(), &claims()).into_bytes(),
        Key::new(TWO).sign(&header(), &claims()).into_bytes(),
        b"eyJhbGciOiJub25lIn0.e30.".to_vec(),
    ];
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "id_token")
        .samples(samples)
        .run(|input| std::str::from_utf8(input).map_or("no text".to_owned(), verified));
}

#[test]
fn fuzz_id_claims() {
    let key = Key::new(ONE);
    let samples = [claims().to_string().into_bytes(), b"{}".to_vec()];
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "id_claims").samples(samples).run(|input| {
        let text = String::from_utf8_lossy(input);
        verified(&key.sign_text(&header().to_string(), &text))
    });
}

fn verified(text: &str) -> String {
    let keys = KeySet::parse(&set(&[Key::new(ONE).jwk("one")])).expect("a key set");
    let expected = Expected { issuer: ISSUER, audience: AUDIENCE, max_age: Duration::from_secs(3600) };
    match IdToken::parse(text).and_then(|token| token.verify(&keys, &expected, NOW)) {
        Ok(_) => "accepted".to_owned(),
        Err(refusal) => kind(&refusal.to_string()),
    }
}

/// An answer without what it quotes.
fn kind(answer: &str) -> String {
    answer.split('"').next().unwrap_or_default().to_owned()
}

#[test]
fn fuzz_key_set() {
    let samples = [set(&[Key::new(ONE).jwk("one"), Key::new(TWO).jwk("two")]), set(&[])];
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "key_set").samples(samples).run(|input| {
        match KeySet::parse(input) {
            Ok(set) => format!("read {}", set.names().count()),
            Err(error) => kind(&error.to_string()),
        }
    });
}
