//! The agents of one edge: who is live, and who is one too many. Pure.
//!
//! An instance is live for three intervals after its check-in. On an edge that is no cluster only one instance may be
//! live; another one that checks in is refused until the first falls silent, so a restarted or moved agent gets in
//! within three intervals, and two agents that share an edge ID by mistake are noticed instead of taking turns.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use shared::id::InstanceId;
use shared::wire::check_in::Hello;

use super::Now;
use super::edge::Timestamp;
use super::standing::Registered;

/// Intervals without a check-in after which an instance is not live any more.
pub const LIVE_INTERVALS: u32 = 3;

/// Instances of one edge that are remembered. A swarm of more nodes works; its quietest ones are forgotten first.
const MAX_INSTANCES: usize = 256;

/// For how long an agent that was refused is shown, in milliseconds, or longer where its edge's interval is. Refused
/// agents ask again every five minutes.
const RECENT_MS: u64 = 600_000;

/// A running agent.
#[derive(Debug)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// What it said of itself, once it did.
    pub hello: Option<Hello>,
    /// Address of its last check-in.
    pub address: IpAddr,
    /// Whether there is anything new for it, and its last check-in.
    pub standing: Registered,
    /// The interval that it was told last.
    pub told: Option<Duration>,
}

/// A second live instance on an edge that is no cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// Host of the instance that was refused, as far as it said.
    pub refused: Option<String>,
    /// Host of the instance that is there.
    pub present: String,
    /// When it was refused last.
    pub at: Timestamp,
}

/// An agent that shows the edge's key with an edge ID that is not the bound one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Its host, as far as it said.
    pub hostname: Option<String>,
    /// Where it checks in from.
    pub address: IpAddr,
    /// When it was refused last.
    pub at: Timestamp,
}

