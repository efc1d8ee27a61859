//! Everything that takes part in a run: the service, Tidegate and its peer in front of it, each way checked once.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use shared::secret::Secret;
use tempfile::TempDir;

use crate::openssh::OpenSsh;
use crate::pattern::Pattern;
use crate::plan::Way;
use crate::service::{Order, Service, Work};
use crate::site::{Programs, Site};
use crate::stream;

/// How an operator's connection gets onto a way.
#[derive(Debug)]
pub enum Entry {
    /// Whatever listens there carries it.
    Port(SocketAddr),
    /// The listener there wants this request first.
    Upgrade(SocketAddr, Secret<String>),
}

/// All parts of a run, dropped in this order.
#[derive(Debug)]
pub struct Bench {
    site: Site,
    openssh: OpenSsh,
    _service: Service,
    _folder: TempDir,
    /// What bulk streams carry.
    pub pattern: Pattern,
}

impl Bench {
    /// Starts everything on free loopback ports and in a temporary folder.
    ///
    /// # Errors
    /// If a part does not come up, or a way does not lead to the service.
    pub async fn start(programs: &Programs, seed: u64) -> Result<Self> {
        let folder = TempDir::with_prefix("tidegate-loadtest-").context("can't make a temporary folder")?;
        let pattern = Pattern::new(seed);
        let service = Service::start(pattern.clone()).await.context("can't start the service")?;
        let openssh = OpenSsh::start(folder.path(), service.address).await?;
        let site = Site::start(programs, folder.path(), service.address).await?;
        let bench = Self { site, openssh, _service: service, _folder: folder, pattern };
        for way in Way::ALL {
            let order = Order { work: Work::Echo, start: 0, length: 0 };
            let opened = stream::open(&bench.entry(way), order).await;
            opened.with_context(|| format!("{} does not lead to the service", way.name()))?;
        }
        Ok(bench)
    }

    /// Where a connection enters this way.
    pub fn entry(&self, way: Way) -> Entry {
        match way {
            Way::Upgrade => Entry::Upgrade(self.site.api(), self.site.upgrade_request()),
            Way::SshRemote => Entry::Port(self.openssh.remote_address),
            Way::Connect => Entry::Port(self.site.connect_address),
            Way::SshBoth => Entry::Port(self.openssh.local_address),
        }
    }

    /// The processes, with their descendants, that carry this way.
    pub fn processes(&self, way: Way) -> Vec<u32> {
        match way {
            Way::Upgrade => self.site.upgrade_processes(),
            Way::SshRemote => self.openssh.remote_processes(),
            Way::Connect => self.site.connect_processes(),
            Way::SshBoth => self.openssh.local_processes(),
        }
    }
}
