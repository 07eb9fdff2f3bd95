//! Tokens that an issuer signed, and what others would like to be taken for one.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use idtoken::{Claims, Expected, IdToken, KeySet, Refusal};
use ring::hmac;
use serde_json::{Value, json};

use super::issuer::{AUDIENCE, ISSUER, Key, NOW, ONE, TWO, claims, header, set};

const EXPECTED: Expected<'_> =
    Expected { issuer: ISSUER, audience: AUDIENCE, max_age: Duration::from_secs(24 * 3600) };

fn keys() -> KeySet {
    KeySet::parse(&set(&[Key::new(ONE).jwk("one")])).expect("a key set")
}

fn check(text: &str) -> Result<Claims, Refusal> {
    IdToken::parse(text)?.verify(&keys(), &EXPECTED, NOW)
}

fn signed(header: &Value, claims: &Value) -> Result<Claims, Refusal> {
    check(&Key::new(ONE).sign(header, claims))
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().expect("an object").remove(name);
    object
}

#[test]
fn token_of_the_issuer_for_us_is_accepted_with_all_that_it_claims() {
    let read = signed(&header(), &claims()).expect("accepted");
    assert_eq!((read.issuer.as_str(), read.id.as_deref()), (ISSUER, Some("6f2b")));
    assert_eq!((read.issued, read.expires), (NOW - 10, NOW + 3600));
    assert_eq!(read.text("project_id"), Some("42"));
    let one = with(claims(), "aud", json!([AUDIENCE]));
    assert!(signed(&header(), &one).is_ok());
    let text = Key::new(ONE).sign(&header(), &claims());
    assert!(check(&format!("\n {text}\n")).is_ok(), "as it comes out of a file");
}

#[test]
fn algorithm_is_not_the_tokens_to_choose() {
    let header_of = |algorithm: &str| with(header(), "alg", json!(algorithm));
    let unsigned = |algorithm: &str, signature: &[u8]| {
        let parts = [header_of(algorithm).to_string().into_bytes(), claims().to_string().into_bytes()];
        let parts: Vec<String> = parts.iter().map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
        format!("{}.{}", parts.join("."), URL_SAFE_NO_PAD.encode(signature))
    };
    for algorithm in ["none", "None", "HS256", "RS512", "PS256", "ES256", "rs256", ""] {
        let refused = Refusal::Algorithm(algorithm.into());
        assert_eq!(check(&unsigned(algorithm, b"")), Err(refused.clone()));
        assert_eq!(signed(&header_of(algorithm), &claims()), Err(refused));
    }
    // The public key as the shared secret.
    let text = unsigned("HS256", b"");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &Key::new(ONE).modulus());
    let tag = hmac::sign(&key, text.trim_end_matches('.').as_bytes());
    let forged = format!("{text}{}", URL_SAFE_NO_PAD.encode(tag));
    assert_eq!(check(&forged), Err(Refusal::Algorithm("HS256".into())));
    assert!(matches!(signed(&without(header(), "alg"), &claims()), Err(Refusal::Algorithm(_))));
}

#[test]
fn signature_is_of_a_published_key_over_exactly_this_text() {
    assert_eq!(check(&Key::new(TWO).sign(&header(), &claims())), Err(Refusal::Signature));
    let other = with(header(), "kid", json!("two"));
    assert_eq!(signed(&other, &claims()), Err(Refusal::UnknownKey("two".into())));
    let own = with(other, "jwk", Key::new(TWO).jwk("two"));
    assert_eq!(check(&Key::new(TWO).sign(&own, &claims())), Err(Refusal::UnknownKey("two".into())));

    let good = Key::new(ONE).sign(&header(), &claims());
    let (signed, signature) = good.rsplit_once('.').expect("parts");
    let (head, _) = signed.split_once('.').expect("parts");
    let more = URL_SAFE_NO_PAD.encode(with(claims(), "project_id", json!("43")).to_string());
    assert_eq!(check(&format!("{head}.{more}.{signature}")), Err(Refusal::Signature));
    assert_eq!(check(&format!("{signed}.")), Err(Refusal::Signature));
}

#[test]
fn issuer_and_audience_are_exact() {
    for found in
        ["https://gitlab.example/", "https://gitlab.example.evil", "HTTPS://gitlab.example", "gitlab.example"]
    {
        let refused = signed(&header(), &with(claims(), "iss", json!(found)));
        assert_eq!(refused, Err(Refusal::Issuer { found: found.into(), expected: ISSUER.into() }));
    }
    for found in
        [json!("other"), json!([]), json!(["other"]), json!([AUDIENCE, "other"]), json!("orch.example ")]
    {
        let refused = signed(&header(), &with(claims(), "aud", found.clone()));
        assert!(matches!(refused, Err(Refusal::Audience { .. })), "{found}: {refused:?}");
    }
    for (name, value) in [("iss", json!(["x"])), ("aud", json!(7)), ("aud", json!([7])), ("sub", json!(""))] {
        assert_eq!(signed(&header(), &with(claims(), name, value)), Err(Refusal::Claim(name)));
    }
}

