//! The last step of a warm: one compare-and-set of the pointer. And what an operator does with it: back to the generation of
//! before, on to the one that waits, or not.
//!
//! Invariant: what a pointer is made to name was confirmed to be in the store, for longer than the pointer lives.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::analytics::gates::{self, Before};
use crate::analytics::{Generation, Live, State};
use crate::base::error::{Code, Error};
use crate::store::Store;

use super::super::super::health::iso;
use super::super::super::{Core, Outcome};
use super::claim::ATTEMPTS;
use super::job::{Job, Stage};
use super::lock::store_fails;
use super::make::Made;
use super::write::Counts;

/// What became of a generation.
pub(super) enum Fate {
    Published(Generation),
    /// It waits, because of this; the number of what is served meanwhile, 0 = nothing.
    Held(Vec<String>, u64),
}

impl Core {
    /// Publishes what is in the store, or lets it wait when it is not plausible.
    pub(super) async fn publish(&self, job: &Job, made: &Made, claim: u64) -> Result<(Fate, bool), Error> {
        job.begin(Stage::Publishing);
        let source = job.order.source;
        let mut next = Generation::of(&made.manifest, made.name, made.sealed.len() as u64);
        next.snapshot = made.snapshot.clone();
        next.warmed_unix_ms = self.cache.clock.unix_ms();
        next.took_ms = self.cache.clock.now_ms().saturating_sub(job.started_ms);
        let mut lost = Vec::new();
        for _ in 0..ATTEMPTS {
            let (seen, live, left_ms) = self.look_claimed(source, claim).await?;
            if let Some(fate) = arrived(&lost, &live) {
                return Ok(fate);
            }
            let before = if live.state == State::Quarantined { &live.previous } else { &live.current };
            let doubts = self.doubts(source, before.as_ref(), made).await?;
            let other = before.as_ref().is_some_and(|before| before.fingerprint != next.fingerprint);
            let (after, fate, ttl_ms) = if doubts.is_empty() {
                self.keep_previous(source, before.as_ref()).await?;
                let after = successor(&live, next.clone(), self.cache.clock.unix_ms());
                let fate = Fate::Published(after.current.clone().unwrap_or_else(|| next.clone()));
                (after, fate, self.analytics_ttl_ms())
            } else {
                // What is served keeps the time it had.
                (
                    live.holding(next.clone(), doubts.clone()),
                    Fate::Held(doubts, live.served().map_or(0, |served| served.number)),
                    left_ms,
                )
            };
            match self.swap_live_for(source, &seen, &after, ttl_ms).await {
                Ok(Some(_)) => return Ok((fate, other)),
                Ok(None) => {}
                Err(error) if error.opens_breaker() => lost.push((after, fate, other)),
                Err(error) => return Err(store_fails(&vec![Err(error)])),
            }
        }
        Err(Error::new(
            Code::Conflict,
            "the live pointer of the data source is changed by others all the time",
        ))
    }

    async fn doubts(
        &self,
        source: i64,
        before: Option<&Generation>,
        made: &Made,
    ) -> Result<Vec<String>, Error> {
        let Some(before) = before else { return Ok(Vec::new()) };
        let manifest = self.manifest_of(source, before).await?;
        Ok(gates::doubts(Before { rows: before.rows, manifest: manifest.as_deref() }, &made.manifest))
    }

    /// What the pointer names beside the new generation lives as long as the pointer. When it is not whole, there is no way
    /// back to it, which is no reason not to go on.
    async fn keep_previous(&self, source: i64, before: Option<&Generation>) -> Result<(), Error> {
        if let Some(before) = before
            && !self.is_whole(source, before).await?
        {
            tracing::warn!(
                component = "analytics",
                data_source = source,
                "the previous generation is not whole any more"
            );
        }
        Ok(())
    }

    /// The generation of before is served again.
    pub(in crate::engine) async fn roll_back_analytics(
        self: &Arc<Self>,
        source: i64,
    ) -> Result<Outcome, Error> {
        let nothing = "there is no previous generation of the data source";
        self.change_live(
            source,
            |live| live.previous.clone(),
            |live, now_ms| live.rolled_back(now_ms),
            nothing,
        )
        .await
    }

    /// The generation that waits is served.
    pub(in crate::engine) async fn approve_analytics(
        self: &Arc<Self>,
        source: i64,
    ) -> Result<Outcome, Error> {
        let held = |live: &Live| live.held.as_ref().map(|held| held.generation.clone());
        let approved = |live: &Live, now_ms| Some(live.published(held(live)?, now_ms));
        self.change_live(source, held, approved, NOTHING_HELD).await
    }

