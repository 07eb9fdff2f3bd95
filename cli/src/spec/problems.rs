//! Everything that is wrong, collected on the way.

use model::{
    service::ServiceSpec,
    validate::{Problem, validate_service},
};

use crate::exit::Failure;

/// A growing list of problems.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Notes a problem.
    pub fn add(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), message: message.into() });
    }

    /// The value, or `None` and a problem more.
    pub fn take<T>(&mut self, path: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|message| self.add(path, message)).ok()
    }

    /// The values that can be read; a problem for each that cannot.
    pub fn all<T>(
        &mut self,
        path: &str,
        texts: &[String],
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        texts.iter().filter_map(|text| self.take(path, read(text))).collect()
    }

    /// The declaration, if nothing is wrong with it as a whole either. What is missing was told in the user's words already.
    ///
    /// # Errors
    /// All problems.
    pub fn finish_spec(mut self, spec: ServiceSpec) -> Result<ServiceSpec, Failure> {
        let nameless = spec.name.is_empty();
        let imageless = spec.template.container.image.is_empty();
        let told = |problem: &Problem| match problem.path.as_str() {
            "name" => nameless,
            "template.container.image" => imageless,
            _ => false,
        };
        self.0.extend(validate_service(&spec).into_iter().filter(|problem| !told(problem)));
        self.finish(spec)
    }

    /// The value, if nothing is wrong.
    ///
    /// # Errors
    /// All problems.
    pub fn finish<T>(self, value: T) -> Result<T, Failure> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0.into()) }
    }
}
