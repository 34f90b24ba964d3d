//! The bound of `limiter/share.rs`, on the code that ships: several instances, one store that goes away for some or
//! for all of them, replies that get lost, and everything merged before the store is trusted again. The same checker
//! must catch an instance that forgets to merge, and instances that each take the whole limit.
//! `BCOS_SCHEDULES` sets how many checks are made.

use std::collections::HashSet;

use bcos_cache_core::base::key::{Key, Keys, Namespace};
use bcos_cache_core::limiter::{Action, Decision, Limit, Locals, Peers, RING_MOST, Run, apply};

/// How instances behave.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    /// The product.
    Shares,
    /// As many limiters do: what was admitted meanwhile is forgotten.
    NoMerge,
    /// As the others do: each instance has the limit for itself.
    WholeLimit,
    /// The store does not note what it was told.
    Unnoted,
}

/// Who is cut off from the store.
#[derive(Clone, Copy, PartialEq)]
enum Outage {
    /// Everybody, and nobody is back before everybody's news are in.
    Together,
    /// Each on its own.
    Alone,
}

struct Instance {
    locals: Locals,
    peers: Peers,
    connected: bool,
    trusts: bool,
}

struct World {
    rng: fastrand::Rng,
    limit: Limit,
    key: Key,
    store: Vec<u8>,
    /// What it was told.
    noted: HashSet<u64>,
    /// So much was to be told, and so much was charged for it.
    news: u64,
    merged: u64,
    now: u64,
    instances: Vec<Instance>,
    rule: Rule,
    /// Whether replies get lost.
    lossy: bool,
    /// (when, cost), through the store and without it.
    through: Vec<(u64, u64)>,
    without: Vec<(u64, u64)>,
    outages: Vec<u64>,
}

impl World {
    fn new(seed: u64, rule: Rule) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let most = *rng.choice(&[1, 3, 10, 50, RING_MOST + 500]).expect("not empty");
        let ids: Vec<u64> = (0..rng.u64(1..6)).map(|id| id * 7).collect();
        let instance = |id: &u64| Instance {
            locals: Locals::new(8, 1 << 20),
            peers: Peers::among(*id, ids.iter().copied()),
            connected: true,
            trusts: true,
        };
        Self {
            limit: Limit::new(most, rng.u64(100..1_000)).expect("a limit"),
            key: Keys::new("").entry(Namespace::UserBasic, &seed.to_string()),
            store: Vec::new(),
            noted: HashSet::new(),
            news: 0,
            merged: 0,
            now: 1_000_000,
            instances: ids.iter().map(instance).collect(),
            rng,
            rule,
            lossy: true,
            through: Vec::new(),
            without: Vec::new(),
            outages: Vec::new(),
        }
    }

    fn run(&mut self, outage: Outage, checks: usize) {
        for _ in 0..checks {
            let pace = self.limit.window_ms() * 4 / u64::from(self.limit.most().min(60)) + 1;
            self.now += self.rng.u64(0..=pace / self.instances.len() as u64);
            match self.rng.u8(0..80) {
                0 => self.cut_off(outage),
                1..4 => self.reconnect(outage),
                _ => self.check(),
            }
        }
    }

    fn chosen(&mut self, outage: Outage) -> Vec<usize> {
        match outage {
            Outage::Together => (0..self.instances.len()).collect(),
            Outage::Alone => vec![self.rng.usize(..self.instances.len())],
        }
    }

    fn cut_off(&mut self, outage: Outage) {
        if self.instances.iter().all(|one| one.trusts) {
            self.outages.push(self.now);
        }
        for at in self.chosen(outage) {
            (self.instances[at].connected, self.instances[at].trusts) = (false, false);
        }
    }

    /// The store is there again: first it is told, then it is trusted.
    fn reconnect(&mut self, outage: Outage) {
        let chosen = self.chosen(outage);
        for at in &chosen {
            let instance = &mut self.instances[*at];
            instance.connected = true;
            while instance.locals.has_unsent() {
                for unsent in instance.locals.take_unsent(1) {
                    let aged = unsent.aged(self.now);
                    let sum: u64 = aged.iter().map(|one| u64::from(one.count)).sum();
                    self.now += self.rng.u64(0..3);
                    if self.rule == Rule::NoMerge {
                        continue;
                    }
                    let (arrives, answered) = (self.rng.u8(0..8) > 0, self.rng.u8(0..8) > 0);
                    if arrives && (self.noted.insert(unsent.mark()) || self.rule == Rule::Unnoted) {
                        apply(&mut self.store, &unsent.limit, &Action::Merge(aged), self.now);
                        self.merged += sum;
                    }
                    if arrives && answered {
                        self.news += sum;
                    }
                    if !arrives || !answered {
                        instance.locals.put_back(unsent, self.now);
                    }
                }
            }
        }
        for at in chosen {
            self.instances[at].trusts = true;
        }
    }

    fn check(&mut self) {
        let at = self.rng.usize(..self.instances.len());
        let cost = self.rng.u32(1..=(self.limit.most() / 8).max(1));
        let instance = &mut self.instances[at];
        if instance.trusts {
            let runs = vec![Run { cost, count: 1 }];
            let action = Action::Consume(runs.clone().into());
            let done = apply(&mut self.store, &self.limit, &action, self.now).evaluation;
            let lost = self.lossy && self.rng.u8(0..200) == 0;
            if !lost {
                if done.runs[0].admitted > 0 {
                    self.through.push((self.now, u64::from(cost)));
                }
                let (limit, now) = (self.limit, self.now);
                instance.locals.with(&self.key, &limit, now, |local| local.heard(&limit, &runs, &done, now));
                return;
            }
            // Nobody knows whether it was charged. It is not sent again.
            if self.outages.last() != Some(&self.now) {
                self.outages.push(self.now);
            }
            (instance.connected, instance.trusts) = (false, false);
        }
        let share = match self.rule {
            Rule::WholeLimit => self.limit.most(),
            _ => instance.peers.share(self.limit.most(), self.key.fingerprint()),
        };
        let answer = instance.locals.decide(&self.key, &self.limit, share, cost, self.now);
        if answer.decision == Decision::Allow {
            self.without.push((self.now, u64::from(cost)));
        }
    }

    /// The largest sum within any window that begins at `from` or later.
    fn worst<'a>(&self, from: u64, admitted: impl Iterator<Item = &'a (u64, u64)>) -> u64 {
        let mut all: Vec<(u64, u64)> = admitted.copied().filter(|(at, _)| *at >= from).collect();
        all.sort_unstable();
        let (mut first, mut sum, mut worst) = (0, 0, 0);
        for (at, cost) in &all {
            sum += cost;
            while all[first].0 + self.limit.window_ms() <= *at {
                sum -= all[first].1;
                first += 1;
            }
            worst = worst.max(sum);
        }
        worst
    }

    /// Through the store, without it, and all of it, in the worst window of each.
    fn figures(&self) -> [u64; 3] {
        let all = self.through.iter().chain(&self.without);
        [self.worst(0, self.through.iter()), self.worst(0, self.without.iter()), self.worst(0, all)]
    }

    /// The worst window that begins after the first outage began.
    fn afterwards(&self) -> u64 {
        let from = self.outages.first().copied().unwrap_or(u64::MAX);
        self.worst(from, self.through.iter().chain(&self.without))
    }
}

