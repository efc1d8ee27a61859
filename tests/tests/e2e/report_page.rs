//! The load harness's report as a page, in a real browser: the page of `loadtest`'s golden files, which has every kind of
//! chart.

use std::path::Path;

use tests::browser::Browser;
use tests::gateway::Gateway;

#[tokio::test(flavor = "multi_thread")]
async fn report_page_fits_a_telephone_and_the_browser_complains_of_nothing() {
    // The browser wants to trust somebody; the page itself is a file and fetches nothing.
    let gateway = Gateway::start().await;
    let browser = Browser::start(&gateway).await;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../loadtest/tests/golden/agents.html");
    let page = page.canonicalize().expect("it is in the repository");
    let url = format!("file://{}", page.display());
    browser.window().goto(&url).await.unwrap_or_else(|error| panic!("{url} does not open: {error}"));
    browser.shows("Tidegate load test: agents").await;
    assert!(browser.has("svg polyline").await, "its charts are drawn");
    assert!(browser.fits_a_telephone().await, "what is wider scrolls by itself");
    browser.picture("report-of-agents").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}
