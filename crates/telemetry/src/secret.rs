//! A value that must not appear in a log, an answer or an error.

use std::fmt;

/// Holds a secret: no `Display`, no serialisation, and `Debug` prints `<redacted>`.
///
/// So a structure that contains one can derive `Debug` and be logged as a whole; the one way to the value is
/// [`Secret::expose`], which a reviewer can search for.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a secret.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one place that needs it.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// Unwraps the value.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[expect(dead_code, reason = "only its Debug output is looked at")]
    struct Login {
        user: &'static str,
        password: Secret<String>,
    }

    #[test]
    fn a_structure_with_a_secret_can_be_logged() {
        let login = Login { user: "anna", password: Secret::new("hunter2".into()) };
        assert_eq!(format!("{login:?}"), r#"Login { user: "anna", password: <redacted> }"#);
    }

    #[test]
    fn the_value_is_there_for_who_asks() {
        let secret = Secret::from("hunter2");
        assert_eq!((*secret.expose(), secret.clone().into_exposed()), ("hunter2", "hunter2"));
    }
}
