//! `tidegate login`, `logout` and `whoami`: a token of one's own that ends by itself, instead of one that is passed around.
//!
//! A gateway whose certificate no authority vouches for is trusted as ssh does it: its fingerprint is shown once, and from
//! then on another key is refused. The rule: a password is sent to a gateway that is trusted, and to no other.

pub mod saved;

use std::time::SystemTime;

use clap::Args;
use http::Method;
use shared::dial::Dialer;
use shared::fingerprint::TlsFingerprint;
use shared::probe;
use shared::secret::Secret;
use shared::terminal::Text;
use shared::wire::admin::{CreateToken, LogIn, Session, TokenCreated};

use super::access::{How, Target, Trust};
use super::client::{Client, NOTHING};
use super::exit::{CliError, complain};
use super::output::{Format, ask, confirm_on_terminal, done, print};
use super::password::PasswordArgs;
use super::people::{bounds, role_word};
use super::units::seconds;
use saved::{Login, Saved};

const LOGIN: &str = "/api/v1/login";
const SESSION: &str = "/api/v1/session";
/// Where a gateway's API is unless somebody says otherwise.
const API_PORT: u16 = 9000;
/// How long a login counts, unless it is told: a working day.
const LIFE: &str = "12h";

/// `tidegate login`.
#[derive(Args, Debug)]
pub struct LoginArgs {
    /// The gateway, such as https://gate.example.com:9000 or gate.example.com
    #[arg(env = "TIDEGATE_URL")]
    url: String,
    /// Your name there [default: it is asked for]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    #[command(flatten)]
    password: PasswordArgs,
    /// How long the login counts: a number and s, m, h or d
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = LIFE)]
    expires: u32,
    #[command(flatten)]
    trust: Trust,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// `tidegate logout`.
