//! Who may do what, as values: a role says what somebody may do, a reach says to which edges. Pure.
//!
//! The rule: both only ever shrink on their way to a request. What a token may is bounded by what its owner may, and
//! nothing here adds to either.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What somebody may do. Each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Looks: at edges, their tunnels, snapshots and history.
    Viewer,
    /// Uses: opens and closes tunnels, reaches services, takes snapshots.
    Operator,
    /// Changes: edges, and with a reach over all of them the gateway itself: users, settings, backups, the audit log.
    Admin,
}

/// A word that is no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is viewer, operator or admin")]
pub struct NoSuchRole;

impl Role {
    /// All of them, weakest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = NoSuchRole;

    fn from_str(text: &str) -> Result<Self, NoSuchRole> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or(NoSuchRole)
    }
}

/// Tags of one edge or one bound, and characters of one tag.
const MAX_TAGS: usize = 32;
const MAX_TAG_LENGTH: usize = 64;

/// Tags that nothing can be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "tags: at most {MAX_TAGS}, each of 1 to {MAX_TAG_LENGTH} characters, without commas and control characters"
)]
pub struct BadTags;

/// Tags as they are kept: in order, each once.
pub fn checked_tags(tags: &[String]) -> Result<Vec<String>, BadTags> {
    let fits = |tag: &String| {
        (1..=MAX_TAG_LENGTH).contains(&tag.chars().count())
            && !tag.chars().any(|c| c.is_control() || c == ',')
    };
    if tags.len() > MAX_TAGS || !tags.iter().all(fits) {
        return Err(BadTags);
    }
    let mut tags = tags.to_vec();
    tags.sort();
    tags.dedup();
    Ok(tags)
}

/// To which edges somebody's role applies: all of them, or those that have one of the tags of every bound.
///
/// There is a bound for everybody along the way who has one: a token that is bound to `web`, of a user who is bound to
/// `berlin`, reaches the edges that have both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reach {
    bounds: Vec<BTreeSet<String>>,
}

impl Reach {
    /// Every edge.
    pub const fn all() -> Self {
        Self { bounds: Vec::new() }
    }

    /// The edges with one of these tags: none where there is no tag.
    pub fn tagged(tags: impl IntoIterator<Item = String>) -> Self {
        Self { bounds: vec![tags.into_iter().collect()] }
    }

    /// Of what a record says: `None` is every edge.
    pub fn of(tags: Option<&[String]>) -> Self {
        tags.map_or_else(Self::all, |tags| Self::tagged(tags.iter().cloned()))
    }

    /// What both of them reach.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for bound in other.bounds {
            if !self.bounds.contains(&bound) {
                self.bounds.push(bound);
            }
        }
        self
    }

    /// The bounds, each as its tags in order.
    pub fn bounds(&self) -> impl Iterator<Item = &BTreeSet<String>> {
        self.bounds.iter()
    }

    /// Whether it is every edge, those to come included.
    pub fn is_all(&self) -> bool {
        self.bounds.is_empty()
    }

    /// Whether it is no more than `other`, whatever edges there will be.
    pub fn is_within(&self, other: &Self) -> bool {
        other.bounds.iter().all(|limit| self.bounds.iter().any(|bound| bound.is_subset(limit)))
    }

    /// Whether an edge with these tags is one of them.
    pub fn covers(&self, tags: &[String]) -> bool {
        self.bounds.iter().all(|bound| tags.iter().any(|tag| bound.contains(tag)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn roles_are_ordered_and_survive_their_names() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert_eq!("Admin".parse::<Role>(), Err(NoSuchRole));
    }

    #[test]
    fn a_reach_covers_what_has_one_tag_of_every_bound() {
        let team = Reach::tagged(tags("berlin hamburg"));
        let both = team.clone().and(Reach::tagged(tags("web")));
        for (reach, edge, covered) in [
            (Reach::all(), "", true),
            (team.clone(), "", false),
            (team.clone(), "munich", false),
            (team.clone(), "web hamburg", true),
            (both.clone(), "hamburg", false),
            (both.clone(), "web", false),
            (both.clone(), "web berlin", true),
            (Reach::tagged(Vec::new()), "berlin", false),
        ] {
            assert_eq!(reach.covers(&tags(edge)), covered, "{reach:?} and {edge:?}");
        }
        assert_eq!(team.clone().and(team.clone()), team);
        assert_eq!(Reach::all().and(team.clone()), team.clone().and(Reach::all()));
    }

    #[test]
    fn a_reach_is_within_another_only_where_every_bound_of_that_is_kept() {
        let of = |text: &str| Reach::tagged(tags(text));
        for (inner, outer, within) in [
            (Reach::all(), Reach::all(), true),
            (of("a"), Reach::all(), true),
            (Reach::all(), of("a"), false),
            (of("a"), of("a b"), true),
            (of("a b"), of("a"), false),
            (of(""), of("a"), true),
            (of("a"), of("a").and(of("b")), false),
            (of("a").and(of("b c")), of("b c d"), true),
        ] {
            assert_eq!(inner.is_within(&outer), within, "{inner:?} in {outer:?}");
        }
    }

    #[test]
    fn only_no_bound_at_all_reaches_every_edge() {
        assert!(Reach::of(None).is_all());
        assert!(!Reach::of(Some(&[])).is_all());
        assert!(!Reach::all().and(Reach::tagged(tags("a"))).is_all());
    }
}