    /// The generation that waits is given up.
    pub(in crate::engine) async fn discard_analytics(
        self: &Arc<Self>,
        source: i64,
    ) -> Result<Outcome, Error> {
        self.store_configured().await?;
        for _ in 0..ATTEMPTS {
            let (seen, left_ms) = self.look_live_left(source).await?;
            let live = seen.live.as_deref().filter(|live| live.held.is_some());
            let Some(live) = live else { return Err(Error::new(Code::NotFound, NOTHING_HELD)) };
            let next = Live { held: None, ..live.clone() };
            if self
                .swap_live_for(
                    source,
                    &seen,
                    &next,
                    left_ms.unwrap_or_else(|| self.analytics_ttl_ms()).max(1),
                )
                .await
                .map_err(fails)?
                .is_some()
            {
                self.collect_later(source);
                let rows = live.held.as_ref().map(|held| held.generation.rows);
                let result = json!({ "discarded": true, "totalRows": rows });
                return Ok(Outcome::Json(result.to_string()));
            }
        }
        Err(busy())
    }

    /// Puts a generation into service that is in the store already.
    async fn change_live(
        self: &Arc<Self>,
        source: i64,
        wanted: impl Fn(&Live) -> Option<Generation>,
        change: impl Fn(&Live, u64) -> Option<Live>,
        nothing: &'static str,
    ) -> Result<Outcome, Error> {
        self.store_configured().await?;
        for _ in 0..ATTEMPTS {
            let (seen, _) = self.look_live_left(source).await?;
            let wanted = seen.live.as_deref().and_then(&wanted);
            let next = seen.live.as_deref().and_then(|live| change(live, self.cache.clock.unix_ms()));
            let (Some(wanted), Some(next)) = (wanted, next) else {
                return Err(Error::new(Code::NotFound, nothing));
            };
            if !self.is_whole(source, &wanted).await? {
                let message =
                    "not all of that generation is in the store any more: warm the data source anew";
                return Err(Error { reason: Some("incomplete"), ..Error::new(Code::Conflict, message) });
            }
            self.keep_previous(source, next.previous.as_ref()).await?;
            let swapped = self.swap_live(source, &seen, &next).await.map_err(fails)?;
            if let Some(served) = swapped.and_then(|seen| seen.live).as_ref().and_then(|live| live.served()) {
                self.collect_later(source);
                return Ok(Outcome::Json(shown(served).to_string()));
            }
        }
        Err(busy())
    }

    /// `E_STORE_UNAVAILABLE` when there is nowhere to put anything; waits for the first connection.
    pub(super) async fn store_configured(&self) -> Result<(), Error> {
        if matches!(self.cache.store, Store::None) {
            let message = "no store is configured: set REDIS_HOST or CACHE_STORE";
            return Err(Error {
                field: Some("CACHE_STORE".into()),
                ..Error::new(Code::StoreUnavailable, message)
            });
        }
        self.cache.ready().await;
        Ok(())
    }
}

const NOTHING_HELD: &str = "no generation of the data source waits for approval";

/// The pointer with this generation in service. When nothing has changed, the one of before stays the one of before.
fn successor(live: &Live, next: Generation, now_ms: u64) -> Live {
    let same = live.served().is_some_and(|served| served.manifest() == next.manifest());
    let after = live.published(next, now_ms);
    if same { Live { previous: live.previous.clone(), ..after } } else { after }
}

/// Whether one of the attempts whose reply was lost has arrived.
fn arrived(lost: &[(Live, Fate, bool)], live: &Live) -> Option<(Fate, bool)> {
    let (_, fate, other) = lost.iter().find(|(after, ..)| after == live)?;
    let fate = match fate {
        Fate::Published(generation) => Fate::Published(generation.clone()),
        Fate::Held(because, served) => Fate::Held(because.clone(), *served),
    };
    Some((fate, *other))
}

fn fails(error: crate::store::StoreError) -> Error {
    store_fails(&vec![Err(error)])
}

fn busy() -> Error {
    Error::new(Code::Conflict, "the live pointer of the data source was changed by others at the same time")
}

/// As `AnalyticsGeneration`.
fn shown(generation: &Generation) -> Value {
    json!({
        "generation": generation.number,
        "entriesCached": generation.entries,
        "totalRows": generation.rows,
        "warmedAt": iso(generation.warmed_unix_ms),
    })
}

/// As `WarmResult`.
pub(super) fn result(
    made: &Made,
    fate: &Fate,
    other: bool,
    counts: &Counts,
    took_ms: u64,
    written: u64,
) -> Value {
    let mut result = json!({
        "entriesCached": made.manifest.entries(),
        "totalRows": made.manifest.rows(),
        "duration": took_ms,
        "generation": 0,
        "framesWritten": written,
        "framesReused": counts.reused,
        "bytesWritten": counts.bytes,
        "snapshot": made.snapshot,
    });
    if other {
        result["schemaChanged"] = true.into();
    }
    match fate {
        Fate::Published(generation) => result["generation"] = generation.number.into(),
        Fate::Held(because, served) => {
            (result["generation"], result["held"]) = ((*served).into(), because.clone().into());
        }
    }
    result
}
