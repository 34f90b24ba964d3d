//! The limiter's exact machine against a plain list of what was admitted, over random operations and clocks: decision,
//! remaining, wait and reset agree to the millisecond. `BCOS_SCHEDULES` sets how many operations.

use bcos_cache_core::limiter::{Action, Aged, Change, Decision, Limit, Quota, Runs, apply, push_run, split};

/// A limit as anybody would write it down: everything that was admitted and when.
#[derive(Default)]
struct Plain {
    admitted: Vec<u64>,
    clock: u64,
    blocked: u64,
}

impl Plain {
    fn live(&self, limit: &Limit, now: u64) -> Vec<u64> {
        let now = now.max(self.clock);
        let mut live: Vec<u64> =
            self.admitted.iter().copied().filter(|at| at + limit.window_ms() > now).collect();
        live.sort_unstable();
        live
    }

    fn fits(&self, limit: &Limit, cost: u64, now: u64) -> bool {
        now >= self.blocked && self.live(limit, now).len() as u64 + cost <= u64::from(limit.most())
    }

    /// The smallest wait after which it fits, found by trying every moment at which something changes.
    fn retry_ms(&self, limit: &Limit, cost: u64, now: u64) -> Option<u64> {
        if cost > u64::from(limit.most()) {
            return None;
        }
        let ends = self.admitted.iter().map(|at| at + limit.window_ms());
        let mut moments: Vec<u64> = ends.chain([self.blocked, now]).filter(|at| *at >= now).collect();
        moments.sort_unstable();
        moments.into_iter().find(|at| self.fits(limit, cost, *at)).map(|at| at - now)
    }

    fn remaining(&self, limit: &Limit, now: u64) -> u32 {
        if now < self.blocked {
            return 0;
        }
        limit.most().saturating_sub(self.live(limit, now).len() as u32)
    }

    fn quota(&self, limit: &Limit, now: u64) -> Quota {
        let remaining = self.remaining(limit, now);
        let ends = self.live(limit, now).into_iter().map(|at| at + limit.window_ms());
        let mut moments: Vec<u64> = ends.chain([self.blocked]).filter(|at| *at > now).collect();
        moments.sort_unstable();
        let next = moments.iter().find(|at| self.remaining(limit, **at) > remaining);
        let reset = moments.iter().find(|at| self.remaining(limit, **at) == limit.most());
        let reset_ms = reset.map_or(0, |at| at - now);
        if limit.most() == 0 {
            // Nothing ever comes back; both tell when all is over.
            let over_ms = moments.last().map_or(0, |at| at - now);
            return Quota { remaining, next_ms: over_ms, reset_ms: over_ms };
        }
        Quota { remaining, next_ms: next.map_or(0, |at| at - now), reset_ms }
    }

    fn check(&mut self, limit: &Limit, cost: u64, now: u64) -> Decision {
        match self.retry_ms(limit, cost, now) {
            None => Decision::Impossible { max: limit.most() },
            Some(0) => {
                self.clock = self.clock.max(now);
                self.admitted.extend((0..cost).map(|_| self.clock));
                Decision::Allow
            }
            Some(retry_after_ms) => Decision::Deny { retry_after_ms },
        }
    }

    fn reward(&mut self, limit: &Limit, cost: u64, stamp: Option<u64>, now: u64) {
        for _ in 0..cost {
            let live = self.live(limit, now);
            let Some(gone) = live.into_iter().rev().find(|at| stamp.is_none_or(|stamp| stamp == *at)) else {
                return;
            };
            self.clock = self.clock.max(now);
            let at = self.admitted.iter().position(|at| *at == gone).expect("it is live");
            self.admitted.remove(at);
        }
    }

    fn merge(&mut self, limit: &Limit, aged: &[Aged], now: u64) {
        let (at, keep) = (now.max(self.clock), self.live(limit, now).len().max(limit.most() as usize));
        let counts = |one: &&Aged| one.age_ms < limit.window_ms() && one.age_ms < at && one.count > 0;
        if !aged.iter().any(|one| counts(&one)) {
            return;
        }
        self.clock = at;
        for one in aged.iter().filter(counts) {
            self.admitted.extend((0..one.count).map(|_| at - one.age_ms));
        }
        // Beyond the limit only the newest can be told apart.
        let live = self.live(limit, now);
        self.admitted = live[live.len().saturating_sub(keep)..].to_vec();
    }

    fn block(&mut self, for_ms: u64, now: u64) {
        let blocked = if for_ms == 0 { 0 } else { self.blocked.max(now + for_ms) };
        if blocked != self.blocked {
            (self.blocked, self.clock) = (blocked, self.clock.max(now));
        }
    }
}

