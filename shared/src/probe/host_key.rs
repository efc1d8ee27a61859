//! The SSH host key of a tunnel server.

use std::sync::{Arc, Mutex, PoisonError};

use russh::client;
use russh::keys::PublicKeyOrCertificate;
use tokio::time::timeout;

use super::{ProbeError, TIMEOUT};
use crate::dial::Dialer;
use crate::fingerprint::HostKeyFingerprint;
use crate::host_port::HostPort;
use crate::tunnel::ssh::{limits, preferred};

/// Fingerprint of the host key that the server at `address` proves to have.
pub async fn host_key(dialer: &Dialer, address: &HostPort) -> Result<HostKeyFingerprint, ProbeError> {
    let socket = dialer.dial(address).await?;
    let shown = Arc::new(Mutex::new(None));
    let config = client::Config { limits: limits(), preferred: preferred(), ..client::Config::default() };
    let connecting = client::connect_stream(Arc::new(config), socket, Witness(Arc::clone(&shown)));
    let ended = timeout(TIMEOUT, connecting).await;
    let key = shown.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (key, ended) {
        // The refusal of the key is how we end it.
        (Some(key), _) => Ok(key),
        (None, Ok(Err(source))) => Err(ProbeError::NoSsh { address: address.clone(), source }),
        (None, Ok(Ok(_)) | Err(_)) => Err(ProbeError::Silent { address: address.clone() }),
    }
}

/// Notes the key and refuses it.
struct Witness(Arc<Mutex<Option<HostKeyFingerprint>>>);

impl client::Handler for Witness {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        if let PublicKeyOrCertificate::PublicKey { key, .. } = shown {
            let fingerprint = HostKeyFingerprint::of(key);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_no_ssh_server_is_said_to_be_none() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address: HostPort =
            listener.local_addr().expect("bound").to_string().parse().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        });
        let error = host_key(&Dialer::direct(), &address).await.expect_err("no SSH");
        assert!(error.to_string().contains("does not speak SSH"), "{error}");
    }
}
