//! `tidegate serve` as a process: data folder, store, listeners and signals around [`crate::start`].

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::process::umask;
use shared::toml_file::{self, TomlFileError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{Config, ConfigError, Options};
use crate::data_dir::{DataDir, DataDirError};
use crate::identity::{Identity, IdentityError};
use crate::running::{BindError, Listeners, Running, StartError, start};
use crate::store::{FOLDER, OpenError, SledStore};

/// Why a gateway did not start, or did not stay.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "each says where it comes from, and its text is all that is ever done with it"
)]
pub enum ServeError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("can't open the store: {0}")]
    Store(#[from] OpenError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("can't listen for signals: {0}")]
    Signals(io::Error),
    #[error("a listener ended by itself; this is a defect, and the log has more")]
    Listener,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each says where it comes from")]
pub enum ConfigurationError {
    #[error(transparent)]
    File(#[from] TomlFileError),
    #[error(transparent)]
    Values(#[from] ConfigError),
}

/// The configuration from flags and environment, and from the file where one is named.
pub fn configuration(options: Options, file: Option<&Path>) -> Result<Config, ConfigurationError> {
    let options = match file {
        Some(file) => options.or_file(toml_file::load(file)?, file),
        None => options,
    };
    Ok(Config::new(&options)?)
}

/// Runs a gateway until SIGTERM or SIGINT and through its drain; a second one ends the drain's grace. SIGHUP reads the
/// TLS certificate and key anew.
pub async fn serve(config: &Config) -> Result<(), ServeError> {
    let mut signals = Signals::new().map_err(ServeError::Signals)?;
    // Whatever the store and others make from here on is nobody else's to read.
    umask(Mode::RWXG | Mode::RWXO);
    let folder = DataDir::open(&config.data_dir)?;
    let identity = Identity::load(&folder, config)?;
    let listeners = Listeners::bind(config).await?;
    let store = SledStore::open(&folder.join(FOLDER), config.store_cache)?;
    let mut running = start(config, identity, listeners, Arc::new(store.clone())).await?;
    let outcome = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop(signal) => {
                    info!(signal, "asked to stop");
                    break Ok(());
                }
                Asked::Reload => reload(&running, &folder, config),
            },
            () = running.failed() => break Err(ServeError::Listener),
        }
    };
    let hurry = CancellationToken::new();
    tokio::select! {
        _ = running.shutdown(&hurry) => {}
        () = hurry_on_second(&mut signals, &hurry) => {}
    }
    store.close().await;
    outcome
}

/// Ends the grace when a second signal to stop comes. Never returns: the shutdown does.
async fn hurry_on_second(signals: &mut Signals, hurry: &CancellationToken) {
    loop {
        if let Asked::Stop(signal) = signals.next().await {
            warn!(signal, "asked again to stop; cutting what is left");
            hurry.cancel();
        }
    }
}

fn reload(running: &Running, folder: &DataDir, config: &Config) {
    match Identity::load(folder, config) {
        Ok(identity) => {
            info!(tls_fingerprint = %identity.tls_fingerprint, "read the TLS certificate anew");
            running.replace_certificate(identity.tls);
        }
        Err(error) => error!(%error, "kept the old TLS certificate"),
    }
}

/// What a signal asks for.
enum Asked {
    Stop(&'static str),
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}
