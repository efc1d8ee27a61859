//! A Docker Engine that is none: what goes to it, and what is made of its answers.

use serde_json::json;
use shared::wire::admin::LogSource;
use shared::wire::check_in::Service;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::http::tests::{Agent, Bench, hello};

/// A client, and the far end of its connection.
async fn connected() -> (Engine, DuplexStream) {
    let (near, far) = duplex(64 * 1024);
    (Engine::over(near, "docker".parse().expect("a name")).await.expect("a connection"), far)
}

/// Takes a request and answers it. Its first line.
async fn answer(engine: &mut DuplexStream, answer: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(engine.read_u8().await.expect("a request"));
    }
    engine.write_all(answer.replace('\n', "\r\n").as_bytes()).await.expect("the client is there");
    let text = String::from_utf8(seen).expect("a head is ASCII");
    assert!(text.to_ascii_lowercase().contains("\r\nhost: docker\r\n"), "{text}");
    text.lines().next().unwrap_or_default().to_owned()
}

fn json_answer(status: &str, body: &serde_json::Value) -> String {
    let body = body.to_string();
    format!("HTTP/1.1 {status}\ncontent-length: {}\n\n{body}", body.len())
}

fn name(text: &str) -> ContainerName {
    text.parse().expect("a name")
}

#[tokio::test]
async fn containers_are_listed_running_or_not() {
    let (mut client, mut engine) = connected().await;
    let list = json_answer("200 OK", &json!([{"Id": "1f", "Names": ["/web"], "State": "exited"}]));
    let (listed, asked) = tokio::join!(client.containers(), answer(&mut engine, &list));
    assert_eq!(asked, "GET /containers/json?all=1 HTTP/1.1");
    let listed = listed.expect("a list");
    assert_eq!((listed[0].name.as_str(), listed[0].state.as_str()), ("web", "exited"));
}

#[tokio::test]
async fn a_container_is_started_stopped_and_restarted_and_what_is_done_already_is_done() {
    for (act, status, expected) in [
        (Act::Start, "204 No Content", Ok(())),
        (Act::Stop, "304 Not Modified", Ok(())),
        (Act::Restart, "404 Not Found", Err(Code::ContainerNotFound)),
        (Act::Start, "500 Internal Server Error", Err(Code::BadServiceAnswer)),
    ] {
        let (mut client, mut engine) = connected().await;
        let body = json!({"message": "no such container"}).to_string();
        let said = if expected.is_ok() {
            format!("HTTP/1.1 {status}\n\n")
        } else {
            format!("HTTP/1.1 {status}\ncontent-length: {}\n\n{body}", body.len())
        };
        let container = name("web.1");
        let (done, asked) = tokio::join!(client.act(act, &container), answer(&mut engine, &said));
        assert_eq!(asked, format!("POST /containers/web.1/{} HTTP/1.1", act.name()));
        if let Err(problem) = &done {
            assert!(problem.detail().contains("no such container"), "{}", problem.detail());
        }
        assert_eq!(done.map_err(|problem| problem.code()), expected, "{status}");
    }
}

#[tokio::test]
async fn a_log_comes_line_by_line_while_it_is_written() {
    let (client, mut engine) = connected().await;
    let container = name("web");
    let about = json_answer("200 OK", &json!({"Config": {"Tty": false, "Env": ["TOKEN=secret"]}}));
    let head = "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n";
    let (log, asked) = tokio::join!(client.log(&container, 5, true), async {
        (answer(&mut engine, &about).await, answer(&mut engine, head).await)
    });
    assert_eq!(asked.0, "GET /containers/web/json HTTP/1.1");
    let query = "stdout=1&stderr=1&timestamps=1&tail=5&follow=1";
    assert_eq!(asked.1, format!("GET /containers/web/logs?{query} HTTP/1.1"));
    let mut lines = Lines::new(log.expect("a log"));
    for (source, text) in [(1, "one"), (2, "two")] {
        let line = format!("2026-11-21T14:03:05.1Z {text}\n");
        let length = u8::try_from(line.len()).expect("short");
        let frame = [&[source, 0, 0, 0, 0, 0, 0, length], line.as_bytes()].concat();
        engine.write_all(format!("{:x}\r\n", frame.len()).as_bytes()).await.expect("written");
        engine.write_all(&[&frame[..], b"\r\n"].concat()).await.expect("written");
        let line = lines.next().await.expect("no error").expect("a line");
        assert_eq!((line.text.as_str(), line.at.as_deref()), (text, Some("2026-11-21T14:03:05.1Z")));
        assert_eq!(line.source, if source == 1 { LogSource::Stdout } else { LogSource::Stderr });
    }
    engine.write_all(b"0\r\n\r\n").await.expect("written");
    assert_eq!(lines.next().await, Ok(None));
    assert_eq!(lines.next().await, Ok(None), "and stays at its end");
}

#[test]
fn nothing_but_a_name_gets_into_a_path() {
    for good in ["web", "1f2e3d", "a_b-c.d", "7"] {
        assert_eq!(name(good).to_string(), good);
    }
    for bad in ["", "../x", "a/b", "a?b", "-a", ".a", "a b", "a%2fb", "ä", &"x".repeat(254)] {
        assert_eq!(bad.parse::<ContainerName>(), Err(engine::NoName), "{bad}");
    }
}

#[tokio::test]
async fn engines_are_what_the_snapshot_shows_and_what_everybody_calls_one() {
    let bench = Bench::new().await;
    let agent = Agent::of(&bench.create("shop").await);
    let service = |name: &str, kind| Service {
        name: name.parse().expect("a name"),
        kind,
        target: "unix:///x".to_owned(),
    };
    bench.as_agent("/api/v1/check-in", &agent, hello()).await;
    let mut edge = bench.tunnels.edge(&"shop".parse().expect("a name")).await.expect("it is there");
    let mut snapshot = Snapshot::default();
    let names = |edge: &Edge, snapshot: &Snapshot| {
        engines(edge, snapshot).map(|name| name.to_string()).collect::<Vec<_>>()
    };
    assert!(names(&edge, &snapshot).is_empty());
    edge.instances[0].services.push(service("docker", ServiceKind::Unix));
    assert_eq!(names(&edge, &snapshot), ["docker"]);
    edge.instances[0].services.push(service("podman", ServiceKind::Unix));
    for seen in ["podman", "docker", "gone"] {
        let engine = shared::wire::snapshot::Docker { service: seen.to_owned(), ..Default::default() };
        snapshot.docker.push(engine);
    }
    assert_eq!(names(&edge, &snapshot), ["podman", "docker"]);
    edge.instances.clear();
    assert_eq!(
        names(&edge, &snapshot),
        ["podman", "docker", "gone"],
        "an edge that is away says nothing new"
    );
}

#[tokio::test]
async fn an_edge_without_an_engine_says_how_to_get_one() {
    let bench = Bench::new().await;
    bench.create("shop").await;
    let answer = bench.get("/api/v1/edges/shop/containers").await;
    assert_eq!(answer.problem(), (404, "engine-not-found".into()));
    assert!(answer.detail().contains("take a snapshot"), "{}", answer.detail());
    let answer = bench.get("/api/v1/edges/shop/containers/a%2Fb/logs").await;
    assert_eq!(answer.problem(), (400, "invalid-request".into()));
    let answer = bench.get("/api/v1/edges/shop/containers/web/logs?tail=100001").await;
    assert_eq!(answer.problem(), (400, "invalid-request".into()));
}
