//! Requests about rate limits: what to ask the store, what its answers mean, and who decides without it.
//!
//! Several limits of one check that lie in one slot are one command, charged together or not at all. Those of other
//! slots travel in the same round trip; when one denies, the others are given back what they charged.
//!
//! Invariant: a check is charged at most once by the store, and never sent twice: when its fate is unknown this
//! instance decides.

use smallvec::smallvec;

use crate::base::error::{Code, Error};
use crate::base::key::{Key, Namespace};
use crate::base::limits;
use crate::cache::{Effect, Invalidation};
use crate::limiter::{
    Action, AllAsked, AllTold, Answer, Asked, Check, Decision, Evaluation, Fallback, Limit, Run, RunVerdict,
    Told, split,
};
use crate::store::{Op, Reply, Store, StoreError, StoreResult};
use crate::telemetry::Tier;

use super::hot::{Hot, Plan};
use super::{Core, Outcome, Started};

/// One limit as it is asked for.
#[derive(Clone, Debug)]
pub struct LimitCheck {
    /// Which limit.
    pub kind: String,
    /// Of whom; may be empty.
    pub identifier: String,
    /// So much within a window.
    pub most: u32,
    /// The window.
    pub window_ms: u64,
    /// What the check costs.
    pub cost: u32,
    /// Without the store.
    pub fallback: Fallback,
}

/// What else can be done with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitChange {
    /// Forget everything.
    Reset,
    /// Deny everything for so long; 0 lifts it.
    Block { for_ms: u64 },
    /// Give back the newest admissions.
    Reward { cost: u32 },
}

/// A check on its way.
pub(super) struct LimitsHot {
    asked: AllAsked,
    /// The checks of each operation, by place. None when there is only one: nearly always.
    groups: Vec<Vec<usize>>,
    /// When it was sent.
    sent_ms: u64,
    charged: bool,
    /// What was charged although the whole is denied.
    refunds: Vec<Op>,
    told: AllTold,
}

impl LimitsHot {
    pub(super) fn ops(&self) -> usize {
        self.groups.len().max(1)
    }
}

/// What is known of a check before the store is asked.
pub(super) enum LimitPlan {
    Now(AllTold),
    Hot(LimitsHot),
}

impl Core {
    /// Plans a check; `charge` = it is not only a look.
    pub(super) fn plan_limits(
        &self,
        checks: &[LimitCheck],
        charge: bool,
        ops: &mut Vec<Op>,
        started: Started,
    ) -> Result<LimitPlan, Error> {
        let asked: AllAsked = checks.iter().map(|check| self.asked(check)).collect::<Result<_, _>>()?;
        if asked.is_empty() || asked.len() > limits::LIMITS_TOGETHER {
            return Err(Error::argument("limits", "between 1 and 16 limits are expected"));
        }
        for (at, one) in asked.iter().enumerate() {
            if asked[..at].iter().any(|before| before.check.key == one.check.key) {
                return Err(Error::argument("limits", "one limit of one identifier is named twice"));
            }
        }
        let cache = &self.cache;
        let now = cache.clock.now_ms();
        if charge && let Some(told) = self.denied_before(&asked, now) {
            self.count_limits(&told, Tier::Near, started);
            return Ok(LimitPlan::Now(told));
        }
        if !cache.counts_limits()
            && let Some(told) = self.alone(&asked, charge, true)
        {
            self.count_limits(&told, Tier::Near, started);
            return Ok(LimitPlan::Now(told));
        }
        let alone = |one: &Asked| {
            let Check { key, limit, cost } = &one.check;
            let action = match charge {
                true => Action::Consume(smallvec![Run { cost: *cost, count: 1 }]),
                false => Action::Peek { cost: *cost },
            };
            Op::Limit { key: key.clone(), limit: *limit, action }
        };
        let groups = if asked.len() > 1 { self.groups(&asked, charge) } else { Vec::new() };
        if let [one] = &asked[..] {
            ops.push(alone(one));
        }
        for group in &groups {
            ops.push(match &group[..] {
                [at] => alone(&asked[*at]),
                several => Op::LimitAll(several.iter().map(|at| asked[*at].check.clone()).collect()),
            });
        }
        let (refunds, told) = (Vec::new(), AllTold::new());
        Ok(LimitPlan::Hot(LimitsHot { asked, groups, sent_ms: now, charged: charge, refunds, told }))
    }

