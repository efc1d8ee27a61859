//! Quantities as people write and read them: time spans, bytes.

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

/// In the unit that leaves one to four digits before the point.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scaled = count as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < units.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{scaled:.1} {}", units[unit]) }
}

/// The two largest units of a time span.
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days} d {hours} h")
    } else if hours > 0 {
        format!("{hours} h {minutes} min")
    } else if minutes > 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else {
        format!("{seconds} s")
    }
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

    #[test]
    fn quantities_are_readable() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1536), bytes(u64::MAX)],
            ["0 B", "1023 B", "1.5 KiB", "16384.0 PiB"]
        );
        assert_eq!(
            [span(59), span(61), span(3_660), span(86_400)],
            ["59 s", "1 min 1 s", "1 h 1 min", "1 d 0 h"]
        );
    }
}
