//! What a check of several limits becomes when the store answers only some of them, and what health says of it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::super::Request;
use super::super::worker::{self, Job, Ticket};
use super::*;
use crate::base::clock::Clock;
use crate::config;
use crate::limiter::Quota;
use crate::store::sim::Fault;

/// An engine's core over a simulated store that counts.
async fn core() -> Arc<Core> {
    let settings = config::load(&[], &serde_json::json!({ "cacheStore": "none" })).expect("settings");
    let core = Core::simulated(settings, Clock::fake(1_000), &Handle::current()).expect("a core");
    let core = Arc::new(core);
    let guard = core.clone();
    tokio::spawn(async move { guard.cache.guard().await });
    for _ in 0..1_000 {
        if core.cache.counts_limits() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(core.cache.counts_limits());
    core
}

fn check(kind: &str, most: u32) -> LimitCheck {
    let (kind, identifier) = (kind.to_owned(), format!("of {kind}"));
    LimitCheck { kind, identifier, most, window_ms: 60_000, cost: 1, fallback: Fallback::Local }
}

fn evaluation(remaining: u32) -> Evaluation {
    let retry_ms = Some(if remaining > 0 { 0 } else { 60_000 });
    let runs = smallvec![RunVerdict { admitted: u32::from(remaining > 0), retry_ms }];
    let quota = Quota { remaining, next_ms: 60_000, reset_ms: 60_000 };
    Evaluation { quota, now_ms: 5, stamp_ms: 5, runs }
}

/// Checks the two limits, which are two operations; the store says this.
fn settled(core: &Core, replies: [StoreResult; 2]) -> Option<AllTold> {
    core.cache.limits.separate();
    let (mut ops, started) = (Vec::new(), Started { us: 0, moment: 0 });
    let checks = [check("narrow", 3), check("wide", 5_000)];
    let Ok(LimitPlan::Hot(mut hot)) = core.plan_limits(&checks, true, &mut ops, started) else {
        panic!("the store is to be asked")
    };
    assert_eq!(ops.len(), 2);
    core.settle_limits(&mut hot, &replies, started)
}

#[tokio::test]
async fn what_one_limit_denies_is_charged_to_none_that_did_not_answer() {
    let core = core().await;
    let denied = Ok(Reply::Limits(smallvec![evaluation(0)]));
    for silence in [StoreError::Timeout, StoreError::Refused("TRYAGAIN".into())] {
        let told = settled(&core, [denied.clone(), Err(silence)]).expect("nothing is to be given back");
        assert!(!told[0].admits());
        assert_eq!(told[1], Told::NotAsked);
        assert!(core.cache.limits.take_unsent(usize::MAX).is_empty(), "the store is told of no admission");
        core.cache.limits.forget_denials();
    }
    let admitted = Ok(Reply::Limits(smallvec![evaluation(2)]));
    let told = settled(&core, [admitted, Err(StoreError::Timeout)]).expect("nothing is to be given back");
    assert!(told.iter().all(Told::admits) && matches!(told[1], Told::Alone(_)), "{told:?}");
    assert_eq!(core.cache.limits.take_unsent(usize::MAX).len(), 1);
}

#[tokio::test]
async fn what_the_store_is_told_counts_once_however_often_its_answer_is_lost() {
    const MOST: u32 = 50;
    let core = core().await;
    let Store::Sim(store) = &core.cache.store else { panic!("a simulated store") };
    let checks: Vec<LimitCheck> =
        ["exact", "coarse"].map(|kind| check(kind, if kind == "exact" { MOST } else { 5_000 })).to_vec();
    let asked: Vec<Asked> = checks.iter().map(|one| core.asked(one).expect("a check")).collect();
    let remaining = async || {
        let look = |one: &Asked| Op::Limit {
            key: one.check.key.clone(),
            limit: one.check.limit,
            action: Action::Peek { cost: 1 },
        };
        let replies = core.cache.exec(asked.iter().map(look).collect()).await;
        let told = |reply: StoreResult| match reply {
            Ok(Reply::Limits(all)) => all[0].quota.remaining,
            other => panic!("{other:?}"),
        };
        replies.into_iter().map(told).collect::<Vec<u32>>()
    };
    for round in 1..5 {
        for _ in 0..3 {
            let told = core.cache.limits.decide(&asked, core.cache.clock.now_ms(), || false);
            assert!(told.is_some_and(|told| told.iter().all(Told::admits)));
        }
        store.script([Fault::LoseReply, Fault::LoseReply, Fault::LoseRequest, Fault::LoseReply]);
        core.cache.wake_guard();
        while !core.cache.counts_limits() || store.left() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(remaining().await, [MOST - 3 * round, 5_000 - 3 * round], "round {round}");
    }
}

#[tokio::test]
async fn health_says_why_the_store_is_not_believed_about_limits() {
    let core = core().await;
    let reason = || {
        let store = core.store_standing();
        core.limiter_standing(&store).reason.unwrap_or_default()
    };
    assert_eq!(reason(), "");
    core.cache.limits.distrust();
    assert!(reason().contains("being told"), "{}", reason());
    core.cache.limits.refused();
    assert!(reason().contains("does not take"), "{}", reason());
    assert!(core.cache.limits.trust());
    assert_eq!(reason(), "");
}

/// What the requests of a batch were told, in the groups in which they were told it.
type Groups = Arc<Mutex<Vec<Vec<(usize, Outcome)>>>>;

/// Number so of a batch.
struct Noted(usize, Groups);

impl Ticket for Noted {
    fn settle(self, outcome: Outcome) {
        self.1.lock().push(vec![(self.0, outcome)]);
    }

    fn settle_many(settled: Vec<(Self, Outcome)>) {
        let Some(groups) = settled.first().map(|(first, _)| first.1.clone()) else { return };
        groups.lock().push(settled.into_iter().map(|(one, outcome)| (one.0, outcome)).collect());
    }
}

#[tokio::test]
async fn a_large_batch_travels_in_halves_in_its_order() {
    let core = core().await;
    const LARGE: usize = limits::BATCH_HALVED;
    let cases = [
        (LARGE - 1, 7, 1),
        (LARGE, 1, 2),
        (LARGE, 7, 2),
        (LARGE, LARGE, 2),
        (limits::BATCH_REQUESTS, 100, 2),
    ];
    for (turn, (jobs, distinct, parts)) in cases.into_iter().enumerate() {
        let groups = Groups::default();
        let job = |at: usize| {
            let identifier = format!("{turn} {}", at % distinct);
            let check = LimitCheck { identifier, ..check("part", 1_000) };
            let (request, started) = (Request::Limit { check, charge: true }, Started { us: 0, moment: 0 });
            Job { request, deadline_ms: 0, started, ticket: Noted(at, groups.clone()) }
        };
        worker::batch_of(core.clone(), (0..jobs).map(job).collect()).await;
        let groups = std::mem::take(&mut *groups.lock());
        assert_eq!(groups.len(), parts, "{jobs} checks of {distinct} limits");
        let told: Vec<(usize, Outcome)> = groups.into_iter().flatten().collect();
        assert_eq!(told.len(), jobs);
        for (at, outcome) in told {
            let Outcome::Limit(Told::Store(answer)) = outcome else { panic!("{outcome:?}") };
            assert_eq!(answer.quota.remaining as usize, 1_000 - at / distinct - 1, "{at}: in their order");
        }
    }
}
