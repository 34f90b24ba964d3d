//! What the index costs, on generated rows of the shape of `ih.agg_app_measures`. Not a test: `cargo test --release -p
//! bcos-cache-core --lib analytics::measure -- --ignored --nocapture`. `BCOS_ROWS` sets how many rows, about.

#![allow(clippy::print_stdout, reason = "its only purpose is to print")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::sync::Arc;
use std::time::Instant;

use super::*;

const PRACTICES: usize = 110;
const PROVIDERS: usize = 8;
const MEASURES: usize = 16;
/// Frequency, days between its dates, and how many there are.
const FREQUENCIES: [(&str, i64, i64); 3] = [("Monthly", 30, 24), ("Weekly", 7, 24), ("Quarterly", 91, 24)];
/// One measure is kept daily.
const DAILY: i64 = 320;

fn schema() -> Schema {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    let fields = vec![
        field("practice", Type::Text),
        field("practice_primary", Type::Text),
        field("practice_uid", Type::Int),
        field("provider_name", Type::Text),
        field("provider_uid", Type::Int),
        field("measure", Type::Text),
        field("measure_type", Type::Text),
        field("frequency", Type::Text),
        field("date_index", Type::Date),
        field("measure_value", Type::Numeric),
    ];
    let roles =
        Roles { measure: Some(5), frequency: Some(7), date: Some(8), practice: Some(2), provider: Some(4) };
    Schema::new(fields, roles).unwrap()
}

#[derive(Clone, Copy)]
struct Row {
    practice: u16,
    provider: u16,
    measure: u8,
    frequency: u8,
    date: i32,
    value: i64,
}

/// Rows in no order; 85 % of the combinations exist.
fn generate(scale: usize) -> Vec<Row> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut rows = Vec::new();
    for (practice, provider) in (0..PRACTICES * scale).flat_map(|at| (0..PROVIDERS).map(move |by| (at, by))) {
        for measure in 0..MEASURES {
            for (frequency, (_, step, count)) in FREQUENCIES.iter().enumerate() {
                if rng.u8(..100) < 85 {
                    for at in 0..*count {
                        let value = match measure % 3 {
                            0 => rng.i64(0..2_000_000),
                            1 => rng.i64(0..400) * 100,
                            _ => rng.i64(0..=10_000),
                        };
                        let date = (8_400 + at * step) as i32;
                        let (practice, provider) = (practice as u16, provider as u16);
                        rows.push(Row {
                            practice,
                            provider,
                            measure: measure as u8,
                            frequency: frequency as u8,
                            date,
                            value,
                        });
                    }
                }
            }
        }
        for at in 0..DAILY {
            let (practice, provider, value) = (practice as u16, provider as u16, rng.i64(0..2_000_000));
            rows.push(Row { practice, provider, measure: 0, frequency: 3, date: (8_400 + at) as i32, value });
        }
    }
    rng.shuffle(&mut rows);
    rows
}

/// Names as an application has them; made before the clock runs.
struct Names {
    practices: Vec<String>,
    primaries: Vec<String>,
    providers: Vec<String>,
    measures: Vec<String>,
}

impl Names {
    fn new(scale: usize) -> Self {
        let practices = 0..PRACTICES * scale;
        Self {
            practices: practices.clone().map(|at| format!("Practice {at:04} of the Greater Area")).collect(),
            primaries: practices.clone().map(|at| format!("Primary {:03}", at / 3)).collect(),
            providers: practices
                .flat_map(|at| (0..PROVIDERS).map(move |by| format!("Dr. {by} Example-{at}")))
                .collect(),
            measures: (0..MEASURES).map(|at| format!("Measure {at:02} Net Collections")).collect(),
        }
    }
}

