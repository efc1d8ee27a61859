//! Streams over a real SSH connection in memory, with socket buffers of 64 KiB, far less than the streams have in
//! flight.

use std::sync::Arc;
use std::time::Duration;

use russh::keys::{PrivateKey, PublicKeyOrCertificate};
use russh::{client, server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::tunnel::credit::{LONE, SHARED};
use crate::tunnel::pipe::{UserEnd, pipe};
use crate::tunnel::pool::WindowBudget;
use crate::tunnel::socket::PatientSocket;
use crate::tunnel::ssh;

/// Far more than any of this takes, far less than a test run.
const DEADLINE: Duration = Duration::from_secs(60);

/// For the windows of all streams of a side.
const BUDGET: u64 = 16 << 20;

/// The agent's side: hands every channel that the gateway opens to the test.
struct AgentSide(mpsc::UnboundedSender<Channel<client::Msg>>);

impl client::Handler for AgentSide {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<client::Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        let _ = self.0.send(channel);
        Ok(())
    }
}

struct GatewaySide;

impl server::Handler for GatewaySide {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<server::Auth, Self::Error> {
        Ok(server::Auth::Accept)
    }
}

/// A tunnel in memory.
struct Tunnel {
    gateway: server::Handle,
    _agent: client::Handle<AgentSide>,
    accepted: mpsc::UnboundedReceiver<Channel<client::Msg>>,
    gateway_backlog: Arc<Backlog>,
    agent_backlog: Arc<Backlog>,
    meter: Arc<Meter>,
    terms: Terms,
    budget: WindowBudget,
    pools: [Arc<Pool>; 2],
}

impl Tunnel {
    async fn new() -> Self {
        Self::on(Terms::ADAPTIVE, ssh::MAX_PACKET).await
    }

    /// The agent is told that it may send packets of this size.
    async fn on(terms: Terms, packet: u32) -> Self {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (near, far) = (PatientSocket::new(near), PatientSocket::new(far));
        let (gateway_backlog, agent_backlog) = (near.backlog(), far.backlog());
        let key = PrivateKey::from(russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&[1; 32]));
        let server_config = server::Config {
            keys: vec![key],
            window_size: ssh::WINDOW,
            maximum_packet_size: packet,
            channel_buffer_size: ssh::CHANNEL_QUEUE,
            preferred: ssh::preferred(),
            auth_rejection_time: Duration::ZERO,
            ..Default::default()
        };
        let client_config = client::Config {
            window_size: ssh::WINDOW,
            maximum_packet_size: ssh::MAX_PACKET,
            channel_buffer_size: ssh::CHANNEL_QUEUE,
            preferred: ssh::preferred(),
            ..Default::default()
        };
        let (accept, accepted) = mpsc::unbounded_channel();
        let running = tokio::spawn(server::run_stream(Arc::new(server_config), near, GatewaySide));
        let mut agent =
            client::connect_stream(Arc::new(client_config), far, AgentSide(accept)).await.expect("connects");
        let gateway = running.await.expect("no panic").expect("connects").handle();
        assert!(agent.authenticate_none("x").await.expect("answers").success());
        let budget = WindowBudget::new(BUDGET);
        let pools = [(); 2].map(|()| Arc::new(Pool::new(budget.clone())));
        let meter = Arc::default();
        Self { gateway, _agent: agent, accepted, gateway_backlog, agent_backlog, meter, terms, budget, pools }
    }

    /// A channel, both of whose ends are still bare.
    async fn channel(&mut self) -> (Channel<server::Msg>, Channel<client::Msg>) {
        let near = self.gateway.channel_open_forwarded_tcpip("web", 1, "", 0).await.expect("opens");
        (near, self.accepted.recv().await.expect("accepted"))
    }

    fn carry_near(&self, channel: Channel<server::Msg>) -> (UserEnd, JoinHandle<CarryEnd>) {
        let (local, user) = pipe();
        let (backlog, meter) = (Arc::clone(&self.gateway_backlog), Arc::clone(&self.meter));
        let flow = Flow::Credit(self.terms, Arc::clone(&self.pools[0]));
        (user, tokio::spawn(async move { carry(channel, local, flow, &backlog, &meter).await }))
    }

    fn carry_far(&self, channel: Channel<client::Msg>) -> (UserEnd, JoinHandle<CarryEnd>) {
        let (local, user) = pipe();
        let (backlog, meter) = (Arc::clone(&self.agent_backlog), Arc::new(Meter::default()));
        let flow = Flow::Credit(self.terms, Arc::clone(&self.pools[1]));
        (user, tokio::spawn(async move { carry(channel, local, flow, &backlog, &meter).await }))
    }

    /// A stream with both ends carried.
    async fn stream(&mut self) -> Stream {
        let (near, far) = self.channel().await;
        let (near, near_end) = self.carry_near(near);
        let (far, far_end) = self.carry_far(far);
        Stream { near, far, ends: [near_end, far_end] }
    }
}

