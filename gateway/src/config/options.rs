//! The options of `tidegate serve` as they are given: flags, environment, TOML file, one struct for the three.
//!
//! Every value is taken in as text and remembers where it came from, so that [`super::Config`] can check all of them in
//! one place and blame the right one. Nothing is judged here but the names.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use serde::{Deserialize, Deserializer};

/// The options, all of them optional. The names of the fields are the keys of the file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Folder for the store, the host key and the TLS key [default: /var/lib/tidegate]
    #[arg(long, env = "TIDEGATE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<Text>,
    /// Address of check-ins, admin API and page [default: 0.0.0.0:9000]
    #[arg(long, env = "TIDEGATE_API_ADDR", value_name = "IP:PORT")]
    pub api_addr: Option<Text>,
    /// Address of the tunnel server (SSH) [default: 0.0.0.0:8000]
    #[arg(long, env = "TIDEGATE_SSH_ADDR", value_name = "IP:PORT")]
    pub ssh_addr: Option<Text>,
    /// Address of the metrics page, or none: plain HTTP without a login [default: 127.0.0.1:9100]
    #[arg(long, env = "TIDEGATE_METRICS_ADDR", value_name = "IP:PORT")]
    pub metrics_addr: Option<Text>,
    /// Where agents and browsers reach the API, such as https://gate.example.com:9000
    #[arg(long, env = "TIDEGATE_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<Text>,
    /// Where agents reach the tunnel server, such as gate.example.com:8000
    #[arg(long, env = "TIDEGATE_PUBLIC_SSH", value_name = "HOST:PORT")]
    pub public_ssh: Option<Text>,
    /// Domain below which services have host names of their own; every name below it must lead to the gateway
    #[arg(long, env = "TIDEGATE_SERVICE_DOMAIN", value_name = "DOMAIN")]
    pub service_domain: Option<Text>,
    /// Certificate chain (PEM) to serve instead of the gateway's own; needs --tls-key
    #[arg(long, env = "TIDEGATE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<Text>,
    /// Private key (PEM) of --tls-cert
    #[arg(long, env = "TIDEGATE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<Text>,
    /// Pin the key of --tls-cert in join tokens: for certificates that public roots do not vouch for [default: false]
    #[arg(long, env = "TIDEGATE_PIN_TLS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub pin_tls: Option<Text>,
    /// Who may speak plain HTTP: loopback (and trusted proxies), any, never [default: loopback]
    #[arg(long, env = "TIDEGATE_PLAIN_HTTP", value_name = "WHO")]
    pub plain_http: Option<Text>,
    /// Proxy that may speak plain HTTP and whose x-forwarded-* headers are believed; may be given several times
    #[arg(long, env = "TIDEGATE_TRUSTED_PROXY", value_name = "IP[/BITS]", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many")]
    pub trusted_proxy: Vec<Text>,
    /// Whether every trusted proxy is a load balancer that begins each connection with a PROXY header [default: false]
    #[arg(long, env = "TIDEGATE_PROXY_PROTOCOL", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub proxy_protocol: Option<Text>,
    /// Addresses that are neither limited before login nor penalised; may be given several times
    #[arg(long, env = "TIDEGATE_EXEMPT", value_name = "IP[/BITS]", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many")]
    pub exempt: Vec<Text>,
    /// Write an admin API token to this file on first start, mode 0600, unless the file exists
    #[arg(long, env = "TIDEGATE_BOOTSTRAP_TOKEN_FILE", value_name = "FILE")]
    pub bootstrap_token_file: Option<Text>,
    /// Seconds that live streams are given on shutdown [default: 30]
    #[arg(long, env = "TIDEGATE_DRAIN_GRACE", value_name = "SECONDS")]
    pub drain_grace: Option<Text>,
    /// Memory for the store's cache, in MiB [default: 64]
    #[arg(long, env = "TIDEGATE_STORE_CACHE_MIB", value_name = "MIB")]
    pub store_cache_mib: Option<Text>,
    /// Memory that the gateway may use in all, in MiB [default: three quarters of the machine's or its control group's]
    #[arg(long, env = "TIDEGATE_MEMORY_BUDGET_MIB", value_name = "MIB")]
    pub memory_budget_mib: Option<Text>,
    /// Disk space for the audit log, in MiB; when it is used up, the oldest records are dropped [default: 1024]
    #[arg(long, env = "TIDEGATE_AUDIT_MAX_MIB", value_name = "MIB")]
    pub audit_max_mib: Option<Text>,
    /// What to log, such as info or warn,gateway=debug [default: info]
    #[arg(short, long, env = "TIDEGATE_LOG", value_name = "FILTER")]
    pub log: Option<Text>,
    /// Log in JSON [default: false]
    #[arg(short, long, env = "TIDEGATE_JSON", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub json: Option<Text>,
}

