//! Disks that fail under a gateway at work: full, read-only, unable to sync, silent. Each time the tunnel that is open stays
//! open, check-ins of the agent that is bound go on, what can't be stored is refused with the reason, which `/readyz` says
//! too, and everything works again by itself once the disk does.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fixtures::disk::{Disk, Fault};
use futures_util::future::join_all;
use hyper::Method;
use serde_json::json;
use shared::wire::admin::{Edge, Health, HealthStatus};
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::gateway::{GatewayOptions, Listen};
use tests::http::{Answer, Http};
use tests::liar::Liar;
use tests::process::{binary, run};
use tests::site::Site;
use tests::small_disk::SmallDisk;
use tests::wait::{SOON, until};
use tokio::net::TcpStream;

const CAPACITY: u64 = 48 * 1024 * 1024;
/// Looks at the gateway's state, all at once, while its disk hangs.
const LOOKS: usize = 100;
/// Threads that they may cost: one at the disk, one at what the kernel says of the process, and some for whatever else the
/// runtime has to do meanwhile.
const MORE_THREADS: u64 = 20;
/// An answer that waits for no disk.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A site whose gateway keeps its data on some disk, with a stream through its tunnel.
struct Scene {
    site: Site,
    listen: Listen,
    stream: TcpStream,
    _echo: Tcp,
}

impl Scene {
    async fn on(data: std::path::PathBuf) -> Self {
        let echo = Tcp::echo().await;
        let gateway = GatewayOptions::default().data(data).start().await;
        let site = Site::at(gateway, &[("echo", &echo.address)], |_| (), |agent| agent).await;
        let listen = site.listen("echo").await;
        let mut stream = listen.connect().await;
        assert_echo(&mut stream, b"before").await;
        Self { site, listen, stream, _echo: echo }
    }

    async fn enrol(&self, name: &str) -> Answer {
        enrol(self.site.http(), name).await
    }

    /// What needs no disk goes on: the stream, a new one, check-ins, what is there to be seen.
    async fn goes_on(&mut self) {
        assert_echo(&mut self.stream, b"meanwhile").await;
        assert_echo(&mut self.listen.connect().await, b"a new one").await;
        self.site.wait_check_in().await;
    }

    /// Waits until a change is refused for want of the disk, and gives the problem's text.
    async fn refuses(&self, name: &str) -> String {
        // Room for the records of the first changes was reserved before.
        let mut number = 0;
        until(SOON, "a change is refused", async || {
            number += 1;
            let answer = self.enrol(&format!("{name}-{number}")).await;
            match answer.status.as_u16() {
                201 => None,
                status @ (503 | 507) => Some(answer.problem(status).detail),
                _ => panic!("{answer:?}"),
            }
        })
        .await
    }

    /// Waits until `/readyz` says what is wrong, and with which parts.
    async fn said(&self, word: &str) -> Vec<String> {
        until(SOON, &format!("/readyz says {word:?}"), async || {
            let answer = self.site.gateway.admin.get("/readyz").await;
            let health: Health = (answer.status == 503).then(|| answer.json())?;
            let ill: Vec<_> =
                health.parts.iter().filter(|(_, part)| part.status == HealthStatus::Unavailable).collect();
            let says =
                |reason: &Option<String>| reason.as_deref().is_some_and(|reason| reason.contains(word));
            let all = !ill.is_empty() && ill.iter().all(|(_, part)| says(&part.reason));
            all.then(|| ill.into_iter().map(|(name, _)| name.clone()).collect())
        })
        .await
    }

    /// Waits until everything works again, without anybody's doing; what was acknowledged then is there after a restart.
    async fn recovers(&mut self, name: &str) {
        until(SOON, "it is ready again", async || {
            (self.site.gateway.admin.get("/readyz").await.status == 200).then_some(())
        })
        .await;
        until(SOON, "a change is stored again", async || {
            (self.enrol(name).await.status == 201).then_some(())
        })
        .await;
        self.goes_on().await;
    }
}

async fn enrol(http: &Http, name: &str) -> Answer {
    http.send_json(Method::POST, "/api/v1/edges", &json!({ "name": name })).await.expect("an answer")
}

