/**
 * `--only analytics`: the analytics index beside the plan's own (seed 2) and beside no cache: warming a table of Postgres,
 * asking it, and what both cost. What is measured is told in `analytics-warm.mjs` and `analytics-query.mjs`; here are the
 * order of things and the tables, the last of which holds the targets of the project beside what came out.
 * Invariant: both sides read the same table and write to the same server; a target is printed whether it was met or not.
 */

import { readFileSync } from 'node:fs';
import { startPostgres, startValkey } from '../__test__/servers/index.mjs';
import { AnalyticsCacheV2, createEngine } from '../index.js';
import { DATA_SOURCE, fillTable } from './analytics-data.mjs';
import {
  byCombinations,
  firstQuestions,
  nineCharts,
  onePractice,
  SEED,
  wideChart,
} from './analytics-query.mjs';
import { firstWarm, forget, PREFIX, swaps, warmAgain } from './analytics-warm.mjs';
import { median } from './measure.mjs';
import { openPool, SeedIndex } from './seed-index.mjs';

/**
 * @typedef {import('./measure.mjs').Row} Row
 * @typedef {import('./report.mjs').Conditions} Conditions
 * @typedef {import('./report.mjs').Table} Table
 * @typedef {import('./analytics-warm.mjs').Warm} Warm
 * @typedef {import('./analytics-warm.mjs').Place} Place
 * @typedef {{ rows: number, ours: Warm, seed: Warm | undefined, written?: Warm }} Size
 */

const SECONDS = 1_000;

/** @param {Size[]} sizes @returns {Table} */
function warmTable(sizes) {
  const line = (/** @type {number} */ rows, /** @type {string} */ name, /** @type {Warm} */ warm) => [
    `${rows.toLocaleString('en-US')} rows: ${name}`,
    warm.ms,
    warm.rssGrowthMb,
    warm.delayP99Ms,
    warm.delayMaxMs,
    warm.usedMb,
    warm.stored.indexShare * 100,
    warm.stored.keys,
  ];
  return {
    title: 'Warming a data source, Postgres to Valkey',
    grid: {
      head: [
        '',
        'ms',
        'RSS growth MB',
        'loop delay p99 ms',
        'longest ms',
        'store MB',
        'index % of data',
        'keys',
      ],
      lines: sizes.flatMap(({ rows, ours, seed, written }) => [
        line(rows, 'bcos-cache', ours),
        ...(seed ? [line(rows, 'seed 2', seed)] : []),
        ...(written ? [line(rows, 'seed 2 to the letter', written)] : []),
      ]),
    },
    note:
      'Each warm in a process of its own; RSS is its peak, as the system counts it, over what it had with open connections. ' +
      'The delay is that of monitorEventLoopDelay at 1 ms: an idle loop shows a little more than 1 ms. Store: used_memory ' +
      'of the server after and before; index and data by MEMORY USAGE of every key, the manifest or the sets against all others. ' +
      'Seed 2 writes every combination once, with all of its rows; to the letter it writes every row to the key of its ' +
      'combination, where only the last one stays.',
  };
}

/** @param {Awaited<ReturnType<typeof warmAgain>>} again @returns {Table} */
function againTable(again) {
  const full = Number(again[0]?.ms);
  return {
    title: 'Warming again',
    grid: {
      head: ['', 'ms', 'x from nothing', 'rows changed', 'frames written', 'frames reused', 'written %'],
      lines: again.map(({ name, changed, ms, framesWritten, framesReused }) => [
        name,
        ms,
        ms / full,
        changed,
        framesWritten,
        framesReused,
        (100 * framesWritten) / (framesWritten + framesReused),
      ]),
    },
    note: 'A frame holds about a thousand rows of neighbouring practices: what changed everywhere is in all of them.',
  };
}

/** @param {string} title @param {Row[]} rows @param {string} base @param {number} concurrency @param {string} note @returns {Table} */
const queryTable = (title, rows, base, concurrency, note) => ({ title, rows, base, concurrency, note });

/** @typedef {{ what: string, ours: number, peer?: number | undefined, unit: string, target: string, met: boolean }} Goal */

/** @param {Goal[]} goals @returns {Table} */
const goalTable = (goals) => ({
  title: 'Analytics index: targets',
  grid: {
    head: ['', 'bcos-cache', 'peer', 'times better', 'unit', 'target', 'met'],
    lines: goals.map(({ what, ours, peer, unit, target, met }) => [
      what,
      ours,
      peer ?? '-',
      peer === undefined ? '-' : unit === 'calls/s' ? ours / peer : peer / ours,
      unit,
      target,
      met ? 'yes' : 'no',
    ]),
  },
});

