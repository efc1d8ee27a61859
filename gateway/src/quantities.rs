//! Bytes and spans of time as people read them, on the page and in the terminal. Pure.

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