#[derive(Args, Debug)]
pub struct LogoutArgs {
    /// The gateway [default: the one that was logged in to last]
    url: Option<String>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// `tidegate whoami`.
#[derive(Args, Debug)]
pub struct WhoamiArgs {
    #[command(flatten)]
    how: How,
}

impl LoginArgs {
    /// Trusts the gateway, asks for what is missing, and keeps the token.
    pub async fn run(self) -> Result<(), CliError> {
        let target = Target::parse(&completed(&self.url))?;
        let known = Saved::load()?.at(&target.url()).and_then(|login| login.tls_fingerprint);
        let fingerprint = trusted(&target, &self.trust, known).await?;
        let client = self.trust.client(target.clone(), fingerprint.as_slice(), None)?;
        let name = match self.user {
            Some(name) => name,
            None => ask("Name: ")?,
        };
        let password = self.password.read(&format!("Password of {name}: "))?;
        let label = format!("login on {}", rustix::system::uname().nodename().to_string_lossy());
        let wanted = LogIn {
            name: name.clone(),
            password,
            token: CreateToken { label, expires_in_s: Some(self.expires), ..CreateToken::default() },
        };
        let made: TokenCreated = client.call(Method::POST, LOGIN, Some(&wanted)).await?;
        let login = Login {
            user: name.clone(),
            token: Secret::new(made.token),
            expires_at: made.listed.expires_at.clone(),
            tls_fingerprint: fingerprint,
        };
        // Read anew: typing a password takes long enough for another login to be made beside this one.
        let mut saved = Saved::load()?;
        saved.add(target.url(), login);
        saved.store()?;
        if self.output == Format::Table {
            let until =
                made.listed.expires_at.as_ref().map_or_else(String::new, |end| format!(", until {end}"));
            let role = role_word(made.listed.role);
            complain(&format!("logged in to {} as {name} ({role}){until}", target.url()));
            return Ok(());
        }
        // The token itself is in its file.
        print(self.output, &made.listed, |_| Text::default())
    }
}

/// A host alone is that host's usual port, with TLS.
fn completed(text: &str) -> String {
    if text.contains("://") {
        return text.to_owned();
    }
    let has_port = text.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    if has_port { format!("https://{text}") } else { format!("https://{text}:{API_PORT}") }
}

/// The key by which the gateway is known from now on; none where its certificate verifies.
async fn trusted(
    target: &Target,
    trust: &Trust,
    known: Option<TlsFingerprint>,
) -> Result<Option<TlsFingerprint>, CliError> {
    if !target.secure {
        return Ok(None);
    }
    let given = trust.pins()?;
    if given.is_empty() && known.is_none() {
        match trust.client(target.clone(), &[], None)?.probe("/healthz").await {
            Ok(_) => return Ok(None),
            Err(CliError::Distrusted(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let shown = probe::certificate(&Dialer::from_environment(), &target.address).await;
    let shown = shown.map_err(|error| CliError::Unreachable(error.to_string()))?.fingerprint;
    if given.contains(&shown) || (given.is_empty() && known == Some(shown)) {
        return Ok(Some(shown));
    }
    if let Some(expected) = given.first().or(known.as_ref()) {
        return Err(CliError::Distrusted(format!(
            "{} shows the TLS key {shown} and not {expected}, by which it is known: if it was set up anew, compare it with \
             the gateway's log and give --tls-fingerprint; if not, somebody may be listening in",
            target.address
        )));
    }
    complain(&format!(
        "no authority vouches for {}, and it is new here; its TLS key has the fingerprint\n  {shown}\nCompare it with the \
         gateway's log (tls_fingerprint), or ask its admin.",
        target.address
    ));
    confirm_on_terminal("Trust it from now on?", "give the fingerprint with --tls-fingerprint")?;
    Ok(Some(shown))
}

impl LogoutArgs {
    /// Revokes the token and forgets it.
    pub async fn run(self) -> Result<(), CliError> {
        let saved = Saved::load()?;
        let url = match &self.url {
            Some(url) => Target::parse(&completed(url))?.url(),
            None => saved.current().map(str::to_owned).ok_or_else(not_logged_in)?,
        };
        let login = saved.at(&url).cloned().ok_or_else(not_logged_in)?;
        let pins: Vec<_> = login.tls_fingerprint.into_iter().collect();
        let client = Trust::default().client(Target::parse(&url)?, &pins, Some(&login.token));
        let revoked = match client {
            Ok(client) => revoke(&client, &login).await,
            Err(error) => Err(error),
        };
        let mut saved = Saved::load()?;
        saved.remove(&url);
        saved.store()?;
        if let Err(error) = revoked {
            complain(&format!(
                "the token is forgotten here and could not be revoked there, where it ends at {}: {error}",
                login.expires_at.as_deref().unwrap_or("no time")
            ));
        }
        done(self.output, "logged out", "of", &url)
    }
}

async fn revoke(client: &Client, login: &Login) -> Result<(), CliError> {
    if login.is_over(SystemTime::now()) {
        return Ok(());
    }
    client.call::<()>(Method::DELETE, SESSION, NOTHING).await
}

fn not_logged_in() -> CliError {
    CliError::Configuration("you are not logged in there: `tidegate login URL` does it".to_owned())
}

impl WhoamiArgs {
    /// Shows who one is to the gateway.
    pub async fn run(self) -> Result<(), CliError> {
        let session: Session = self.how.access.client()?.call(Method::GET, SESSION, NOTHING).await?;
        print(self.how.output, &session, shown)
    }
}

fn shown(session: &Session) -> Text {
    Text::facts([
        ("name", session.name.clone()),
        ("role", role_word(session.role).to_owned()),
        ("edges", bounds(&session.bounds)),
        ("until", session.expires_at.clone().unwrap_or_default()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_alone_is_its_usual_port_with_tls() {
        for (text, url) in [
            ("gate.example.com", "https://gate.example.com:9000"),
            ("gate.example.com:444", "https://gate.example.com:444"),
            ("[2001:db8::7]", "https://[2001:db8::7]:9000"),
            ("[2001:db8::7]:444", "https://[2001:db8::7]:444"),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("https://gate.example.com", "https://gate.example.com"),
        ] {
            assert_eq!(completed(text), url);
        }
    }
}