/** Targets of warming. @param {Size} main @param {Awaited<ReturnType<typeof warmAgain>>} again @param {Awaited<ReturnType<typeof swaps>>} swap @returns {Goal[]} */
function warmGoals({ rows, ours, seed }, again, swap) {
  const million = `${rows.toLocaleString('en-US')} rows`;
  const [full, , changed] = again;
  const [fullMs, changedMs] = [Number(full?.ms), Number(changed?.ms)];
  const written = Number(changed?.framesWritten);
  const share = (100 * written) / (written + Number(changed?.framesReused));
  const times = Number(seed?.ms) / ours.ms;
  return [
    {
      what: `warm ${million}`,
      ours: ours.ms / SECONDS,
      peer: seed && seed.ms / SECONDS,
      unit: 's',
      target: '<= 4, >= 15x',
      met: ours.ms <= 4 * SECONDS && times >= 15,
    },
    {
      what: '  event loop delay p99',
      ours: ours.delayP99Ms,
      peer: seed?.delayP99Ms,
      unit: 'ms',
      target: '< 10',
      met: ours.delayP99Ms < 10,
    },
    {
      what: '  RSS growth',
      ours: ours.rssGrowthMb,
      peer: seed?.rssGrowthMb,
      unit: 'MB',
      target: '< 256',
      met: ours.rssGrowthMb < 256,
    },
    {
      what: '  store memory',
      ours: ours.usedMb,
      peer: seed?.usedMb,
      unit: 'MB',
      target: '<= 12',
      met: ours.usedMb <= 12,
    },
    {
      what: '  index of data',
      ours: ours.stored.indexShare * 100,
      peer: seed && seed.stored.indexShare * 100,
      unit: '%',
      target: '<= 5',
      met: ours.stored.indexShare <= 0.05,
    },
    {
      what: 're-warm, 1 % changed, of some practices',
      ours: changedMs / SECONDS,
      unit: 's',
      target: `<= ${(fullMs / 2 / SECONDS).toFixed(2)}, half of ${(fullMs / SECONDS).toFixed(2)}`,
      met: changedMs <= fullMs / 2,
    },
    { what: '  frames written', ours: share, unit: '%', target: '<= 5', met: share <= 5 },
    {
      what: `publish: ${swap.oursCommand} at the pointer; MULTI of ${swap.seedKeys.toLocaleString('en-US')} RENAMEs`,
      ours: swap.oursMs,
      peer: swap.seedMs,
      unit: 'ms',
      target: '< 1',
      met: swap.oursMs < 1,
    },
  ];
}

/** @typedef {{ combinations: Row[], wide: Row[], nine: Row[], one: Row[] }} Queries */

/** Targets of asking. @param {Queries} queries @returns {Goal[]} */
function queryGoals({ combinations, wide, nine, one }) {
  const row = (/** @type {Row[]} */ rows, /** @type {string} */ name) =>
    /** @type {Row} */ (rows.findLast((one) => one.name.endsWith(name)));
  const ms = (/** @type {Row} */ { p50Us }) => p50Us / 1_000;
  /** @type {(what: string, ours: number, peer: number, unit: string, target: string, met: boolean) => Goal} */
  const goal = (what, ours, peer, unit, target, met) => ({ what, ours, peer, unit, target, met });
  const goals = [];
  const hundred = combinations.filter(({ group }) => /^1,?0\d\d combinations/.test(String(group)));
  if (hundred.length > 0) {
    const group = String(hundred[0]?.group);
    for (const [form, limit, peer] of /** @type {const} */ ([
      ['columns', 2, SEED],
      ['JSON', 8, 'then JSON'],
    ])) {
      const [ours, theirs] = [ms(row(hundred, `cache: ${form}`)), ms(row(hundred, peer))];
      const met = ours < limit && theirs / ours >= 20;
      goals.push(goal(`query, ${group}: ${form}`, ours, theirs, 'ms', `< ${limit}, >= 20x`, met));
    }
  }
  const months = row(wide, 'aggregate by month');
  const reduced = row(wide, 'seed 2: rows, then added up by month');
  goals.push(goal('aggregate of the widest measure', ms(months), ms(reduced), 'ms', '< 5', ms(months) < 5));
  const block = (/** @type {Row} */ { counts }) => Number(counts?.['block us, median']) / 1_000;
  goals.push(goal('  event loop block', block(months), block(reduced), 'ms', '< 1', block(months) < 1));
  const seed9 = ms(row(nine, 'seed 2: rows, then added up by month'));
  for (const form of ['aggregate by month', 'columns', 'JSON', 'rows']) {
    const ours = ms(row(nine, `cache: ${form}`));
    goals.push(
      goal(`9 charts at once: ${form}`, ours / SECONDS, seed9 / SECONDS, 's', '< 1', ours < SECONDS),
    );
  }
  const perSecond = (/** @type {string} */ name) => row(one, name).opsPerSecond;
  const seedRate = perSecond(SEED);
  for (const [form, least] of /** @type {const} */ ([
    ['aggregate by month', 10_000],
    ['rows', 3_000],
  ])) {
    const ours = perSecond(`cache: ${form}`);
    goals.push(
      goal(`one practice, 100 concurrent: ${form}`, ours, seedRate, 'calls/s', `>= ${least}`, ours >= least),
    );
  }
  return goals;
}

