//! Stored data of other releases: an earlier one's is upgraded, with a copy of it beside; a later one's is refused. And what a
//! restart, which every upgrade is, leaves of what agents and operators had.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::json;
use tempfile::TempDir;
use tests::fakes::http::Web;
use tests::gateway::{Gateway, GatewayOptions};
use tests::process::{Ended, Log, Process, binary, run};
use tests::site::{EDGE, Site};
use tests::tool;
use tests::wait::{SOON, until};

/// The store that format 1 ended with, and the admin's token: written by the last program that knew no other format.
const FORMAT_1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/stores/format-1.tar.gz");

async fn unpacked() -> TempDir {
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let mut tar = tool::command("tar", "tar");
    tar.arg("-xzf").arg(FORMAT_1).arg("-C").arg(folder.path());
    run(tar).await.ok();
    folder
}

fn serve(folder: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(binary("tidegate"));
    command.args([
        "serve",
        "--api-addr",
        "127.0.0.1:0",
        "--ssh-addr",
        "127.0.0.1:0",
        "--metrics-addr",
        "none",
    ]);
    command.arg("--data-dir").arg(folder.join("data"));
    command
}

/// Changes one record of the database of records, as a release of another time would have it.
fn write_raw(folder: &Path, key: &str, value: Option<&str>) {
    let database = folder.join("data/store/records");
    for entry in std::fs::read_dir(&database).expect("there").map(|entry| entry.expect("listed")) {
        // What a killed process left half made, as the gateway itself removes it.
        if entry.file_name().to_string_lossy().ends_with(".generating") {
            std::fs::remove_file(entry.path()).expect("removed");
        }
    }
    let database = sled::open(database).expect("nobody else has it");
    let tree = database.open_tree("records").expect("there");
    match value {
        Some(value) => tree.insert(key, value).expect("written"),
        None => tree.remove(key).expect("removed"),
    };
    database.flush().expect("on the disk");
}

/// Copies of the store from before an upgrade.
fn copies(folder: &Path) -> Vec<PathBuf> {
    let copies = folder.join("data/store-before-upgrade");
    std::fs::read_dir(copies).into_iter().flatten().map(|entry| entry.expect("listed").path()).collect()
}

async fn has_what_format_1_had(gateway: &Gateway) {
    let shop = gateway.admin.edge("shop-17").await;
    assert!(shop.bound && shop.tags == ["north"], "{shop:?}");
    assert!(gateway.admin.edge("kiosk").await.cluster);
    assert!(gateway.admin.snapshot("shop-17").await.is_some());
    let settings = gateway.admin.get("/api/v1/settings").await.expect(200);
    assert_eq!(settings.json::<serde_json::Value>()["interval_s"], 7);
    let body = json!({ "name": "ada", "password": "correct horse battery staple", "label": "test" });
    let anonymous = gateway.admin.http.anonymous();
    anonymous.send_json(Method::POST, "/api/v1/login", &body).await.expect("an answer").expect(201);
}

#[tokio::test]
async fn a_store_of_an_earlier_release_is_upgraded_and_a_copy_of_it_kept() {
    let folder = unpacked().await;
    let mut gateway = GatewayOptions::default().start_in(folder).await;
    has_what_format_1_had(&gateway).await;
    let copies = copies(gateway.folder());
    let [copy] = copies.as_slice() else { panic!("one copy, got {copies:?}") };
    let name = copy.file_name().and_then(|name| name.to_str()).expect("a plain name");
    assert!(name.starts_with("format-1-"), "{name}");

    // Going back, and once more forth: what was copied is a store like any other.
    assert!(gateway.stop().await.success());
    let store = gateway.data().join("store");
    std::fs::remove_dir_all(&store).expect("removed");
    let mut copying = tool::command("cp", "coreutils");
    copying.arg("-a").arg(copy).arg(&store);
    run(copying).await.ok();
    gateway.resume().await;
    has_what_format_1_had(&gateway).await;
    assert!(gateway.log().contains("the store is upgraded"));
}

#[tokio::test]
async fn a_store_of_a_later_release_is_refused_and_left_alone() {
    let folder = unpacked().await;
    write_raw(folder.path(), "format", Some("77"));
    write_raw(folder.path(), "release", Some("9.8.7"));
    let ended: Ended = run(serve(folder.path())).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    for word in
        ["format 77", "9.8.7", env!("CARGO_PKG_VERSION"), "start tidegate 9.8.7 or a newer one", "backup"]
    {
        assert!(ended.stderr.contains(word), "{word:?} is not in {ended:?}");
    }
    assert!(copies(folder.path()).is_empty());
    write_raw(folder.path(), "release", None);
    write_raw(folder.path(), "format", Some("1"));
    has_what_format_1_had(&GatewayOptions::default().start_in(folder).await).await;
}

/// The moments of a start at which the process dies: before, in and after the copy and the steps, in a debug build.
const KILLS: u32 = 12;
const APART: Duration = Duration::from_millis(9);

#[tokio::test]
async fn an_upgrade_that_is_killed_at_any_moment_is_finished_by_the_next_start() {
    let folder = unpacked().await;
    for kill in 1..=KILLS {
        let log = Log::default();
        let mut process = Process::start("tidegate serve", serve(folder.path()), &log);
        tokio::time::sleep(kill * APART).await;
        process.kill();
        // The database as it was left, at the old number or at the new one, and whole: the next start reads it.
        if kill.is_multiple_of(4) {
            write_raw(folder.path(), "release", None);
            write_raw(folder.path(), "format", Some("1"));
        }
    }
    let gateway = GatewayOptions::default().start_in(folder).await;
    has_what_format_1_had(&gateway).await;
    let copies = copies(gateway.folder());
    assert!((1..=3).contains(&copies.len()), "the newest ones are kept: {copies:?}");
    assert!(copies.iter().all(|copy| copy.join("records/db").exists()), "{copies:?}");
}

/// Seconds: the agent's next try comes within 1.5 s, and a login in a debug build on a busy machine takes its time.
const BACK: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_restart_drops_no_binding_and_brings_a_tunnel_that_is_held_back_within_seconds() {
    let web = Web::start().await;
    let mut site = Site::start(&[("web", &web.url())]).await;
    let endpoint = site.gateway.admin.edge(EDGE).await.endpoint_id;
    site.open_tunnel().await;
    // A listener holds the tunnel: it asks for it again by itself as soon as there is a gateway.
    assert_eq!(site.get("web", "/hello").await.expect(200).text(), "hello");
    assert!(site.gateway.stop().await.success());
    site.gateway.resume().await;
    let began = Instant::now();
    let record = site.gateway.admin.edge(EDGE).await;
    assert_eq!((record.endpoint_id, record.bound), (endpoint, true));
    let answer = until(SOON, "the service answers again", async || {
        let answer = site.get("web", "/hello").await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.text(), "hello");
    assert!(began.elapsed() < BACK, "{:?}", began.elapsed());
}
