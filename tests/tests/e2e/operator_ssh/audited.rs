//! What the audit log tells of operators that come over SSH.

use shared::wire::admin::{AuditActorKind, AuditOutcome, AuditVia};
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::site::{EDGE, Site};

use super::{GW, Operator};
use crate::audit::records;

#[tokio::test]
async fn logins_streams_and_refusals_over_ssh_are_recorded_with_bytes() {
    let echo = Tcp::echo().await;
    let mut site = Site::with("echo", echo.address).await;
    let operator = Operator::of(&site.gateway).await;
    let (forwarding, mut stream) = operator.connect(&format!("echo.{EDGE}:1")).await;
    assert_echo(&mut stream, &[3; 3000]).await;
    drop(stream);
    drop(forwarding);
    assert_ne!(operator.ssh(&["-W", "nothing.nowhere:1", GW]).await.code, 0);
    assert_ne!(operator.ssh(&[GW, "id"]).await.code, 0);
    let stranger = Operator::of(&site.gateway).await;
    let gone = format!("/api/v1/ssh-keys/{}", stranger.key_id);
    assert!(site.gateway.admin.call(hyper::Method::DELETE, &gone).await.status.is_success());
    assert_eq!(stranger.ssh(&[GW]).await.code, 255);
    assert!(site.gateway.stop().await.success());

    let records = records(&site.gateway.data());
    let of = |action: &str| records.iter().filter(|it| it.action == action).collect::<Vec<_>>();
    let login = of("ssh.login")[0];
    assert_eq!((login.actor.kind, login.actor.name.as_str()), (AuditActorKind::SshKey, "ada"));
    assert_eq!(login.actor.id.map(|id| id.to_string()), Some(operator.key_id.clone()));
    let strange = of("ssh.login").into_iter().find(|it| it.actor.kind == AuditActorKind::Stranger);
    assert_eq!(strange.map(|it| (it.outcome, it.actor.name.as_str())), Some((AuditOutcome::Refused, "")));
    let closed = of("stream.close").into_iter().find(|it| it.via == Some(AuditVia::Ssh)).expect("its end");
    assert_eq!((closed.bytes_in, closed.bytes_out), (Some(3000), Some(3000)), "{closed:?}");
    assert_eq!(closed.edge.as_ref().map(|edge| edge.as_str()), Some(EDGE));
    let nowhere =
        of("stream.open").into_iter().find(|it| it.outcome == AuditOutcome::Refused).expect("a refusal");
    assert_eq!(nowhere.code.as_deref(), Some("edge-not-found"));
    assert_eq!(of("ssh.exec")[0].outcome, AuditOutcome::Refused);
    assert!(of("tunnel.login").iter().all(|it| it.actor.name == EDGE) && !of("tunnel.login").is_empty());
    let tunnel = of("tunnel.close")[0];
    assert!(tunnel.bytes_in >= Some(3000) && tunnel.bytes_out >= Some(3000), "{tunnel:?}");
}
