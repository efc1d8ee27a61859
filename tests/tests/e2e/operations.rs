//! What an operator does with a gateway besides using it: start, stop, check, back up.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hyper::Method;
use rustix::process::Signal;
use shared::wire::admin::{Health, HealthStatus};
use tempfile::TempDir;
use tests::fakes::http::Web;
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::gateway::{DRAIN, Gateway, GatewayOptions};
use tests::http::Http;
use tests::process::{binary, run};
use tests::site::{EDGE, Site};
use tests::wait::{SOON, until};

/// What live streams get by default.
const DRAIN_GRACE: Duration = Duration::from_secs(30);

fn tidegate(args: &[&str]) -> Command {
    let mut command = Command::new(binary("tidegate"));
    command.args(args);
    command
}

#[tokio::test]
async fn second_process_on_the_same_data_folder_is_told_so() {
    let gateway = Gateway::start().await;
    let data = gateway.data();
    let ended = run(tidegate(&[
        "serve",
        "--data-dir",
        data.to_str().expect("a plain path"),
        "--api-addr",
        "127.0.0.1:0",
        "--ssh-addr",
        "127.0.0.1:0",
        "--metrics-addr",
        "none",
    ]))
    .await;
    assert!(matches!(ended.code, 1 | 3), "{ended:?}");
    assert!(ended.stderr.contains(data.to_str().expect("a plain path")), "{ended:?}");
    assert!(ended.stderr.contains("another"), "{ended:?}");
    gateway.admin.edges().await;

    let site = Site::start(&[]).await;
    let mut second = Command::new(binary("tidegate-agent"));
    second.arg("--data-dir").arg(site.agent.data()).args(["--join-token", &site.edge.join_token]);
    let ended = run(second).await;
    assert!(matches!(ended.code, 1 | 3), "{ended:?}");
    assert!(ended.stderr.contains("another"), "{ended:?}");
}

/// Files below `folder` that others than their owner can read or write.
fn open_files(folder: &Path) -> Vec<String> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable")) {
        let metadata = entry.metadata().expect("readable");
        if metadata.is_dir() {
            open.extend(open_files(&entry.path()));
        } else if metadata.permissions().mode() & 0o077 != 0 {
            open.push(format!("{} {:o}", entry.path().display(), metadata.permissions().mode()));
        }
    }
    open
}

#[tokio::test]
async fn keys_and_state_are_for_their_owner_only() {
    let site = Site::start(&[]).await;
    let token = site.gateway.folder().join("token");
    let mode = token.metadata().expect("it was written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for folder in [site.gateway.data(), site.agent.data()] {
        let private = folder.metadata().expect("a folder").permissions().mode() & 0o077 == 0;
        let open = open_files(&folder);
        // Files of the store itself may be wider if nobody else gets as far as to them.
        let open: Vec<_> = open.into_iter().filter(|file| !(private && file.contains("/store/"))).collect();
        assert!(open.is_empty(), "{open:#?}");
    }
}

#[tokio::test]
async fn plain_http_serves_this_machine_by_default_and_nobody_when_told_so() {
    let gateway = Gateway::start().await;
    let plain = Http::plain(gateway.api());
    plain.get("/healthz").await.expect("loopback may speak plain HTTP").expect(200);
    let strict = GatewayOptions::default().args(&["--plain-http", "never"]).start().await;
    let answer = Http::plain(strict.api()).get("/healthz").await.expect("a clear answer");
    let problem = answer.problem(403);
    assert!(problem.detail.contains("https"), "{problem:?}");
    strict.admin.edges().await;
}

#[tokio::test]
async fn health_and_readiness_are_told_without_login() {
    let gateway = Gateway::start().await;
    let anonymous = gateway.admin.http.anonymous();
    let health: Health = anonymous.get("/healthz").await.expect("an answer").expect(200).json();
    assert_eq!(health.status, HealthStatus::Ok);
    let ready: Health = anonymous.get("/readyz").await.expect("an answer").expect(200).json();
    assert!(ready.parts.contains_key("store"), "{ready:?}");
    assert!(ready.parts.values().all(|part| part.status == HealthStatus::Ok), "{ready:?}");

    let api = gateway.api().to_string();
    let check = |api: &str| tidegate(&["healthcheck", "--api-addr", api]);
    run(check(&api)).await.ok();
    drop(gateway);
    let ended = run(check(&api)).await;
    assert_ne!(ended.code, 0, "{ended:?}");
}

