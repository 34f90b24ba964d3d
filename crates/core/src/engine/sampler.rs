//! Compares a sample of contexts that the cache served, in whatever way they were asked for, with the source. A
//! difference that is still served in that way two seconds later is a stale authorization: somebody changed a row and
//! told nobody.
//!
//! Invariant: it only counts and logs; it never repairs, so that what it finds is seen.

use std::time::Duration;

use crate::cache::policy::Subject;

use super::contexts::Sample;
use super::{Core, Started};

/// How long a change may be on its way.
const SETTLE_MS: u64 = 2_000;

impl Core {
    /// Runs for ever; ends when the future is dropped.
    pub(super) async fn compare_samples(self: std::sync::Arc<Self>) {
        let Some(mut samples) = self.rbac.sampled.lock().take() else { return };
        while let Some(sample) = samples.recv().await {
            match self.is_stale(&sample).await {
                Ok(stale) => {
                    self.telemetry.contexts_sampled.up();
                    if stale {
                        self.telemetry.contexts_stale.up();
                        let entry = format!("{:?}", sample.user.key());
                        tracing::error!(component = "rbac", entry = %entry, "a served context differs from the source");
                    }
                }
                Err(()) => self.telemetry.contexts_unsampled.up(),
            }
        }
    }

    async fn is_stale(self: &std::sync::Arc<Self>, sample: &Sample) -> Result<bool, ()> {
        let now = self.fresh_context(&sample.user).await.map_err(drop)?;
        if now.is_ok_and(|composed| composed.text == sample.text) {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(SETTLE_MS)).await;
        // Still served, and the source still says otherwise: not a change that was on its way.
        let started = Started { us: self.cache.clock.now_us(), moment: self.cache.flights.moment() };
        let Some(served) = self.served_text(sample, started).await else { return Ok(false) };
        let now = self.fresh_context(&sample.user).await.map_err(drop)?;
        Ok(served == sample.text && !now.is_ok_and(|composed| composed.text == served))
    }

    async fn served_text(
        self: &std::sync::Arc<Self>,
        sample: &Sample,
        started: Started,
    ) -> Option<bytes::Bytes> {
        let request = super::Request::UserContext {
            user_id: sample.user.user_id.clone(),
            consistency: sample.consistency,
            full: true,
        };
        match self.clone().answer(request, None, started).await {
            super::Outcome::Object { text, .. } => text,
            _ => None,
        }
    }
}
