//! What the site looks like now: host, agent, services, Docker Engines.
//!
//! The rules: whatever can't be found out is a line in `problems`, never a failure; the whole takes [`DEADLINE`] at most;
//! it is cut until it fits the wire; and no secret leaves in it: environments are not read, command lines, labels and
//! sentences are scrubbed ([`shared::scrub`]).

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use shared::scrub;
use shared::wire::check_in::ServiceKind;
use shared::wire::snapshot::{Agent, Docker, MAX_COMPRESSED, MAX_JSON, ServiceHealth, Snapshot};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout_at;

use crate::services::Service;

mod docker;
mod fit;
mod host;

/// Longest time for the whole; what is not there by then is a problem in it.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Longest wait for a service to accept a connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the host's facts and, beside them, its disks: a mount that hangs must not cost the rest.
const HOST_TIMEOUT: Duration = Duration::from_secs(5);

pub use host::name as host_name;

/// Takes a snapshot of this host and these services; `started` is when the agent did.
pub async fn take(services: &[Service], started: Instant) -> Snapshot {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let health = join_all(services.iter().map(probe));
    let engines =
        join_all(services.iter().map(async |service| {
            timeout_at(deadline, docker::engine(service)).await.map_err(|_| &service.name)
        }));
    let (facts, disks, health, engines) =
        tokio::join!(blocking(host::facts), blocking(host::disks), health, engines);
    let mut problems = Vec::new();
    let mut host = facts.unwrap_or_default();
    problems.append(&mut host.problems);
    let mut host = host.host;
    match disks {
        Some(disks) => host.disks = disks,
        None => problems.push("the disks could not be read in time: a mount may hang".to_owned()),
    }
    let mut docker: Vec<Docker> = Vec::new();
    for found in engines {
        match found {
            Ok(None) => {}
            Ok(Some((engine, engine_problems))) => {
                docker.push(engine);
                problems.extend(engine_problems);
            }
            Err(name) => problems.push(format!("the Docker Engine behind {name} did not answer in time")),
        }
    }
    for problem in &mut problems {
        *problem = scrub::text(problem);
    }
    // Nobody needs fractions of a second of a clock that may be minutes off.
    let taken_at = OffsetDateTime::now_utc().truncate_to_second();
    Snapshot {
        taken_at: taken_at.format(&Rfc3339).expect("a year of four digits has an RFC 3339 form"),
        host,
        agent: Agent {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: started.elapsed().as_secs(),
            services: health,
        },
        docker,
        problems,
    }
}

/// The snapshot as gzip of its JSON, shortened where it would be too large for the wire. Takes CPU time.
pub fn encode(mut snapshot: Snapshot) -> io::Result<Vec<u8>> {
    loop {
        let json = serde_json::to_vec(&snapshot)?;
        if json.len() <= MAX_JSON {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&json)?;
            let gzip = encoder.finish()?;
            if gzip.len() <= MAX_COMPRESSED {
                return Ok(gzip);
            }
        }
        if !fit::shorten(&mut snapshot) {
            return Err(io::Error::other("the snapshot is too large and has no list left to shorten"));
        }
    }
}

/// Runs what may block; `None` if it takes too long or panics.
async fn blocking<T: Send + 'static>(read: fn() -> T) -> Option<T> {
    tokio::time::timeout(HOST_TIMEOUT, tokio::task::spawn_blocking(read)).await.ok()?.ok()
}

async fn probe(service: &Service) -> ServiceHealth {
    let result = service.target.connect(PROBE_TIMEOUT).await;
    ServiceHealth {
        service: service.announced(),
        answers: result.is_ok(),
        reason: result.err().map(|error| scrub::text(&error.to_string())),
    }
}

/// Whether a Docker Engine may be behind it: engines listen on unix sockets and, plainly, on HTTP.
fn may_be_docker(service: &Service) -> bool {
    match service.announced().kind {
        ServiceKind::Unix | ServiceKind::Http => true,
        ServiceKind::Tcp => false,
    }
}

#[cfg(test)]
mod tests;