#[tokio::test]
async fn sigterm_lets_a_live_stream_finish_and_takes_no_new_work() {
    let echo = Tcp::echo().await;
    let mut site = Site::with("echo", echo.address).await;
    let listen = site.listen("echo").await;
    let mut stream = listen.connect().await;
    assert_echo(&mut stream, b"before").await;
    let http = site.http().clone();
    site.gateway.process().signal(Signal::TERM);
    until(SOON, "new requests are refused", async || match http.get("/api/v1/edges").await {
        Ok(answer) => (answer.status == 503).then_some(()),
        Err(_) => Some(()),
    })
    .await;
    assert_echo(&mut stream, b"during the drain").await;
    assert!(site.gateway.process().runs(), "it waits for the live stream");
    drop(stream);
    drop(listen);
    let status = site.gateway.process().exit(DRAIN).await;
    assert!(status.success(), "{status:?}");
}

#[tokio::test]
async fn tunnel_without_a_stream_holds_up_neither_sides_end() {
    let mut site = Site::start(&[]).await;
    site.open_tunnel().await;
    // The grace is for streams. Half of it is long enough for all else, also on a busy machine.
    let status = {
        site.gateway.process().signal(Signal::TERM);
        site.gateway.process().exit(DRAIN_GRACE / 2).await
    };
    assert!(status.success(), "{status:?}");
    site.gateway.resume().await;
    site.gateway.admin.wait_online(EDGE).await;
    site.open_tunnel().await;
    site.agent.process().signal(Signal::TERM);
    assert!(site.agent.process().exit(DRAIN_GRACE / 2).await.success());
}

#[tokio::test]
async fn streams_that_outlive_the_grace_are_cut_and_counted() {
    let echo = Tcp::echo().await;
    let gateway = GatewayOptions::default().args(&["--drain-grace", "1"]).start().await;
    let edge = gateway.admin.create(EDGE).await;
    let _agent = tests::agent::AgentOptions::joining(&edge).expose("echo", echo.address).start();
    let mut gateway = gateway;
    gateway.admin.wait_online(EDGE).await;
    let listen = gateway.listen(EDGE, "echo").await;
    let mut streams = [listen.connect().await, listen.connect().await, listen.connect().await];
    for stream in &mut streams {
        assert_echo(stream, b"live").await;
    }
    let start = gateway.log().len();
    assert!(gateway.stop().await.success());
    let records = gateway.log().records(start);
    let cut =
        records.iter().find(|record| record["message"].as_str().is_some_and(|text| text.starts_with("cut ")));
    assert_eq!(cut.and_then(|record| record["streams"].as_u64()), Some(3), "{}", gateway.log().text());
}

#[tokio::test]
async fn check_config_names_every_mistake_and_its_place() {
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let file = folder.path().join("gate.toml");
    let path = file.to_str().expect("a plain path");
    std::fs::write(&file, "api_addr = '127.0.0.1:1234'\ndrain_grace = 7\n").expect("the folder is ours");
    let good = run(tidegate(&["check-config", "--config", path])).await.ok();
    assert!(good.stdout.contains("127.0.0.1:1234"), "{good:?}");

    std::fs::write(&file, "api_addr = 'nowhere'\ndrain_grace = 'long'\n").expect("the folder is ours");
    let bad = run(tidegate(&["check-config", "--config", path])).await;
    assert_eq!(bad.code, 3, "{bad:?}");
    for word in ["api_addr", "nowhere", "drain_grace", "gate.toml"] {
        assert!(bad.stderr.contains(word), "{word} is not named: {bad:?}");
    }
    std::fs::write(&file, "api_adr = '127.0.0.1:1234'\n").expect("the folder is ours");
    let unknown = run(tidegate(&["check-config", "--config", path])).await;
    assert_eq!(unknown.code, 3, "{unknown:?}");
    assert!(unknown.stderr.contains("api_adr"), "{unknown:?}");
    assert_eq!(run(tidegate(&["serve", "--no-such-flag"])).await.code, 2);
}

