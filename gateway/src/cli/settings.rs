//! `tidegate settings`: what an operator sets while the gateway runs.

use clap::{Args, Subcommand};
use http::Method;
use shared::terminal::Text;
use shared::wire::admin::Settings;

use super::access::How;
use super::client::NOTHING;
use super::exit::CliError;
use super::output::print;

const PATH: &str = "/api/v1/settings";

/// `tidegate settings`.
#[derive(Args, Debug)]
pub struct SettingsArgs {
    #[command(subcommand)]
    command: SettingsCommand,
}

#[derive(Debug, Subcommand)]
enum SettingsCommand {
    /// Show the settings in force
    Show {
        #[command(flatten)]
        how: How,
    },
    /// Change settings; what is not given stays as it is
    Set {
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
struct Change {
    /// Seconds between an agent's check-ins
    #[arg(long, value_name = "SECONDS")]
    interval: Option<u32>,
    /// Seconds without use after which a tunnel closes
    #[arg(long, value_name = "SECONDS")]
    idle_timeout: Option<u32>,
    /// Seconds for which a check-in's answer may be kept back until there is something to say; 0 is off
    #[arg(long, value_name = "SECONDS")]
    hold: Option<u32>,
    /// Where agents and browsers reach the API
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Where agents reach the tunnel server
    #[arg(long, value_name = "HOST:PORT")]
    public_ssh: Option<String>,
    /// Domain below which services have host names of their own; every name below it must lead to the gateway
    #[arg(long, value_name = "DOMAIN")]
    service_domain: Option<String>,
}

impl SettingsArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), CliError> {
        let (how, settings): (How, Settings) = match self.command {
            SettingsCommand::Show { how } => {
                let client = how.access.client()?;
                (how, client.call(Method::GET, PATH, NOTHING).await?)
            }
            SettingsCommand::Set { change, how } => {
                let client = how.access.client()?;
                (how, client.call(Method::PATCH, PATH, Some(&Settings::from(change))).await?)
            }
        };
        print(how.output, &settings, shown)
    }
}

impl From<Change> for Settings {
    fn from(change: Change) -> Self {
        Self {
            interval_s: change.interval,
            idle_timeout_s: change.idle_timeout,
            hold_s: change.hold,
            public_url: change.public_url,
            public_ssh: change.public_ssh,
            service_domain: change.service_domain,
        }
    }
}

fn shown(settings: &Settings) -> Text {
    let seconds = |seconds: Option<u32>| seconds.map_or_else(String::new, |seconds| format!("{seconds} s"));
    Text::facts([
        ("interval", seconds(settings.interval_s)),
        ("idle timeout", seconds(settings.idle_timeout_s)),
        ("hold", if settings.hold_s == Some(0) { "off".to_owned() } else { seconds(settings.hold_s) }),
        ("public url", settings.public_url.clone().unwrap_or_default()),
        ("public ssh", settings.public_ssh.clone().unwrap_or_default()),
        ("service domain", settings.service_domain.clone().unwrap_or_default()),
    ])
}
