//! A source of rows that a test holds in its hand, and engines over one store. For tests only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::analytics::gates::{Figures, Said};
use crate::analytics::{Batch, Decimal, Field, Question, Roles, Schema, Type, Visible, rows};
use crate::base::clock::Clock;
use crate::base::error::{Code, Error};
use crate::config;
use crate::rbac::scope::Scopes;
use crate::source::analytics::Progress;
use crate::store::embedded::Embedded;
use crate::store::sim::Sim;
use crate::store::{Op, Reply, Store, Walk};

use super::super::super::{Core, Outcome};
use super::super::Past;
use super::job::AnalyticsWarmOrder;
use super::origin::{Exported, Origin};

/// Measure, practice, day, value.
pub(super) type Row = (&'static str, i64, i64, i64);
pub(super) const SOURCE: i64 = 7;

/// The rows of a data source.
pub(super) struct Rows {
    pub(super) schema: Schema,
    pub(super) rows: Mutex<Vec<Row>>,
    /// What SQL says instead of the truth.
    pub(super) lie: Mutex<Option<fn(&mut Said)>>,
    pub(super) fails: Mutex<Option<Error>>,
    /// Exports go on while this is true.
    pub(super) open: watch::Sender<bool>,
    pub(super) exports: std::sync::atomic::AtomicUsize,
}

impl Rows {
    pub(super) fn new(rows: Vec<Row>) -> Arc<Self> {
        let field = |name: &str, kind| Field { name: name.to_owned(), kind };
        let fields = vec![
            field("measure", Type::Text),
            field("practice_uid", Type::Int),
            field("date_index", Type::Date),
            field("measure_value", Type::Numeric),
        ];
        let roles =
            Roles { measure: Some(0), frequency: None, date: Some(2), practice: Some(1), provider: None };
        Arc::new(Self {
            schema: Schema::new(fields, roles).unwrap(),
            rows: Mutex::new(rows),
            lie: Mutex::default(),
            fails: Mutex::default(),
            open: watch::Sender::new(true),
            exports: Default::default(),
        })
    }

    pub(super) fn set(&self, rows: Vec<Row>) {
        *self.rows.lock() = rows;
    }

    pub(super) async fn export(
        &self,
        progress: Arc<Progress>,
        _: watch::Receiver<bool>,
        take: mpsc::Sender<Batch>,
    ) -> Result<Exported, Error> {
        let rows = self.rows.lock().clone();
        self.exports.fetch_add(1, Ordering::SeqCst);
        progress.estimated_rows.store(rows.len() as u64, Ordering::SeqCst);
        for chunk in rows.chunks(1_000) {
            let _ = self.open.subscribe().wait_for(|open| *open).await;
            if take.send(self.batch(chunk)).await.is_err() {
                return Err(Error::new(Code::Closed, "the export was stopped"));
            }
            progress.rows.fetch_add(chunk.len() as u64, Ordering::SeqCst);
        }
        if let Some(error) = self.fails.lock().clone() {
            return Err(error);
        }
        let mut said = said(&rows);
        if let Some(lie) = *self.lie.lock() {
            lie(&mut said);
        }
        Ok(Exported { said, snapshot: "1:1:".to_owned() })
    }

    fn batch(&self, rows: &[Row]) -> Batch {
        let mut batch = Batch::new(&self.schema);
        for (measure, practice, day, value) in rows {
            batch.column(0).text(measure).unwrap();
            batch.column(1).integer(*practice).unwrap();
            batch.column(2).integer(*day).unwrap();
            batch.column(3).decimal(Decimal::new(i128::from(*value), 2, 2).unwrap()).unwrap();
        }
        batch
    }
}

fn said(rows: &[Row]) -> Said {
    let mut measures: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| measures.entry(row.0).or_default().push(row));
    let groups = measures.into_iter().map(|(measure, rows)| {
        let days = rows.iter().map(|row| row.2);
        let sum = |of: fn(&Row) -> i64| rows.iter().map(|row| i128::from(of(row))).sum::<i128>();
        Figures {
            measure: Some(measure.to_owned()),
            frequency: None,
            rows: rows.len() as u64,
            sums: vec![
                (1, Some(Decimal::whole(sum(|row| row.1)))),
                (3, Decimal::new(sum(|row| row.3), 2, 2)),
            ],
            dates: days.clone().min().zip(days.max()),
        }
    });
    Said { rows: rows.len() as u64, groups: groups.collect() }
}

/// Rows of which every value is `value`: whoever sees two values, or fewer rows, saw a mixture or a part.
pub(super) fn table(value: i64) -> Vec<Row> {
    let measures = ["charges", "visits"].into_iter();
    measures
        .flat_map(|measure| {
            (0..24).flat_map(move |practice| (0..200).map(move |day| (measure, practice, day, value)))
        })
        .collect()
}

