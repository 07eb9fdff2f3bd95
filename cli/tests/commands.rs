//! The program itself: exit codes and messages of what needs no cluster, or does not find one.

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

fn orchctl(config: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_orchctl"))
        .args(arguments)
        .env("ORCH_CONFIG", config)
        .env_remove("ORCH_CONTEXT")
        .output()
        .expect("orchctl starts")
}

fn check(config: &Path, arguments: &[&str], code: i32) -> (String, String) {
    let output = orchctl(config, arguments);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
    (out, err)
}

const PEM: &str = "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n";

fn context_file(dir: &Path, name: &str, managers: &str) -> String {
    let path = dir.join(format!("{name}.toml"));
    let pem = format!("\"\"\"{PEM}\"\"\"");
    let text = format!(
        "[[context]]\nname = \"{name}\"\nmanagers = [{managers}]\nca = {pem}\ncertificate = {pem}\nkey = {pem}\n"
    );
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("plain").to_owned()
}

#[test]
fn a_wrong_command_line_exits_2_and_help_exits_0() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("config.toml");
    check(&config, &["service", "create", "--colour", "red"], 2);
    check(&config, &["scale"], 2);
    check(&config, &["--timeout", "soon", "status"], 2);
    let (out, _) = check(&config, &["--help"], 0);
    assert!(out.contains("Exit codes"), "{out}");
    let (out, _) = check(&config, &["version"], 0);
    assert!(out.starts_with("orchctl "), "{out}");
}

#[test]
fn a_wrong_declaration_exits_2_with_all_its_problems_before_any_cluster_is_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("config.toml");
    let line = ["service", "create", "--limit-memory", "lots", "--publish", "http", "image"];
    let (_, err) = check(&config, &line, 2);
    for part in ["--limit-memory", "--publish", "--name"] {
        assert!(err.contains(part), "{part} in {err}");
    }
    let (out, err) = check(&config, &[&["--json"], &line[..]].concat(), 2);
    let document: serde_json::Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!((out.as_str(), &document["error"]["exit"]), ("", &2.into()));
    assert_eq!(document["error"]["problems"].as_array().map(Vec::len), Some(3));
}

#[test]
fn without_a_cluster_the_message_says_how_to_get_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, err) = check(&dir.path().join("config.toml"), &["status"], 1);
    assert!(err.contains("orchctl dev up") && err.contains("context import"), "{err}");
}

#[test]
fn contexts_are_imported_chosen_and_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("config.toml");
    let (a, b) =
        (context_file(dir.path(), "a", "\"h1:1\""), context_file(dir.path(), "b", "\"h2:2\", \"h3:3\""));
    check(&config, &["context", "import", &a], 0);
    check(&config, &["context", "import", &b], 0);
    check(&config, &["context", "import", &b], 2);
    check(&config, &["context", "import", &b, "--name", "c"], 0);
    let (out, _) = check(&config, &["context", "ls"], 0);
    let expected = "   NAME  MANAGERS    CLUSTER\n*  a     h1:1\n   b     h2:2, h3:3\n   c     h2:2, h3:3\n";
    assert_eq!(out, expected);
    check(&config, &["context", "use", "b"], 0);
    let (out, _) = check(&config, &["context", "show", "--json"], 0);
    assert!(out.contains("\"b\"") && !out.contains("BEGIN"), "{out}");
    check(&config, &["context", "use", "z"], 1);
    check(&config, &["context", "rm", "b", "c"], 0);
    let (out, _) = check(&config, &["context", "ls", "-q"], 0);
    assert_eq!(out, "a\n");
}

#[test]
fn a_context_with_broken_certificates_is_refused_as_such() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("config.toml");
    // A port that nobody listens on: it was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let file = context_file(dir.path(), "a", &format!("\"127.0.0.1:{port}\""));
    check(&config, &["context", "import", &file], 0);
    let (_, err) = check(&config, &["status"], 4);
    assert!(err.contains("context \"a\""), "{err}");
}

#[test]
fn completions_and_manual_pages_cover_the_commands() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("config.toml");
    for shell in ["bash", "zsh", "fish"] {
        let (out, _) = check(&config, &["completions", shell], 0);
        assert!(out.contains("drain"), "{shell}");
    }
    let man = dir.path().join("man");
    check(&config, &["man", man.to_str().expect("plain")], 0);
    assert!(man.join("orchctl-service-create.1").exists());
}
