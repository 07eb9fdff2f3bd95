//! Join tokens, mistyped in every way: refused, or the very token.

use fuzz::Fuzz;
use model::{
    id::{ClusterId, TokenId},
    identity::JoinRole,
    time::WallTime,
};
use pki::{ClusterCa, JoinToken};

#[test]
fn fuzz_join_tokens() {
    let ca = ClusterCa::generate(ClusterId(1), WallTime(1_800_000_000_000_000)).expect("an authority");
    let tokens = [JoinRole::Manager, JoinRole::Agent].map(|role| ca.join_token(role, TokenId(42)));
    let samples = tokens.iter().map(|token| token.reveal().into_bytes());
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "token").samples(samples).run(|input| {
        let text = String::from_utf8_lossy(input);
        match text.parse::<JoinToken>() {
            Ok(token) => {
                assert_eq!(token.reveal(), text.trim().to_lowercase().replacen("orchj", "ORCHJ", 1));
                "a token".to_owned()
            }
            Err(error) => error.to_string(),
        }
    });
}