fn batch(schema: &Schema, names: &Names, rows: &[Row]) -> Batch {
    let mut batch = Batch::new(schema);
    for row in rows {
        let by = usize::from(row.practice) * PROVIDERS + usize::from(row.provider);
        let frequency = FREQUENCIES.get(usize::from(row.frequency)).map_or("Daily", |frequency| frequency.0);
        let fill = |batch: &mut Batch| -> Result<(), Refused> {
            batch.column(0).text(&names.practices[usize::from(row.practice)])?;
            batch.column(1).text(&names.primaries[usize::from(row.practice)])?;
            batch.column(2).integer(i64::from(row.practice) + 100)?;
            batch.column(3).text(&names.providers[by])?;
            batch.column(4).integer(by as i64 + 1_000)?;
            batch.column(5).text(&names.measures[usize::from(row.measure)])?;
            batch.column(6).text(["currency", "count", "percent"][usize::from(row.measure) % 3])?;
            batch.column(7).text(frequency)?;
            batch.column(8).integer(row.date.into())?;
            batch.column(9).decimal(Decimal::new(row.value.into(), 2, 2).unwrap())
        };
        fill(&mut batch).unwrap();
    }
    batch
}

fn build(names: &Names, rows: &[Row], bounds: cut::Bounds, print: bool) -> (Manifest, Vec<Made>) {
    let schema = schema();
    let started = Instant::now();
    let mut collecting_s = 0.0;
    let mut builder = Builder::cutting(schema.clone(), bounds);
    for rows in rows.chunks(65_536) {
        let now = Instant::now();
        let batch = batch(&schema, names, rows);
        collecting_s += now.elapsed().as_secs_f64();
        builder.push(batch).unwrap();
    }
    let pushed_s = started.elapsed().as_secs_f64();
    let waiting = builder.waiting_bytes();
    let mut making = builder.finish();
    let made: Vec<Made> = making.by_ref().flat_map(|frames| frames.unwrap()).collect();
    let manifest = making.manifest().unwrap();
    let all_s = started.elapsed().as_secs_f64();
    if print {
        println!(
            "build {:.2} M rows/s: {:.0} ms = collect {:.0}, pack {:.0}, finish {:.0}; waiting {:.1} B/row",
            rows.len() as f64 / all_s / 1e6,
            all_s * 1e3,
            collecting_s * 1e3,
            (pushed_s - collecting_s) * 1e3,
            (all_s - pushed_s) * 1e3,
            waiting as f64 / rows.len() as f64,
        );
    }
    (manifest, made)
}

