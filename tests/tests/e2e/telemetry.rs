//! What a gateway tells of itself and its edges: events as they happen, the history of an edge, status and metrics.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Method;
use shared::wire::admin::{CloseCause, EdgeEvent, Event, History, Status, StatusSeries, TunnelState};
use tests::agent::AgentOptions;
use tests::fakes::http::Web;
use tests::gateway::{DRAIN, Gateway};
use tests::http::full;
use tests::liar::Liar;
use tests::process::{binary, run};
use tests::site::{EDGE, Site};
use tests::tool;
use tests::wait::{SOON, until};
use tokio::task::JoinHandle;

/// A message of the event stream: its id, and the event, or none where it is `resync`.
type Message = (String, Option<Event>);

/// Somebody who reads the event stream of a gateway.
struct Reader {
    messages: Arc<Mutex<Vec<Message>>>,
    reading: JoinHandle<()>,
}

impl Reader {
    /// Begins behind the event with this id, where one is given.
    async fn start(gateway: &Gateway, after: Option<&str>) -> Self {
        let request = gateway.admin.http.request(Method::GET, "/api/v1/events");
        let request = match after {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let answer =
            gateway.admin.http.open(request.body(full("")).expect("valid")).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        let messages = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&messages);
        let reading = tokio::spawn(async move {
            let mut text = String::new();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                text.push_str(std::str::from_utf8(&data).expect("events are text"));
                while let Some(end) = text.find("\n\n") {
                    let message: String = text.drain(..end + 2).collect();
                    heard.lock().expect("nobody panics with it").extend(read(&message));
                }
            }
        });
        Self { messages, reading }
    }

    fn messages(&self) -> Vec<Message> {
        self.messages.lock().expect("nobody panics with it").clone()
    }

    fn kinds(&self) -> Vec<&'static str> {
        let kind = |(_, event): &Message| event.as_ref().map_or("resync", |event| event.what.kind());
        self.messages().iter().map(kind).collect()
    }

    /// Waits until an event of this kind was heard; its id.
    async fn hears(&self, kind: &str) -> String {
        until(SOON, &format!("a reader hears {kind}"), async || {
            let is_it = |(_, event): &Message| event.as_ref().is_some_and(|event| event.what.kind() == kind);
            self.messages().into_iter().find(is_it).map(|(id, _)| id)
        })
        .await
    }
}

/// A message, unless it is a comment.
fn read(message: &str) -> Option<Message> {
    let field = |name: &str| {
        message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
    };
    match field("event") {
        "" => None,
        "resync" => Some((field("id").to_owned(), None)),
        kind => {
            let event: Event = serde_json::from_str(field("data")).expect("an event");
            assert_eq!(event.what.kind(), kind);
            Some((field("id").to_owned(), Some(event)))
        }
    }
}

