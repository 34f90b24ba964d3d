/**
 * The analytics index: data source 1 is warmed, the dashboard's charts are drawn from it, it is refreshed while others read
 * it, and an analyst and an administrator ask the same question. Engines of its own, so that everybody is new.
 * Invariant: every answer is compared with what Postgres says to a connection of the demo's own; statements are counted, and a
 * warm dashboard costs none.
 */
import { CHARTS, DATA_SOURCE } from './dashboard.mjs';
import { isShared } from './engines.mjs';
import { percentiles } from './figures.mjs';
import { statements } from './statements.mjs';

/** What the plan of the index (seed 2) wants, for a table of a million rows. */
export const TARGETS = { warmSeconds: 120, p50Ms: 5, p95Ms: 10, perSecond: 500, hitPercent: 95 };
const READERS = 8;
const CALLERS = 100;

const [FIRST] = CHARTS;
const filtersOf = ({ measure, frequency, start_date, end_date }) => ({
  datasourceId: DATA_SOURCE,
  measure,
  frequency,
  startDate: start_date,
  endDate: end_date,
});
const BY_MONTH = {
  groupBy: [{ column: 'date_index', unit: 'month' }],
  metrics: [
    { function: 'sum', column: 'measure_value', as: 'sum' },
    { function: 'count', as: 'rows' },
  ],
};
/** Cents, so that sums are exact. */
const centsOf = (rows) => rows.reduce((sum, { measure_value }) => sum + Math.round(measure_value * 100), 0);

/**
 * @param {{ engines: Awaited<ReturnType<typeof import('./engines.mjs').openEngines>>, pool: import('pg').Pool,
 *   query: import('./statements.mjs').CountedQuery, quick: boolean,
 *   database: Awaited<ReturnType<typeof import('./database.mjs').openDatabase>>,
 *   judge: ReturnType<typeof import('./judge.mjs').createJudge>,
 *   say: (text: string, of?: { done: number, total: number }) => void }} input
 */
export async function playAnalytics({ engines, pool, query, quick, database, judge, say }) {
  const { AnalyticsCacheV2 } = await import('../index.js');
  say('the analytics index');
  const first = await engines.open('analytics');
  const all = isShared(first) ? [first, await engines.open('analytics')] : [first];
  const caches = all.map((engine) => new AnalyticsCacheV2(engine));
  const [cache] = caches;
  const sql = statements(query);
  const seers = await seersOf(first, database.cast);

  const warm = await cache.warmCache(DATA_SOURCE, {
    onProgress: ({ rowsProcessed, rowsTotal }) =>
      say('warming data source 1', { done: rowsProcessed, total: rowsTotal }),
  });
  const { rows: counted } = await pool.query(
    `SELECT count(*)::int AS rows, count(DISTINCT (measure, practice_uid, provider_uid, frequency))::int AS entries
     FROM ih.agg_app_measures`,
  );
  judge.equal('index: every row is in it', warm.totalRows, counted[0].rows);
  judge.equal('index: every combination is in it', warm.entriesCached, counted[0].entries);

  const draw = () => drawn({ caches, engines: all, seers, sql, pool, judge });
  await draw();
  const dashboard = await draw();
  judge.equal('index: statements of a warm dashboard', dashboard.statements, 0);
  const scopes = await playScopes({ cache, seers, pool, judge, say });
  const refresh = await playRefresh({
    caches,
    engines: all,
    pool,
    database,
    judge,
    say,
    rounds: quick ? 2 : 5,
  });
  const speed = await playSpeed({ cache, engine: first, seers, judge, say, quick });
  const stats = await cache.getCacheStats(DATA_SOURCE);
  judge.equal('index: it says that it is warm', stats.isWarm, true);
  return {
    engines: all.length,
    targets: TARGETS,
    rows: warm.totalRows,
    combinations: warm.entriesCached,
    warmMs: warm.duration,
    frames: stats.frames,
    dataBytes: stats.dataBytes,
    indexBytes: stats.indexBytes,
    dashboard,
    scopes,
    refresh,
    ...speed,
  };
}

