//! Versions of what can be changed, so that a change can be made dependent on what its author had seen. Pure.
//!
//! The rule: a condition is checked by whoever owns the record, in the step that begins its change: between the two
//! nobody else's change can slip.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher as _};
use std::str::FromStr;

/// What a durable record was like at one moment. Two versions of a record are the same where nothing durable about it
/// differs, whatever happened in between.
///
/// Sixty-four bits are enough: what they guard against is a mistake, made by somebody who may make the change anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64);

impl Version {
    /// The version of this record.
    pub fn of(record: &impl Hash) -> Self {
        // With the same keys for as long as the program lives, and, where the standard library stays the same, beyond.
        let mut hasher = DefaultHasher::new();
        record.hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is no version of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no version of anything here")]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoVersion);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NoVersion)
    }
}

/// On what a change depends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// On nothing.
    #[default]
    None,
    /// On the record being one of these.
    OneOf(Vec<Version>),
}

impl Condition {
    /// Whether the change of this record may begin.
    pub fn admits(&self, record: &impl Hash) -> bool {
        match self {
            Self::None => true,
            Self::OneOf(versions) => versions.contains(&Version::of(record)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_admits_the_versions_that_it_names() {
        let (before, after) = (("shop", 5), ("shop", 10));
        let seen = Condition::OneOf(vec![Version::of(&before)]);
        assert!(seen.admits(&before) && !seen.admits(&after));
        assert!(Condition::None.admits(&after));
        assert!(!Condition::OneOf(Vec::new()).admits(&before), "what nobody has ever seen");
    }

    #[test]
    fn versions_survive_their_text() {
        let version = Version::of(&"shop");
        assert_eq!(version.to_string().parse(), Ok(version));
        assert_eq!(Version(1).to_string(), "0000000000000001");
        for bad in ["", "1", "+000000000000001", "000000000000000g", "00000000000000001"] {
            assert_eq!(bad.parse::<Version>(), Err(NoVersion), "{bad}");
        }
    }
}
