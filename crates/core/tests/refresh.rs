//! Results that are answered past their time, under random schedules: several instances on one simulated store, readers
//! who take old results and readers who do not, refreshes in the background, invalidations of one result and of its
//! whole source, faults and evictions, time under the test's control. The rule is that of `no_resurrection`; the same
//! checker must catch a refresh that is not fenced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bcos_cache_core::base::clock::Clock;
use bcos_cache_core::base::error::Error;
use bcos_cache_core::base::key::{Keys, Namespace};
use bcos_cache_core::cache::near::Near;
use bcos_cache_core::cache::policy::{NearMode, Subject, Times};
use bcos_cache_core::cache::refresh::Begun;
use bcos_cache_core::cache::tiered::Judged;
use bcos_cache_core::cache::{Cache, Effect, Found, Loaded};
use bcos_cache_core::datasource::{ResultSubject, Wish, generation_key, pack, regenerate, unpack};
use bcos_cache_core::store::sim::{Fault, Sim};
use bcos_cache_core::store::{Op, Reply, Store, StoreError};

const TTL_MS: u64 = 20;
const STALE_MS: u64 = 4_000;
/// Between a load and its place in the store, and back: pauses of the actors, delayed replies.
const SLACK_MS: u64 = 60;
const LEASE_MS: u64 = 200;

/// How a refresh stores what it brings.
#[derive(Clone, Copy, PartialEq)]
enum Storing {
    /// The product.
    Fenced,
    /// Over whatever is there.
    Plainly,
    /// Over the version that was there, but for the generation that holds afterwards.
    ForTheGenerationAfterwards,
}

fn instance(store: Store, clock: &Clock) -> Arc<Cache> {
    let times = Times { lease_ms: LEASE_MS, wait_ms: 20, connect_ms: 1_000 };
    let modes = [NearMode::Validated; Namespace::ALL.len()];
    let near = Near::new(1 << 20);
    Arc::new(Cache::new(store, near, Keys::new("t:"), clock.clone(), Arc::default(), times, modes))
}

/// One schedule: two instances, one result, whose value is its version and the time at which it was loaded.
struct World {
    instances: Vec<Arc<Cache>>,
    store: Arc<bcos_cache_core::store::embedded::Embedded>,
    clock: Clock,
    storing: Storing,
    committed: AtomicU64,
    /// The newest version whose invalidation was acknowledged.
    acknowledged: AtomicU64,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    /// Answers older than an acknowledged invalidation.
    resurrected: AtomicU64,
    /// Answers past their time, to readers who do not take them.
    overdue: AtomicU64,
    stale: AtomicU64,
    refreshed: AtomicU64,
    refused: AtomicU64,
    running: AtomicU64,
    most_running: AtomicU64,
}

