//! What this process remembers of the index: frames and manifests, unpacked, and what the pointers said last. Frames and
//! manifests are named by their content, so what is remembered is never out of date; a pointer is read anew for every
//! question, and only its text is not parsed twice.
//!
//! Invariant: frames and manifests together stay within their budget.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::analytics::{Frame, Hash, Live, Manifest, Schema};

/// What an entry costs beside its content.
const OVERHEAD: u64 = 128;

/// Something immutable.
#[derive(Clone)]
enum Block {
    Frame(Arc<Frame>),
    /// With the bytes it is counted as.
    Manifest(Arc<Manifest>, u64),
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Hash, Block> for ByBytes {
    fn weight(&self, _: &Hash, block: &Block) -> u64 {
        OVERHEAD
            + match block {
                Block::Frame(frame) => frame.size() as u64,
                Block::Manifest(_, bytes) => *bytes,
            }
    }
}

/// Frames and manifests in this process.
pub(super) struct Blocks(Cache<Hash, Block, ByBytes, ahash::RandomState>);

impl Blocks {
    /// Holds at most so many bytes.
    pub(super) fn new(budget: u64) -> Self {
        let items = (budget / 16_384).clamp(64, 1 << 20) as usize;
        Self(Cache::with(items, budget.max(1), ByBytes, ahash::RandomState::new(), Default::default()))
    }

    pub(super) fn frame(&self, name: &Hash) -> Option<Arc<Frame>> {
        match self.0.get(name)? {
            Block::Frame(frame) => Some(frame),
            Block::Manifest(..) => None,
        }
    }

    pub(super) fn manifest(&self, name: &Hash) -> Option<Arc<Manifest>> {
        match self.0.get(name)? {
            Block::Manifest(manifest, _) => Some(manifest),
            Block::Frame(_) => None,
        }
    }

    pub(super) fn keep_frame(&self, name: Hash, frame: &Arc<Frame>) {
        self.0.insert(name, Block::Frame(frame.clone()));
    }

    pub(super) fn keep_manifest(&self, name: Hash, manifest: &Arc<Manifest>) {
        self.0.insert(name, Block::Manifest(manifest.clone(), manifest.size() as u64));
    }

    /// Bytes held now.
    pub(super) fn bytes(&self) -> u64 {
        self.0.weight()
    }
}

/// What each pointer said last.
#[derive(Default)]
pub(super) struct Lives(Mutex<HashMap<i64, (Bytes, Arc<Live>)>>);

/// More data sources than an application has; of those beyond it nothing is remembered.
const SOURCES: usize = 4_096;

/// What each table looked like when it was seen last: enough for answers without rows.
#[derive(Default)]
pub(super) struct Schemas(Mutex<HashMap<i64, Arc<Schema>>>);

impl Schemas {
    pub(super) fn of(&self, source: i64) -> Option<Arc<Schema>> {
        self.0.lock().get(&source).cloned()
    }

    pub(super) fn keep(&self, source: i64, schema: &Schema) {
        let mut schemas = self.0.lock();
        let known = schemas.get(&source).is_some_and(|known| known.fingerprint() == schema.fingerprint());
        if !known && (schemas.len() < SOURCES || schemas.contains_key(&source)) {
            schemas.insert(source, Arc::new(schema.clone()));
        }
    }
}

impl Lives {
    /// What these bytes say; `None` when they cannot be read.
    pub(super) fn read(&self, source: i64, bytes: &Bytes) -> Option<Arc<Live>> {
        if let Some((known, live)) = self.0.lock().get(&source)
            && known == bytes
        {
            return Some(live.clone());
        }
        let live = match Live::open(bytes) {
            Ok(live) => Arc::new(live),
            Err(error) => {
                tracing::error!(component = "analytics", data_source = source, reason = %error, "a live pointer cannot be read");
                return None;
            }
        };
        let mut lives = self.0.lock();
        if lives.len() < SOURCES || lives.contains_key(&source) {
            lives.insert(source, (bytes.clone(), live.clone()));
        }
        Some(live)
    }
}
