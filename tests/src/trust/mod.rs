//! The security model tried from outside, on a running cluster.
//!
//! [`managers`] needs no engine: it fills a cluster of three managers on loopback with the world that the matrix speaks of
//! ([`site`]), tries the [`attacks`], every request by every caller ([`matrix`]), and looks for planted secrets ([`canaries`]). [`engines`] looks
//! for them on nodes that run containers.
//!
//! Read in this order: [`site`], [`cast`], [`answer`], [`tally`], [`matrix`], [`attacks`], [`canaries`], then the tools [`node`] and [`relay`].

pub mod answer;
pub mod attacks;
pub mod canaries;
pub mod cast;
pub mod engines;
pub mod matrix;
pub mod node;
pub mod relay;
pub mod site;
pub mod tally;

use std::fmt;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use canaries::Search;
use site::Site;
use tally::{Counts, Tally};

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    pub counts: Counts,
    /// Secrets that were planted.
    pub canaries: usize,
    /// What was looked through.
    pub files: usize,
    /// Where one was found.
    pub found: usize,
    /// What is wrong, in words.
    pub wrong: Vec<String>,
}

impl Outcome {
    /// Takes a search in.
    pub fn searched(&mut self, search: &Search, canaries: usize) {
        self.canaries += canaries;
        self.files += search.files;
        for find in search.leaks() {
            self.found += 1;
            self.wrong.push(format!("canary: {} lies in {}", find.what, find.place));
        }
        if !search.can_find() {
            self.wrong.push("canary: the control was not found, so that nothing would have been".to_owned());
        }
    }

    /// Takes another part in.
    pub fn add(&mut self, other: Outcome) {
        let (own, its) = (&mut self.counts, other.counts);
        own.cells += its.cells;
        own.refused += its.refused;
        own.explained += its.explained;
        own.recorded += its.recorded;
        own.let_through += its.let_through;
        self.canaries += other.canaries;
        self.files += other.files;
        self.found += other.found;
        self.wrong.extend(other.wrong);
    }

    /// Whether all is as it has to be.
    pub fn holds(&self) -> bool {
        self.wrong.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { cells, refused, explained, recorded, let_through } = self.counts;
        write!(
            f,
            "{} cells, {refused} attacks refused ({explained} explained, {recorded} on record), {} canaries in {} files: {} found",
            grouped(cells),
            self.canaries,
            grouped(self.files),
            self.found,
        )?;
        let other = self.wrong.len().saturating_sub(let_through + self.found);
        if other > 0 {
            write!(f, "; {other} not as expected")?;
        }
        write!(f, "; {let_through} let through")
    }
}

fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut groups: Vec<&str> = Vec::new();
    groups.extend((first > 0).then(|| &digits[..first]));
    groups.extend(
        digits.as_bytes()[first..].chunks(3).map(|group| std::str::from_utf8(group).expect("digits")),
    );
    groups.join(",")
}

/// Everything that needs no engine, on a fresh cluster of managers on loopback.
///
/// # Errors
/// The cluster does not come along. What was let through is no error here.
pub fn managers(cluster: &Cluster, every_manager: bool) -> Result<Outcome> {
    let site = Site::fill(cluster)?;
    let mut tally = Tally::default();
    attacks::run(&site, &mut tally)?;
    let records = site.records()?;
    matrix::run(&site, every_manager, &mut tally)?;
    tally.begin("rotation");
    attacks::rotation::run(&site, &mut tally).context("attacks after a rotation")?;
    let counts = tally.close(&records);
    let mut outcome = Outcome { counts, wrong: tally.wrong, ..Outcome::default() };
    let (search, canaries) = site.search()?;
    outcome.searched(&search, canaries);
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_what_was_counted() {
        let counts = Counts { cells: 1_236, refused: 41, explained: 40, recorded: 33, let_through: 0 };
        let mut outcome = Outcome { counts, canaries: 7, files: 412, ..Outcome::default() };
        assert_eq!(
            outcome.to_string(),
            "1,236 cells, 41 attacks refused (40 explained, 33 on record), 7 canaries in 412 files: 0 found; 0 let through"
        );
        outcome.wrong.push("something".to_owned());
        let said = outcome.to_string();
        assert!(said.contains("; 1 not as expected; 0 let"), "{said}");
    }
}