fn up(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

impl World {
    fn new(clock: &Clock, rng: &mut fastrand::Rng, faulty: bool, storing: Storing) -> Self {
        let first = Sim::new(clock.clone());
        let store = first.inner().clone();
        let second = Sim::over(store.clone());
        for sim in [&first, &second] {
            if faulty {
                sim.script((0..60).map(|_| match rng.u8(0..30) {
                    0 => Fault::LoseRequest,
                    1 => Fault::LoseReply,
                    2 => Fault::Delay(rng.u64(1..30)),
                    3 => Fault::Refuse(StoreError::WritesRefused),
                    _ => Fault::Pass,
                }));
            }
        }
        Self {
            instances: vec![instance(Store::Sim(first), clock), instance(Store::Sim(second), clock)],
            store,
            clock: clock.clone(),
            storing,
            committed: AtomicU64::new(1),
            acknowledged: AtomicU64::new(0),
            tally: Tally::default(),
        }
    }

    fn subject(&self, wish: Wish) -> ResultSubject {
        let subject = ResultSubject::new(&Keys::new("t:"), "s", "h", TTL_MS, 1_000).expect("a subject");
        subject.wishing(wish).expect("a wish")
    }

    async fn source(&self, rng: &mut fastrand::Rng) -> String {
        dawdle(rng).await;
        let (version, at) = (self.committed.load(Ordering::SeqCst), self.clock.now_ms());
        dawdle(rng).await;
        format!("{version} {at}")
    }

    fn loaded(&self, subject: &ResultSubject, text: &str, generation: Option<u64>) -> Loaded {
        subject.loaded(pack(text.as_bytes(), subject.head(generation, 10)), text.len(), generation)
    }

    async fn read(&self, cache: &Arc<Cache>, wish: Wish, rng: &mut fastrand::Rng) {
        let (must, from) = (self.acknowledged.load(Ordering::SeqCst), self.clock.now_ms());
        let subject = self.subject(wish);
        let found = self.find(cache, &subject, rng).await;
        let text = unpack(&found.payload).expect("a result");
        let text = std::str::from_utf8(&text).expect("text");
        let numbers: Vec<u64> = text.split(' ').map(|number| number.parse().expect("a number")).collect();
        let advice = subject.advise(&found.payload, found.left, 1.0 - rng.f64());
        if numbers[0] < must {
            up(&self.tally.resurrected);
        }
        if advice.stale {
            up(&self.tally.stale);
        } else if numbers[1] + TTL_MS + SLACK_MS < from {
            up(&self.tally.overdue);
        }
        if advice.refresh {
            self.refresh(cache, &subject, found.etag, rng).await;
        }
    }

    async fn find(&self, cache: &Cache, subject: &ResultSubject, rng: &mut fastrand::Rng) -> Found {
        let mut ops = Vec::new();
        let look = cache.look(subject, cache.flights.moment(), &mut ops);
        let replies = if ops.is_empty() { Vec::new() } else { cache.exec(ops).await };
        dawdle(rng).await;
        let asked = match cache.judge(subject, look, &replies) {
            Judged::Found(found) => return found,
            Judged::Miss(asked) => asked,
            Judged::Changed(asked) => match cache.fetch(subject, asked).await {
                Judged::Found(found) => return found,
                Judged::Changed(asked) | Judged::Miss(asked) => asked,
            },
        };
        let load = |generation| async move {
            let text = self.source(rng).await;
            Ok::<_, Error>(self.loaded(subject, &text, generation))
        };
        cache.load(subject, asked, load).await.expect("the source answers")
    }

    async fn refresh(&self, cache: &Arc<Cache>, subject: &ResultSubject, etag: u64, rng: &mut fastrand::Rng) {
        let Begun::Right(right) = cache.begin_refresh(subject, etag).await else { return };
        let running = self.tally.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.tally.most_running.fetch_max(running, Ordering::SeqCst);
        let text = self.source(rng).await;
        self.tally.running.fetch_sub(1, Ordering::SeqCst);
        if rng.u8(0..10) == 0 {
            return cache.end_refresh(right, rng.u64(0..2) * 20).await;
        }
        let replaced = match self.storing {
            Storing::Fenced => {
                let loaded = self.loaded(subject, &text, right.companion());
                cache.finish_refresh(subject, right, &loaded).await
            }
            Storing::ForTheGenerationAfterwards => {
                let loaded = self.loaded(subject, &text, self.generation(cache).await);
                cache.finish_refresh(subject, right, &loaded).await
            }
            Storing::Plainly => {
                let payload = self.loaded(subject, &text, self.generation(cache).await).payload;
                let kind = bcos_cache_core::base::codec::Kind::Value;
                let value =
                    bcos_cache_core::cache::entry::encode(subject.key(), kind, 1, rng.u64(1..), &payload);
                let put = Op::Put { key: subject.key().clone(), value, ttl_ms: TTL_MS + STALE_MS };
                cache.exec(vec![put]).await;
                cache.end_refresh(right, 0).await;
                true
            }
        };
        up(if replaced { &self.tally.refreshed } else { &self.tally.refused });
    }

    async fn generation(&self, cache: &Cache) -> Option<u64> {
        let key = generation_key(&cache.keys, "s").expect("a key");
        match cache.exec(vec![Op::Get(key)]).await.pop() {
            Some(Ok(Reply::Bytes(Some(bytes)))) => {
                bcos_cache_core::base::codec::Header::decode(&bytes).map(|header| header.etag)
            }
            _ => None,
        }
    }

    async fn write(&self, cache: &Cache, rng: &mut fastrand::Rng) {
        let version = self.committed.fetch_add(1, Ordering::SeqCst) + 1;
        dawdle(rng).await;
        let target = match rng.bool() {
            true => (self.subject(Wish::default()).key().clone(), Effect::Delete),
            false => (generation_key(&cache.keys, "s").expect("a key"), regenerate()),
        };
        if cache.invalidate(vec![target]).await.expect("room for it").acknowledged {
            self.acknowledged.fetch_max(version, Ordering::SeqCst);
        }
    }
}

async fn dawdle(rng: &mut fastrand::Rng) {
    for _ in 0..rng.u8(0..4) {
        tokio::task::yield_now().await;
    }
    if rng.u8(0..8) == 0 {
        tokio::time::sleep(Duration::from_millis(rng.u64(1..12))).await;
    }
}

/// What a reader accepts: mostly old results, sometimes a load before the end, sometimes neither.
fn wish(rng: &mut fastrand::Rng) -> Wish {
    let stale_ms = if rng.u8(0..4) == 0 { 0 } else { STALE_MS };
    let beta = if rng.u8(0..3) == 0 { 1.0 } else { 0.0 };
    Wish { stale_ms, beta }
}

#[derive(Clone, Copy)]
struct Schedule {
    seed: u64,
    faulty: bool,
    evictions: bool,
    writers: u64,
    storing: Storing,
}

/// Runs one schedule.
fn play(schedule: Schedule) -> Arc<World> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("runtime");
    let Schedule { seed, faulty, evictions, writers, storing } = schedule;
    fastrand::seed(seed);
    runtime.block_on(async move {
        let clock = Clock::fake(1);
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = Arc::new(World::new(&clock, &mut rng, faulty, storing));
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
        let actors: Vec<_> = (0..5_u64)
            .map(|actor| {
                let (world, mut rng) = (world.clone(), rng.fork());
                tokio::spawn(async move {
                    for _ in 0..6 {
                        dawdle(&mut rng).await;
                        // Long enough for an entry to be past its time, now and then.
                        tokio::time::sleep(Duration::from_millis(rng.u64(0..3) * TTL_MS)).await;
                        let cache = world.instances[rng.usize(0..2)].clone();
                        match actor < writers {
                            true => world.write(&cache, &mut rng).await,
                            false => world.read(&cache, wish(&mut rng), &mut rng).await,
                        }
                        if evictions && rng.u8(0..12) == 0 {
                            world.store.clear();
                        }
                    }
                })
            })
            .collect();
        for actor in actors {
            actor.await.expect("no panic");
        }
        for task in background {
            task.abort();
        }
        world
    })
}

