//! What strangers can do at the two ports, and what those who belong here notice of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{self, AuthResult};
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use shared::envelope::Credentials;
use shared::wire::admin::TunnelState;
use shared::wire::problem::Problem;
use tests::agent::AgentOptions;
use tests::fakes::http::Web;
use tests::gateway::{Gateway, GatewayOptions};
use tests::http::Http;
use tests::liar::{Liar, Ssh};
use tests::openssh;
use tests::process::{Log, Process};
use tests::site::Site;
use tests::stranger::Stranger;
use tests::tool;
use tests::wait::{SOON, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Credentials that are nobody's cost a source this many before it is penalised.
const GUESSES: usize = 3;
/// A connection is closed at once if it is closed within this time: far less than any grace.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Five of an operator's waits for a tunnel: by then an agent has had a place, however the dice fall.
const THROUGH_A_CROWD: Duration = Duration::from_secs(60);
const GUESS: &str = "GET /api/v1/edges HTTP/1.1\r\nauthorization: Bearer tga_guess\r\n";

/// The value of a metric.
async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let page = Http::plain(gateway.metrics()).get("/metrics").await.expect("an answer").expect(200).text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
}

async fn wait_metric(gateway: &Gateway, name: &str, least: u64) {
    until(SOON, name, async || (metric(gateway, name).await >= least).then_some(())).await;
}

fn nobody() -> Credentials {
    Credentials { username: "nobody".into(), password: "wrong".into() }
}

/// Guesses from there until it is penalised.
async fn penalise(gateway: &Gateway, stranger: Stranger) {
    let http = gateway.admin.http.anonymous();
    for _ in 0..GUESSES {
        stranger.ask(&http, gateway.api(), b"", GUESS).await.expect("an answer");
    }
    let answer = stranger.ask(&http, gateway.api(), b"", GUESS).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("retry-after: "), "{answer}");
}

#[tokio::test]
async fn slow_strangers_at_every_stage_keep_nobody_from_their_work() {
    let web = Web::start().await;
    let site = Site::with("web", web.address).await;
    let (api, ssh) = (site.gateway.api(), site.gateway.ssh());
    let stages: [(_, usize, &'static [u8]); 6] = [
        (ssh, 150, b""),
        (ssh, 150, b"SSH-2.0-slow\r\n"),
        (ssh, 150, b"SSH-2.0-slow\r\n\0\0\x04\xfc\x06\x14"),
        (api, 500, b""),
        (api, 500, b"\x16\x03\x01\x02\0"),
        (api, 500, b"POST /api/v1/login HTTP/1.1\r\nhost: gate\r\nx: "),
    ];
    let crowds: Vec<_> = (10..)
        .zip(stages)
        .map(|(number, (port, many, opening))| Stranger::at(number).press(port, opening, many))
        .collect();
    wait_metric(&site.gateway, "tidegate_ssh_admissions_total{verdict=\"source-crowded\"}", 100).await;
    wait_metric(&site.gateway, "tidegate_http_admissions_total{verdict=\"source-crowded\"}", 100).await;
    assert_eq!(site.get("web", "/hello").await.expect(200).text(), "hello", "an edge that had no tunnel");
    assert!(metric(&site.gateway, "tidegate_before_login{port=\"ssh\"}").await <= 3 * 64);
    assert!(metric(&site.gateway, "tidegate_before_login{port=\"http\"}").await <= 3 * 384 + 10);
    // Who holds places again and again is penalised, and then gets a few only.
    wait_metric(&site.gateway, "tidegate_penalised_sources", 3).await;
    assert_eq!(site.get("web", "/hello").await.expect(200).text(), "hello");
    drop(crowds);
}

#[tokio::test]
async fn a_flood_from_an_agents_own_address_does_not_keep_its_tunnel_shut() {
    let web = Web::start().await;
    let site = Site::with("web", web.address).await;
    // The agent comes from 127.0.0.1, too.
    let crowd = Stranger::at(1).press(site.gateway.ssh(), b"SSH-2.0-slow\r\n", 320);
    wait_metric(&site.gateway, "tidegate_ssh_admissions_total{verdict=\"source-crowded\"}", 10).await;
    for _ in 0..3 {
        // Which of them gets a place is chance, the agent's tries among them: the crowd may cost it time, and no more.
        let served = async || (site.get("web", "/hello").await.status == 200).then_some(());
        until(THROUGH_A_CROWD, "the agent gets through", served).await;
        site.gateway.admin.lower("shop").await;
    }
    assert_eq!(metric(&site.gateway, "tidegate_penalised_sources").await, 0, "agents come from there");
    drop(crowd);
}

#[tokio::test]
async fn who_guesses_is_told_to_come_back_later_and_who_knows_is_served() {
    let gateway = Gateway::start().await;
    let (guesser, other) = (Stranger::at(20), Stranger::at(21));
    penalise(&gateway, guesser).await;
    let http = gateway.admin.http.anonymous();
    let answer = other.ask(&http, gateway.api(), b"", GUESS).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 401"), "another source: {answer}");
    let open = guesser.ask(&http, gateway.api(), b"", "GET /healthz HTTP/1.1\r\n").await.expect("an answer");
    assert!(open.starts_with("HTTP/1.1 200"), "{open}");
    let token = gateway.admin.http.authorization().expect("the admin's").to_owned();
    let known = format!("GET /api/v1/edges HTTP/1.1\r\nauthorization: {token}\r\n");
    let answer = guesser.ask(&http, gateway.api(), b"", &known).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "a good token counts from everywhere: {answer}");
    let answer = guesser.ask(&http, gateway.api(), b"", GUESS).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 401"), "who came with a good one is a stranger no more: {answer}");
}