/// A value as it was given, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The value.
    pub value: String,
    /// Where it stands.
    pub source: Source,
}

/// Where a value came from. The name of the key is added by whoever reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// On the command line.
    #[default]
    Flag,
    /// In the environment.
    Environment,
    /// In the configuration file.
    File(PathBuf),
}

impl Source {
    /// The option as its giver wrote it: `--api-addr`, `TIDEGATE_API_ADDR`, `api_addr in /etc/tidegate.toml`.
    pub fn name(&self, key: &str) -> String {
        match self {
            Self::Flag => format!("--{}", key.replace('_', "-")),
            Self::Environment => format!("TIDEGATE_{}", key.to_ascii_uppercase()),
            Self::File(path) => format!("{key} in {}", path.display()),
        }
    }
}

impl From<&str> for Text {
    /// As clap makes it; [`Options::note_sources`] sets the source right afterwards.
    fn from(value: &str) -> Self {
        Self { value: value.to_owned(), source: Source::Flag }
    }
}

impl<'de> Deserialize<'de> for Text {
    /// Takes numbers and booleans too, so that `drain_grace = 30` and `--drain-grace 30` are the same text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl serde::de::Visitor<'_> for Scalar {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a boolean")
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Text, E> {
                Ok(Text::from(value))
            }
            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Text, E> {
                Ok(Text::from(value.to_string().as_str()))
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Text, E> {
                Ok(Text::from(value.to_string().as_str()))
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Text, E> {
                Ok(Text::from(value.to_string().as_str()))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Text>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        Many(Vec<Text>),
        One(Text),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::Many(many) => many,
        OneOrMany::One(one) => vec![one],
    })
}

/// Runs `$each!(field)` for every option that has one value.
macro_rules! for_each_single {
    ($each:ident) => {
        $each!(data_dir);
        $each!(api_addr);
        $each!(ssh_addr);
        $each!(metrics_addr);
        $each!(public_url);
        $each!(public_ssh);
        $each!(service_domain);
        $each!(tls_cert);
        $each!(tls_key);
        $each!(pin_tls);
        $each!(plain_http);
        $each!(proxy_protocol);
        $each!(bootstrap_token_file);
        $each!(drain_grace);
        $each!(store_cache_mib);
        $each!(memory_budget_mib);
        $each!(audit_max_mib);
        $each!(log);
        $each!(json);
    };
}

impl Options {
    /// Tells flags from environment variables, which clap knows only beside the parsed struct. A variable that is set
    /// to nothing counts as not given: compose files set such.
    pub fn note_sources(&mut self, matches: &ArgMatches) {
        let source = |key: &str| match matches.value_source(key) {
            Some(ValueSource::EnvVariable) => Source::Environment,
            Some(_) | None => Source::Flag,
        };
        let given = |text: &Text| text.source != Source::Environment || !text.value.is_empty();
        macro_rules! note {
            ($field:ident) => {
                if let Some(text) = &mut self.$field {
                    text.source = source(stringify!($field));
                }
                self.$field = self.$field.take().filter(given);
            };
        }
        for_each_single!(note);
        for (list, key) in [(&mut self.trusted_proxy, "trusted_proxy"), (&mut self.exempt, "exempt")] {
            list.iter_mut().for_each(|text| text.source = source(key));
            list.retain(given);
        }
    }