    pub(super) fn plan_limits_alone(
        &self,
        checks: &[LimitCheck],
        charge: bool,
        ops: &mut Vec<Op>,
        started: Started,
    ) -> Plan {
        match self.plan_limits(checks, charge, ops, started) {
            Ok(LimitPlan::Now(told)) => Plan::Now(limits_outcome(told)),
            Ok(LimitPlan::Hot(hot)) => Plan::Hot(Hot::Limits(Box::new(hot))),
            Err(error) => Plan::failed(error),
        }
    }

    fn asked(&self, check: &LimitCheck) -> Result<Asked, Error> {
        let limit = Limit::new(check.most, check.window_ms)?;
        let key = self.limit_key(&check.kind, &check.identifier)?;
        let epoch = self.cache.limits.epoch(&key);
        Ok(Asked { check: Check { key, limit, cost: check.cost.max(1) }, fallback: check.fallback, epoch })
    }

    fn limit_key(&self, kind: &str, identifier: &str) -> Result<Key, Error> {
        if kind.is_empty() || kind.len() > limits::KEY_PART_BYTES {
            return Err(Error::argument("type", "a text of 1 to 1024 bytes"));
        }
        if identifier.len() > limits::KEY_PART_BYTES {
            return Err(Error::argument("identifier", "a text of at most 1024 bytes"));
        }
        Ok(self.cache.keys.limit(kind, identifier))
    }

    /// Which checks are one operation: those whose keys lie in one slot.
    fn groups(&self, asked: &[Asked], charge: bool) -> Vec<Vec<usize>> {
        let join = charge && self.cache.limits.may_join();
        let clustered = join && self.cache.store.mode() == "cluster";
        let mut groups: Vec<Vec<usize>> = Vec::with_capacity(1);
        for (at, one) in asked.iter().enumerate() {
            let same = |group: &&mut Vec<usize>| {
                join && (!clustered || asked[group[0]].check.key.slot() == one.check.key.slot())
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.push(at),
                None => groups.push(vec![at]),
            }
        }
        groups
    }

    /// The answer to a check of which one limit is known to deny.
    fn denied_before(&self, asked: &[Asked], now: u64) -> Option<AllTold> {
        let heard = self.cache.hears();
        let mut told = AllTold::new();
        for (at, Asked { check: Check { key, limit, cost }, .. }) in asked.iter().enumerate() {
            if let Some(answer) = self.cache.limits.denial(key.bytes(), limit, *cost, now, heard) {
                // Made when it is needed: hardly any check is denied before.
                told.resize(asked.len(), Told::NotAsked);
                told[at] = Told::Store(answer);
            }
        }
        if told.is_empty() {
            return None;
        }
        self.telemetry.limits_denied_near.up();
        Some(told)
    }

    /// Decides without the store. `None`: it is back, and `gently` = then it shall be asked.
    fn alone(&self, asked: &[Asked], charge: bool, gently: bool) -> Option<AllTold> {
        let cache = &self.cache;
        let now = cache.clock.now_ms();
        if !charge {
            return Some(asked.iter().map(|one| cache.limits.peek(one, now)).collect());
        }
        let told = cache.limits.decide(asked, now, || gently && cache.counts_limits())?;
        self.telemetry.limits_alone.up();
        if cache.available() {
            // In service, but it did not answer this one: it is told by the guard.
            cache.wake_guard();
        }
        Some(told)
    }

