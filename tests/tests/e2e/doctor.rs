//! `doctor`, `status` and `ready` of both programs: what they find, and that they say what to do about it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use shared::wire::admin::TunnelState;
use tests::agent::{Agent, AgentOptions};
use tests::fakes::http::Web;
use tests::gateway::{Gateway, GatewayOptions};
use tests::process::{Ended, run};
use tests::site::{EDGE, Site};
use tests::wait::{SOON, until};

/// `tidegate doctor` on the gateway's machine, with changes to its environment.
async fn doctor(gateway: &Gateway, envs: &[(&str, &str)]) -> Ended {
    let (api, ssh) = (gateway.api().to_string(), gateway.ssh().to_string());
    let data = gateway.data();
    let data = data.to_str().expect("a plain path");
    let mut command =
        gateway.cli(&["doctor", "-o", "json", "--data-dir", data, "--api-addr", &api, "--ssh-addr", &ssh]);
    command.envs(envs.iter().copied());
    run(command).await
}

/// The check of this name: how it ended, what was found, and what to do next.
#[track_caller]
fn check(ended: &Ended, name: &str) -> (String, String, String) {
    let report: Value =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("no report: {ended:?}"));
    let checks = report["checks"].as_array().expect("a list of checks");
    let found = checks.iter().find(|check| check["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no check named {name}: {ended:?}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("found"), text("next"))
}

#[tokio::test]
async fn a_gateway_that_is_well_has_nothing_to_mend() {
    let mut gateway = GatewayOptions::default()
        .args(&["--public-url", "https://127.0.0.1:1", "--public-ssh", "127.0.0.1:1"])
        .start()
        .await;
    let elsewhere = doctor(&gateway, &[]).await;
    assert_eq!(elsewhere.code, 1, "the public addresses lead nowhere: {elsewhere:?}");
    for name in ["public URL", "port of tunnels"] {
        let (outcome, _, next) = check(&elsewhere, name);
        assert!(outcome == "fail" && next.contains("--public"), "{name}: {elsewhere:?}");
    }

    let settings = shared::wire::admin::Settings {
        public_url: Some(format!("https://{}", gateway.api())),
        public_ssh: Some(gateway.ssh().to_string()),
        ..Default::default()
    };
    gateway.admin.set(settings).await;
    let well = doctor(&gateway, &[]).await.ok();
    let pid = gateway.process().pid().to_string();
    assert!(check(&well, "process").1.ends_with(&pid), "{well:?}");
    for (name, part) in [
        ("configuration", "valid"),
        ("data folder", "closed to other users"),
        ("TLS key", "as pinned"),
        ("certificate", "good for"),
        ("certificate file", "good for"),
        ("clock", "as the gateway's"),
        ("part store", "ready"),
        ("API token", "accepted"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("port of tunnels", "SSH"),
        ("SSH host key", "the gateway's"),
    ] {
        let (outcome, found, _) = check(&well, name);
        assert!(outcome == "ok" && found.contains(part), "{name}: {well:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_gateway_is_named_with_what_to_do() {
    let mut gateway = Gateway::start().await;
    let other_key = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let pinned = doctor(&gateway, &[("TIDEGATE_TLS_FINGERPRINT", other_key)]).await;
    let (outcome, found, next) = check(&pinned, "TLS key");
    assert!(outcome == "fail" && found.contains(&gateway.pin().to_string()), "{pinned:?}");
    assert!(next.contains("TIDEGATE_TLS_FINGERPRINT"), "{pinned:?}");
    assert!(!pinned.stdout.contains("API token"), "no token is shown to a stranger: {pinned:?}");

    let token = doctor(&gateway, &[("TIDEGATE_TOKEN", "wrong")]).await;
    assert_eq!((token.code, check(&token, "API token").0.as_str()), (1, "fail"), "{token:?}");

    std::fs::set_permissions(gateway.data(), Permissions::from_mode(0o755)).expect("the folder is ours");
    let open = doctor(&gateway, &[]).await;
    let (outcome, _, next) = check(&open, "data folder");
    assert!(open.code == 1 && outcome == "fail" && next.contains("chmod 0700"), "{open:?}");

    gateway.kill();
    let dead = doctor(&gateway, &[]).await;
    for name in ["process", "port of the API"] {
        assert_eq!(check(&dead, name).0, "fail", "{name}: {dead:?}");
    }
    let mut wrong = gateway.cli(&["doctor", "--api-addr", "nowhere"]);
    wrong.env_remove("TIDEGATE_DATA_DIR");
    let wrong = run(wrong).await;
    assert!(wrong.code == 1 && wrong.stdout.contains("--api-addr"), "{wrong:?}");
}

async fn agent_json(agent: &Agent, args: &[&str]) -> Value {
    let ended = run(agent.cli(args)).await.ok();
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("no JSON: {error}: {ended:?}"))
}

#[tokio::test]
async fn an_agent_says_how_it_is_from_its_start_to_its_end() {
    let web = Web::start().await;
    let mut site = Site::start(&[("web", &web.url())]).await;
    let ready = run(site.agent.cli(&["ready"])).await.ok();
    assert_eq!(ready.stdout, "ready\n");
    let status = agent_json(&site.agent, &["status", "-o", "json"]).await;
    assert_eq!(status["ready"], true);
    assert_eq!(status["pid"], site.agent.process().pid());
    assert_eq!(status["gateway"], format!("https://{}", site.gateway.api()));
    assert_eq!(status["check_in"]["result"], "answered");
    assert_eq!(status["services"][0]["name"], "web");
    assert_eq!(status["tunnel"]["state"], "closed");

    site.open_tunnel().await;
    until(SOON, "the agent says that its tunnel is open", async || {
        (agent_json(&site.agent, &["status", "-o", "json"]).await["tunnel"]["state"] == "open").then_some(())
    })
    .await;
    site.gateway.admin.lower(EDGE).await;
    site.wait_tunnel(TunnelState::Idle).await;

    site.gateway.admin.delete(EDGE).await;
    site.agent.log().wait_for("no edge has this key", SOON).await;
    let refused = run(site.agent.cli(&["status"])).await.ok();
    assert!(
        refused.stdout.contains("refused at") && refused.stdout.contains("no edge has this key"),
        "{refused:?}"
    );
    assert!(site.agent.stop().await.success());
    for command in ["status", "ready"] {
        let gone = run(site.agent.cli(&[command])).await;
        assert!(gone.code == 1 && gone.stderr.contains("no agent runs on"), "{gone:?}");
    }
}

#[tokio::test]
async fn an_agent_without_a_token_is_not_ready_and_says_what_it_waits_for() {
    let agent = AgentOptions::default().args(&["--page-addr", "127.0.0.1:0"]).start();
    agent.log().wait_for("there is no join token yet", SOON).await;
    let ready = run(agent.cli(&["ready"])).await;
    assert!(ready.code == 1 && ready.stderr.contains("join token"), "{ready:?}");
    assert!(run(agent.cli(&["status"])).await.ok().stdout.contains("waits for a join token"));
    let doctor = run(agent.cli(&["doctor", "-o", "json"])).await;
    assert_eq!(doctor.code, 1, "{doctor:?}");
    assert!(check(&doctor, "join token").2.contains("tidegate edge create"), "{doctor:?}");
}

#[tokio::test]
async fn doctor_of_an_agent_finds_what_keeps_it_from_gateway_and_services() {
    let web = Web::start().await;
    let mut site = Site::start(&[("web", &web.url())]).await;
    let expose = format!("web={}", web.url());
    let arguments = ["doctor", "-o", "json", "--expose", &expose];
    let well = run(site.agent.cli(&arguments)).await.ok();
    for (name, part) in [
        ("agent", "answered"),
        ("join token", "kept in the data folder"),
        ("port of check-ins", "with the pinned key"),
        ("clock", "as the gateway's"),
        ("port of tunnels", "with the pinned host key"),
        ("service web", "accepts connections"),
    ] {
        let (outcome, found, _) = check(&well, name);
        assert!(outcome == "ok" && found.contains(part), "{name}: {well:?}");
    }

    let dead = run(site.agent.cli(&["doctor", "-o", "json", "--expose", "db=127.0.0.1:1"])).await;
    let (outcome, _, next) = check(&dead, "service db");
    assert!(dead.code == 1 && outcome == "fail" && next.contains("--expose"), "{dead:?}");
    site.gateway.kill();
    let alone = run(site.agent.cli(&arguments)).await;
    for name in ["port of check-ins", "port of tunnels"] {
        assert_eq!(check(&alone, name).0, "fail", "{name}: {alone:?}");
    }
    let mut proxied = site.agent.cli(&arguments);
    proxied.env("HTTPS_PROXY", "http://127.0.0.1:1");
    let proxied = run(proxied).await;
    let (_, found, next) = check(&proxied, "port of check-ins");
    assert!(found.contains("proxy") && next.contains("NO_PROXY"), "{proxied:?}");
}