fn rounds() -> u64 {
    std::env::var("BCOS_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

fn total(worlds: &[Arc<World>], of: impl Fn(&Tally) -> &AtomicU64) -> u64 {
    worlds.iter().map(|world| of(&world.tally).load(Ordering::SeqCst)).sum()
}

#[test]
fn no_answer_is_older_than_an_acknowledged_invalidation_or_unknowingly_past_its_time() {
    let mut sums = [0; 3];
    for seed in 0..rounds() {
        let (faulty, evictions) = (seed % 2 == 1, seed % 3 == 1);
        let world =
            play(Schedule { seed, faulty, evictions, writers: 1 + seed % 2, storing: Storing::Fenced });
        let tally = &world.tally;
        assert_eq!(tally.resurrected.load(Ordering::SeqCst), 0, "seed {seed}");
        assert_eq!(tally.overdue.load(Ordering::SeqCst), 0, "seed {seed}");
        for (sum, counter) in sums.iter_mut().zip([&tally.stale, &tally.refreshed, &tally.refused]) {
            *sum += counter.load(Ordering::SeqCst);
        }
    }
    // It is about refreshes, stored and refused, and about old answers: there must have been many.
    assert!(sums.iter().all(|sum| *sum > rounds() / 50), "{sums:?}");
}

#[test]
fn the_same_checker_catches_a_refresh_that_stores_plainly() {
    let worlds: Vec<_> = (0..2_000)
        .map(|seed| {
            play(Schedule { seed, faulty: false, evictions: false, writers: 2, storing: Storing::Plainly })
        })
        .collect();
    assert!(
        total(&worlds, |tally| &tally.resurrected) > 50,
        "{}",
        total(&worlds, |tally| &tally.resurrected)
    );
}

#[test]
fn the_same_checker_catches_a_refresh_for_another_generation() {
    let storing = Storing::ForTheGenerationAfterwards;
    let worlds: Vec<_> = (0..4_000)
        .map(|seed| play(Schedule { seed, faulty: false, evictions: false, writers: 2, storing }))
        .collect();
    assert!(
        total(&worlds, |tally| &tally.resurrected) > 20,
        "{}",
        total(&worlds, |tally| &tally.resurrected)
    );
}

#[test]
fn at_most_one_refreshes_at_a_time() {
    let worlds: Vec<_> = (0..2_000)
        .map(|seed| {
            play(Schedule { seed, faulty: false, evictions: false, writers: 0, storing: Storing::Fenced })
        })
        .collect();
    assert!(total(&worlds, |tally| &tally.refreshed) > 500);
    let most = worlds.iter().map(|world| world.tally.most_running.load(Ordering::SeqCst)).max();
    assert_eq!(most, Some(1));
}
