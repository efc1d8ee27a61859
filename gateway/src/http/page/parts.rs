//! Pieces that pages share, each with the script's part of it said by `data-` attributes.
//!
//! The rule: what comes from an agent is shown by [`text`], so that it is text, and all of it can be seen.

use maud::{Markup, html};
use shared::wire::admin::EdgeStatus;

/// What an icon says. Each stands beside words that say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icon {
    /// Oneself.
    Account,
    /// Make one more.
    Add,
    /// What was done.
    Audit,
    /// It worked.
    Done,
    /// The greatest first.
    Down,
    /// Remote sites.
    Edges,
    /// How something is.
    Health,
    /// The page that follows.
    Next,
    /// The page before.
    Previous,
    /// Take it away.
    Remove,
    /// Find.
    Search,
    /// The least first.
    Up,
    /// What can be set.
    Settings,
    /// Those who may come in.
    Users,
    /// Look out.
    Warning,
}

/// The icon as markup: lines in the colour of the text beside it.
pub fn icon(icon: Icon) -> Markup {
    let lines = match icon {
        Icon::Account => "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21c0-4 3.5-6 8-6s8 2 8 6",
        Icon::Audit => "M6 3h9l4 4v14H6zM9 11h7M9 15h7",
        Icon::Health => "M3 12h4l3-7 4 14 3-7h4",
        Icon::Settings => "M5 4v6M5 14v6M12 4v3M12 11v9M19 4v9M19 17v3M3 12h4M10 9h4M17 15h4",
        Icon::Users => {
            "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2 20c0-4 3-6 7-6s7 2 7 6M17 5a3 3 0 0 1 0 6M19 14c2 1 3 3 3 6"
        }
        Icon::Add => "M12 5v14M5 12h14",
        Icon::Done => "M4 12.5l5 5L20 6.5",
        Icon::Down => "M12 5v14M6 13l6 6 6-6",
        Icon::Edges => "M4 5h16v6H4zM4 15h16v5H4zM8 8h.01M8 17.5h.01",
        Icon::Next => "M9 5l7 7-7 7",
        Icon::Previous => "M15 5l-7 7 7 7",
        Icon::Remove => "M6 6l12 12M18 6L6 18",
        Icon::Search => "M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM16 16l4.5 4.5",
        Icon::Up => "M12 19V5M6 11l6-6 6 6",
        Icon::Warning => "M12 4l9 16H3zM12 10v4M12 17h.01",
    };
    html! { svg .icon viewBox="0 0 24 24" aria-hidden="true" { path d=(lines) {} } }
}

/// The tide gate: the same drawing as the file, in the colours of the page.
pub fn logo() -> Markup {
    html! {
        svg .logo viewBox="0 0 32 32" aria-hidden="true" {
            path .posts d="M6 4v24M26 4v24M3 6h26" {}
            path .gate d="M10.5 10h11v8.5h-11zM16 6v4M10.5 14.2h11" {}
            path .tide d="M3 24c2.2-2.2 4.3-2.2 6.5 0s4.3 2.2 6.5 0 4.3-2.2 6.5 0 4.3 2.2 6.5 0" {}
        }
    }
}

/// A text of somebody else's on one line: what would act instead of being seen (control characters, ends of lines, and
/// those that turn the direction of writing around) is shown the way Rust writes it, `\u{1b}`.
pub fn text(text: &str) -> String {
    shared::terminal::escape(text)
}

/// A time of the API (RFC 3339 in UTC). The script says how long ago it is.
pub fn time(at: &str) -> Markup {
    let shown = at.strip_suffix('Z').unwrap_or(at).replace('T', " ");
    html! { time datetime=(at) { (shown) " UTC" } }
}

/// What an operator wants to know first of an edge: a shape, a colour and a word, each enough by itself.
pub fn status(status: EdgeStatus) -> Markup {
    html! { span .status data-status=(status.word()) { span .dot {} (status_label(status)) } }
}

/// A status in the words of people.
pub fn status_label(status: EdgeStatus) -> &'static str {
    match status {
        EdgeStatus::NeverJoined => "Never joined",
        EdgeStatus::Offline => "Offline",
        EdgeStatus::Online => "Online",
        EdgeStatus::TunnelOpen => "Tunnel open",
    }
}

/// Tags, as people wrote them.
pub fn tag_list(tags: &[String]) -> Markup {
    html! { @for tag in tags { span .tag { (text(tag)) } " " } }
}

/// How many of something whose plural has an s: `1 edge`, `15,000 edges`.
pub fn counted(number: usize, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A number for people: `15,000`.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut shown = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !shown.is_empty() {
            shown.push(',');
        }
        shown.extend(group.iter().map(|digit| char::from(*digit)));
    }
    shown
}

/// A text to copy. `id` is the page's own name for it. Without a script there is no button, and the text is there to
/// be selected.
pub fn copyable(id: &str, label: &str, text: &str) -> Markup {
    html! {
        figure .copyable {
            figcaption #{ (id) "-label" } {
                (label)
                button .small type="button" data-copy=(id) hidden { "Copy" span .unseen { " " (label) } }
            }
            pre tabindex="0" role="group" aria-labelledby={ (id) "-label" } { code #(id) { (text) } }
        }
    }
}

/// What a page says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Good to know.
    Note,
    /// Something is wrong.
    Problem,
}

/// A sentence that stands out.
pub fn notice(tone: Tone, body: &Markup) -> Markup {
    match tone {
        Tone::Note => html! { p .notice { (body) } },
        Tone::Problem => html! { p .notice.problem role="alert" { (icon(Icon::Warning)) span { (body) } } },
    }
}

/// Where there is nothing: why, and what to do about it.
pub fn empty(title: &str, body: &Markup) -> Markup {
    html! { div .empty { (logo()) h2 { (title) } (body) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_shown_and_does_nothing() {
        assert_eq!(text("plain käse"), "plain käse");
        assert_eq!(text("a\u{1b}[2J\u{202e}b\nc\u{0}"), r"a\u{1b}[2J\u{202e}b\nc\u{0}");
        let markup = html! { td title=(text("\"><script>")) { (text("<img src=x onerror=alert(1)>")) } };
        let expected = "<td title=\"&quot;&gt;&lt;script&gt;\">&lt;img src=x onerror=alert(1)&gt;</td>";
        assert_eq!(markup.into_string(), expected);
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        for (number, shown) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (15_000, "15,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(count(number), shown);
        }
        assert_eq!(counted(1, "edge"), "1 edge");
        assert_eq!(counted(0, "edge"), "0 edges");
    }

    #[test]
    fn times_are_shown_in_utc_and_told_to_programs_as_they_came() {
        let shown = time("2026-11-21T14:03:05Z").into_string();
        assert_eq!(shown, "<time datetime=\"2026-11-21T14:03:05Z\">2026-11-21 14:03:05 UTC</time>");
    }
}
