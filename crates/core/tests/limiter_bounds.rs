//! What both forms of the limiter promise: never more than the limit in any window, whatever the clock does and
//! whatever the bytes are; the coarse form denies nothing that fits a window longer by its slack; values stay small.
//! `BCOS_SCHEDULES` sets how many operations.

use bcos_cache_core::limiter::{Action, Aged, Change, Limit, RING_MOST, Run, apply};
use smallvec::smallvec;

fn operations() -> u64 {
    std::env::var("BCOS_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000)
}

fn limit(most: u32, window_ms: u64) -> Limit {
    Limit::new(most, window_ms).expect("a limit")
}

/// The largest sum of costs within any `window`.
fn worst(admitted: &[(u64, u64)], window: u64) -> u64 {
    let (mut from, mut sum, mut worst) = (0, 0, 0);
    for (at, cost) in admitted {
        sum += cost;
        while admitted[from].0 + window <= *at {
            sum -= admitted[from].1;
            from += 1;
        }
        worst = worst.max(sum);
    }
    worst
}

/// Several callers, and a server clock that is behind the true time by more and more: it only ever steps back.
#[test]
fn a_clock_that_steps_back_never_admits_more_in_true_time() {
    let (mut admitted_at_all, mut full) = (0, 0);
    for seed in 0..(operations() / 500).max(50) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let most = *rng.choice(&[1, 2, 7, 30, RING_MOST + 200]).expect("not empty");
        let (limit, unit) = (limit(most, rng.u64(20..500)), if most > RING_MOST { 150 } else { 1 });
        let (mut value, mut now, mut behind, mut admitted) = (Vec::new(), 1_000_000, 0, Vec::new());
        for _ in 0..500 {
            now += rng.u64(0..=limit.window_ms() * 4 / u64::from(most / unit + 1));
            if rng.u8(0..50) == 0 {
                let far = if rng.bool() { 3 * limit.window_ms() } else { 5 };
                behind = (behind + rng.u64(0..=far)).min(now - 1);
            }
            let runs = vec![Run { cost: rng.u32(1..=unit), count: rng.u32(1..3) }];
            let done =
                apply(&mut value, &limit, &Action::Consume(runs.clone().into()), now - behind).evaluation;
            let cost = u64::from(runs[0].cost) * u64::from(done.runs[0].admitted);
            if cost > 0 {
                admitted.push((now, cost));
            }
        }
        let worst = worst(&admitted, limit.window_ms());
        assert!(worst <= u64::from(most), "seed {seed}: {worst} of {most}");
        admitted_at_all += admitted.len();
        full += u64::from(worst == u64::from(most));
    }
    assert!(admitted_at_all > 0 && full > 0, "the schedules reach the limit at all");
}

/// Any steps, forward ones included. The server's monotone clock is all that counts then; in true time a step
/// forward by d makes the window at most d shorter.
#[test]
fn a_clock_that_jumps_shortens_the_window_by_no_more_than_the_jump() {
    for seed in 0..(operations() / 500).max(50) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let limit = limit(*rng.choice(&[1, 5, 40]).expect("not empty"), 400);
        let (mut value, mut now, mut offset, mut forward) = (Vec::new(), 1_000_000_u64, 0_i64, 0);
        let (mut by_stamp, mut true_time) = (Vec::new(), Vec::new());
        for _ in 0..500 {
            now += rng.u64(0..=1_200 / u64::from(limit.most()));
            if rng.u8(0..40) == 0 && forward < 300 {
                let jump = rng.i64(-100..100);
                (offset, forward) = (offset + jump, forward + jump.max(0) as u64);
            }
            let at = now.saturating_add_signed(offset);
            let runs = vec![Run { cost: 1, count: 1 }];
            let done = apply(&mut value, &limit, &Action::Consume(runs.into()), at).evaluation;
            if done.runs[0].admitted > 0 {
                by_stamp.push((done.stamp_ms, 1));
                true_time.push((now, 1));
            }
        }
        assert!(by_stamp.is_sorted(), "the key's clock never goes back");
        assert!(worst(&by_stamp, 400) <= u64::from(limit.most()));
        assert!(worst(&true_time, 400_u64.saturating_sub(forward).max(1)) <= u64::from(limit.most()));
    }
}

