//! The host name of a service's own origin: one label below the service domain, `web--shop-17.svc.example.com`. Pure.
//!
//! The rule: two services never share a label, so that they never share an origin. Nobody reads the names back out of
//! it: the pass of whoever comes by a label says which service they mean, and the label must be that service's.

use sha2::{Digest as _, Sha256};
use shared::id::{EdgeName, ServiceName};

/// Longest label of the DNS (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;
/// Between the names. Neither begins or ends with a hyphen, so that one that is the only one in the label splits it.
const BETWEEN: &str = "--";
/// Hexadecimal digits of a digest that stands for names: 160 bits, which nobody finds two services for.
const DIGEST: usize = 40;

/// The label of a service: both names where that is a label that can be told from every other, and a digest of them
/// otherwise: where it would be too long, where a name has `--` in it, and where `xn--` would make it an
/// internationalised name (RFC 5890 §2.3.1).
pub fn label(service: &ServiceName, edge: &EdgeName) -> String {
    let (service, edge) = (service.as_str(), edge.as_str());
    let plain = format!("{service}{BETWEEN}{edge}");
    let ambiguous = service.contains(BETWEEN) || edge.contains(BETWEEN) || service == "xn";
    if plain.len() <= MAX_LABEL && !ambiguous {
        return plain;
    }
    // A slash is in no name.
    let digest = Sha256::digest(format!("{service}/{edge}"));
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    digits[..DIGEST].to_owned()
}

/// The label in `host` if it is one of a service's origins below `domain`. The gateway's own name may be below it too,
/// and is none.
pub fn label_of<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let at = host.len().checked_sub(domain.len()).filter(|at| host.is_char_boundary(*at))?;
    let (label, end) = host.split_at(at);
    let label = label.strip_suffix('.').filter(|_| end.eq_ignore_ascii_case(domain))?;
    let is_digest = label.len() == DIGEST && label.bytes().all(|byte| byte.is_ascii_hexdigit());
    (!label.contains('.') && (label.contains(BETWEEN) || is_digest)).then_some(label)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn label_for(service: &str, edge: &str) -> String {
        label(&service.parse().expect("a name"), &edge.parse().expect("a name"))
    }

    #[test]
    fn a_label_reads_as_the_names_where_it_can() {
        assert_eq!(label_for("web", "shop-17"), "web--shop-17");
        assert_eq!(label_for("a-b", "c"), "a-b--c");
        let long = "e".repeat(61);
        assert_eq!(label_for("w", &long[..60]).len(), MAX_LABEL);
        for (service, edge) in [("w", long.as_str()), ("a--b", "c"), ("a", "b--c"), ("xn", "shop")] {
            let label = label_for(service, edge);
            assert_eq!(label.len(), DIGEST, "{label}");
            assert!(label.parse::<ServiceName>().is_ok(), "{label} is a DNS label");
        }
        assert_ne!(label_for("a--b", "c"), label_for("a", "b--c"));
        // `printf 'a--b/c' | sha256sum`: changing it would move a service's origin, and lose what it keeps there.
        assert_eq!(label_for("a--b", "c"), "b78899b86a55d9520ce8106d77f573a477a38195");
    }

    proptest! {
        #[test]
        fn no_two_services_share_a_label(
            names in proptest::collection::vec(("[ab]([ab-]{0,4}[ab])?", "[ab]([ab-]{0,4}[ab])?"), 2..200)
        ) {
            let mut seen = HashMap::new();
            for (service, edge) in names {
                let (service, edge) = (service.parse().expect("a name"), edge.parse().expect("a name"));
                let label = label(&service, &edge);
                prop_assert!(label.len() <= MAX_LABEL && label.parse::<ServiceName>().is_ok());
                let host = format!("{label}.svc.example.com");
                prop_assert_eq!(label_of(&host, "svc.example.com"), Some(label.as_str()));
                let other = seen.insert(label, (service.clone(), edge.clone()));
                prop_assert!(other.is_none_or(|other| other == (service, edge)));
            }
        }
    }

    #[test]
    fn only_labels_of_ours_right_below_the_domain_are_service_origins() {
        let digest = "0123456789abcdef0123456789abcdef01234567";
        let by_digest = format!("{digest}.svc.example.com");
        for (host, expected) in [
            ("web--shop.svc.example.com", Some("web--shop")),
            ("web--shop.svc.example.com.", Some("web--shop")),
            ("Web--Shop.SVC.example.COM", Some("Web--Shop")),
            (&by_digest, Some(digest)),
            ("svc.example.com", None),
            (".svc.example.com", None),
            ("gate.svc.example.com", None),
            ("a.web--shop.svc.example.com", None),
            ("web--shopsvc.example.com", None),
            ("web--shop.svc.example.org", None),
            ("svc.example.com.evil.example", None),
            ("ü.com", None),
            ("", None),
        ] {
            assert_eq!(label_of(host, "svc.example.com"), expected, "{host}");
        }
    }
}
