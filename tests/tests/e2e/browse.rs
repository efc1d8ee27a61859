//! A service in a browser: on an origin of its own, from the gateway's page to the service and back.

use hyper::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use hyper::{Method, StatusCode, Uri};
use tests::fakes::http::{Seen, Web};
use tests::http::{Answer, full};
use tests::site::{EDGE, Site};

/// GET on a host of the gateway, with a cookie and without the admin's token.
async fn get_at(site: &Site, host: &str, path: &str, cookie: &str) -> Answer {
    let anonymous = site.http().anonymous();
    let mut request =
        anonymous.request(Method::GET, path).header(COOKIE, cookie).body(full("")).expect("valid");
    request.headers_mut().insert(HOST, host.parse().expect("a host"));
    anonymous.send(request).await.expect("an answer")
}

#[tokio::test]
async fn a_service_opens_on_its_own_origin_and_hears_nothing_of_the_gateways() {
    let web = Web::start().await;
    let site = Site::start(&[("web", &web.url())]).await;
    // The gateway is at 127.0.0.1 here, where names below `localhost` are to be had.
    let opened =
        site.http().get(&format!("/edges/{EDGE}/services/web/open")).await.expect("an answer").expect(303);
    let location: Uri = opened.headers[LOCATION].to_str().expect("ASCII").parse().expect("a URL");
    let host = location.authority().expect("of another host").to_string();
    assert_eq!(host, format!("web--{EDGE}.localhost:{}", site.gateway.api().port()));
    let path = location.path_and_query().expect("with its ticket").as_str();
    let entered = get_at(&site, &host, path, "theme=dark").await.expect(303);
    let cookie = entered.headers[SET_COOKIE].to_str().expect("ASCII").split(';').next().expect("a cookie");

    let cookies = format!("theme=dark; {cookie}; tidegate=of-the-gateway");
    let seen: Seen = get_at(&site, &host, "/echo/a%2Fb?q=1", &cookies).await.expect(200).json();
    assert_eq!(seen.target, "/echo/a%2Fb?q=1");
    assert_eq!(seen.header("cookie"), Some("theme=dark"));
    assert_eq!((seen.header("authorization"), seen.header("x-forwarded-prefix")), (None, None));
    assert_eq!(seen.header("host"), Some(web.address.to_string().as_str()));
    assert_eq!(seen.header("x-forwarded-host"), Some(host.as_str()));
    // The gateway's own paths are not there.
    assert_eq!(get_at(&site, &host, "/healthz", &cookies).await.status, StatusCode::NOT_FOUND);
    let problem = get_at(&site, &host, "/hello", "theme=dark").await.problem(403);
    assert_eq!(problem.code, "no-pass");
}

#[tokio::test]
async fn a_stream_to_a_service_is_cut_when_the_token_behind_it_is_revoked() {
    let web = Web::start().await;
    let site = Site::start(&[("web", &web.url())]).await;
    let token = serde_json::json!({ "label": "short" });
    let made =
        site.http().send_json(Method::POST, "/api/v1/tokens", &token).await.expect("an answer").expect(201);
    let made: serde_json::Value = made.json();
    let short = site
        .http()
        .anonymous()
        .with_authorization(format!("Bearer {}", made["token"].as_str().expect("one")));
    let request = short.request(Method::GET, &site.proxy("web", "/events")).body(full("")).expect("valid");
    let mut events = short.open(request).await.expect("the head comes before the first event").into_body();
    web.events.send("one".to_owned()).expect("the service has a reader");
    let first = http_body_util::BodyExt::frame(&mut events).await.expect("no end yet").expect("no error");
    assert_eq!(first.into_data().expect("no trailers"), "data: one\n\n");
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().expect("an id"));
    site.http().call(Method::DELETE, &path).await.expect("an answer").expect(204);
    let end = tokio::time::timeout(tests::wait::SOON, http_body_util::BodyExt::frame(&mut events)).await;
    // A stream of events has no length that it could fall short of: how it ends does not matter.
    assert!(!matches!(end.expect("it ends by itself"), Some(Ok(_))), "nothing more comes");
}