/** Who asks: an analyst of one region, the administrator, a provider, and an analyst of no organization. */
async function seersOf(engine, cast) {
  const contextOf = (id) => engine.getCachedUserContext(id);
  return {
    analyst: await contextOf(cast.analyst),
    administrator: await contextOf(cast.superAdmin),
    provider: await contextOf(cast.provider),
    nobody: await contextOf(cast.withoutOrganization),
  };
}

/** The analyst's six charts: as one batch of rows, as sums by month, and as the text of a response. */
async function drawn({ caches, engines, seers, sql, pool, judge }) {
  const { analyst } = seers;
  const scope = engines[0].scopeOf(analyst);
  const sent = () => engines.reduce((sum, engine) => sum + engine.getMetrics().source.statements, 0);
  const asked = CHARTS.map((chart) => ({ ...filtersOf(chart), scope }));
  const before = sent();
  const from = performance.now();
  const shown = await caches[0].batchQuery(asked);
  const ms = performance.now() - from;
  const sums = await Promise.all(
    asked.map((filters, at) => caches[at % caches.length].aggregate({ ...filters, ...BY_MONTH })),
  );
  const text = await caches[caches.length - 1].queryJson(asked[0]);
  const own = await caches[0].queryForContext(analyst, filtersOf(FIRST));
  const cost = sent() - before;
  for (const [at, chart] of CHARTS.entries()) {
    const expected = await sql.chartRows(chart, analyst.accessible_practices);
    judge.equal(`index: chart ${at + 1} shows the rows of Postgres`, plain(shown[at]), expected);
    judge.equal(`index: chart ${at + 1} by month`, plain(sums[at]), await monthsOf(pool, chart, analyst));
  }
  const [first] = shown;
  judge.equal('index: a response has the same rows', JSON.parse(text.toString('utf8')), plain(first));
  judge.equal('index: and so has what a context may see', plain(own), plain(first));
  return {
    charts: CHARTS.length,
    rows: shown.reduce((sum, { length }) => sum + length, 0),
    statements: cost,
    ms,
  };
}

const plain = (rows) => rows.map((row) => ({ ...row }));

async function monthsOf(pool, { measure, frequency, start_date, end_date }, { accessible_practices }) {
  const { rows } = await pool.query(
    `SELECT date_trunc('month', date_index::timestamp)::date::text AS date_index, sum(measure_value)::float8 AS sum,
            count(*)::int AS rows
     FROM ih.agg_app_measures
     WHERE measure = $1 AND frequency = $2 AND date_index BETWEEN $3 AND $4 AND practice_uid = ANY($5)
     GROUP BY 1 ORDER BY 1`,
    [measure, frequency, start_date, end_date, accessible_practices],
  );
  return rows;
}

/** One question, four people: what each of them may see, in every form. */
async function playScopes({ cache, seers, pool, judge, say }) {
  say('the same question, asked by four people');
  const { measure, frequency } = FIRST;
  const { rows: all } = await pool.query(
    `SELECT practice_uid, provider_uid FROM ih.agg_app_measures WHERE measure = $1 AND frequency = $2`,
    [measure, frequency],
  );
  const may = {
    analyst: ({ practice_uid }) => seers.analyst.accessible_practices.includes(practice_uid),
    administrator: () => true,
    provider: ({ practice_uid, provider_uid }) =>
      seers.provider.accessible_practices.includes(practice_uid) &&
      provider_uid === seers.provider.provider_uid,
    nobody: () => false,
  };
  const seen = {};
  for (const [who, context] of Object.entries(seers)) {
    const filters = { datasourceId: DATA_SOURCE, measure, frequency };
    const rows = await cache.queryForContext(context, filters);
    const expected = all.filter(may[who]);
    judge.equal(`index: how many rows the ${who} sees`, rows.length, expected.length);
    judge.equal(`index: rows beyond what the ${who} may see`, rows.filter((row) => !may[who](row)).length, 0);
    seen[who] = rows.length;
  }
  return { measure, frequency, of: all.length, seen };
}

/**
 * Every value of the table changes and the index is warmed again, while readers ask for all charts at once: each answer is
 * all old or all new, and never older than one before it.
 */
