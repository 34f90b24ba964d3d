//! Statistics: what the pointer says of its generations, and what was counted here. Nothing is scanned for them.
//!
//! Invariant: what is cold is told as cold; what is not known is null, never zero.

use serde_json::{Value, json};

use crate::analytics::{Generation, Live, State};
use crate::base::error::{Code, Error};
use crate::store::{Op, Store};

use super::super::health::iso;
use super::super::{Core, Outcome};
use super::Past;
use super::live::Seen;

impl Core {
    /// As in `CacheStats`.
    pub(in crate::engine) async fn analytics_stats(&self, source: i64) -> Result<Outcome, Error> {
        self.cache.ready().await;
        let seen = self.look_live(source).await;
        Ok(Outcome::Json(self.stats(source, None, seen).to_string()))
    }

    /// As in `CacheStats`, of every active data source, with its name.
    pub(in crate::engine) async fn all_analytics_stats(&self) -> Result<Outcome, Error> {
        self.cache.ready().await;
        let sources = self.source.data_sources().await?;
        let keys: Vec<_> = sources.iter().map(|(source, _)| self.live_key(*source)).collect();
        let replies = self.cache.exec(keys.iter().cloned().map(Op::Get).collect()).await;
        let all = sources.iter().zip(&keys).zip(&replies).map(|(((source, name), key), reply)| {
            let seen =
                if self.cache.usable(key) { self.seen(*source, Some(reply)) } else { Err(Past::StoreDown) };
            self.stats(*source, Some(name), seen)
        });
        Ok(Outcome::Json(Value::Array(all.collect()).to_string()))
    }

    /// Whether a generation is served: `isCacheWarm`, and since when.
    pub(in crate::engine) async fn analytics_warm_since(&self, source: i64) -> Result<Outcome, Error> {
        self.cache.ready().await;
        if matches!(self.cache.store, Store::None) {
            return Ok(Outcome::Json(json!({ "isWarm": false, "lastWarmed": null }).to_string()));
        }
        let seen = self.look_live(source).await.map_err(|_| {
            Error::new(
                Code::StoreUnavailable,
                "the store does not answer, so it is not known whether this is warm",
            )
        })?;
        let served = seen.live.as_ref().and_then(|live| live.served());
        let said =
            json!({ "isWarm": served.is_some(), "lastWarmed": served.map(|one| iso(one.warmed_unix_ms)) });
        Ok(Outcome::Json(said.to_string()))
    }

    fn stats(&self, source: i64, name: Option<&str>, seen: Result<Seen, Past>) -> Value {
        let live = seen.as_ref().ok().and_then(|seen| seen.live.clone());
        let served = live.as_ref().and_then(|live| live.served());
        let state = match (&seen, live.as_deref()) {
            (Err(_), _) => "unknown",
            (Ok(_), None) => "cold",
            (Ok(_), Some(Live { state: State::Quarantined, .. })) => "quarantined",
            (Ok(_), Some(live)) if live.served().is_some() => "live",
            (Ok(_), Some(live)) if live.held.is_some() => "held",
            (Ok(_), Some(_)) => "cold",
        };
        let now_ms = self.cache.clock.unix_ms();
        let bytes = |one: &Generation| one.data_bytes + one.index_bytes;
        let kept =
            live.iter().flat_map(|live| [&live.current, &live.previous].into_iter().flatten()).map(bytes);
        let megabytes = kept.sum::<u64>() as f64 / (1024.0 * 1024.0);
        let number = |of: fn(&Generation) -> u64| json!(served.map_or(0, of));
        let mut stats = json!({
            "datasourceId": source,
            "datasourceName": name,
            "state": state,
            "isWarm": served.is_some(),
            "lastWarmed": served.map(|one| iso(one.warmed_unix_ms)),
            "ageSeconds": served.map(|one| now_ms.saturating_sub(one.warmed_unix_ms) / 1_000),
            "generation": served.map(|one| one.number),
            "totalEntries": number(|one| one.entries),
            "indexCount": number(|_| 1),
            "estimatedMemoryMB": (megabytes * 100.0).round() / 100.0,
            "rows": number(|one| one.rows),
            "frames": number(|one| one.frames),
            "dataBytes": number(|one| one.data_bytes),
            "indexBytes": number(|one| one.index_bytes),
            "uniqueMeasures": number(|one| one.measures),
            "uniquePractices": number(|one| one.practices),
            "uniqueProviders": number(|one| one.providers),
            "uniqueFrequencies": served.map_or(&[][..], |one| &one.frequencies),
            "warmDurationMs": served.map(|one| one.took_ms),
            "previousGeneration": live.as_ref().and_then(|live| live.previous.as_ref()).map(|one| one.number),
            "held": live.as_ref().and_then(|live| live.held.as_ref()).map(|held| json!({
                "rows": held.generation.rows,
                "because": held.because,
            })),
            "nearBytes": self.analytics.blocks.bytes(),
            "version": "v2",
        });
        if let (Value::Object(stats), Value::Object(counted)) =
            (&mut stats, self.analytics.figures.of(source).json())
        {
            stats.extend(counted);
        }
        stats
    }
}
