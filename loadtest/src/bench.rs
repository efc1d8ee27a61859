//! Everything that takes part in a run: the service, Tidegate and its peers in front of it, each way checked once.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use shared::secret::Secret;
use tempfile::TempDir;

use crate::bore::Bore;
use crate::openssh::OpenSsh;
use crate::pattern::Pattern;
use crate::place::Place;
use crate::plan::Way;
use crate::rathole::{Rathole, Transport};
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

/// Programs of peers that Debian does not have, as far as they are there.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    /// `rathole`.
    pub rathole: Option<PathBuf>,
    /// `bore`.
    pub bore: Option<PathBuf>,
}

impl Peers {
    /// Those in `folder`, where `ci/install-peers` puts them.
    pub fn in_folder(folder: &Path) -> Self {
        let find = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        Self { rathole: find("rathole"), bore: find("bore") }
    }

    /// Names of those that are not there.
    pub fn missing(&self) -> Vec<String> {
        let all = [("rathole", &self.rathole), ("bore", &self.bore)];
        all.into_iter().filter(|(_, path)| path.is_none()).map(|(name, _)| name.to_owned()).collect()
    }
}

/// All parts of a run, dropped in this order.
pub struct Bench {
    site: Site,
    openssh: OpenSsh,
    ratholes: Vec<(Way, Rathole)>,
    bore: Option<Bore>,
    service: Service,
    place: Place,
    _folder: TempDir,
    /// What bulk streams carry.
    pub pattern: Pattern,
}

impl fmt::Debug for Bench {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Bench").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Bench {
    /// Starts everything in `place`, on free ports and in a temporary folder, and goes every one of `ways` once.
    ///
    /// # Errors
    /// If a part does not come up, or a way does not lead to the service.
    pub async fn start(
        programs: &Programs,
        peers: &Peers,
        place: Place,
        ways: &[Way],
        seed: u64,
    ) -> Result<Self> {
        let folder = TempDir::with_prefix("tidegate-loadtest-").context("can't make a temporary folder")?;
        let pattern = Pattern::new(seed);
        let service = Service::start(place.listen()?, pattern.clone()).context("can't start the service")?;
        let port = service.address.port();
        let openssh = OpenSsh::start(&place, folder.path(), port).await?;
        let mut ratholes = Vec::new();
        if let Some(program) = &peers.rathole {
            for (way, transport) in [
                (Way::Rathole, Transport::Plain),
                (Way::RatholeTls, Transport::Tls),
                (Way::RatholeNoise, Transport::Noise),
            ] {
                ratholes.push((way, Rathole::start(program, transport, &place, folder.path(), port).await?));
            }
        }
        let bore = match &peers.bore {
            Some(program) => Some(Bore::start(program, &place, folder.path(), port).await?),
            None => None,
        };
        let site = Site::start(programs, &place, folder.path(), port).await?;
        let bench = Self { site, openssh, ratholes, bore, service, place, _folder: folder, pattern };
        for way in bench.ways(ways) {
            let order = Order { work: Work::Echo, start: 0, length: 0 };
            let opened = stream::open(&bench.entry(way)?, order).await;
            opened.with_context(|| format!("{} does not lead to the service", way.name()))?;
        }
        Ok(bench)
    }

    /// Those of `wanted` that are there, in their order.
    pub fn ways(&self, wanted: &[Way]) -> Vec<Way> {
        wanted.iter().copied().filter(|way| self.entry(*way).is_ok()).collect()
    }

    /// Where a connection enters this way.
    ///
    /// # Errors
    /// If the way is not there.
    pub fn entry(&self, way: Way) -> Result<Entry> {
        Ok(match way {
            Way::Direct => Entry::Port(self.place.service(self.service.address.port())),
            Way::Upgrade => Entry::Upgrade(self.site.api(), self.site.upgrade_request()),
            Way::SshRemote => Entry::Port(self.openssh.remote_address),
            Way::Rathole | Way::RatholeTls | Way::RatholeNoise => Entry::Port(self.rathole(way)?.address),
            Way::Bore => Entry::Port(self.bore.as_ref().context("bore is missing")?.address),
            Way::Connect => Entry::Port(self.site.connect_address),
            Way::SshBoth => Entry::Port(self.openssh.local_address),
        })
    }

    /// The processes, with their descendants, that carry this way. None for one that is not there.
    pub fn processes(&self, way: Way) -> Vec<u32> {
        match way {
            Way::Direct => Vec::new(),
            Way::Upgrade => self.site.upgrade_processes(),
            Way::SshRemote => self.openssh.remote_processes(),
            Way::Rathole | Way::RatholeTls | Way::RatholeNoise => {
                self.rathole(way).map(Rathole::processes).unwrap_or_default()
            }
            Way::Bore => self.bore.as_ref().map(Bore::processes).unwrap_or_default(),
            Way::Connect => self.site.connect_processes(),
            Way::SshBoth => self.openssh.local_processes(),
        }
    }

    fn rathole(&self, way: Way) -> Result<&Rathole> {
        match self.ratholes.iter().find(|(its_way, _)| *its_way == way) {
            Some((_, rathole)) => Ok(rathole),
            None => bail!("{} is missing", way.name()),
        }
    }
}
