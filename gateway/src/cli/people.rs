//! Roles and reaches on the command line: how they are given, and how they are shown.

use clap::{Args, ValueEnum};
use shared::wire::admin::Role;

/// A role, as a flag or an argument has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Looks
    Viewer,
    /// Uses edges: opens tunnels and services
    Operator,
    /// Changes edges; without tags the gateway, its users and settings too
    Admin,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Viewer => Self::Viewer,
            RoleArg::Operator => Self::Operator,
            RoleArg::Admin => Self::Admin,
        }
    }
}

/// To which edges.
#[derive(Args, Clone, Debug, Default)]
pub struct Tags {
    /// Only edges with this tag; may be given several times [default: every edge]
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

impl Tags {
    /// As the API has it: none is every edge.
    pub fn given(&self) -> Option<Vec<String>> {
        (!self.tags.is_empty()).then(|| self.tags.clone())
    }
}

/// As the API writes it.
pub fn role_word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

/// A reach in a table.
pub fn reach(tags: Option<&[String]>) -> String {
    tags.map_or_else(|| "every edge".to_owned(), |tags| tags.join(","))
}

/// A reach of several bounds, each of which must hold.
pub fn bounds(bounds: &[Vec<String>]) -> String {
    if bounds.is_empty() {
        return "every edge".to_owned();
    }
    let lists: Vec<_> = bounds.iter().map(|tags| format!("tagged {}", tags.join(" or "))).collect();
    lists.join(", and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_of_the_command_line_are_those_of_the_api() {
        for role in RoleArg::value_variants() {
            let name = role.to_possible_value().expect("none is hidden").get_name().to_owned();
            assert_eq!(role_word((*role).into()), name);
            assert_eq!(serde_json::to_value(Role::from(*role)).expect("a word"), name);
        }
    }

    #[test]
    fn a_reach_is_readable() {
        assert_eq!(reach(None), "every edge");
        assert_eq!(bounds(&[vec!["a".into(), "b".into()], vec!["c".into()]]), "tagged a or b, and tagged c");
    }
}
