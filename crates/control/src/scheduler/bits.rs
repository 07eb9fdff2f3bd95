//! Sets of dense node numbers as words of 64 bits: an intersection of ten thousand nodes is 157 machine words.

/// A set of small numbers. It grows on demand; numbers beyond its words are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

fn split(number: u32) -> (usize, u64) {
    (number as usize / 64, 1 << (number % 64))
}

impl Bits {
    pub(crate) fn insert(&mut self, number: u32) {
        let (word, mask) = split(number);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= mask;
    }

    pub(crate) fn remove(&mut self, number: u32) {
        let (word, mask) = split(number);
        if let Some(bits) = self.words.get_mut(word) {
            *bits &= !mask;
        }
    }

    /// Inserts or removes.
    pub(crate) fn set(&mut self, number: u32, present: bool) {
        if present { self.insert(number) } else { self.remove(number) }
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        let (word, mask) = split(number);
        self.word(word) & mask != 0
    }

    /// The 64 numbers from `64 * index` on.
    pub(crate) fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }

    /// How many words may hold anything.
    pub(crate) fn words(&self) -> usize {
        self.words.len()
    }

    /// Keeps what `other` has too.
    pub(crate) fn keep(&mut self, other: &Self) {
        for (index, word) in self.words.iter_mut().enumerate() {
            *word &= other.word(index);
        }
    }

    /// Removes what `other` has.
    pub(crate) fn drop_all(&mut self, other: &Self) {
        for (word, gone) in self.words.iter_mut().zip(&other.words) {
            *word &= !gone;
        }
    }

    pub(crate) fn and(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.keep(other);
        result
    }

    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub(crate) fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The numbers, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                Some(index as u32 * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: &[u32]) -> Bits {
        let mut bits = Bits::default();
        numbers.iter().for_each(|number| bits.insert(*number));
        bits
    }

    #[test]
    fn a_set_yields_its_numbers_in_order_across_words() {
        let mut bits = set(&[200, 3, 64, 63]);
        assert_eq!(bits.iter().collect::<Vec<_>>(), [3, 63, 64, 200]);
        bits.remove(64);
        bits.remove(9_999);
        assert_eq!((bits.count(), bits.contains(64), bits.contains(200)), (3, false, true));
    }

    #[test]
    fn intersections_ignore_missing_words() {
        let mut bits = set(&[1, 70, 130]);
        assert!(bits.intersects(&set(&[130])));
        assert_eq!(bits.and(&set(&[2, 70])).iter().collect::<Vec<_>>(), [70]);
        bits.keep(&set(&[2]));
        assert!(bits.is_empty());
    }
}
