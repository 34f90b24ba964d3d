//! The live pointer in the store: read, and replaced only by whoever saw what is there.
//!
//! Invariant: this process believes a pointer only while no invalidation of it waits for the store.

use std::sync::Arc;

use bytes::Bytes;

use crate::analytics::Live;
use crate::base::key::{Key, Namespace};
use crate::store::{Op, Reply, StoreError, StoreResult};

use super::super::Core;
use super::Past;

/// What lies where the pointer should be.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Seen {
    /// The bytes, for whoever wants to replace exactly them.
    bytes: Option<Bytes>,
    /// What they say; `None` = nothing, or nothing that can be read.
    pub(in crate::engine) live: Option<Arc<Live>>,
    /// Something is there that is no string: it has no bytes to compare with and must go before a pointer can be put.
    foreign: bool,
}

impl Core {
    pub(in crate::engine) fn live_key(&self, source: i64) -> Key {
        self.cache.keys.of_source(Namespace::AnalyticsLive, source, "live")
    }

    /// What a reply says of the pointer.
    pub(super) fn seen(&self, source: i64, reply: Option<&StoreResult>) -> Result<Seen, Past> {
        match reply {
            Some(Ok(Reply::Bytes(None))) => Ok(Seen::default()),
            Some(Ok(Reply::Bytes(Some(bytes)))) => {
                let live = self.analytics.lives.read(source, bytes);
                Ok(Seen { bytes: Some(bytes.clone()), live, foreign: false })
            }
            Some(Err(StoreError::WrongType)) => Ok(Seen { foreign: true, ..Seen::default() }),
            _ => Err(Past::StoreDown),
        }
    }

    /// Reads the pointer.
    pub(in crate::engine) async fn look_live(&self, source: i64) -> Result<Seen, Past> {
        let key = self.live_key(source);
        if !self.cache.usable(&key) {
            return Err(Past::StoreDown);
        }
        let replies = self.cache.exec(vec![Op::Get(key)]).await;
        self.seen(source, replies.first())
    }

    /// Puts `next` where `seen` is; what is there now, unless that was something else by then.
    pub(in crate::engine) async fn swap_live(
        &self,
        source: i64,
        seen: &Seen,
        next: &Live,
    ) -> Result<Option<Seen>, StoreError> {
        self.swap_live_for(source, seen, next, self.analytics_ttl_ms()).await
    }

    /// As `swap_live`, for another time than usual.
    pub(in crate::engine) async fn swap_live_for(
        &self,
        source: i64,
        seen: &Seen,
        next: &Live,
        ttl_ms: u64,
    ) -> Result<Option<Seen>, StoreError> {
        let (key, value) = (self.live_key(source), Bytes::from(next.seal()));
        let op = match &seen.bytes {
            None => Op::Add { key, value: value.clone(), ttl_ms },
            Some(expected) => Op::Swap { key, expected: expected.clone(), value: value.clone(), ttl_ms },
        };
        // A pointer that somebody else has put there since goes as well: its warm loses its claim, and readers ask the source
        // until this one has published.
        let ops = if seen.foreign { vec![Op::Delete(self.live_key(source)), op] } else { vec![op] };
        match self.cache.exec(ops).await.pop() {
            Some(Ok(Reply::Done(true))) => {
                let live = self.analytics.lives.read(source, &value);
                Ok(Some(Seen { live, bytes: Some(value), foreign: false }))
            }
            Some(Ok(_)) => Ok(None),
            Some(Err(error)) => Err(error),
            None => Err(StoreError::Unavailable("no reply".into())),
        }
    }

    /// How long a pointer lives. Frames and manifests live longer, so that none is gone that a pointer names.
    pub(in crate::engine) fn analytics_ttl_ms(&self) -> u64 {
        self.settings.analytics.ttl_s * 1_000
    }
}
