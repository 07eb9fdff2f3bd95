//! What an access log may say of a request: its path without secrets.
//!
//! Services take tokens in their paths (`/rest/<token>/proposals`), servlet containers take sessions there (`;jsessionid=…`), and queries
//! hold anything. A log must have none of it, however the client writes the path: so patterns are compared with what a server makes
//! of a segment (escapes read, case and parameters ignored, empty segments skipped), and a path that leads elsewhere than it looks
//! (`..`, an escaped slash) is not written at all.

use model::route::HttpPort;

/// The longest path that is written; a longer one is cut.
const MAX_PATH: usize = 1_000;
/// What stands for something that is left out.
const MASKED: &str = "*";

/// The rules of one HTTP port.
#[derive(Debug, PartialEq, Eq)]
pub struct AccessRules {
    /// One of so many requests is written, at least 1.
    every: u64,
    masks: Vec<Mask>,
    shows_query: bool,
}

/// Segments, of which those that are `*` are left out.
#[derive(Debug, PartialEq, Eq)]
struct Mask {
    segments: Vec<String>,
    /// It is for the beginning of a path only.
    is_anchored: bool,
}

impl AccessRules {
    /// Those of a port; `None` when nothing is written.
    pub fn new(settings: &HttpPort) -> Option<Self> {
        (settings.log > 0).then(|| Self {
            every: settings.log.into(),
            masks: settings.log_mask.iter().map(|mask| Mask::new(mask)).collect(),
            shows_query: settings.log_query,
        })
    }

    /// Whether a request is written, by a random number.
    pub fn takes(&self, draw: u64) -> bool {
        draw.is_multiple_of(self.every)
    }

    /// Path and query as they are written.
    pub fn shown(&self, target: &str) -> String {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let mut shown = self.path(path);
        match query {
            Some(query) if self.shows_query => shown.extend(["?", query]),
            Some(_) => shown.extend(["?", MASKED]),
            None => {}
        }
        if shown.len() > MAX_PATH {
            shown.truncate(shown.floor_char_boundary(MAX_PATH));
            shown.push('…');
        }
        shown
    }

    fn path(&self, path: &str) -> String {
        let segments: Vec<&str> = path.split('/').collect();
        let meant: Vec<(usize, String)> = segments
            .iter()
            .enumerate()
            .map(|(position, segment)| (position, meaning(segment)))
            .filter(|(_, meant)| !meant.is_empty() && meant != ".")
            .collect();
        let leads_elsewhere = |(_, meant): &(usize, String)| meant == ".." || meant.contains(['/', '\\']);
        if !self.masks.is_empty() && meant.iter().any(leads_elsewhere) {
            return format!("/{MASKED}");
        }
        let mut hidden = vec![false; segments.len()];
        for mask in &self.masks {
            mask.hide(&meant, &mut hidden);
        }
        let written = segments.iter().zip(hidden).map(|(segment, is_hidden)| match segment.split_once(';') {
            _ if is_hidden => MASKED.to_owned(),
            Some((name, _)) => format!("{name};{MASKED}"),
            None => (*segment).to_owned(),
        });
        written.collect::<Vec<_>>().join("/")
    }
}

impl Mask {
    fn new(text: &str) -> Self {
        let segments = text.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
        Self { segments, is_anchored: text.starts_with('/') }
    }

    /// Marks what of a path it leaves out. A path that ends within the pattern has it up to there.
    fn hide(&self, meant: &[(usize, String)], hidden: &mut [bool]) {
        let places = if self.is_anchored { 1 } else { meant.len() };
        for begin in 0..places.min(meant.len()) {
            let here = || self.segments.iter().zip(&meant[begin..]);
            if here().all(|(own, (_, theirs))| own == MASKED || own.eq_ignore_ascii_case(theirs)) {
                here()
                    .filter(|(own, _)| *own == MASKED)
                    .for_each(|(_, (position, _))| hidden[*position] = true);
            }
        }
    }
}