/// An agent that has not been bound yet is told to come back; the key is its own then.
async fn assert_not_bound(scene: &Scene, newcomer: &Liar) {
    let problem = newcomer.check_in(&Liar::hello(&["web"])).await.problem(503);
    assert_eq!(problem.code, "store-failed");
    assert_eq!(scene.site.gateway.admin.edge("newcomer").await.last_seen, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_read_only_or_unable_to_sync_stops_nothing_but_changes() {
    let disk = Disk::mount(CAPACITY).expect("this test mounts a file system: it needs /dev/fuse, and root");
    let mut scene = Scene::on(disk.path().join("data")).await;
    let created = scene.site.gateway.admin.create("newcomer").await;
    let newcomer = Liar::new(scene.site.http(), &created);
    for (fault, word, name) in [
        (Fault::Full, "full", "full"),
        (Fault::ReadOnly, "Read-only", "read-only"),
        (Fault::SyncFails, "nput/output", "unsynced"),
    ] {
        disk.set(fault);
        let detail = scene.refuses(name).await;
        assert!(!detail.is_empty(), "{fault:?}");
        assert_not_bound(&scene, &newcomer).await;
        let parts = scene.said(word).await;
        println!("{fault:?}: {detail}; not ready: {parts:?}");
        scene.goes_on().await;
        disk.set(Fault::None);
        scene.recovers(&format!("after-{name}")).await;
    }
    until(SOON, "the newcomer is bound", async || {
        (newcomer.check_in(&Liar::hello(&["web"])).await.status == 200).then_some(())
    })
    .await;
    let acknowledged = scene.site.gateway.admin.edges().await;
    scene.site.gateway.kill_and_resume().await;
    // What was refused may be there or not.
    let stored = scene.site.gateway.admin.edges().await;
    for edge in acknowledged {
        let same = |other: &Edge| (&other.name, other.bound) == (&edge.name, edge.bound);
        assert!(stored.iter().any(same), "{} was acknowledged", edge.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_file_system_that_is_full_stops_nothing_but_changes() {
    let disk = SmallDisk::mount(CAPACITY).await;
    let mut scene = Scene::on(disk.path().join("data")).await;
    disk.fill();
    let detail = scene.refuses("full").await;
    assert!(detail.contains("full"), "{detail}");
    scene.said("full").await;
    let mut check = Command::new(binary("tidegate"));
    check.args(["healthcheck", "--ready", "--api-addr", &scene.site.gateway.api().to_string()]);
    let ended = run(check).await;
    assert_ne!(ended.code, 0, "{ended:?}");
    scene.goes_on().await;
    disk.free();
    scene.recovers("after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_keeps_nobody_waiting_who_does_not_need_it() {
    let disk = Disk::mount(CAPACITY).expect("this test mounts a file system: it needs /dev/fuse, and root");
    let mut scene = Scene::on(disk.path().join("data")).await;
    let http = Arc::new(scene.site.http().clone());
    scene.site.gateway.admin.get("/api/v1/status").await.expect(200);
    let created = scene.site.gateway.admin.create("newcomer").await;
    let newcomer = Liar::new(scene.site.http(), &created);
    let threads = scene.site.gateway.process().threads();
    disk.set(Fault::Hangs);

    // Begun before anybody can know: both wait, and are told in the end that they may yet be done.
    let binding = tokio::spawn({
        let newcomer = newcomer.clone();
        async move { newcomer.check_in(&Liar::hello(&["web"])).await }
    });
    let early = tokio::spawn({
        let http = Arc::clone(&http);
        async move { enrol(&http, "early").await }
    });
    let looked = Instant::now();
    let looks = (0..LOOKS).map(|_| http.get("/api/v1/status"));
    for look in join_all(looks).await {
        let status = look.expect("an answer").expect(200).json::<shared::wire::admin::Status>();
        assert_eq!(status.gateway.and_then(|gateway| gateway.disk_free_bytes), None, "nobody can tell");
    }
    let (took, more) = (looked.elapsed(), scene.site.gateway.process().threads().saturating_sub(threads));
    println!("{LOOKS} looks at the gateway's state took {took:?} and {more} more threads");
    assert!(more < MORE_THREADS, "{more} more threads for {LOOKS} looks");
    scene.goes_on().await;

    let parts = scene.said("has not answered").await;
    assert!(parts.contains(&"store".to_owned()), "{parts:?}");
    let begun = Instant::now();
    let refused = enrol(&http, "late").await.problem(503);
    assert!(refused.detail.contains("does not answer"), "{refused:?}");
    assert!(begun.elapsed() < AT_ONCE, "it was not begun: {:?}", begun.elapsed());
    let told = early.await.expect("no panic").problem(503);
    assert!(told.detail.contains("look before you try again"), "{told:?}");
    assert_eq!(binding.await.expect("no panic").problem(503).code, "store-failed");
    scene.goes_on().await;

    disk.set(Fault::None);
    scene.recovers("after").await;
    newcomer.check_in(&Liar::hello(&["web"])).await.expect(200);
    // What was begun in time is done, and what was refused is not.
    scene.site.gateway.admin.get("/api/v1/edges/early").await.expect(200);
    scene.site.gateway.admin.get("/api/v1/edges/late").await.problem(404);
    scene.site.gateway.log().wait_for("the store's disk answers again", SOON).await;
}
