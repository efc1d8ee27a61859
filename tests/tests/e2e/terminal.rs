//! The operator's command line as people and scripts see it: what it prints, what it waits for, how it ends.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;
use shared::join_token::JoinToken;
use shared::wire::admin::TunnelState;
use shared::wire::snapshot::{Docker, Snapshot};
use tests::agent::AgentOptions;
use tests::gateway::Gateway;
use tests::liar::Liar;
use tests::process::{Ended, Log, Process, run};
use tests::site::{EDGE, Site};
use tests::tool;
use tests::wait::SOON;

async fn tidegate(gateway: &Gateway, line: &str) -> Ended {
    let arguments: Vec<_> = line.split_whitespace().collect();
    run(gateway.cli(&arguments)).await
}

/// The same command on a terminal of its own; what it printed there.
async fn on_a_terminal(gateway: &Gateway, line: &str, envs: &[(&str, &str)]) -> String {
    let cli = gateway.cli(&[]);
    let mut script = tool::command("script", "bsdutils");
    let command = format!("'{}' {line}", cli.get_program().display());
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]).env("TERM", "xterm");
    script.envs(cli.get_envs().filter_map(|(name, value)| Some((name, value?))));
    run({
        script.env_remove("NO_COLOR").envs(envs.iter().copied());
        script
    })
    .await
    .ok()
    .stdout
}

#[tokio::test]
async fn create_waits_for_the_agent_and_open_for_the_tunnel() {
    let gateway = Gateway::start().await;
    let log = Log::default();
    let create = gateway.cli(&["edge", "create", "shop", "--interval", "1", "--wait", "-o", "json"]);
    let mut create = Process::start("tidegate edge create", create, &log);
    log.wait_for("\"join_token\"", SOON).await;
    let token = log.text().split('"').find(|word| word.starts_with("tidegate1.")).map(str::to_owned);
    let _agent = AgentOptions::with_token(&token.expect("a join token")).start();
    assert!(create.exit(SOON).await.success());
    assert!(log.contains("shop joined"), "{}", log.text());

    let opened = tidegate(&gateway, "edge open shop --wait").await.ok();
    assert!(opened.stdout.starts_with("open since"), "{opened:?}");
    assert_eq!(gateway.admin.tunnel("shop").await.state, TunnelState::Open);
    assert_eq!(opened.stderr, "", "a script's log gets no progress");
}

#[tokio::test]
async fn waiting_for_an_edge_that_is_away_ends_in_time_and_says_why() {
    let gateway = Gateway::start().await;
    gateway.admin.create("shop").await;
    let started = std::time::Instant::now();
    let ended = tidegate(&gateway, "edge open shop --wait --timeout 1s").await;
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.stderr.contains("no agent has ever joined"), "{ended:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "its own limit was one second");
    let ended = tidegate(&gateway, "edge create depot --wait --timeout 1s").await;
    assert_eq!(ended.code, 5, "{ended:?}");
}

#[tokio::test]
async fn many_edges_are_made_of_a_file_and_their_tokens_are_kept_private() {
    let gateway = Gateway::start().await;
    gateway.admin.create("shop-2").await;
    let (names, tokens) = (gateway.folder().join("names"), gateway.folder().join("tokens"));
    std::fs::write(&names, "# shops\nshop-1\nshop-2\nshop-3\n").expect("the folder is ours");
    let line =
        format!("edge create --from-file {} --tokens {} --tag berlin", names.display(), tokens.display());
    let ended = tidegate(&gateway, &line).await;
    assert_eq!(ended.code, 1, "one name was in use: {ended:?}");
    assert!(ended.stderr.contains("made 2 edges") && ended.stderr.contains("shop-2:"), "{ended:?}");
    assert!(!ended.stderr.contains("tidegate1.") && ended.stdout.is_empty(), "{ended:?}");

    assert_eq!(tokens.metadata().expect("it was written").permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&tokens).expect("it was written");
    let lines: Vec<_> = text.lines().map(|line| line.split_once('\t').expect("name, tab, token")).collect();
    assert_eq!(lines.iter().map(|line| line.0).collect::<Vec<_>>(), ["shop-1", "shop-3"]);
    for (_, token) in &lines {
        token.parse::<JoinToken>().expect("a join token");
    }
    assert_eq!(gateway.admin.edge("shop-3").await.tags, ["berlin"]);
    let again = tidegate(&gateway, &line).await;
    assert!(again.code == 1 && again.stderr.contains("exists"), "tokens are not overwritten: {again:?}");
}