#[test]
fn large_limits_are_kept_and_nothing_is_denied_beyond_the_stated_slack() {
    let (mut denied, mut coarse_sum, mut exact_sum) = (0, 0, 0);
    for seed in 0..(operations() / 500).max(50) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let most = rng.u32(RING_MOST + 1..20_000);
        let limit = limit(most, rng.u64(1..5_000));
        assert!(limit.slack_ms() * 20 < limit.window_ms(), "below 1/20 of the window");
        let (mut value, mut now, mut admitted) = (Vec::new(), 1_000_000, Vec::new());
        let mut exact: Vec<(u64, u64)> = Vec::new();
        for _ in 0..500 {
            now += rng.u64(0..=limit.window_ms() / 30);
            let cost = rng.u32(1..=most / 20);
            let runs = vec![Run { cost, count: 1 }];
            let done = apply(&mut value, &limit, &Action::Consume(runs.into()), now).evaluation;
            assert!(value.len() <= 22 + 21 * 12, "{}", value.len());
            let fits_in = |list: &[(u64, u64)], span: u64| {
                let counting = list.iter().filter(|(at, _)| at + span > now).map(|(_, cost)| *cost);
                counting.sum::<u64>() + u64::from(cost) <= u64::from(most)
            };
            if fits_in(&exact, limit.window_ms()) {
                exact.push((now, u64::from(cost)));
            }
            let fits = |span: u64| fits_in(&admitted, span);
            if done.runs[0].admitted == 1 {
                assert!(fits(limit.window_ms()));
                admitted.push((now, u64::from(cost)));
                continue;
            }
            assert!(!fits(limit.window_ms() + limit.slack_ms()), "denied although it fits the longer window");
            let retry = done.runs[0].retry_ms.expect("possible");
            let admits = |at| {
                apply(&mut value.clone(), &limit, &Action::Peek { cost }, at).evaluation.runs[0].admitted
            };
            assert_eq!((admits(now + retry - 1), admits(now + retry)), (0, 1), "the wait is exact");
            denied += 1;
        }
        assert!(worst(&admitted, limit.window_ms()) <= u64::from(most));
        let sum = |list: &[(u64, u64)]| list.iter().map(|(_, cost)| *cost).sum::<u64>();
        (coarse_sum, exact_sum) = (coarse_sum + sum(&admitted), exact_sum + sum(&exact));
    }
    assert!(denied > 0 && coarse_sum * 20 > exact_sum * 19, "{coarse_sum} of {exact_sum} under overload");
}

#[test]
fn a_limit_that_changes_its_form_keeps_counting() {
    let (small, large) = (limit(10, 1_000), limit(5_000, 1_000));
    let take = |value: &mut Vec<u8>, limit: &Limit, cost, now| {
        let done = apply(value, limit, &Action::Consume(smallvec![Run { cost, count: 1 }]), now).evaluation;
        (done.quota.remaining, done.runs[0].retry_ms)
    };
    let mut value = Vec::new();
    assert_eq!(take(&mut value, &large, 5, 100), (5_000, Some(0)));
    assert_eq!(take(&mut value, &small, 6, 200), (5, Some(949)), "each at the end of its bucket");
    assert_eq!(take(&mut value, &small, 5, 200), (5, Some(0)));
    assert_eq!(take(&mut value, &large, 4_991, 300), (4_990, Some(849)));
    assert_eq!(take(&mut value, &large, 4_990, 300), (4_990, Some(0)));
    assert_eq!(take(&mut value, &small, 10, 1_500), (10, Some(0)));
}

/// Two releases run side by side, and the limit crosses the size between their figures: nobody is locked out.
#[test]
fn forms_may_alternate_for_long() {
    let (small, large) = (limit(1_000, 60_000), limit(2_000, 60_000));
    let (mut value, mut admitted, mut waited) = (Vec::new(), Vec::new(), 0);
    for at in 0..20_000_u64 {
        // 900 a minute, which both allow.
        let now = 1_000_000 + at * 67;
        let one = if at % 2 == 0 { &small } else { &large };
        let done =
            apply(&mut value, one, &Action::Consume(smallvec![Run { cost: 1, count: 1 }]), now).evaluation;
        match done.runs[0].admitted {
            1 => admitted.push((now, 1)),
            _ => waited += 1,
        }
        assert!(value.len() < 8_000, "{}", value.len());
    }
    assert_eq!(waited, 0, "{} admitted", admitted.len());
    // And never more than the larger one while both are overrun.
    let (mut value, mut admitted) = (Vec::new(), Vec::new());
    for at in 0..200_000_u64 {
        let now = 1_000_000 + at;
        let one = if at % 3 == 0 { &small } else { &large };
        let done =
            apply(&mut value, one, &Action::Consume(smallvec![Run { cost: 1, count: 1 }]), now).evaluation;
        if done.runs[0].admitted == 1 {
            admitted.push((now, 1));
        }
    }
    assert!(worst(&admitted, 60_000) <= 2_000);
}