/** Everything at the main size. @param {Place} place @param {import('./analytics-data.mjs').Shape} shape @param {Conditions} conditions */
async function questions({ server, url, pool, progress }, shape, { rounds, roundMs }) {
  const open = async () => {
    const engine = createEngine({
      redisHost: server.host,
      redisPort: server.port,
      redisKeyPrefix: PREFIX.ours,
      databaseUrl: url,
      // Peers wait as long as it takes; what they leave behind in the store must not make ours look like an outage.
      cacheDeadlineMs: 5_000,
    });
    // Its connection is not what is measured.
    const cache = new AnalyticsCacheV2(engine);
    for (let tries = 0; !(await cache.isCacheWarm(DATA_SOURCE)); tries += 1) {
      if (tries === 200) throw new Error('the data source does not get warm');
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    return engine;
  };
  const engine = await open();
  const index = new SeedIndex({
    host: server.host,
    port: server.port,
    url,
    prefix: PREFIX.seed,
    dataSource: DATA_SOURCE,
  });
  const who = {
    cache: new AnalyticsCacheV2(engine),
    index,
    pool,
    shape,
    plan: { rounds, roundMs },
    progress,
  };
  try {
    const before = engine.getMetrics().source.statements;
    const combinations = await byCombinations(who);
    const { question, rows: wide } = await wideChart(who);
    const nine = await nineCharts(who);
    const one = await onePractice(who);
    const asked = engine.getMetrics().source.statements - before;
    if (asked > 0) {
      const { sourceReasons } = await who.cache.getCacheStats(DATA_SOURCE);
      throw new Error(`questions of ours were answered by the source: ${JSON.stringify(sourceReasons)}`);
    }
    const first = await firstQuestions(who, open);
    return { queries: { combinations, wide, nine, one }, wideRows: question.facts.rows, first };
  } finally {
    await index.close();
    await engine.close();
  }
}

/** @param {Place} place @param {Conditions} conditions @returns {Promise<Table[]>} */
async function measure(place, conditions) {
  const { pool, server, progress } = place;
  const { sizes, mainRows, peerRows } = conditions.analytics;
  /** @type {Size[]} */
  const warms = [];
  /** @type {Table[]} */
  const tables = [];
  /** @type {Goal[]} */
  let goals = [];
  for (const wanted of sizes) {
    const shape = await fillTable(pool, wanted, progress);
    progress(`analytics: warming ${shape.rows} rows`);
    const ours = await firstWarm('ours', place);
    if (ours.result.totalRows !== shape.rows)
      throw new Error(`${ours.result.totalRows} of ${shape.rows} rows are warm`);
    const seed = wanted <= peerRows ? await firstWarm('seed', place) : undefined;
    const size = { rows: shape.rows, ours, seed };
    warms.push(size);
    if (wanted === mainRows) {
      const written = await firstWarm('written', place);
      await forget(server, PREFIX.written);
      Object.assign(size, { written });
      const { queries, wideRows, first } = await questions(place, shape, conditions);
      const again = await warmAgain(place, conditions.rounds > 3 ? 3 : 1);
      const swap = await swaps(place);
      tables.push(againTable(again), ...queryTables(queries, wideRows, first));
      goals = [...warmGoals(size, again, swap), ...queryGoals(queries)];
    }
    for (const prefix of Object.values(PREFIX)) await forget(server, prefix);
  }
  return [warmTable(warms), ...tables, goalTable(goals)];
}

/** @param {Queries} queries @param {number} wideRows @param {number[]} first @returns {Table[]} */
function queryTables({ combinations, wide, nine, one }, wideRows, first) {
  const rows = wideRows.toLocaleString('en-US');
  const timed =
    'Our answers come from frames that this process holds, after one question to the store: is the generation still current?';
  return [
    queryTable(
      'Questions of the analytics index, by practice-provider combinations',
      combinations,
      SEED,
      1,
      timed,
    ),
    queryTable(
      `One chart of ${rows} rows`,
      wide,
      'seed 2: rows, then added up by month',
      1,
      'Added up by month: 36 values. "Block" is the longest turn of the event loop of a call.',
    ),
    queryTable(
      `Nine charts of ${rows} rows at once`,
      nine,
      '9 x seed 2: rows, then added up by month',
      1,
      'Time until all nine are there.',
    ),
    queryTable('One practice, 100 concurrent', one, SEED, 100, 'Thirty-two practices by turns.'),
    {
      title: 'First question of an engine: 1,000 combinations as columns, every frame from the store',
      values: { 'p50 ms': median(first), 'longest ms': Math.max(...first) },
    },
  ];
}

/** @type {import('./report.mjs').Measurement['run']} */
export async function analytics(conditions) {
  const [postgres, server] = await Promise.all([startPostgres(), startValkey()]);
  const url = await postgres.createDatabase('bench_analytics');
  const pool = openPool(url);
  try {
    await pool.query(readFileSync(new URL('../demo/schema.sql', import.meta.url), 'utf8'));
    await pool.query('ALTER TABLE ih.agg_app_measures SET UNLOGGED');
    return await measure({ server, url, pool, progress: conditions.progress }, conditions);
  } finally {
    await pool.end();
    await server.stop();
    await postgres.stop();
  }
}
