//! `tidegate edge offer`: credentials for a stock SSH client in the place of an agent, and what to paste on its box.

use clap::Args;
use http::Method;
use shared::id::EdgeName;
use shared::terminal::Text;
use shared::wire::admin::{CreateOffer, OfferCreated, OfferSecret, OfferedService};

use super::access::How;
use super::client::NOTHING;
use super::exit::CliError;
use super::output::{done, print};
use super::units::seconds;

/// `tidegate edge offer`.
#[derive(Args, Debug)]
pub struct OfferArgs {
    /// Name of the edge
    name: EdgeName,
    /// What the box offers, and where the box itself reaches it; may be given several times [default: ssh=localhost:22]
    #[arg(long = "service", value_name = "NAME=HOST:PORT", value_parser = service)]
    services: Vec<OfferedService>,
    /// Make a key for autossh, which lets in again and again, instead of a password that does so once
    #[arg(long)]
    renew: bool,
    /// How long the credentials live: a number and s, m, h or d. 10m unless given and at most a day for a password,
    /// 30d and at most 90d for a key
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    valid: Option<u32>,
    /// Take back every password and key that was made for this edge, and close the tunnel that came of one
    #[arg(long, conflicts_with_all = ["services", "renew", "valid"])]
    revoke: bool,
    #[command(flatten)]
    how: How,
}

impl OfferArgs {
    /// Whose offer it is.
    pub fn name(&self) -> &EdgeName {
        &self.name
    }

    /// Does it, at this path of the API.
    pub async fn run(&self, path: &str) -> Result<(), CliError> {
        let client = self.how.access.client()?;
        if self.revoke {
            client.call::<()>(Method::DELETE, path, NOTHING).await?;
            return done(self.how.output, "revoked", "the offers of", self.name.as_str());
        }
        let asked = CreateOffer { services: self.services.clone(), renew: self.renew, valid_s: self.valid };
        let created: OfferCreated = client.make(path, &asked).await?;
        print(self.how.output, &created, shown)
    }
}

fn shown(created: &OfferCreated) -> Text {
    let OfferCreated { edge, expires_at, command, .. } = created;
    let text = match &created.secret {
        OfferSecret::Password { password } => format!(
            "Paste this on the box of {edge}. It works once, until {expires_at}:\n\n{command}\n\
             Password, for when ssh asks; it is shown this once:\n\n{password}\n"
        ),
        OfferSecret::Key { fingerprint, .. } => format!(
            "Paste this on the box of {edge}. It holds a private key, which is shown this once, lets in until {expires_at}\n\
             and has the fingerprint {fingerprint}:\n\n{command}"
        ),
    };
    Text::lines(&text)
}

fn service(text: &str) -> Result<OfferedService, String> {
    let (name, target) = text.split_once('=').ok_or("write NAME=HOST:PORT, as in web=localhost:8080")?;
    Ok(OfferedService {
        name: name.parse().map_err(|error| format!("{name:?} is {error}"))?,
        target: target.parse().map_err(|error| format!("{error}"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_a_name_and_where_the_box_reaches_it() {
        let web = service("web=localhost:8080").expect("well-formed");
        assert_eq!((web.name.as_str(), web.target.to_string().as_str()), ("web", "localhost:8080"));
        for text in ["web", "Web=localhost:1", "web=8080", "web=localhost:0", "web=a b:1", "=a:1"] {
            assert!(service(text).is_err(), "{text}");
        }
    }
}
