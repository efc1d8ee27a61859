//! From a login to a link: the control channel of an agent of ours. Stock clients have none ([`super::stock`]).

use std::time::Duration;

use shared::id::ServiceName;
use shared::tunnel::control::{self, ControlReader, FromAgent, ToAgent};
use shared::tunnel::ssh;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::link::{Closer, Link, Parts};
use crate::tunnels::{Admitted, Tunnels};

/// How long the agent may take to accept the control channel; a few round trips.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// How long a message may wait for the agent to read it. It reads this channel whatever its streams do.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// Messages that may wait. When an agent leaves more unread, further ones are dropped: each is said again or timed out.
const QUEUE: usize = 16;

/// Runs the control channel of an agent of ours, in the version that it asked for, until it ends; the tunnel ends with it.
pub(super) async fn run(
    mut parts: Parts,
    version: u32,
    tunnels: Tunnels,
    closer: Closer,
    admitted: Admitted,
) {
    let opening = parts.handle.channel_open_forwarded_tcpip(ssh::CONTROL_NAME, version, "", 0);
    let Ok(Ok(channel)) = timeout(OPEN_TIME, opening).await else {
        closer.close("the agent did not accept the control channel");
        return;
    };
    let (reader, mut writer) = tokio::io::split(channel.into_stream());
    let (control, mut messages) = mpsc::channel::<ToAgent>(QUEUE);
    parts.control = Some(control);
    let mut services: Vec<ServiceName> = parts.services.keys().cloned().collect();
    services.sort();
    let (id, gone) = (parts.id, parts.gone.clone());
    tracing::info!(edge = %admitted.edge, link = id.0, services = services.len(), "tunnel open");
    tunnels.link_up(Link::new(parts), services).await;

    let writing = async {
        while let Some(message) = messages.recv().await {
            match timeout(WRITE_TIME, control::write(&mut writer, &message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return "the agent does not read its control channel",
            }
        }
        "the control channel ended"
    };
    let reading = async {
        let mut reader = ControlReader::new(reader);
        loop {
            match reader.read::<FromAgent>().await {
                Ok(Some(FromAgent::Closing)) => tunnels.ask_close(id).await,
                Ok(None) => return "the agent closed the control channel",
                Err(error) => {
                    tracing::debug!(edge = %admitted.edge, %error, "control channel");
                    return "the agent's control channel failed";
                }
            }
        }
    };
    tokio::select! {
        () = gone.cancelled() => {}
        reason = reading => closer.close(reason),
        reason = writing => closer.close(reason),
    }
}
