//! `tidegate edge rename`, `tag` and `set`: what is known of an edge, changed.

use std::str::FromStr;

use clap::Args;
use http::Method;
use shared::id::EdgeName;
use shared::wire::admin::{ChangeEdge, Edge};

use super::super::access::How;
use super::super::client::{Dated, STALE};
use super::super::exit::CliError;
use super::super::output::{done, print};
use super::{path, view};

/// `tidegate edge rename`.
#[derive(Args, Debug)]
pub(super) struct Rename {
    /// Name of the edge
    name: EdgeName,
    /// Its new name: a DNS label, such as shop-17
    new_name: EdgeName,
    #[command(flatten)]
    how: How,
}

/// `tidegate edge tag`.
#[derive(Args, Debug)]
pub(super) struct Tag {
    /// Name of the edge
    name: EdgeName,
    #[command(flatten)]
    tags: TagChange,
    #[command(flatten)]
    how: How,
}

#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
struct TagChange {
    /// A tag to give; may be given several times
    #[arg(long, value_name = "TAG")]
    add: Vec<String>,
    /// A tag to take away; may be given several times
    #[arg(long, value_name = "TAG")]
    remove: Vec<String>,
    /// Take all tags away first
    #[arg(long)]
    clear: bool,
}

/// `tidegate edge set`.
#[derive(Args, Debug)]
pub(super) struct Set {
    /// Name of the edge
    name: EdgeName,
    #[command(flatten)]
    settings: EdgeSettings,
    #[command(flatten)]
    how: How,
}

#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
struct EdgeSettings {
    /// Seconds between check-ins of this edge; `default` for the gateway's setting
    #[arg(long, value_name = "SECONDS")]
    interval: Option<OwnOrDefault>,
    /// Seconds without use after which its tunnel closes; `default` for the gateway's setting
    #[arg(long, value_name = "SECONDS")]
    idle_timeout: Option<OwnOrDefault>,
    /// Whether several instances may run with one edge ID
    #[arg(long, value_name = "BOOL")]
    cluster: Option<bool>,
}

/// Seconds, or what the gateway says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OwnOrDefault(Option<u32>);

impl FromStr for OwnOrDefault {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "default" => Ok(Self(None)),
            number => {
                number.parse().map(|seconds| Self(Some(seconds))).map_err(|_| "give seconds, or default")
            }
        }
    }
}

impl Rename {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), CliError> {
        let change = ChangeEdge { name: Some(self.new_name.clone()), ..ChangeEdge::default() };
        let (client, path) = (self.how.access.client()?, path(&self.name));
        let before: Dated<Edge> = client.look(&path).await?;
        let _: Edge = client.change(Method::PATCH, &path, Some(&change), before.version).await?;
        done(self.how.output, "renamed", &format!("{} to", self.name), self.new_name.as_str())
    }
}

impl Tag {
    /// Reads the tags, and writes what they become.
    pub(super) async fn run(self) -> Result<(), CliError> {
        let (client, path) = (self.how.access.client()?, path(&self.name));
        loop {
            let before: Dated<Edge> = client.look(&path).await?;
            let tags = Some(self.tags.applied_to(before.value.tags));
            let change = ChangeEdge { tags, ..ChangeEdge::default() };
            match client.change::<Edge>(Method::PATCH, &path, Some(&change), before.version).await {
                // Somebody else was faster: their tags stay too.
                Err(CliError::Problem(problem)) if problem.code == STALE => {}
                Err(error) => return Err(error),
                Ok(edge) => return print(self.how.output, &edge, view::shown),
            }
        }
    }
}

impl TagChange {
    fn applied_to(&self, tags: Vec<String>) -> Vec<String> {
        let kept = tags.into_iter().filter(|tag| !self.clear && !self.remove.contains(tag));
        let mut tags: Vec<_> = kept.chain(self.add.iter().cloned()).collect();
        tags.sort();
        tags.dedup();
        tags
    }
}

impl Set {
    /// Does it.
    pub(super) async fn run(self) -> Result<(), CliError> {
        let EdgeSettings { interval, idle_timeout, cluster } = self.settings;
        let change = ChangeEdge {
            interval_s: interval.map(|seconds| seconds.0),
            idle_timeout_s: idle_timeout.map(|seconds| seconds.0),
            cluster,
            ..ChangeEdge::default()
        };
        let client = self.how.access.client()?;
        let edge: Edge = client.call(Method::PATCH, &path(&self.name), Some(&change)).await?;
        print(self.how.output, &edge, view::shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_given_and_taken_away_each_once() {
        let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        let change = TagChange { add: tags(&["till", "north"]), remove: tags(&["old"]), clear: false };
        assert_eq!(change.applied_to(tags(&["north", "old", "paris"])), ["north", "paris", "till"]);
        let change = TagChange { add: tags(&["new"]), remove: vec![], clear: true };
        assert_eq!(change.applied_to(tags(&["north", "old"])), ["new"]);
    }

    #[test]
    fn a_setting_is_a_number_or_the_default() {
        assert_eq!("30".parse(), Ok(OwnOrDefault(Some(30))));
        assert_eq!("default".parse(), Ok(OwnOrDefault(None)));
        assert!("soon".parse::<OwnOrDefault>().is_err());
    }
}
