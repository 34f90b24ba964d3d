//! Which node owns which slot. Pure apart from `discover` and `answers`.
//!
//! Invariant: a topology is immutable; a change makes a new one, so a batch is routed by one map.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use crate::base::key::Key;
use crate::store::StoreError;

use super::link::{self, Link};
use super::options::{Mode, Options};
use super::wire;

const SLOTS: usize = 16_384;
const NOBODY: u16 = u16::MAX;
/// A probe may take longer than a read: nobody waits for it.
const PROBE: Duration = Duration::from_millis(250);

/// Links and, on a cluster, the slot map.
#[derive(Default)]
pub(super) struct Topology {
    links: Vec<Arc<Link>>,
    /// Index into `links` per slot; empty when one link serves every key.
    owners: Vec<u16>,
    /// Every node the cluster named, replicas included: where to ask when the first seed is gone.
    known: Vec<String>,
}

impl Topology {
    /// Connects to the first seed, or node known from before, that answers, and finds out how the keys are
    /// spread.
    pub(super) async fn discover(options: &Options, known: &[String]) -> Result<Self, StoreError> {
        let mut last = StoreError::Unavailable("no server is configured".into());
        let seeds: Vec<String> = options.seeds.iter().map(|(host, port)| address(host, *port)).collect();
        for seed in seeds.iter().chain(known.iter().filter(|node| !seeds.contains(node))) {
            match Self::from_seed(options, seed).await {
                Ok(topology) => return Ok(topology),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn from_seed(options: &Options, seed: &str) -> Result<Self, StoreError> {
        let link = Arc::new(Link::connect(options, seed).await?);
        let clustered = match options.mode {
            Mode::Standalone => false,
            Mode::Cluster => true,
            Mode::Auto => link.clustered(),
        };
        if !clustered {
            if link.replica() {
                return Err(StoreError::Unavailable("the server is a read-only replica".into()));
            }
            return Ok(Self { links: vec![link], ..Self::default() });
        }
        let limit = Duration::from_millis(options.connect_timeout_ms);
        let reply = link.command(redis::cmd("CLUSTER").arg("SLOTS"), limit).await?;
        let host = link::split(seed).map_or_else(|| seed.to_owned(), |(host, _)| host);
        let (ranges, known) = ranges(&reply, &host)
            .ok_or_else(|| StoreError::Unavailable("the slot map is not readable".into()))?;
        Self::from_ranges(options, link, ranges, known).await
    }

    async fn from_ranges(
        options: &Options,
        seed: Arc<Link>,
        ranges: Vec<Range>,
        known: Vec<String>,
    ) -> Result<Self, StoreError> {
        let mut topology = Self { links: vec![seed], owners: vec![NOBODY; SLOTS], known };
        for range in ranges {
            let index = match topology.links.iter().position(|link| link.address() == range.address) {
                Some(index) => index,
                None => {
                    topology.links.push(Arc::new(Link::connect(options, &range.address).await?));
                    topology.links.len() - 1
                }
            };
            for slot in range.first..=range.last {
                topology.owners[usize::from(slot)] = index as u16;
            }
        }
        if topology.owners.contains(&NOBODY) {
            return Err(StoreError::Unavailable("the cluster does not cover every slot".into()));
        }
        Ok(topology)
    }

    /// Nodes that the cluster named when it was asked last.
    pub(super) fn known(&self) -> &[String] {
        &self.known
    }

    /// Whether keys are spread over slots.
    pub(super) fn clustered(&self) -> bool {
        !self.owners.is_empty()
    }

    /// The link for `key`; announcements, which have none, go anywhere.
    pub(super) fn link_for(&self, key: Option<&Key>) -> Option<Arc<Link>> {
        match key {
            Some(key) if self.clustered() => {
                self.links.get(usize::from(self.owners[usize::from(key.slot())])).cloned()
            }
            _ => {
                // The seed may be a replica of the cluster; an owner of slots is always writable.
                let index = self.owners.first().map_or(0, |owner| usize::from(*owner));
                self.links.get(index).cloned()
            }
        }
    }

    pub(super) fn link_at(&self, address: &str) -> Option<Arc<Link>> {
        self.links.iter().find(|link| link.address() == address).cloned()
    }

    /// This map with one more link.
    pub(super) fn with_link(&self, link: Arc<Link>) -> Self {
        let mut links = self.links.clone();
        links.push(link);
        Self { links, owners: self.owners.clone(), known: self.known.clone() }
    }

    /// This map with `slot` served by the node at `address`; `None` when nothing changes.
    pub(super) fn with_slot(&self, slot: u16, address: &str) -> Option<Self> {
        let index = self.links.iter().position(|link| link.address() == address)? as u16;
        if !self.clustered() || self.owners[usize::from(slot)] == index {
            return None;
        }
        let mut owners = self.owners.clone();
        owners[usize::from(slot)] = index;
        Some(Self { links: self.links.clone(), owners, known: self.known.clone() })
    }

    /// Whether every slot is, for certain, served by the same node as in `before`: then nothing that was acknowledged
    /// is lost.
    pub(super) fn is_of(&self, before: &Self) -> bool {
        let slots = self.owners.len().max(1);
        self.owners.len() == before.owners.len()
            && (0..slots).all(|slot| {
                let identity = self.identity(slot);
                identity.is_some() && identity == before.identity(slot)
            })
    }

    fn identity(&self, slot: usize) -> Option<&str> {
        let index = self.owners.get(slot).map_or(0, |owner| usize::from(*owner));
        self.links.get(index)?.identity()
    }

    /// The link to every node that owns slots.
    pub(super) fn owners(&self) -> Vec<Arc<Link>> {
        let owns = |index: usize| !self.clustered() || self.owners.contains(&(index as u16));
        self.links
            .iter()
            .enumerate()
            .filter(|(index, _)| owns(*index))
            .map(|(_, link)| link.clone())
            .collect()
    }

    /// Whether every node that owns slots answers a PING in time.
    pub(super) async fn answers(&self, options: &Options) -> bool {
        if self.links.is_empty() {
            return false;
        }
        let limit = PROBE.max(Duration::from_millis(options.deadline_ms));
        let ping = redis::cmd("PING");
        let owners = self.owners();
        let pings = owners.iter().map(|link| link.command(&ping, limit));
        futures_util::future::join_all(pings)
            .await
            .iter()
            .all(|pong| pong.as_ref().is_ok_and(|pong| wire::text(pong) == Some("PONG")))
    }
}

#[derive(Debug, PartialEq)]
struct Range {
    first: u16,
    last: u16,
    address: String,
}

pub(super) fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Reads the reply of `CLUSTER SLOTS`: who owns what, and every node named in it. A node without a host is
/// the one that was asked.
fn ranges(reply: &Value, asked: &str) -> Option<(Vec<Range>, Vec<String>)> {
    let Value::Array(rows) = reply else { return None };
    let mut ranges = Vec::with_capacity(rows.len());
    let mut known = Vec::new();
    for row in rows {
        let Value::Array(row) = row else { return None };
        let (Value::Int(first), Value::Int(last)) = (row.first()?, row.get(1)?) else { return None };
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        if usize::from(last) >= SLOTS || first > last {
            return None;
        }
        let nodes: Vec<String> = row[2..].iter().map(|one| node(one, asked)).collect::<Option<_>>()?;
        ranges.push(Range { first, last, address: nodes.first()?.clone() });
        for node in nodes {
            if !known.contains(&node) {
                known.push(node);
            }
        }
    }
    Some((ranges, known))
}

fn node(node: &Value, asked: &str) -> Option<String> {
    let Value::Array(node) = node else { return None };
    let Value::Int(port) = node.get(1)? else { return None };
    let host = wire::text(node.first()?).filter(|host| !host.is_empty() && *host != "?").unwrap_or(asked);
    Some(address(host, u16::try_from(*port).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(first: i64, last: i64, host: &str, port: i64) -> Value {
        Value::Array(vec![
            Value::Int(first),
            Value::Int(last),
            Value::Array(vec![
                Value::BulkString(host.into()),
                Value::Int(port),
                Value::BulkString("id".into()),
            ]),
        ])
    }

    #[test]
    fn reads_a_slot_map() {
        let reply = Value::Array(vec![row(0, 8191, "10.0.0.1", 7000), row(8192, 16383, "", 7001)]);
        let expected = vec![
            Range { first: 0, last: 8191, address: "10.0.0.1:7000".into() },
            Range { first: 8192, last: 16383, address: "seed:7001".into() },
        ];
        let known = vec!["10.0.0.1:7000".to_owned(), "seed:7001".to_owned()];
        assert_eq!(ranges(&reply, "seed"), Some((expected, known)));
    }

    #[test]
    fn refuses_a_slot_map_that_makes_no_sense() {
        for reply in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![row(0, 20_000, "h", 1)]),
            Value::Array(vec![row(5, 1, "h", 1)]),
            Value::Array(vec![row(0, 1, "h", 70_000)]),
        ] {
            assert_eq!(ranges(&reply, "seed"), None, "{reply:?}");
        }
    }

    #[test]
    fn addresses_survive_both_ways() {
        for (host, port) in [("::1", 7000), ("example", 1)] {
            assert_eq!(link::split(&address(host, port)), Some((host.to_owned(), port)));
        }
    }
}