#[tokio::test]
async fn events_tell_the_life_of_an_edge_in_order_and_who_comes_back_misses_none() {
    let web = Web::start().await;
    let mut gateway = Gateway::start().await;
    let reader = Reader::start(&gateway, None).await;
    let edge = gateway.admin.create_with(EDGE, |edge| edge.interval_s = Some(1)).await;
    let mut agent = AgentOptions::joining(&edge).expose("web", web.url()).start();
    let online = reader.hears("online").await;
    gateway.admin.get(&Gateway::proxy_path(EDGE, "web", "/hello")).await.expect(200);
    gateway.admin.lower(EDGE).await;
    reader.hears("tunnel-closed").await;
    agent.kill();
    reader.hears("offline").await;
    let life = [
        "resync",
        "created",
        "joined",
        "online",
        "tunnel-wanted",
        "tunnel-offered",
        "tunnel-opened",
        "tunnel-closed",
        "offline",
    ];
    assert_eq!(reader.kinds(), life);
    let ids: Vec<_> = reader.messages().into_iter().map(|(id, _)| id).collect();
    let numbers: Vec<u64> =
        ids.iter().map(|id| id.rsplit('-').next().expect("a part").parse().expect("a number")).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{ids:?}");

    let again = Reader::start(&gateway, Some(&online)).await;
    again.hears("offline").await;
    assert_eq!(again.kinds(), life[4..]);

    // Readers hold up no drain, and what they saw of this life is nothing in the next.
    gateway.stop().await;
    for reader in [reader, again] {
        tokio::time::timeout(DRAIN, reader.reading).await.expect("the stream ended").expect("in order");
    }
    gateway.resume().await;
    let later = Reader::start(&gateway, Some(&online)).await;
    until(SOON, "a reader of an earlier life is told to begin anew", async || {
        (later.kinds().first() == Some(&"resync")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn events_of_an_agent_that_claims_to_be_somebody_else_each_time_are_few() {
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create(EDGE).await;
    let reader = Reader::start(&gateway, None).await;
    let liar = Liar::new(&gateway.admin.http, &edge);
    liar.check_in(&Liar::hello(&["web"])).await.expect(200);
    let page = scrape(&gateway).await;
    for _ in 0..200 {
        liar.another_instance().check_in(&Liar::hello(&["web"])).await.problem(409);
        liar.check_in(&Liar::hello(&["web"])).await.expect(200);
    }
    gateway.admin.create("end").await;
    reader.hears("created").await;
    assert_eq!(reader.kinds(), ["resync", "joined", "online", "duplicate", "created"]);
    let after = scrape(&gateway).await;
    assert_eq!(after.lines().count(), page.lines().count(), "the page is no longer than before");
    assert_eq!(value(&after, "tidegate_check_ins_total{answer=\"second-instance\"}"), 200.0);
}

#[tokio::test]
async fn history_tells_when_a_site_was_there_and_who_used_it_and_survives_a_crash() {
    let web = Web::start().await;
    let mut site = Site::start(&[("web", &web.url())]).await;
    site.get("web", "/hello").await.expect(200);
    site.gateway.admin.lower(EDGE).await;
    site.wait_tunnel(TunnelState::Idle).await;
    let history = async |gateway: &Gateway| {
        let answer = gateway.admin.get(&format!("/api/v1/edges/{EDGE}/history")).await;
        answer.expect(200).json::<History>().entries
    };
    let entries = history(&site.gateway).await;
    let kinds: Vec<_> = entries.iter().map(|entry| entry.what.kind()).collect();
    assert_eq!(kinds, ["tunnel-closed", "tunnel-opened", "online", "joined", "created"]);
    assert!(
        matches!(entries[0].what, EdgeEvent::TunnelClosed { cause: CloseCause::Operator, .. }),
        "{:?}",
        entries[0]
    );
    let used = entries[0].used.as_ref().expect("a tunnel that ended was used or not");
    assert_eq!((used.streams, used.operators.as_slice()), (1, &["bootstrap".to_owned()][..]));
    assert!(used.from_edge_bytes > 0 && used.to_edge_bytes > 0, "{used:?}");

    site.gateway.kill_and_resume().await;
    site.gateway.admin.wait_online(EDGE).await;
    assert_eq!(history(&site.gateway).await, entries, "that the gateway was away is no history of the site");
}

/// The page of metrics, as curl gets it.
async fn scrape(gateway: &Gateway) -> String {
    let mut command = tool::command("curl", "curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "10"]);
    command.arg(format!("http://{}/metrics", gateway.metrics()));
    run(command).await.ok().stdout
}

/// The value of the line that begins with this.
#[track_caller]
fn value(page: &str, line: &str) -> f64 {
    let value = page.lines().find_map(|other| other.strip_prefix(line)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {line} in\n{page}")).parse().expect("a number")
}

#[tokio::test]
async fn metrics_and_status_say_what_the_gateway_does() {
    let web = Web::start().await;
    let site = Site::start(&[("web", &web.url())]).await;
    for number in 0..20 {
        site.gateway.admin.create(&format!("never-{number}")).await;
    }
    site.get("web", "/hello").await.expect(200);
    site.get("nothing", "/").await.problem(404);
    let page = scrape(&site.gateway).await;
    assert!(page.ends_with("# EOF\n"), "{page}");
    assert!(!page.contains(EDGE) && !page.contains("never-1"), "no edge is named: {page}");
    for (line, expected) in [
        ("tidegate_edges{status=\"never-joined\"}", 20.0),
        ("tidegate_edges{status=\"tunnel-open\"}", 1.0),
        ("tidegate_agents", 1.0),
        ("tidegate_check_ins_total{answer=\"needed\"}", 1.0),
        ("tidegate_events_total{event=\"tunnel-opened\"}", 1.0),
        ("tidegate_stream_openings_total{outcome=\"opened\"}", 1.0),
        ("tidegate_stream_openings_total{outcome=\"service-not-found\"}", 1.0),
        ("tidegate_ssh_logins_total{login=\"edge-password\"}", 1.0),
        ("tidegate_http_requests_total{operation=\"edge.create\",status=\"2xx\"}", 21.0),
        ("tidegate_store_up", 1.0),
    ] {
        assert_eq!(value(&page, line), expected, "{line}");
    }
    assert!(value(&page, "tidegate_from_edges_bytes_total") > 0.0);
    assert!(value(&page, "tidegate_check_in_seconds_count") >= 2.0, "the hello, and the offer");

    let status: Status = site.gateway.admin.get("/api/v1/status").await.expect(200).json();
    assert_eq!((status.edges.total(), status.edges.tunnel_open), (21, 1));
    let whole = status.gateway.expect("the admin reaches every edge");
    assert_eq!(whole.agents, 1);
    assert!(whole.memory_bytes > Some(1 << 20) && whole.disk_free_bytes > Some(0), "{whole:?}");
    let series = until(SOON, "the series has a point", async || {
        let series: StatusSeries = site.gateway.admin.get("/api/v1/status/series").await.expect(200).json();
        (!series.points.is_empty()).then_some(series)
    })
    .await;
    assert_eq!(series.points[0].online, 1);

    // There is one page, and nothing can be done to it.
    let mut command = tool::command("curl", "curl");
    let address = site.gateway.metrics();
    command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}\n"]);
    command.args(["--data", "x", &format!("http://{address}/metrics")]);
    command.args(["--next", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}\n"]);
    command.arg(format!("http://{address}/api/v1/edges"));
    assert_eq!(run(command).await.ok().stdout, "405\n404\n");
}

#[tokio::test]
async fn metrics_address_that_is_taken_is_named() {
    let gateway = Gateway::start().await;
    let folder = gateway.folder().join("second");
    let taken = gateway.metrics().to_string();
    let mut second = std::process::Command::new(binary("tidegate"));
    second.arg("serve").arg("--data-dir").arg(&folder);
    second.args(["--api-addr", "127.0.0.1:0", "--ssh-addr", "127.0.0.1:0", "--metrics-addr", &taken]);
    let ended = run(second).await;
    assert_ne!(ended.code, 0);
    assert!(ended.stderr.contains(&taken) && ended.stderr.contains("--metrics-addr"), "{ended:?}");
}

/// How long a scraper may take to send its request.
const SCRAPE_TIME: Duration = Duration::from_secs(10);

#[tokio::test]
async fn scrapers_that_say_nothing_hold_no_place_for_long() {
    let gateway = Gateway::start().await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(tokio::net::TcpStream::connect(gateway.metrics()).await.expect("it listens"));
    }
    until(SCRAPE_TIME + SOON, "there is a place again", async || {
        let mut command = tool::command("curl", "curl");
        command.args([
            "--silent",
            "--fail",
            "--max-time",
            "5",
            &format!("http://{}/metrics", gateway.metrics()),
        ]);
        (run(command).await.code == 0).then_some(())
    })
    .await;
    drop(silent);
}
