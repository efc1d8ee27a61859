//! Quantities as people write them on a command line; as they read them is [`crate::quantities`].

pub use crate::quantities::{bytes, span};

/// A time span as flags have it, in seconds: a number and its unit.
pub fn seconds(text: &str) -> Result<u32, String> {
    let wrong = || "write a number and s, m, h or d, as in 10m or 30d".to_owned();
    let unit = text.char_indices().next_back().map(|(at, unit)| (&text[..at], unit));
    let (number, factor) = match unit {
        Some((number, 's')) => (number, 1),
        Some((number, 'm')) => (number, 60),
        Some((number, 'h')) => (number, 3600),
        Some((number, 'd')) => (number, 86_400),
        Some(_) | None => return Err(wrong()),
    };
    number.parse::<u32>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, expected) in [("90s", 90), ("10m", 600), ("24h", 86_400), ("30d", 2_592_000)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "30", "d", "-1d", "1w", "99999999d", "1ä"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
