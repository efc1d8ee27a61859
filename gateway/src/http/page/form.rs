//! Forms: taking them in, and showing them again with what was wrong.
//!
//! The rules: a form is taken from our own page only, also where nobody is signed in yet, so that no other site's page
//! signs a browser in or sets a gateway up; and a password that was typed is never shown again.

use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{FromRequest, Request};
use http::StatusCode;
use maud::{Markup, html};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::parts::{Tone, notice};
use super::refusal::sentence;
use crate::http::problem::{Code, Problem, Result};
use crate::http::{ApiState, body, guard};

/// Bounds of a check-in interval, in seconds, as the registry has them.
pub const INTERVALS: (u32, u32) = (1, 86_400);
/// Bounds of an idle time, in seconds, as the registry has them.
pub const IDLE_TIMES: (u32, u32) = (10, 604_800);

/// What our own page sent.
#[derive(Debug)]
pub struct Form<T>(pub T);

/// What a form without fields sends.
#[derive(Debug, Deserialize)]
pub struct Nothing {}

impl<T: DeserializeOwned + Send> FromRequest<Arc<ApiState>> for Form<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<ApiState>) -> Result<Self> {
        let peer = request.extensions().get().copied();
        let peer = peer.ok_or_else(|| Problem::internal("the listener named no peer"))?;
        guard::from_our_page(state, request.uri(), request.headers(), peer)?;
        let form: std::result::Result<_, FormRejection> =
            body::in_time(axum::Form::from_request(request, state)).await?;
        form.map(|axum::Form(form)| Self(form)).map_err(|rejection| {
            let code = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
                StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
                _ => Code::InvalidField,
            };
            Problem::new(code, rejection.body_text())
        })
    }
}

/// Why a form is shown again; nothing, the first time.
#[derive(Debug, Default)]
pub struct Wrong {
    /// What was refused.
    pub problem: Option<Problem>,
    field: Option<&'static str>,
}

impl Wrong {
    /// Something in this field.
    pub fn field(field: &'static str, sentence: impl Into<String>) -> Self {
        Self { problem: Some(Problem::new(Code::InvalidField, sentence)), field: Some(field) }
    }

    /// What the gateway refused, told beside the field that `field` finds for it.
    pub fn refused(problem: Problem, field: impl FnOnce(Code) -> Option<&'static str>) -> Self {
        Self { field: field(problem.code()), problem: Some(problem) }
    }

    /// On top of the form.
    pub fn show(&self) -> Markup {
        html! {
            @if let Some(sentence) = self.sentence() {
                @match self.field {
                    Some(field) => (notice(Tone::Problem, &html! { a href={ "#" (field) } { (sentence) } })),
                    None => (notice(Tone::Problem, &html! { (sentence) })),
                }
            }
        }
    }

    fn sentence(&self) -> Option<String> {
        self.problem.as_ref().map(|problem| sentence(problem.detail()))
    }

    fn of(&self, field: &str) -> Option<String> {
        self.sentence().filter(|_| self.field == Some(field))
    }
}

/// What is typed into a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A line.
    Text,
    /// A password: hidden, and empty when it is shown again.
    Password,
    /// A whole number within these bounds.
    Number(u32, u32),
    /// Lines.
    Lines,
}

/// A labelled field of a form. Its name is also its id, unless another field of the page has that.
#[must_use]
pub struct Field<'a> {
    name: &'static str,
    id: &'static str,
    label: &'a str,
    kind: Kind,
    value: &'a str,
    hint: Option<&'a str>,
    autocomplete: &'a str,
    required: bool,
    first: bool,
    /// Most characters.
    most: Option<usize>,
}

impl<'a> Field<'a> {
    /// An empty field.
    pub fn new(kind: Kind, name: &'static str, label: &'a str) -> Self {
        let (value, hint, autocomplete) = ("", None, "off");
        Self {
            name,
            id: name,
            label,
            kind,
            value,
            hint,
            autocomplete,
            required: false,
            first: false,
            most: None,
        }
    }

    /// With an id of its own, by which a [`Wrong`] names it too.
    pub fn id(self, id: &'static str) -> Self {
        Self { id, ..self }
    }

