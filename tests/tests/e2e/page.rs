//! The gateway's page in a real browser: from a fresh gateway to a service at a site, and out again.

use std::time::Duration;

use fantoccini::Locator;
use tempfile::TempDir;
use tests::agent::AgentOptions;
use tests::browser::Browser;
use tests::engine::Engine;
use tests::fakes::http::Web;
use tests::gateway::Gateway;
use tests::process::run;
use tests::site::Site;
use tests::tool;
use tests::wait::{SOON, until};

const PASSWORD: &str = "correct horse battery";

/// The code of the first run, from where an operator reads it.
async fn set_up_code(gateway: &Gateway) -> String {
    let line = gateway.log().wait_for("set up the first user", SOON).await;
    let record: serde_json::Value = serde_json::from_str(&line).expect("logs are JSON");
    record["code"].as_str().expect("the record has the code").to_owned()
}

/// Makes the first user, who is signed in then.
async fn set_up(browser: &Browser, gateway: &Gateway) {
    browser.open("/").await;
    browser.arrives_at("/setup").await;
    browser.picture("set-up").await;
    browser.fill("#code", &set_up_code(gateway).await).await;
    browser.fill("#name", "ada").await;
    browser.fill("#password", PASSWORD).await;
    browser.fill("#again", PASSWORD).await;
    browser.click("main button.primary").await;
    browser.arrives_at("/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_fresh_gateway_to_a_service_at_a_site_by_the_page_alone() {
    let gateway = Gateway::start().await;
    let service = Web::start().await;
    let browser = Browser::start(&gateway).await;

    set_up(&browser, &gateway).await;
    browser.shows("No edges yet").await;
    browser.picture("edges-none").await;

    // A new edge; its page turns green when a real agent joins with what the page says.
    browser.click("a[href='/new-edge']").await;
    browser.arrives_at("/new-edge").await;
    browser.picture("new-edge-form").await;
    browser.fill("#name", "shop").await;
    browser.fill("#tags", "berlin").await;
    browser.fill("#interval_s", "1").await;
    browser.click("main button.primary").await;
    browser.shows("Waiting for the agent to join").await;
    let token = browser.text_of("#join-token").await;
    browser.picture("new-edge-waiting").await;
    let _agent = AgentOptions::with_token(&token).expose("web", service.url()).start();
    browser.shows("shop has joined").await;
    browser.picture("new-edge-joined").await;

    // Connect: without a reload.
    browser.open("/edges/shop").await;
    browser.shows("No tunnel").await;
    browser.picture("edge-idle").await;
    browser.click("#state form[action$='/connect'] button").await;
    browser.shows("Connected").await;
    browser.shows("This page keeps the tunnel open").await;
    browser.picture("edge-connected").await;

    assert_eq!(browser.complaints().await, Vec::<String>::new());

    // Its service, on an origin of its own.
    browser.click("#service-web summary").await;
    let link = browser.window().find(Locator::Css("#service-web a.primary")).await.expect("a link");
    let href = link.attr("href").await.expect("an attribute").expect("a link leads somewhere");
    browser.open(&href).await;
    let at = until(SOON, "the service has its own origin", async || {
        browser.window().current_url().await.ok().filter(|at| at.host_str() == Some("web--shop.localhost"))
    })
    .await;
    browser.window().goto(at.join("/hello").expect("a path").as_str()).await.expect("it opens");
    browser.shows("hello").await;
    // It has no icon, which the browser asks it for.
    browser.complaints().await;

    // The list, the other pages, and what they look like.
    browser.open("/").await;
    browser.shows("Tunnel open").await;
    browser.picture("edges").await;
    for (path, shows, name) in [
        ("/edges/shop/settings", "shop", "edge-settings"),
        ("/new-edges", "Names", "new-edges"),
        ("/edges/shop/offer", "ssh", "offer"),
        ("/health", "Edges online", "health"),
        ("/audit", "tunnel.raise", "audit"),
        ("/audit/verify", "The log is intact", "audit-verified"),
        ("/users", "ada", "users"),
        ("/users/ada", "Rights", "user"),
        ("/settings", "Check-in interval", "settings"),
        ("/account", "API tokens", "account"),
        ("/api/v1/docs", "edge", "reference"),
    ] {
        browser.open(path).await;
        browser.shows(shows).await;
        browser.picture(name).await;
        assert!(browser.fits_a_telephone().await, "{path} is wider than a telephone");
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    browser.click(".who form button").await;
    browser.arrives_at("/sign-in").await;
    browser.shows("You are signed out").await;
    browser.picture("signed-out").await;
    browser.open("/edges/shop").await;
    browser.arrives_at("/sign-in?next=%2Fedges%2Fshop").await;
    browser.fill("#name", "ada").await;
    browser.fill("#password", "wrong password").await;
    browser.click("main button.primary").await;
    browser.shows("Name or password is wrong").await;
    browser.picture("sign-in-refused").await;
    browser.fill("#password", PASSWORD).await;
    browser.click("main button.primary").await;
    browser.arrives_at("/edges/shop").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_left_lets_the_tunnel_fall_idle() {
    let gateway = Gateway::start().await;
    let browser = Browser::start(&gateway).await;
    set_up(&browser, &gateway).await;
    let edge = gateway
        .admin
        .create_with("shop", |edge| {
            edge.interval_s = Some(1);
            edge.idle_timeout_s = Some(10);
        })
        .await;
    let _agent = AgentOptions::joining(&edge).start();
    gateway.admin.wait_online("shop").await;
    browser.open("/edges/shop").await;
    browser.click("#state form[action$='/connect'] button").await;
    browser.shows("Connected").await;
    browser.open("/").await;
    browser.shows("Tunnel open").await;
    // The lease of the page's last renewal, the idle time, and the snapshot.
    let what = "the list says that the tunnel is closed";
    until(Duration::from_secs(150), what, async || browser.text().await.contains("Online").then_some(()))
        .await;
}

/// A container named `parrot` that says the same every second, out of nothing but Debian's static busybox.
async fn parrot(engine: &Engine) {
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).expect("the folder is ours");
    std::fs::copy(tool::path("busybox", "busybox-static"), bin.join("busybox")).expect("the folder is ours");
    let archive = folder.path().join("image.tar");
    let mut tar = tool::command("tar", "tar");
    tar.arg("-C").arg(folder.path()).arg("-cf").arg(&archive).arg("bin");
    run(tar).await.ok();
    engine.docker(&["import", archive.to_str().expect("a plain path"), "busybox:local"]).await.ok();
    let says = "while :; do echo 'polly says <b>hello</b>'; busybox sleep 1; done";
    let shell = ["/bin/busybox", "sh", "-c", says];
    let start =
        ["run", "--detach", "--name", "parrot", "--network", "none", "--env", "PATH=/bin", "busybox:local"];
    engine.docker(&[start.as_slice(), shell.as_slice()].concat()).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_site_are_seen_followed_stopped_and_started() {
    let engine = Engine::start();
    parrot(&engine).await;
    let Site { gateway, agent: _agent, .. } = &Site::start(&[("docker", &engine.host())]).await;
    let browser = Browser::start(gateway).await;
    set_up(&browser, gateway).await;

    browser.open("/edges/shop").await;
    browser.click("form[action$='/snapshot'] button").await;
    browser.shows("parrot").await;
    browser.picture("edge-snapshot").await;

    browser.click("a[href$='/containers']").await;
    browser.arrives_at("/edges/shop/containers").await;
    browser.shows("running").await;
    browser.picture("containers").await;
    browser.click("tr[data-container=parrot] a[href*='/logs']").await;
    browser.shows("polly says <b>hello</b>").await;
    let heard = browser.text().await.matches("polly says").count();
    until(SOON, "the log goes on by itself", async || {
        (browser.text().await.matches("polly says").count() > heard + 1).then_some(())
    })
    .await;
    browser.picture("container-log").await;

    for (act, then) in [("stop", "exited"), ("start", "running")] {
        browser.open("/edges/shop/containers").await;
        browser.click(&format!("tr[data-container=parrot] form[action*='/{act}'] button")).await;
        browser.shows(then).await;
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}
