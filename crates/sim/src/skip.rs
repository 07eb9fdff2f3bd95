//! What of a world's schedule is left out: faults and operators' steps, by their numbers. What remains takes place as if
//! nothing had been left out, as far as it does not follow from what was.

use std::{collections::BTreeSet, fmt, num::ParseIntError, str::FromStr};

/// One thing that a world's seed puts on the agenda.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// The fault of this number, from 1.
    Fault(u32),
    /// The operators' step of this number, from 1.
    Step(u32),
}

/// How much of each there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drawn {
    /// Faults.
    pub faults: u32,
    /// Steps.
    pub steps: u32,
}

impl Drawn {
    /// All of them.
    pub fn items(self) -> impl Iterator<Item = Item> {
        (1..=self.faults).map(Item::Fault).chain((1..=self.steps).map(Item::Step))
    }

    /// Whether the item is one of them.
    pub fn contains(self, item: Item) -> bool {
        match item {
            Item::Fault(number) => number <= self.faults,
            Item::Step(number) => number <= self.steps,
        }
    }
}

/// What is left out. As text: `f1-3,f7,s2-40`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skip(BTreeSet<Item>);

impl Skip {
    /// Leaves this out.
    pub fn contains(&self, item: Item) -> bool {
        self.0.contains(&item)
    }

    /// As this, and these as well.
    pub fn and(&self, more: &[Item]) -> Self {
        Self(self.0.iter().chain(more).copied().collect())
    }

    /// Of these only.
    pub fn within(&self, drawn: Drawn) -> Self {
        Self(self.0.iter().copied().filter(|item| drawn.contains(*item)).collect())
    }

    /// Nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Runs of numbers that follow each other.
fn runs(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.0.iter().filter_map(|item| match item {
            Item::Fault(number) => Some(*number),
            Item::Step(_) => None,
        });
        let steps = self.0.iter().filter_map(|item| match item {
            Item::Step(number) => Some(*number),
            Item::Fault(_) => None,
        });
        let faults = runs(faults).into_iter().map(|run| ('f', run));
        let all = faults.chain(runs(steps).into_iter().map(|run| ('s', run)));
        for (place, (letter, (first, last))) in all.enumerate() {
            f.write_str(if place > 0 { "," } else { "" })?;
            write!(f, "{letter}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

/// Text that names no items.
#[derive(Debug, PartialEq, Eq)]
pub struct NoItems(String);

impl fmt::Display for NoItems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not like f3, f1-7, s2 or s2-40", self.0)
    }
}

impl std::error::Error for NoItems {}

impl FromStr for Skip {
    type Err = NoItems;

    fn from_str(text: &str) -> Result<Self, NoItems> {
        let mut items = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let wrong = || NoItems(part.to_owned());
            let item = match part.chars().next() {
                Some('f') => Item::Fault,
                Some('s') => Item::Step,
                _ => return Err(wrong()),
            };
            let (first, last) = range(&part[1..]).map_err(|_| wrong())?;
            items.extend((first..=last).map(item));
        }
        Ok(Self(items))
    }
}

fn range(text: &str) -> Result<(u32, u32), ParseIntError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Ok((first.parse()?, last.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_reads_back_as_it_was_written() {
        let skip: Skip = "s9,f1-3,s2-4,f7".parse().expect("items");
        assert_eq!(skip.to_string(), "f1-3,f7,s2-4,s9");
        assert!(skip.contains(Item::Fault(2)) && !skip.contains(Item::Step(1)));
        assert_eq!("".parse(), Ok(Skip::default()));
        for wrong in ["3", "f", "x1", "f1-", "s1-2-3"] {
            assert!(wrong.parse::<Skip>().is_err(), "{wrong}");
        }
    }
}
