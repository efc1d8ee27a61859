//! Taking secrets out of what a site tells of itself: command lines, labels, environment values, sentences. Pure.
//!
//! Nobody can tell every secret by its look. So what is named like one is hidden whatever it looks like, what looks like
//! one is hidden whatever its name is, and in doubt it is hidden: a line that says less does no harm. What is hidden
//! leaves as [`HIDDEN`].

/// Stands where a secret was.
pub const HIDDEN: &str = "***";

/// Parts of names of secrets, without anything but letters and digits.
const NAMES: [&str; 22] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "credential",
    "authorization",
    "bearer",
    "cookie",
    "session",
    "signature",
    "connectionstring",
    "webhook",
    "dsn",
];
/// Names of secrets that are too short to be looked for inside of others: whole words of a name.
const WORDS: [&str; 8] = ["key", "keys", "auth", "pass", "salt", "pin", "otp", "jwt"];
/// How credentials of well-known makers begin, ours among them.
const BEGINNINGS: [&str; 23] = [
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxa-",
    "xoxp-",
    "sk-",
    "sk_live_",
    "rk_live_",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "npm_",
    "pypi-",
    "dop_v1_",
    "hvs.",
    "tga_",
    "tgs_",
    "tidegate1.",
];
/// From this length on a word of random letters and digits is taken for a key: 24 of base 64 are 144 bits.
const KEY_LENGTH: usize = 24;
/// Different characters that such a word has at least; `aaaaaaaa-1111` is none.
const KEY_VARIETY: usize = 8;
/// Digests are public, and useful to compare.
const DIGEST: &str = "sha256:";

/// The value of an environment variable or a label.
pub fn value(name: &str, value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    if names_a_secret(name) { HIDDEN.to_owned() } else { text(value) }
}

/// A command line: the values of options and variables that are named like secrets, and whatever looks like one.
pub fn command(line: &str) -> String {
    let mut scrubbed = Vec::new();
    let mut hide_next = false;
    for word in words(line) {
        let hidden = std::mem::take(&mut hide_next);
        let (open, inner, close) = unquoted(word);
        let shown = if hidden && !inner.is_empty() {
            HIDDEN.to_owned()
        } else if inner.contains(char::is_whitespace) && !open.is_empty() {
            command(inner)
        } else {
            hide_next = is_option_of_a_secret(inner);
            one_word(inner)
        };
        scrubbed.push(format!("{open}{shown}{close}"));
    }
    scrubbed.join(" ")
}

/// A sentence, or anything else whose form is not known.
pub fn text(text: &str) -> String {
    let mut scrubbed = Vec::new();
    let mut hide_next = false;
    for word in text.split(' ') {
        let hidden = std::mem::take(&mut hide_next) && !word.is_empty();
        hide_next = matches!(word.to_ascii_lowercase().as_str(), "bearer" | "basic" | "password" | "token");
        scrubbed.push(if hidden { HIDDEN.to_owned() } else { one_word(word) });
    }
    scrubbed.join(" ")
}

/// A word without blanks.
fn one_word(word: &str) -> String {
    if let Some((name, value)) = word.split_once('=')
        && !name.is_empty()
        && !value.is_empty()
        && !name.contains("://")
    {
        let secret = names_a_secret(name) || looks_secret(value.trim_matches(['"', '\'']));
        return format!("{name}={}", if secret { HIDDEN.to_owned() } else { url(value) });
    }
    // As MySQL's clients take a password.
    if word.starts_with("-p") && word.chars().nth(2).is_some_and(char::is_alphabetic) {
        return format!("-p{HIDDEN}");
    }
    if looks_secret(word.trim_matches(['"', '\'', ',', ';', '(', ')', '[', ']', '{', '}'])) {
        return HIDDEN.to_owned();
    }
    url(word)
}

/// Without the password of `scheme://user:password@host`, or of the `user:password` that curl takes.
fn url(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => {
            let name = user.split(':').next().unwrap_or_default();
            let user = if user.contains(':') { format!("{name}:{HIDDEN}") } else { HIDDEN.to_owned() };
            format!("{user}@{host}")
        }
        None => authority.to_owned(),
    };
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let path: Vec<_> = path.split('/').map(|part| if looks_secret(part) { HIDDEN } else { part }).collect();
    let query = query.map(|query| {
        let pairs: Vec<_> = query
            .split('&')
            .map(|pair| if pair.contains("://") { HIDDEN.to_owned() } else { one_word(pair) })
            .collect();
        format!("?{}", pairs.join("&"))
    });
    format!("{scheme}://{authority}{}{}", path.join("/"), query.unwrap_or_default())
}

/// Whether what follows is the value of an option like `--password`, or the `user:password` of curl.
fn is_option_of_a_secret(word: &str) -> bool {
    (word.starts_with('-') && !word.contains('=') && names_a_secret(word)) || word == "-u" || word == "--user"
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    NAMES.iter().any(|part| plain.contains(part))
        || name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| WORDS.contains(&word))
}

fn looks_secret(word: &str) -> bool {
    if word.contains("-----BEGIN")
        || BEGINNINGS.iter().any(|begin| word.starts_with(begin) && word.len() > begin.len() + 7)
    {
        return true;
    }
    let is_key = |word: &str| {
        let of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '-' | '=');
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters.dedup();
        word.len() >= KEY_LENGTH
            && word.chars().all(of_key)
            && word.chars().any(|c| c.is_ascii_digit())
            && word.chars().any(|c| c.is_ascii_alphabetic())
            && letters.len() >= KEY_VARIETY
    };
    if word.starts_with(DIGEST) || word.contains("://") {
        return false;
    }
    // Base 64 has slashes, and `user:key` and `id.key.signature` are several words.
    is_key(&word.replace('/', "+")) && !word.starts_with('/') || word.split([':', '.', ',']).any(is_key)
}

