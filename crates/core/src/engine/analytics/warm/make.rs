//! From the source to frames and a manifest in memory: nothing of it is stored yet.
//!
//! Packed rows take a few bytes each, and so do their frames; both together are what a warm holds. Building runs beside the
//! worker threads and stops when nobody wants it any more.
//!
//! Invariant: what is handed on was read back from its bytes, and is what SQL says of the same snapshot.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::analytics::gates::{self, Tally};
use crate::analytics::{Batch, Builder, Frame, Hash, Manifest, Schema};
use crate::base::error::{Code, Error};
use crate::base::limits;
use crate::source::analytics::Progress;

use super::super::super::Core;
use super::job::{Job, Stage};
use super::origin::Table;

/// How often the number of rows is told.
const TOLD_MS: u64 = 100;

/// A generation, not stored yet.
pub(super) struct Made {
    pub(super) manifest: Arc<Manifest>,
    /// The name of the manifest, and its bytes.
    pub(super) name: Hash,
    pub(super) sealed: Bytes,
    /// Distinct frames.
    pub(super) frames: Vec<(Hash, Bytes)>,
    /// The snapshot of the source.
    pub(super) snapshot: String,
}

/// Frames and manifest, and what they add up to.
struct Built {
    manifest: Manifest,
    frames: Vec<(Hash, Bytes)>,
    tallies: Vec<Tally>,
}

/// Tells those who work for a warm that it is over, however it ended.
struct Over(watch::Sender<bool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Core {
    /// Exports and builds.
    pub(super) async fn make(&self, job: &Arc<Job>, table: &Table) -> Result<Made, Error> {
        let over = Over(watch::Sender::new(false));
        job.begin(Stage::Exporting);
        let (take, batches) = mpsc::channel(limits::ANALYTICS_BATCHES_AHEAD);
        let schema = table.schema().clone();
        let progress = Arc::new(Progress::default());
        let export = table.export(self, progress.clone(), over.0.subscribe(), take);
        let (exported, builder) = tokio::select! {
            both = async { tokio::join!(export, collect(schema, batches)) } => both,
            never = tell(job, &progress) => match never {},
        };
        // Why rows were not taken says more than that they were not.
        let (builder, exported) = (builder?, exported?);
        job.set(|progress| {
            (progress.rows, progress.total_rows, progress.share) =
                (exported.said.rows, exported.said.rows, 1.0);
        });
        job.begin(Stage::Building);
        let (of, stopped) = (job.clone(), over.0.subscribe());
        let built =
            tokio::task::spawn_blocking(move || build(builder, &of, &stopped)).await.map_err(failed)??;
        gates::consistent(&built.manifest, &built.tallies, &exported.said).map_err(|difference| {
            Error::new(Code::Internal, format!("what was indexed is not what the source says: {difference}"))
        })?;
        let sealed = Bytes::from(built.manifest.seal());
        Ok(Made {
            name: Hash::of(&sealed),
            manifest: Arc::new(built.manifest),
            sealed,
            frames: built.frames,
            snapshot: exported.snapshot,
        })
    }
}

/// Tells how many rows have come, for as long as it is polled.
async fn tell(job: &Job, progress: &Progress) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(Duration::from_millis(TOLD_MS)).await;
        let rows = progress.rows.load(Ordering::Relaxed);
        let total_rows = progress.estimated_rows.load(Ordering::Relaxed).max(rows);
        job.set(|progress| {
            (progress.rows, progress.total_rows) = (rows, total_rows);
            // A guess may be too low: then it is nearly done for a long time.
            progress.share = if total_rows == 0 { 0.0 } else { (rows as f64 / total_rows as f64).min(0.99) };
        });
    }
}

/// Takes batches until there are no more. Packing one takes longer than a worker thread should be kept.
async fn collect(schema: Schema, mut batches: mpsc::Receiver<Batch>) -> Result<Builder, Error> {
    let mut builder = Builder::new(schema);
    while let Some(batch) = batches.recv().await {
        let packing = tokio::task::spawn_blocking(move || builder.push(batch).map(|()| builder));
        builder = packing.await.map_err(failed)??;
        if builder.waiting_bytes() > limits::ANALYTICS_WARM_BYTES {
            return Err(too_large(builder.rows()));
        }
    }
    Ok(builder)
}

fn build(builder: Builder, job: &Job, stopped: &watch::Receiver<bool>) -> Result<Built, Error> {
    let mut making = builder.finish();
    let (all, mut bytes) = (making.left(), 0);
    let (mut frames, mut tallies, mut known) = (Vec::new(), Vec::with_capacity(all), HashSet::new());
    while let Some(made) = making.next() {
        if *stopped.borrow() {
            return Err(Error::new(Code::Closed, "the warm was stopped"));
        }
        let mut tally = Tally::new(making.schema());
        for made in made? {
            // As readers will: what cannot be read back must not be published.
            tally.add(&Frame::open(&made.bytes, &made.hash, making.schema())?);
            // Equal rows over and over are equal frames.
            if known.insert(made.hash) {
                bytes += made.bytes.len();
                frames.push((made.hash, Bytes::from(made.bytes)));
            }
        }
        if bytes > limits::ANALYTICS_WARM_BYTES {
            return Err(too_large(0));
        }
        tallies.push(tally);
        let share = 1.0 - making.left() as f64 / all.max(1) as f64;
        job.set(|progress| progress.share = share);
    }
    Ok(Built { manifest: making.manifest()?, frames, tallies })
}

fn too_large(rows: u64) -> Error {
    let megabytes = limits::ANALYTICS_WARM_BYTES >> 20;
    let after = if rows == 0 { String::new() } else { format!(" after {rows} rows") };
    let message = format!(
        "the data source takes more than {megabytes} MB packed{after}: describe fewer or narrower columns"
    );
    Error { reason: Some("too_large"), ..Error::new(Code::Overloaded, message) }
}

fn failed(_: tokio::task::JoinError) -> Error {
    Error::new(Code::Internal, "building the index failed unexpectedly")
}
