//! Charts as inline SVG, drawn without scripts. Colours come from the page's style sheet, so that both of its schemes have
//! their own. Pure.

use maud::{Markup, html};

/// Size of a chart of lines, in the units of its view box.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 280.0;
/// Room for the labels around the drawing.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 26.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 30.0;
/// Height of a bar's row, and where bars begin.
const ROW: f64 = 24.0;
const NAMES: f64 = 150.0;
/// Where the widest bar ends; its value stands behind it.
const BARS: f64 = 540.0;
/// Ticks of an axis are about so many.
const TICKS: f64 = 5.0;
/// Colours that the style sheet has; a chart with more lines uses them again.
const COLOURS: usize = 8;

/// How values become heights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// In proportion, from 0 on.
    Linear,
    /// Each power of ten as high as the next; what is not above 0 is not drawn.
    Log,
}

/// Points that belong together, in the order of their x.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// For the legend.
    pub name: String,
    /// x and value.
    pub points: Vec<(f64, f64)>,
}

/// A chart of lines.
#[derive(Clone, Debug)]
pub struct Lines {
    /// What it shows.
    pub title: String,
    /// What x is, below the axis.
    pub across: &'static str,
    /// Where x has a tick, and what it says there.
    pub ticks: Vec<(f64, String)>,
    /// Of the values.
    pub scale: Scale,
    /// A value as text.
    pub show: fn(f64) -> String,
    /// The lines. One without points is not in the legend.
    pub lines: Vec<Line>,
}

impl Lines {
    /// The chart with its legend; nothing where there is nothing to draw.
    pub fn draw(&self) -> Option<Markup> {
        let drawn: Vec<Line> = self.lines.iter().map(|line| self.visible(line)).collect();
        let points = || drawn.iter().flat_map(|line| line.points.iter());
        let values = Values::of(self.scale, points().map(|(_, value)| *value))?;
        let xs = points().map(|(x, _)| *x).chain(self.ticks.iter().map(|(x, _)| *x));
        let (from, to) = xs.fold((f64::MAX, f64::MIN), |(from, to), x| (from.min(x), to.max(x)));
        let x = |x: f64| LEFT + (x - from) / (to - from).max(f64::MIN_POSITIVE) * (WIDTH - LEFT - RIGHT);
        let bottom = HEIGHT - BOTTOM;
        let y = |value: f64| bottom - values.height(value) * (bottom - TOP);
        Some(html! {
            figure {
                figcaption { (self.title) }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.title) {
                    @for tick in values.ticks() {
                        line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(place(y(tick))) y2=(place(y(tick))) {}
                        text.value x=(LEFT - 6.0) y=(place(y(tick) + 4.0)) { ((self.show)(tick)) }
                    }
                    @for (at, name) in &self.ticks {
                        line.tick x1=(place(x(*at))) x2=(place(x(*at))) y1=(bottom) y2=(bottom + 4.0) {}
                        text.across x=(place(x(*at))) y=(bottom + 16.0) { (name) }
                    }
                    text.across x=((LEFT + WIDTH) / 2.0) y=(HEIGHT - 2.0) { (self.across) }
                    @for (number, line) in drawn.iter().enumerate() {
                        polyline class=(colour(number)) points=(polyline(line, x, y)) {
                            title { (line.name) }
                        }
                    }
                }
                ul.legend {
                    @for (number, line) in drawn.iter().enumerate().filter(|(_, line)| !line.points.is_empty()) {
                        li class=(colour(number)) { (line.name) }
                    }
                }
            }
        })
    }

    /// The line without what can't be drawn.
    fn visible(&self, line: &Line) -> Line {
        let drawable = |value: f64| value.is_finite() && (self.scale == Scale::Linear || value > 0.0);
        let points = line.points.iter().copied().filter(|(_, value)| drawable(*value)).collect();
        Line { name: line.name.clone(), points }
    }
}

/// A bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Before it.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// The lowest and the highest of what it stands for, where that is known.
    pub spread: Option<(f64, f64)>,
    /// Whether it is one of ours.
    pub ours: bool,
}

/// Horizontal bars, one below the other; nothing where there are none.
pub fn bars(title: &str, show: fn(f64) -> String, bars: &[Bar]) -> Option<Markup> {
    let widest =
        bars.iter().map(|bar| bar.spread.map_or(bar.value, |(_, highest)| highest)).fold(0.0, f64::max);
    if widest <= 0.0 {
        return None;
    }
    let x = |value: f64| NAMES + value / widest * (BARS - NAMES);
    let height = ROW * bars.len() as f64 + 8.0;
    Some(html! {
        figure {
            figcaption { (title) }
            svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(title) {
                @for (number, bar) in bars.iter().enumerate() {
                    @let top = number as f64 * ROW + 4.0;
                    @let middle = top + ROW / 2.0;
                    text.name x=(NAMES - 8.0) y=(middle + 4.0) { (bar.name) }
                    rect class=(if bar.ours { "ours" } else { "peer" })
                        x=(NAMES) y=(top + 3.0) width=(place(x(bar.value) - NAMES)) height=(ROW - 6.0) {}
                    @if let Some((lowest, highest)) = bar.spread {
                        line.spread x1=(place(x(lowest))) x2=(place(x(highest))) y1=(middle) y2=(middle) {}
                    }
                    @let end = bar.spread.map_or(bar.value, |(_, highest)| highest.max(bar.value));
                    text.after x=(place(x(end) + 6.0)) y=(middle + 4.0) { (show(bar.value)) }
                }
            }
        }
    })
}