    /// With what was typed before.
    pub fn value(self, value: &'a str) -> Self {
        Self { value, ..self }
    }

    /// With a sentence below its label.
    pub fn hint(self, hint: &'a str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// What a password manager may fill in (HTML, section 4.10.18.7).
    pub fn autocomplete(self, autocomplete: &'a str) -> Self {
        Self { autocomplete, ..self }
    }

    /// It must not be empty.
    pub fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Where the cursor is at first.
    pub fn first(self) -> Self {
        Self { first: true, ..self }
    }

    /// Most characters that can be typed.
    pub fn most(self, characters: usize) -> Self {
        Self { most: Some(characters), ..self }
    }

    /// The field, with what is wrong with it.
    pub fn show(&self, wrong: &Wrong) -> Markup {
        let error = wrong.of(self.id);
        let ids = [self.hint.map(|_| "hint"), error.as_ref().map(|_| "error")];
        let described: Vec<_> = ids.iter().flatten().map(|kind| format!("{}-{kind}", self.id)).collect();
        let described = Some(described.join(" ")).filter(|ids| !ids.is_empty());
        let invalid = error.as_ref().map(|_| "true");
        let (kind, least_and_most) = match self.kind {
            Kind::Text => ("text", None),
            Kind::Password => ("password", None),
            Kind::Number(least, most) => ("number", Some((least, most))),
            Kind::Lines => ("", None),
        };
        let value = if self.kind == Kind::Password { "" } else { self.value };
        html! {
            div .field {
                label for=(self.id) { (self.label) @if !self.required { span .muted { " (optional)" } } }
                @if let Some(hint) = self.hint { p .hint #{ (self.id) "-hint" } { (hint) } }
                @if self.kind == Kind::Lines {
                    textarea #(self.id) name=(self.name) rows="10" required[self.required] autofocus[self.first]
                        autocomplete="off" autocapitalize="none" spellcheck="false" aria-invalid=[invalid]
                        aria-describedby=[&described] { "\n" (value) }
                } @else {
                    input #(self.id) type=(kind) name=(self.name) value=(value) required[self.required]
                        autofocus[self.first] autocomplete=(self.autocomplete) autocapitalize="none"
                        spellcheck="false" maxlength=[self.most] min=[least_and_most.map(|(least, _)| least)]
                        max=[least_and_most.map(|(_, most)| most)] aria-invalid=[invalid]
                        aria-describedby=[&described];
                }
                @if let Some(error) = error { p .error #{ (self.id) "-error" } { (error) } }
            }
        }
    }
}

/// A whole number of seconds as it is typed; nothing where the field is empty.
pub fn seconds(field: &'static str, typed: &str) -> std::result::Result<Option<u32>, Wrong> {
    let typed = typed.trim();
    if typed.is_empty() {
        return Ok(None);
    }
    typed.parse().map(Some).map_err(|_| Wrong::field(field, "this must be a whole number of seconds"))
}

/// Tags as they are typed, with commas between them.
pub fn tags(typed: &str) -> Vec<String> {
    typed.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

/// A box to tick.
pub fn tick(name: &str, label: &str, hint: &str, ticked: bool) -> Markup {
    html! {
        label .check {
            input type="checkbox" name=(name) value="yes" checked[ticked];
            span { strong { (label) } span .hint { (hint) } }
        }
    }
}

/// A page that asks before something is done that can't be taken back. The script shows it in a dialog where a link to
/// it has `data-confirm`.
pub struct Confirmation<'a> {
    /// The question.
    pub title: &'a str,
    /// What will happen.
    pub body: Markup,
    /// On the button.
    pub verb: &'a str,
    /// Where the form goes.
    pub action: &'a str,
    /// Where those go who think better of it.
    pub back: &'a str,
}

impl Confirmation<'_> {
    /// The question as a part of its page.
    pub fn show(&self) -> Markup {
        html! {
            section .confirmation data-confirmation {
                h1 { (self.title) }
                (self.body)
                form .actions method="post" action=(self.action) {
                    button .danger { (self.verb) }
                    a .button href=(self.back) data-cancel { "Cancel" }
                }
            }
        }
    }
}
