//! Join tokens as people handle them: copied, cut off, mistyped, pasted in the wrong place.

use std::sync::LazyLock;

use model::id::{ClusterId, TokenId};
use model::identity::JoinRole;
use model::time::WallTime;
use pki::{ClusterCa, JoinToken, TokenError};

static CA: LazyLock<ClusterCa> = LazyLock::new(|| {
    ClusterCa::generate(ClusterId(1), WallTime(1_800_000_000_000_000)).expect("an authority")
});

fn token(role: JoinRole) -> JoinToken {
    CA.join_token(role, TokenId(42))
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
    let mut altered = text.clone();
    let digit = if altered.as_bytes()[40] == b'0' { "1" } else { "0" };
    altered.replace_range(40..41, digit);
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
fn only_the_secret_of_that_authority_role_and_id_is_admitted() {
    let made = token(JoinRole::Agent);
    let other = ClusterCa::generate(ClusterId(1), WallTime(1_800_000_000_000_000)).expect("an authority");
    assert!(CA.admits(JoinRole::Agent, TokenId(42), made.secret()));
    assert!(!CA.admits(JoinRole::Manager, TokenId(42), made.secret()));
    assert!(!CA.admits(JoinRole::Agent, TokenId(43), made.secret()));
    assert!(!CA.admits(JoinRole::Agent, TokenId(42), b""));
    assert!(!other.admits(JoinRole::Agent, TokenId(42), made.secret()));
}

#[test]
fn an_authority_read_back_composes_the_same_token() {
    let again = ClusterCa::from_pem(CA.certificate_pem(), &CA.key_pem()).expect("reads back");
    assert_eq!(again.join_token(JoinRole::Manager, TokenId(7)), CA.join_token(JoinRole::Manager, TokenId(7)));
}

#[test]
fn no_secret_shows_in_debug_output() {
    let made = token(JoinRole::Agent);
    let shown = format!("{made:?}");
    assert!(!shown.contains(&made.reveal()) && shown.contains("<redacted>"), "{shown}");
}
