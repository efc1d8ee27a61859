//! What an operator hands in as a public key: one line as `ssh-keygen` writes it to a `.pub` file, checked.
//!
//! The rule: what is no key that can log in is refused with what to do instead, and no text of a refused one is
//! repeated: it may be a private key.

use std::fmt;

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{HashAlg, PublicKey, parse_public_key_base64};

/// Longest line, in bytes. The longest key that is accepted takes 260 bytes, which leaves room for any comment, and a
/// stranger's RSA key of 16,384 bits is still read far enough to say what is wrong with it.
const MAX_LINE: usize = 8 * 1024;

/// Types of keys that can log in. Those that begin with `sk-` live in hardware; whether a touch was asked for is between
/// the key and its owner, as russh does not look at what the hardware says about it.
const ACCEPTED: [&str; 6] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Not accepted: russh checks RSA signatures only with the crate `rsa`, and that one is under an advisory without a fix
/// (RUSTSEC-2023-0071), which we keep out of the tree.
const RSA: &str = "ssh-rsa";

/// What a private key says of itself: PEM, PuTTY's format, and the first bytes of OpenSSH's in base64.
const PRIVATE: [&str; 3] = ["PRIVATE KEY-----", "PuTTY-User-Key-File", "b3BlbnNzaC1rZXktdjEA"];

/// An operator's public key.
#[derive(Clone, PartialEq, Eq)]
pub struct OperatorKey {
    canonical: String,
    fingerprint: String,
    comment: String,
}

/// Why a text is no public key of an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorKeyError {
    /// Nothing there.
    #[error("there is no public key; give the line that is in the key's .pub file")]
    Empty,
    /// Far too long.
    #[error(
        "a public key is one line of at most {MAX_LINE} bytes; give the line that is in the key's .pub file"
    )]
    TooLong,
    /// A private key.
    #[error(
        "this is a private key, which must never leave its owner's machine; give its public key, which is in the file \
         of the same name with .pub at its end, or, if others may have seen this one, that of a new key made with \
         `ssh-keygen -t ed25519`"
    )]
    Private,
    /// More than one line.
    #[error("a public key is one line; add several keys one after the other")]
    SeveralLines,
    /// A line of an `authorized_keys` file.
    #[error("options before a key, as in authorized_keys, have no meaning here; give the key alone")]
    Options,
    /// A certificate.
    #[error(
        "certificates are not accepted; give the public key itself, which is in the .pub file without -cert"
    )]
    Certificate,
    /// RSA.
    #[error("RSA keys are not accepted; make another one with `ssh-keygen -t ed25519`")]
    Rsa,
    /// Another algorithm.
    #[error("keys of this type are not accepted; make another one with `ssh-keygen -t ed25519`")]
    Algorithm,
    /// Damaged.
    #[error(
        "this is no public key as OpenSSH writes it, or not all of it; give the line that is in the key's .pub file"
    )]
    Damaged,
}

impl OperatorKey {
    /// Reads a line of a `.pub` file. Empty lines around it do no harm.
    pub fn parse(text: &str) -> Result<Self, OperatorKeyError> {
        // Of whatever length: a private key must be called one.
        if PRIVATE.iter().any(|mark| text.contains(mark)) {
            return Err(OperatorKeyError::Private);
        }
        if text.len() > MAX_LINE {
            return Err(OperatorKeyError::TooLong);
        }
        let text = text.trim();
        if text.is_empty() {
            return Err(OperatorKeyError::Empty);
        }
        if text.contains(['\n', '\r']) {
            return Err(OperatorKeyError::SeveralLines);
        }
        let (algorithm, rest) = text.split_once([' ', '\t']).ok_or(OperatorKeyError::Damaged)?;
        check_algorithm(algorithm, rest)?;
        let rest = rest.trim_start();
        let (base64, comment) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        let key = parse_public_key_base64(base64).map_err(|_| OperatorKeyError::Damaged)?;
        let canonical = canonical(key.key_data()).ok_or(OperatorKeyError::Damaged)?;
        // Also refuses a name in front that is not the key's own, and bytes after the key.
        if canonical != format!("{algorithm} {base64}") {
            return Err(OperatorKeyError::Damaged);
        }
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        Ok(Self { canonical, fingerprint, comment: comment.trim().to_owned() })
    }

    /// Algorithm and base64, which is all that tells two keys apart.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// As `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What follows the key on its line; OpenSSH writes USER@HOST there.
    pub fn comment(&self) -> &str {
        &self.comment
    }
}

impl fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OperatorKey").field(&self.fingerprint).finish()
    }
}

/// Algorithm and base64 of a key; `None` for one that has no such form.
pub(super) fn canonical(key: &KeyData) -> Option<String> {
    PublicKey::from(key.clone()).to_openssh().ok()
}

