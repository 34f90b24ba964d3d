//! Requests about results of data sources. The query itself is a loader like any other: `leads`.

use crate::base::error::Error;
use crate::cache::policy::Subject;
use crate::cache::{Effect, Invalidation};
use crate::datasource::{ResultSubject, generation_key, regenerate};

use super::Core;

impl Core {
    pub(super) fn result(&self, source: &str, hash: &str, ttl_ms: u64) -> Result<ResultSubject, Error> {
        ResultSubject::new(&self.cache.keys, source, hash, ttl_ms, self.settings.datasource.max_bytes)
    }

    pub(super) async fn invalidate_result(&self, source: &str, hash: &str) -> Result<Invalidation, Error> {
        let subject = self.result(source, hash, 0)?;
        self.cache.invalidate(vec![(subject.key().clone(), Effect::Delete)]).await
    }

    /// All results of a source, whatever their number.
    pub(super) async fn invalidate_results(&self, source: &str) -> Result<Invalidation, Error> {
        let key = generation_key(&self.cache.keys, source)?;
        self.cache.invalidate(vec![(key, regenerate())]).await
    }
}
