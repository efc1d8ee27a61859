//! What is too large for memory, written as it comes: backups, and exports of the audit log.

use std::io::Write;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::exit::CliError;

/// Longest wait for the next piece: the gateway reads its disk, which may stall for a while.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Writes a body to its end and tells its size. `what` it is and where it goes (`shown`) are for whoever reads that it
/// failed.
pub async fn write_to(
    to: &mut impl Write,
    shown: &str,
    mut body: Incoming,
    what: &str,
) -> Result<u64, CliError> {
    let broke_off =
        |reason: String| CliError::Unreachable(format!("the gateway broke off the {what}: {reason}"));
    let mut size = 0;
    loop {
        let frame = timeout(STALL_TIMEOUT, body.frame()).await;
        match frame.map_err(|_| broke_off(format!("nothing came for {} s", STALL_TIMEOUT.as_secs())))? {
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    let written = to.write_all(bytes);
                    written.map_err(|error| CliError::failed(format!("can't write to {shown}"), error))?;
                    size += bytes.len() as u64;
                }
            }
            Some(Err(error)) => return Err(broke_off(error.to_string())),
            None => return Ok(size),
        }
    }
}