const CHECKS: usize = 500;

fn worlds() -> u64 {
    let checks: u64 =
        std::env::var("BCOS_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    checks.div_ceil(CHECKS as u64).max(20)
}

#[test]
fn any_window_admits_at_most_the_limit_through_the_store_and_once_more_without_it() {
    let (mut without, mut beyond, mut worst_ratio) = (0, 0, 0.0_f64);
    for seed in 0..worlds() {
        let mut world = World::new(seed, Rule::Shares);
        world.run(Outage::Alone, CHECKS);
        let most = u64::from(world.limit.most());
        let shares = most.max(world.instances.len() as u64);
        let [through, apart, all] = world.figures();
        assert!(
            through <= most && apart <= shares && all <= most + shares,
            "seed {seed}: {through} {apart} {all} of {most}"
        );
        assert_eq!(world.merged, world.news, "seed {seed}: everything is told, and once");
        without += world.without.len();
        beyond += u64::from(all > most);
        worst_ratio = worst_ratio.max(all as f64 / (most + shares) as f64);
    }
    assert!(without > 1_000.min(worlds() as usize), "checks are admitted without the store at all");
    assert!(beyond > 0 && worst_ratio > 0.7, "the bound is not idle: {worst_ratio}");
}

/// One outage for everybody: once it has begun, no window admits more than the limit, or one for each instance.
fn beyond_the_limit_after_one_outage(rule: Rule) -> u64 {
    let mut beyond = 0;
    for seed in 0..worlds() {
        let mut world = World::new(seed, rule);
        world.lossy = false;
        let part = |world: &mut World| {
            for _ in 0..CHECKS / 3 {
                world.now += world.rng.u64(0..=world.limit.window_ms() / 10);
                world.check();
            }
        };
        part(&mut world);
        world.now += 1;
        world.cut_off(Outage::Together);
        part(&mut world);
        world.reconnect(Outage::Together);
        part(&mut world);
        let most = u64::from(world.limit.most()).max(world.instances.len() as u64);
        beyond += u64::from(world.afterwards() > most);
    }
    beyond
}

#[test]
fn after_a_common_outage_began_no_window_admits_more_than_the_shares() {
    assert_eq!(beyond_the_limit_after_one_outage(Rule::Shares), 0);
}

#[test]
fn the_same_checker_catches_a_missing_merge_and_whole_limits() {
    assert!(beyond_the_limit_after_one_outage(Rule::NoMerge) > worlds() / 10);
    assert!(beyond_the_limit_after_one_outage(Rule::WholeLimit) > worlds() / 10);
}

#[test]
fn the_same_checker_catches_a_store_that_counts_twice_what_it_is_told_twice() {
    let twice = |seed: u64| {
        let mut world = World::new(seed, Rule::Unnoted);
        world.run(Outage::Alone, CHECKS);
        world.merged > world.news
    };
    assert!((0..worlds()).filter(|seed| twice(*seed)).count() as u64 > worlds() / 10);
}
