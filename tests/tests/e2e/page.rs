//! The gateway's page in a real browser.

use tests::browser::Browser;
use tests::gateway::Gateway;

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_reaches_the_gateway_by_its_pin() {
    let gateway = Gateway::start().await;
    let browser = Browser::start(&gateway).await;
    browser.open("/healthz").await;
    browser.shows("\"status\":\"ok\"").await;
    browser.picture("healthz").await;
}