#[tokio::test]
async fn an_agent_behind_the_address_of_a_guesser_logs_in_all_the_same() {
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create("shop").await;
    let liar = Liar::new(&gateway.admin.http, &edge);
    let nat = Stranger::at(30);
    penalise(&gateway, nat).await;
    let login = async |credentials: &Credentials| {
        let stream = nat.connect(gateway.ssh()).await.expect("it listens");
        Ssh::login_over(stream, credentials).await
    };
    let begun = Instant::now();
    assert!(login(&nobody()).await.is_none());
    assert!(begun.elapsed() < AT_ONCE, "on probation the first wrong password ends the connection");
    gateway.admin.raise("shop").await;
    let offer = liar.offer(&["web"]).await;
    let tunnel = login(&liar.open(&offer)).await.expect("the offer is good");
    tunnel.handle.tcpip_forward("web", 80).await.expect("an announced service");
}

#[tokio::test]
async fn wrong_passwords_and_keys_are_counted_on_a_connection() {
    struct Trusting;
    impl client::Handler for Trusting {
        type Error = russh::Error;
        async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
            Ok(true)
        }
    }
    let gateway = Gateway::start().await;
    let connect = || client::connect(Default::default(), gateway.ssh(), Trusting);

    let mut session = connect().await.expect("it listens");
    let mut refused = 0;
    // The client takes the end of the connection for one refusal more.
    while let Ok(AuthResult::Failure { .. }) = session.authenticate_password("nobody", "wrong").await {
        refused += 1;
    }
    assert!((3..=4).contains(&refused), "{refused}");

    let mut session = connect().await.expect("it listens");
    let mut refused = 0;
    loop {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).expect("a key");
        let key = PrivateKeyWithHashAlg::new(key.into(), None);
        match session.authenticate_publickey("nobody", key).await {
            Ok(result) if !result.success() => refused += 1,
            Ok(_) => panic!("a random key is nobody's"),
            Err(_) => break,
        }
    }
    assert!((1..=16).contains(&refused), "{refused}");
}

