//! Loads that JavaScript runs: handed out as numbered leads, they come back with their result.
//!
//! Invariant: a lead is ended by its result, by its caller's end, by its environment's end, or by the end of
//! the time that such a load may take, whichever comes first.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::error::{Code, Error};
use crate::cache::flight::Failure;
use crate::cache::lease::Lease;
use crate::cache::tiered::{Asked, Begin};
use crate::store::Op;

use super::hot::Read;
use super::{Core, JsLead, Outcome, Started};

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
                let begun_ms = self.cache.clock.now_ms();
                let longest_ms = read.subject().longest_load_ms(&self.cache.times);
                self.leads.lock().insert(number, JsLead { right, read, env, started, begun_ms });
                self.watch(number, longest_ms);
                Outcome::Lead(number)
            }
        }
    }

    /// Keeps the right of a loader while it runs. When it takes longer than such a one may, nobody waits for it any more.
    pub(super) fn watch(self: &Arc<Self>, number: u64, longest_ms: u64) {
        let core = self.clone();
        tokio::spawn(async move {
            let lease_ms = core.cache.times.lease_ms;
            // Two renewals before the lease ends: one may be lost.
            let step_ms = if longest_ms > lease_ms { lease_ms / 3 } else { lease_ms };
            let mut left_ms = longest_ms;
            while left_ms > 0 {
                let pause_ms = step_ms.clamp(1, left_ms);
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                left_ms -= pause_ms;
                let Some(renewal) = core.renewal(number) else { return };
                if left_ms > 0 && !renewal.is_empty() {
                    core.cache.exec(renewal).await;
                }
            }
            core.forget(number).await;
        });
    }

    /// What keeps the right of a loader; `None` when it has ended.
    fn renewal(&self, number: u64) -> Option<Vec<Op>> {
        let lease_ms = self.cache.times.lease_ms;
        let of_lead =
            self.leads.lock().get(&number).map(|lead| lead.right.renewal(lead.read.subject(), lease_ms));
        of_lead.or_else(|| self.refreshes.renewal(number, lease_ms))
    }

    /// Ends a load that nobody will run, and gives its lease back, so that nobody waits for it.
    pub(super) async fn forget(&self, number: u64) {
        let gone = self.leads.lock().remove(&number);
        if let Some(JsLead { right, read, .. }) = gone {
            self.cache.fail(read.subject().key(), right, Failure::Abandoned).await;
        } else {
            self.forget_refresh(number).await;
        }
    }

    /// As `forget`, for every load of an environment that is gone.
    pub(super) async fn forget_all(&self, of: impl Fn(u64) -> bool) {
        let numbers: Vec<u64> =
            self.leads.lock().iter().filter(|(_, lead)| of(lead.env)).map(|(number, _)| *number).collect();
        for number in numbers.into_iter().chain(self.refreshes.of(of)) {
            self.forget(number).await;
        }
    }

    /// Ends a load with the JSON of what was loaded, or as failed.
    pub(super) async fn end_lead(&self, number: u64, json: Option<String>) -> Result<Outcome, Error> {
        let Some(JsLead { right, read, started, begun_ms, .. }) = self.leads.lock().remove(&number) else {
            self.end_refresh(number, json).await;
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
                let generation = right.lease().and_then(Lease::companion);
                self.packed(subject, json, generation, begun_ms).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::base::limits;
    use crate::cache::policy::Subject;
    use crate::config;
    use crate::datasource::{ResultSubject, Wish};
    use crate::engine::refreshes::RefreshRequest;
    use crate::store::Reply;

    const LEASE_MS: u64 = 10_000;

    async fn core() -> Arc<Core> {
        let clock = Clock::fake(1);
        let settings = config::load(&[("CACHE_STORE".into(), "embedded".into())], &serde_json::json!({}));
        let settings = settings.expect("settings");
        let core = Core::simulated(settings, clock.clone(), &tokio::runtime::Handle::current());
        let core = Arc::new(core.expect("a core"));
        assert_eq!(core.cache.times.lease_ms, LEASE_MS);
        let guarded = core.clone();
        tokio::spawn(async move { guarded.cache.guard().await });
        core.cache.ready().await;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                clock.advance_ms(1);
            }
        });
        core
    }

    fn result(core: &Core) -> ResultSubject {
        core.result("s", "h", 60_000, Wish { stale_ms: 60_000, beta: 0.0 }).expect("a subject")
    }

    async fn begin(core: &Arc<Core>) -> u64 {
        let subject = result(core);
        let asked = core.cache.ask(&subject);
        let started = Started { us: 0, moment: asked.moment };
        let read = Read::Result { subject, raw: false };
        match core.begin_lead(read, asked, 1, false, started).await {
            Outcome::Lead(number) => number,
            other => panic!("{other:?}"),
        }
    }

    async fn is_there(core: &Core, key: &crate::base::key::Key) -> bool {
        matches!(core.cache.exec(vec![Op::Get(key.clone())]).await.pop(), Some(Ok(Reply::Bytes(Some(_)))))
    }

    async fn sleep(ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_query_keeps_its_right_and_one_that_does_not_end_loses_it() {
        let core = core().await;
        let key = result(&core).key().clone();
        let number = begin(&core).await;
        sleep(4 * LEASE_MS).await;
        assert!(is_there(&core, &key).await, "renewed");
        core.end_lead(number, Some("{}".into())).await.expect("stored");
        let found = core.cache.exec(vec![Op::Left(key.clone())]).await.pop();
        assert!(matches!(found, Some(Ok(Reply::Left(Some(left)))) if left > 100_000), "{found:?}");

        core.cache.exec(vec![Op::Delete(key.clone())]).await;
        begin(&core).await;
        sleep(limits::RESULT_LOAD_MS - LEASE_MS).await;
        let led = core.leads.lock().len();
        assert_eq!((led, is_there(&core, &key).await), (1, true));
        sleep(LEASE_MS + 10).await;
        let led = core.leads.lock().len();
        assert_eq!((led, is_there(&core, &key).await), (0, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_does_not_revive_what_was_voided() {
        let core = core().await;
        let key = result(&core).key().clone();
        let number = begin(&core).await;
        core.cache.exec(vec![Op::Delete(key.clone())]).await;
        sleep(2 * LEASE_MS).await;
        assert!(!is_there(&core, &key).await);
        core.end_lead(number, Some("{}".into())).await.expect("answered");
        assert!(!is_there(&core, &key).await, "and it is not stored");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_keeps_its_right_and_gives_it_up_in_the_end() {
        let core = core().await;
        let subject = result(&core);
        let number = begin(&core).await;
        core.end_lead(number, Some("{}".into())).await.expect("stored");
        let stored = core.cache.exec(vec![Op::Head(subject.key().clone())]).await.pop();
        let Some(Ok(Reply::Bytes(Some(head)))) = stored else { panic!("{stored:?}") };
        let etag = crate::base::codec::Header::decode(&head).expect("a header").etag;
        let (source, hash, wish) = ("s".into(), "h".into(), Wish::default());
        let asked = RefreshRequest { source, hash, ttl_ms: 60_000, wish, etag, env: 1 };
        let begun = core.begin_refresh(asked.clone()).await.expect("an answer");
        assert!(matches!(begun, Outcome::Lead(_)), "{begun:?}");
        let again = core.begin_refresh(asked).await.expect("an answer");
        assert!(matches!(again, Outcome::Nothing), "one at a time: {again:?}");
        let lease = subject.key().refresh();
        sleep(limits::RESULT_LOAD_MS - LEASE_MS).await;
        assert_eq!((core.refreshes.len(), is_there(&core, &lease).await), (1, true));
        sleep(LEASE_MS + 10).await;
        assert_eq!((core.refreshes.len(), is_there(&core, &lease).await), (0, false));
    }
}