struct Stream {
    near: UserEnd,
    far: UserEnd,
    ends: [JoinHandle<CarryEnd>; 2],
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("the deadline is generous")
}

/// Sends `length` bytes each way at the same time and checks what arrives.
async fn exchange(near: UserEnd, far: UserEnd, length: usize) {
    let sides = [near, far].map(|side| {
        let (mut reader, mut writer) = tokio::io::split(side);
        let sent = pattern(length);
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            writer.write_all(&sent).await.expect("taken");
            writer.shutdown().await.expect("half-closed");
        });
        tokio::spawn(async move {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).await.expect("an orderly end");
            assert!(received == expected, "what arrives is what was sent");
            writing.await.expect("no panic");
        })
    });
    for side in sides {
        side.await.expect("no panic");
    }
}

#[tokio::test]
async fn bytes_pass_both_ways_and_each_direction_ends_by_itself() {
    let mut tunnel = Tunnel::new().await;
    let Stream { mut near, mut far, ends } = tunnel.stream().await;
    let question = pattern(5_000_000);
    let expected = question.clone();
    let asking = tokio::spawn(async move {
        near.write_all(&question).await.expect("taken");
        near.shutdown().await.expect("half-closed");
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.expect("an orderly end");
        answer
    });
    let mut received = Vec::new();
    within(far.read_to_end(&mut received)).await.expect("an orderly end");
    assert!(received == expected, "what arrives is what was sent");
    far.write_all(b"answer after the end of the question").await.expect("taken");
    far.shutdown().await.expect("closed");
    drop(far);
    assert_eq!(within(asking).await.expect("no panic"), b"answer after the end of the question");
    let [near_end, far_end] = ends;
    let near_end = within(near_end).await.expect("no panic");
    assert_eq!(near_end, CarryEnd { received: 36, sent: 5_000_000, orderly: true });
    assert!(within(far_end).await.expect("no panic").orderly);
    assert_eq!((tunnel.meter.sent(), tunnel.meter.received(), tunnel.meter.streams()), (5_000_000, 36, 0));
}

#[tokio::test]
async fn reader_that_stops_stalls_no_other_stream_in_either_direction() {
    let mut tunnel = Tunnel::new().await;
    let flood = |mut writer: UserEnd| {
        tokio::spawn(async move {
            let chunk = vec![1; 256 * 1024];
            while writer.write_all(&chunk).await.is_ok() {}
        })
    };
    // Nobody ever reads at the other ends of these.
    let down = tunnel.stream().await;
    let up = tunnel.stream().await;
    let floods = [flood(down.far), flood(up.near)];
    let unread = (down.near, up.far);
    for _ in 0..3 {
        let Stream { near, far, .. } = tunnel.stream().await;
        within(exchange(near, far, 10_000_000)).await;
    }
    assert!(floods.iter().all(|flood| !flood.is_finished()), "the floods wait for their own readers");
    drop(unread);
}