/// The median of some runs, in milliseconds.
fn median_ms<T>(mut run: impl FnMut() -> T) -> f64 {
    let mut times: Vec<f64> = (0..21)
        .map(|_| {
            let started = Instant::now();
            let kept = run();
            let ms = started.elapsed().as_secs_f64() * 1e3;
            drop(kept);
            ms
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[10]
}

fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn question(measure: &str, frequency: &str, practices: Option<&[i64]>) -> Question {
    Question {
        measure: Some(measure.to_owned()),
        frequency: Some(frequency.to_owned()),
        visible: testing::visible(practices, None),
        ..Question::nothing()
    }
}

#[test]
#[ignore = "it measures"]
fn what_the_index_costs() {
    let scale = std::env::var("BCOS_ROWS").ok().and_then(|text| text.parse::<f64>().ok()).unwrap_or(1e6);
    let scale = ((scale / 1_142_000.0).round() as usize).max(1);
    let names = Names::new(scale);
    let rows = generate(scale);
    println!("{} rows; {:.0} MB before", rows.len(), peak_mb());
    let (manifest, made) = build(&names, &rows, cut::Bounds::USUAL, true);
    println!("peak {:.0} MB", peak_mb());
    let data: usize = made.iter().map(|made| made.bytes.len()).sum();
    let sealed = manifest.seal();
    println!(
        "{} frames, {:.2} B/row; manifest {} bytes = {:.2} % of the data; {} entries",
        made.len(),
        data as f64 / rows.len() as f64,
        sealed.len(),
        100.0 * sealed.len() as f64 / data as f64,
        manifest.entries()
    );
    let name = Hash::of(&sealed);
    println!(
        "manifest: seal {:.2} ms, open {:.2} ms",
        median_ms(|| manifest.seal()),
        median_ms(|| Manifest::open(&sealed, &name))
    );
    let open = || -> Vec<Arc<Frame>> {
        made.iter()
            .map(|made| Arc::new(Frame::open(&made.bytes, &made.hash, manifest.schema()).unwrap()))
            .collect()
    };
    let ms = median_ms(open);
    println!("open all frames {ms:.1} ms = {:.1} M rows/s", rows.len() as f64 / ms / 1e3);
    let hashed = median_ms(|| made.iter().map(|made| Hash::of(&made.bytes)).collect::<Vec<_>>());
    println!("of which hashing {hashed:.1} ms");
    let frames = open();
    println!(
        "decoded {:.1} B/row",
        frames.iter().map(|frame| frame.size()).sum::<usize>() as f64 / rows.len() as f64
    );
    encodings(&frames, rows.len(), data);
    questions(&manifest, &frames, &names);
    changes(&manifest, &rows, &names, &made);
}

/// What the frames would take if integers were laid out in other ways, all else being equal.
fn encodings(frames: &[Arc<Frame>], rows: usize, ours: usize) {
    type Layout = fn(&[u128], &mut Vec<u8>);
    fn bytes(list: &[u128]) -> usize {
        (128 - list.iter().fold(0, |all, one| all | one).leading_zeros()).div_ceil(8) as usize
    }
    let planes: Layout = |list, out| {
        (0..bytes(list)).for_each(|plane| out.extend(list.iter().map(|one| (one >> (8 * plane)) as u8)));
    };
    let interleaved: Layout = |list, out| {
        let width = bytes(list);
        list.iter().for_each(|one| out.extend_from_slice(&one.to_le_bytes()[..width]));
    };
    let machine: Layout = |list, out| {
        let width = if list.iter().all(|one| *one == 0) { 0 } else { bytes(list).next_power_of_two() };
        list.iter().for_each(|one| out.extend_from_slice(&one.to_le_bytes()[..width]));
    };
    let bits: Layout = |list, out| {
        let width = 128 - list.iter().fold(0, |all, one| all | one).leading_zeros();
        let (mut held, mut count) = (0_u128, 0);
        for one in list {
            (held, count) = (held | one << count, count + width);
            while count >= 8 {
                out.push(held as u8);
                (held, count) = (held >> 8, count - 8);
            }
        }
        out.push(held as u8);
    };
    let deltas: Layout = |list, out| {
        let mut before = 0_i128;
        let steps = list.iter().map(|one| {
            let step = *one as i128 - before;
            before = *one as i128;
            (step << 1 ^ step >> 127) as u128
        });
        let steps: Vec<u128> = steps.collect();
        (0..bytes(&steps)).for_each(|plane| out.extend(steps.iter().map(|one| (one >> (8 * plane)) as u8)));
    };
    for (what, layout) in [
        ("byte planes", planes),
        ("interleaved bytes", interleaved),
        ("machine types", machine),
        ("bits", bits),
        ("planes of deltas", deltas),
    ] {
        let (mut plain, mut packed) = (0, 0);
        for frame in frames {
            let mut raw = Vec::new();
            for column in frame.columns() {
                if let Form::Dictionary(dictionary) = column.form() {
                    dictionary.encode(&mut raw);
                }
                let least = column.integers().least();
                let list: Vec<u128> =
                    (0..column.rows()).map(|row| (column.integers().at(row) - least) as u128).collect();
                layout(&list, &mut raw);
            }
            plain += raw.len();
            packed += lz4_flex::block::compress(&raw).len();
        }
        println!(
            "as {what}: {:.2} B/row, {:.2} with lz4 (frames as they are: {:.2})",
            plain as f64 / rows as f64,
            packed as f64 / rows as f64,
            ours as f64 / rows as f64
        );
    }
}

/// The same question over and over, for a profiler.
#[test]
#[ignore = "it measures"]
fn one_question_for_ever() {
    let names = Names::new(1);
    let (manifest, made) = build(&names, &generate(1), cut::Bounds::USUAL, false);
    let question = question(&names.measures[0], "Daily", None);
    let plan = manifest.plan(&question).unwrap();
    let open = |part: &Part| {
        let made = &made[part.frame];
        Arc::new(Frame::open(&made.bytes, &made.hash, manifest.schema()).unwrap())
    };
    let planned: Vec<Arc<Frame>> = plan.parts.iter().map(open).collect();
    let group_by = [GroupBy::new(manifest.schema(), "date_index", Some(Unit::Month)).unwrap()];
    let metrics = [Metric::new(manifest.schema(), Function::Sum, Some("measure_value"), "sum").unwrap()];
    println!("select {:.3}", median_ms(|| select(&manifest, &question, &plan, &planned)));
    for _ in 0..30 {
        println!(
            "agg {:.3}",
            median_ms(|| aggregate(&manifest, &question, &plan, &planned, &group_by, &metrics))
        );
    }
}

fn questions(manifest: &Manifest, frames: &[Arc<Frame>], names: &Names) {
    let one = [105];
    let hundred: Vec<i64> = (100..200).collect();
    for (what, frequency, practices) in [
        ("one practice", "Monthly", Some(&one[..])),
        ("100 practices", "Monthly", Some(&hundred)),
        ("one practice of the daily measure", "Daily", Some(&one)),
        ("all of the daily measure", "Daily", None),
    ] {
        let question = question(&names.measures[0], frequency, practices);
        let planning = median_ms(|| manifest.plan(&question));
        let plan = manifest.plan(&question).unwrap();
        let planned: Vec<Arc<Frame>> =
            plan.parts.iter().map(|part| Arc::clone(&frames[part.frame])).collect();
        let ms = median_ms(|| rows(manifest, &question, &plan, &planned, None));
        let three = median_ms(|| rows(manifest, &question, &plan, &planned, Some(&[2, 8, 9])));
        let group_by = [GroupBy::new(manifest.schema(), "date_index", Some(Unit::Month)).unwrap()];
        let metrics = [Metric::new(manifest.schema(), Function::Sum, Some("measure_value"), "sum").unwrap()];
        let summed = median_ms(|| aggregate(manifest, &question, &plan, &planned, &group_by, &metrics));
        println!(
            "{what}: {} rows of {} frames: plan {planning:.3} ms, rows {ms:.3} ms, three columns {three:.3} ms, sum by month {summed:.3} ms",
            plan.rows(),
            plan.parts.len()
        );
    }
}

fn changes(before: &Manifest, rows: &[Row], names: &Names, made: &[Made]) {
    let known: std::collections::HashSet<Hash> = made.iter().map(|made| made.hash).collect();
    let mut practice = rows.to_vec();
    practice.iter_mut().filter(|row| row.practice == 50).for_each(|row| row.value += 1);
    let mut grown = rows.to_vec();
    grown.extend(rows.iter().filter(|row| row.practice == 50).map(|row| Row { date: row.date + 1, ..*row }));
    let mut measure = rows.to_vec();
    measure.iter_mut().filter(|row| row.measure == 4 && row.frequency == 1).for_each(|row| row.value += 1);
    for (what, rows) in [
        ("one practice changed", practice),
        ("one practice doubled", grown),
        ("one measure changed", measure),
    ] {
        let (manifest, made) = build(names, &rows, cut::Bounds::USUAL, false);
        let new = made.iter().filter(|made| !known.contains(&made.hash)).count();
        println!(
            "{what}: {new} of {} frames are new ({:.1} %)",
            made.len(),
            100.0 * new as f64 / made.len() as f64
        );
        assert!(manifest.rows() >= before.rows());
    }
    for (enough, most) in [(128, 4_096), (256, 4_096), (1_024, 4_096), (2_048, 8_192), (4_096, 16_384)] {
        let (manifest, made) = build(names, rows, cut::Bounds { enough, most }, false);
        let data: usize = made.iter().map(|made| made.bytes.len()).sum();
        let index = 100.0 * manifest.seal().len() as f64 / data as f64;
        println!(
            "frames from {enough} rows: {} frames, {:.2} B/row, manifest {index:.2} %",
            made.len(),
            data as f64 / rows.len() as f64
        );
    }
}