#[test]
fn times_are_kept_within_a_minute_and_the_difference_is_said() {
    let at = |name: &str, time: i64| {
        let time = NOW.checked_add_signed(time).expect("a time");
        signed(&header(), &with(claims(), name, json!(time)))
    };
    assert!(at("exp", -59).is_ok() && at("nbf", 60).is_ok() && at("iat", 60).is_ok());
    assert_eq!(at("exp", -60), Err(Refusal::Expired { seconds: 60 }));
    assert_eq!(at("nbf", 61), Err(Refusal::NotYet { seconds: 61 }));
    assert_eq!(at("iat", 300), Err(Refusal::NotYet { seconds: 300 }));
    let old = Refusal::TooOld { seconds: 24 * 3600 + 60, most: 24 * 3600 };
    assert_eq!(at("iat", -24 * 3600 - 60), Err(old));
    let said = Refusal::Expired { seconds: 75 }.to_string();
    assert!(said.contains("75 s") && said.contains("clock"), "{said}");

    // Issuers write fractions, too; a life that never ends is ended for them.
    assert!(signed(&header(), &with(claims(), "exp", json!(NOW as f64 + 0.5))).is_ok());
    let long = signed(&header(), &with(claims(), "exp", json!(u64::MAX))).expect("valid");
    assert_eq!(long.expires, NOW - 10 + 24 * 3600);
    for name in ["exp", "iat", "iss", "aud", "sub"] {
        assert_eq!(signed(&header(), &without(claims(), name)), Err(Refusal::Claim(name)), "without {name}");
    }
    for (name, value) in
        [("exp", json!("soon")), ("exp", json!(-1)), ("iat", json!(1e300)), ("nbf", Value::Null)]
    {
        assert_eq!(signed(&header(), &with(claims(), name, value)), Err(Refusal::Claim(name)));
    }
}

#[test]
fn bounds_are_kept_before_anything_is_parsed() {
    let padding = |length: usize| with(claims(), "padding", json!("x".repeat(length)));
    assert!(matches!(signed(&header(), &padding(13_000)), Err(Refusal::TooLong(_))));
    assert!(signed(&header(), &padding(10_000)).is_ok());
    let header_too_long = with(header(), "padding", json!("x".repeat(1_000)));
    assert!(matches!(signed(&header_too_long, &claims()), Err(Refusal::Malformed(_))));
    let nested = format!("{}{}", "[".repeat(3_000), "]".repeat(3_000));
    let text = claims().to_string();
    let nested = format!("{},\"deep\":{nested}}}", text.trim_end_matches('}'));
    assert!(matches!(
        check(&Key::new(ONE).sign_text(&header().to_string(), &nested)),
        Err(Refusal::Malformed(_))
    ));
    let twice = format!("{},\"project_id\":\"42\"}}", text.trim_end_matches('}'));
    assert!(matches!(
        check(&Key::new(ONE).sign_text(&header().to_string(), &twice)),
        Err(Refusal::Malformed(_))
    ));
}

#[test]
fn what_is_no_id_token_is_refused() {
    for text in ["", ".", "..", "...", "a.b.c", "ORCHD1-abc", "e30.e30.", "\u{fc}.\u{fc}.\u{fc}"] {
        assert!(check(text).is_err(), "{text:?}");
    }
    let good = Key::new(ONE).sign(&header(), &claims());
    for text in [format!("{good}.more"), format!("{good}="), good.replace('.', ". ")] {
        assert!(matches!(check(&text), Err(Refusal::Malformed(_))), "{text}");
    }
    let refused = signed(&with(header(), "typ", json!("at+jwt")), &claims());
    assert_eq!(refused, Err(Refusal::Kind("at+jwt".into())));
    assert_eq!(signed(&with(header(), "crit", json!(["b64"])), &claims()), Err(Refusal::Critical));
    assert_eq!(signed(&without(header(), "kid"), &claims()), Err(Refusal::NoKey));
    assert!(signed(&without(header(), "typ"), &claims()).is_ok());
}

#[test]
fn token_is_not_shown() {
    let token = IdToken::parse(&Key::new(ONE).sign(&header(), &claims())).expect("well formed");
    assert_eq!(format!("{token:?}"), "IdToken(<redacted>)");
    assert_eq!((token.unverified_issuer(), token.key_id()), (Some(ISSUER), "one"));
}
