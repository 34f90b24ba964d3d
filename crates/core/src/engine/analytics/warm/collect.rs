//! What nobody names any more goes: frames and manifests that belong neither to the generation that is served, nor to the one
//! before, nor to one that waits. Left-overs of killed processes are among them.
//!
//! A reader may still be at a generation that is gone from the pointer; it is given a while. One that comes too late finds a
//! hole and goes to the source.
//!
//! Invariant: deletes only under the lease of the data source, which every warm writes under, and only what the pointer did
//! not name when it was read under it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::analytics::{Hash, Live, Manifest};
use crate::base::error::{Code, Error};
use crate::base::key::{Key, Namespace};
use crate::base::limits;
use crate::cache::Effect;
use crate::store::{Op, Reply, Store, Walk};

use super::super::super::{Core, Outcome};
use super::job::Stop;
use super::lock::{Lock, Taken, Work, store_fails};

/// Keys that are deleted together.
const TOGETHER: usize = limits::VOIDED_TOGETHER;
/// How often somebody who wants to collect comes again when others are at work.
const TRIES: usize = 10;
/// How long an invalidation waits for a warm that it has just stopped.
const STOPPED_MS: u64 = 2_000;

/// What went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Collected {
    pub(super) frames: usize,
    pub(super) manifests: usize,
    /// Of those whose size was known.
    pub(super) bytes: u64,
}

/// What must stay.
struct Named {
    manifests: HashSet<Hash>,
    frames: HashSet<Hash>,
}

