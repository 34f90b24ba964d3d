//! Frames into the store: which are there already, whether there is room for the others, and those others.
//!
//! Invariant: nothing is written before it is known that there is room for all of it; whatever is written is noted before.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;

use crate::analytics::Hash;
use crate::base::error::{Code, Error};
use crate::base::key::{Key, Namespace};
use crate::base::limits;
use crate::store::{Op, Reply, Size};

use super::super::super::Core;
use super::job::{Job, Stage};
use super::lock::store_fails;
use super::make::Made;

/// What an entry costs the store beside its bytes, about.
const OVERHEAD: u64 = 128;
/// Commands of one round trip.
const COMMANDS: usize = 500;

/// What a warm has written.
#[derive(Default)]
pub(super) struct Written {
    /// Also those that were only tried.
    keys: Mutex<Vec<Key>>,
}

impl Written {
    pub(super) fn note(&self, keys: impl Iterator<Item = Key>) {
        self.keys.lock().extend(keys);
    }

    pub(super) fn take(&self) -> Vec<Key> {
        std::mem::take(&mut self.keys.lock())
    }
}

/// What writing came to.
#[derive(Debug)]
pub(super) struct Counts {
    /// Places of the frames that were not there.
    pub(super) fresh: Vec<usize>,
    /// How many were.
    pub(super) reused: u64,
    /// Bytes of the others.
    pub(super) bytes: u64,
}

impl Core {
    pub(super) fn frame_key(&self, source: i64, name: &Hash) -> Key {
        self.cache.keys.block(Namespace::AnalyticsFrame, source, &name.to_string())
    }

    pub(super) fn manifest_key(&self, source: i64, name: &Hash) -> Key {
        self.cache.keys.block(Namespace::AnalyticsIndex, source, &name.to_string())
    }

    /// How long frames and manifests live: longer than every pointer that may name them.
    pub(super) fn block_ttl_ms(&self) -> u64 {
        self.analytics_ttl_ms() + limits::ANALYTICS_OUTLIVE_MS
    }

    /// Writes the frames that are not there.
    pub(super) async fn write(&self, job: &Job, made: &Made, written: &Written) -> Result<Counts, Error> {
        job.begin(Stage::Writing);
        let source = job.order.source;
        let missing = self.missing(source, made.frames.iter().map(|(name, _)| name)).await?;
        let reused = (made.frames.len() - missing.len()) as u64;
        job.set(|progress| progress.frames_reused = reused);
        let new = missing.iter().map(|at| &made.frames[*at]);
        let bytes: u64 = new.clone().map(|(_, bytes)| bytes.len() as u64).sum();
        let cost = bytes + made.sealed.len() as u64 + (missing.len() as u64 + 1) * OVERHEAD;
        // What is there already needs no room, and a full store is no reason not to say that nothing has changed.
        if !missing.is_empty() {
            self.admit(cost).await?;
        }
        self.put_frames(job, new.cloned().collect(), written).await?;
        Ok(Counts { fresh: missing, reused, bytes })
    }

