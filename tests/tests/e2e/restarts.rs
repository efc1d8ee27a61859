//! Either side may die at any step; nothing is lost and everything comes back by itself.

use std::time::Duration;

use rustix::process::Signal;
use shared::wire::admin::TunnelState;
use tests::agent::AgentOptions;
use tests::bulk;
use tests::fakes::http::Web;
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::gateway::Gateway;
use tests::site::{EDGE, Site};
use tests::wait::{SOON, until};

/// A point in the life of an edge at which something dies.
#[derive(Clone, Copy, Debug)]
enum Step {
    Bound,
    Opening,
    Open,
    Closing,
}

const STEPS: [Step; 4] = [Step::Bound, Step::Opening, Step::Open, Step::Closing];

/// Brings the site to `step`.
async fn reach(site: &Site, step: Step) {
    site.gateway.admin.wait_online(EDGE).await;
    match step {
        Step::Bound => {}
        Step::Opening => {
            site.gateway.admin.raise(EDGE).await;
            // The first moment at which the gateway shows that its agent was told; it may be past it already.
            until(SOON, "the flag is answered", async || {
                let state = site.gateway.admin.tunnel(EDGE).await.state;
                matches!(state, TunnelState::Offered | TunnelState::Open).then_some(())
            })
            .await;
        }
        Step::Open => site.open_tunnel().await,
        Step::Closing => {
            site.open_tunnel().await;
            site.gateway.admin.lower(EDGE).await;
        }
    }
}

async fn works(site: &Site, after: &str) {
    let answer = until(SOON, &format!("a request goes through after {after}"), async || {
        let answer = site.get("web", "/hello").await;
        // 504 and 502 are honest answers while the other side is still away.
        (!matches!(answer.status.as_u16(), 502..=504)).then_some(answer)
    })
    .await;
    assert_eq!(answer.expect(200).text(), "hello");
}

#[tokio::test]
async fn gateway_may_be_killed_at_every_step() {
    let web = Web::start().await;
    let mut site = Site::start(&[("web", &web.url())]).await;
    let endpoint = site.gateway.admin.edge(EDGE).await.endpoint_id;
    for step in STEPS {
        reach(&site, step).await;
        site.gateway.kill_and_resume().await;
        let record = site.gateway.admin.edge(EDGE).await;
        assert_eq!((record.endpoint_id, record.bound), (endpoint, true), "at {step:?}");
        works(&site, &format!("the gateway died at {step:?}")).await;
        site.gateway.admin.lower(EDGE).await;
    }
}

#[tokio::test]
async fn agent_may_be_killed_at_every_step() {
    let web = Web::start().await;
    let mut site = Site::start(&[("web", &web.url())]).await;
    for step in STEPS {
        reach(&site, step).await;
        let instances = site.gateway.admin.edge(EDGE).await.instances;
        site.agent.kill_and_resume();
        works(&site, &format!("the agent died at {step:?}")).await;
        let now = site.gateway.admin.edge(EDGE).await.instances;
        assert_eq!(now.len(), 1, "the same instance came back at {step:?}");
        assert_eq!(now[0].instance, instances[0].instance);
        site.gateway.admin.lower(EDGE).await;
    }
}

#[tokio::test]
async fn agent_that_starts_while_the_gateway_is_away_joins_when_it_comes() {
    let mut gateway = Gateway::start().await;
    let edge = gateway.admin.create("shop").await;
    gateway.kill();
    let mut agent = AgentOptions::joining(&edge).start();
    // Killed before it ever joined, it must not forget what it was given.
    agent.log().wait_for("gateway", SOON).await;
    agent.kill_and_resume();
    gateway.resume().await;
    gateway.admin.wait_bound("shop").await;
}

#[tokio::test]
async fn joined_agent_needs_its_token_no_more() {
    let web = Web::start().await;
    let mut site = Site::start(&[("web", &web.url())]).await;
    assert!(site.agent.stop().await.success(), "SIGTERM ends an agent in order");
    site.agent.forget_token();
    site.agent.resume();
    works(&site, "the agent started without its token").await;
}

