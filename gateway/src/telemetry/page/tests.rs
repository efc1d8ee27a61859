//! The page against its documentation, and against floods.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::audit::Audit;
use crate::domain::event::{Cause, What};
use crate::readiness::Readiness;
use crate::store::{SledStore, Store};
use crate::telemetry::{CheckInLabel, LoginLabel, Telemetry, Timed, TransportLabel};
use crate::tunnels::Tunnels;

struct Bench {
    page: Page,
    tunnels: Tunnels,
    telemetry: Telemetry,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the store");
        let telemetry = Telemetry::default();
        let store = Arc::new(SledStore::open(&folder.path().join("s"), 1 << 20).expect("a fresh store"));
        let store: Arc<dyn Store> = Arc::new(Timed::new(store, telemetry.clone()));
        let records = store.load().expect("a fresh store");
        let audit = Audit::open(folder.path(), 1 << 20).expect("an empty folder");
        let tunnels = Tunnels::start(Arc::clone(&store), records, audit.clone(), telemetry.clone());
        let readiness = Readiness::new(store, audit);
        let folder_path = folder.path().to_owned();
        let admission = crate::admission::Admission::new(1000, vec![], telemetry.clone());
        let memory = crate::budget::memory::Memory::new(1 << 30, 0);
        let budget = crate::budget::Budget::new(memory, telemetry.clone());
        let vitals =
            Vitals::new(telemetry.clone(), tunnels.clone(), readiness, (admission, budget), folder_path);
        Self { page: Page::new(vitals), tunnels, telemetry, _folder: folder }
    }

    async fn create(&self, name: &str) {
        let new = shared::wire::admin::CreateEdge {
            name: name.parse().expect("a label"),
            cluster: false,
            interval_s: None,
            idle_timeout_s: None,
            tags: vec![format!("tag-of-{name}")],
        };
        self.tunnels.create_edge(new).await.expect("created");
    }

    /// The value of the line that begins with this.
    async fn value(&self, line: &str) -> f64 {
        let text = self.page.text().await;
        let value = text.lines().find_map(|other| other.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {line} in\n{text}")).parse().expect("a number")
    }
}

/// Names as scrapers know them, with the suffix that counters have.
fn names(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| match line.split_once(' ').expect("a name and a type") {
            (name, "counter") => format!("{name}_total"),
            (name, "info") => format!("{name}_info"),
            (name, _) => name.to_owned(),
        })
        .collect()
}

/// Names with their labels, as the documentation's tables have them: `name{label,label}`.
fn documented() -> BTreeSet<String> {
    let text = include_str!("../../../../docs/metrics.md");
    let (tables, _) = text.split_once("## What to wake").expect("the section with expressions comes last");
    let names = tables.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// The same of what is on the page.
fn shown(page: &str) -> BTreeSet<String> {
    names(page)
        .into_iter()
        .map(|name| {
            let labelled = page.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix('{'));
            let labels = labelled.and_then(|labels| labels.split_once('}')).map(|(labels, _)| labels);
            let labels: Vec<_> = labels
                .into_iter()
                .flat_map(|it| it.split(','))
                .filter_map(|it| it.split('=').next())
                .collect();
            if labels.is_empty() { name } else { format!("{name}{{{}}}", labels.join(",")) }
        })
        .collect()
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_metric_is_there() {
    let bench = Bench::new();
    bench.telemetry.requests("edge.list");
    assert_eq!(shown(&bench.page.text().await), documented());
}

#[tokio::test]
async fn page_says_what_happened() {
    let bench = Bench::new();
    bench.create("shop").await;
    assert_eq!(bench.value("tidegate_edges{status=\"never-joined\"}").await, 1.0);
    assert_eq!(bench.value("tidegate_events_total{event=\"created\"}").await, 1.0);
    assert_eq!(bench.value("tidegate_store_writes_total{outcome=\"stored\"}").await, 1.0);
    assert_eq!(bench.value("tidegate_store_write_seconds_count").await, 1.0);
    assert_eq!(bench.value("tidegate_store_up").await, 1.0);
    bench.telemetry.check_in(CheckInLabel::Unchanged);
    bench.telemetry.login(LoginLabel::EdgeKey);
    bench.telemetry.connected(TransportLabel::Tls);
    bench.telemetry.requests("edge.list").answered(http::StatusCode::NOT_FOUND);
    let reason = "it broke".to_owned();
    bench.telemetry.happened(&What::TunnelClosed { link: None, cause: Cause::Lost, reason, open_ms: 1 });
    for line in [
        "tidegate_check_ins_total{answer=\"unchanged\"}",
        "tidegate_ssh_logins_total{login=\"edge-key\"}",
        "tidegate_http_connections_accepted_total{transport=\"tls\"}",
        "tidegate_http_requests_total{operation=\"edge.list\",status=\"4xx\"}",
        "tidegate_tunnels_closed_total{cause=\"lost\"}",
    ] {
        assert_eq!(bench.value(line).await, 1.0, "{line}");
    }
    assert!(bench.value("process_resident_memory_bytes").await > 1e6);
    assert!(bench.value("process_start_time_seconds").await > 1.7e9);
    assert!(bench.value("tidegate_disk_free_bytes").await > 0.0);
    let live = bench.telemetry.connection();
    assert_eq!(bench.value("tidegate_http_connections").await, 1.0);
    drop(live);
    assert_eq!(bench.value("tidegate_http_connections").await, 0.0);
}

#[tokio::test]
async fn page_is_as_long_with_many_edges_as_with_none_and_names_none() {
    let bench = Bench::new();
    let lines = |page: String| page.lines().count();
    let before = lines(bench.page.text().await);
    for number in 0..50 {
        bench.create(&format!("secret-site-{number}")).await;
    }
    let page = bench.page.text().await;
    assert!(!page.contains("secret-site") && !page.contains("tag-of"), "{page}");
    assert_eq!(lines(page), before);
}
