//! Join tokens as people handle them: copied, cut off, mistyped, pasted in the wrong place.

use model::id::TokenId;
use model::identity::JoinRole;
use pki::{Fingerprint, JoinToken, SecretHash, TokenError};

fn token(role: JoinRole) -> JoinToken {
    JoinToken::new(role, Fingerprint::of_der(b"an authority"), TokenId(42), [0xa7; 32])
}

fn parse(text: &str) -> Result<JoinToken, TokenError> {
    text.parse()
}

#[test]
fn a_token_survives_its_text() {
    for role in [JoinRole::Manager, JoinRole::Agent] {
        let made = token(role);
        let text = made.reveal();
        assert!(text.starts_with(&format!("ORCHJ1-{role}-")), "the role is visible: {text}");
        assert_eq!(parse(&text), Ok(made));
    }
}

#[test]
fn white_space_and_upper_case_do_not_matter() {
    let made = token(JoinRole::Agent);
    assert_eq!(parse(&format!("  {}\n", made.reveal().to_uppercase())), Ok(made));
}

#[test]
fn a_token_cut_off_anywhere_is_called_cut_off_or_no_token() {
    let text = token(JoinRole::Agent).reveal();
    for length in 0..text.len() {
        let expected = if length < "ORCHJ1".len() { TokenError::WrongPrefix } else { TokenError::Truncated };
        assert_eq!(parse(&text[..length]), Err(expected), "cut after {length} characters");
    }
}

#[test]
fn every_single_mistyped_character_is_noticed() {
    let text = token(JoinRole::Manager).reveal();
    for position in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[position] = if bytes[position] == b'5' { b'6' } else { b'5' };
        let mistyped = String::from_utf8(bytes).expect("ascii");
        assert!(parse(&mistyped).is_err(), "{mistyped}");
    }
}

#[test]
fn each_mistake_has_its_own_message() {
    let text = token(JoinRole::Agent).reveal();
    let altered = text.replacen("a7a7", "a7a8", 1);
    assert_eq!(parse(&altered), Err(TokenError::WrongCheckDigits));
    assert_eq!(parse(&text.replace("agent", "manager")), Err(TokenError::WrongCheckDigits));
    assert_eq!(parse(&text.replace("ORCHJ1", "ORCHJ2")), Err(TokenError::UnknownVersion { found: 2 }));
    assert_eq!(parse(&text.replace("ORCHJ1", "SWMTKN1")), Err(TokenError::WrongPrefix));
    assert_eq!(parse(&text.replace("agent", "robot")), Err(TokenError::UnknownRole("robot".into())));
    assert_eq!(parse(&format!("{text}0")), Err(TokenError::TooLong));
    assert_eq!(parse(&format!("{text}-more")), Err(TokenError::TooLong));
    assert_eq!(parse("é"), Err(TokenError::WrongPrefix));
}

#[test]
fn only_the_same_secret_verifies() {
    let made = token(JoinRole::Agent);
    let stored = SecretHash::from_bytes(*made.secret_hash().as_bytes());
    assert!(stored.verify(made.secret()));
    assert!(!stored.verify(&[0xa6; 32]));
    assert!(!stored.verify(b""));
}

#[test]
fn no_secret_shows_in_debug_output() {
    let made = token(JoinRole::Agent);
    let shown = format!("{made:?} {:?}", made.secret_hash());
    assert!(!shown.contains("a7a7") && shown.contains("<redacted>"), "{shown}");
}