#[tokio::test]
async fn stream_that_is_open_when_a_side_dies_ends_and_the_next_works() {
    let echo = Tcp::echo().await;
    let mut site = Site::with("echo", echo.address).await;
    for gateway_dies in [true, false] {
        let listen = site.listen("echo").await;
        let mut stream = listen.connect().await;
        assert_echo(&mut stream, b"before").await;
        if gateway_dies {
            site.gateway.kill_and_resume().await;
        } else {
            site.agent.kill_and_resume();
        }
        let end =
            tokio::time::timeout(SOON * 3, tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 8])).await;
        assert!(matches!(end, Ok(Ok(0) | Err(_))), "the stream must end: {end:?}");
        site.gateway.admin.wait_online(EDGE).await;
        let listen = site.listen("echo").await;
        let mut stream = listen.connect().await;
        assert_echo(&mut stream, b"after").await;
    }
}

/// Pause after a request that failed.
const PACE: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_may_die_again_and_again_under_load() {
    let web = Web::start().await;
    let mut site = Site::start(&[("web", &web.url())]).await;
    let endpoint = site.gateway.admin.edge(EDGE).await.endpoint_id;
    // Requests without a pause, so that every blow falls on some in each of their stages. That those under way when
    // their gateway dies fail is right; a wrong body never is.
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (admin, path) = (site.gateway.admin.clone(), site.proxy("web", "/bytes/7/50000"));
            let expected = bulk::bytes(7, 50_000);
            let work = async move {
                loop {
                    match admin.http.get(&path).await {
                        Ok(answer) if answer.status == 200 => {
                            assert!(
                                answer.body == expected,
                                "a body of {} bytes is wrong",
                                answer.body.len()
                            );
                        }
                        // The gateway or the edge is away; asking at full speed would take time from its start.
                        Ok(_) | Err(_) => tokio::time::sleep(PACE).await,
                    }
                }
            };
            tokio::spawn(work)
        })
        .collect();
    for round in 0..12 {
        match round % 4 {
            0 => site.gateway.kill_and_resume().await,
            1 => site.agent.kill_and_resume(),
            2 => {
                site.agent.kill();
                site.gateway.kill_and_resume().await;
                site.agent.resume();
            }
            _ => {
                assert!(site.gateway.stop().await.success(), "live requests do not hold up its end");
                site.gateway.resume().await;
            }
        }
        works(&site, &format!("round {round}")).await;
    }
    for worker in load {
        worker.abort();
        assert!(worker.await.is_err_and(|end| end.is_cancelled()), "a worker saw a wrong body");
    }
    let record = site.gateway.admin.edge(EDGE).await;
    assert_eq!((record.endpoint_id, record.bound), (endpoint, true));
}

/// Keep-alives go out every 15 s, and three that are missed end a tunnel.
const NOTICED: Duration = Duration::from_secs(90);

#[tokio::test]
async fn agent_that_hangs_loses_its_tunnel_and_comes_back_when_it_goes_on() {
    let web = Web::start().await;
    let mut site = Site::start(&[("web", &web.url())]).await;
    site.open_tunnel().await;
    site.agent.process().signal(Signal::STOP);
    until(NOTICED, "the gateway gives the tunnel up", async || {
        (site.gateway.admin.tunnel(EDGE).await.state != TunnelState::Open).then_some(())
    })
    .await;
    site.agent.process().signal(Signal::CONT);
    works(&site, "the agent was frozen").await;
}

#[tokio::test]
async fn gateway_that_hangs_is_left_and_found_again_when_it_goes_on() {
    let web = Web::start().await;
    let mut site = Site::start(&[("web", &web.url())]).await;
    site.open_tunnel().await;
    site.gateway.process().signal(Signal::STOP);
    site.agent.log().wait_for("the tunnel is lost", NOTICED).await;
    site.gateway.process().signal(Signal::CONT);
    works(&site, "the gateway was frozen").await;
}
