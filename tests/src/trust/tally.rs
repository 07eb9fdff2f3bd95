//! What was tried, and whether anything was let through.

use model::audit::{Record, Verdict as Recorded};

use super::answer::Answer;

/// One attack.
#[derive(Debug, Clone)]
pub struct Tried {
    pub group: &'static str,
    pub name: String,
    /// It was not done.
    pub refused: bool,
    /// What the attacker was told.
    pub said: String,
    /// Words that it has to hold; `None`: the attacker is told nothing, on purpose.
    says: Option<Vec<&'static str>>,
    /// Who has to be on record, and for what.
    on_record: Option<(String, String)>,
    /// What is on record of a handshake, of which the attacker hears less.
    at_the_door: Option<&'static str>,
}

impl Tried {
    /// The attacker learns nothing, not even that it was refused.
    pub fn silently(&mut self) -> &mut Self {
        self.says = None;
        self
    }

    /// What the refusal has to hold.
    pub fn saying(&mut self, words: &[&'static str]) -> &mut Self {
        self.says = Some(words.to_vec());
        self
    }

    /// A change that somebody known asked for: its refusal has to be on record, under this holder and verb.
    pub fn on_record(&mut self, who: &str, verb: &str) -> &mut Self {
        self.on_record = Some((who.to_owned(), verb.to_owned()));
        self
    }

    /// Refused before anybody knew who it was: that has to be on record, with these words.
    pub fn on_record_at_the_door(&mut self, words: &'static str) -> &mut Self {
        self.at_the_door = Some(words);
        self.on_record("anonymous", "connect")
    }

    fn explained(&self) -> bool {
        let says =
            |words: &Vec<&str>| !self.said.is_empty() && words.iter().all(|word| self.said.contains(word));
        self.says.as_ref().is_some_and(says)
    }

    fn recorded(&self, records: &[Record]) -> bool {
        let Some((who, verb)) = &self.on_record else { return false };
        // The reason is what the attacker was told, or the paths of what is wrong with a declaration. Only what is refused when it is
        // applied is recorded in fixed words.
        let told = |record: &Record| {
            let mut parts = record.reason.split(", ");
            record.verdict == Recorded::Rejected
                || record.reason.ends_with("when it was applied")
                || match self.at_the_door {
                    Some(words) => record.reason.contains(words),
                    None => parts.all(|part| self.said.contains(part)),
                }
        };
        records.iter().any(|record| {
            record.who == *who && record.verb == *verb && record.verdict != Recorded::Accepted && told(record)
        })
    }
}

/// All of it.
#[derive(Debug, Default)]
pub struct Tally {
    group: &'static str,
    pub attacks: Vec<Tried>,
    /// Cells of the matrix that were tried.
    pub cells: usize,
    /// What is wrong, in words; each is something that was let through, or withheld from who may have it.
    pub wrong: Vec<String>,
}

impl Tally {
    /// What follows belongs to this group.
    pub fn begin(&mut self, group: &'static str) {
        self.group = group;
    }

    /// An attack and its answer.
    pub fn tried(&mut self, name: impl Into<String>, answer: &Answer) -> &mut Tried {
        self.attacks.push(Tried {
            group: self.group,
            name: name.into(),
            refused: answer.refused,
            said: answer.said.clone(),
            says: Some(Vec::new()),
            on_record: None,
            at_the_door: None,
        });
        self.attacks.last_mut().expect("just added")
    }

    /// Something that has to hold.
    pub fn holds(&mut self, what: &str, holds: bool) {
        if !holds {
            self.wrong.push(format!("{}: {what}", self.group));
        }
    }

    /// Holds the attacks against what is on record.
    pub fn close(&mut self, records: &[Record]) -> Counts {
        let mut counts = Counts { cells: self.cells, ..Counts::default() };
        for tried in &self.attacks {
            let name = format!("{}: {}", tried.group, tried.name);
            if !tried.refused {
                self.wrong.push(format!("{name}: let through"));
                counts.let_through += 1;
                continue;
            }
            counts.refused += 1;
            match (tried.says.is_some(), tried.explained()) {
                (true, false) => {
                    self.wrong.push(format!("{name}: not explained by {:?}: {:?}", tried.says, tried.said))
                }
                (true, true) => counts.explained += 1,
                (false, _) => {}
            }
            match (tried.on_record.is_some(), tried.recorded(records)) {
                (true, false) => self.wrong.push(format!("{name}: not on record as {:?}", tried.on_record)),
                (true, true) => counts.recorded += 1,
                (false, _) => {}
            }
        }
        counts
    }
}

/// For the last line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub cells: usize,
    pub refused: usize,
    pub explained: usize,
    pub recorded: usize,
    pub let_through: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::answer::Verdict;

    #[test]
    fn what_is_let_through_not_explained_or_not_on_record_is_wrong() {
        let mut tally = Tally::default();
        tally.begin("here");
        tally.tried("done", &Answer::done());
        tally.tried("mute", &Answer::refused(Verdict::Denied, ""));
        tally.tried("other words", &Answer::refused(Verdict::Denied, "no")).saying(&["ask an admin"]);
        tally.tried("forgotten", &Answer::refused(Verdict::Denied, "no")).on_record("user x", "scale");
        tally.tried("silent", &Answer::refused(Verdict::Denied, "")).silently();
        let counts = tally.close(&[]);
        assert_eq!((counts.let_through, counts.refused, counts.explained, counts.recorded), (1, 4, 1, 0));
        assert_eq!(tally.wrong.len(), 4, "{:?}", tally.wrong);
    }
}
