//! Before a generation is published: everything of it is in the store, and reads as what was built.
//!
//! Invariant: every frame was confirmed after the last one was written; the manifest, every frame that others wrote and some
//! of the new ones at random were read back byte by byte.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::analytics::{Generation, Manifest};
use crate::base::error::{Code, Error};
use crate::base::limits;
use crate::store::{Op, Reply};

use super::super::super::Core;
use super::job::{Job, Stage};
use super::lock::store_fails;
use super::make::Made;
use super::write::Written;

/// How often what went missing, or is not what it was, is written again.
const ROUNDS: usize = 3;
/// One new frame of so many is read back, and at least one.
const READ_BACK: usize = 100;

impl Core {
    /// Confirms that everything is there. `fresh` are the places of the frames that this warm wrote: what became of the
    /// others since they were written, nobody knows.
    pub(super) async fn verify(
        &self,
        job: &Job,
        made: &Made,
        fresh: &[usize],
        written: &Written,
    ) -> Result<(), Error> {
        job.begin(Stage::Verifying);
        let fresh: HashSet<usize> = fresh.iter().copied().collect();
        let some = |at: &usize| !fresh.contains(at) || fastrand::usize(..READ_BACK) == 0;
        let mut suspects: Vec<usize> = (0..made.frames.len()).filter(some).collect();
        suspects.extend(fresh.iter().next());
        let mut lost = 0;
        for _ in 0..ROUNDS {
            let manifest = self.confirm_manifest(job, made, written).await?;
            let mut bad = self.missing(job.order.source, made.frames.iter().map(|(name, _)| name)).await?;
            if bad.is_empty() {
                bad = self.differing(job, made, &suspects).await?;
            }
            lost = bad.len() + usize::from(!manifest);
            if lost == 0 {
                return Ok(());
            }
            self.put_frames(job, bad.iter().map(|at| made.frames[*at].clone()).collect(), written).await?;
            suspects = bad;
        }
        let message = format!(
            "{lost} stored parts were gone again at once: the store has too little memory; nothing was published"
        );
        Err(Error { reason: Some("store_memory"), ..Error::new(Code::Overloaded, message) })
    }

    /// Whether the manifest was there as it is; now it is.
    async fn confirm_manifest(&self, job: &Job, made: &Made, written: &Written) -> Result<bool, Error> {
        let (key, ttl_ms) = (self.manifest_key(job.order.source, &made.name), self.block_ttl_ms());
        let keep = Op::Keep { key: key.clone(), ttl_ms };
        let replies = self.exec_patiently(vec![keep, Op::Get(key.clone())]).await?;
        if matches!(replies.get(1), Some(Ok(Reply::Bytes(Some(bytes)))) if *bytes == made.sealed) {
            return Ok(true);
        }
        written.note(std::iter::once(key.clone()));
        let replies = self.exec_patiently(vec![Op::Put { key, value: made.sealed.clone(), ttl_ms }]).await?;
        if replies.iter().all(Result::is_ok) { Ok(false) } else { Err(store_fails(&replies)) }
    }

    /// Those of these frames that are not in the store as they were made.
    async fn differing(&self, job: &Job, made: &Made, suspects: &[usize]) -> Result<Vec<usize>, Error> {
        let (mut differing, mut done) = (Vec::new(), 0);
        for chunk in suspects.chunks(limits::ANALYTICS_READ_FRAMES) {
            let get = |at: &usize| Op::Get(self.frame_key(job.order.source, &made.frames[*at].0));
            let read = self.stored(chunk.iter().map(get).collect()).await?;
            let differs =
                |(at, bytes): &(&usize, Option<Bytes>)| bytes.as_ref() != Some(&made.frames[**at].1);
            differing.extend(chunk.iter().zip(read).filter(differs).map(|(at, _)| *at));
            done += chunk.len();
            job.set(|progress| progress.share = done as f64 / suspects.len() as f64);
        }
        Ok(differing)
    }

    async fn stored(&self, ops: Vec<Op>) -> Result<Vec<Option<Bytes>>, Error> {
        let replies = self.exec_patiently(ops).await?;
        let bytes = replies.iter().map(|reply| match reply {
            Ok(Reply::Bytes(bytes)) => Some(bytes.clone()),
            _ => None,
        });
        bytes.collect::<Option<_>>().ok_or_else(|| store_fails(&replies))
    }

    /// The manifest of a generation that was stored before; `None` when it is not there or not what it should be.
    pub(super) async fn manifest_of(
        &self,
        source: i64,
        generation: &Generation,
    ) -> Result<Option<Arc<Manifest>>, Error> {
        let Some(name) = generation.manifest() else { return Ok(None) };
        if let Some(manifest) = self.analytics.blocks.manifest(&name) {
            return Ok(Some(manifest));
        }
        let read = self.stored(vec![Op::Get(self.manifest_key(source, &name))]).await?;
        let Some(Some(bytes)) = read.into_iter().next() else { return Ok(None) };
        let opened = self.compute(u64::MAX, move || Manifest::open(&bytes, &name)).await;
        Ok(opened.ok().map(Arc::new))
    }

    /// Whether all of a generation is in the store. What is there stays for as long as what is new.
    pub(super) async fn is_whole(&self, source: i64, generation: &Generation) -> Result<bool, Error> {
        let Some(manifest) = self.manifest_of(source, generation).await? else { return Ok(false) };
        let Some(name) = generation.manifest() else { return Ok(false) };
        let keep = Op::Keep { key: self.manifest_key(source, &name), ttl_ms: self.block_ttl_ms() };
        let replies = self.exec_patiently(vec![keep]).await?;
        match replies.first() {
            Some(Ok(Reply::Done(true))) => {}
            Some(Ok(Reply::Done(false))) => return Ok(false),
            _ => return Err(store_fails(&replies)),
        }
        let names = manifest.frames().iter().map(|frame| &frame.hash);
        Ok(self.missing(source, names).await?.is_empty())
    }
}
