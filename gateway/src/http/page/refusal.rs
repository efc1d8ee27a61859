//! Problems as pages: whoever asks for HTML gets a refusal in HTML, whatever the path; programs get the problem itself.
//!
//! Whoever is not signed in is asked to, and goes on from there to where they wanted.
//!
//! The rule: a page says what the problem says, no more: title, what to do, and its code for whoever asks for help.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{ACCEPT, ALLOW, CONTENT_SECURITY_POLICY, RETRY_AFTER};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use maud::html;

use super::frame::{Visit, redirect, redirect_with};
use crate::http::guard;
use crate::http::problem::{Code, Occurred, Problem};
use crate::http::{ApiState, browse};

/// Outermost layer.
pub async fn for_people(State(state): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    if !asks_for_html(request.headers()) || browse::is_for_service(&state, &request) {
        return next.run(request).await;
    }
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let peer = request.extensions().get().copied();
    let answer = next.run(request).await;
    let Some(occurred) = answer.extensions().get::<Occurred>() else { return answer };
    if answer.headers().contains_key(CONTENT_SECURITY_POLICY) {
        // A page of ours already: a form that tells what was wrong.
        return answer;
    }
    if occurred.code == Code::NotAuthenticated {
        return to_sign_in(&uri, is_read);
    }
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
pub fn asks_for_html(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let mut kinds = lines.flat_map(|line| line.split(','));
    kinds.any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html")))
}

/// And back to where they were going. A form that was sent has nothing to go back to but its page.
fn to_sign_in(uri: &Uri, is_read: bool) -> Response {
    let wanted = if is_read { uri.path_and_query().map_or("/", PathAndQuery::as_str) } else { uri.path() };
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", wanted).finish();
    let path = if wanted == "/" { "/sign-in".to_owned() } else { format!("/sign-in?{query}") };
    if is_read {
        return redirect(&path);
    }
    redirect_with(&path, "Your session has ended, and nothing was changed. Sign in and send it once more.")
}

fn show(visit: &Visit, occurred: &Occurred) -> Response {
    let (status, title) = (occurred.code.status(), occurred.code.title());
    let problem = Problem::new(occurred.code, occurred.detail.as_str());
    visit.page(title).refused(Some(&problem)).show(html! {
        section .refusal data-problem=(occurred.code.name()) {
            p .muted { (status.as_u16()) }
            h1 { (title) }
            p { (sentence(&occurred.detail)) }
            p { a .button href="/" { "Go to the edges" } }
        }
    })
}

/// Details are parts of sentences for programs' logs; here one stands by itself.
pub fn sentence(detail: &str) -> String {
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