    /// Puts the file's values where neither a flag nor the environment gave one. A list is taken from one place only.
    pub fn or_file(mut self, file: Self, path: &Path) -> Self {
        let in_file = |text: Text| Text { source: Source::File(path.to_owned()), ..text };
        macro_rules! or {
            ($field:ident) => {
                self.$field = self.$field.or(file.$field.map(in_file));
            };
        }
        for_each_single!(or);
        for (list, of_file) in
            [(&mut self.trusted_proxy, file.trusted_proxy), (&mut self.exempt, file.exempt)]
        {
            if list.is_empty() {
                *list = of_file.into_iter().map(in_file).collect();
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches as _};

    use super::*;

    fn parse(arguments: &[&str]) -> Options {
        let command = Options::augment_args(Command::new("serve"));
        let matches = command.get_matches_from([&["serve"], arguments].concat());
        let mut options = Options::from_arg_matches(&matches).expect("the arguments match");
        options.note_sources(&matches);
        options
    }

    #[test]
    fn flags_win_over_the_file_and_each_value_knows_its_source() {
        let file: Options = toml::from_str(
            "api_addr = '1.1.1.1:1'\ndrain_grace = 7\njson = true\ntrusted_proxy = '10.0.0.0/8'",
        )
        .expect("a valid file");
        let path = Path::new("/etc/tidegate.toml");
        let merged = parse(&["--api-addr", "2.2.2.2:2"]).or_file(file, path);
        let api = merged.api_addr.expect("given twice");
        assert_eq!((api.value.as_str(), api.source.name("api_addr").as_str()), ("2.2.2.2:2", "--api-addr"));
        let grace = merged.drain_grace.expect("given in the file");
        assert_eq!(grace.value, "7");
        assert_eq!(grace.source.name("drain_grace"), "drain_grace in /etc/tidegate.toml");
        assert_eq!(merged.json.expect("given in the file").value, "true");
        assert_eq!(merged.trusted_proxy[0].value, "10.0.0.0/8");
        assert_eq!(merged.data_dir, None);
    }

    #[test]
    fn a_list_comes_from_one_place() {
        let file: Options = toml::from_str("trusted_proxy = ['10.0.0.1', '10.0.0.2']").expect("a valid file");
        let merged = parse(&["--trusted-proxy", "10.9.9.9,10.8.8.8", "--trusted-proxy", "10.7.7.7"])
            .or_file(file, Path::new("f"));
        let values: Vec<_> = merged.trusted_proxy.iter().map(|text| text.value.as_str()).collect();
        assert_eq!(values, ["10.9.9.9", "10.8.8.8", "10.7.7.7"]);
    }

    #[test]
    fn a_switch_without_a_value_is_true() {
        assert_eq!(parse(&["--json", "--pin-tls=false"]).json.expect("given").value, "true");
        assert_eq!(parse(&["-j", "--pin-tls=false"]).pin_tls.expect("given").value, "false");
    }

    #[test]
    fn unknown_keys_are_errors_that_name_the_key() {
        let error = toml::from_str::<Options>("api_adr = '1.1.1.1:1'").expect_err("a misspelt key");
        assert!(error.to_string().contains("api_adr"), "{error}");
    }

    #[test]
    fn every_flag_has_its_variable_and_its_key() {
        let command = Options::augment_args(Command::new("serve"));
        for argument in command.get_arguments() {
            let key = argument.get_id().as_str();
            let flag = argument.get_long().expect("every option has a long flag");
            assert_eq!(flag, key.replace('_', "-"));
            let variable = argument.get_env().and_then(|name| name.to_str());
            assert_eq!(variable, Some(Source::Environment.name(key).as_str()));
            let file = format!("{key} = 'x'");
            toml::from_str::<Options>(&file)
                .unwrap_or_else(|error| panic!("{key} is no key of the file: {error}"));
        }
    }
}
