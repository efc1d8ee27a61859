//! A real browser: Debian's Chromium, headless, driven over WebDriver.
//!
//! It trusts a gateway by the same pin as everybody else, knows no host but this machine, so that a page that needs
//! another one fails its test, and is asked at the end what it complained about: a page under a strict content security
//! policy complains about nothing.

use std::path::PathBuf;
use std::time::Duration;

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::gateway::Gateway;
use crate::process::{Log, Process, binary};
use crate::tool;
use crate::wait::{SOON, until};

/// A wide screen, as laptops have it.
pub const WIDE: (u32, u32) = (1280, 900);
/// A telephone.
pub const NARROW: (u32, u32) = (390, 844);

/// A browser with one window; ends when dropped.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    base: String,
    log: Log,
    _driver: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts one that trusts `gateway` and shows an empty page.
    ///
    /// # Panics
    /// If Chromium or its driver is missing or does not start.
    pub async fn start(gateway: &Gateway) -> Self {
        let chromium = tool::path("chromium", "chromium");
        let address = tool::free_address();
        let log = Log::default();
        let mut command = tool::command("chromedriver", "chromium-driver");
        command.arg(format!("--port={}", address.port()));
        let driver = Process::start("chromedriver", command, &log);
        log.wait_for("was started successfully", SOON).await;

        let profile = TempDir::new().expect("the folder for temporary files is writable");
        // Chromium wants the pin as base64 alone.
        let pin = gateway.pin().to_string();
        let pin = pin.trim_start_matches("sha256//");
        let (width, height) = WIDE;
        let arguments = [
            "--headless=new".to_owned(),
            // Tests run as root in containers, where Chromium's sandbox can't be made.
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-gpu".to_owned(),
            "--no-first-run".to_owned(),
            "--no-proxy-server".to_owned(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", profile.path().display()),
            format!("--ignore-certificate-errors-spki-list={pin}"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1"
                .to_owned(),
        ];
        let capabilities: Map<String, Value> = [
            ("browserName".to_owned(), json!("chrome")),
            ("goog:loggingPrefs".to_owned(), json!({"browser": "ALL"})),
            ("goog:chromeOptions".to_owned(), json!({"binary": chromium, "args": arguments})),
        ]
        .into_iter()
        .collect();
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://{address}"))
            .await
            .unwrap_or_else(|error| panic!("Chromium does not start: {error}\n{}", log.text()));
        let base = format!("https://localhost:{}", gateway.api().port());
        Self { client, base, log, _driver: driver, _profile: profile }
    }

    /// The window, for whatever has no method here.
    pub fn window(&self) -> &Client {
        &self.client
    }

    /// Opens a path of the gateway.
    pub async fn open(&self, path: &str) {
        let url = format!("{}{path}", self.base);
        self.client.goto(&url).await.unwrap_or_else(|error| panic!("{url} does not open: {error}"));
    }

    /// Path and query of the page that is shown.
    pub async fn path(&self) -> String {
        let url = self.client.current_url().await.expect("a page is shown");
        url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
    }

    /// Waits until the page shown has this path.
    pub async fn arrives_at(&self, path: &str) {
        until(SOON, &format!("the browser is at {path}"), async || (self.path().await == path).then_some(()))
            .await;
    }

    /// What the page shows, as text.
    pub async fn text(&self) -> String {
        let script = "return document.body.innerText";
        let text = self.client.execute(script, Vec::new()).await.expect("every page has a body");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows `text`.
    pub async fn shows(&self, text: &str) {
        self.shows_within(text, SOON).await;
    }

    /// As [`Browser::shows`], with another deadline.
    pub async fn shows_within(&self, text: &str, within: Duration) {
        let what = format!("the page shows {text:?}");
        until(within, &what, async || self.text().await.contains(text).then_some(())).await;
    }

    /// Clicks on the first element that `selector` finds, once there is one that can be clicked.
    pub async fn click(&self, selector: &str) {
        until(SOON, &format!("{selector} can be clicked"), async || {
            self.client.find(Locator::Css(selector)).await.ok()?.click().await.ok()
        })
        .await;
    }

    /// Writes `text` into the field that `selector` finds, in the place of what was there.
    pub async fn fill(&self, selector: &str, text: &str) {
        until(SOON, &format!("{selector} can be filled in"), async || {
            let field = self.client.find(Locator::Css(selector)).await.ok()?;
            field.clear().await.ok()?;
            field.send_keys(text).await.ok()
        })
        .await;
    }

    /// The text of the first element that `selector` finds, once there is one.
    pub async fn text_of(&self, selector: &str) -> String {
        until(SOON, &format!("there is {selector}"), async || {
            self.client.find(Locator::Css(selector)).await.ok()?.text().await.ok()
        })
        .await
    }

    /// Whether an element is found by `selector` now.
    pub async fn has(&self, selector: &str) -> bool {
        self.client.find(Locator::Css(selector)).await.is_ok()
    }

    /// Keeps pictures of the page in `target/screenshots`: wide and light, wide and dark, narrow and light.
    pub async fn picture(&self, name: &str) {
        for (kind, scheme, (width, height)) in
            [("light", "light", WIDE), ("dark", "dark", WIDE), ("narrow", "light", NARROW)]
        {
            self.prefer(scheme).await;
            self.client.set_window_size(width, height).await.expect("a window can be resized");
            let picture = self.client.screenshot().await.expect("a page can be pictured");
            std::fs::write(screenshots().join(format!("{name}-{kind}.png")), picture)
                .expect("the target folder is writable");
        }
        self.prefer("").await;
        self.client.set_window_size(WIDE.0, WIDE.1).await.expect("a window can be resized");
    }

    /// Whether the page fits a telephone's width: what is wider scrolls by itself.
    pub async fn fits_a_telephone(&self) -> bool {
        self.client.set_window_size(NARROW.0, NARROW.1).await.expect("a window can be resized");
        let script = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth";
        let fits = self.client.execute(script, Vec::new()).await.expect("every page has a width");
        self.client.set_window_size(WIDE.0, WIDE.1).await.expect("a window can be resized");
        fits.as_bool().unwrap_or_default()
    }

    async fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        let parameters = json!({"features": features});
        let asked = json!({"cmd": "Emulation.setEmulatedMedia", "params": parameters});
        self.issue("goog/cdp/execute", asked).await;
    }

    /// What the browser complained about since it was asked last: errors of scripts, violations of the policy, requests
    /// that failed.
    pub async fn complaints(&self) -> Vec<String> {
        let entries = self.issue("se/log", json!({"type": "browser"})).await;
        let entries = entries.as_array().cloned().unwrap_or_default();
        let complaint = |entry: &Value| {
            let bad = matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING"));
            bad.then(|| entry["message"].to_string())
        };
        entries.iter().filter_map(complaint).collect()
    }

    async fn issue(&self, path: &'static str, body: Value) -> Value {
        let command = Extension { path, body: body.to_string() };
        let answer = self.client.issue_cmd(command).await;
        answer.unwrap_or_else(|error| panic!("chromedriver refused {path}: {error}\n{}", self.log.text()))
    }
}

/// Where pictures are kept, made if it is not there.
fn screenshots() -> PathBuf {
    let target = binary("tidegate").ancestors().nth(2).expect("target/PROFILE/BINARY").to_owned();
    let folder = target.join("screenshots");
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
}

/// A command that Chromium's driver has beside the standard.
#[derive(Debug)]
struct Extension {
    path: &'static str,
    body: String,
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.clone()))
    }
}
