//! The limiter's form for large limits against a plain list of what was admitted, over random operations and clocks. The
//! rule it states is the list's only knowledge: an admission counts until a window after its bucket ends, and a bucket opens
//! with the first admission after the last one ended. Decision, remaining, wait and reset agree to the millisecond, and in
//! any window of the key's clock at most the limit is admitted. `BCOS_SCHEDULES` sets how many operations.

use bcos_cache_core::limiter::{
    Action, BUCKETS, Change, Decision, Limit, Quota, RING_MOST, Runs, apply, push_run, split,
};

/// One admission: when, until when its bucket is open, and how much.
#[derive(Clone, Copy)]
struct Admitted {
    at: u64,
    end: u64,
    cost: u64,
}

#[derive(Default)]
struct Plain {
    admitted: Vec<Admitted>,
    clock: u64,
    blocked: u64,
}

impl Plain {
    fn live(&self, limit: &Limit, now: u64) -> u64 {
        let now = now.max(self.clock);
        let counts = |one: &&Admitted| one.end + limit.window_ms() > now;
        self.admitted.iter().filter(counts).map(|one| one.cost).sum()
    }

    fn fits(&self, limit: &Limit, cost: u64, now: u64) -> bool {
        now >= self.blocked && self.live(limit, now) + cost <= u64::from(limit.most())
    }