/// Whether keys of the type that this name stands for can log in. `rest` is what follows it on the line.
fn check_algorithm(name: &str, rest: &str) -> Result<(), OperatorKeyError> {
    if ACCEPTED.contains(&name) {
        Ok(())
    } else if name.contains("-cert-v0") {
        Err(OperatorKeyError::Certificate)
    } else if name == RSA {
        Err(OperatorKeyError::Rsa)
    } else if rest.split_whitespace().any(|word| ACCEPTED.contains(&word) || word == RSA) {
        Err(OperatorKeyError::Options)
    } else if name.starts_with("ssh-") || name.contains('@') {
        Err(OperatorKeyError::Algorithm)
    } else {
        Err(OperatorKeyError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each type, as `ssh-keygen` made them.
    const KEYS: [&str; 4] = [ED25519, P256, P384, P521];
    const ED25519: &str = "\
        ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH0Y8SbmEACpGhn4WcRxVNTWjOvc544NYcjRAp1lb3Cd \
        ada@work";
    const P256: &str = "\
        ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBDVciEQ6GX7XQsWq\
        RkIKc1OBGcf44kLk52N7TMsMhsDd765wV0hCcJqtEnuXrzNgbG6y3afFl/y7IdMDMi6nw2c= ada@work";
    const P384: &str = "\
        ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBGhLY6i8TZpG8J5D\
        Few11bA2ICSXHYnLvKXlsUf+mmmvv29K1LuXHBmt433SdM9OJ+CiaGuqux77xEo4JfcNo2WKKws+iss1UAdcFWlp\
        j5t5HZlTqB66GQBjv8PKHV1aqA== ada@work";
    const P521: &str = "\
        ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAD1WBWs8buZ7Qgn\
        7EPdrJetQ1WfjhZ85GvLO+fbrwkIhGXz4gAzQw33yI59C7uWGfwysVyPyALgnRaGk6DzkZZX1wEOBA6Il581FnOV\
        JORpj/1B3wOy4ZzUlyNx/3dNPA13bMcbE3mDT1PrOJxxUyWgT9binnHfj+qq6vMkj15pfnJrEg== ada@work";
    const SK_ED25519: &str = "\
        sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIH0Y8SbmEACpGhn4W\
        cRxVNTWjOvc544NYcjRAp1lb3CdAAAABHNzaDo=";

    fn refused(text: &str) -> OperatorKeyError {
        OperatorKey::parse(text).expect_err("must be refused")
    }

    #[test]
    fn every_type_of_key_that_can_log_in_is_read_as_ssh_keygen_writes_it() {
        for line in KEYS {
            let key = OperatorKey::parse(&format!("\n{line}\r\n")).expect(line);
            assert_eq!(format!("{} {}", key.canonical(), key.comment()), line);
        }
    }

    #[test]
    fn a_hardware_backed_key_is_read() {
        assert_eq!(OperatorKey::parse(SK_ED25519).expect("a key").canonical(), SK_ED25519);
    }

    #[test]
    fn a_key_without_a_comment_and_one_with_several_words_are_read() {
        let [algorithm, base64, _] = ED25519.split(' ').collect::<Vec<_>>().try_into().expect("three words");
        let bare = OperatorKey::parse(&format!("{algorithm} {base64}")).expect("a key");
        assert_eq!(bare.comment(), "");
        let wordy = OperatorKey::parse(&format!("{algorithm}\t{base64}  Ada at work ")).expect("a key");
        assert_eq!((wordy.comment(), wordy.canonical()), ("Ada at work", bare.canonical()));
    }

    #[test]
    fn a_private_key_is_called_one_however_it_is_pasted_and_none_of_it_is_repeated() {
        let body = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ";
        for text in [
            format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"),
            format!("-----BEGIN RSA PRIVATE KEY-----\n{}", "x\n".repeat(MAX_LINE)),
            format!("  PuTTY-User-Key-File-3: ssh-ed25519\n{body}"),
            format!("ssh-ed25519 {body}"),
            format!("{ED25519}\n-----BEGIN PRIVATE KEY-----\n{body}"),
        ] {
            let error = refused(&text);
            assert_eq!(error, OperatorKeyError::Private);
            assert!(!error.to_string().contains(body) && error.to_string().contains(".pub"));
        }
    }

    #[test]
    fn what_can_not_log_in_is_refused_with_its_reason() {
        let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ ada@work";
        for (text, expected) in [
            ("", OperatorKeyError::Empty),
            (" \n ", OperatorKeyError::Empty),
            (rsa, OperatorKeyError::Rsa),
            ("ssh-dss AAAAB3NzaC1kc3M ada@work", OperatorKeyError::Algorithm),
            ("ssh-ed25519-cert-v01@openssh.com AAAA ada@work", OperatorKeyError::Certificate),
            (&format!("command=\"ls -l\" {ED25519}"), OperatorKeyError::Options),
            (&format!("no-pty {rsa}"), OperatorKeyError::Options),
            (&format!("{ED25519}\n{P256}"), OperatorKeyError::SeveralLines),
            (&"x".repeat(MAX_LINE + 1), OperatorKeyError::TooLong),
            ("SHA256:uNiVztksCsDhcc0u9e8BrF1z", OperatorKeyError::Damaged),
        ] {
            assert_eq!(refused(text), expected, "{text}");
        }
    }

    #[test]
    fn a_damaged_key_is_refused_wherever_it_is_cut() {
        let (line, _) = ED25519.rsplit_once(' ').expect("a comment");
        for length in 1..line.len() {
            refused(&line[..length]);
        }
        let other = line.replacen("ssh-ed25519", "ecdsa-sha2-nistp256", 1);
        assert_eq!(refused(&other), OperatorKeyError::Damaged, "the name is not the key's own");
        assert_eq!(refused(&format!("{line}AAAA")), OperatorKeyError::Damaged, "there is more after the key");
    }
}