    /// Places of those that are not in the store. The others stay for as long as new ones.
    pub(super) async fn missing<'a>(
        &self,
        source: i64,
        names: impl Iterator<Item = &'a Hash>,
    ) -> Result<Vec<usize>, Error> {
        let keys: Vec<Key> = names.map(|name| self.frame_key(source, name)).collect();
        let ttl_ms = self.block_ttl_ms();
        let mut missing = Vec::new();
        for (chunk, keys) in keys.chunks(COMMANDS).enumerate() {
            let ops = keys.iter().map(|key| Op::Keep { key: key.clone(), ttl_ms }).collect();
            let replies = self.exec_patiently(ops).await?;
            for (at, reply) in replies.iter().enumerate() {
                match reply {
                    Ok(Reply::Done(true)) => {}
                    Ok(Reply::Done(false)) => missing.push(chunk * COMMANDS + at),
                    _ => return Err(store_fails(&replies)),
                }
            }
        }
        Ok(missing)
    }

    /// Whether there is room for so many bytes.
    async fn admit(&self, bytes: u64) -> Result<(), Error> {
        // A store that does not say how large it is says so when it is full.
        let size = self.cache.size().await.unwrap_or_default();
        match lacking(&size, bytes) {
            0 => Ok(()),
            lacking => {
                let message = format!(
                    "the store has no room for {bytes} more bytes of this data source: {lacking} are lacking, since a fifth of \
                     its limit of {} stays free; nothing was written",
                    size.limit.unwrap_or_default()
                );
                Err(Error { reason: Some("store_memory"), ..Error::new(Code::Overloaded, message) })
            }
        }
    }

    /// Writes these, some at a time.
    pub(super) async fn put_frames(
        &self,
        job: &Job,
        frames: Vec<(Hash, Bytes)>,
        written: &Written,
    ) -> Result<(), Error> {
        let (source, all) = (job.order.source, frames.len().max(1) as f64);
        let mut done = 0.0;
        let batches = batches(frames).into_iter().map(|batch| async move {
            let put = |(name, value): &(Hash, Bytes)| Op::Put {
                key: self.frame_key(source, name),
                value: value.clone(),
                ttl_ms: self.block_ttl_ms(),
            };
            written.note(batch.iter().map(|(name, _)| self.frame_key(source, name)));
            let replies = self.exec_patiently(batch.iter().map(put).collect()).await?;
            if replies.iter().all(Result::is_ok) { Ok(batch.len()) } else { Err(store_fails(&replies)) }
        });
        let mut writing = stream::iter(batches).buffer_unordered(limits::ANALYTICS_WRITES_AHEAD);
        while let Some(frames) = writing.try_next().await? {
            done += frames as f64;
            job.set(|progress| {
                progress.frames_written += frames as u64;
                progress.share = done / all;
            });
        }
        Ok(())
    }
}

/// Frames in the order they came, as many at a time as travel well together.
fn batches(frames: Vec<(Hash, Bytes)>) -> Vec<Vec<(Hash, Bytes)>> {
    let mut batches: Vec<Vec<(Hash, Bytes)>> = Vec::new();
    let mut bytes = usize::MAX;
    for frame in frames {
        if bytes.saturating_add(frame.1.len()) > limits::ANALYTICS_WRITE_BYTES {
            (bytes, _) = (0, batches.push(Vec::new()));
        }
        bytes += frame.1.len();
        batches.last_mut().expect("one was pushed").push(frame);
    }
    batches
}

/// Bytes that are lacking for so many more. A store is never filled for more than four fifths, and an estimate is off by
/// a seventh at most.
fn lacking(size: &Size, bytes: u64) -> u64 {
    let (Some(used), Some(limit)) = (size.bytes, size.limit) else { return 0 };
    let wanted = used.saturating_add(bytes.saturating_add(bytes * 3 / 20));
    wanted.saturating_sub(limit / 5 * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_stays_free_and_what_is_not_known_is_allowed() {
        let size = |bytes, limit| Size { keys: None, bytes, limit };
        for (used, new, expected) in
            [(0, 0, 0), (0, 100, 0), (685, 100, 0), (686, 100, 1), (800, 1, 1), (900, 20, 123)]
        {
            assert_eq!(lacking(&size(Some(used), Some(1_000)), new), expected, "{used} + {new}");
        }
        assert_eq!(lacking(&size(None, Some(1)), 100), 0);
        assert_eq!(lacking(&size(Some(100), None), 100), 0);
    }

    #[test]
    fn batches_are_bounded_and_complete() {
        let frame = |at: usize, length: usize| (Hash::of(&at.to_be_bytes()), Bytes::from(vec![0; length]));
        let frames: Vec<_> =
            (0..200).map(|at| frame(at, (at * 977) % (2 * limits::ANALYTICS_WRITE_BYTES))).collect();
        let batched = batches(frames.clone());
        let bytes = |batch: &[(Hash, Bytes)]| batch.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        assert!(
            batched.iter().all(|batch| batch.len() == 1 || bytes(batch) <= limits::ANALYTICS_WRITE_BYTES)
        );
        assert_eq!(batched.concat(), frames);
        assert!(batches(Vec::new()).is_empty());
    }
}