#[tokio::test]
async fn a_body_that_trickles_is_not_waited_for() {
    let gateway = Gateway::start().await;
    let mut stream = Stranger::at(40).connect(gateway.api()).await.expect("it listens");
    let head = "POST /api/v1/login HTTP/1.1\r\nhost: gate\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let (mut reading, mut writing) = stream.into_split();
    let trickle = async {
        while writing.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = vec![0; 12];
    let read = timeout(Duration::from_secs(20), reading.read_exact(&mut answer));
    tokio::select! {
        read = read => { read.expect("within its time").expect("an answer"); }
        () = trickle => {}
    }
    assert_eq!(answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn a_load_balancer_says_for_whom_it_speaks_and_nobody_else_does() {
    let gateway =
        GatewayOptions::default().args(&["--proxy-protocol", "--trusted-proxy", "127.0.0.50"]).start().await;
    let (balancer, impostor) = (Stranger::at(50), Stranger::at(51));
    let (api, ssh, http) = (gateway.api(), gateway.ssh(), gateway.admin.http.anonymous());
    let header = |client: &str| format!("PROXY TCP4 {client} 127.0.0.1 4711 9000\r\n").into_bytes();
    let guess =
        async |client: &str| balancer.ask(&http, api, &header(client), GUESS).await.expect("an answer");

    for _ in 0..GUESSES {
        assert!(guess("192.0.2.7").await.starts_with("HTTP/1.1 401"));
    }
    assert!(guess("192.0.2.7").await.starts_with("HTTP/1.1 429"), "one client is penalised");
    assert!(guess("192.0.2.8").await.starts_with("HTTP/1.1 401"), "another is not");

    // Plain HTTP is judged by the client's address.
    let request = b"GET /healthz HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n";
    let answer = balancer.tell(api, &[&header("192.0.2.9"), &request[..]].concat()).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");

    let banner = async |from: Stranger, first: &[u8]| {
        let mut stream = from.connect(ssh).await.expect("it listens");
        stream.write_all(first).await.expect("sent");
        let mut banner = [0; 8];
        timeout(AT_ONCE, stream.read_exact(&mut banner)).await.is_ok_and(|read| read.is_ok())
    };
    assert!(banner(balancer, &header("192.0.2.9")).await);
    assert!(!banner(balancer, b"SSH-2.0-x\r\n").await, "a balancer without a header is refused");
    assert!(banner(impostor, b"").await, "others send none");
    let spoof = [&header("127.0.0.1"), &request[..]].concat();
    let answer = impostor.tell(api, &spoof).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400"), "theirs is no header but nonsense: {answer}");
}

#[tokio::test]
async fn a_stranger_is_told_no_version() {
    let gateway = Gateway::start().await;
    let version = env!("CARGO_PKG_VERSION");
    let stranger = Stranger::at(60);
    let banner = stranger.tell(gateway.ssh(), b"nonsense\r\n").await.expect("an answer");
    assert!(banner.starts_with("SSH-2.0-Tidegate\r\n"), "{banner}");
    for path in ["/", "/healthz", "/readyz", "/sign-in", "/api/v1/gateway", "/api/v1/status", "/nothing"] {
        let head = format!("GET {path} HTTP/1.1\r\n");
        let answer = stranger.ask(&gateway.admin.http.anonymous(), gateway.api(), b"", &head).await;
        let answer = answer.expect("an answer").to_lowercase();
        assert!(!answer.contains(version) && !answer.contains("server:"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn an_agent_that_asks_for_what_it_may_not_have_is_sent_away() {
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create("shop").await;
    let liar = Liar::new(&gateway.admin.http, &edge);
    gateway.admin.raise("shop").await;
    let offer = liar.offer(&["web"]).await;
    let tunnel = liar.login(&offer).await.expect("a fresh offer");
    tunnel.handle.tcpip_forward("web", 80).await.expect("an announced service");
    let mut refused = 0;
    while !tunnel.handle.is_closed() && refused < 1000 {
        match refused % 3 {
            0 => drop(tunnel.handle.tcpip_forward("other", 80).await),
            1 => drop(tunnel.handle.channel_open_session().await),
            _ => drop(tunnel.handle.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 0).await),
        }
        refused += 1;
    }
    tunnel.closed().await;
    assert!((64..200).contains(&refused), "{refused}");
    gateway.log().wait_for("the agent asks for what it may not have", SOON).await;
}

#[tokio::test]
async fn a_gateway_out_of_memory_refuses_streams_and_goes_on_with_check_ins() {
    let web = Web::start().await;
    let gateway = GatewayOptions::default()
        .args(&["--memory-budget-mib", "192", "--store-cache-mib", "16"])
        .start()
        .await;
    let edge = gateway.admin.create("shop").await;
    let _agent = AgentOptions::joining(&edge).expose("web", web.address).start();
    gateway.admin.wait_online("shop").await;
    let path = |rest: &str| Gateway::proxy_path("shop", "web", rest);
    assert_eq!(gateway.admin.get(&path("/hello")).await.expect(200).text(), "hello");

    let mut stuck = JoinSet::new();
    for _ in 0..100 {
        let (http, path) = (gateway.admin.http.clone(), path("/stuck"));
        stuck.spawn(async move { http.get(&path).await.expect("an answer") });
    }
    let refused = timeout(SOON, stuck.join_next()).await.expect("one is refused").expect("there are many");
    let answer = refused.expect("no panic").expect(503);
    assert!(answer.headers.contains_key("retry-after"));
    let problem: Problem = answer.json();
    assert_eq!(problem.code, "stream-refused");
    assert!(problem.detail.contains("memory budget"), "{}", problem.detail);
    wait_metric(&gateway, "tidegate_refused_work_total{work=\"stream\"}", 1).await;
    let (budget, reserved) = ("tidegate_memory_budget_bytes", "tidegate_memory_reserved_bytes");
    assert!(metric(&gateway, reserved).await <= metric(&gateway, budget).await);

    let depot = gateway.admin.create("depot").await;
    let liar = Liar::new(&gateway.admin.http, &depot);
    liar.check_in(&Liar::hello(&["web"])).await.expect(200);
    gateway.admin.raise("depot").await;
    let offer = liar.offer(&["web"]).await;
    liar.login(&offer).await.expect("there is room for a tunnel");

    stuck.shutdown().await;
    until(SOON, "there is room again", async || {
        (gateway.admin.get(&path("/hello")).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn keys_are_renewed_by_time_while_streams_go_on() {
    let (web, gateway) = (Web::start().await, Gateway::start().await);
    let edge = gateway.admin.create("shop").await;
    let liar = Liar::new(&gateway.admin.http, &edge);
    liar.check_in(&Liar::hello(&["web"])).await.expect(200);
    gateway.admin.raise("shop").await;
    let credentials = liar.open(&liar.offer(&["web"]).await);
    let mut ssh = tool::command("ssh", "openssh-client");
    openssh::give_password(&mut ssh, gateway.folder(), credentials.password.expose());
    ssh.args([
        "-v",
        "-N",
        "-F",
        "none",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]);
    ssh.args(["-o", "RekeyLimit=1G 1s", "-p", &gateway.ssh().port().to_string()]);
    ssh.args(["-R", &format!("web:80:{}", web.address), &format!("{}@127.0.0.1", credentials.username)]);
    let log = Log::default();
    let _client = Process::start("ssh as an agent", ssh, &log);
    gateway.admin.wait_tunnel("shop", TunnelState::Open).await;
    let renewed = || log.count("SSH2_MSG_NEWKEYS received");
    let get = async |rest: &str| {
        let path = Gateway::proxy_path("shop", "web", rest);
        timeout(SOON, gateway.admin.get(&path)).await.expect("nothing stalls").expect(200).body
    };
    until(SOON, "keys are renewed again and again", async || {
        assert_eq!(get("/hello").await, "hello");
        (renewed() > 3).then_some(())
    })
    .await;
}

/// A service that keeps what it hears, and answers each connection with these bytes.
async fn recorder(answer: &'static str) -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let hearing = Arc::clone(&hearing);
            tokio::spawn(async move {
                let mut bytes = vec![0; 16 * 1024];
                let mut text = String::new();
                while !text.contains("\r\n\r\n") {
                    match stream.read(&mut bytes).await {
                        Ok(0) | Err(_) => return,
                        Ok(read) => text.push_str(&String::from_utf8_lossy(&bytes[..read])),
                    }
                }
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
                let mut rest = Vec::new();
                let _ = timeout(AT_ONCE, stream.read_to_end(&mut rest)).await;
                text.push_str(&String::from_utf8_lossy(&rest));
                hearing.lock().expect("no panic").push(text);
            });
        }
    });
    (address, heard)
}

#[tokio::test]
async fn no_request_is_smuggled_past_the_proxy() {
    let answer =
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled";
    let (address, heard) = recorder(answer).await;
    let site = Site::with("web", address).await;
    let (http, token) =
        (site.http().anonymous(), site.http().authorization().expect("the admin's").to_owned());
    let path = site.proxy("web", "/first");
    let inner = "GET /smuggled HTTP/1.1\r\nhost: inner\r\n\r\n";
    for headers in [
        format!("content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("transfer-encoding: chunked\r\ncontent-length: {}\r\n\r\n0\r\n\r\n{inner}", inner.len() + 5),
        format!("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{inner}"),
        format!("transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("transfer-encoding : chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("content-length: 0\r\ncontent-length: {}\r\n\r\n{inner}", inner.len()),
        format!("content-length: +{}\r\n\r\n{inner}", inner.len()),
        format!("x: y\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMA\r\n\r\n{inner}"),
        format!("connection: content-length\r\ncontent-length: {}\r\n\r\n{inner}", inner.len()),
    ] {
        let mut stream = http.connect().await.expect("it listens");
        let request = format!("POST {path} HTTP/1.1\r\nhost: gate\r\nauthorization: {token}\r\n{headers}");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answers = Vec::new();
        let _ = timeout(AT_ONCE, stream.read_to_end(&mut answers)).await;
        let answers = String::from_utf8_lossy(&answers);
        assert!(answers.starts_with("HTTP/1.1 "), "{headers:?}: {answers}");
        assert!(!answers.contains("smuggled"), "what a service adds is no answer to anybody: {answers}");
    }
    until(SOON, "the service has heard", async || {
        (!heard.lock().expect("no panic").is_empty()).then_some(())
    })
    .await;
    for request in heard.lock().expect("no panic").iter() {
        let lines = request.lines().filter(|line| line.ends_with(" HTTP/1.1")).count();
        let head = request.split("\r\n\r\n").next().expect("a head").to_lowercase();
        let inside = head.contains("content-length") || head.contains("transfer-encoding");
        assert!(lines == 1 || inside, "a second request: {request}");
        assert!(!(head.contains("content-length") && head.contains("transfer-encoding")), "{request}");
        assert!(!head.contains("upgrade: h2c") && !head.contains("http2-settings"), "{request}");
    }
}
