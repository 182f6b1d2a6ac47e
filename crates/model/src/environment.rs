//! The process environment, as a value.

use std::collections::BTreeMap;

/// A snapshot of the process environment.
///
/// Libraries take one of these and never call [`std::env::var`], so that a test can describe a CI runner
/// without touching its own process. It has no `Debug`: it holds secrets.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Returns the value of `name`, or `None` when it is unset or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns whether `name` is exactly `value`.
    pub fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }

    /// Returns every variable in the order of its name, those with an empty value included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds the variables of `defaults` that are unset or empty here.
    pub fn or(mut self, defaults: Environment) -> Self {
        for (name, value) in defaults.0 {
            if self.get(&name).is_none() {
                self.0.insert(name, value);
            }
        }
        self
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
