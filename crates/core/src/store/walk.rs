//! Walking over all keys that begin alike, and how many there are. For the rare work of an administrator, never on
//! the way of a request: a walk costs one command per thousand keys of the whole server.
//!
//! Invariant: a key that is there from the first page to the last is in one of them; a walk that cannot see every node
//! fails instead of leaving some out.

use bytes::Bytes;

use super::{Store, StoreError};

/// Where a walk stands.
#[derive(Debug)]
pub struct Walk {
    /// What the keys begin with, as bytes.
    pub(super) beginning: Vec<u8>,
    /// Nodes that are left, the present one last; unknown before the first page.
    pub(super) nodes: Option<Vec<String>>,
    pub(super) cursor: u64,
    shard: usize,
}

/// What the server says of its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Keys, those of others included.
    pub keys: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
    /// Bytes that it may hold; unknown where it has no limit of its own.
    pub limit: Option<u64>,
}

impl Walk {
    /// A walk over all keys that begin with these bytes.
    pub fn over(beginning: Vec<u8>) -> Self {
        Self { beginning, nodes: None, cursor: 0, shard: 0 }
    }
}

impl Store {
    /// The next page, which may be empty or name keys of an earlier one again; `None` = it is over.
    pub async fn walk(&self, walk: &mut Walk) -> Result<Option<Vec<Bytes>>, StoreError> {
        let embedded = match self {
            Store::None => return Err(StoreError::Unavailable("no store is configured".into())),
            Store::Valkey(store) => return store.walk(walk).await,
            Store::Embedded(store) => store,
            Store::Sim(store) => store.walkable()?,
        };
        let page = embedded.keys_of(walk.shard, &walk.beginning);
        walk.shard += 1;
        Ok(page)
    }

    /// How large it is, as far as it says so.
    pub async fn size(&self) -> Result<Size, StoreError> {
        let embedded = match self {
            Store::None => return Err(StoreError::Unavailable("no store is configured".into())),
            Store::Valkey(store) => return store.size().await,
            Store::Embedded(store) => store,
            Store::Sim(store) => store.walkable()?,
        };
        let (keys, bytes, limit) = (embedded.len(), embedded.bytes(), embedded.budget());
        Ok(Size { keys: Some(keys as u64), bytes: Some(bytes as u64), limit: Some(limit as u64) })
    }
}
