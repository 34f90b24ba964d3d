//! The product's own read and invalidation paths under random schedules: several instances on one
//! simulated store, faults and evictions included, time under the test's control. The rule is the one of
//! the model beside this file; here it is checked on the code that ships, and the same checker must
//! catch a cache that fills with a plain SET.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bcos_cache_core::base::clock::Clock;
use bcos_cache_core::base::codec::Kind;
use bcos_cache_core::base::error::Error;
use bcos_cache_core::base::key::{Key, Keys, Namespace};
use bcos_cache_core::cache::near::Near;
use bcos_cache_core::cache::policy::{NearMode, Subject, Times};
use bcos_cache_core::cache::tiered::Judged;
use bcos_cache_core::cache::{Cache, Effect, Loaded};
use bcos_cache_core::store::sim::{Fault, Sim};
use bcos_cache_core::store::{Op, Reply, Store, StoreError};
use bytes::Bytes;

const TTL_MS: u64 = 300_000;

struct Versioned(Key);

impl Subject for Versioned {
    fn key(&self) -> &Key {
        &self.0
    }
    fn near_until_ms(&self, _: &Bytes, now_ms: u64) -> u64 {
        now_ms + TTL_MS
    }
}

/// One schedule: two instances, one key, a source whose value is its version.
struct World {
    instances: Vec<Arc<Cache>>,
    sims: Vec<Arc<bcos_cache_core::store::embedded::Embedded>>,
    key: Key,
    /// What the source would answer now.
    committed: AtomicU64,
    /// The newest version whose invalidation was acknowledged.
    acknowledged: AtomicU64,
    violations: AtomicU64,
    loads: AtomicU64,
}

#[derive(Clone, Copy, PartialEq)]
enum Fill {
    /// The product.
    Fenced,
    /// What other caches do: whoever loaded, stores.
    PlainSet,
}

fn instance(store: Store, clock: &Clock) -> Arc<Cache> {
    let times = Times { lease_ms: 200, wait_ms: 20, connect_ms: 1_000 };
    let modes = [NearMode::Validated; Namespace::ALL.len()];
    let near = Near::new(1 << 20);
    Arc::new(Cache::new(store, near, Keys::new("t:"), clock.clone(), Arc::default(), times, modes))
}

impl World {
    fn new(clock: &Clock, faults: &mut fastrand::Rng, faulty: bool) -> Self {
        let first = Sim::new(clock.clone());
        let shared = first.inner().clone();
        let second = Sim::over(shared.clone());
        for sim in [&first, &second] {
            if faulty {
                sim.script((0..40).map(|_| match faults.u8(0..30) {
                    0 => Fault::LoseRequest,
                    1 => Fault::LoseReply,
                    2 => Fault::Delay(faults.u64(1..30)),
                    3 => Fault::Refuse(StoreError::WritesRefused),
                    _ => Fault::Pass,
                }));
            }
        }
        Self {
            instances: vec![instance(Store::Sim(first), clock), instance(Store::Sim(second), clock)],
            sims: vec![shared],
            key: Keys::new("t:").entry(Namespace::UserBasic, "k"),
            committed: AtomicU64::new(1),
            acknowledged: AtomicU64::new(0),
            violations: AtomicU64::new(0),
            loads: AtomicU64::new(0),
        }
    }

    async fn source(&self, rng: &mut fastrand::Rng) -> Result<Loaded, Error> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        dawdle(rng).await;
        let version = self.committed.load(Ordering::SeqCst);
        dawdle(rng).await;
        Ok(Loaded { kind: Kind::Value, payload: version.to_string().into(), ttl_ms: TTL_MS })
    }

    async fn read(&self, cache: &Cache, fill: Fill, rng: &mut fastrand::Rng) {
        let must = self.acknowledged.load(Ordering::SeqCst);
        let subject = Versioned(self.key.clone());
        let payload = match fill {
            Fill::Fenced => self.read_fenced(cache, &subject, rng).await,
            Fill::PlainSet => self.read_plain(cache, rng).await,
        };
        let got: u64 = std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        if got < must {
            self.violations.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn read_fenced(&self, cache: &Cache, subject: &Versioned, rng: &mut fastrand::Rng) -> Bytes {
        let mut ops = Vec::new();
        let look = cache.look(subject, cache.flights.moment(), &mut ops);
        let replies = if ops.is_empty() { Vec::new() } else { cache.exec(ops).await };
        dawdle(rng).await;
        let asked = match cache.judge(subject, look, &replies) {
            Judged::Found(found) => return found.payload,
            Judged::Miss(asked) => asked,
            Judged::Changed(asked) => match cache.fetch(subject, asked).await {
                Judged::Found(found) => return found.payload,
                Judged::Changed(asked) | Judged::Miss(asked) => asked,
            },
        };
        cache.load(subject, asked, |_| self.source(rng)).await.expect("the source answers").payload
    }

    async fn read_plain(&self, cache: &Cache, rng: &mut fastrand::Rng) -> Bytes {
        if let Some(Ok(Reply::Bytes(Some(bytes)))) =
            cache.store.exec(vec![Op::Get(self.key.clone())]).await.pop()
        {
            return bytes;
        }
        let loaded = self.source(rng).await.expect("the source answers");
        let put = Op::Put { key: self.key.clone(), value: loaded.payload.clone(), ttl_ms: TTL_MS };
        cache.store.exec(vec![put]).await;
        loaded.payload
    }

    async fn write(&self, cache: &Cache, rng: &mut fastrand::Rng) {
        let version = self.committed.fetch_add(1, Ordering::SeqCst) + 1;
        dawdle(rng).await;
        let effect = if rng.u8(0..4) == 0 { Effect::Hold { ms: 10 } } else { Effect::Delete };
        let done = cache.invalidate(vec![(self.key.clone(), effect)]).await.expect("room for it");
        if done.acknowledged {
            self.acknowledged.fetch_max(version, Ordering::SeqCst);
        }
    }
}

async fn dawdle(rng: &mut fastrand::Rng) {
    for _ in 0..rng.u8(0..4) {
        tokio::task::yield_now().await;
    }
    if rng.u8(0..12) == 0 {
        tokio::time::sleep(Duration::from_millis(rng.u64(1..8))).await;
    }
}

/// Runs one schedule and returns its violations.
fn schedule(seed: u64, fill: Fill, faulty: bool) -> (u64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("runtime");
    fastrand::seed(seed);
    runtime.block_on(async move {
        let clock = Clock::fake(1);
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = Arc::new(World::new(&clock, &mut rng, faulty));
        let mut background = vec![tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                clock.advance_ms(1);
            }
        })];
        for cache in &world.instances {
            let cache = cache.clone();
            background.push(tokio::spawn(async move { cache.guard().await }));
        }
        for cache in &world.instances {
            cache.ready().await;
        }
        let mut actors = Vec::new();
        for actor in 0..5_u64 {
            let (world, mut rng) = (world.clone(), rng.fork());
            actors.push(tokio::spawn(async move {
                for _ in 0..4 {
                    dawdle(&mut rng).await;
                    let cache = world.instances[rng.usize(0..2)].clone();
                    match actor {
                        0 | 1 => world.write(&cache, &mut rng).await,
                        _ => world.read(&cache, fill, &mut rng).await,
                    }
                    if rng.u8(0..10) == 0 {
                        world.sims[0].clear();
                    }
                }
            }));
        }
        for actor in actors {
            actor.await.expect("no panic");
        }
        for task in background {
            task.abort();
        }
        (world.violations.load(Ordering::SeqCst), world.loads.load(Ordering::SeqCst))
    })
}

