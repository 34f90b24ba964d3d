//! Questions: asked of the index, else of the source, and the answer made ready for JavaScript.
//!
//! Invariant: all questions of one request are answered from one generation of each data source, or all of them by the source.

use std::sync::Arc;

use bytes::Bytes;

use crate::analytics::answer::{self, Facts, Numbers};
use crate::analytics::{
    Asked, Frame, Manifest, Plan as FramePlan, Refused, Resolved, Schema, Table, Visible, Wanted, aggregate,
    rows,
};
use crate::base::error::{Code, Error};
use crate::store::{Op, StoreResult};

use super::super::hot::{Hot, Plan};
use super::super::{Core, Outcome, Started};
use super::live::Seen;
use super::read::Pin;
use super::{Layer, Past};

/// Looks at the pointers for one request: each but the first because a newer generation was published meanwhile.
const LOOKS: usize = 4;

/// How an answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerForm {
    /// Columns, of which JavaScript makes rows or typed arrays.
    Columns,
    /// JSON text; one question.
    Json,
}

/// Some questions.
#[derive(Clone, Debug)]
pub struct AnalyticsAsk {
    /// Each as JSON.
    pub questions: Vec<String>,
    /// How the answers are wanted.
    pub form: AnswerForm,
    /// How exact numbers are given.
    pub numbers: Numbers,
    /// Whether the source may be asked instead.
    pub fallback: bool,
}

/// Questions on their way.
pub(in crate::engine) struct AnalyticsHot {
    asked: Vec<Asked>,
    form: AnswerForm,
    numbers: Numbers,
    fallback: bool,
    /// Distinct data sources, and what the store says of each.
    sources: Vec<(i64, Result<Seen, Past>)>,
    /// Of which of them the store is asked: each reply is of one of these.
    sent: Vec<bool>,
    ops: usize,
}

impl AnalyticsHot {
    pub(in crate::engine) fn ops(&self) -> usize {
        self.ops
    }

    /// The data source of which a question is, by position.
    fn of(&self, asked: &Asked) -> usize {
        let found = self.sources.iter().position(|(source, _)| *source == asked.data_source());
        found.expect("every data source was listed")
    }
}

/// Why the index has no answer.
enum Stop {
    Past(Past),
    Failed(Error),
}

impl From<Past> for Stop {
    fn from(past: Past) -> Self {
        Stop::Past(past)
    }
}

type Answer = (Table, Facts);

impl Core {
    pub(in crate::engine) fn plan_analytics(&self, ask: &AnalyticsAsk, ops: &mut Vec<Op>) -> Plan {
        let asked =
            ask.questions.iter().map(|question| Asked::parse(question)).collect::<Result<Vec<_>, _>>();
        let asked = match asked {
            Ok(asked) => asked,
            Err(refused) => return Plan::failed(refused.into()),
        };
        let mut sources: Vec<(i64, Result<Seen, Past>)> = Vec::new();
        let mut sent = Vec::new();
        let before = ops.len();
        for source in asked.iter().filter(|one| *one.visible() != Visible::NOTHING).map(Asked::data_source) {
            if sources.iter().any(|(known, _)| *known == source) {
                continue;
            }
            let key = self.live_key(source);
            // Marked as not there until a reply says otherwise.
            sources.push((source, Err(Past::StoreDown)));
            sent.push(self.cache.usable(&key));
            if sent.last() == Some(&true) {
                ops.push(Op::Get(key));
            }
        }
        let (form, numbers, fallback) = (ask.form, ask.numbers, ask.fallback);
        let ops = ops.len() - before;
        Plan::Hot(Hot::Analytics(Box::new(AnalyticsHot {
            asked,
            form,
            numbers,
            fallback,
            sources,
            sent,
            ops,
        })))
    }

    /// Takes the replies in; the rest needs a task.
    pub(in crate::engine) fn take_analytics(&self, hot: &mut AnalyticsHot, replies: &[StoreResult]) {
        let mut replies = replies.iter();
        for ((source, seen), _) in hot.sources.iter_mut().zip(&hot.sent).filter(|(_, sent)| **sent) {
            // Taken although it may not count any more: the next one is of another data source.
            let reply = replies.next();
            if self.cache.usable(&self.live_key(*source)) {
                *seen = self.seen(*source, reply);
            }
        }
    }

