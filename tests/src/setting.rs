//! Variables of the environment that make a suite longer, or repeat it: README.md names them.

use std::str::FromStr;

/// The value of a variable, where it is set.
///
/// # Panics
/// If it is not what it should be.
pub fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} can't be {text:?}")))
}
