//! Every claim of docs/security.md names a test, and every test that it names is there.

use std::fs;

use tests::binaries::workspace;

/// Rows of tables with claims: those whose last column is `held by`.
fn claims(page: &str) -> Vec<&str> {
    let mut claims = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line.trim() {
            "| claim | held by |" => inside = true,
            row if inside && row.starts_with("|--") => {}
            row if inside && row.starts_with('|') => claims.push(row),
            _ => inside = false,
        }
    }
    claims
}

/// The pairs of a file and a function between back ticks.
fn pointers(row: &str) -> Vec<(&str, &str)> {
    row.split('`').filter_map(|part| part.split_once(".rs:")).collect()
}

#[test]
fn every_claim_of_the_security_page_points_to_a_test_that_is_there() {
    let page = fs::read_to_string(workspace().join("docs/security.md")).expect("the page");
    let claims = claims(&page);
    assert!(claims.len() > 30, "the page has its tables: {}", claims.len());
    let mut wrong = Vec::new();
    for row in claims {
        let pointers = pointers(row);
        if pointers.is_empty() {
            wrong.push(format!("no test: {row}"));
        }
        for (file, function) in pointers {
            let source = fs::read_to_string(workspace().join(format!("{file}.rs"))).unwrap_or_default();
            if !is_a_test(&source, function) {
                wrong.push(format!("{file}.rs has no test {function}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a function of that name stands below an attribute that makes it a test.
fn is_a_test(source: &str, function: &str) -> bool {
    let head = format!("fn {function}(");
    let Some((before, _)) = source.split_once(&head) else { return false };
    let above = before.trim_end_matches(|letter| letter != '\n').trim_end();
    let attributes =
        above.lines().rev().take_while(|line| line.trim().starts_with('#') || line.trim().starts_with("//"));
    attributes.into_iter().any(|line| line.contains("test"))
}

#[test]
fn a_function_that_is_no_test_holds_no_claim() {
    let source = "fn helper() {}\n\n#[test]\nfn it_holds() {}\n#[tokio::test]\nasync fn so_does_this() {}\n";
    assert!(is_a_test(source, "it_holds") && is_a_test(source, "so_does_this"));
    assert!(!is_a_test(source, "helper") && !is_a_test(source, "gone"));
}