#[tokio::test]
async fn an_edge_is_renamed_tagged_set_and_rotated_by_commands() {
    let site = Site::start(&[]).await;
    let gateway = &site.gateway;
    tidegate(gateway, "edge rename shop store").await.ok();
    tidegate(gateway, "edge tag store --add north --add till").await.ok();
    tidegate(gateway, "edge tag store --remove till").await.ok();
    tidegate(gateway, "edge set store --idle-timeout 600 --interval default").await.ok();
    let edge = gateway.admin.edge("store").await;
    assert_eq!((edge.tags, edge.idle_timeout_s, edge.interval_s), (vec!["north".to_owned()], 600, 5));

    let rotated = tidegate(gateway, "edge rotate store --yes -o json").await.ok();
    let rotated: Value = serde_json::from_str(&rotated.stdout).expect("JSON");
    site.agent.log().wait_for("no edge has this key", SOON).await;
    let token = rotated["join_token"].as_str().expect("shown once");
    let _newcomer = AgentOptions::with_token(token).start();
    gateway.admin.wait_online("store").await;
    let deleted = tidegate(gateway, "edge delete store --yes -o json").await.ok();
    assert_eq!(
        serde_json::from_str::<Value>(&deleted.stdout).expect("JSON"),
        serde_json::json!({ "deleted": "store" })
    );
}

/// Sets the title of a terminal, clears its screen, goes to the begin of the line, and turns the direction around.
const HOSTILE: &str = "till\u{1b}]0;owned\u{7}\u{9b}2J\r\u{202e}x";

#[tokio::test]
async fn what_an_agent_says_is_never_a_command_of_the_terminal() {
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create(EDGE).await;
    let liar = Liar::new(&gateway.admin.http, &edge);
    liar.check_in(&Liar::hello(&["web"])).await.expect(200);
    let mut snapshot = Snapshot::default();
    snapshot.host.name = HOSTILE.to_owned();
    snapshot.docker.push(Docker { version: HOSTILE.to_owned(), ..Docker::default() });
    snapshot.problems.push(HOSTILE.to_owned());
    liar.put_snapshot(snapshot).await.expect(204);

    let shown = tidegate(&gateway, "edge snapshot shop --last").await.ok().stdout;
    assert_eq!(shown.matches(r"till\u{1b}]0;owned\u{7}\u{9b}2J\r\u{202e}x").count(), 3, "{shown:?}");
    let json = tidegate(&gateway, "edge snapshot shop --last -o json").await.ok().stdout;
    for text in [&shown, &json] {
        let acting: Vec<char> =
            text.chars().filter(|c| *c != '\n' && (c.is_control() || *c == '\u{202e}')).collect();
        assert!(acting.is_empty(), "{text:?}");
    }
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["snapshot"]["host"]["name"], HOSTILE, "JSON means what it meant");

    // On a terminal there are colours, and no other sequence.
    let coloured = on_a_terminal(&gateway, "edge show shop", &[]).await;
    assert!(coloured.contains("\u{1b}[32monline\u{1b}[0m"), "{coloured:?}");
    let plain = coloured.replace("\u{1b}[32m", "").replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
    assert!(!plain.contains('\u{1b}') && !plain.contains('\u{9b}'), "{plain:?}");
    let plain = on_a_terminal(&gateway, "edge show shop", &[("NO_COLOR", "1")]).await;
    assert!(plain.contains("online") && !plain.contains('\u{1b}'), "{plain:?}");
}

#[tokio::test]
async fn a_shell_completes_the_command_line_and_a_page_describes_it() {
    let gateway = Gateway::start().await;
    let script = gateway.folder().join("completions");
    let completions = tidegate(&gateway, "completions bash").await.ok().stdout;
    std::fs::write(&script, completions).expect("the folder is ours");
    let mut bash = tool::command("bash", "bash");
    bash.arg("-c").arg(format!(
        "source {}; COMP_WORDS=(tidegate edge ro); COMP_CWORD=2; _tidegate tidegate ro edge; echo \"${{COMPREPLY[@]}}\"",
        script.display()
    ));
    assert_eq!(run(bash).await.ok().stdout.trim(), "rotate");
    for shell in ["zsh", "fish"] {
        let script = tidegate(&gateway, &format!("completions {shell}")).await.ok().stdout;
        assert!(script.contains("rotate"), "{shell}");
    }
    let folder = gateway.folder().join("man1");
    tidegate(&gateway, &format!("man --dir {}", folder.display())).await.ok();
    for page in ["tidegate.1", "tidegate-edge-create.1"] {
        let text = std::fs::read_to_string(folder.join(page)).expect("a page");
        assert!(text.contains(".TH tidegate"), "{page}: {text}");
    }
    let page = tidegate(&gateway, "man").await.ok().stdout;
    assert!(page.contains(".SH SUBCOMMANDS"), "{page}");
}