/// What a server reads in a segment: without parameters, escapes resolved. Bytes that are no text are shown as such.
fn meaning(segment: &str) -> String {
    let name = segment.split_once(';').map_or(segment, |(name, _)| name);
    if !name.contains('%') {
        return name.to_owned();
    }
    let (bytes, mut meant, mut at) = (name.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let digit = |offset: usize| bytes.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                // Two digits of 16.
                meant.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, ..) => {
                meant.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&meant).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(masks: &[&str]) -> AccessRules {
        let log_mask = masks.iter().map(|mask| (*mask).to_owned()).collect();
        AccessRules::new(&HttpPort { log: 1, log_mask, ..HttpPort::default() }).unwrap()
    }

    fn check(masks: &[&str], cases: &[(&str, &str)]) {
        for (target, shown) in cases {
            assert_eq!(rules(masks).shown(target), *shown, "{target} by {masks:?}");
        }
    }

    #[test]
    fn a_token_is_left_out_wherever_its_pattern_is_and_a_query_too() {
        let cases = [
            ("/ispyb/ispyb-ws/rest/6a1f/proposal/mx1/info", "/ispyb/ispyb-ws/rest/*/proposal/mx1/info"),
            ("/rest/6a1f?token=7", "/rest/*?*"),
            ("/rest", "/rest"),
            ("/restless/6a1f", "/restless/6a1f"),
            ("/a/rest/b/rest/c", "/a/rest/*/rest/*"),
            ("/?", "/?*"),
            ("*", "*"),
        ];
        check(&["rest/*"], &cases);
    }

    #[test]
    fn a_token_is_left_out_however_its_path_is_written() {
        let cases = [
            ("/r%65st/6a1f/x", "/r%65st/*/x"),
            ("/REST/6a1f", "/REST/*"),
            ("//rest//6a1f", "//rest//*"),
            ("/rest/./6a1f", "/rest/./*"),
            ("/rest;v=1/6a1f;jsessionid=8", "/rest;*/*"),
            ("/rest/x/../6a1f", "/*"),
            ("/rest/x/%2e%2E/6a1f", "/*"),
            ("/rest%2f6a1f", "/*"),
            ("/rest%5C6a1f?x", "/*?*"),
        ];
        check(&["rest/*"], &cases);
    }

    #[test]
    fn a_pattern_with_a_slash_before_it_is_for_the_beginning_only() {
        let cases = [("/api/7/keys/8/x", "/api/*/keys/*/x"), ("/v1/api/7/keys/8", "/v1/api/7/keys/8")];
        check(&["/api/*/keys/*"], &cases);
    }

    #[test]
    fn a_path_that_ends_within_its_pattern_is_left_out_as_far_as_it_goes() {
        check(&["/api/*/keys/*"], &[("/api/7", "/api/*"), ("/api/7/keys", "/api/*/keys")]);
    }

    #[test]
    fn without_patterns_paths_are_written_as_they_came_but_for_parameters() {
        check(&[], &[("/rest/6a1f/..", "/rest/6a1f/.."), ("/a;jsessionid=8/b", "/a;*/b")]);
    }

    #[test]
    fn a_long_path_is_cut() {
        let shown = rules(&[]).shown(&format!("/{}", "é".repeat(900)));
        assert!(shown.len() <= MAX_PATH + 3 && shown.ends_with("é…"), "{} bytes", shown.len());
    }

    #[test]
    fn one_of_so_many_requests_is_written_and_none_when_it_is_off() {
        assert_eq!(AccessRules::new(&HttpPort::default()), None);
        let tenth = AccessRules::new(&HttpPort { log: 10, ..HttpPort::default() }).unwrap();
        assert_eq!((0..1_000).filter(|draw| tenth.takes(*draw)).count(), 100);
        assert!((0..100).all(|draw| rules(&[]).takes(draw)));
    }
}