    /// Judges the replies; `None` = something is to be given back first.
    pub(super) fn settle_limits(
        &self,
        hot: &mut LimitsHot,
        replies: &[StoreResult],
        started: Started,
    ) -> Option<AllTold> {
        if let ([asked], [reply]) = (&hot.asked[..], replies) {
            return Some(smallvec![self.settle_limit(asked, hot, reply, started)]);
        }
        let mut told = smallvec![Told::NotAsked; hot.asked.len()];
        let mut evaluations: Vec<Option<Evaluation>> = vec![None; hot.asked.len()];
        let mut heard = Vec::with_capacity(hot.asked.len());
        for (group, reply) in hot.groups.iter().zip(replies) {
            let answered = match reply {
                Ok(Reply::Limits(all)) if all.len() == group.len() => all,
                Ok(_) => continue,
                Err(StoreError::Refused(why)) if why.starts_with("CROSSSLOT") => {
                    self.cache.limits.separate();
                    continue;
                }
                Err(_) => continue,
            };
            let charged =
                hot.charged && answered.iter().all(|one| one.runs.iter().all(|run| run.admitted > 0));
            for (at, evaluation) in group.iter().zip(answered) {
                let check = &hot.asked[*at].check;
                told[*at] = Told::Store(answer(check, evaluation, charged));
                evaluations[*at] = charged.then(|| evaluation.clone());
                heard.push((*at, evaluation, charged));
            }
        }
        let unanswered: Vec<usize> =
            hot.groups.iter().flatten().copied().filter(|at| told[*at] == Told::NotAsked).collect();
        // When one denies, the others need not be decided here: they would be charged for nothing, and told to the store.
        if !unanswered.is_empty() && told.iter().all(Told::admits) {
            let asked: AllAsked = unanswered.iter().map(|at| hot.asked[*at].clone()).collect();
            let alone = self.alone(&asked, hot.charged, false).unwrap_or_default();
            for (at, one) in unanswered.into_iter().zip(alone) {
                told[at] = one;
            }
        }
        self.count_limits(&told, Tier::Store, started);
        let admitted = told.iter().all(Told::admits);
        // What is given back was not admitted by this instance.
        for (at, evaluation, charged) in heard.into_iter().filter(|(.., charged)| admitted || !charged) {
            if hot.charged {
                self.remember(hot, at, evaluation, charged);
            }
        }
        if hot.charged && !admitted {
            let back = |(at, evaluation): (usize, &Option<Evaluation>)| {
                let Check { key, limit, cost } = &hot.asked[at].check;
                let stamp_ms = Some(evaluation.as_ref()?.stamp_ms);
                let action = Action::Reward { cost: *cost, stamp_ms };
                Some(Op::Limit { key: key.clone(), limit: *limit, action })
            };
            hot.refunds = evaluations.iter().enumerate().filter_map(back).collect();
        }
        if hot.refunds.is_empty() {
            return Some(told);
        }
        hot.told = told;
        None
    }

    /// The same for a single limit: there is nothing to give back, and nothing but the answer is allocated.
    fn settle_limit(&self, asked: &Asked, hot: &LimitsHot, reply: &StoreResult, started: Started) -> Told {
        let told = match reply {
            Ok(Reply::Limits(all)) if all.len() == 1 => {
                let charged = hot.charged && all[0].runs.iter().all(|run| run.admitted > 0);
                let answer = answer(&asked.check, &all[0], charged);
                if hot.charged {
                    let sent = (asked.epoch, hot.sent_ms);
                    self.cache.limits.heard(&asked.check, &all[0], &answer, sent, self.cache.clock.now_ms());
                }
                Told::Store(answer)
            }
            _ => {
                let alone = self.alone(std::slice::from_ref(asked), hot.charged, false);
                alone.and_then(|mut told| told.pop()).unwrap_or(Told::NotAsked)
            }
        };
        self.count_limits(std::slice::from_ref(&told), Tier::Store, started);
        told
    }

    fn remember(&self, hot: &LimitsHot, at: usize, evaluation: &Evaluation, charged: bool) {
        let (check, now) = (&hot.asked[at].check, self.cache.clock.now_ms());
        let answer = answer(check, evaluation, charged);
        let sent = (hot.asked[at].epoch, hot.sent_ms);
        if charged {
            return self.cache.limits.heard(check, evaluation, &answer, sent, now);
        }
        // Whatever fits was not charged, because something else did not.
        let nothing = |run: &RunVerdict| RunVerdict { admitted: 0, ..*run };
        let evaluation = Evaluation { runs: evaluation.runs.iter().map(nothing).collect(), ..*evaluation };
        self.cache.limits.heard(check, &evaluation, &answer, sent, now);
    }

