//! An agent whose network lets it out through an HTTP CONNECT proxy only. The proxy is a real one: tinyproxy.

use std::net::SocketAddr;

use tempfile::TempDir;
use tests::agent::AgentOptions;
use tests::fakes::http::Web;
use tests::gateway::Gateway;
use tests::process::{Log, Process};
use tests::site::EDGE;
use tests::tool::{self, free_address};
use tests::wait::{SOON, until};
use tokio::net::TcpStream;

/// A running tinyproxy.
struct Tinyproxy {
    address: SocketAddr,
    log: Log,
    _process: Process,
    _folder: TempDir,
}

impl Tinyproxy {
    async fn start() -> Self {
        let folder = TempDir::new().expect("the folder for temporary files is writable");
        let address = free_address();
        let config = format!(
            "Port {}\nListen 127.0.0.1\nTimeout 600\nMaxClients 50\nLogLevel Connect\n",
            address.port()
        );
        let file = folder.path().join("tinyproxy.conf");
        std::fs::write(&file, config).expect("the folder is ours");
        let mut command = tool::command("tinyproxy", "tinyproxy");
        command.arg("-d").arg("-c").arg(&file);
        let log = Log::default();
        let process = Process::start("tinyproxy", command, &log);
        until(SOON, "tinyproxy listens", async || TcpStream::connect(address).await.ok()).await;
        Self { address, log, _process: process, _folder: folder }
    }

    /// How often somebody asked for a connection to `target`.
    fn connects(&self, target: SocketAddr) -> usize {
        self.log.count(&format!("CONNECT {target}"))
    }
}

#[tokio::test]
async fn agent_behind_a_proxy_sends_check_ins_and_tunnel_through_it() {
    let (web, proxy, gateway) = (Web::start().await, Tinyproxy::start().await, Gateway::start().await);
    let edge = gateway.admin.create(EDGE).await;
    let url = format!("http://{}", proxy.address);
    let _agent = AgentOptions::joining(&edge).expose("web", web.url()).env("HTTPS_PROXY", url).start();
    gateway.admin.wait_online(EDGE).await;
    let answer = gateway.admin.get(&Gateway::proxy_path(EDGE, "web", "/hello")).await;
    assert_eq!(answer.expect(200).text(), "hello");
    assert!(proxy.connects(gateway.api()) > 0, "check-ins went elsewhere:\n{}", proxy.log.text());
    assert!(proxy.connects(gateway.ssh()) > 0, "the tunnel went elsewhere:\n{}", proxy.log.text());
}

#[tokio::test]
async fn no_proxy_is_obeyed() {
    let (web, proxy, gateway) = (Web::start().await, Tinyproxy::start().await, Gateway::start().await);
    let edge = gateway.admin.create(EDGE).await;
    let url = format!("http://{}", proxy.address);
    let options = AgentOptions::joining(&edge).expose("web", web.url());
    let _agent = options.env("HTTPS_PROXY", url).env("NO_PROXY", "example.com,127.0.0.1").start();
    gateway.admin.wait_online(EDGE).await;
    gateway.admin.get(&Gateway::proxy_path(EDGE, "web", "/hello")).await.expect(200);
    assert_eq!(proxy.connects(gateway.api()) + proxy.connects(gateway.ssh()), 0, "{}", proxy.log.text());
}

#[tokio::test]
async fn proxy_that_refuses_is_named_in_the_agents_log() {
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create(EDGE).await;
    // The web service knows no CONNECT: it answers 404.
    let web = Web::start().await;
    let agent = AgentOptions::joining(&edge).env("HTTPS_PROXY", web.url()).start();
    agent.log().wait_for("proxy", SOON).await;
    assert!(!gateway.admin.edge(EDGE).await.bound);
}