#[tokio::test]
async fn bulk_in_both_directions_on_many_streams_never_deadlocks() {
    let mut tunnel = Tunnel::new().await;
    let mut exchanges = Vec::new();
    for _ in 0..8 {
        let Stream { near, far, .. } = tunnel.stream().await;
        exchanges.push(tokio::spawn(exchange(near, far, 8_000_000)));
    }
    for exchange in exchanges {
        within(exchange).await.expect("no panic");
    }
    assert_eq!(tunnel.gateway_backlog.bytes(), 0);
}

#[tokio::test]
async fn stalled_stream_keeps_no_more_than_its_credit() {
    let mut tunnel = Tunnel::new().await;
    let Stream { near, mut far, .. } = tunnel.stream().await;
    let chunk = vec![1; 64 * 1024];
    let mut taken: u32 = 0;
    while let Ok(written) = timeout(Duration::from_secs(1), far.write_all(&chunk)).await {
        written.expect("the stream lives");
        taken += chunk.len() as u32;
    }
    // A window, one read in the pump, and a pipe's capacity at each end.
    let most = (LONE as usize + 2) * MAX_PACKET as usize + 4 * 64 * 1024;
    assert!((SHARED * MAX_PACKET / 2..=most as u32).contains(&taken), "{taken} bytes were taken");
    drop(near);
}

#[tokio::test]
async fn many_tiny_messages_pass() {
    let mut tunnel = Tunnel::new().await;
    let Stream { mut near, mut far, .. } = tunnel.stream().await;
    let writer = tokio::spawn(async move {
        for byte in pattern(3000) {
            far.write_all(&[byte]).await.expect("taken");
            tokio::task::yield_now().await;
        }
        far.shutdown().await.expect("closed");
    });
    let mut received = Vec::new();
    within(near.read_to_end(&mut received)).await.expect("an orderly end");
    assert_eq!(received, pattern(3000));
    writer.await.expect("no panic");
}

#[tokio::test]
async fn local_end_that_is_given_up_closes_the_stream_though_nothing_is_written_to_it() {
    for half_closed in [false, true] {
        let mut tunnel = Tunnel::new().await;
        let Stream { mut near, mut far, ends } = tunnel.stream().await;
        if half_closed {
            near.shutdown().await.expect("half-closed");
            within(far.read_to_end(&mut Vec::new())).await.expect("an orderly end");
        }
        drop(near);
        let [near_end, far_end] = ends;
        assert!(!within(near_end).await.expect("no panic").orderly);
        if half_closed {
            within(far_end).await.expect("no panic");
        } else {
            assert!(within(far.read_to_end(&mut Vec::new())).await.is_err(), "the far end sees a reset");
        }
    }
}

#[tokio::test]
async fn close_without_end_of_file_resets_the_other_side_after_what_was_sent() {
    let mut tunnel = Tunnel::new().await;
    let (near, far) = tunnel.channel().await;
    let (mut user, end) = tunnel.carry_near(near);
    far.data_bytes(vec![5; 100_000]).await.expect("sent");
    far.close().await.expect("sent");
    let mut received = Vec::new();
    let error = within(user.read_to_end(&mut received)).await.expect_err("no orderly end");
    assert_eq!((received.len(), error.kind()), (100_000, io::ErrorKind::ConnectionReset));
    assert!(!within(end).await.expect("no panic").orderly);
}

#[tokio::test]
async fn close_right_after_end_of_file_loses_nothing_on_a_slow_reader() {
    let mut tunnel = Tunnel::new().await;
    let (near, far) = tunnel.channel().await;
    let (mut user, end) = tunnel.carry_near(near);
    user.shutdown().await.expect("half-closed");
    // As much as may be sent before anything is granted.
    let sent = pattern((SHARED * MAX_PACKET) as usize);
    far.data_bytes(sent.clone()).await.expect("sent");
    far.eof().await.expect("sent");
    far.close().await.expect("sent");
    let mut received = Vec::new();
    let mut part = [0; 10_000];
    loop {
        tokio::task::yield_now().await;
        match within(user.read(&mut part)).await.expect("an orderly end") {
            0 => break,
            length => received.extend_from_slice(&part[..length]),
        }
    }
    assert!(received == sent);
    assert!(within(end).await.expect("no panic").orderly);
}

