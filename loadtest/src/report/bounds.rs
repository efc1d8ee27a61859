//! Bounds that a run is held to: `p99=50ms`, `failures=0`. Pure.
//!
//! A bound is held to every figure of that name that is ours; peers and the floor may be as slow as they like. A bound
//! for which the report has no figure is broken: whoever asks for it wants to know.

use std::fmt;
use std::str::FromStr;

use crate::report::figures::{Figure, Name, micros};

/// No figure of this name may be above this (below it, where more is better).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    name: Name,
    limit: f64,
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Name::ALL.map(Name::text).join(", ");
        let (name, limit) = text.split_once('=').ok_or("give a bound such as p99=50ms or failures=0")?;
        let name = Name::ALL.into_iter().find(|known| known.text() == name);
        let name = name.ok_or_else(|| format!("there are bounds for {}", names()))?;
        let limit = if name.is_time() { time(limit) } else { limit.parse().ok() };
        let limit = limit.filter(|limit: &f64| limit.is_finite() && *limit >= 0.0);
        let form = if name.is_time() { "a time such as 500us, 50ms or 1.5s" } else { "a number" };
        Ok(Self { name, limit: limit.ok_or_else(|| format!("give {name} {form}"))? })
    }
}

/// In microseconds.
fn time(text: &str) -> Option<f64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let number: f64 = number.parse().ok()?;
    match unit {
        "us" => Some(number),
        "ms" => Some(number * 1_000.0),
        "s" => Some(number * 1_000_000.0),
        _ => None,
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = if self.name.is_time() { micros(self.limit) } else { self.name.show(self.limit) };
        write!(formatter, "{} {limit}", self.name)
    }
}

impl Bound {
    fn is_kept_by(&self, value: f64) -> bool {
        if self.name.more_is_better() { value >= self.limit } else { value <= self.limit }
    }
}

/// A sentence for each bound that is broken, by each figure that breaks it.
pub fn broken(bounds: &[Bound], figures: &[Figure]) -> Vec<String> {
    let mut broken = Vec::new();
    for bound in bounds {
        let mut held = figures.iter().filter(|figure| figure.ours && figure.name == bound.name).peekable();
        if held.peek().is_none() {
            broken.push(format!("the bound {bound} has no figure in this report"));
        }
        for figure in held.filter(|figure| !bound.is_kept_by(figure.value)) {
            let Figure { subject, name, value, .. } = figure;
            broken.push(format!("the bound {bound} is broken: {subject} has {name} {}", name.show(*value)));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> Bound {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn figure(name: Name, value: f64, ours: bool) -> Figure {
        Figure { subject: "1 connection".to_owned(), name, value, ours }
    }

    #[test]
    fn bounds_are_read_with_their_unit() {
        for (text, name, limit) in [
            ("p99=50ms", Name::P99, 50_000.0),
            ("p99.9=1.5s", Name::P999, 1_500_000.0),
            ("p50=300us", Name::P50, 300.0),
            ("failures=0", Name::Failures, 0.0),
            ("wire-bytes=270", Name::WireBytes, 270.0),
        ] {
            assert_eq!(bound(text), Bound { name, limit });
        }
        for (bad, says) in [
            ("p99", "such as p99=50ms"),
            ("p98=1ms", "there are bounds for p50, p99, p99.9, max, failures"),
            ("p99=50", "a time such as"),
            ("p99=-1ms", "a time such as"),
            ("max=NaNms", "a time such as"),
            ("failures=1ms", "a number"),
        ] {
            let error = bad.parse::<Bound>().expect_err("it is no bound");
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn only_our_own_figures_break_a_bound_and_each_is_named() {
        let figures = [figure(Name::P99, 49_000.0, true), figure(Name::P99, 900_000.0, false)];
        assert_eq!(broken(&[bound("p99=50ms")], &figures), Vec::<String>::new());
        assert_eq!(
            broken(&[bound("p99=20ms")], &figures),
            ["the bound p99 20.0 ms is broken: 1 connection has p99 49.0 ms"]
        );
        assert_eq!(broken(&[bound("rate=100")], &[figure(Name::Rate, 99.0, true)]).len(), 1);
        assert_eq!(broken(&[bound("rate=100")], &[figure(Name::Rate, 101.0, true)]).len(), 0);
    }

    #[test]
    fn a_bound_without_a_figure_is_broken() {
        assert_eq!(
            broken(&[bound("max=1s")], &[figure(Name::P99, 1.0, true)]),
            ["the bound max 1.00 s has no figure in this report"]
        );
    }
}
