//! HTML in every field that an agent controls, and the pages on which operators see these fields.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use shared::wire::check_in::{
    CheckIn, FailedOffer, Hello, PROTOCOL_VERSION, SNAPSHOT_PATH, Service, ServiceKind, TunnelState,
};
use shared::wire::snapshot::{
    Address, Container, Disk, Docker, Image, Network, ServiceHealth, Snapshot, Volume,
};

use crate::agents::tunnel::SERVICE;
use crate::attacks::account::{Account, Book, Fate};
use crate::attacks::agent::Thief;
use crate::attacks::field::Field;

/// What must not reach a browser as it is: an element, and an attribute that ends early. It has a name that nothing else has.
const ELEMENT: &str = "<img id=tidegate-evil src=x onerror=alert(1)>";
const ATTRIBUTE: &str = "\" id='tidegate-evil' onmouseover='alert(1)";
/// What of it no page may have.
const RAW: [&str; 2] = ["<img id=tidegate-evil", "\" id='tidegate-evil'"];
/// What a page has that shows it as text.
const SHOWN: &str = "tidegate-evil";

/// Says it everywhere, and looks at every page.
pub(in crate::attacks) async fn fields(field: Field) -> Result<Account> {
    let (book, thief) = (Book::default(), Thief::with(&field, 7));
    let evil = format!("{ELEMENT}{ATTRIBUTE}");
    book.sent();
    thief.check_in(&CheckIn { hello: Some(hello(&evil)), failed: None }).await?;
    let (offer, _) = thief.offer().await?;
    book.sent();
    let failed = FailedOffer { offer: offer.id, reason: evil.clone() };
    thief.check_in(&CheckIn { hello: Some(hello(&evil)), failed: Some(failed) }).await?;
    book.sent();
    let stored = put_snapshot(&field, &thief, &evil).await?;
    book.must(stored == Fate::Answered(204), || format!("a snapshot with HTML in it was {stored}"));

    let name = &thief.edge().name;
    let edge = format!("/edges/{name}");
    let mut shown = 0;
    for page in [edge.as_str(), "/", "/?q=stolen", "/audit", "/health"] {
        let request = format!(
            "GET {page} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\naccept: text/html\r\nauthorization: Bearer {}\r\n\r\n",
            field.token().expose()
        );
        let answer = field.tell(field.newcomer(4000), request.as_bytes()).await.context("no page")?;
        book.met(Fate::of_answer(&answer));
        let text = String::from_utf8_lossy(&answer);
        for raw in RAW {
            book.must(!text.contains(raw), || format!("{page} has {raw} in it"));
        }
        shown += usize::from(text.contains(SHOWN));
    }
    // A page that shows nothing of it would prove nothing.
    book.must(shown > 0, || "no page shows what the agent said".to_owned());
    thief.leave().await?;
    Ok(book.account())
}

fn hello(evil: &str) -> Hello {
    Hello {
        agent: evil.to_owned(),
        protocol: PROTOCOL_VERSION,
        hostname: evil.to_owned(),
        services: vec![Service {
            name: SERVICE.parse().expect("lower-case letters are a name"),
            kind: ServiceKind::Http,
            target: evil.to_owned(),
        }],
        tunnel: TunnelState::Closed,
    }
}

/// A snapshot whose every text is this.
async fn put_snapshot(field: &Field, thief: &Thief, evil: &str) -> Result<Fate> {
    let mut snapshot = Snapshot::default();
    snapshot.host.disks.push(Disk::default());
    snapshot.host.addresses.push(Address::default());
    snapshot.problems.push(String::new());
    let labels = BTreeMap::from([(evil.to_owned(), String::new())]);
    let container =
        Container { ports: vec![String::new()], labels, command: "x".to_owned(), ..Container::default() };
    snapshot.docker.push(Docker {
        containers: vec![container],
        images: vec![Image { tags: vec![String::new()], ..Image::default() }],
        volumes: vec![Volume::default()],
        networks: vec![Network::default()],
        ..Docker::default()
    });
    let mut json = serde_json::to_value(snapshot)?;
    fill(&mut json, evil);
    let [service] = hello(evil).services.try_into().expect("it was made with one");
    let health = ServiceHealth { service, answers: false, reason: Some(evil.to_owned()) };
    json["agent"]["services"] = serde_json::json!([health]);
    let packed = super::pack(&serde_json::to_vec(&json)?)?;
    let head = super::head(thief.edge(), SNAPSHOT_PATH);
    let head = format!("{head}content-encoding: gzip\r\ncontent-length: {}\r\n\r\n", packed.len());
    let answer = field.tell(thief.edge().source, &[head.as_bytes(), &packed].concat()).await?;
    Ok(Fate::of_answer(&answer))
}

/// Puts the text in the place of every text.
fn fill(value: &mut serde_json::Value, evil: &str) {
    match value {
        serde_json::Value::String(text) => evil.clone_into(text),
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| fill(value, evil)),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|value| fill(value, evil)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}
