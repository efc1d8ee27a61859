//! Problems as pages: whoever asks for HTML gets a refusal in HTML, whatever the path; programs get the problem itself.
//!
//! The rule: a page says what the problem says, no more: title, what to do, and its code for whoever asks for help.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use http::header::{ACCEPT, ALLOW, RETRY_AFTER};
use maud::html;

use super::frame::Visit;
use crate::http::ApiState;
use crate::http::guard;
use crate::http::problem::Occurred;

/// Outermost layer.
pub async fn for_people(State(state): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    if !asks_for_html(request.headers()) {
        return next.run(request).await;
    }
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    let peer = request.extensions().get().copied();
    let answer = next.run(request).await;
    let Some(occurred) = answer.extensions().get::<Occurred>() else { return answer };
    let visit = Visit::new(guard::who(&state.access, &headers, peer).ok(), &uri, &headers);
    let mut page = show(&visit, occurred);
    for name in [ALLOW, RETRY_AFTER] {
        if let Some(value) = answer.headers().get(&name) {
            page.headers_mut().insert(name, value.clone());
        }
    }
    page
}

/// Browsers name it when a person goes somewhere; nothing else does unasked (RFC 9110 §12.5.1).
fn asks_for_html(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let mut kinds = lines.flat_map(|line| line.split(','));
    kinds.any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html")))
}

fn show(visit: &Visit, occurred: &Occurred) -> Response {
    let (status, title) = (occurred.code.status(), occurred.code.title());
    visit.page(title).status(status).show(html! {
        section .refusal data-problem=(occurred.code.name()) {
            p .muted { (status.as_u16()) }
            h1 { (title) }
            p { (sentence(&occurred.detail)) }
            p { a .button href="/" { "Go to the edges" } }
        }
    })
}

/// Details are parts of sentences for programs' logs; here one stands by itself.
fn sentence(detail: &str) -> String {
    let mut characters = detail.chars();
    let Some(first) = characters.next() else { return String::new() };
    let end = if detail.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), super::parts::text(characters.as_str()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_who_names_html_gets_it() {
        let asks = |accept: &'static str| {
            asks_for_html(&[(ACCEPT, HeaderValue::from_static(accept))].into_iter().collect())
        };
        assert!(asks("text/html") && asks("application/xml, Text/HTML;q=0.9,*/*"));
        assert!(
            !asks("*/*") && !asks("application/json") && !asks("text/event-stream") && !asks("text/htmlx")
        );
        assert!(!asks_for_html(&HeaderMap::new()));
    }

    #[test]
    fn details_become_sentences() {
        assert_eq!(sentence("there is no edge"), "There is no edge.");
        assert_eq!(sentence("Already one."), "Already one.");
        assert_eq!(sentence(""), "");
    }
}