fn rounds() -> u64 {
    std::env::var("BCOS_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

#[test]
fn no_read_is_older_than_an_acknowledged_invalidation() {
    let mut loads = 0;
    for seed in 0..rounds() {
        let (violations, more) = schedule(seed, Fill::Fenced, seed % 2 == 1);
        assert_eq!(violations, 0, "seed {seed}");
        loads += more;
    }
    assert!(loads > rounds(), "the schedules load at all: {loads}");
}

#[test]
fn the_same_checker_catches_a_plain_set() {
    let violations: u64 = (0..2_000).map(|seed| schedule(seed, Fill::PlainSet, false).0).sum();
    assert!(violations > 100, "{violations}");
}

#[test]
fn what_was_missed_during_an_outage_is_applied_before_the_store_is_trusted() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let clock = Clock::fake(1);
        let sim = Sim::new(clock.clone());
        let store = sim.inner().clone();
        let cache = instance(Store::Sim(sim), &clock);
        let guard = tokio::spawn({
            let cache = cache.clone();
            async move { cache.guard().await }
        });
        cache.ready().await;
        let subject = Versioned(cache.keys.entry(Namespace::UserBasic, "k"));
        let load = |text: &'static str| {
            Ok::<_, Error>(Loaded { kind: Kind::Value, payload: text.into(), ttl_ms: TTL_MS })
        };
        let found =
            cache.load(&subject, cache.ask(&subject), |_| async { load("old") }).await.expect("loaded");
        assert_eq!(&found.payload[..], b"old");

        let Store::Sim(sim) = &cache.store else { unreachable!() };
        sim.set_down(true);
        // The first to notice pays; from then on the store is not asked.
        cache.exec(vec![Op::Get(subject.key().clone())]).await;
        assert!(!cache.available());
        let done = cache.invalidate(vec![(subject.key().clone(), Effect::Delete)]).await.expect("queued");
        assert!(done.queued && !done.acknowledged);
        assert_eq!(cache.pending.len(), 1);
        assert_eq!(store.len(), 1, "the old value is still there");

        sim.set_down(false);
        while !cache.available() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            clock.advance_ms(1);
        }
        assert_eq!(store.len(), 0, "removed before the store was trusted");
        assert_eq!(cache.pending.len(), 0);
        guard.abort();
    });
}

#[test]
fn one_load_serves_every_caller_of_several_instances() {
    for seed in 0..200 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("runtime");
        fastrand::seed(seed);
        let loads = runtime.block_on(async {
            let clock = Clock::fake(1);
            let mut rng = fastrand::Rng::with_seed(seed);
            let world = Arc::new(World::new(&clock, &mut rng, false));
            for cache in &world.instances {
                let cache = cache.clone();
                tokio::spawn(async move { cache.guard().await });
            }
            for cache in &world.instances {
                cache.ready().await;
            }
            let callers: Vec<_> = (0..100)
                .map(|caller| {
                    let (world, mut rng) = (world.clone(), rng.fork());
                    tokio::spawn(async move {
                        let cache = world.instances[caller % 2].clone();
                        world.read(&cache, Fill::Fenced, &mut rng).await;
                    })
                })
                .collect();
            for caller in callers {
                caller.await.expect("no panic");
            }
            world.loads.load(Ordering::SeqCst)
        });
        assert_eq!(loads, 1, "seed {seed}");
    }
}