#[tokio::test]
async fn flag_goes_before_environment_and_environment_before_file() {
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let file = folder.path().join("gate.toml");
    std::fs::write(&file, "public_url = 'https://file:1'\npublic_ssh = 'file:1'\ndrain_grace = 7\n")
        .expect("the folder is ours");
    let mut command = tidegate(&["check-config", "--config", file.to_str().expect("a plain path")]);
    command.args(["--public-url", "https://flag:1"]);
    command.env("TIDEGATE_PUBLIC_URL", "https://environment:1").env("TIDEGATE_PUBLIC_SSH", "environment:1");
    let shown = run(command).await.ok().stdout;
    for expected in ["https://flag:1", "environment:1", "drain_grace = 7"] {
        assert!(shown.contains(expected), "{expected} is missing:\n{shown}");
    }
    assert!(!shown.contains("https://environment:1") && !shown.contains("file:1"), "{shown}");
}

#[tokio::test]
async fn backup_of_a_running_gateway_restores_elsewhere() {
    let web = Web::start().await;
    let mut site = Site::start(&[("web", &web.url())]).await;
    site.get("web", "/hello").await.expect(200);
    site.gateway.admin.create("later").await;
    let backup = site.gateway.folder().join("gate.backup");
    let backup = backup.to_str().expect("a plain path").to_owned();
    let data = site.gateway.data();
    run(site.gateway.cli(&["backup", &backup])).await.ok();
    let before = site.gateway.admin.edges().await;

    site.gateway.kill();
    std::fs::rename(&data, data.with_extension("lost")).expect("the folder is ours");
    let data = data.to_str().expect("a plain path");
    run(tidegate(&["restore", "--data-dir", data, &backup])).await.ok();
    site.gateway.resume().await;
    let after = site.gateway.admin.edges().await;
    let names = |edges: &[shared::wire::admin::Edge]| -> Vec<_> {
        edges
            .iter()
            .map(|edge| (edge.name.clone(), edge.endpoint_id, edge.bound, edge.created_at.clone()))
            .collect()
    };
    assert_eq!(names(&after), names(&before));
    // Its agent trusts the restored gateway: the keys came along.
    site.gateway.admin.wait_online(EDGE).await;
    site.get("web", "/hello").await.expect(200);

    let again = run(tidegate(&["restore", "--data-dir", data, &backup])).await;
    assert_ne!(again.code, 0, "a folder that holds a gateway is not overwritten: {again:?}");
    let mut bytes = std::fs::read(&backup).expect("it was written");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&backup, bytes).expect("the folder is ours");
    let elsewhere = TempDir::new().expect("the folder for temporary files is writable");
    let elsewhere = elsewhere.path().join("data");
    let damaged =
        run(tidegate(&["restore", "--data-dir", elsewhere.to_str().expect("plain"), &backup])).await;
    assert_ne!(damaged.code, 0, "{damaged:?}");
    assert!(damaged.stderr.contains("damaged") || damaged.stderr.contains("checksum"), "{damaged:?}");
}

#[tokio::test]
async fn command_line_says_what_is_wrong_with_its_exit_code() {
    let gateway = Gateway::start().await;
    let unreachable = {
        let mut command = gateway.cli(&["edge", "list"]);
        command.env("TIDEGATE_URL", "https://127.0.0.1:9");
        run(command).await
    };
    assert_eq!(unreachable.code, 5, "{unreachable:?}");
    let refused = {
        let mut command = gateway.cli(&["edge", "list"]);
        command.env("TIDEGATE_TOKEN", "wrong");
        run(command).await
    };
    assert_eq!(refused.code, 4, "{refused:?}");
    let unconfigured = {
        let mut command = gateway.cli(&["edge", "list"]);
        command.env_remove("TIDEGATE_TOKEN");
        run(command).await
    };
    assert_eq!(unconfigured.code, 3, "{unconfigured:?}");
    let listed = run(gateway.cli(&["edge", "list"])).await.ok();
    assert!(!listed.stdout.contains("shop"));
    gateway.admin.create("shop").await;
    assert!(run(gateway.cli(&["edge", "list"])).await.ok().stdout.contains("shop"));
}

#[tokio::test]
async fn answer_to_a_wrong_method_or_path_is_a_problem_too() {
    let gateway = Gateway::start().await;
    gateway.admin.get("/api/v1/nothing").await.problem(404);
    gateway.admin.call(Method::PUT, "/api/v1/edges").await.problem(405);
}
