//! No secret shows where somebody might look: logs at their most talkative, command lines, metrics, the audit log.

use std::path::Path;

use hyper::Method;
use hyper::header::{COOKIE, SET_COOKIE};
use serde_json::{Value, json};
use shared::wire::admin::TunnelState;
use tests::agent::AgentOptions;
use tests::fakes::http::Web;
use tests::gateway::GatewayOptions;
use tests::http::{Http, full};
use tests::liar::Liar;
use tests::process::run;

const PASSWORD: &str = "correct horse battery";
const WRONG_PASSWORD: &str = "a wrong pasture stable";
/// What an operator and a service tell each other is theirs.
const PRIVATE: &str = "what-passes-through-is-nobodys-business";
/// Marks of keys in PEM and OpenSSH form, and of credentials that were never meant to be written.
const MARKS: [&str; 4] = ["PRIVATE KEY", "tga_", "tgs_", "tidegate1."];

/// A secret, by what it is.
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn add(&mut self, what: &'static str, secret: impl Into<String>) {
        let secret = secret.into();
        assert!(secret.len() >= 8, "{what} would be found anywhere");
        self.0.push((what, secret));
    }

    /// None of them is in this text.
    fn absent_from(&self, place: &str, text: &str) {
        assert!(!text.is_empty(), "{place} is there");
        for (what, secret) in &self.0 {
            if let Some(line) = text.lines().find(|line| line.contains(secret.as_str())) {
                panic!("{what} is in {place}: {line}");
            }
        }
    }
}

/// The lines of a key file that hold key material.
fn key_lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.lines().filter(|line| !line.starts_with("-----") && line.len() >= 16).map(str::to_owned).collect()
}

fn read_folder(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).expect("it is there");
    let read =
        |path: std::path::PathBuf| String::from_utf8_lossy(&std::fs::read(path).expect("ours")).into_owned();
    entries.map(|entry| read(entry.expect("readable").path())).collect()
}

#[tokio::test]
async fn no_secret_of_the_main_job_is_written_anywhere_even_at_trace() {
    let mut secrets = Secrets(Vec::new());
    let web = Web::start().await;
    let mut gateway = GatewayOptions::default().log("trace").start().await;
    let admin = gateway.admin.http.authorization().expect("it has a token").to_owned();
    secrets.add("the admin's token", admin.trim_start_matches("Bearer "));
    for name in ["host_key", "tls_key.pem"] {
        for line in key_lines(&gateway.data().join(name)) {
            secrets.add("a key of the gateway", line);
        }
    }

    // Enrol, join, use, close.
    let edge = gateway.admin.create("shop").await;
    secrets.add("the edge's key", &edge.key);
    secrets.add("the join token", &edge.join_token);
    let mut agent = AgentOptions::joining(&edge).expose("web", web.address).log("trace").start();
    gateway.admin.wait_online("shop").await;
    let edge_id = std::fs::read_to_string(agent.data().join("edge-id")).expect("it is kept");
    secrets.add("the edge ID", edge_id.trim());
    let path = tests::gateway::Gateway::proxy_path("shop", "web", &format!("/echo?{PRIVATE}"));
    let http = &gateway.admin.http;
    let request = http.request(Method::POST, &path).header(COOKIE, format!("own={PRIVATE}"));
    let request = request.body(full(PRIVATE)).expect("a request");
    let answer = http.send(request).await.expect("an answer").expect(200).text();
    assert!(answer.contains(PRIVATE), "{answer}");
    secrets.add("a service's data", PRIVATE);

    // A person.
    let strangers = http.anonymous();
    let post = async |http: &Http, path: &str, body: Value| {
        http.send_json(Method::POST, path, &body).await.expect("an answer")
    };
    post(http, "/api/v1/users", json!({"name": "ada", "password": PASSWORD, "role": "operator"}))
        .await
        .expect(201);
    secrets.add("a password", PASSWORD);
    let wrong = json!({"name": "ada", "password": WRONG_PASSWORD});
    post(&strangers, "/api/v1/session", wrong).await.problem(401);
    secrets.add("a mistyped password", WRONG_PASSWORD);
    let login = json!({"name": "ada", "password": PASSWORD, "label": "laptop", "expires_in_s": 3600});
    let made: Value = post(&strangers, "/api/v1/login", login).await.expect(201).json();
    let token = made["token"].as_str().expect("a token").to_owned();
    secrets.add("a user's token", &token);
    let session =
        post(&strangers, "/api/v1/session", json!({"name": "ada", "password": PASSWORD})).await.expect(200);
    let cookie =
        session.headers[SET_COOKIE].to_str().expect("text").split(';').next().expect("a pair").to_owned();
    secrets.add("a session", cookie.split('=').nth(1).expect("a value"));
    let request = strangers.request(Method::GET, "/api/v1/session").header(COOKIE, &cookie);
    strangers.send(request.body(full("")).expect("a request")).await.expect("an answer").expect(200);

    // An offer, whose inside only its agent and the gateway know; used well, and badly.
    let depot = gateway.admin.create("depot").await;
    let liar = Liar::new(http, &depot);
    gateway.admin.raise("depot").await;
    let offer = liar.offer(&["web"]).await;
    let credentials = liar.open(&offer);
    secrets.add("an offer's password", credentials.password.expose());
    let tunnel = liar.login(&offer).await.expect("a fresh offer");
    tunnel.handle.tcpip_forward("web", 80).await.expect("an announced service");
    gateway.admin.wait_tunnel("depot", TunnelState::Open).await;
    assert!(liar.login(&offer).await.is_none(), "it was used");
    drop(tunnel);

    let offered = run(gateway.cli(&["edge", "offer", "depot", "--service", "web=localhost:1", "-o", "json"]))
        .await
        .ok();
    let offered: Value = serde_json::from_str(&offered.stdout).expect("JSON");
    secrets.add("a stock client's password", offered["password"].as_str().expect("a password"));
    let failed = run(gateway.cli(&["edge", "show", "nothing"])).await;
    secrets.absent_from("the complaint of the command line", &failed.stderr);
    gateway.admin.lower("shop").await;
    gateway.admin.wait_tunnel("shop", TunnelState::Idle).await;

    let metrics = Http::plain(gateway.metrics()).get("/metrics").await.expect("an answer").text();
    secrets.absent_from("the metrics", &metrics);
    for path in ["/api/v1/status", "/api/v1/edges/shop", "/api/v1/audit", "/api/v1/tokens", "/api/v1/users"] {
        secrets.absent_from(path, &gateway.admin.get(path).await.expect(200).text());
    }
    for pid in [gateway.process().pid(), agent.process().pid()] {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs");
        secrets.absent_from("a command line", &line.replace('\0', " "));
    }
    gateway.stop().await;
    agent.stop().await;
    secrets.absent_from("the audit log", &read_folder(&gateway.data().join("audit")));
    for (place, log) in [("the gateway's log", gateway.log()), ("the agent's log", agent.log())] {
        let text = log.text();
        assert!(text.contains("TRACE"), "{place} is at its most talkative");
        secrets.absent_from(place, &text);
        for mark in MARKS {
            let found = text.lines().find(|line| line.contains(mark));
            assert_eq!(found, None, "{place} has something like a secret");
        }
    }
}