fn operations() -> u64 {
    std::env::var("BCOS_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000)
}

fn limit(most: u32, window_ms: u64) -> Limit {
    Limit::new(most, window_ms).expect("a limit")
}

/// A step of a clock that mostly goes on, sometimes exactly to where something changes, and sometimes back.
fn step(rng: &mut fastrand::Rng, now: u64, window: u64) -> u64 {
    match rng.u8(0..40) {
        0..14 => now,
        14..30 => now + rng.u64(0..=window / 4 + 1),
        30..33 => now + window - rng.u64(0..=1),
        33 => now + rng.u64(0..=3 * window),
        34..38 => now.saturating_sub(rng.u64(0..=window / 3)).max(1),
        // Never more than a window behind the newest stamp: what happens then has a test of its own.
        _ => now.saturating_sub(1).max(1),
    }
}

struct Schedule {
    rng: fastrand::Rng,
    limit: Limit,
    value: Vec<u8>,
    plain: Plain,
    now: u64,
    /// Stamps handed out, for refunds.
    stamps: Vec<u64>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let most = if rng.u8(0..20) == 0 { rng.u32(0..120) } else { rng.u32(0..14) };
        let limit = limit(most, rng.u64(1..400));
        let now = rng.u64(1..1_000_000);
        Self { rng, limit, value: Vec::new(), plain: Plain::default(), now, stamps: Vec::new() }
    }

    fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            let next = step(&mut self.rng, self.now, self.limit.window_ms());
            self.now = next.max(self.plain.clock.saturating_sub(self.limit.window_ms()));
            match self.rng.u8(0..60) {
                0..42 => self.consume(),
                42..48 => self.peek(),
                48..51 => self.reward(),
                51..53 => self.merge(),
                53..55 => self.block(),
                55 => {
                    assert_eq!(self.apply(&Action::Reset), Change::Removed);
                    self.plain = Plain::default();
                }
                _ => self.limit = limit(self.rng.u32(0..14), self.limit.window_ms()),
            }
        }
    }

    fn apply(&mut self, action: &Action) -> Change {
        let before = self.value.clone();
        let applied = apply(&mut self.value, &self.limit, action, self.now);
        match applied.change {
            Change::Nothing => assert_eq!(self.value, before, "nothing is changed in secret"),
            Change::Removed => assert!(self.value.is_empty()),
            Change::Stored { ttl_ms } => {
                let over = self.now + ttl_ms;
                let rest = apply(&mut self.value.clone(), &self.limit, &Action::Peek { cost: 1 }, over);
                assert_eq!(rest.evaluation.quota.remaining, self.limit.most(), "it expires when all is over");
                assert!(self.value.len() <= 18 + 6 * 120 * 2, "{}", self.value.len());
            }
        }
        if !matches!(action, Action::Consume(_)) {
            let found = apply(&mut self.value.clone(), &self.limit, &Action::Peek { cost: 1 }, self.now);
            assert!(matches!(action, Action::Reset) || found.evaluation.quota == applied.evaluation.quota);
        }
        applied.change
    }

    fn consume(&mut self) {
        let mut runs = Runs::new();
        let many = self.rng.usize(1..5);
        let costs: Vec<u32> = (0..many).map(|_| self.rng.u32(1..5)).collect();
        for cost in &costs {
            assert!(push_run(&mut runs, *cost));
        }
        let action = Action::Consume(runs.clone());
        let done = apply(&mut self.value, &self.limit, &action, self.now).evaluation;
        assert_eq!(done.quota, self.plain.quota(&self.limit, self.now));
        for (cost, answer) in costs.iter().zip(split(&self.limit, &runs, &done)) {
            let decision = self.plain.check(&self.limit, u64::from(*cost), self.now);
            assert_eq!(answer.decision, decision);
            assert_eq!(answer.quota, self.plain.quota(&self.limit, self.now));
            if decision == Decision::Allow {
                self.stamps.push(answer.stamp_ms);
            }
        }
    }

    fn peek(&mut self) {
        let cost = self.rng.u32(1..6);
        let done = apply(&mut self.value, &self.limit, &Action::Peek { cost }, self.now);
        assert_eq!(done.change, Change::Nothing);
        let retry = self.plain.retry_ms(&self.limit, u64::from(cost), self.now);
        assert_eq!(done.evaluation.runs[0].retry_ms, retry);
        assert_eq!(done.evaluation.runs[0].admitted, u32::from(retry == Some(0)));
        assert_eq!(done.evaluation.quota, self.plain.quota(&self.limit, self.now));
    }

    fn reward(&mut self) {
        let (cost, refund) = (self.rng.u32(0..4), self.rng.bool());
        let stamp_ms = if refund { self.rng.choice(&self.stamps).copied() } else { None };
        self.apply(&Action::Reward { cost, stamp_ms });
        self.plain.reward(&self.limit, u64::from(cost), stamp_ms, self.now);
        self.same();
    }

    fn merge(&mut self) {
        let most = self.limit.window_ms() * 5 / 4;
        let aged: Vec<Aged> = (0..self.rng.usize(0..5))
            .map(|_| Aged { age_ms: self.rng.u64(0..=most), count: self.rng.u32(0..4) })
            .collect();
        self.apply(&Action::Merge(aged.clone()));
        self.plain.merge(&self.limit, &aged, self.now);
        self.same();
    }

    fn block(&mut self) {
        let for_ms = if self.rng.bool() { 0 } else { self.rng.u64(0..=2 * self.limit.window_ms()) };
        self.apply(&Action::Block { for_ms });
        self.plain.block(for_ms, self.now);
        self.same();
    }

    fn same(&mut self) {
        let found = apply(&mut self.value, &self.limit, &Action::Peek { cost: 1 }, self.now).evaluation.quota;
        assert_eq!(found, self.plain.quota(&self.limit, self.now));
    }
}

#[test]
fn the_ring_is_the_plain_list() {
    let steps = 250;
    for seed in 0..operations().div_ceil(steps) {
        let result = std::panic::catch_unwind(|| Schedule::new(seed).run(steps));
        assert!(result.is_ok(), "seed {seed}");
    }
}
