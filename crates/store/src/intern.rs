//! Texts that thousands of tasks have in common, kept once.

use std::sync::Arc;

use imbl::OrdMap;

/// Different texts remembered at once. Beyond it all are forgotten, and shared anew as they come: what is held stays right.
const MAX_TEXTS: usize = 4_096;

/// The texts held lately. Derived, never stored, and of no consequence besides memory.
#[derive(Clone, Default)]
pub(crate) struct Texts(OrdMap<Arc<str>, ()>);

impl Texts {
    /// The one copy of a text.
    pub fn share(&mut self, text: &str) -> Arc<str> {
        if let Some((known, ())) = self.0.get_key_value(text) {
            return known.clone();
        }
        if self.0.len() >= MAX_TEXTS {
            self.0.clear();
        }
        let new: Arc<str> = text.into();
        self.0.insert(new.clone(), ());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_and_their_number_is_bounded() {
        let mut texts = Texts::default();
        assert!(Arc::ptr_eq(&texts.share("a"), &texts.share("a")));
        (0..=MAX_TEXTS).for_each(|number| drop(texts.share(&number.to_string())));
        assert!(texts.0.len() <= MAX_TEXTS);
    }
}