impl Instance {
    /// Its last check-in; while one is held, that is now.
    pub fn last_seen(&self, now: Now) -> Timestamp {
        let ago = now.instant.saturating_duration_since(self.standing.heard());
        Timestamp(now.wall.0.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// The agents of one edge.
#[derive(Debug, Default)]
pub struct Instances {
    all: Vec<Instance>,
    duplicate: Option<Duplicate>,
    stranger: Option<Stranger>,
}

impl Instances {
    /// Notes a check-in, unless another instance is live where only one may be; then the answer is its host's name.
    pub fn admit(
        &mut self,
        id: InstanceId,
        hello: Option<Hello>,
        address: IpAddr,
        rule: Rule,
        now: Now,
    ) -> Result<&mut Instance, String> {
        if !rule.cluster {
            if let Some(other) = self.all.iter().find(|other| other.id != id && !rule.fell_silent(other, now))
            {
                let present =
                    other.hello.as_ref().map_or_else(|| other.address.to_string(), |h| h.hostname.clone());
                let refused = hello.map(|hello| hello.hostname);
                self.duplicate = Some(Duplicate { refused, present: present.clone(), at: now.wall });
                return Err(present);
            }
            self.all.retain(|other| other.id == id);
        }
        let position = match self.all.iter().position(|instance| instance.id == id) {
            Some(position) => position,
            None => {
                if self.all.len() == MAX_INSTANCES {
                    let quietest = (0..self.all.len()).min_by_key(|at| self.all[*at].standing.heard());
                    self.all.swap_remove(quietest.expect("there are MAX_INSTANCES of them"));
                }
                let standing = Registered::new(now.instant);
                self.all.push(Instance { id, hello: None, address, standing, told: None });
                self.all.len() - 1
            }
        };
        let instance = &mut self.all[position];
        instance.standing.hear(now.instant);
        instance.address = address;
        if hello.is_some() {
            instance.hello = hello;
            instance.told = None;
        }
        Ok(instance)
    }

    /// Those that are live.
    pub fn live(&self, rule: Rule, now: Now) -> impl Iterator<Item = &Instance> {
        self.all.iter().filter(move |instance| rule.is_live(instance, now))
    }

    /// Whether nobody is live any more; then nobody is answered any more who is not asked about here first.
    pub fn fell_silent(&self, rule: Rule, now: Now) -> bool {
        self.all.iter().all(|instance| rule.fell_silent(instance, now))
    }

    /// There may be something new for each of them.
    pub fn close(&self) {
        self.all.iter().for_each(|instance| instance.standing.close());
    }

    /// When any of them was heard last, by the clock that does not jump.
    pub fn heard(&self, now: Now) -> Option<Instant> {
        self.all.iter().map(|instance| instance.standing.heard().min(now.instant)).max()
    }

    /// The last check-in of any of them.
    pub fn last_seen(&self, now: Now) -> Option<Timestamp> {
        self.all.iter().map(|instance| instance.last_seen(now)).max()
    }

    /// Until when one of them is live at least, if nobody checks in meanwhile.
    pub fn silent_at(&self, rule: Rule) -> Option<Instant> {
        self.all.iter().map(|instance| rule.silent_at(instance)).max()
    }

    /// One of them.
    pub fn find(&self, id: InstanceId) -> Option<&Instance> {
        self.all.iter().find(|instance| instance.id == id)
    }

    /// The last second instance that was refused, while that is recent enough to matter.
    pub fn duplicate(&self, rule: Rule, now: Now) -> Option<&Duplicate> {
        let recent = (rule.interval * LIVE_INTERVALS).as_millis() as u64;
        self.duplicate
            .as_ref()
            .filter(|duplicate| now.wall.0.saturating_sub(duplicate.at.0) <= recent.max(RECENT_MS))
    }

    /// Notes an agent that was refused because the edge's key is bound to another edge ID than its own.
    pub fn refuse_stranger(&mut self, hello: Option<Hello>, address: IpAddr, now: Now) {
        // It says hello with the first check-in of a connection only.
        let known = self.stranger.take().filter(|known| known.address == address);
        let hostname = hello.map(|hello| hello.hostname).or(known.and_then(|known| known.hostname));
        self.stranger = Some(Stranger { hostname, address, at: now.wall });
    }

    /// The last such agent, while that is recent enough to matter.
    pub fn stranger(&self, now: Now) -> Option<&Stranger> {
        self.stranger.as_ref().filter(|stranger| now.wall.0.saturating_sub(stranger.at.0) <= RECENT_MS)
    }

    /// The edge was dissociated: whoever was there is nobody now.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What the edge's record says of its instances.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Whether several may be live.
    pub cluster: bool,
    /// The check-in interval in force.
    pub interval: Duration,
}

impl Rule {
    fn is_live(self, instance: &Instance, now: Now) -> bool {
        now.instant <= self.silent_at(instance)
    }

    /// The same, for a decision: what is found silent here stays so until it asks the registry.
    fn fell_silent(self, instance: &Instance, now: Now) -> bool {
        instance.standing.fell_silent(self.patience(instance), now.instant)
    }

    fn silent_at(self, instance: &Instance) -> Instant {
        instance.standing.heard() + self.patience(instance)
    }

    fn patience(self, instance: &Instance) -> Duration {
        // What the instance was told counts where it is longer: it has not heard of the new interval yet.
        let interval = instance.told.map_or(self.interval, |told| told.max(self.interval));
        interval * LIVE_INTERVALS
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use shared::wire::check_in::TunnelState;

    use super::*;

    const RULE: Rule = Rule { cluster: false, interval: Duration::from_secs(5) };
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn at(start: Instant, seconds: u64) -> Now {
        Now { instant: start + Duration::from_secs(seconds), wall: Timestamp(seconds * 1000) }
    }

    fn hello(hostname: &str) -> Option<Hello> {
        Some(Hello {
            agent: "0.1.0".into(),
            protocol: 1,
            hostname: hostname.into(),
            services: vec![],
            tunnel: TunnelState::Closed,
        })
    }

    #[test]
    fn second_live_instance_is_refused_until_the_first_falls_silent() {
        let (start, first, second) = (Instant::now(), InstanceId::random(), InstanceId::random());
        let mut instances = Instances::default();
        instances.admit(first, hello("one"), HERE, RULE, at(start, 0)).expect("the first");
        for seconds in [1, 15] {
            let refused = instances.admit(second, hello("two"), HERE, RULE, at(start, seconds));
            assert_eq!(refused.err().as_deref(), Some("one"), "after {seconds} s");
        }
        let duplicate = instances.duplicate(RULE, at(start, 15)).expect("noticed");
        assert_eq!((duplicate.refused.as_deref(), duplicate.present.as_str()), (Some("two"), "one"));
        instances.admit(second, hello("two"), HERE, RULE, at(start, 16)).expect("the first is silent");
        assert!(
            instances.admit(first, None, HERE, RULE, at(start, 17)).is_err(),
            "now it is the other way round"
        );
    }

    #[test]
    fn stranger_is_remembered_by_its_host_until_it_is_quiet_for_a_while_or_the_edge_is_dissociated() {
        let start = Instant::now();
        let mut instances = Instances::default();
        instances.refuse_stranger(hello("two"), HERE, at(start, 0));
        instances.refuse_stranger(None, HERE, at(start, 300));
        let expected = Stranger { hostname: Some("two".into()), address: HERE, at: at(start, 300).wall };
        assert_eq!(instances.stranger(at(start, 900)), Some(&expected));
        assert_eq!(instances.stranger(at(start, 901)), None);
        let there = Ipv4Addr::new(192, 0, 2, 1).into();
        instances.refuse_stranger(None, there, at(start, 400));
        assert_eq!(instances.stranger(at(start, 400)).expect("noticed").hostname, None, "another one");
        instances.clear();
        assert_eq!(instances.stranger(at(start, 400)), None);
    }

    #[test]
    fn cluster_takes_all_and_forgets_the_quietest() {
        let rule = Rule { cluster: true, ..RULE };
        let start = Instant::now();
        let mut instances = Instances::default();
        let ids: Vec<_> = (0..=MAX_INSTANCES).map(|_| InstanceId::random()).collect();
        for (seconds, id) in ids.iter().enumerate() {
            instances.admit(*id, None, HERE, rule, at(start, seconds as u64)).expect("a cluster");
        }
        assert!(instances.find(ids[0]).is_none());
        assert!(instances.find(ids[1]).is_some());
        assert_eq!(instances.live(rule, at(start, MAX_INSTANCES as u64)).count(), 16);
    }

    #[test]
    fn agent_that_was_told_a_longer_interval_stays_live_for_it() {
        let (start, first) = (Instant::now(), InstanceId::random());
        let mut instances = Instances::default();
        instances.admit(first, hello("one"), HERE, RULE, at(start, 0)).expect("the first").told =
            Some(Duration::from_secs(30));
        assert_eq!(instances.live(RULE, at(start, 60)).count(), 1);
        assert_eq!(instances.live(RULE, at(start, 91)).count(), 0);
    }
}
