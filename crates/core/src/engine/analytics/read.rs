//! From a pointer to the frames of a question: out of this process, else out of the store. Not the question itself.
//!
//! Invariant: a frame or manifest is what its name says, or there is none; whoever lacks one answers nothing from the rest.

use std::sync::Arc;

use crate::analytics::{Frame, Hash, Manifest, Plan, Refused};
use crate::base::key::Namespace;
use crate::base::limits;
use crate::store::{Op, Reply, StoreError, StoreResult};
use bytes::Bytes;

use super::super::Core;
use super::live::Seen;
use super::{Layer, Past};

/// One generation, for as long as a request needs it.
#[derive(Clone)]
pub(super) struct Pin {
    pub(super) number: u64,
    pub(super) manifest: Arc<Manifest>,
    /// Where the manifest came from.
    pub(super) layer: Layer,
}

/// The frames of a plan.
pub(super) struct Frames {
    pub(super) frames: Vec<Arc<Frame>>,
    /// Where the farthest of them came from.
    pub(super) layer: Layer,
}

impl Core {
    /// The generation that the pointer names.
    pub(super) async fn pin(&self, source: i64, seen: &Seen) -> Result<Pin, Past> {
        let live = seen.live.as_ref().ok_or(Past::Cold)?;
        let served = live.served().ok_or(match live.state {
            crate::analytics::State::Quarantined => Past::Quarantined,
            _ if live.held.is_some() => Past::Held,
            _ => Past::Cold,
        })?;
        if !self.analytics.goes_on(source, served.number) {
            return Err(Past::Older);
        }
        let name = served.manifest().ok_or(Past::Hole)?;
        let number = served.number;
        if let Some(manifest) = self.analytics.blocks.manifest(&name) {
            return Ok(self.pinned(source, number, manifest, Layer::Near));
        }
        let _turn = self.analytics.turn(&name).await;
        if let Some(manifest) = self.analytics.blocks.manifest(&name) {
            return Ok(self.pinned(source, number, manifest, Layer::Near));
        }
        let key = self.cache.keys.block(Namespace::AnalyticsIndex, source, &name.to_string());
        let bytes = stored(self.cache.exec(vec![Op::Get(key)]).await.pop())?;
        let opened = self.compute(u64::MAX, move || Manifest::open(&bytes, &name)).await;
        let manifest = Arc::new(opened.map_err(|refused| corrupt(source, &refused))?);
        self.analytics.blocks.keep_manifest(name, &manifest);
        Ok(self.pinned(source, number, manifest, Layer::Store))
    }

    fn pinned(&self, source: i64, number: u64, manifest: Arc<Manifest>, layer: Layer) -> Pin {
        self.analytics.schemas.keep(source, manifest.schema());
        Pin { number, manifest, layer }
    }

    /// All frames of the plan.
    pub(super) async fn frames(&self, source: i64, pin: &Pin, plan: &Plan) -> Result<Frames, Past> {
        let names: Vec<Hash> = plan.parts.iter().map(|part| pin.manifest.frames()[part.frame].hash).collect();
        let mut found: Vec<Option<Arc<Frame>>> =
            names.iter().map(|name| self.analytics.blocks.frame(name)).collect();
        let Some(first) = found.iter().position(Option::is_none) else {
            return Ok(Frames { frames: found.into_iter().flatten().collect(), layer: pin.layer });
        };
        // Charts of one dashboard want the same frames at the same moment: one of them fetches.
        let _turn = self.analytics.turn(&names[first]).await;
        let mut missing = Vec::new();
        for (at, name) in names.iter().enumerate() {
            if found[at].is_none() {
                found[at] = self.analytics.blocks.frame(name);
            }
            if found[at].is_none() {
                missing.push(at);
            }
        }
        let layer = if missing.is_empty() { pin.layer } else { Layer::Store };
        let mut unpacking: Option<tokio::task::JoinHandle<Unpacked>> = None;
        for chunk in missing.chunks(limits::ANALYTICS_READ_FRAMES) {
            let op = |at: &usize| {
                Op::Get(self.cache.keys.block(Namespace::AnalyticsFrame, source, &names[*at].to_string()))
            };
            let replies = self.cache.exec(chunk.iter().map(op).collect()).await;
            self.take(source, unpacking.take(), &mut found).await?;
            let sealed =
                chunk.iter().zip(replies).map(|(at, reply)| Ok((*at, names[*at], stored(Some(reply))?)));
            let sealed: Vec<(usize, Hash, Bytes)> = sealed.collect::<Result<_, Past>>()?;
            let manifest = pin.manifest.clone();
            // While one chunk is unpacked, the next one is on its way.
            unpacking = Some(tokio::task::spawn_blocking(move || {
                let open = |(at, name, bytes): (usize, Hash, Bytes)| {
                    Frame::open(&bytes, &name, manifest.schema()).map(|frame| (at, name, Arc::new(frame)))
                };
                sealed.into_iter().map(open).collect()
            }));
        }
        self.take(source, unpacking, &mut found).await?;
        Ok(Frames { frames: found.into_iter().flatten().collect(), layer })
    }

    async fn take(
        &self,
        source: i64,
        unpacking: Option<tokio::task::JoinHandle<Unpacked>>,
        found: &mut [Option<Arc<Frame>>],
    ) -> Result<(), Past> {
        let Some(unpacking) = unpacking else { return Ok(()) };
        let unpacked = unpacking.await.map_err(|_| Past::Hole)?;
        for (at, name, frame) in unpacked.map_err(|refused| corrupt(source, &refused))? {
            self.analytics.blocks.keep_frame(name, &frame);
            found[at] = Some(frame);
        }
        Ok(())
    }
}

type Unpacked = Result<Vec<(usize, Hash, Arc<Frame>)>, Refused>;

/// The bytes of a block, which must be there.
fn stored(reply: Option<StoreResult>) -> Result<Bytes, Past> {
    match reply {
        Some(Ok(Reply::Bytes(Some(bytes)))) => Ok(bytes),
        Some(Ok(_) | Err(StoreError::WrongType)) => Err(Past::Hole),
        _ => Err(Past::StoreDown),
    }
}

fn corrupt(source: i64, refused: &Refused) -> Past {
    tracing::error!(component = "analytics", data_source = source, reason = %refused, "stored analytics cannot be read");
    Past::Hole
}