/// One store and its clock.
#[derive(Clone)]
pub(super) struct World {
    pub(super) store: Arc<Embedded>,
    pub(super) clock: Clock,
    options: Value,
}

impl World {
    /// Must be called inside a runtime with time held still: the clock goes with it.
    pub(super) fn new(bytes: usize) -> Self {
        Self::with(bytes, serde_json::json!({}))
    }

    pub(super) fn with(bytes: usize, options: Value) -> Self {
        let clock = Clock::fake(1_700_000_000_000);
        let ticking = clock.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                ticking.advance_ms(5);
            }
        });
        Self { store: Arc::new(Embedded::new(bytes, clock.clone())), clock, options }
    }

    /// One more engine.
    pub(super) async fn engine(&self) -> Arc<Core> {
        let settings =
            config::load(&[("CACHE_STORE".into(), "embedded".into())], &self.options).expect("settings");
        let runtime = tokio::runtime::Handle::current();
        let core =
            Core::simulated_over(Sim::over(self.store.clone()), settings, self.clock.clone(), &runtime);
        let core = Arc::new(core.expect("a core"));
        let guarded = core.clone();
        tokio::spawn(async move { guarded.cache.guard().await });
        core.cache.ready().await;
        core
    }

    /// Names of the frames and of the manifests in the store.
    pub(super) async fn blocks(&self) -> (Vec<String>, Vec<String>) {
        let mut found = (Vec::new(), Vec::new());
        let store = Store::Sim(Sim::over(self.store.clone()));
        let mut walk = Walk::over(Vec::new());
        while let Some(page) = store.walk(&mut walk).await.expect("it is up") {
            for key in page.iter().map(|key| String::from_utf8_lossy(key).into_owned()) {
                let Some((before, name)) = key.rsplit_once(':') else { continue };
                if before.ends_with(&format!("cache:ds:{SOURCE}")) {
                    found.0.push(name.to_owned());
                } else if before.ends_with(&format!("idx:ds:{SOURCE}")) {
                    found.1.push(name.to_owned());
                }
            }
        }
        found
    }

    pub(super) fn get(&self, key: &crate::base::key::Key) -> Option<Bytes> {
        match self.store.apply(&Op::Get(key.clone())) {
            Reply::Bytes(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn sim(core: &Core) -> &Sim {
    match &core.cache.store {
        Store::Sim(sim) => sim,
        _ => panic!("a simulated store"),
    }
}

pub(super) fn order(force: bool) -> AnalyticsWarmOrder {
    AnalyticsWarmOrder { source: SOURCE, force, env: 1 }
}

/// Begins a warm of these rows.
pub(super) fn begin(core: &Arc<Core>, rows: &Arc<Rows>, force: bool) -> u64 {
    core.begin_warm_from(order(force), Origin::Rows(rows.clone()))
}

/// What it ends with.
pub(super) async fn end(core: &Arc<Core>, job: u64) -> Result<Value, Error> {
    let job = core.analytics.warms.find(job).expect("a job");
    job.ended().await;
    Ok(job.news(0)?["result"].clone())
}

pub(super) async fn warm(core: &Arc<Core>, rows: &Arc<Rows>, force: bool) -> Result<Value, Error> {
    let job = begin(core, rows, force);
    end(core, job).await
}

pub(super) fn told(outcome: Result<Outcome, Error>) -> Value {
    match outcome.expect("it succeeds") {
        Outcome::Json(text) => serde_json::from_str(&text).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

/// All values that a reader sees, or why it goes to the source.
pub(super) async fn read(core: &Arc<Core>) -> Result<Vec<i64>, Past> {
    let seen = core.look_live(SOURCE).await?;
    let pin = core.pin(SOURCE, &seen).await?;
    let scope = Scopes::new(true, Vec::new(), None, std::iter::empty()).of("analytics:read");
    let question = Question { visible: Visible::of(&scope, None, None), ..Question::nothing() };
    let plan = pin.manifest.plan(&question).expect("a question that fits");
    let frames = core.frames(SOURCE, &pin, &plan).await?;
    let table = rows(&pin.manifest, &question, &plan, &frames.frames, Some(&[3])).expect("rows");
    let value = |row| match table.columns[0].1.value(row) {
        crate::analytics::Value::Decimal(value) => {
            value.mantissa() as i64 * 10_i64.pow(2 - u32::from(value.scale()))
        }
        other => panic!("{other:?}"),
    };
    Ok((0..table.rows).map(value).collect())
}