/// Ticks of an axis in seconds.
pub fn seconds(from: f64, to: f64) -> Vec<(f64, String)> {
    steps(from, to).into_iter().map(|at| (at, format!("{at:.0}"))).collect()
}

/// Where a share of all stands on an axis on which 90 %, 99 % and 99.9 % are equally far from each other.
pub fn share(share: f64) -> f64 {
    // The largest share of a curve is 0.9999; one that is 1 has no place there.
    -(1.0 - share.clamp(0.0, 0.999_999)).log10()
}

/// Ticks of that axis, up to the share.
pub fn shares(largest: f64) -> Vec<(f64, String)> {
    let all =
        [(0.0, "0 %"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")];
    all.into_iter().filter(|(at, _)| *at <= largest).map(|(at, name)| (share(at), name.to_owned())).collect()
}

/// The range of an axis of values.
struct Values {
    scale: Scale,
    lowest: f64,
    highest: f64,
}

impl Values {
    fn of(scale: Scale, values: impl Iterator<Item = f64>) -> Option<Self> {
        let (lowest, highest) =
            values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if highest < lowest {
            return None;
        }
        Some(match scale {
            Scale::Linear => {
                Self { scale, lowest: 0.0, highest: if highest > 0.0 { highest * 1.05 } else { 1.0 } }
            }
            Scale::Log => {
                let (low, high) = (lowest.log10().floor(), highest.log10().ceil());
                Self { scale, lowest: low, highest: high.max(low + 1.0) }
            }
        })
    }

    /// From 0 at the bottom to 1 at the top.
    fn height(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Log => value.log10(),
        };
        (value - self.lowest) / (self.highest - self.lowest)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => steps(self.lowest, self.highest),
            Scale::Log => {
                (self.lowest as i32..=self.highest as i32).map(|power| 10_f64.powi(power)).collect()
            }
        }
    }
}

/// Round numbers between two: steps of 1, 2 or 5 times a power of ten.
fn steps(from: f64, to: f64) -> Vec<f64> {
    let wanted = (to - from) / TICKS;
    if !wanted.is_finite() || wanted <= 0.0 {
        return vec![from];
    }
    let power = 10_f64.powf(wanted.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= wanted);
    let step = step.unwrap_or(wanted);
    let first = (from / step).ceil() as i64;
    let last = (to / step).floor() as i64;
    (first..=last).map(|number| number as f64 * step).collect()
}

fn polyline(line: &Line, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let points = line.points.iter().map(|(at, value)| format!("{},{}", place(x(*at)), place(y(*value))));
    points.collect::<Vec<_>>().join(" ")
}

/// A coordinate, as exact as a screen is.
fn place(coordinate: f64) -> String {
    format!("{coordinate:.1}")
}

fn colour(number: usize) -> String {
    format!("c{}", number % COLOURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(scale: Scale, points: &[(f64, f64)]) -> Lines {
        Lines {
            title: "times <of> answers".to_owned(),
            across: "seconds",
            ticks: seconds(0.0, 10.0),
            scale,
            show: |value| format!("{value}"),
            lines: vec![Line { name: "p99".to_owned(), points: points.to_vec() }],
        }
    }

    #[test]
    fn points_lie_between_the_ends_of_their_axes() {
        let chart = lines(Scale::Linear, &[(0.0, 0.0), (10.0, 100.0)])
            .draw()
            .expect("there are points")
            .into_string();
        // From the bottom left to the top right, with a twentieth of room above.
        assert!(chart.contains(r#"points="70.0,250.0 614.0,21.4""#), "{chart}");
        assert!(chart.contains("times &lt;of&gt; answers"), "{chart}");
    }

    #[test]
    fn a_scale_of_powers_of_ten_leaves_out_what_is_not_above_zero() {
        let chart = lines(Scale::Log, &[(0.0, 0.0), (5.0, 10.0), (10.0, 1000.0)]);
        let chart = chart.draw().expect("there are points").into_string();
        assert!(chart.contains(r#"points="342.0,250.0 614.0,10.0""#), "{chart}");
        assert!(lines(Scale::Log, &[(0.0, 0.0)]).draw().is_none());
        assert!(lines(Scale::Linear, &[(0.0, f64::NAN)]).draw().is_none());
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(steps(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(steps(-3.0, 120.0), [0.0, 50.0, 100.0]);
        assert_eq!(steps(0.0, 0.7), [0.0, 0.2, 0.4, 0.6000000000000001]);
        assert_eq!(steps(5.0, 5.0), [5.0]);
    }

    #[test]
    fn each_further_nine_takes_as_much_room_as_the_last() {
        let at: Vec<f64> = shares(0.9999).into_iter().map(|(at, _)| at).collect();
        assert!((at[3] - at[2] - (at[4] - at[3])).abs() < 1e-9, "{at:?}");
        assert_eq!(shares(0.99).len(), 4);
        assert!(share(1.0).is_finite());
    }

    #[test]
    fn the_widest_bar_or_spread_ends_at_the_edge() {
        let bar = |value, spread| Bar { name: "way".to_owned(), value, spread, ours: true };
        let drawn = bars("rate", |value| format!("{value}"), &[bar(5.0, Some((4.0, 10.0))), bar(2.5, None)]);
        let drawn = drawn.expect("there are bars").into_string();
        assert!(drawn.contains(r#"x1="306.0" x2="540.0""#), "{drawn}");
        assert!(drawn.contains(r#"width="195.0""#) && drawn.contains(r#"width="97.5""#), "{drawn}");
        assert!(bars("rate", |value| format!("{value}"), &[bar(0.0, None)]).is_none());
    }
}
