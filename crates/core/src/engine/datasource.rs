//! Requests about results of data sources. The query itself is a loader like any other: `leads`.

use crate::base::error::Error;
use crate::cache::policy::Subject;
use crate::cache::{Effect, Invalidation, Loaded};
use crate::datasource::{ResultSubject, Wish, generation_key, pack, regenerate};

use super::Core;

/// What takes longer to compress than a round trip.
const LONG_BYTES: usize = 128 * 1024;

impl Core {
    pub(super) fn result(
        &self,
        source: &str,
        hash: &str,
        ttl_ms: u64,
        wish: Wish,
    ) -> Result<ResultSubject, Error> {
        let longest = self.settings.datasource.max_bytes;
        ResultSubject::new(&self.cache.keys, source, hash, ttl_ms, longest)?.wishing(wish)
    }

    /// What a query has brought that took since `begun_ms`, as it is stored.
    pub(super) async fn packed(
        &self,
        subject: &ResultSubject,
        json: String,
        generation: Option<u64>,
        begun_ms: u64,
    ) -> Loaded {
        let length = json.len();
        self.telemetry.results_too_large.add(u64::from(!subject.fits(length)));
        // The clock counts whole milliseconds: what took less than one took some.
        let took_ms = self.cache.clock.now_ms().saturating_sub(begun_ms).max(1);
        let head = subject.head(generation, took_ms);
        let pack = move || pack(json.as_bytes(), head);
        // Not on a worker's thread when it takes as long as many requests.
        let payload = match length > LONG_BYTES {
            true => tokio::task::spawn_blocking(pack).await.unwrap_or_default(),
            false => pack(),
        };
        subject.loaded(payload, length, generation)
    }

    pub(super) async fn invalidate_result(&self, source: &str, hash: &str) -> Result<Invalidation, Error> {
        let subject = self.result(source, hash, 0, Wish::default())?;
        self.cache.invalidate(vec![(subject.key().clone(), Effect::Delete)]).await
    }

    /// All results of a source, whatever their number.
    pub(super) async fn invalidate_results(&self, source: &str) -> Result<Invalidation, Error> {
        let key = generation_key(&self.cache.keys, source)?;
        self.cache.invalidate(vec![(key, regenerate())]).await
    }
}
