//! Loads that JavaScript runs: handed out as numbered leads, they come back with their result.
//!
//! Invariant: a lead is ended by its result, by its caller's end, by its environment's end, or by the end of
//! its lease, whichever comes first.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::error::{Code, Error};
use crate::cache::flight::Failure;
use crate::cache::lease::Lease;
use crate::cache::tiered::{Asked, Begin};

use crate::datasource;

use super::hot::Read;
use super::{Core, JsLead, Outcome, Started};

/// What takes longer to compress than a round trip.
const LONG_BYTES: usize = 128 * 1024;

impl Core {
    pub(super) async fn begin_lead(
        self: &Arc<Self>,
        read: Read,
        asked: Asked,
        env: u64,
        full: bool,
        started: Started,
    ) -> Outcome {
        match self.cache.begin(read.subject(), asked).await {
            Err(error) => error.into(),
            Ok(Begin::LoaderFailed(number)) => Outcome::LoaderFailed(number),
            Ok(Begin::Found(found)) => {
                self.count(&read, &found, started);
                read.outcome(&found, full)
            }
            Ok(Begin::Lead(right)) => {
                let number = self.next_lead.fetch_add(1, Ordering::SeqCst) + 1;
                self.leads.lock().insert(number, JsLead { right, read, env, started });
                self.forget_later(number);
                Outcome::Lead(number)
            }
        }
    }

    /// After the lease has ended nobody needs to wait for this loader any more.
    fn forget_later(self: &Arc<Self>, number: u64) {
        let core = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(core.cache.times.lease_ms)).await;
            core.forget(number).await;
        });
    }

    /// Ends a load that nobody will run, and gives its lease back, so that nobody waits for it.
    pub(super) async fn forget(&self, number: u64) {
        let gone = self.leads.lock().remove(&number);
        if let Some(JsLead { right, read, .. }) = gone {
            self.cache.fail(read.subject().key(), right, Failure::Abandoned).await;
        }
    }

    /// As `forget`, for every load of an environment that is gone.
    pub(super) async fn forget_all(&self, of: impl Fn(&JsLead) -> bool) {
        let numbers: Vec<u64> =
            self.leads.lock().iter().filter(|(_, lead)| of(lead)).map(|(number, _)| *number).collect();
        for number in numbers {
            self.forget(number).await;
        }
    }

    /// Ends a load with the JSON of what was loaded, or as failed.
    pub(super) async fn end_lead(&self, number: u64, json: Option<String>) -> Result<Outcome, Error> {
        let Some(JsLead { right, read, started, .. }) = self.leads.lock().remove(&number) else {
            return Ok(Outcome::Nothing);
        };
        let Some(json) = json else {
            self.cache.fail(read.subject().key(), right, Failure::Loader(number)).await;
            return Ok(Outcome::Nothing);
        };
        let loaded = match &read {
            Read::Jwt(subject) => self.verified(subject, right.lease(), &json).await,
            Read::Value(subject) => subject.loaded(json),
            Read::Layered(subject) => subject.loaded(json, right.lease().and_then(Lease::companion)),
            Read::Result { subject, .. } => {
                let (length, generation) = (json.len(), right.lease().and_then(Lease::companion));
                self.telemetry.results_too_large.add(u64::from(!subject.fits(length)));
                let pack = move || datasource::pack(json.as_bytes(), generation.unwrap_or(0));
                // Not on a worker's thread when it takes as long as many requests.
                let payload = match length > LONG_BYTES {
                    true => tokio::task::spawn_blocking(pack).await.unwrap_or_default(),
                    false => pack(),
                };
                subject.loaded(payload, length, generation)
            }
            Read::Token(_) | Read::User(_) | Read::Role(_) => {
                return Err(Error::new(Code::Internal, "a load that JavaScript was never given"));
            }
        };
        let found = self.cache.finish(read.subject(), right, loaded).await;
        self.count(&read, &found, started);
        if matches!(read, Read::Layered(_)) && found.etag == 0 {
            // Whoever warms wants to know whether it is stored.
            return Ok(Outcome::Nothing);
        }
        Ok(Outcome::Object { serial: found.serial, text: None })
    }
}