    pub(in crate::engine) async fn cold_analytics(
        self: &Arc<Self>,
        hot: AnalyticsHot,
        started: Started,
    ) -> Result<Outcome, Error> {
        let answers = match self.index_answers(&hot, started).await {
            Ok(answers) => answers,
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Past(past)) => self.source_answers(&hot, past, started).await?,
        };
        self.count_answers(&hot, &answers);
        let (form, numbers) = (hot.form, hot.numbers);
        let cells = answers.iter().map(|(table, _)| (table.rows * table.columns.len()) as u64).sum();
        let bytes = self.compute(cells, move || encode(&answers, form, numbers)).await?;
        Ok(Outcome::Raw(bytes))
    }

    fn count_answers(&self, hot: &AnalyticsHot, answers: &[Answer]) {
        for (asked, (_, facts)) in hot.asked.iter().zip(answers) {
            if *asked.visible() != Visible::NOTHING {
                self.analytics.figures.of(asked.data_source()).answered(facts);
            }
        }
    }

    /// All answers from one generation of each data source.
    async fn index_answers(
        self: &Arc<Self>,
        hot: &AnalyticsHot,
        started: Started,
    ) -> Result<Vec<Answer>, Stop> {
        let mut seen: Vec<Seen> = Vec::with_capacity(hot.sources.len());
        for (_, one) in &hot.sources {
            seen.push(one.clone()?);
        }
        for _ in 1..LOOKS {
            let past = match self.answers_of(hot, &seen, started).await {
                // A frame may be gone because a newer generation is there; or somebody else of this process saw the newer one
                // while this reply was on its way. The source is no way out: it may be ahead of every generation, and the
                // next answer would go back.
                Err(Stop::Past(past @ (Past::Hole | Past::Older))) => past,
                other => return other,
            };
            let mut again = Vec::with_capacity(seen.len());
            for (source, _) in &hot.sources {
                again.push(self.look_live(*source).await?);
            }
            let number = |seen: &Seen| Some(seen.live.as_ref()?.served()?.number);
            if again.iter().map(number).eq(seen.iter().map(number)) {
                return Err(Stop::Past(past));
            }
            seen = again;
        }
        self.answers_of(hot, &seen, started).await
    }

    async fn answers_of(
        self: &Arc<Self>,
        hot: &AnalyticsHot,
        seen: &[Seen],
        started: Started,
    ) -> Result<Vec<Answer>, Stop> {
        let mut pins = Vec::with_capacity(seen.len());
        for ((source, _), seen) in hot.sources.iter().zip(seen) {
            pins.push(self.pin(*source, seen).await?);
        }
        let pins = &pins;
        let all = hot.asked.iter().map(|asked| async move {
            if *asked.visible() == Visible::NOTHING {
                return self.nothing(asked, started).await;
            }
            let at = hot.of(asked);
            self.answer_of(asked, &pins[at], &seen[at], hot.fallback, started).await
        });
        futures_util::future::try_join_all(all).await
    }

    /// One answer from one generation.
    async fn answer_of(
        &self,
        asked: &Asked,
        pin: &Pin,
        seen: &Seen,
        fallback: bool,
        started: Started,
    ) -> Result<Answer, Stop> {
        let source = asked.data_source();
        // The table may have got a column since: then the source knows.
        let unfit = |refused: Refused| match fallback {
            true => Stop::Past(Past::Schema),
            false => Stop::Failed(refused.into()),
        };
        let resolved = asked.resolve(pin.manifest.schema()).map_err(unfit)?;
        let plan = pin.manifest.plan(&resolved.question).map_err(unfit)?;
        let frames = self.frames(source, pin, &plan).await?;
        let (manifest, layer) = (pin.manifest.clone(), frames.layer);
        let computed =
            self.compute(plan.rows(), move || table(&manifest, &resolved, &plan, &frames.frames)).await;
        let table = match computed {
            Ok(table) => table,
            Err(Refused::Scope) => {
                self.quarantine(source, seen).await;
                return Err(Past::Quarantined.into());
            }
            Err(Refused::Beyond { .. }) => return Err(Past::Beyond.into()),
            Err(refused) if refused.source_may_answer() => return Err(Past::Hole.into()),
            Err(refused) => return Err(Stop::Failed(refused.into())),
        };
        let layer = match layer {
            Layer::Near => answer::Layer::Near,
            Layer::Store => answer::Layer::Store,
        };
        Ok((table, self.facts(layer, pin.number, None, started)))
    }

    /// The answer of somebody who may see nothing. Neither store nor source is asked for it, but for what the table looks
    /// like, when a row without rows needs that and nobody has asked about it yet.
    async fn nothing(&self, asked: &Asked, started: Started) -> Result<Answer, Stop> {
        let facts = self.facts(answer::Layer::Near, 0, None, started);
        let source = asked.data_source();
        let schema = match (self.analytics.schemas.of(source), asked.of_nothing()) {
            (Some(schema), _) => schema,
            (None, Some(table)) => return Ok((table, facts)),
            (None, None) => self.described(source).await.map_err(Stop::Failed)?,
        };
        let resolved = asked.resolve(&schema).map_err(|refused| Stop::Failed(refused.into()))?;
        let table = resolved.wanted.of_nothing(&schema).map_err(|refused| Stop::Failed(refused.into()))?;
        Ok((table, facts))
    }

    /// What the source says that the table looks like.
    async fn described(&self, source: i64) -> Result<Arc<Schema>, Error> {
        let described = self.source.data_source(source).await?;
        self.analytics.schemas.keep(source, &described.schema);
        Ok(Arc::new(described.schema.clone()))
    }

    /// All answers by the source.
    async fn source_answers(
        &self,
        hot: &AnalyticsHot,
        past: Past,
        started: Started,
    ) -> Result<Vec<Answer>, Error> {
        if !hot.fallback {
            let message = format!(
                "the data source cannot be answered from the cache ({}): call warmCache, or leave fallback at 'source'",
                past.name()
            );
            return Err(Error { reason: Some(past.name()), ..Error::new(Code::Conflict, message) });
        }
        let mut answers = Vec::with_capacity(hot.asked.len());
        for asked in &hot.asked {
            if *asked.visible() == Visible::NOTHING {
                match self.nothing(asked, started).await {
                    Ok(answer) => answers.push(answer),
                    Err(Stop::Failed(error)) => return Err(error),
                    Err(Stop::Past(_)) => {
                        return Err(Error::new(Code::Internal, "nothing is always answered"));
                    }
                }
                continue;
            }
            let described = self.source.data_source(asked.data_source()).await?;
            self.analytics.schemas.keep(asked.data_source(), &described.schema);
            let Resolved { question, wanted } = asked.resolve(&described.schema)?;
            let table = match wanted {
                Wanted::Rows { columns } => {
                    self.source.analytics_rows(&described, &question, columns.as_deref()).await?
                }
                Wanted::Groups { by, metrics } => {
                    self.source.analytics_groups(&described, &question, &by, &metrics).await?
                }
            };
            answers.push((table, self.facts(answer::Layer::Source, 0, Some(past.name()), started)));
        }
        Ok(answers)
    }

    fn facts(
        &self,
        layer: answer::Layer,
        generation: u64,
        reason: Option<&'static str>,
        started: Started,
    ) -> Facts {
        Facts { layer, generation, reason, micros: self.cache.clock.now_us().saturating_sub(started.us) }
    }

    /// Takes a generation out of service that holds what it should not.
    async fn quarantine(&self, source: i64, seen: &Seen) {
        tracing::error!(
            component = "analytics",
            data_source = source,
            "a generation holds rows that its manifest did not announce; it is out of service until the next warm"
        );
        if let Some(live) = &seen.live {
            // Whoever has replaced it meanwhile has done as much.
            let _ = self.swap_live(source, seen, &live.quarantined()).await;
        }
    }
}

