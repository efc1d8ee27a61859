//! What stands around every page: its headers, its navigation, and who looks at it.
//!
//! The rules: no page leaves but through [`Page::show`], so every one has [`POLICY`] and is never cached; and the
//! navigation offers what the table of operations would let its reader do, no more.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use http::header::{
    self, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, RETRY_AFTER,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use maud::{DOCTYPE, Markup, html};

use super::assets::{LOGO, SCRIPT, STYLE};
use super::flash::{Flash, cookie};
use super::parts::{Icon, icon, logo, text};
use crate::access::Operator;
use crate::domain::authority::Role;
use crate::http::operation::Needs;
use crate::http::problem::Problem;

/// Nothing but our own files, nothing inline, no frame around it, and forms that lead back here only (CSP level 3).
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Of every page. What one shows may be secret or out of date in a second.
const HEADERS: [(HeaderName, &str); 7] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// A line of the navigation.
pub struct Entry {
    /// As it is shown.
    pub label: &'static str,
    /// Where it leads; the page there and those below it count as its own.
    pub path: &'static str,
    /// Beside the label.
    pub icon: Icon,
    /// What the page there needs, by the table.
    pub needs: Needs,
}

/// The navigation, from top to bottom.
pub const NAVIGATION: &[Entry] = &[
    Entry { label: "Edges", path: "/", icon: Icon::Edges, needs: Needs::Edges(Role::Viewer) },
    Entry { label: "Gateway", path: "/health", icon: Icon::Health, needs: Needs::Gateway(Role::Viewer) },
    Entry { label: "Audit", path: "/audit", icon: Icon::Audit, needs: Needs::Gateway(Role::Admin) },
    Entry { label: "Users", path: "/users", icon: Icon::Users, needs: Needs::Gateway(Role::Admin) },
    Entry { label: "Settings", path: "/settings", icon: Icon::Settings, needs: Needs::Gateway(Role::Admin) },
    Entry { label: "Account", path: "/account", icon: Icon::Account, needs: Needs::Anybody },
];

/// The cookie in which a browser keeps how it wants pages to look.
const THEME: &str = "tidegate-theme";

/// Light or dark, where the browser's own wish does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theme {
    Light,
    Dark,
}

/// Who looks at a page, and where they are.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Whoever is signed in.
    pub operator: Option<Operator>,
    path: String,
    theme: Option<Theme>,
    flash: Option<Flash>,
}

impl Visit {
    /// Of a request.
    pub fn new(operator: Option<Operator>, uri: &Uri, headers: &HeaderMap) -> Self {
        let theme = match cookie(headers, THEME) {
            Some("light") => Some(Theme::Light),
            Some("dark") => Some(Theme::Dark),
            Some(_) | None => None,
        };
        Self { operator, path: uri.path().to_owned(), theme, flash: Flash::of(headers) }
    }

    /// Whether the table would let whoever looks do what needs this.
    pub fn may(&self, needs: Needs) -> bool {
        needs == Needs::Nothing || self.operator.as_ref().is_some_and(|operator| needs.met_by(operator))
    }

    /// A page with this title.
    pub fn page(&self, title: impl Into<String>) -> Page<'_> {
        Page { visit: self, title: title.into(), problem: None, crumbs: Vec::new(), live: None }
    }

    fn is_below(&self, entry: &Entry) -> bool {
        match entry.path {
            "/" => self.path == "/" || self.path.starts_with("/edges/") || self.path.starts_with("/new-edge"),
            path => self.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::new(parts.extensions.get().cloned(), &parts.uri, &parts.headers))
    }
}

/// A page on its way to whoever looks at it.
#[must_use]
pub struct Page<'v> {
    visit: &'v Visit,
    title: String,
    problem: Option<Problem>,
    crumbs: Vec<(String, String)>,
    live: Option<String>,
}

