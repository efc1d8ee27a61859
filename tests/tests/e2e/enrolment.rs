//! Who owns an edge's key: the first edge ID that presents it, until an admin says otherwise.

use futures_util::future::join_all;
use hyper::Method;
use shared::id::{EdgeId, EdgeKey};
use shared::wire::admin::{EdgeCreated, EdgeStatus};
use shared::wire::check_in::{Answer, CheckIn, Need, PROTOCOL_VERSION};
use tests::agent::AgentOptions;
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::gateway::Gateway;
use tests::liar::Liar;
use tests::process::run;
use tests::site::{EDGE, Site};
use tests::wait::{SOON, until};
use tokio::io::AsyncReadExt as _;

#[tokio::test]
async fn first_check_in_binds_the_key_for_good() {
    let mut gateway = Gateway::start().await;
    let edge = gateway.admin.create("shop").await;
    let record = gateway.admin.edge("shop").await;
    assert_eq!((record.bound, record.status), (false, EdgeStatus::NeverJoined));

    let first = Liar::new(&gateway.admin.http, &edge);
    let answer: Answer = first.check_in(&Liar::hello(&["web"])).await.expect(200).json();
    assert_eq!((answer.need, answer.offer), (Need::None, None));
    let record = gateway.admin.edge("shop").await;
    assert_eq!((record.bound, record.status), (true, EdgeStatus::Online));
    assert_eq!(record.instances[0].hostname, "liar");

    let second = Liar::new(&gateway.admin.http, &edge);
    assert_eq!(gateway.admin.edge("shop").await.stranger, None);
    second.check_in(&Liar::hello(&["web"])).await.problem(403);
    let stranger = gateway.admin.edge("shop").await.stranger.expect("the operator sees it");
    assert_eq!((stranger.hostname.as_deref(), stranger.address.as_str()), (Some("liar"), "127.0.0.1"));
    let shown = run(gateway.cli(&["edge", "show", "shop"])).await.ok().stdout;
    assert!(shown.contains("bound to another edge ID") && shown.contains("liar"), "{shown}");
    gateway.kill_and_resume().await;
    second.check_in(&Liar::hello(&["web"])).await.problem(403);
    first.check_in(&Liar::hello(&["web"])).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_racing_first_check_ins_exactly_one_wins_and_wins_again_after_a_restart() {
    let mut gateway = Gateway::start().await;
    let edge = gateway.admin.create("shop").await;
    let racers: Vec<_> = (0..100).map(|_| Liar::new(&gateway.admin.http, &edge)).collect();
    let race = async || {
        let hello = Liar::hello(&["web"]);
        let answers = join_all(racers.iter().map(|racer| racer.check_in(&hello))).await;
        let winners: Vec<_> = (0..100).filter(|&i| answers[i].status.is_success()).collect();
        let losers = answers.iter().filter(|answer| answer.status == 403).count();
        assert_eq!((winners.len(), losers), (1, 99));
        winners[0]
    };
    let winner = race().await;
    assert_eq!(race().await, winner);
    gateway.kill_and_resume().await;
    assert_eq!(race().await, winner);
}

#[tokio::test]
async fn dissociated_key_is_free_for_another_edge_id() {
    let mut gateway = Gateway::start().await;
    let edge = gateway.admin.create("shop").await;
    let (old, new) = (Liar::new(&gateway.admin.http, &edge), Liar::new(&gateway.admin.http, &edge));
    old.check_in(&Liar::hello(&[])).await.expect(200);
    new.check_in(&Liar::hello(&[])).await.problem(403);
    gateway.admin.dissociate("shop").await;
    gateway.kill_and_resume().await;
    assert!(!gateway.admin.edge("shop").await.bound);
    new.check_in(&Liar::hello(&[])).await.expect(200);
    old.check_in(&Liar::hello(&[])).await.problem(403);
}

#[tokio::test]
async fn dissociating_an_edge_closes_its_open_tunnel() {
    let echo = Tcp::echo().await;
    let site = Site::with("echo", echo.address).await;
    let listen = site.listen("echo").await;
    let mut stream = listen.connect().await;
    assert_echo(&mut stream, b"before").await;
    site.gateway.admin.dissociate(EDGE).await;
    let end = tokio::time::timeout(SOON, stream.read(&mut [0; 8])).await.expect("the stream ends");
    assert!(matches!(end, Ok(0) | Err(_)), "no byte was sent: {end:?}");
}

#[tokio::test]
async fn deleting_an_edge_revokes_its_agent_and_closes_its_open_tunnel() {
    let echo = Tcp::echo().await;
    let mut site = Site::with("echo", echo.address).await;
    let listen = site.listen("echo").await;
    let mut stream = listen.connect().await;
    assert_echo(&mut stream, b"before").await;
    let agent_files = std::fs::read_dir(site.agent.data()).expect("it keeps its state there").count();

    site.gateway.admin.delete(EDGE).await;
    let end = tokio::time::timeout(SOON, stream.read(&mut [0; 8])).await.expect("the stream ends");
    assert!(matches!(end, Ok(0) | Err(_)), "no byte was sent: {end:?}");
    site.gateway.admin.get(&format!("/api/v1/edges/{EDGE}")).await.problem(404);
    site.get("echo", "/").await.problem(404);
    site.agent.log().wait_for("no edge has this key", SOON).await;
    assert!(site.agent.process().runs(), "an agent that is refused says so and goes on asking, seldom");
    assert_eq!(std::fs::read_dir(site.agent.data()).expect("still there").count(), agent_files);

    let ghost = Liar::new(site.http(), &site.edge);
    ghost.check_in(&Liar::hello(&[])).await.problem(401);
    site.gateway.kill_and_resume().await;
    ghost.check_in(&Liar::hello(&[])).await.problem(401);
}

#[tokio::test]
async fn rotated_key_is_worth_nothing_and_the_new_join_token_brings_the_site_back() {
    let mut site = Site::start(&[]).await;
    site.open_tunnel().await;
    let ghost = Liar::new(site.http(), &site.edge);
    let answer =
        site.gateway.admin.call(Method::POST, &format!("/api/v1/edges/{EDGE}/rotate")).await.expect(200);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let rotated: EdgeCreated = answer.json();
    assert_eq!(rotated.endpoint_id, site.edge.endpoint_id);
    assert_ne!(rotated.key, site.edge.key);
    site.agent.log().wait_for("no edge has this key", SOON).await;
    ghost.check_in(&Liar::hello(&[])).await.problem(401);
    site.gateway.kill_and_resume().await;
    ghost.check_in(&Liar::hello(&[])).await.problem(401);
    assert!(!site.gateway.admin.edge(EDGE).await.bound);

    let newcomer = AgentOptions::joining(&rotated).start();
    site.gateway.admin.wait_online(EDGE).await;
    assert!(!newcomer.log().contains("no edge has this key"));
}

#[tokio::test]
async fn check_in_of_a_stranger_is_refused_and_told_why() {
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create("shop").await;
    let mut stranger = Liar::new(&gateway.admin.http, &edge);
    stranger.authorization.key = EdgeKey::random();
    let problem = stranger.check_in(&CheckIn::default()).await.problem(401);
    assert!(problem.detail.contains("join token"), "{problem:?}");

    let mut ancient = Liar::hello(&[]);
    ancient.hello.as_mut().expect("a hello").protocol = PROTOCOL_VERSION + 1;
    Liar::new(&gateway.admin.http, &edge).check_in(&ancient).await.problem(426);
    assert!(!gateway.admin.edge("shop").await.bound, "a protocol that we don't speak binds nothing");
}

#[tokio::test]
async fn second_live_instance_is_refused_unless_the_edge_is_a_cluster() {
    let gateway = Gateway::start().await;
    for (name, cluster) in [("single", false), ("swarm", true)] {
        let edge = gateway.admin.create_with(name, |edge| edge.cluster = cluster).await;
        let first = Liar::new(&gateway.admin.http, &edge);
        let second = first.another_instance();
        first.check_in(&Liar::hello(&[])).await.expect(200);
        let answer = second.check_in(&Liar::hello(&[])).await;
        if cluster {
            answer.expect(200);
            assert_eq!(gateway.admin.edge(name).await.instances.len(), 2);
        } else {
            let problem = answer.problem(409);
            assert!(problem.detail.contains("cluster"), "{problem:?}");
            first.check_in(&CheckIn::default()).await;
        }
    }
}

#[tokio::test]
async fn agent_with_a_key_that_is_bound_elsewhere_says_so_once_and_keeps_asking_seldom() {
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create("shop").await;
    Liar::new(&gateway.admin.http, &edge).check_in(&Liar::hello(&[])).await.expect(200);
    let edge_id = EdgeId::random().to_string();
    let mut agent = AgentOptions::joining(&edge).args(&["--edge-id", &edge_id]).start();
    agent.log().wait_for("bound to another edge ID", SOON).await;
    // Freed, the key is there for it; the agent may wait minutes before it asks again, but a restart asks at once.
    gateway.admin.dissociate("shop").await;
    agent.kill_and_resume();
    gateway.admin.wait_bound("shop").await;
    assert_eq!(agent.log().count("bound to another edge ID"), 1, "{}", agent.log().text());
}

#[tokio::test]
async fn created_edge_comes_with_commands_ready_to_copy() {
    let gateway = Gateway::start().await;
    let created = gateway.admin.create("shop").await;
    for (kind, command) in [
        ("container", &created.commands.container),
        ("binary", &created.commands.binary),
        ("compose", &created.commands.compose),
        ("systemd", &created.commands.systemd),
    ] {
        assert!(command.contains(&created.join_token), "the {kind} command lacks the join token:\n{command}");
    }
    let listed = tests::process::run(gateway.cli(&["edge", "create", "by-hand"])).await.ok();
    assert!(listed.stdout.contains("tidegate1."), "{listed:?}");
    until(SOON, "the new edge is listed", async || {
        gateway.admin.edges().await.iter().any(|edge| edge.name.as_str() == "by-hand").then_some(())
    })
    .await;
    let again = serde_json::json!({"name": "shop"});
    let duplicate = gateway.admin.http.send_json(Method::POST, "/api/v1/edges", &again).await;
    duplicate.expect("an answer").problem(409);
}

#[tokio::test]
async fn admin_api_needs_its_token() {
    let gateway = Gateway::start().await;
    // Whence somebody came with a good token, wrong ones are told so each time.
    gateway.admin.get("/api/v1/edges").await.expect(200);
    let anonymous = gateway.admin.http.anonymous();
    for path in
        ["/api/v1/edges", "/api/v1/settings", "/api/v1/tokens", "/api/v1/edges/shop/services/web/proxy/"]
    {
        anonymous.get(path).await.expect("an answer").problem(401);
        let guess = anonymous.clone().with_authorization("Bearer tidegate-guess".into());
        guess.get(path).await.expect("an answer").problem(401);
    }
}
