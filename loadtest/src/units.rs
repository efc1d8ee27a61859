//! Sizes and durations as people type them. Pure.

use std::time::Duration;

/// Bytes of a mebibyte.
pub const MIB: u64 = 1 << 20;
/// Bytes of a gibibyte.
pub const GIB: u64 = 1 << 30;

/// Reads `64KiB`, `256MiB`, `1GiB`, or a number of bytes.
///
/// # Errors
/// Says which forms there are.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let unit = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => MIB,
        "GiB" => GIB,
        _ => return Err("give a size such as 64KiB, 256MiB or 1GiB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "give a size such as 64KiB, 256MiB or 1GiB".to_owned())?;
    number
        .checked_mul(unit)
        .filter(|bytes| *bytes > 0)
        .ok_or("give a size above 0 that fits 64 bits".to_owned())
}

/// Reads `200ms`, `5s` or `2m`.
///
/// # Errors
/// Says which forms there are.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "give a duration such as 200ms, 5s or 2m, above 0 and up to a day".to_owned();
    let (number, unit) = split(text);
    let number: u32 = number.parse().map_err(|_| wrong())?;
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        _ => return Err(wrong()),
    };
    let duration = unit * number;
    if duration.is_zero() || duration > Duration::from_secs(24 * 60 * 60) {
        Err(wrong())
    } else {
        Ok(duration)
    }
}

/// Reads `50/s`, `2.5/s` or `150/m`, as a number for each second.
///
/// # Errors
/// Says which forms there are.
pub fn rate(text: &str) -> Result<f64, String> {
    let wrong = || "give a rate such as 50/s, 2.5/s or 150/m, above 0 and up to 100,000/s".to_owned();
    let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let rate = match unit {
        "s" => number,
        "m" => number / 60.0,
        _ => return Err(wrong()),
    };
    if rate > 0.0 && rate <= 100_000.0 { Ok(rate) } else { Err(wrong()) }
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        for (text, expected) in [("1", 1), ("64KiB", 65_536), ("256MiB", 256 * MIB), ("1GiB", GIB)] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for bad in ["", "0", "KiB", "1MB", "1 MiB", "-1", "99999999999GiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_read_for_a_second() {
        for (text, expected) in [("50/s", 50.0), ("2.5/s", 2.5), ("150/m", 2.5)] {
            assert_eq!(rate(text), Ok(expected), "{text}");
        }
        for bad in ["", "50", "/s", "0/s", "-1/s", "NaN/s", "inf/s", "5/h", "1000000/s"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, expected) in [("200ms", 200), ("5s", 5_000), ("2m", 120_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        for bad in ["", "0s", "5", "s", "1.5s", "2h", "4000000000m"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