impl Page<'_> {
    /// Tells of a problem. The page has its status, and counts as refused for whoever records that.
    pub fn refused(self, problem: Option<&Problem>) -> Self {
        Self { problem: problem.cloned(), ..self }
    }

    /// A step on the way to this page, from the outside in: its words and its path.
    pub fn crumb(mut self, label: impl Into<String>, path: impl Into<String>) -> Self {
        self.crumbs.push((label.into(), path.into()));
        self
    }

    /// The stream of fragments that keeps this page up to date ([`super::live`]).
    pub fn live(self, path: impl Into<String>) -> Self {
        Self { live: Some(path.into()), ..self }
    }

    /// The whole answer.
    pub fn show(self, body: Markup) -> Response {
        let visit = self.visit;
        let html = html! {
            (DOCTYPE)
            html lang="en" data-theme=[visit.theme.map(Theme::name)] {
                head {
                    meta charset="utf-8";
                    title { (self.title) " · Tidegate" }
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    link rel="icon" type="image/svg+xml" href=(LOGO.path());
                    link rel="stylesheet" href=(STYLE.path());
                    script type="module" src=(SCRIPT.path()) {}
                }
                body class=[visit.operator.is_none().then_some("bare")] {
                    a .skip href="#main" { "Skip to content" }
                    (self.header())
                    main #main tabindex="-1" data-live=[self.live.as_deref()] {
                        @if !self.crumbs.is_empty() { (self.breadcrumbs()) }
                        @if let Some(Flash(text)) = &visit.flash {
                            p .notice.done role="status" data-flash { (icon(Icon::Done)) (text) }
                        }
                        (body)
                    }
                    (footer(visit))
                    // Where the script says what it did, for those who can't see it.
                    p #announcements .unseen role="status" aria-live="polite" {}
                }
            }
        };
        let status = self.problem.as_ref().map_or(StatusCode::OK, |problem| problem.code().status());
        let mut response = (status, html.into_string()).into_response();
        if let Some(problem) = &self.problem {
            response.extensions_mut().insert(problem.occurred());
        }
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(seconds) = self.problem.as_ref().and_then(Problem::retry_after) {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if visit.flash.is_some() {
            headers.append(SET_COOKIE, Flash::clear());
        }
        response
    }

    fn header(&self) -> Markup {
        let visit = self.visit;
        html! {
            header .side {
                a .brand href="/" { (logo()) span { "Tidegate" } }
                @if let Some(operator) = &visit.operator {
                    nav .sections aria-label="Sections" {
                        ul {
                            @for entry in NAVIGATION.iter().filter(|entry| visit.may(entry.needs)) {
                                li {
                                    a href=(entry.path) aria-current=[visit.is_below(entry).then_some("page")] {
                                        (icon(entry.icon)) (entry.label)
                                    }
                                }
                            }
                        }
                    }
                    div .who {
                        p { strong data-user { (text(&operator.name)) } span .muted { (operator.role) } }
                        form method="post" action="/sign-out" { button .quiet.small { "Sign out" } }
                    }
                    (self.theme())
                }
            }
        }
    }

    /// For those with a script: others have what their browser is set to.
    fn theme(&self) -> Markup {
        let current = self.visit.theme.map_or("auto", Theme::name);
        html! {
            fieldset .theme data-theme-switch hidden {
                legend .unseen { "Colours" }
                @for (value, label) in [("auto", "Auto"), ("light", "Light"), ("dark", "Dark")] {
                    button type="button" value=(value) aria-pressed=(current == value) { (label) }
                }
            }
        }
    }

    fn breadcrumbs(&self) -> Markup {
        html! {
            nav .crumbs aria-label="Breadcrumbs" {
                ol {
                    @for (label, path) in &self.crumbs { li { a href=(path) { (label) } } }
                    li aria-current="page" { (self.title) }
                }
            }
        }
    }
}

impl Theme {
    fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// "See other": a browser goes on with GET, and its history has no form that could be sent again.
pub fn redirect(path: &str) -> Response {
    let location = HeaderValue::try_from(path).expect("paths of ours are ASCII");
    let headers = [(header::LOCATION, location), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// The same, with a word for the page that follows.
pub fn redirect_with(path: &str, flash: impl Into<String>) -> Response {
    let mut response = redirect(path);
    response.headers_mut().append(SET_COOKIE, Flash(flash.into()).set());
    response
}

fn footer(visit: &Visit) -> Markup {
    html! {
        footer {
            p .muted {
                "Tidegate " (env!("CARGO_PKG_VERSION"))
                @if visit.may(Needs::Anybody) { " · " a href="/api/v1/docs" { "Admin API" } }
            }
        }
    }
}