#[tokio::test]
async fn peer_that_ignores_credit_loses_the_stream_and_only_that() {
    let mut tunnel = Tunnel::new().await;
    let bystander = tunnel.stream().await;
    let (near, far) = tunnel.channel().await;
    let (user, end) = tunnel.carry_near(near);
    for _ in 0..(SHARED + 10) {
        far.data_bytes(vec![0; MAX_PACKET as usize]).await.expect("sent");
    }
    assert!(!within(end).await.expect("no panic").orderly);
    drop(user);
    within(exchange(bystander.near, bystander.far, 1_000_000)).await;
}

#[tokio::test]
async fn message_that_is_too_long_ends_its_stream() {
    let mut tunnel = Tunnel::on(Terms::ADAPTIVE, 2 * MAX_PACKET).await;
    let (near, far) = tunnel.channel().await;
    let (_user, end) = tunnel.carry_near(near);
    far.data_bytes(vec![0; MAX_PACKET as usize + 1]).await.expect("sent");
    assert!(!within(end).await.expect("no panic").orderly);
}

#[tokio::test]
async fn no_grant_lets_more_out_than_the_terms_allow() {
    for terms in [Terms::FIXED, Terms::ADAPTIVE] {
        let mut tunnel = Tunnel::on(terms, MAX_PACKET).await;
        let (near, far) = tunnel.channel().await;
        far.extended_data_bytes(GRANT, u32::MAX.to_be_bytes().to_vec()).await.expect("sent");
        let messages = messages_sent_in_vain(&tunnel, near, far).await;
        // What was sent before the grant came is not held any more.
        assert!((terms.most..=terms.most + terms.initial).contains(&messages), "{messages}");
    }
}

#[tokio::test]
async fn without_grants_the_first_credit_is_all() {
    for terms in [Terms::FIXED, Terms::ADAPTIVE] {
        let mut tunnel = Tunnel::on(terms, MAX_PACKET).await;
        let (near, far) = tunnel.channel().await;
        assert_eq!(messages_sent_in_vain(&tunnel, near, far).await, terms.initial);
    }
}

#[tokio::test]
async fn quick_reader_gets_a_larger_window_and_gives_it_back() {
    let mut tunnel = Tunnel::new().await;
    let Stream { near, far, ends } = tunnel.stream().await;
    within(exchange(near, far, 20_000_000)).await;
    for end in ends {
        assert!(within(end).await.expect("no panic").orderly);
    }
    assert_eq!(tunnel.budget.taken(), 0);
    for pool in &tunnel.pools {
        assert!(pool.round_trip().is_some(), "a bulk stream shows the path's delay");
    }
}

/// Floods `near` towards a peer that takes all and never grants anything more; the messages that came.
async fn messages_sent_in_vain(
    tunnel: &Tunnel,
    near: Channel<server::Msg>,
    mut far: Channel<client::Msg>,
) -> u32 {
    let (mut user, _end) = tunnel.carry_near(near);
    let flood = tokio::spawn(async move {
        let chunk = vec![1; 256 * 1024];
        while user.write_all(&chunk).await.is_ok() {}
    });
    let mut messages = 0;
    while let Ok(message) = timeout(Duration::from_secs(1), far.wait()).await {
        if matches!(message.expect("the channel lives"), ChannelMsg::Data { .. }) {
            messages += 1;
        }
    }
    flood.abort();
    messages
}

#[tokio::test]
async fn broken_connection_resets_every_stream() {
    let mut tunnel = Tunnel::new().await;
    let Stream { mut near, far: _far, .. } = tunnel.stream().await;
    near.write_all(b"hello").await.expect("taken");
    tunnel
        .gateway
        .disconnect(russh::Disconnect::ByApplication, String::new(), String::new())
        .await
        .expect("told");
    let mut received = Vec::new();
    let error = within(near.read_to_end(&mut received)).await.expect_err("no orderly end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
