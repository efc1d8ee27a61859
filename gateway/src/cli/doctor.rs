//! `tidegate doctor`: what is wrong with this set-up, and how to mend it.
//!
//! It looks at two things: the machine that it runs on, where that is the gateway's ([`host`]), and the gateway as it
//! answers from here ([`remote`]). The rule: it changes nothing, takes no lock, and needs no API token; with one it sees
//! more.

mod host;
mod remote;

use clap::Args;
use shared::report::{Check, Outcome, Report};

use super::ServeArgs;
use super::access::How;
use super::exit::CliError;
use super::output::print;
use crate::config::Config;
use crate::serve::configuration;

/// `tidegate doctor`.
#[derive(Args, Debug)]
#[command(
    after_help = "On the gateway's machine give it the configuration of `serve`, and run it as the gateway's user. \
    Elsewhere give it --url and how to know the gateway. Exits with 1 if something must be mended."
)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub(super) serve: ServeArgs,
    #[command(flatten)]
    how: How,
}

impl DoctorArgs {
    /// Looks at everything and says what it found.
    pub async fn run(self) -> Result<(), CliError> {
        let mut report = Report::default();
        let file = self.serve.config.clone().filter(|file| !file.as_os_str().is_empty());
        let here = match configuration(self.serve.options, file.as_deref()) {
            Ok(config) => host::look(&config, file.as_deref(), &mut report).then_some(config),
            Err(error) => {
                report.add(wrong_configuration(&error.to_string()));
                None
            }
        };
        remote::look(&self.how.access, here.as_ref(), &mut report).await;
        print(self.how.output, &report, Report::text)?;
        match report.worst() {
            Outcome::Ok | Outcome::Warning => Ok(()),
            Outcome::Failure => Err(CliError::Failed("something must be mended".to_owned())),
        }
    }
}

fn wrong_configuration(problem: &str) -> Check {
    let next = "correct it: `tidegate check-config` takes the same options, and docs/operations.md has a table of them";
    Check::fail("configuration", problem.lines().collect::<Vec<_>>().join("; "), next)
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    super::units::bytes(bytes)
}

/// What a certificate's end means for whoever must renew it.
fn certificate_end(
    name: &str,
    whose: &str,
    not_after: Option<std::time::SystemTime>,
    now: std::time::SystemTime,
    how_to_renew: &str,
) -> Check {
    const DAY: u64 = 86_400;
    /// Whoever renews by hand gets a month; what renews by itself does so before.
    const SOON_DAYS: u64 = 30;
    let Some(not_after) = not_after else { return Check::ok(name, format!("{whose} has no end")) };
    let date = shared::wire::rfc3339(not_after);
    match not_after.duration_since(now) {
        Err(_) => Check::fail(name, format!("{whose} ended at {date}"), how_to_renew),
        Ok(left) if left.as_secs() < SOON_DAYS * DAY => Check::warn(
            name,
            format!("{whose} ends in {} days, at {date}", left.as_secs() / DAY),
            how_to_renew,
        ),
        Ok(left) => Check::ok(name, format!("{whose} is good for {} days", left.as_secs() / DAY)),
    }
}

/// The configuration, for checks of either side.
type Here<'a> = Option<&'a Config>;

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_certificate_is_complained_of_before_it_ends() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let days = |days: u64| Some(now + Duration::from_secs(days * 86_400));
        let check = |end| certificate_end("certificate", "its certificate", end, now, "renew it");
        assert_eq!(check(None).outcome, Outcome::Ok);
        assert_eq!(check(days(31)).outcome, Outcome::Ok);
        let soon = check(days(12));
        assert_eq!(soon.outcome, Outcome::Warning);
        assert!(soon.found.contains("12 days"), "{soon:?}");
        assert_eq!(check(Some(UNIX_EPOCH)).outcome, Outcome::Failure);
    }
}
