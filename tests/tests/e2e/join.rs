//! How an agent gets its join token, and what it says about one that is no good.

use std::net::SocketAddr;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, ORIGIN};
use tests::agent::AgentOptions;
use tests::fakes::http::Web;
use tests::gateway::Gateway;
use tests::http::{Http, full};
use tests::site::EDGE;
use tests::wait::{SOON, until};

#[tokio::test]
async fn damaged_or_truncated_token_ends_the_agent_with_a_clear_text() {
    let gateway = Gateway::start().await;
    let token = gateway.admin.create(EDGE).await.join_token;
    let mut damaged = token.clone();
    damaged.replace_range(30..31, if &token[30..31] == "A" { "B" } else { "A" });
    let newer = token.replacen("tidegate1.", "tidegate2.", 1);
    for (text, words) in [
        (&token[..token.len() / 2], "cut off"),
        (&token[..5], "cut off"),
        (&damaged, "checksum does not match"),
        (&newer, "update the agent"),
        ("hello", "must begin with"),
        ("", "empty"),
    ] {
        let mut agent = AgentOptions::with_token(text).start();
        assert_eq!(agent.exit().await.code(), Some(3), "for {text:?}");
        let log = agent.log().wait_for(words, SOON).await;
        assert!(!log.contains(&token[40..60]), "the secret is in the log: {log}");
    }
    assert!(!gateway.admin.edge(EDGE).await.bound);
}

#[tokio::test]
async fn token_comes_by_flag_environment_or_file_even_with_line_breaks() {
    let gateway = Gateway::start().await;
    for way in ["flag", "environment", "file"] {
        let token = gateway.admin.create(way).await.join_token;
        let (head, tail) = token.split_at(50);
        let broken = format!("  {head}\n    {tail}\n");
        let _agent = match way {
            "flag" => AgentOptions::default().args(&["--join-token", &token]).start(),
            "environment" => AgentOptions::default().env("TIDEGATE_AGENT_JOIN_TOKEN", broken).start(),
            _ => AgentOptions::with_token(&broken).start(),
        };
        gateway.admin.wait_bound(way).await;
    }
}

#[tokio::test]
async fn agent_without_a_token_serves_a_page_that_takes_one_and_is_gone_afterwards() {
    let web = Web::start().await;
    let gateway = Gateway::start().await;
    let token = gateway.admin.create(EDGE).await.join_token;
    let mut agent =
        AgentOptions::default().args(&["--page-addr", "127.0.0.1:0"]).expose("web", web.url()).start();
    let address: SocketAddr = until(SOON, "the agent says where its page is", async || {
        let log = agent.log().text();
        let (_, rest) = log.split_once("http://127.0.0.1:")?;
        let port: u16 = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
        Some(([127, 0, 0, 1], port).into())
    })
    .await;
    let page = Http::plain(address);
    let form = page.get("/").await.expect("the page").expect(200).text();
    assert!(form.contains("<form") && form.contains("name=\"token\""), "{form}");

    let paste = async |text: &str, origin: &str| {
        let request = page.request(Method::POST, "/").header(ORIGIN, origin);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        page.send(request.body(full(format!("token={text}"))).expect("valid")).await.expect("an answer")
    };
    let own = format!("http://{address}");
    paste(&token, "https://evil.example").await.expect(403);
    let refused = paste(&token[..60], &own).await.expect(422).text();
    assert!(refused.contains("cut off"), "{refused}");
    paste(&token, &own).await.expect(200);

    gateway.admin.wait_bound(EDGE).await;
    until(SOON, "the page is gone", async || page.get("/").await.is_err().then_some(())).await;
    agent.kill_and_resume();
    let answer = gateway.admin.get(&Gateway::proxy_path(EDGE, "web", "/hello")).await;
    assert_eq!(answer.expect(200).text(), "hello");
}
