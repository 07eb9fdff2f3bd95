//! Deploy tokens as people handle them, and the digests that managers keep.

use model::id::DeployTokenId;
use pki::{DeploySecret, DeployToken, DeployTokenError, Fingerprint};

fn token() -> DeployToken {
    let secret = DeploySecret::from_bytes([0xab; 32]);
    DeployToken::new(Fingerprint::from_bytes([0x17; 32]), DeployTokenId(42), secret)
}

fn parse(text: &str) -> Result<DeployToken, DeployTokenError> {
    text.parse()
}

#[test]
fn a_token_survives_its_text_white_space_and_upper_case() {
    let text = token().reveal();
    assert!(text.starts_with("ORCHD1-1717"), "{text}");
    assert_eq!(parse(&text), Ok(token()));
    assert_eq!(parse(&format!("  {}\n", text.to_uppercase())), Ok(token()));
}

#[test]
fn a_token_cut_off_anywhere_or_continued_is_refused() {
    let text = token().reveal();
    for length in 0..text.len() {
        assert!(parse(&text[..length]).is_err(), "cut after {length} characters");
    }
    assert_eq!(parse(&format!("{text}0")), Err(DeployTokenError::Damaged));
    assert_eq!(parse(&format!("{text}-more")), Err(DeployTokenError::Damaged));
}

#[test]
fn every_single_mistyped_character_is_noticed() {
    let text = token().reveal();
    for position in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[position] = if bytes[position] == b'5' { b'6' } else { b'5' };
        assert!(parse(std::str::from_utf8(&bytes).expect("ascii")).is_err(), "at {position}");
    }
}

#[test]
fn a_join_token_and_a_newer_version_are_told_apart() {
    let text = token().reveal();
    assert_eq!(parse(&text.replace("ORCHD1", "ORCHJ1")), Err(DeployTokenError::WrongPrefix));
    assert_eq!(parse(&text.replace("ORCHD1", "ORCHD2")), Err(DeployTokenError::UnknownVersion { found: 2 }));
    assert_eq!(parse("é"), Err(DeployTokenError::WrongPrefix));
}

#[test]
fn only_the_secret_itself_fits_its_digest() {
    let digest = token().secret().digest();
    assert!(token().secret().fits(&digest));
    for byte in 0..32 {
        let mut other = [0xab; 32];
        other[byte] ^= 1;
        assert!(!DeploySecret::from_bytes(other).fits(&digest));
    }
    assert_ne!(digest.0, [0xab; 32], "the digest is not the secret");
}

#[test]
fn no_secret_shows_in_debug_output() {
    let shown = format!("{:?} {:?} {:?}", token(), token().secret(), token().secret().digest());
    assert!(!shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
}
