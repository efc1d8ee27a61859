//! JSON on the wire: one module for each conversation. Golden files in `fixtures` hold these types still; changing one
//! is a decision about the protocol.

pub mod admin;
pub mod check_in;
pub mod problem;
pub mod snapshot;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::DATE;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time as every field of the wire carries it: RFC 3339 in UTC, to the millisecond. Times that the format has no
/// digits for (before 1970, after 9999) are as wrong as no clock at all and show as 1970.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanoseconds = i128::try_from(since.as_millis()).unwrap_or(0) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

/// The time that a field of the wire carries; `None` for what is none, or before 1970.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let since = u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_millis(since))
}

/// When an answer was made by its maker's clock, to the second (RFC 9110, section 6.6.1).
pub fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(UNIX_EPOCH), "1970-01-01T00:00:00Z");
        let later = UNIX_EPOCH + Duration::new(1_794_211_200, 250_999_999);
        assert_eq!(rfc3339(later), "2026-11-09T08:00:00.25Z");
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(1 << 50)), rfc3339(UNIX_EPOCH));
    }

    #[test]
    fn times_survive_their_text() {
        let time = UNIX_EPOCH + Duration::from_millis(1_794_211_200_250);
        assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time));
        assert_eq!(parse_rfc3339("2026-11-09T09:00:00.25+01:00"), Some(time));
        for bad in ["", "now", "1969-12-31T23:59:58Z", "2026-11-09"] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }
}
