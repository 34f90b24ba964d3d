//! Before a generation is published: everything of it is in the store, and reads as what was built.
//!
//! Invariant: every frame was confirmed after the last one was written, the manifest byte by byte, and some frames at random were
//! read back.

use std::sync::Arc;

use bytes::Bytes;

use crate::analytics::{Frame, Generation, Hash, Manifest, Refused};
use crate::base::error::{Code, Error};
use crate::base::limits;
use crate::store::{Op, Reply};

use super::super::super::Core;
use super::job::{Job, Stage};
use super::lock::store_fails;
use super::make::Made;
use super::write::Written;

/// How often frames that went missing are written again.
const ROUNDS: usize = 3;
/// One frame of so many is read back, and at least one.
const READ_BACK: usize = 100;

impl Core {
    /// Confirms that everything is there.
    pub(super) async fn verify(&self, job: &Job, made: &Made, written: &Written) -> Result<(), Error> {
        job.begin(Stage::Verifying);
        let source = job.order.source;
        self.put_manifest(job, made, written).await?;
        let mut missing = Vec::new();
        for _ in 0..ROUNDS {
            missing = self.missing(source, made.frames.iter().map(|(name, _)| name)).await?;
            if missing.is_empty() {
                break;
            }
            let again = missing.iter().map(|at| made.frames[*at].clone()).collect();
            self.put_frames(job, again, written).await?;
        }
        if !missing.is_empty() {
            return Err(evicted(missing.len()));
        }
        let read = self.stored(vec![Op::Get(self.manifest_key(source, &made.name))]).await?;
        if read.first() != Some(&Some(made.sealed.clone())) {
            return Err(evicted(1));
        }
        job.set(|progress| progress.share = 0.5);
        self.read_back(source, made).await
    }

    async fn read_back(&self, source: i64, made: &Made) -> Result<(), Error> {
        if made.frames.is_empty() {
            return Ok(());
        }
        let count = made.frames.len().div_ceil(READ_BACK).min(limits::ANALYTICS_READ_FRAMES);
        let chosen: Vec<Hash> =
            (0..count).map(|_| made.frames[fastrand::usize(..made.frames.len())].0).collect();
        let ops = chosen.iter().map(|name| Op::Get(self.frame_key(source, name))).collect();
        let read: Option<Vec<Bytes>> = self.stored(ops).await?.into_iter().collect();
        let read = read.ok_or_else(|| evicted(1))?;
        let manifest = made.manifest.clone();
        let open = move || -> Result<(), Refused> {
            let frames = chosen.iter().zip(&read);
            frames.map(|(name, bytes)| Frame::open(bytes, name, manifest.schema()).map(drop)).collect()
        };
        Ok(self.compute(u64::MAX, open).await?)
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

fn evicted(count: usize) -> Error {
    let message = format!(
        "{count} stored parts were gone again at once: the store has too little memory; nothing was published"
    );
    Error { reason: Some("store_memory"), ..Error::new(Code::Overloaded, message) }
}
