//! Problems on a service's host as pages, for people. The gateway's own pages look better, but nothing of theirs is there:
//! not a style sheet, not a script.

use axum::response::{IntoResponse as _, Response};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use maud::{DOCTYPE, html};

use crate::http::problem::Problem;

/// The problem in words, with its status and its headers.
pub fn page(problem: Problem) -> Response {
    let (code, detail) = (problem.code(), problem.detail());
    let html = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (code.title()) }
            }
            body {
                h1 { (code.title()) }
                p { (detail) "." }
                p { small { "Tidegate: " (code.name()) } }
            }
        }
    };
    let mut response = problem.into_response();
    *response.body_mut() = html.into_string().into();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    response
}