fn table(
    manifest: &Manifest,
    resolved: &Resolved,
    plan: &FramePlan,
    frames: &[Arc<Frame>],
) -> Result<Table, Refused> {
    match &resolved.wanted {
        Wanted::Rows { columns } => rows(manifest, &resolved.question, plan, frames, columns.as_deref()),
        Wanted::Groups { by, metrics } => aggregate(manifest, &resolved.question, plan, frames, by, metrics),
    }
}

fn encode(answers: &[Answer], form: AnswerForm, numbers: Numbers) -> Result<Bytes, Error> {
    match (form, answers) {
        (AnswerForm::Json, [(table, _)]) => Ok(answer::json(table, numbers)?),
        (AnswerForm::Json, _) => Err(Error::argument("questions", "one question for one JSON text")),
        (AnswerForm::Columns, [(table, facts)]) => Ok(answer::columns(table, facts, numbers)),
        (AnswerForm::Columns, all) => {
            let all: Vec<(&Table, &Facts)> = all.iter().map(|(table, facts)| (table, facts)).collect();
            Ok(answer::batch(&all, numbers))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::Live;
    use crate::base::clock::Clock;
    use crate::cache::Effect;
    use crate::config;
    use crate::store::Reply;

    /// What was said of each data source: who claims its pointer.
    fn claims(hot: &AnalyticsHot) -> Vec<(i64, Option<u64>)> {
        let claim = |seen: &Result<Seen, Past>| Some(seen.as_ref().ok()?.live.as_ref()?.claim);
        hot.sources.iter().map(|(source, seen)| (*source, claim(seen))).collect()
    }

    /// The pointers of data sources 1 to 3 are asked for; invalidations of some of them begin before that, and of others after.
    async fn asked(before: &[i64], after: &[i64]) -> (Vec<i64>, Vec<(i64, Option<u64>)>) {
        let settings = config::load(&[], &serde_json::json!({ "cacheStore": "none" })).expect("settings");
        let runtime = tokio::runtime::Handle::current();
        let core = Arc::new(Core::simulated(settings, Clock::fake(1_000), &runtime).expect("a core"));
        let guarded = core.clone();
        tokio::spawn(async move { guarded.cache.guard().await });
        core.cache.ready().await;
        let invalidated = |sources: &[i64]| {
            for source in sources {
                assert!(core.cache.pending.add(&core.live_key(*source), Effect::Delete).is_some());
            }
        };
        invalidated(before);
        let ask = AnalyticsAsk {
            questions: [1, 2, 1, 3].map(|source| format!(r#"{{"datasourceId":{source}}}"#)).to_vec(),
            form: AnswerForm::Columns,
            numbers: Numbers::Float,
            fallback: false,
        };
        let mut ops = Vec::new();
        let Plan::Hot(Hot::Analytics(mut hot)) = core.plan_analytics(&ask, &mut ops) else {
            panic!("the store is to be asked")
        };
        let source = |op: &Op| (1..=3).find(|source| op.key() == Some(&core.live_key(*source)));
        let sent: Vec<i64> = ops.iter().map(|op| source(op).expect("a pointer")).collect();
        let reply = |source: &i64| Ok(Reply::Bytes(Some(Live::cold(*source as u64).seal().into())));
        invalidated(after);
        core.take_analytics(&mut hot, &sent.iter().map(reply).collect::<Vec<_>>());
        (sent, claims(&hot))
    }

    #[tokio::test]
    async fn a_reply_is_of_the_data_source_that_it_was_asked_for() {
        let said = |known: [bool; 3]| {
            (1_i64..).zip(known).map(|(source, known)| (source, known.then_some(source as u64))).collect()
        };
        for invalid in [&[][..], &[1], &[2], &[3], &[1, 2], &[1, 3], &[1, 2, 3]] {
            let known = [1, 2, 3].map(|source| !invalid.contains(&source));
            let others: Vec<i64> = [1, 2, 3].into_iter().filter(|source| !invalid.contains(source)).collect();
            assert_eq!(asked(invalid, &[]).await, (others, said(known)), "{invalid:?} before");
            assert_eq!(asked(&[], invalid).await, (vec![1, 2, 3], said(known)), "{invalid:?} in between");
        }
        assert_eq!(asked(&[1], &[3]).await, (vec![2, 3], said([false, true, false])));
    }
}