    /// Everything that may change something, from `now` on.
    fn moments(&self, limit: &Limit, now: u64) -> Vec<u64> {
        let ends = self.admitted.iter().map(|one| one.end + limit.window_ms());
        let mut moments: Vec<u64> = ends.chain([self.blocked, now]).filter(|at| *at >= now).collect();
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    fn retry_ms(&self, limit: &Limit, cost: u64, now: u64) -> Option<u64> {
        if cost > u64::from(limit.most()) {
            return None;
        }
        self.moments(limit, now).into_iter().find(|at| self.fits(limit, cost, *at)).map(|at| at - now)
    }

    fn quota(&self, limit: &Limit, now: u64) -> Quota {
        let left = |at: u64| match at < self.blocked {
            true => 0,
            false => u64::from(limit.most()).saturating_sub(self.live(limit, at)),
        };
        let (moments, remaining) = (self.moments(limit, now), left(now));
        let first = |more: u64| moments.iter().find(|at| left(**at) > more).map_or(0, |at| at - now);
        let whole = u64::from(limit.most());
        let (next_ms, reset_ms) =
            if remaining == whole { (0, 0) } else { (first(remaining), first(whole - 1)) };
        Quota { remaining: remaining as u32, next_ms, reset_ms }
    }

    fn check(&mut self, limit: &Limit, cost: u64, now: u64) -> Decision {
        match self.retry_ms(limit, cost, now) {
            None => Decision::Impossible { max: limit.most() },
            Some(0) => {
                self.clock = self.clock.max(now);
                let at = self.clock;
                let newest = self.admitted.last().map_or(0, |one| one.end);
                let end = if newest >= at { newest } else { at + limit.window_ms().div_ceil(BUCKETS) - 1 };
                self.admitted.push(Admitted { at, end, cost });
                Decision::Allow
            }
            Some(retry_after_ms) => Decision::Deny { retry_after_ms },
        }
    }

    /// The newest first; with a stamp only those whose bucket ends then.
    fn reward(&mut self, limit: &Limit, cost: u64, stamp: Option<u64>, now: u64) {
        let (mut left, at) = (cost, now.max(self.clock));
        for one in self.admitted.iter_mut().rev() {
            if one.end + limit.window_ms() > at && stamp.is_none_or(|stamp| stamp == one.end) {
                let back = left.min(one.cost);
                (one.cost, left) = (one.cost - back, left - back);
            }
        }
        self.admitted.retain(|one| one.cost > 0);
        if left < cost {
            self.clock = at;
        }
    }

    fn block(&mut self, for_ms: u64, now: u64) {
        let blocked = if for_ms == 0 { 0 } else { self.blocked.max(now + for_ms) };
        if blocked != self.blocked {
            (self.blocked, self.clock) = (blocked, self.clock.max(now));
        }
    }

    /// What no longer counts need not be asked about again and again.
    fn forget(&mut self, limit: &Limit) {
        let clock = self.clock;
        self.admitted.retain(|one| one.end + 4 * limit.window_ms() > clock);
    }
}

fn operations() -> u64 {
    std::env::var("BCOS_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000)
}

fn limit(most: u32, window_ms: u64) -> Limit {
    Limit::new(most, window_ms).expect("a limit")
}

struct Schedule {
    rng: fastrand::Rng,
    limit: Limit,
    value: Vec<u8>,
    plain: Plain,
    now: u64,
    stamps: Vec<u64>,
    denied: u64,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let limit = limit(rng.u32(RING_MOST + 1..4 * RING_MOST), rng.u64(1..2_000));
        let now = rng.u64(1..1_000_000);
        let (value, plain, stamps) = (Vec::new(), Plain::default(), Vec::new());
        Self { rng, limit, value, plain, now, stamps, denied: 0 }
    }

    /// Mostly onwards, sometimes exactly to where something changes, sometimes back, but never a whole window: that has
    /// a test of its own.
    fn step(&mut self) {
        let window = self.limit.window_ms();
        let next = match self.rng.u8(0..40) {
            0..14 => self.now,
            14..30 => self.now + self.rng.u64(0..=window / 15 + 1),
            30..33 => self.now + window + self.limit.slack_ms() - self.rng.u64(0..=1),
            33 => self.now + self.rng.u64(0..=3 * window),
            _ => self.now.saturating_sub(self.rng.u64(0..=window / 3)),
        };
        self.now = next.max(self.plain.clock.saturating_sub(window)).max(1);
    }

    fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step();
            match self.rng.u8(0..60) {
                0..44 => self.consume(),
                44..50 => self.peek(),
                50..54 => self.reward(),
                54..56 => self.block(),
                56 => {
                    assert_eq!(self.apply(&Action::Reset), Change::Removed);
                    self.plain = Plain::default();
                }
                _ => {
                    self.limit = limit(self.rng.u32(RING_MOST + 1..4 * RING_MOST), self.limit.window_ms());
                }
            }
            self.plain.forget(&self.limit);
        }
    }

    fn apply(&mut self, action: &Action) -> Change {
        let change = apply(&mut self.value, &self.limit, action, self.now).change;
        assert!(self.value.len() <= 22 + 21 * 12, "{}", self.value.len());
        if let Change::Stored { ttl_ms } = change {
            let over =
                apply(&mut self.value.clone(), &self.limit, &Action::Peek { cost: 1 }, self.now + ttl_ms);
            assert_eq!(over.evaluation.quota.remaining, self.limit.most(), "it expires when all is over");
        }
        change
    }

    fn cost(&mut self) -> u32 {
        self.rng.u32(1..=self.limit.most() / 8)
    }

    fn consume(&mut self) {
        let costs: Vec<u32> = (0..self.rng.usize(1..4)).map(|_| self.cost()).collect();
        let mut runs = Runs::new();
        assert!(costs.iter().all(|cost| push_run(&mut runs, *cost)));
        let done = apply(&mut self.value, &self.limit, &Action::Consume(runs.clone()), self.now).evaluation;
        assert_eq!(done.quota, self.plain.quota(&self.limit, self.now));
        for (cost, answer) in costs.iter().zip(split(&self.limit, &runs, &done)) {
            let decision = self.plain.check(&self.limit, u64::from(*cost), self.now);
            assert_eq!(answer.decision, decision);
            assert_eq!(answer.quota, self.plain.quota(&self.limit, self.now));
            match decision {
                Decision::Allow => {
                    self.stamps.push(answer.stamp_ms);
                    self.within_the_limit();
                }
                _ => self.denied += 1,
            }
        }
    }

    /// The bound itself, after an admission: no window of the key's clock has more than the limit, and what is admitted
    /// counts less than a bucket too long.
    fn within_the_limit(&self) {
        let (window, Some(newest)) = (self.limit.window_ms(), self.plain.admitted.last()) else { return };
        assert!((newest.at..=newest.at + self.limit.slack_ms()).contains(&newest.end));
        let inside = |one: &&Admitted| one.at + window > newest.at;
        let sum: u64 = self.plain.admitted.iter().filter(inside).map(|one| one.cost).sum();
        assert!(sum <= u64::from(self.limit.most()), "{sum} of {}", self.limit.most());
    }

    fn peek(&mut self) {
        let cost = if self.rng.u8(0..20) == 0 { self.limit.most() + 1 } else { self.cost() };
        let done = apply(&mut self.value, &self.limit, &Action::Peek { cost }, self.now);
        assert_eq!(done.change, Change::Nothing);
        let retry = self.plain.retry_ms(&self.limit, u64::from(cost), self.now);
        assert_eq!(done.evaluation.runs[0].retry_ms, retry);
        assert_eq!(done.evaluation.runs[0].admitted, u32::from(retry == Some(0)));
        assert_eq!(done.evaluation.quota, self.plain.quota(&self.limit, self.now));
    }

    fn reward(&mut self) {
        let (cost, refund) = (self.rng.u32(0..300), self.rng.bool());
        let stamp_ms = if refund { self.rng.choice(&self.stamps).copied() } else { None };
        self.apply(&Action::Reward { cost, stamp_ms });
        self.plain.reward(&self.limit, u64::from(cost), stamp_ms, self.now);
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
fn the_coarse_form_is_the_plain_list() {
    let (steps, mut denied) = (250, 0);
    for seed in 0..operations().div_ceil(steps) {
        let result = std::panic::catch_unwind(|| {
            let mut schedule = Schedule::new(seed);
            schedule.run(steps);
            schedule.denied
        });
        denied += result.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(denied > 0);
}
