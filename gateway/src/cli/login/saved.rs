//! What `tidegate login` keeps for the commands after it: a token for each gateway, and by which key the gateway is known.
//!
//! The rule: the file is 0600 in a folder of 0700, and a token goes to the gateway that it is from and to no other.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use shared::fingerprint::TlsFingerprint;
use shared::secret::{Secret, exposed};
use shared::wire::parse_rfc3339;

use super::super::exit::CliError;
use crate::data_dir::{read_secret, write_secret};

/// Below the user's configuration folder.
const FOLDER: &str = "tidegate";
const FILE: &str = "logins.json";

/// All gateways that were logged in to.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The one that was logged in to last: that of commands which name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    gateways: BTreeMap<String, Login>,
}

/// One gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Who logged in.
    pub user: String,
    /// For the API.
    #[serde(serialize_with = "exposed")]
    pub token: Secret<String>,
    /// When it ends, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The key that was trusted; none where the certificate verifies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_fingerprint: Option<TlsFingerprint>,
}

impl Login {
    /// Whether it has ended, by this machine's clock.
    pub fn is_over(&self, now: SystemTime) -> bool {
        let end = self.expires_at.as_deref().and_then(parse_rfc3339);
        end.is_some_and(|end| end <= now)
    }
}

impl Saved {
    /// What was kept; nothing where there is no file, or no folder for one.
    pub fn load() -> Result<Self, CliError> {
        file().map_or_else(|| Ok(Self::default()), |file| Self::load_from(&file))
    }

    /// Keeps it.
    pub fn store(&self) -> Result<(), CliError> {
        let none = || {
            CliError::Configuration(
                "there is no folder for configuration: set HOME or XDG_CONFIG_HOME".to_owned(),
            )
        };
        self.store_to(&file().ok_or_else(none)?)
    }

    /// The gateway at this URL.
    pub fn at(&self, url: &str) -> Option<&Login> {
        self.gateways.get(url)
    }

    /// The URL of the gateway that was logged in to last.
    pub fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// Logged in.
    pub fn add(&mut self, url: String, login: Login) {
        self.current = Some(url.clone());
        self.gateways.insert(url, login);
    }

    /// Logged out.
    pub fn remove(&mut self, url: &str) {
        self.gateways.remove(url);
        if self.current.as_deref() == Some(url) {
            self.current = self.gateways.keys().next().cloned();
        }
    }

    fn load_from(file: &Path) -> Result<Self, CliError> {
        let shown = file.display();
        let text = read_secret(file)
            .map_err(|error| CliError::Configuration(format!("can't read the logins in {shown}: {error}")))?;
        let Some(text) = text else { return Ok(Self::default()) };
        // Without the text that is wrong: it may be of a token.
        serde_json::from_str(text.expose()).map_err(|_| {
            CliError::Configuration(format!(
                "the logins in {shown} are damaged: delete that file and log in again"
            ))
        })
    }

    fn store_to(&self, file: &Path) -> Result<(), CliError> {
        let failed = |error: std::io::Error| {
            CliError::failed(format!("can't write the logins to {}", file.display()), error)
        };
        if let Some(folder) = file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let json =
            serde_json::to_vec_pretty(self).map_err(|error| CliError::failed("can't write JSON", error))?;
        let json = Secret::new(json);
        write_secret(file, json.expose()).map_err(failed)
    }
}

/// As the XDG base directory specification has it: a relative path counts as none.
fn file() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(".config"));
    Some(given.or_else(home)?.join(FOLDER).join(FILE))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;

    fn login(user: &str) -> Login {
        Login {
            user: user.into(),
            token: Secret::from("tga_secret"),
            expires_at: Some("2026-11-09T08:00:00Z".into()),
            tls_fingerprint: Some(TlsFingerprint::from_bytes([7; 32])),
        }
    }

    #[test]
    fn logins_are_kept_private_and_come_back_for_their_own_gateway_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tidegate/logins.json");
        assert!(Saved::load_from(&file).expect("nothing yet").current().is_none());
        let mut saved = Saved::default();
        saved.add("https://a:9000".into(), login("ada"));
        saved.add("https://b:9000".into(), login("bob"));
        saved.store_to(&file).expect("written");
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(
            file.parent().expect("a folder").metadata().expect("there").permissions().mode() & 0o777,
            0o700
        );
        let mut back = Saved::load_from(&file).expect("readable");
        assert_eq!(back.current(), Some("https://b:9000"));
        let ada = back.at("https://a:9000").expect("kept");
        assert_eq!((ada.user.as_str(), ada.token.expose().as_str()), ("ada", "tga_secret"));
        assert!(back.at("https://c:9000").is_none());
        back.remove("https://b:9000");
        assert_eq!(back.current(), Some("https://a:9000"));
        assert!(!format!("{back:?}").contains("tga_secret"));
    }

    #[test]
    fn a_damaged_file_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("logins.json");
        std::fs::write(&file, "{\"token\": \"tga_secret\"").expect("written");
        let error = Saved::load_from(&file).expect_err("damaged").to_string();
        assert!(error.contains("logins.json") && !error.contains("tga_secret"), "{error}");
    }

    #[test]
    fn a_login_is_over_at_its_end() {
        let end = parse_rfc3339("2026-11-09T08:00:00Z").expect("a time");
        assert!(login("ada").is_over(end) && !login("ada").is_over(end - Duration::from_secs(1)));
    }
}