/// Words of a command line; what is in quotes is one.
fn words(line: &str) -> Vec<&str> {
    let (mut words, mut start, mut quote) = (Vec::new(), None, None);
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => {
                quote = Some(c);
                start.get_or_insert(at);
            }
            (None, c) if c.is_whitespace() => words.extend(start.take().map(|start: usize| &line[start..at])),
            (None, _) => {
                start.get_or_insert(at);
            }
        }
    }
    words.extend(start.map(|start| &line[start..]));
    words
}

/// A word without the quotes around it, and these.
fn unquoted(word: &str) -> (&str, &str, &str) {
    for quote in ["\"", "'"] {
        if let Some(inner) = word.strip_prefix(quote) {
            return match inner.strip_suffix(quote) {
                Some(inner) => (quote, inner, quote),
                None => (quote, inner, ""),
            };
        }
    }
    ("", word, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_secret_stays_readable() {
        for line in [
            "nginx -g 'daemon off;'",
            "postgres -c max_connections=200 -c shared_buffers=256MB",
            "/usr/bin/app --listen 0.0.0.0:8080 --config /etc/app/config.yaml",
            "docker-entrypoint.sh redis-server --appendonly yes",
            "java -Xmx512m -jar app.jar --spring.profiles.active=production",
            "app --url https://example.com/path?page=2#top",
        ] {
            assert_eq!(command(line), line);
        }
        for (name, text) in [
            ("com.docker.compose.project", "shop"),
            ("org.opencontainers.image.version", "1.27.3"),
            ("org.opencontainers.image.authors", "NGINX Docker Maintainers"),
            ("traefik.http.routers.web.rule", "Host(`shop.example.com`)"),
            ("LANG", "C.UTF-8"),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"),
            ("digest", "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
        ] {
            assert_eq!(value(name, text), text, "{name}");
        }
    }

    #[test]
    fn secrets_are_found_by_name_by_look_and_by_place() {
        for (line, scrubbed) in [
            ("app --password hunter2 --port 80", "app --password *** --port 80"),
            ("app --db-password=hunter2", "app --db-password=***"),
            ("app --password 'two words' x", "app --password '***' x"),
            ("sh -c \"API_TOKEN=abc app --port 80\"", "sh -c \"API_TOKEN=*** app --port 80\""),
            ("mysql -uroot -phunter2", "mysql -uroot -p***"),
            ("curl -u ada:hunter2 https://x", "curl -u *** https://x"),
            ("app postgres://ada:hunter2@db:5432/shop", "app postgres://ada:***@db:5432/shop"),
            ("app https://x/y?token=abc&page=2", "app https://x/y?token=***&page=2"),
            ("app ghp_0123456789abcdef", "app ***"),
            ("app --x=eyJhbGciOiJIUzI1NiJ9.e30.abc", "app --x=***"),
        ] {
            assert_eq!(command(line), scrubbed);
        }
        assert_eq!(value("AWS_SECRET_ACCESS_KEY", "x"), HIDDEN);
        assert_eq!(value("X", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY1"), HIDDEN);
        assert_eq!(value("JWT", "x"), HIDDEN);
        assert_eq!(value("PASSWORD", ""), "");
        assert_eq!(text("authorization: Bearer abc is wrong"), "authorization: Bearer *** is wrong");
    }

    /// Whatever somebody may take for a password.
    fn any_secret() -> impl Strategy<Value = String> {
        "[A-Za-z0-9!#%+,./:;<>?@^_|~-]{4,40}".prop_filter("it is not found by chance", |secret| {
            !"abcdefghijklmnopqrstuvwxyz***@host.example/path".contains(secret.as_str())
        })
    }

    proptest! {
        #[test]
        fn what_is_named_like_a_secret_never_leaves(secret in any_secret(), name in "[A-Z_]{0,8}(PASSWORD|SECRET|TOKEN|API_KEY)[A-Z_]{0,5}") {
            let option = format!("--{}", name.to_lowercase());
            for line in [
                format!("app {option} {secret} --port 80"),
                format!("app {option}={secret}"),
                format!("env {name}={secret} app"),
                format!("sh -c 'exec app {option} {secret}'"),
                format!("app {option} \"{secret} and more\""),
            ] {
                prop_assert!(!command(&line).contains(&secret), "{line} -> {}", command(&line));
            }
            prop_assert_eq!(value(&name, &secret), HIDDEN);
        }

        #[test]
        fn a_password_in_an_address_never_leaves(secret in "[A-Za-z0-9!%+,.:;_~-]{4,40}") {
            prop_assume!(!"scheme://user:***@host.example:1/path".contains(&secret));
            let address = format!("scheme://user:{secret}@host.example:1/path");
            for shown in [text(&address), command(&format!("app {address}")), value("URL", &address)] {
                prop_assert!(!shown.contains(&secret), "{shown}");
            }
        }

        #[test]
        fn what_looks_like_a_key_never_leaves(key in "[A-Za-z0-9_-]{8}[0-9][a-z][A-Z][A-Za-z0-9_-]{24}") {
            prop_assume!(looks_secret(&key));
            for shown in [text(&key), command(&format!("app {key}")), value("X", &key), command(&format!("app --x={key}"))] {
                prop_assert!(!shown.contains(&key), "{shown}");
            }
        }

        #[test]
        fn any_text_can_be_scrubbed(line in ".{0,200}") {
            let _ = (command(&line), text(&line));
        }

        #[test]
        fn twice_is_once_where_nothing_is_quoted(line in "[^'\"]{0,200}") {
            for scrub in [command, text] {
                let once = scrub(&line);
                prop_assert_eq!(scrub(&once), once);
            }
        }
    }
}
