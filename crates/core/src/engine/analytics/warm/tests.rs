//! Warms over a simulated store: what becomes of them, and what a reader sees meanwhile. Every table has one value in all of its
//! rows, so that a mixture of two generations, or a part of one, would show.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::base::error::{Code, Error};
use crate::base::key::Namespace;
use crate::base::limits;
use crate::store::Op;
use crate::store::sim::Fault;

use super::super::super::Core;
use super::super::Past;
use super::job::{Stage, Turn};
use super::origin::Origin;
use super::testing::*;
use super::{Running, lock::Taken, lock::Work};

const MB: usize = 1 << 20;

async fn ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// A world in which a table of ones is served.
async fn warmed() -> (World, Arc<Core>, Arc<Rows>) {
    let world = World::new(64 * MB);
    let core = world.engine().await;
    let rows = Rows::new(table(1));
    warm(&core, &rows, true).await.expect("a warm");
    (world, core, rows)
}

async fn at(core: &Core, job: u64, stage: Stage) {
    let job = core.analytics.warms.find(job).expect("a job");
    while job.progress().stage < stage {
        ms(5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_is_warmed_and_read() {
    let world = World::new(64 * MB);
    let core = world.engine().await;
    assert_eq!(read(&core).await, Err(Past::Cold));
    let done = warm(&core, &Rows::new(table(3)), false).await.expect("a warm");
    assert_eq!((&done["totalRows"], &done["entriesCached"]), (&json!(9_600), &json!(48)));
    assert!(
        done["framesWritten"].as_u64() > Some(4)
            && done["framesReused"] == 0
            && done["bytesWritten"].as_u64() > Some(100)
    );
    assert!(
        done["generation"].as_u64() > Some(0) && done["held"].is_null() && done["skipped"].is_null(),
        "{done}"
    );
    assert_eq!(read(&core).await, Ok(vec![3; 9_600]));
    assert_eq!(read(&world.engine().await).await, Ok(vec![3; 9_600]), "another process");
    let (frames, manifests) = world.blocks().await;
    assert_eq!((frames.len() as u64, manifests.len()), (done["framesWritten"].as_u64().unwrap(), 1));
}

#[tokio::test(start_paused = true)]
async fn only_frames_that_changed_are_written() {
    let (world, core, rows) = warmed().await;
    let all = world.blocks().await.0.len() as u64;
    let same = warm(&core, &rows, true).await.expect("a warm");
    assert_eq!(
        (&same["framesWritten"], &same["framesReused"], &same["bytesWritten"]),
        (&json!(0), &json!(all), &json!(0))
    );
    let mut changed = table(1);
    changed.iter_mut().filter(|row| row.0 == "visits" && row.1 == 11).for_each(|row| row.3 = 2);
    rows.set(changed);
    let some = warm(&core, &rows, true).await.expect("a warm");
    assert!(some["framesWritten"].as_u64().unwrap() <= 2, "{some}");
    assert_eq!(some["framesWritten"].as_u64().unwrap() + some["framesReused"].as_u64().unwrap(), all);
    assert_eq!(read(&core).await.map(|values| values.iter().filter(|value| **value == 2).count()), Ok(200));
    // What had not changed is still what there is to go back to.
    told(core.roll_back_analytics(SOURCE).await);
    assert_eq!(read(&core).await, Ok(vec![1; 9_600]));
}

#[tokio::test(start_paused = true)]
async fn a_second_caller_is_told_who_is_at_it() {
    let (world, core, rows) = warmed().await;
    rows.open.send_replace(false);
    let first = begin(&core, &rows, true);
    at(&core, first, Stage::Exporting).await;
    for (other, here) in [(core.clone(), true), (world.engine().await, false)] {
        let skipped = warm(&other, &rows, true).await.expect("no error");
        assert_eq!(
            (&skipped["skipped"], &skipped["reason"], &skipped["totalRows"]),
            (&json!(true), &json!("running"), &json!(9_600))
        );
        let instance = format!("{:016x}", core.cache.instance());
        assert_eq!(skipped["holder"]["instance"], json!(instance), "here: {here}");
        assert!(skipped["holder"]["since"].as_str().is_some_and(|since| since.starts_with("2023-11-14T")));
    }
    rows.open.send_replace(true);
    assert!(end(&core, first).await.expect("a warm")["skipped"].is_null());
    assert_eq!(rows.exports.load(Ordering::SeqCst), 2);
    // Just done: nothing to do for a minute, unless it is forced.
    let other = world.engine().await;
    let rested = warm(&other, &rows, false).await.expect("no error");
    assert_eq!(
        (&rested["skipped"], &rested["reason"], &rested["holder"]),
        (&json!(true), &json!("recent"), &json!(null))
    );
    assert!(warm(&other, &rows, true).await.expect("a warm")["skipped"].is_null());
    ms(limits::ANALYTICS_REST_MS + 100).await;
    assert!(warm(&other, &rows, false).await.expect("a warm")["skipped"].is_null());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_warm_leaves_nothing() {
    let (world, core, rows) = warmed().await;
    let before = world.blocks().await;
    rows.set(table(2));
    for by_environment in [false, true] {
        rows.open.send_replace(false);
        let job = begin(&core, &rows, true);
        at(&core, job, Stage::Exporting).await;
        match by_environment {
            true => core.stop_analytics_warms_of(1),
            false => core.stop_analytics_warm(job),
        }
        let error = end(&core, job).await.unwrap_err();
        assert_eq!((error.code, error.reason), (Code::Conflict, Some("cancelled")));
        rows.open.send_replace(true);
        assert_eq!(world.blocks().await, before);
        assert_eq!(read(&core).await, Ok(vec![1; 9_600]));
    }
    assert!(warm(&core, &rows, true).await.is_ok(), "nobody holds it any more");
}

/// Runs a warm whose `n`th call to the store meets `fault`, until it has ended or meets it; whether it met it.
async fn run_into(
    core: &Arc<Core>,
    rows: &Arc<Rows>,
    n: usize,
    fault: Fault,
) -> (bool, tokio::task::JoinHandle<()>, u64) {
    sim(core).script((0..n).map(|_| Fault::Pass).chain([fault]));
    let Turn::Mine(job) = core.analytics.warms.turn(order(true), 0) else { panic!("another one runs") };
    let number = job.number;
    let task =
        tokio::spawn(core.clone().run_warm(Running(core.clone(), job.clone()), Origin::Rows(rows.clone())));
    while !task.is_finished() && sim(core).left() > 0 {
        ms(1).await;
    }
    (sim(core).left() == 0, task, number)
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_leaves_the_old_or_the_new_generation() {
    for fault in [Fault::Hang, Fault::Delay(3_600_000)] {
        let (mut n, mut olds, mut news) = (0, 0, 0);
        loop {
            let (world, _, rows) = warmed().await;
            rows.set(table(2));
            let crashing = world.engine().await;
            let (met, task, _) = run_into(&crashing, &rows, n, fault.clone()).await;
            if !met {
                break;
            }
            task.abort();
            let _ = task.await;
            let other = world.engine().await;
            match read(&other).await.expect("a generation").as_slice() {
                values if values == vec![1; 9_600] => olds += 1,
                values if values == vec![2; 9_600] => news += 1,
                values => panic!("{fault:?} at {n}: {} values", values.len()),
            }
            // Whoever comes next waits for no longer than the lease, and everything is collected in the end.
            ms(limits::ANALYTICS_LOCK_MS + 100).await;
            rows.set(table(3));
            assert!(
                warm(&other, &rows, true).await.expect("a warm")["skipped"].is_null(),
                "{fault:?} at {n}"
            );
            assert_eq!(read(&other).await, Ok(vec![3; 9_600]));
            ms(2 * limits::ANALYTICS_GRACE_MS).await;
            assert_only_what_is_named(&world, &other).await;
            n += 1;
        }
        assert!(olds > 5 && news > 0, "{fault:?}: {olds} with the old generation, {news} with the new one");
    }
}

async fn assert_only_what_is_named(world: &World, core: &Core) {
    let live = core.look_live(SOURCE).await.expect("it is up").live.expect("a pointer");
    let mut expected: Vec<String> = live.manifests().map(|name| name.to_string()).collect();
    expected.sort();
    expected.dedup();
    let (frames, mut manifests) = world.blocks().await;
    manifests.sort();
    assert_eq!(manifests, expected);
    let named = [&live.current, &live.previous].into_iter().flatten().map(|one| one.frames).sum::<u64>();
    assert_eq!(frames.len() as u64, named, "no frame is shared by these tables");
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_or_reply_anywhere_is_an_error_or_no_matter() {
    for fault in [Fault::LoseRequest, Fault::LoseReply] {
        let (mut n, mut failed) = (0, 0);
        loop {
            let (world, _, rows) = warmed().await;
            rows.set(table(2));
            let core = world.engine().await;
            let (met, task, job) = run_into(&core, &rows, n, fault.clone()).await;
            task.await.expect("it ends");
            if !met {
                break;
            }
            let ended = end(&core, job).await;
            let values = read(&world.engine().await).await.expect("a generation");
            match ended {
                Ok(done) => assert_eq!(
                    (done["generation"].is_u64(), values),
                    (true, vec![2; 9_600]),
                    "{fault:?} at {n}"
                ),
                Err(error) => {
                    assert_eq!(error.code, Code::StoreUnavailable, "{fault:?} at {n}");
                    assert!(values == vec![1; 9_600] || values == vec![2; 9_600], "{fault:?} at {n}");
                    failed += 1;
                }
            }
            n += 1;
        }
        assert!(
            n > 8 && failed == 0,
            "{fault:?}: {failed} of {n} failed although the store came back at once"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_was_asleep_past_its_lease_publishes_nothing() {
    let (world, asleep, rows) = warmed().await;
    let slow = Rows::new(table(5));
    slow.open.send_replace(false);
    let job = begin(&asleep, &slow, true);
    at(&asleep, job, Stage::Exporting).await;
    // Its next renewal never arrives, and it never hears of it.
    sim(&asleep).script([Fault::Hang]);
    ms(2 * limits::ANALYTICS_LOCK_MS).await;
    let other = world.engine().await;
    rows.set(table(6));
    let done = warm(&other, &rows, true).await.expect("the lease is free");
    slow.open.send_replace(true);
    let error = end(&asleep, job).await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Conflict, Some("superseded")));
    assert_eq!(read(&other).await, Ok(vec![6; 9_600]));
    let live = other.look_live(SOURCE).await.expect("it is up").live.expect("a pointer");
    assert_eq!(live.number, done["generation"].as_u64().unwrap());
    ms(3 * limits::ANALYTICS_GRACE_MS).await;
    assert_only_what_is_named(&world, &other).await;
}

#[tokio::test(start_paused = true)]
async fn a_warm_that_lost_its_lease_notices() {
    let (world, core, rows) = warmed().await;
    rows.open.send_replace(false);
    let job = begin(&core, &rows, true);
    at(&core, job, Stage::Exporting).await;
    let lock = core.cache.keys.of_source(Namespace::AnalyticsLock, SOURCE, "warm");
    assert!(world.get(&lock).is_some());
    world.store.apply(&Op::Delete(lock));
    let error = end(&core, job).await.unwrap_err();
    assert_eq!(error.reason, Some("superseded"));
}

#[tokio::test(start_paused = true)]
async fn what_is_evicted_before_it_is_published_is_written_again() {
    let (mut n, mut repaired) = (0, 0);
    loop {
        let (world, _, rows) = warmed().await;
        let old = world.blocks().await.0;
        rows.set(table(2));
        let core = world.engine().await;
        let (met, task, job) = run_into(&core, &rows, n, Fault::Delay(200)).await;
        if !met {
            break;
        }
        ms(2).await;
        let new: Vec<String> =
            world.blocks().await.0.into_iter().filter(|name| !old.contains(name)).collect();
        let published = read(&world.engine().await).await == Ok(vec![2; 9_600]);
        let evicted = new.first().cloned();
        if let Some(name) = &evicted {
            world.store.apply(&Op::Delete(core.cache.keys.block(Namespace::AnalyticsFrame, SOURCE, name)));
        }
        task.await.expect("it ends");
        let written = end(&core, job).await.expect("a warm")["framesWritten"].as_u64().unwrap();
        match read(&world.engine().await).await {
            Ok(values) => {
                assert_eq!(values, vec![2; 9_600], "at {n}");
                repaired += u64::from(evicted.is_some() && written == old.len() as u64 + 1);
            }
            // After the last look: whoever reads goes to the source.
            Err(past) => {
                assert!(past == Past::Hole && evicted.is_some(), "at {n}, published {published}: {past:?}")
            }
        }
        n += 1;
    }
    assert!(n > 8 && repaired > 0, "{repaired} repaired in {n}");
}

#[tokio::test(start_paused = true)]
async fn what_was_spoilt_meanwhile_is_made_good() {
    let (world, core, rows) = warmed().await;
    let (frames, manifests) = world.blocks().await;
    let key = |namespace, name: &str| core.cache.keys.block(namespace, SOURCE, name);
    let frame = key(Namespace::AnalyticsFrame, &frames[3]);
    let manifest = key(Namespace::AnalyticsIndex, &manifests[0]);
    for spoilt in [&frame, &manifest] {
        let whole = world.get(spoilt).expect("it is there");
        let mut bytes = whole.to_vec();
        bytes[20] ^= 1;
        world.store.apply(&Op::Put { key: spoilt.clone(), value: bytes.into(), ttl_ms: 3_600_000 });
        assert_eq!(read(&world.engine().await).await, Err(Past::Hole));
        warm(&core, &rows, true).await.expect("a warm");
        assert_eq!(world.get(spoilt), Some(whole));
        assert_eq!(read(&world.engine().await).await, Ok(vec![1; 9_600]));
    }
}

#[tokio::test(start_paused = true)]
async fn invalidating_stops_a_warm_here_and_leaves_nothing() {
    let (world, core, rows) = warmed().await;
    let (frames, _) = world.blocks().await;
    rows.open.send_replace(false);
    let job = begin(&core, &rows, true);
    at(&core, job, Stage::Exporting).await;
    let done = told(core.invalidate_analytics(SOURCE).await);
    // The warm that was stopped has cleared away already, unless the invalidation was faster.
    assert_eq!((&done["acknowledged"], &done["queued"]), (&json!(true), &json!(false)));
    let error = end(&core, job).await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Conflict, Some("superseded")));
    assert_eq!(read(&core).await, Err(Past::Cold));
    assert!(world.store.is_empty(), "{frames:?}");
    rows.open.send_replace(true);
    assert!(
        warm(&core, &rows, false).await.expect("a warm")["skipped"].is_null(),
        "no rest after an invalidation"
    );
}

#[tokio::test(start_paused = true)]
async fn invalidating_says_what_went() {
    let (world, core, _) = warmed().await;
    let (frames, manifests) = world.blocks().await;
    let live = core.look_live(SOURCE).await.expect("it is up").live.expect("a pointer");
    let current = live.current.clone().expect("a generation");
    let done = told(core.invalidate_analytics(SOURCE).await);
    assert_eq!(
        (&done["keysDeleted"], &done["indexesDeleted"]),
        (&json!(frames.len()), &json!(manifests.len()))
    );
    let megabytes = (current.data_bytes + current.index_bytes) as f64 / MB as f64;
    assert_eq!(done["memoryFreedMB"], json!((megabytes * 100.0).round() / 100.0));
    assert!(world.store.is_empty());
    let again = told(core.invalidate_analytics(SOURCE).await);
    assert_eq!((&again["acknowledged"], &again["keysDeleted"]), (&json!(true), &json!(0)));
}

#[tokio::test(start_paused = true)]
async fn invalidating_elsewhere_stops_a_warm_from_publishing() {
    let (world, core, rows) = warmed().await;
    rows.open.send_replace(false);
    let job = begin(&core, &rows, true);
    at(&core, job, Stage::Exporting).await;
    let other = world.engine().await;
    let done = told(other.invalidate_analytics(SOURCE).await);
    assert_eq!(
        (&done["acknowledged"], &done["keysDeleted"]),
        (&json!(true), &json!(0)),
        "its warm clears away"
    );
    assert_eq!(read(&other).await, Err(Past::Cold));
    rows.open.send_replace(true);
    let error = end(&core, job).await.unwrap_err();
    assert_eq!(error.reason, Some("superseded"));
    assert_eq!(read(&core).await, Err(Past::Cold));
    let (frames, manifests) = world.blocks().await;
    assert!(frames.is_empty() && manifests.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_without_a_store_waits_for_it() {
    let (world, core, rows) = warmed().await;
    sim(&core).set_down(true);
    let done = told(core.invalidate_analytics(SOURCE).await);
    assert_eq!(
        (&done["acknowledged"], &done["queued"], &done["keysDeleted"]),
        (&json!(false), &json!(true), &json!(0))
    );
    assert_eq!(read(&core).await, Err(Past::StoreDown), "not the old generation");
    sim(&core).set_down(false);
    ms(5_000).await;
    assert_eq!(read(&core).await, Err(Past::Cold));
    assert!(warm(&core, &rows, true).await.is_ok());
    assert_eq!(read(&world.engine().await).await, Ok(vec![1; 9_600]));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_plausible_waits_for_approval() {
    let (world, core, rows) = warmed().await;
    let fewer: Vec<Row> = table(2).into_iter().filter(|row| row.0 != "visits").collect();
    rows.set(fewer.clone());
    for force in [true, true] {
        let held = warm(&core, &rows, force).await.expect("a warm");
        let because = held["held"].as_array().expect("reasons");
        assert_eq!(because.len(), 2, "{held}");
        assert!(because[0].as_str().unwrap().starts_with("4800 rows, it had 9600"));
        assert_eq!(held["generation"], json!(core.look_live(SOURCE).await.unwrap().live.unwrap().number));
    }
    assert_eq!(read(&core).await, Ok(vec![1; 9_600]), "the old generation goes on");
    // Long after, what waits is still there.
    ms(3 * limits::ANALYTICS_GRACE_MS).await;
    let approved = told(core.approve_analytics(SOURCE).await);
    assert_eq!((&approved["totalRows"], &approved["entriesCached"]), (&json!(4_800), &json!(24)));
    assert_eq!(read(&world.engine().await).await, Ok(vec![2; 4_800]));
    assert_eq!(core.approve_analytics(SOURCE).await.unwrap_err().code, Code::NotFound);
    let back = told(core.roll_back_analytics(SOURCE).await);
    assert!(back["generation"].as_u64() > approved["generation"].as_u64() && back["totalRows"] == 9_600);
    assert_eq!(read(&world.engine().await).await, Ok(vec![1; 9_600]));
}

#[tokio::test(start_paused = true)]
async fn an_emptied_table_waits_and_is_discarded() {
    let (world, core, rows) = warmed().await;
    rows.set(Vec::new());
    let held = warm(&core, &rows, true).await.expect("a warm");
    assert_eq!(held["held"], json!(["the table is empty, it had 9600 rows"]));
    assert_eq!(told(core.discard_analytics(SOURCE).await), json!({ "discarded": true, "totalRows": 0 }));
    assert_eq!(core.discard_analytics(SOURCE).await.unwrap_err().code, Code::NotFound);
    assert_eq!(read(&core).await, Ok(vec![1; 9_600]));
    ms(3 * limits::ANALYTICS_GRACE_MS).await;
    assert_only_what_is_named(&world, &core).await;
    // Where there was nothing before, nothing is plausible.
    told(core.invalidate_analytics(SOURCE).await);
    let empty = warm(&core, &rows, true).await.expect("a warm");
    assert!(empty["held"].is_null() && empty["totalRows"] == 0);
    assert_eq!(read(&core).await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_what_sql_says_is_an_error_however_it_is_forced() {
    let (world, core, rows) = warmed().await;
    let before = world.blocks().await;
    rows.set(table(2));
    *rows.lie.lock() = Some(|said| said.groups[0].rows += 1);
    let error = warm(&core, &rows, true).await.unwrap_err();
    assert_eq!(error.code, Code::Internal);
    *rows.lie.lock() = Some(|said| said.groups[1].sums[1].1 = crate::analytics::Decimal::parse("96.01"));
    let error = warm(&core, &rows, true).await.unwrap_err();
    assert!(error.message.ends_with("sum(measure_value) is 96.01 by SQL, 96 was indexed"), "{error}");
    *rows.lie.lock() = None;
    *rows.fails.lock() = Some(Error::new(Code::SourceUnavailable, "gone"));
    assert_eq!(warm(&core, &rows, true).await.unwrap_err().code, Code::SourceUnavailable);
    assert_eq!(world.blocks().await, before);
    assert_eq!(read(&core).await, Ok(vec![1; 9_600]));
    assert_eq!(core.roll_back_analytics(SOURCE).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_where_there_is_no_room() {
    let world = World::new(200 * 1024);
    let core = world.engine().await;
    let values = (0..160_000).map(|at: i64| ("charges", at % 40, at / 40, at * 7_919 % 1_000_003));
    let error = warm(&core, &Rows::new(values.collect()), true).await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Overloaded, Some("store_memory")));
    assert!(error.message.contains("are lacking"), "{error}");
    let (frames, manifests) = world.blocks().await;
    assert!(frames.is_empty() && manifests.is_empty() && world.store.evicted() == 0);
    assert_eq!(read(&core).await, Err(Past::Cold));
    assert!(warm(&core, &Rows::new(table(1)), true).await.is_ok(), "a small one fits");
}

#[tokio::test(start_paused = true)]
async fn a_pointer_does_not_end_while_its_successor_is_made() {
    let world = World::with(64 * MB, json!({ "cacheTtl": 60 }));
    let core = world.engine().await;
    let rows = Rows::new(table(1));
    warm(&core, &rows, true).await.expect("a warm");
    rows.set(table(2));
    rows.open.send_replace(false);
    let job = begin(&core, &rows, true);
    ms(300_000).await;
    assert_eq!(read(&core).await, Ok(vec![1; 9_600]), "five times as long as it was published for");
    rows.open.send_replace(true);
    end(&core, job).await.expect("a warm");
    assert_eq!(read(&core).await, Ok(vec![2; 9_600]));
    ms(70_000).await;
    assert_eq!(read(&core).await, Err(Past::Cold), "and then it ends");
}

#[tokio::test(start_paused = true)]
async fn the_way_back_lives_as_long_as_the_pointer() {
    let world = World::with(64 * MB, json!({ "cacheTtl": 4 * 3_600 }));
    let (core, rows) = (world.engine().await, Rows::new(table(1)));
    warm(&core, &rows, true).await.expect("a warm");
    let hours = |hours: u64| world.clock.advance_ms(hours * 3_600_000);
    hours(3);
    rows.set(table(2));
    warm(&core, &rows, true).await.expect("a warm");
    // What was written for the first generation would have ended after the four hours of its pointer and one more.
    hours(3);
    told(core.roll_back_analytics(SOURCE).await);
    hours(3);
    assert_eq!(read(&world.engine().await).await, Ok(vec![1; 9_600]));
    told(core.roll_back_analytics(SOURCE).await);
    assert_eq!(read(&world.engine().await).await, Ok(vec![2; 9_600]));
}

/// Whoever was asleep wrote frames that the next one, who warmed the same rows, found there and counted on.
#[tokio::test(start_paused = true)]
async fn whoever_wakes_up_takes_nothing_away_from_others() {
    let (mut n, mut woken) = (0, 0);
    loop {
        let (world, _, rows) = warmed().await;
        rows.set(table(2));
        let asleep = world.engine().await;
        let (met, task, job) = run_into(&asleep, &rows, n, Fault::Delay(60_000)).await;
        if !met {
            break;
        }
        // Nor does it renew its lease.
        sim(&asleep).script([Fault::Hang]);
        ms(2 * limits::ANALYTICS_LOCK_MS).await;
        let other = world.engine().await;
        assert!(warm(&other, &rows, true).await.expect("a warm")["skipped"].is_null(), "at {n}");
        ms(60_000).await;
        if task.is_finished() {
            woken += u64::from(end(&asleep, job).await.is_err());
        }
        task.abort();
        assert_eq!(read(&world.engine().await).await, Ok(vec![2; 9_600]), "at {n}");
        n += 1;
    }
    assert!(n > 8 && woken > 3, "{woken} of {n} woke up and were told");
}

/// A frame of what is served was evicted, and a warm wrote it again before it was stopped.
#[tokio::test(start_paused = true)]
async fn a_warm_that_fails_takes_nothing_away_that_is_named() {
    let (world, _, rows) = warmed().await;
    let (frames, _) = world.blocks().await;
    let core = world.engine().await;
    world.store.apply(&Op::Delete(core.cache.keys.block(Namespace::AnalyticsFrame, SOURCE, &frames[0])));
    let mut n = 0;
    loop {
        let (met, task, job) = run_into(&core, &rows, n, Fault::Delay(100)).await;
        assert!(met, "the frame was never written");
        let there = world.blocks().await.0.len() == frames.len();
        core.stop_analytics_warm(job);
        task.await.expect("it ends");
        if there {
            break;
        }
        n += 1;
    }
    assert_eq!(read(&world.engine().await).await, Ok(vec![1; 9_600]));
}

#[tokio::test(start_paused = true)]
async fn an_operator_may_step_in_while_a_warm_runs() {
    let (world, core, rows) = warmed().await;
    rows.set(table(2));
    warm(&core, &rows, true).await.expect("a warm");
    rows.set(table(3));
    rows.open.send_replace(false);
    let job = begin(&core, &rows, true);
    at(&core, job, Stage::Exporting).await;
    told(world.engine().await.roll_back_analytics(SOURCE).await);
    assert_eq!(read(&core).await, Ok(vec![1; 9_600]));
    rows.open.send_replace(true);
    end(&core, job).await.expect("a warm");
    assert_eq!(read(&core).await, Ok(vec![3; 9_600]));
    told(core.roll_back_analytics(SOURCE).await);
    assert_eq!(read(&core).await, Ok(vec![1; 9_600]), "what was served before");
}

#[tokio::test(start_paused = true)]
async fn a_way_back_that_is_not_whole_is_none() {
    let (world, core, rows) = warmed().await;
    let old = world.blocks().await.0;
    rows.set(table(2));
    warm(&core, &rows, true).await.expect("a warm");
    let key = core.cache.keys.block(Namespace::AnalyticsFrame, SOURCE, &old[0]);
    world.store.apply(&Op::Delete(key));
    let error = core.roll_back_analytics(SOURCE).await.unwrap_err();
    assert_eq!((error.code, error.reason), (Code::Conflict, Some("incomplete")));
    assert_eq!(read(&core).await, Ok(vec![2; 9_600]));
}

#[tokio::test(start_paused = true)]
async fn readers_never_see_a_mixture_or_step_back() {
    let (world, core, rows) = warmed().await;
    let mut readers = Vec::new();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for _ in 0..4 {
        let (reader, done) = (world.engine().await, done.clone());
        readers.push(tokio::spawn(async move {
            let (mut last, mut seen) = (0, 0);
            while !done.load(Ordering::SeqCst) {
                let values = read(&reader).await.expect("a generation");
                assert!(values.len() == 9_600 && values.iter().all(|value| *value == values[0]));
                assert!(values[0] >= last, "{} after {last}", values[0]);
                (last, seen) = (values[0], seen + 1);
                tokio::task::yield_now().await;
            }
            seen
        }));
    }
    for value in 2..40 {
        rows.set(table(value));
        warm(&core, &rows, true).await.expect("a warm");
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.expect("no panic") > 20);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_nobody_is_no_lease() {
    let (world, core, rows) = warmed().await;
    let key = core.cache.keys.of_source(Namespace::AnalyticsLock, SOURCE, "warm");
    world.store.apply(&Op::Put { key, value: "by hand".into(), ttl_ms: 3_600_000 });
    assert!(warm(&core, &rows, true).await.expect("a warm")["skipped"].is_null());
    let Ok(Taken::Mine(_)) = core.take_lock(SOURCE, Work::Warm, false).await else { panic!("it is free") };
    let Ok(Taken::Held(_)) = core.take_lock(SOURCE, Work::Warm, false).await else { panic!("it is taken") };
}

#[tokio::test(start_paused = true)]
async fn news_are_told_as_they_come() {
    let (_, core, rows) = warmed().await;
    rows.open.send_replace(false);
    let job = begin(&core, &rows, true);
    at(&core, job, Stage::Exporting).await;
    let news = told(core.analytics_warm_news(job, 0).await);
    assert_eq!((&news["stage"], &news["ended"]), (&json!("exporting"), &json!(false)));
    rows.open.send_replace(true);
    let mut seen = news["version"].as_u64().unwrap();
    let mut percent = 0.0;
    loop {
        let news = told(core.analytics_warm_news(job, seen).await);
        assert!(news["percent"].as_f64().unwrap() >= percent);
        (seen, percent) = (news["version"].as_u64().unwrap(), news["percent"].as_f64().unwrap());
        if news["ended"] == true {
            assert_eq!(
                (&news["result"]["totalRows"], &news["rows"], &news["totalRows"]),
                (&json!(9_600), &json!(9_600), &json!(9_600))
            );
            assert_eq!(percent, 100.0);
            break;
        }
    }
    assert_eq!(core.analytics_warm_news(9_999, 0).await.unwrap_err().code, Code::NotFound);
}