/// Bytes that got damaged, that are of a later release, or of another program.
#[test]
fn damaged_values_deny_for_a_window_and_foreign_ones_are_replaced() {
    for most in [10, 5_000] {
        let limit = limit(most, 1_000);
        let take = |value: &mut Vec<u8>, now| {
            apply(value, &limit, &Action::Consume(smallvec![Run { cost: 1, count: 1 }]), now)
        };
        let mut value = Vec::new();
        take(&mut value, 100);
        value.pop();
        let found = apply(&mut value.clone(), &limit, &Action::Peek { cost: 1 }, 150);
        assert_eq!((found.evaluation.runs[0].retry_ms, found.change), (Some(1_000), Change::Nothing));
        let healed = take(&mut value, 200);
        assert_eq!(healed.evaluation.runs[0].retry_ms, Some(1_000));
        assert_eq!(healed.change, Change::Stored { ttl_ms: 1_000 });
        assert_eq!(take(&mut value, 900).evaluation.runs[0].retry_ms, Some(300), "and not for longer");
        assert_eq!(take(&mut value, 1_200).evaluation.quota.remaining, most);
        let mut foreign = b"{\"json\":true}".to_vec();
        assert_eq!(take(&mut foreign, 100).evaluation.runs[0].admitted, 1);
        assert!(foreign.starts_with(b"bl"));
    }
}

/// Any bytes: no panic, and never more than the limit.
#[test]
fn nonsense_is_survived() {
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..operations() / 10 {
        let limit = limit(*rng.choice(&[0, 3, 40, 2_000]).expect("not empty"), rng.u64(1..5_000));
        let mut value: Vec<u8> =
            rng.choice(&[&b"blr1"[..], b"blc1", b"bl", b""]).expect("not empty").to_vec();
        let high = if rng.bool() { 2 } else { 255 };
        value.extend((0..rng.usize(0..90)).map(|_| rng.u8(0..=high)));
        for _ in 0..3 {
            let action = match rng.u8(0..5) {
                0 => Action::Reward { cost: 2, stamp_ms: None },
                1 => Action::Merge(vec![Aged { age_ms: 1, count: rng.u32(..) }]),
                2 => Action::Block { for_ms: rng.u64(..) },
                _ => Action::Consume(smallvec![Run { cost: rng.u32(0..9), count: rng.u32(..) }]),
            };
            let done = apply(&mut value, &limit, &action, rng.u64(1..1 << 47)).evaluation;
            assert!(done.quota.remaining <= limit.most());
            let sum = done.runs.iter().map(|run| u64::from(run.admitted)).sum::<u64>();
            assert!(sum <= u64::from(limit.most()));
        }
    }
}

#[test]
fn light_users_of_a_large_limit_stay_small() {
    let limit = limit(1_000, 60_000);
    let mut value = Vec::new();
    for n in 0..10_000_u64 {
        apply(&mut value, &limit, &Action::Consume(smallvec![Run { cost: 1, count: 1 }]), 1 + n * 20_000);
        assert!(value.len() <= 18 + 6 * 6, "three count at a time: {}", value.len());
    }
    let start = 1 + 10_000 * 20_000;
    apply(&mut value, &limit, &Action::Consume(smallvec![Run { cost: 1, count: 900 }]), start);
    assert!(value.len() > 5_000);
    for n in 0..10 {
        apply(&mut value, &limit, &Action::Consume(smallvec![Run { cost: 1, count: 1 }]), start + n * 20_000);
    }
    assert!(value.len() < 400, "a burst is forgotten: {}", value.len());
}
