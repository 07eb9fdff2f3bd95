//! Spec files that nobody should write: refused with what is wrong, or read; what is read is written back and read again.

use cli::spec::file::{parse, tree};
use fuzz::Fuzz;

const SPEC: &str = r#"
name = "web"
mode = { replicated = 3 }
[labels]
team = "mx"
[template.container]
image = "app:1"
[template.container.env]
A = "b"
[template.resources]
memory = "512m"
cpu = 0.5
"#;

#[test]
fn fuzz_spec_files() {
    let samples =
        [SPEC.as_bytes().to_vec(), br#"{"name":"web","template":{"container":{"image":"a"}}}"#.to_vec()];
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "spec-file").samples(samples).run(|input| {
        let text = String::from_utf8_lossy(input);
        match parse(&text) {
            Ok(loaded) => {
                let written = tree(&loaded.spec).to_string();
                let again = parse(&written).expect("what is written is read");
                assert_eq!(again.spec, loaded.spec, "{written}");
                "a declaration".to_owned()
            }
            Err(failure) => {
                let problems = failure.problems.iter().map(ToString::to_string);
                failure.message.clone() + &problems.collect::<String>()
            }
        }
    });
}
