//! What was done, as the audit log tells it afterwards: nothing acknowledged is missing, nothing secret is in it, and what
//! somebody changed in it shows.

use std::path::Path;
use std::process::Command;

use hyper::Method;
use serde_json::json;
use shared::wire::admin::{
    AuditActorKind, AuditOutcome, AuditPage, AuditRecord, AuditVerdict, AuditVia, BULK_EDGES, CreateEdge,
    EdgeCreated, MAX_BULK,
};
use tests::fakes::http::Web;
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::gateway::{Gateway, GatewayOptions};
use tests::process::{Ended, binary, run};
use tests::site::{EDGE, Site};
use tests::wait::{SOON, until};

/// Everything that the log of a data folder holds, oldest first.
pub(crate) fn records(data: &Path) -> Vec<AuditRecord> {
    let mut segments: Vec<_> = std::fs::read_dir(data.join("audit"))
        .expect("a gateway has a log")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    segments.sort();
    let text =
        segments.iter().map(|path| std::fs::read_to_string(path).expect("readable")).collect::<String>();
    text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

fn tidegate(args: &[&str]) -> Command {
    let mut command = Command::new(binary("tidegate"));
    command.args(args);
    command
}

async fn verified(gateway: &Gateway) -> AuditVerdict {
    gateway.admin.get("/api/v1/audit/verify").await.expect(200).json()
}

async fn verify_offline(args: &[&str]) -> Ended {
    run(tidegate(&[&["audit", "verify"], args].concat())).await
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of temporary files are plain")
}

#[tokio::test]
async fn who_used_an_edge_is_told_with_way_and_bytes() {
    let (web, echo) = (Web::start().await, Tcp::echo().await);
    let mut site = Site::start(&[("web", &web.url()), ("echo", &echo.address)]).await;
    for _ in 0..5 {
        site.get("web", "/hello").await.expect(200);
    }
    let listen = site.listen("echo").await;
    let mut stream = listen.connect().await;
    assert_echo(&mut stream, &[7; 5000]).await;
    drop(stream);
    let page = until(SOON, "the end of the stream is recorded", async || {
        let path = format!("/api/v1/audit?edge={EDGE}&action=stream.");
        let page: AuditPage = site.gateway.admin.get(&path).await.expect(200).json();
        (page.records.len() == 2).then_some(page)
    })
    .await;
    let [closed, opened] = &page.records[..] else { unreachable!("there are two") };
    assert_eq!((opened.action.as_str(), closed.action.as_str()), ("stream.open", "stream.close"));
    assert_eq!((closed.bytes_in, closed.bytes_out), (Some(5000), Some(5000)), "{closed:?}");
    assert_eq!(
        (closed.via, closed.service.as_ref().map(|name| name.as_str())),
        (Some(AuditVia::Stream), Some("echo"))
    );
    assert_eq!((closed.actor.kind, closed.actor.name.as_str()), (AuditActorKind::Token, "bootstrap"));
    assert!(closed.from.as_deref().is_some_and(|from| from.starts_with("127.0.0.1:")), "{closed:?}");
    let listed = run(site.gateway.cli(&["audit", "list", "--edge", EDGE])).await.ok().stdout;
    assert!(listed.contains("edge.create") && listed.contains("edge.bind"), "{listed}");
    assert!(listed.contains("stream.close") && listed.contains(&format!("{EDGE}/echo")), "{listed}");

    drop(listen);
    assert!(site.gateway.stop().await.success());
    let records = records(&site.gateway.data());
    let proxied: Vec<_> = records.iter().filter(|record| record.action == "service.proxy").collect();
    assert_eq!(proxied.len(), 2, "the first one at once, then the sum: {proxied:#?}");
    assert_eq!((proxied[1].count, proxied[1].via), (Some(5), Some(AuditVia::Proxy)));
    // Requests and answers with their headers.
    assert!(proxied[1].bytes_in > Some(5 * 20) && proxied[1].bytes_out > Some(5 * 20), "{:?}", proxied[1]);
    let tunnels: Vec<_> =
        records.iter().filter(|it| ["tunnel.login", "tunnel.close"].contains(&it.action.as_str())).collect();
    assert!(tunnels.iter().all(|record| record.actor.kind == AuditActorKind::Agent), "{tunnels:?}");
    assert!(tunnels.len() >= 2, "{tunnels:?}");
    assert_eq!(records.first().map(|record| record.action.as_str()), Some("gateway.start"));
    // Sums of windows that were open come behind it.
    assert!(records.iter().any(|record| record.action == "gateway.stop"), "{records:#?}");
}

#[tokio::test]
async fn refusals_are_recorded_and_a_flood_of_them_is_counted() {
    let mut gateway = Gateway::start().await;
    let edge = gateway.admin.create(EDGE).await;
    let stranger = gateway.admin.http.anonymous();
    for _ in 0..200 {
        stranger.get("/api/v1/edges").await.expect("an answer").problem(401);
    }
    stranger.call(Method::DELETE, &format!("/api/v1/edges/{EDGE}")).await.expect("an answer").problem(401);
    let twice = CreateEdge {
        name: EDGE.parse().expect("a label"),
        cluster: false,
        interval_s: None,
        idle_timeout_s: None,
        tags: vec![],
    };
    gateway
        .admin
        .http
        .send_json(Method::POST, "/api/v1/edges", &twice)
        .await
        .expect("an answer")
        .problem(409);
    // Somebody with the key of an edge that is bound to another.
    for _ in 0..2 {
        let agent = tests::liar::Liar::new(&gateway.admin.http, &edge);
        let _ = agent.try_check_in(&tests::liar::Liar::hello(&["web"])).await;
    }
    assert!(gateway.stop().await.success());
    let records = records(&gateway.data());
    let refused: Vec<_> = records.iter().filter(|record| record.outcome == AuditOutcome::Refused).collect();
    let of = |action: &str, code: &str| -> Vec<_> {
        refused.iter().filter(|it| it.action == action && it.code.as_deref() == Some(code)).collect()
    };
    let flood = of("edge.list", "not-authenticated");
    assert_eq!(flood.iter().map(|record| record.count.unwrap_or(1)).sum::<u64>(), 200, "{flood:?}");
    assert_eq!(flood.len(), 2, "{flood:?}");
    assert_eq!(of("edge.delete", "not-authenticated").len(), 1);
    assert_eq!(of("edge.create", "edge-name-taken").len(), 1);
    let [thief] = of("agent.check-in", "bound-to-another")[..] else { panic!("{refused:#?}") };
    assert_eq!(thief.edge.as_ref().map(|edge| edge.as_str()), Some(EDGE));
}

#[tokio::test]
async fn no_secret_is_in_the_log() {
    let web = Web::start().await;
    let mut site = Site::start(&[("web", &web.url())]).await;
    let admin = site.gateway.admin.clone();
    site.get("web", "/hello?password=swordfish").await.expect(200);
    let created = admin.http.send_json(Method::POST, "/api/v1/tokens", &json!({ "label": "deploy" })).await;
    let token: serde_json::Value = created.expect("an answer").expect(201).json();
    let offer = admin.http.send_json(Method::POST, "/api/v1/edges/shop/offer", &json!({})).await;
    let offer: serde_json::Value = offer.expect("an answer").expect(201).json();
    let rotated: EdgeCreated = admin.call(Method::POST, "/api/v1/edges/shop/rotate").await.expect(200).json();
    let form = "name=swordfish&password=swordfish".to_owned();
    let sign_in = admin.http.anonymous().request(Method::POST, "/sign-in");
    let sign_in = sign_in.header("content-type", "application/x-www-form-urlencoded");
    let sign_in = sign_in.body(tests::http::full(form)).expect("a request");
    assert!(!admin.http.anonymous().send(sign_in).await.expect("an answer").status.is_success());
    let wrong = admin.http.clone().with_authorization("Bearer tga_swordfish".to_owned());
    wrong.get("/api/v1/edges?q=swordfish").await.expect("an answer").problem(401);
    wrong.get("/api/v1/edges/swordfish").await.expect("an answer").problem(401);
    assert!(site.gateway.stop().await.success());

    let authorization = site.http().authorization().expect("an admin has one").to_owned();
    let mut secrets = vec![
        "swordfish".to_owned(),
        authorization.trim_start_matches("Bearer ").to_owned(),
        token["token"].as_str().expect("shown once").to_owned(),
        offer["password"].as_str().expect("shown once").to_owned(),
    ];
    for edge in [&site.edge, &rotated] {
        secrets.extend([edge.key.clone(), edge.join_token.clone(), edge.edge_id.clone()]);
    }
    let log: String =
        records(&site.gateway.data()).iter().map(|it| serde_json::to_string(it).expect("JSON")).collect();
    assert!(
        log.contains("token.create") && log.contains("offer.create") && log.contains("edge.rotate"),
        "{log}"
    );
    for secret in secrets {
        assert!(secret.len() >= 9 && !log.contains(&secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn an_export_proves_itself_and_a_changed_log_is_found_out() {
    let mut gateway = Gateway::start().await;
    for name in ["one", "two", "three"] {
        gateway.admin.create(name).await;
    }
    let file = gateway.folder().join("audit.jsonl");
    run(gateway.cli(&["audit", "export", text(&file)])).await.ok();
    let ended = verify_offline(&["--file", text(&file), "-o", "json"]).await.ok();
    let verdict: AuditVerdict = serde_json::from_str(&ended.stdout).expect("a verdict");
    let place = verdict.head.to_string();
    run(gateway.cli(&["audit", "verify"])).await.ok();
    verify_offline(&["--file", text(&file), "--head", &place]).await.ok();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/verify_audit.py");
    let mut python = tests::tool::command("python3", "python3");
    python.arg(script).arg(&file).arg(&place);
    assert!(run(python).await.ok().stdout.contains(&place));
    let rest =
        run(gateway.cli(&["audit", "export", "-", "--after", &verdict.head.seq.to_string()])).await.ok();
    let first: AuditRecord =
        serde_json::from_str(rest.stdout.lines().next().expect("the export itself")).expect("a record");
    assert_eq!((first.seq, first.action.as_str()), (verdict.head.seq + 1, "audit.export"));

    let forged = std::fs::read_to_string(&file).expect("it was written").replace("\"three\"", "\"thre3\"");
    std::fs::write(&file, forged).expect("the folder is ours");
    let ended = verify_offline(&["--file", text(&file)]).await;
    assert!(ended.code == 1 && ended.stdout.contains("not as it was written"), "{ended:?}");

    assert!(gateway.stop().await.success());
    let data = gateway.data();
    verify_offline(&["--data-dir", text(&data), "--head", &place]).await.ok();
    let segment = data.join("audit/00000001.jsonl");
    let log = std::fs::read_to_string(&segment).expect("readable");
    let without: String = log.split_inclusive('\n').filter(|line| !line.contains("\"two\"")).collect();
    std::fs::write(&segment, without).expect("the folder is ours");
    let ended = verify_offline(&["--data-dir", text(&data)]).await;
    assert!(ended.code == 1 && ended.stdout.contains("00000001.jsonl"), "{ended:?}");
    // The gateway starts all the same, and says so: in its log and in the audit log itself.
    gateway.resume().await;
    assert!(gateway.log().contains("the audit log is damaged"));
    let page: AuditPage = gateway.admin.get("/api/v1/audit?action=audit.damage").await.expect(200).json();
    assert_eq!(page.records.len(), 1, "{page:?}");
    assert!(!verified(&gateway).await.intact);
}

#[tokio::test]
async fn a_restored_gateway_goes_on_in_the_log_of_its_backup_and_says_so() {
    let mut gateway = Gateway::start().await;
    gateway.admin.create("kept").await;
    let backup = gateway.folder().join("gate.backup");
    run(gateway.cli(&["backup", text(&backup)])).await.ok();
    gateway.admin.create("lost").await;
    assert!(gateway.stop().await.success());
    let data = gateway.data();
    let before = records(&data);
    std::fs::rename(&data, data.with_extension("old")).expect("the folder is ours");
    run(tidegate(&["restore", "--data-dir", text(&data), text(&backup)])).await.ok();
    gateway.resume().await;
    let verdict = verified(&gateway).await;
    assert!(verdict.intact, "{verdict:?}");
    let anchor = before.iter().find(|record| record.hash == verdict.anchor.hash);
    assert!(anchor.is_some(), "the new log follows a record of the old one: {verdict:?}");
    let after = records(&data);
    assert_eq!(after.first().map(|record| record.action.as_str()), Some("gateway.restore"));
}

#[tokio::test]
async fn a_log_that_reaches_its_bound_forgets_its_oldest_records_and_proves_the_rest() {
    /// A megabyte of records, and a half more.
    const RECORDS: usize = 4000;
    const BOUND: u64 = 1024 * 1024;
    let mut gateway = GatewayOptions::default().args(&["--audit-max-mib", "1"]).start().await;
    for batch in 0..RECORDS / MAX_BULK {
        let names: Vec<_> = (0..MAX_BULK).map(|number| format!("b{batch}e{number}")).collect();
        let made = gateway.admin.http.send_json(Method::POST, BULK_EDGES, &json!({ "names": names })).await;
        made.expect("an answer").expect(200);
    }
    let verdict = until(SOON, "all of it is recorded", async || {
        let verdict = verified(&gateway).await;
        (verdict.head.seq > RECORDS as u64).then_some(verdict)
    })
    .await;
    assert!(verdict.intact && verdict.damage_noted == 0, "{verdict:?}");
    assert!(verdict.anchor.seq > 0, "something was dropped: {verdict:?}");
    gateway.kill_and_resume().await;
    let again = verified(&gateway).await;
    assert!(again.intact && again.anchor.seq >= verdict.anchor.seq, "{again:?}");
    assert!(gateway.stop().await.success());
    let data = gateway.data();
    let left = records(&data);
    assert_eq!(left.first().map(|record| record.seq), Some(again.anchor.seq + 1));
    assert!(left.len() > RECORDS / 4, "no more was dropped than had to be: {}", left.len());
    let folder = std::fs::read_dir(data.join("audit")).expect("a gateway has a log");
    let bytes: u64 = folder.map(|file| file.expect("readable").metadata().expect("readable").len()).sum();
    assert!(bytes <= BOUND, "{bytes}");
    verify_offline(&["--data-dir", text(&data)]).await.ok();
}