    /// Gives back what was charged in vain, then answers. When that does not arrive it stays charged.
    pub(super) async fn refund(&self, hot: LimitsHot) -> AllTold {
        let LimitsHot { refunds, told, .. } = hot;
        let keys: Vec<Key> = refunds.iter().filter_map(Op::key).cloned().collect();
        self.telemetry.limits_refunded.add(refunds.len() as u64);
        let _ = self.cache.exec(refunds).await;
        self.announce_given_back(&keys).await;
        told
    }

    /// Whoever was denied in between was told a time that no longer holds. Announced after the change, because on a
    /// cluster another node may pass it on.
    async fn announce_given_back(&self, keys: &[Key]) {
        keys.iter().for_each(|key| self.cache.limits.forget_denial(key));
        let _ = self.cache.exec(vec![Op::Announce(self.cache.given_back(keys.iter()))]).await;
    }

    /// The same for what is not as it was at all: whoever hears of it forgets what it knows of the key.
    async fn announce_changed(&self, key: &Key) {
        self.cache.limits.forget_denial(key);
        let _ = self.cache.exec(vec![Op::Announce(self.cache.announcement([key].into_iter()))]).await;
    }

    fn count_limits(&self, told: &[Told], tier: Tier, started: Started) {
        let admitted = told.iter().all(Told::admits);
        let count = if admitted { &self.telemetry.limits_admitted } else { &self.telemetry.limits_denied };
        count.up();
        let us = self.cache.clock.now_us().saturating_sub(started.us);
        self.telemetry.of(Namespace::RateLimit).answered(tier, !admitted, us);
    }

    pub(super) async fn change_limit(
        &self,
        check: &LimitCheck,
        change: LimitChange,
    ) -> Result<Outcome, Error> {
        let Asked { check: Check { key, limit, .. }, .. } = self.asked(check)?;
        let cache = &self.cache;
        let action = match change {
            LimitChange::Reset => return Ok(self.reset_limit(&key).await?.into()),
            LimitChange::Block { for_ms } => {
                cache.limits.block(&key, &limit, for_ms, cache.clock.now_ms());
                Action::Block { for_ms }
            }
            LimitChange::Reward { cost } => Action::Reward { cost, stamp_ms: None },
        };
        if matches!(cache.store, Store::None) {
            return Ok(Outcome::Nothing);
        }
        cache.ready().await;
        let replies = cache.exec(vec![Op::Limit { key: key.clone(), limit, action }]).await;
        match replies.into_iter().next() {
            Some(Ok(_)) => {
                match change {
                    LimitChange::Reward { .. } => self.announce_given_back(&[key]).await,
                    // A block admits nothing sooner.
                    LimitChange::Block { for_ms: 1.. } => {}
                    _ => self.announce_changed(&key).await,
                }
                Ok(Outcome::Nothing)
            }
            _ => Err(Error::new(
                Code::StoreUnavailable,
                "the store did not take the change of a rate limit; other processes do not know of it",
            )),
        }
    }

    /// Forgets a limit here and everywhere, as any invalidation: replayed when the store is away.
    async fn reset_limit(&self, key: &Key) -> Result<Invalidation, Error> {
        self.cache.limits.reset(key);
        let done = self.cache.invalidate(vec![(key.clone(), Effect::Delete)]).await?;
        self.cache.limits.reset(key);
        if done.acknowledged {
            self.announce_changed(key).await;
        }
        Ok(done)
    }
}

/// What a caller gets.
pub(super) fn limits_outcome(mut told: AllTold) -> Outcome {
    match told.pop() {
        Some(one) if told.is_empty() => Outcome::Limit(one),
        last => {
            told.extend(last);
            Outcome::Limits(told)
        }
    }
}

/// What the caller of one check is told; what fits but was not charged leaves the quota as it was found.
fn answer(check: &Check, evaluation: &Evaluation, charged: bool) -> Answer {
    let runs = [Run { cost: check.cost.max(1), count: 1 }];
    let whole = split(&check.limit, &runs, evaluation).next();
    match whole {
        Some(answer) if charged || answer.decision != Decision::Allow => answer,
        _ => Answer { decision: Decision::Allow, quota: evaluation.quota, stamp_ms: evaluation.stamp_ms },
    }
}

#[cfg(test)]
#[path = "ratelimits_tests.rs"]
mod tests;