impl Core {
    /// Collects after a while, once however often it is asked for meanwhile.
    pub(super) fn collect_later(self: &Arc<Self>, source: i64) {
        if !self.analytics.warms.collecting.lock().insert(source) {
            return;
        }
        let core = self.clone();
        tokio::spawn(async move {
            let mut ended = core.ended.subscribe();
            for _ in 0..TRIES {
                let grace = Duration::from_millis(limits::ANALYTICS_GRACE_MS);
                if tokio::time::timeout(grace, ended.wait_for(|ended| *ended)).await.is_ok() || core.closing()
                {
                    break;
                }
                match core.try_to_collect(source).await {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(component = "analytics", data_source = source, %error, "left-overs were not collected");
                    }
                }
            }
            core.analytics.warms.collecting.lock().remove(&source);
        });
    }

    async fn try_to_collect(&self, source: i64) -> Result<bool, Error> {
        let Taken::Mine(lock) = self.take_lock(source, Work::Collect, false).await? else { return Ok(false) };
        let collected = self.collect(&lock).await;
        self.give_back_lock(lock, false).await;
        let Collected { frames, manifests, .. } = collected?;
        tracing::debug!(
            component = "analytics",
            data_source = source,
            frames,
            manifests,
            "left-overs were collected"
        );
        Ok(true)
    }

    /// Deletes everything of the data source that the pointer does not name.
    pub(super) async fn collect(&self, lock: &Lock) -> Result<Collected, Error> {
        let named = self.named(lock).await?;
        let mut sizes = HashMap::new();
        let (manifests, mut bytes) = self.delete_manifests(lock, &named.manifests, &mut sizes).await?;
        let mut frames = 0;
        let mut walk = Walk::over(self.beginning(Namespace::AnalyticsFrame, lock.source));
        while let Some(names) = self.names(&mut walk, Namespace::AnalyticsFrame, lock.source).await? {
            let gone: Vec<Hash> = names.into_iter().filter(|name| !named.frames.contains(name)).collect();
            for chunk in gone.chunks(TOGETHER) {
                let keys = chunk.iter().map(|name| self.frame_key(lock.source, name)).collect();
                for (name, deleted) in chunk.iter().zip(self.delete(lock, keys).await?) {
                    frames += usize::from(deleted);
                    bytes += if deleted { sizes.get(name).copied().unwrap_or(0) } else { 0 };
                }
            }
        }
        Ok(Collected { frames, manifests, bytes })
    }

    /// Deletes what a warm has written that came to nothing, unless somebody names it all the same.
    pub(super) async fn clear_away(&self, lock: &Lock, keys: Vec<Key>) -> Result<(), Error> {
        if !self.renew_lock(lock).await {
            // Whoever is at work now may count on it.
            return Ok(());
        }
        let (seen, _) = self.look_live_left(lock.source).await?;
        if seen.live.is_none() {
            // Invalidated: nothing of the data source is to be left.
            return self.collect(lock).await.map(drop);
        }
        let named = self.named(lock).await?;
        let stays: HashSet<Key> = named
            .frames
            .iter()
            .map(|name| self.frame_key(lock.source, name))
            .chain(named.manifests.iter().map(|name| self.manifest_key(lock.source, name)))
            .collect();
        let gone: Vec<Key> = keys.into_iter().filter(|key| !stays.contains(key)).collect();
        for chunk in gone.chunks(TOGETHER) {
            self.delete(lock, chunk.to_vec()).await?;
        }
        Ok(())
    }

    /// What the pointer names, now that nobody else can publish.
    async fn named(&self, lock: &Lock) -> Result<Named, Error> {
        let (seen, _) = self.look_live_left(lock.source).await?;
        let live = seen.live.as_deref();
        let manifests: HashSet<Hash> = live.into_iter().flat_map(Live::manifests).collect();
        let held = |live: &Live| live.held.as_ref().map(|held| held.generation.clone());
        let generations = live
            .map(|live| [live.current.clone(), live.previous.clone(), held(live)])
            .into_iter()
            .flatten()
            .flatten();
        let mut frames = HashSet::new();
        for generation in generations {
            // Without its manifest nobody finds the frames.
            if let Some(manifest) = self.manifest_of(lock.source, &generation).await? {
                frames.extend(manifest.frames().iter().map(|frame| frame.hash));
            }
        }
        Ok(Named { manifests, frames })
    }

    /// How many there were, and their bytes; notes the sizes of their frames.
    async fn delete_manifests(
        &self,
        lock: &Lock,
        named: &HashSet<Hash>,
        sizes: &mut HashMap<Hash, u64>,
    ) -> Result<(usize, u64), Error> {
        let (mut count, mut bytes) = (0, 0);
        let mut walk = Walk::over(self.beginning(Namespace::AnalyticsIndex, lock.source));
        while let Some(names) = self.names(&mut walk, Namespace::AnalyticsIndex, lock.source).await? {
            for name in names.into_iter().filter(|name| !named.contains(name)) {
                let key = self.manifest_key(lock.source, &name);
                let replies = self.exec_patiently(vec![Op::Get(key.clone())]).await?;
                if let Some(Ok(Reply::Bytes(Some(sealed)))) = replies.into_iter().next() {
                    bytes += sealed.len() as u64;
                    if let Ok(manifest) = self.compute(u64::MAX, move || Manifest::open(&sealed, &name)).await
                    {
                        sizes.extend(
                            manifest.frames().iter().map(|frame| (frame.hash, u64::from(frame.bytes))),
                        );
                    }
                }
                count += self.delete(lock, vec![key]).await?.iter().filter(|deleted| **deleted).count();
            }
        }
        Ok((count, bytes))
    }

    fn beginning(&self, namespace: Namespace, source: i64) -> Vec<u8> {
        let mut beginning = self.cache.keys.beginning(namespace, &source.to_string());
        beginning.push(b':');
        beginning
    }

    /// The names on the next page of a walk; keys that are none of ours are left alone.
    async fn names(
        &self,
        walk: &mut Walk,
        namespace: Namespace,
        source: i64,
    ) -> Result<Option<Vec<Hash>>, Error> {
        let beginning = self.beginning(namespace, source);
        let page = self.cache.walk(walk).await.map_err(|error| store_fails(&vec![Err(error)]))?;
        let name =
            |key: &bytes::Bytes| Hash::parse(std::str::from_utf8(key.strip_prefix(&beginning[..])?).ok()?);
        Ok(page.map(|page| page.iter().filter_map(name).collect()))
    }

    /// Whether each of them was there.
    async fn delete(&self, lock: &Lock, keys: Vec<Key>) -> Result<Vec<bool>, Error> {
        if !self.renew_lock(lock).await {
            let message = "the right to collect what is left of a data source was lost";
            return Err(Error { reason: Some("superseded"), ..Error::new(Code::Conflict, message) });
        }
        let replies = self.exec_patiently(keys.into_iter().map(Op::Delete).collect()).await?;
        let deleted = replies.iter().map(|reply| match reply {
            Ok(Reply::Done(deleted)) => Some(*deleted),
            _ => None,
        });
        deleted.collect::<Option<_>>().ok_or_else(|| store_fails(&replies))
    }

    /// Nothing of the data source is answered from memory any more, and nothing of it is kept. To readers it is one deleted key;
    /// everything else follows, here or by whoever is at work on it.
    pub(in crate::engine) async fn invalidate_analytics(
        self: &Arc<Self>,
        source: i64,
    ) -> Result<Outcome, Error> {
        let running = self.analytics.warms.running(source);
        if let Some(job) = &running {
            job.stop(Stop::Invalidated);
        }
        self.source.forget_data_source(source);
        let done = self.cache.invalidate(vec![(self.live_key(source), Effect::Delete)]).await?;
        let mut collected = Collected::default();
        if done.acknowledged && !matches!(self.cache.store, Store::None) {
            if let Some(job) = running {
                let _ = tokio::time::timeout(Duration::from_millis(STOPPED_MS), job.ended()).await;
            }
            match self.collect_now(source).await {
                Ok(Some(now)) => collected = now,
                // A warm of another process: it finds its claim gone and clears away what it wrote.
                Ok(None) => self.collect_later(source),
                Err(error) => {
                    tracing::warn!(component = "analytics", data_source = source, %error, "left-overs were not collected");
                    self.collect_later(source);
                }
            }
        }
        let megabytes = collected.bytes as f64 / (1024.0 * 1024.0);
        let result = json!({
            "acknowledged": done.acknowledged,
            "queued": done.queued,
            "keysDeleted": collected.frames,
            "indexesDeleted": collected.manifests,
            "memoryFreedMB": (megabytes * 100.0).round() / 100.0,
        });
        Ok(Outcome::Json(result.to_string()))
    }

    /// `None` = somebody else is at work.
    async fn collect_now(&self, source: i64) -> Result<Option<Collected>, Error> {
        let soon = |_: &_| true;
        let taken =
            self.wait_for_lock(source, Work::Collect, false, limits::ANALYTICS_LOCK_WAIT_MS, soon).await?;
        let Taken::Mine(lock) = taken else { return Ok(None) };
        let collected = self.collect(&lock).await;
        self.forget_rest(source).await;
        self.give_back_lock(lock, false).await;
        collected.map(Some)
    }
}