#[tokio::test]
async fn events_are_printed_while_they_happen_also_after_a_restart_of_the_gateway() {
    let mut gateway = Gateway::start().await;
    let log = Log::default();
    let _following = Process::start("tidegate events", gateway.cli(&["events", "--follow"]), &log);
    let until = gateway.cli(&["events", "--until", "tunnel-opened", "--edge", "shop", "-o", "json"]);
    // What follows only one edge needs that edge.
    let edge = gateway.admin.create("shop").await;
    let waiting = Log::default();
    let mut until = Process::start("tidegate events", until, &waiting);
    let agent = AgentOptions::joining(&edge).start();
    gateway.admin.wait_online("shop").await;
    // Both may have begun to listen after that: only what comes from now on is certain to be heard.
    tests::wait::until(SOON, "both are told of a tunnel", async || {
        tidegate(&gateway, "edge close shop").await.ok();
        tidegate(&gateway, "edge open shop --wait").await.ok();
        (!until.runs() && log.contains("tunnel-opened")).then_some(())
    })
    .await;
    assert!(until.exit(SOON).await.success());
    let last = waiting.text();
    let last: Value =
        serde_json::from_str(last.lines().last().expect("an event")).expect("one object a line");
    assert_eq!((&last["edge"], &last["event"]), (&"shop".into(), &"tunnel-opened".into()));

    let before = log.len();
    gateway.kill_and_resume().await;
    log.wait_for_after(before, "some events were missed", SOON).await;
    drop(agent);
    gateway.admin.create("depot").await;
    log.wait_for_after(before, "depot  created", SOON).await;
}

#[tokio::test]
async fn status_shows_edges_and_parts_at_a_glance() {
    let site = Site::start(&[]).await;
    site.gateway.admin.create("depot").await;
    let shown = tidegate(&site.gateway, "status").await.ok().stdout;
    for part in ["online:", "never joined: 1", "store", "check-ins:"] {
        assert!(shown.contains(part), "{part} is missing:\n{shown}");
    }
    let json = tidegate(&site.gateway, "status -o json").await.ok().stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json["edges"]["online"], &json["gateway"]["parts"]["store"]["status"]),
        (&1.into(), &"ok".into())
    );
}

#[tokio::test]
async fn what_was_done_is_listed_exported_and_verified_without_the_gateway() {
    let mut gateway = Gateway::start().await;
    tidegate(&gateway, "edge create shop").await.ok();
    tidegate(&gateway, "edge tag shop --add north").await.ok();
    let listed = tidegate(&gateway, "audit list --edge shop").await.ok().stdout;
    assert!(listed.contains("edge.create") && listed.contains("edge.change"), "{listed}");
    let changes = tidegate(&gateway, "audit list --action edge.change -o json").await.ok().stdout;
    let changes: Value = serde_json::from_str(&changes).expect("JSON");
    assert_eq!(changes["records"].as_array().expect("records").len(), 1, "{changes}");
    let verdict = tidegate(&gateway, "audit verify -o json").await.ok().stdout;
    let verdict: Value = serde_json::from_str(&verdict).expect("JSON");
    assert_eq!(verdict["intact"], true);
    let head = format!("{}:{}", verdict["head"]["seq"], verdict["head"]["hash"].as_str().expect("a hash"));

    let exported = gateway.folder().join("audit.jsonl");
    tidegate(&gateway, &format!("audit export {}", exported.display())).await.ok();
    assert_eq!(exported.metadata().expect("written").permissions().mode() & 0o777, 0o600);
    let data = gateway.data().display().to_string();
    gateway.stop().await;
    for log in [format!("--file {}", exported.display()), format!("--data-dir {data}")] {
        tidegate(&gateway, &format!("audit verify {log} --head {head}")).await.ok();
    }
    let text = std::fs::read_to_string(&exported).expect("written");
    std::fs::write(&exported, text.replace("\"shop\"", "\"shed\"")).expect("the folder is ours");
    let changed = tidegate(&gateway, &format!("audit verify --file {}", exported.display())).await;
    assert!(changed.code == 1 && changed.stdout.contains("audit.jsonl"), "{changed:?}");
}
