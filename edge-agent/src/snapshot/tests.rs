use std::convert::Infallible;
use std::io::Read as _;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use shared::wire::snapshot::{Container, Docker};
use tokio::net::{TcpListener, UnixListener};

use super::*;

/// Answers of a Docker Engine 27, shortened; the environment and the labels must not come through.
fn engine_answer(path: &str) -> (StatusCode, &'static str) {
    let body = match path {
        "/_ping" => "OK",
        "/version" => r#"{"Version":"27.3.1","ApiVersion":"1.47","Os":"linux"}"#,
        "/containers/json?all=1" => {
            r#"[{"Id":"c1","Names":["/web"],"Image":"nginx:1","ImageID":"sha256:1","Command":"run --key SECRET",
                "Created":1700000000,"State":"running","Status":"Up 3 hours","Labels":{"token":"SECRET"},
                "Env":["PASSWORD=SECRET"],
                "Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
                         {"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
                         {"PrivatePort":9000,"Type":"tcp"}]}]"#
        }
        "/images/json" => {
            r#"[{"Id":"sha256:1","RepoTags":null,"Size":42,"Created":1700000000,"Labels":null}]"#
        }
        "/volumes" => r#"{"Volumes":null,"Warnings":null}"#,
        "/networks" => return (StatusCode::INTERNAL_SERVER_ERROR, "{}"),
        _ => return (StatusCode::NOT_FOUND, "{}"),
    };
    (StatusCode::OK, body)
}

async fn engine(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = engine_answer(&request.uri().to_string());
    let response = Response::builder().status(status).header("api-version", "1.47");
    Ok(response.body(Full::from(body)).expect("valid"))
}

async fn web(_request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("<html>")))
}

fn service(text: &str) -> Service {
    text.parse().expect("a service")
}

#[tokio::test]
async fn engine_behind_a_socket_is_listed_without_its_secrets_and_other_services_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("docker.sock");
    let unix = UnixListener::bind(&path).expect("a socket");
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let web_address = tcp.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = unix.accept().await {
            let serving = hyper::server::conn::http1::Builder::new();
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service_fn(engine)));
        }
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = tcp.accept().await {
            let serving = hyper::server::conn::http1::Builder::new();
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service_fn(web)));
        }
    });
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let services = [
        service(&format!("engine=unix://{}", path.display())),
        service(&format!("web=http://{web_address}")),
        service(&format!("db={gone}")),
    ];

    let snapshot = take(&services, Instant::now()).await;

    let answers: Vec<_> = snapshot.agent.services.iter().map(|health| health.answers).collect();
    assert_eq!(answers, [true, true, false]);
    let reason = snapshot.agent.services[2].reason.as_deref().expect("why not");
    assert!(reason.contains("refused"), "{reason}");
    let [docker] = &snapshot.docker[..] else { panic!("one engine: {:?}", snapshot.docker) };
    assert_eq!((docker.service.as_str(), docker.version.as_str()), ("engine", "27.3.1"));
    let [container] = &docker.containers[..] else { panic!("one container") };
    assert_eq!((container.name.as_str(), container.state.as_str()), ("web", "running"));
    assert_eq!(container.ports, ["0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp"]);
    assert_eq!((docker.images[0].size, docker.images[0].tags.len()), (42, 0));
    assert_eq!(
        snapshot.problems,
        ["networks of the Docker Engine behind engine: answered 500 Internal Server Error"]
    );
    let json = serde_json::to_string(&snapshot).expect("serializes");
    assert!(!json.contains("SECRET"), "{json}");
    assert_eq!((container.command.as_str(), container.labels["token"].as_str()), ("run --key ***", "***"));
    assert!(snapshot.taken_at.ends_with('Z') && snapshot.taken_at.len() == 20, "{}", snapshot.taken_at);
}

#[tokio::test(start_paused = true)]
async fn services_that_never_answer_do_not_keep_the_snapshot() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("bound");
    let started = tokio::time::Instant::now();
    let snapshot = take(&[service(&format!("web=http://{address}"))], Instant::now()).await;
    assert!(started.elapsed() <= DEADLINE, "{:?}", started.elapsed());
    assert!(snapshot.agent.services[0].answers, "it accepts connections");
    assert!(snapshot.docker.is_empty());
}

fn unpacked(gzip: &[u8]) -> Snapshot {
    let mut json = Vec::new();
    GzDecoder::new(gzip).read_to_end(&mut json).expect("gzip");
    assert!(json.len() <= MAX_JSON);
    serde_json::from_slice(&json).expect("a snapshot")
}

#[test]
fn snapshot_that_is_too_large_is_cut_until_it_fits_and_says_so() {
    // Ids without any pattern: 128 bytes for each container stay after compression.
    let containers = (0u64..40_000)
        .map(|number| {
            let id: String = (0..4)
                .map(|part| format!("{:016x}", (number * 4 + part).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
                .collect();
            Container { id: id.clone(), name: id.chars().rev().collect(), ..Container::default() }
        })
        .collect();
    let docker = Docker { service: "engine".into(), containers, ..Docker::default() };
    let snapshot = Snapshot { docker: vec![docker], ..Snapshot::default() };
    let gzip = encode(snapshot).expect("it can be cut");
    assert!(gzip.len() <= MAX_COMPRESSED);
    let cut = unpacked(&gzip);
    let left = cut.docker[0].containers.len();
    assert!(left > 1000 && left < 40_000, "{left} are left");
    assert_eq!(cut.problems, ["containers of engine: cut, since the snapshot would be too large"]);
}

#[test]
fn snapshot_that_fits_is_sent_whole() {
    let snapshot = Snapshot { problems: vec!["one".into()], ..Snapshot::default() };
    assert_eq!(unpacked(&encode(snapshot.clone()).expect("it fits")), snapshot);
}