async function playRefresh({ caches, engines, pool, database, judge, say, rounds }) {
  const asked = CHARTS.map(filtersOf);
  const read = async (cache) => {
    const shown = await cache.batchQuery(asked);
    return shown.map((rows) => ({ rows: rows.length, cents: centsOf(rows) }));
  };
  const before = await read(caches[0]);
  const add = (/** @type {number} */ by) =>
    pool.query('UPDATE ih.agg_app_measures SET measure_value = measure_value + $1', [by]);
  let added = 0;
  const undo = database.owe(() => add(-added));
  const state = { done: false, published: 0 };
  const tally = { answers: 0, mixtures: 0, steps: 0 };
  const reader = async (at) => {
    let last = 0;
    while (!state.done) {
      const least = Math.max(last, state.published);
      const versions = new Set(
        (await read(caches[at % caches.length])).map((chart, n) => versionOf(chart, before[n])),
      );
      const [version] = versions;
      tally.answers += 1;
      if (versions.size !== 1 || !Number.isInteger(version)) tally.mixtures += 1;
      else if (version < least) tally.steps += 1;
      last = Math.max(last, Number(version));
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const reading = Array.from({ length: READERS }, (_, at) => reader(at));
  const took = [];
  const sent = () => engines[0].getMetrics().source.statementsByName.analytics_rows ?? 0;
  const fallbacks = sent();
  try {
    for (let round = 1; round <= rounds; round += 1) {
      say('refreshing while others read', { done: round, total: rounds });
      await add(1);
      added += 1;
      const { duration } = await caches[0].warmCache(DATA_SOURCE, { force: true });
      state.published = round;
      took.push(duration);
    }
  } finally {
    state.done = true;
    await Promise.all(reading);
    await undo();
  }
  judge.equal('index: answers during a refresh that were a mixture', tally.mixtures, 0);
  judge.equal('index: answers older than one before', tally.steps, 0);
  judge.equal('index: questions for the source during a refresh', sent() - fallbacks, 0);
  // The table is as it was: so is the index, after one more warm, and whatever did not change is used again.
  const back = await caches[0].warmCache(DATA_SOURCE, { force: true });
  const again = await caches[0].warmCache(DATA_SOURCE, { force: true });
  judge.equal('index: as at the beginning', await read(caches[caches.length - 1]), before);
  judge.equal('index: frames written for a table that did not change', again.framesWritten, 0);
  return {
    rounds,
    readers: READERS,
    ...tally,
    ms: percentiles(took),
    frames: back.framesWritten + back.framesReused,
  };
}

/** How often each row of a chart was added to since; not a whole number if its rows are of several versions. */
const versionOf = ({ rows, cents }, start) =>
  rows === start.rows ? (cents - start.cents) / (100 * Math.max(1, rows)) : Number.NaN;

/** One question after the other, and a hundred callers at once. */
async function playSpeed({ cache, engine, seers, judge, say, quick }) {
  say('questions to the index');
  const scope = engine.scopeOf(seers.analyst);
  const filters = { ...filtersOf(FIRST), scope };
  const forms = {
    rows: () => cache.query(filters),
    columns: () => cache.queryColumns(filters),
    json: () => cache.queryJson(filters),
    aggregate: () => cache.aggregate({ ...filters, ...BY_MONTH }),
  };
  const before = engine.getMetrics().source.statements;
  const times = quick ? 100 : 1_000;
  const ms = {};
  for (const [form, ask] of Object.entries(forms)) {
    const taken = [];
    for (let n = 0; n < times; n += 1) {
      const from = performance.now();
      await ask();
      taken.push(performance.now() - from);
    }
    ms[form] = percentiles(taken);
  }
  const [practice] = seers.analyst.accessible_practices;
  const one = { ...filtersOf(FIRST), practiceUids: [practice], scope };
  const perSecond = {
    aggregate: await rate(() => cache.aggregate({ ...one, ...BY_MONTH }), times * 10),
    rows: await rate(() => cache.query(one), times * 10),
  };
  const asked = times * 4 + times * 20;
  const bySource = engine.getMetrics().source.statements - before;
  judge.equal('index: questions that were answered by the source', bySource, 0);
  return { asked, ms, perSecond, hitPercent: (100 * (asked - bySource)) / asked };
}

/** Calls a second of a hundred callers, each of whom asks again as soon as it is answered. */
async function rate(ask, calls) {
  let left = calls;
  const from = performance.now();
  const caller = async () => {
    while (left > 0) {
      left -= 1;
      await ask();
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  return (calls * 1_000) / (performance.now() - from);
}
