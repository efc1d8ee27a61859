//! Pages of lists: `after` and `limit` of the query, `next` of the answer. One way for every list.
//!
//! A page ends at a position in the list's order, not at a number, so that what is added or removed meanwhile neither
//! hides anything nor shows it twice. Clients take `next` as it is and need not know what is in it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::problem::{Code, Problem, Result};
use crate::domain::edge::Timestamp;

/// Items of a page where the query names no limit.
pub const DEFAULT_LIMIT: usize = 100;
/// Most items of a page: of edges, the largest items, about 200 KiB of JSON.
pub const MAX_LIMIT: usize = 500;

/// Query of a list that is in order of `P`, which is the text of a cursor.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "P: FromStr"))]
#[schemars(bound = "")]
pub struct PageQuery<P> {
    /// `next` of the page before.
    #[serde(default, deserialize_with = "position")]
    #[schemars(with = "Option<String>")]
    after: Option<P>,
    /// Items of a page: 100 where it is not given.
    #[schemars(range(min = 1, max = 500))]
    limit: Option<usize>,
}

impl<P: Ord + fmt::Display> PageQuery<P> {
    /// The page of `items`, which are in order, and where the next one goes on.
    pub fn cut<T>(
        self,
        items: impl IntoIterator<Item = T>,
        position: impl Fn(&T) -> P,
    ) -> Result<(Vec<T>, Option<String>)> {
        let limit = limit(self.limit)?;
        let follows = |item: &T| self.after.as_ref().is_none_or(|after| position(item) > *after);
        let mut rest = items.into_iter().filter(follows);
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let next = rest.next().and(page.last()).map(|last| position(last).to_string());
        Ok((page, next))
    }
}

/// The limit in force.
pub fn limit(asked: Option<usize>) -> Result<usize> {
    let limit = asked.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let detail = format!("limit must be 1 to {MAX_LIMIT}; ask for the next page with after");
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    Ok(limit)
}

/// What a cursor that is none is answered with.
pub const NO_CURSOR: &str = "after must be the next of another page of this list, in the same order";

fn position<'de, P: FromStr, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<P>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| D::Error::custom(NO_CURSOR))
}

/// The position of what is listed oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByAge {
    /// When it was made.
    pub at: Timestamp,
    /// Its public id: two may have been made in the same millisecond.
    pub id: Uuid,
}

impl fmt::Display for ByAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.0, self.id)
    }
}

impl FromStr for ByAge {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let (at, id) = text.split_once('.').ok_or(NO_CURSOR)?;
        let at = Timestamp(at.parse().map_err(|_| NO_CURSOR)?);
        Ok(Self { at, id: id.parse().map_err(|_| NO_CURSOR)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(after: Option<u32>, limit: usize) -> PageQuery<u32> {
        PageQuery { after, limit: Some(limit) }
    }

    #[test]
    fn pages_follow_each_other_whatever_comes_and_goes() {
        let page = |after, items: &[u32]| query(after, 2).cut(items.to_vec(), |item| *item).expect("a limit");
        assert_eq!(page(None, &[1, 3, 5]), (vec![1, 3], Some("3".into())));
        assert_eq!(page(Some(3), &[1, 3, 5]), (vec![5], None));
        assert_eq!(page(Some(3), &[1, 4, 5]), (vec![4, 5], None), "the last one of the page before is gone");
        assert_eq!(page(Some(5), &[1, 3, 5]), (vec![], None));
        assert_eq!(page(None, &[]), (vec![], None));
    }

    #[test]
    fn limits_are_bounded() {
        for bad in [0, MAX_LIMIT + 1] {
            let refused = query(None, bad).cut([1], |item| *item).expect_err("no such limit");
            assert_eq!(refused.code(), Code::InvalidRequest);
        }
    }

    #[test]
    fn the_position_by_age_survives_its_text() {
        let position = ByAge { at: Timestamp(7), id: Uuid::from_u128(1) };
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", "7", "7.", "x.00000000-0000-0000-0000-000000000001"] {
            assert_eq!(bad.parse::<ByAge>(), Err(NO_CURSOR), "{bad}");
        }
    }
}
