//! Gateway and agent as containers on a real Docker engine, with the engine itself behind the tunnel.

use serde_json::Value;
use shared::wire::admin::EdgeCreated;
use tests::admin::Admin;
use tests::engine::{Engine, script};
use tests::gateway::Gateway;
use tests::http::Http;
use tests::packaging::{least_rights_of_compose, seccomp_of};
use tests::process::{binary, run};
use tests::tool::free_address;
use tests::wait::{SOON, until};

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// An engine with the images of gateway and agent.
async fn engine_with_images() -> Engine {
    let engine = Engine::start();
    let mut images = script("image");
    let binaries = binary("tidegate").parent().expect("a file in a folder").to_owned();
    images.arg("--binaries").arg(binaries).env("DOCKER_HOST", engine.host());
    run(images).await.ok();
    engine
}

#[tokio::test]
async fn containers_of_gateway_and_agent_reach_the_engine_and_survive_being_killed() {
    let engine = engine_with_images().await;
    let (api, ssh) = (free_address(), free_address());
    let image = |name: &str| format!("{name}:{}", version());
    let rights = least_rights_of_compose();
    let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
    let addresses = [format!("TIDEGATE_API_ADDR={api}"), format!("TIDEGATE_SSH_ADDR={ssh}")];
    let public = [format!("TIDEGATE_PUBLIC_URL=http://{api}"), format!("TIDEGATE_PUBLIC_SSH={ssh}")];
    let of_gateway = [
        &["--detach", "--name", "gateway", "--network", "host", "--volume", "gateway:/var/lib/tidegate"][..],
        &["--env", &addresses[0], "--env", &addresses[1], "--env", &public[0], "--env", &public[1]],
        &["--env", "TIDEGATE_BOOTSTRAP_TOKEN_FILE=/var/lib/tidegate/admin-token"],
        &rights,
    ]
    .concat();
    let gateway_image = image("tidegate");
    engine.docker(&[&["run"][..], of_gateway.as_slice(), &[&gateway_image]].concat()).await.ok();
    let anonymous = Http::plain(api);
    let ready = async || anonymous.get("/readyz").await.ok().filter(|answer| answer.status == 200).map(drop);
    until(SOON, "the gateway's container is ready", ready).await;
    // `docker cp` writes a tar archive: the image has no shell and no cat.
    let copied = engine.folder().join("admin-token");
    let target = copied.to_str().expect("a plain path");
    engine.docker(&["cp", "gateway:/var/lib/tidegate/admin-token", target]).await.ok();
    let token = std::fs::read_to_string(&copied).expect("it was copied");
    let admin = Admin { http: anonymous.clone().with_authorization(format!("Bearer {}", token.trim())) };

    let edge: EdgeCreated = admin.create("site").await;
    let socket = engine.folder().join("docker.sock");
    let group =
        std::os::unix::fs::MetadataExt::gid(&socket.metadata().expect("the engine's socket")).to_string();
    let socket_mount = format!("{}:/var/run/docker.sock", socket.display());
    let join_token = format!("TIDEGATE_AGENT_JOIN_TOKEN={}", edge.join_token);
    let of_agent =
        [
            &[
                "--detach",
                "--name",
                "agent",
                "--network",
                "host",
                "--volume",
                "agent:/var/lib/tidegate-agent",
            ][..],
            &["--group-add", &group, "--volume", &socket_mount, "--env", &join_token],
            &["--env", "TIDEGATE_AGENT_EXPOSE=docker=unix:///var/run/docker.sock"],
            &rights,
        ]
        .concat();
    engine.docker(&[&["run"][..], of_agent.as_slice(), &[&image("tidegate-agent")]].concat()).await.ok();
    for name in ["gateway", "agent"] {
        has_no_rights(&engine, name).await;
    }
    let containers = async || {
        let answer = admin.get(&Gateway::proxy_path("site", "docker", "/containers/json")).await.expect(200);
        let list: Vec<Value> = answer.json();
        let mut names: Vec<_> =
            list.iter().map(|one| one["Names"][0].as_str().unwrap_or("").to_owned()).collect();
        names.sort();
        names
    };
    admin.wait_online("site").await;
    assert_eq!(containers().await, ["/agent", "/gateway"]);
    let snapshot =
        admin.http.call(hyper::Method::POST, "/api/v1/edges/site/snapshot").await.expect("an answer");
    let snapshot: Value = snapshot.expect(200).json();
    assert_eq!(
        snapshot["snapshot"]["docker"][0]["containers"].as_array().map(Vec::len),
        Some(2),
        "{snapshot}"
    );

    let before = admin.edge("site").await;
    engine.docker(&["kill", "gateway", "agent"]).await.ok();
    engine.docker(&["start", "gateway", "agent"]).await.ok();
    until(SOON, "the gateway's container is ready again", ready).await;
    let after = admin.wait_online("site").await;
    assert_eq!((after.endpoint_id, after.bound), (before.endpoint_id, true));
    assert_eq!(after.instances[0].instance, before.instances[0].instance);
    assert_eq!(containers().await, ["/agent", "/gateway"]);
    until(SOON, "the container's own health check is content", async || {
        let state = engine.docker(&["inspect", "--format", "{{.State.Health.Status}}", "gateway"]).await.ok();
        (state.stdout.trim() == "healthy").then_some(())
    })
    .await;

    // Once more with the system calls that the systemd units allow, and no others.
    engine.docker(&["rm", "--force", "gateway", "agent"]).await.ok();
    for (unit, of_container, image) in [
        ("tidegate.service", of_gateway, gateway_image),
        ("tidegate-agent.service", of_agent, image("tidegate-agent")),
    ] {
        let profile = engine.folder().join(format!("{unit}.json"));
        std::fs::write(&profile, seccomp_of(unit).await.to_string()).expect("written");
        let seccomp = format!("seccomp={}", profile.display());
        let filtered = ["run", "--security-opt", &seccomp];
        engine.docker(&[&filtered[..], of_container.as_slice(), &[&image]].concat()).await.ok();
    }
    until(SOON, "the gateway's container is ready under the unit's filter", ready).await;
    admin.wait_online("site").await;
    assert_eq!(containers().await, ["/agent", "/gateway"]);
}

/// Holds that the container's process has no capability, can get none, and is held to a list of system calls.
async fn has_no_rights(engine: &Engine, container: &str) {
    let inspected = engine.docker(&["inspect", "--format", "{{.State.Pid}}", container]).await.ok();
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", inspected.stdout.trim())).expect("it runs");
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {key} in {status}")).trim().to_owned()
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&value(set), 16), Ok(0), "{set} of {container}");
    }
    assert_eq!((value("NoNewPrivs").as_str(), value("Seccomp").as_str()), ("1", "2"), "{container}");
    assert!(value("Uid").split_whitespace().all(|id| id == "65532"), "{container} runs as {}", value("Uid"));
}
