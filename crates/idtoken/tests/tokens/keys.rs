//! Key sets as issuers publish them.

use idtoken::{KeySet, KeySetError, MAX_KEY_SET};
use serde_json::{Value, json};

use super::issuer::{Key, ONE, TWO, set};

/// A modulus of 1024 bits: below what is taken.
const SHORT: &str = "vjX6lWLKDk8_YBlNV3gAb_b0QOACg0Iv1Oa5uJBCv8d_isTCDB-B8NuBx_ftZyFKOdTjr9f6jlzCsyrifVs3lBbbc8j1fMJbi9a8Q3kYI2TzcuRQuGrbSxZPuFDca1o4GEgVS-VUbyqfk4_i4LpXxLdwQ6HDdeI4pmok3sAj0Fc";

fn names(keys: &[Value]) -> Result<Vec<String>, KeySetError> {
    KeySet::parse(&set(keys)).map(|set| set.names().map(str::to_owned).collect())
}

fn with(name: &str, value: Value) -> Value {
    let mut key = Key::new(TWO).jwk("two");
    key[name] = value;
    key
}

#[test]
fn only_rsa_keys_for_signatures_of_enough_bits_are_taken() {
    let one = Key::new(ONE).jwk("one");
    assert_eq!(names(&[one.clone(), Key::new(TWO).jwk("two")]), Ok(vec!["one".into(), "two".into()]));
    let passed_over = [
        with("kty", json!("EC")),
        with("use", json!("enc")),
        with("use", Value::Null),
        with("alg", json!("RS512")),
        with("alg", json!("HS256")),
        with("kid", json!("")),
        with("kid", Value::Null),
        with("n", json!(SHORT)),
        with("n", json!("")),
        with("n", json!("not base64url!")),
        with("e", json!("Aw")),
        with("e", json!("AAAA")),
        json!("text"),
        json!({}),
    ];
    for key in passed_over {
        assert_eq!(names(&[one.clone(), key.clone()]), Ok(vec!["one".into()]), "{key}");
        assert_eq!(names(&[key]), Err(KeySetError::NoneUsable));
    }
    let mut plain = one;
    plain.as_object_mut().expect("an object").remove("alg");
    assert_eq!(names(&[plain]), Ok(vec!["one".into()]));
}

#[test]
fn sets_are_bounded_and_their_names_unique() {
    let key = |number: usize| Key::new(ONE).jwk(&number.to_string());
    let keys: Vec<Value> = (0..33).map(key).collect();
    assert_eq!(names(&keys), Err(KeySetError::TooMany(33)));
    assert_eq!(names(&keys[..32]).map(|names| names.len()), Ok(32));
    assert_eq!(names(&[key(1), key(1)]), Err(KeySetError::Twice("1".into())));
    let long = vec![b' '; MAX_KEY_SET + 1];
    assert_eq!(KeySet::parse(&long), Err(KeySetError::TooLong(MAX_KEY_SET + 1)));
    for text in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[", "<html>"] {
        assert_eq!(KeySet::parse(text.as_bytes()), Err(KeySetError::Malformed), "{text}");
    }
}
