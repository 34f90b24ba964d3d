/**
 * Asking the analytics index: for more and more practice-provider combinations as rows, columns, JSON and an aggregate, beside
 * the plan's index and beside SQL; a chart of the widest measure; nine of them at once; one practice a hundred times at once.
 * Invariant: every answer has as many rows, and in cents the same sum, as SQL says; a question that left the cache ends the run.
 */

import { AnalyticsCacheV2 } from '../index.js';
import { DATA_SOURCE, practicesOf, WIDE } from './analytics-data.mjs';
import { blocks } from './block.mjs';
import { compare } from './measure.mjs';
import { sumByMonth } from './seed-index.mjs';

/**
 * @typedef {import('./measure.mjs').Variant} Variant
 * @typedef {import('./measure.mjs').Row} Row
 * @typedef {import('./seed-index.mjs').MeasureRow} MeasureRow
 * @typedef {{ rows: number, cents: number }} Facts
 * @typedef {{ measure: string, frequency: string, practiceUids?: number[] }} Filters
 * @typedef {{ filters: Filters, facts: Facts, months: { month: string, sum: number }[] }} Question
 * @typedef {{ rounds: number, roundMs: number }} Plan
 */

export const SEED = 'seed 2: rows';
export const BY_MONTH = {
  groupBy: [{ column: 'date_index', unit: /** @type {const} */ ('month') }],
  metrics: [{ function: /** @type {const} */ ('sum'), column: 'measure_value', as: 'sum' }],
};
const COMBINATIONS = [10, 100, 1_000, 5_000];
const SELECT = `SELECT practice, practice_primary, practice_uid, provider_name, provider_uid, measure, measure_type,
  frequency, date_index, measure_value FROM ih.agg_app_measures WHERE measure = $1 AND frequency = $2`;

const centsOf = (/** @type {Iterable<number>} */ values) => {
  let cents = 0;
  for (const value of values) cents += Math.round(value * 100);
  return cents;
};

/** @param {import('pg').Pool} pool @param {Filters} filters @returns {Promise<Question>} */
async function asked(pool, filters) {
  const { measure, frequency, practiceUids } = filters;
  const { rows } = await pool.query(
    `SELECT date_trunc('month', date_index::timestamp)::date AS month, count(*)::int AS rows, sum(measure_value) AS sum
     FROM ih.agg_app_measures WHERE measure = $1 AND frequency = $2 AND ($3::int[] IS NULL OR practice_uid = ANY($3))
     GROUP BY 1 ORDER BY 1`,
    [measure, frequency, practiceUids ?? null],
  );
  const months = rows.map(({ month, sum }) => ({ month, sum: Number(sum) }));
  const count = rows.reduce((all, { rows: some }) => all + Number(some), 0);
  return { filters, facts: { rows: count, cents: centsOf(months.map(({ sum }) => sum)) }, months };
}

/** What is known of an answer, in each of its forms. */
const FORMS = {
  rows: (/** @type {any} */ answer) => ({
    rows: answer.length,
    cents: () => centsOf(answer.map((/** @type {MeasureRow} */ row) => row.measure_value)),
  }),
  columns: (/** @type {any} */ answer) => ({
    rows: answer.rowCount,
    cents: () => centsOf(answer.columns.measure_value.values),
  }),
  json: (/** @type {any} */ answer) => {
    const rows = JSON.parse(answer.toString());
    return {
      rows: rows.length,
      cents: () => centsOf(rows.map((/** @type {MeasureRow} */ row) => row.measure_value)),
    };
  },
};

/** @param {keyof typeof FORMS} form @param {Question[]} questions */
const rightRows = (form, questions) => (/** @type {unknown} */ answer, /** @type {number} */ index) => {
  const { facts } = /** @type {Question} */ (questions[index]);
  const { rows, cents } = FORMS[form](answer);
  return rows === facts.rows && cents() === facts.cents;
};
/** @param {Question[]} questions */
const rightMonths = (questions) => (/** @type {any} */ answer, /** @type {number} */ index) => {
  const { months } = /** @type {Question} */ (questions[index]);
  const isRight = (/** @type {{ month: string, sum: number }} */ { month, sum }, /** @type {number} */ at) =>
    (answer[at].month ?? answer[at].date_index) === month &&
    Math.round(answer[at].sum * 100) === Math.round(sum * 100);
  return answer.length === months.length && months.every(isRight);
};
// While the clock runs, only whether there is an answer: adding up takes longer than some of the calls.
const glance = (/** @type {any} */ answer) => answer.length > 0 || answer.rowCount > 0;

/**
 * Everybody's way of asking these questions.
 * @param {Asked} who @param {Question[]} questions
 */
function variants({ cache, index, pool }, questions) {
  const filters = (/** @type {number} */ at) => /** @type {Question} */ (questions[at]).filters;
  const own = (/** @type {number} */ at) => ({ datasourceId: DATA_SOURCE, ...filters(at) });
  const rows = { right: rightRows('rows', questions), glance };
  const months = { right: rightMonths(questions), glance };
  const sql = async (/** @type {Filters} */ { measure, frequency, practiceUids }) =>
    (
      await pool.query(
        `${SELECT} AND ($3::int[] IS NULL OR practice_uid = ANY($3)) ORDER BY date_index, practice_uid, provider_uid`,
        [measure, frequency, practiceUids ?? null],
      )
    ).rows;
  /** @type {Record<string, Variant>} */
  const all = {
    rows: { name: 'bcos-cache: rows', call: (at) => cache.query(own(at)), ...rows },
    columns: {
      name: 'bcos-cache: columns',
      call: (at) => cache.queryColumns(own(at)),
      right: rightRows('columns', questions),
      glance,
    },
    json: {
      name: 'bcos-cache: JSON',
      call: (at) => cache.queryJson(own(at)),
      right: rightRows('json', questions),
      glance,
    },
    aggregate: {
      name: 'bcos-cache: aggregate by month',
      call: (at) => cache.aggregate({ ...own(at), ...BY_MONTH }),
      ...months,
    },
    seed: { name: SEED, call: (at) => index.query(filters(at)), ...rows },
    seedJson: {
      name: 'seed 2: rows, then JSON',
      call: async (at) => Buffer.from(JSON.stringify(await index.query(filters(at)))),
      right: rightRows('json', questions),
      glance,
    },
    seedMonths: {
      name: 'seed 2: rows, then added up by month',
      call: async (at) => sumByMonth(await index.query(filters(at))),
      ...months,
    },
    sql: { name: 'no cache: SQL, rows', call: (at) => sql(filters(at)), ...rows },
    sqlMonths: {
      name: 'no cache: SQL, rows added up by month',
      call: async (at) => sumByMonth(await sql(filters(at))),
      ...months,
    },
  };
  return all;
}

/** @param {Record<string, Variant>} all @param {string[]} names @returns {Variant[]} */
const chosen = (all, names) => names.map((name) => /** @type {Variant} */ (all[name]));

/**
 * @typedef {{ cache: import('../index.js').AnalyticsCacheV2, index: import('./seed-index.mjs').SeedIndex, pool: import('pg').Pool,
 *   shape: import('./analytics-data.mjs').Shape, plan: Plan, progress: (text: string) => void }} Asked
 */

/** @param {Asked} who */
export async function byCombinations(who) {
  const { pool, shape, plan, progress } = who;
  /** @type {Row[]} */
  const rows = [];
  for (const wanted of COMBINATIONS) {
    const { uids, combinations } = practicesOf(shape, wanted);
    if (combinations < wanted) continue;
    progress(`analytics: questions of ${combinations} combinations`);
    const question = await asked(pool, { ...WIDE, practiceUids: uids });
    const all = variants(who, [question]);
    const names = ['rows', 'columns', 'json', 'aggregate', 'seed', 'seedJson', 'seedMonths', 'sql'];
    const measured = await compare(chosen(all, names), { concurrency: 1, keys: 1, ...plan });
    const group = `${combinations} combinations, ${question.facts.rows.toLocaleString('en-US')} rows`;
    rows.push(...measured.map((row) => ({ ...row, group })));
  }
  return rows;
}

/** The widest measure as one chart: latency, and the longest turn of the event loop. @param {Asked} who */
export async function wideChart(who) {
  const { pool, plan, progress } = who;
  progress('analytics: one chart of the widest measure');
  const question = await asked(pool, WIDE);
  const all = variants(who, [question]);
  const measured = chosen(all, ['aggregate', 'columns', 'json', 'rows', 'seedMonths', 'sqlMonths']);
  const whole = { concurrency: 1, keys: 1, ...plan };
  const rows = await compare(measured, whole);
  const blocked = await blocks(measured, { ...whole, roundMs: plan.roundMs / 2 }, false);
  return { question, rows: rows.map((row, at) => ({ ...row, counts: { ...blocked[at], ...row.counts } })) };
}

/** A dashboard of nine charts of the widest measure, all at once. @param {Asked} who */
export async function nineCharts(who) {
  const { pool, plan, progress } = who;
  progress('analytics: nine charts at once');
  const question = await asked(pool, WIDE);
  const all = variants(who, [question]);
  const nine = (/** @type {Variant} */ { name, call, right }) => ({
    name: `9 x ${name}`,
    call: () => Promise.all(Array.from({ length: 9 }, () => call(0))),
    right: (/** @type {unknown} */ answers) =>
      /** @type {unknown[]} */ (answers).every((answer) => right(answer, 0)),
    glance: (/** @type {unknown} */ answers) => /** @type {unknown[]} */ (answers).every(glance),
  });
  const measured = chosen(all, ['aggregate', 'columns', 'json', 'rows', 'seedMonths', 'sqlMonths']).map(nine);
  // One call takes seconds of the peers: a round is at least one.
  return compare(measured, {
    concurrency: 1,
    keys: 1,
    rounds: Math.min(plan.rounds, 3),
    roundMs: plan.roundMs,
  });
}

/** One practice each, a hundred callers. @param {Asked} who */
export async function onePractice(who) {
  const { pool, shape, plan, progress } = who;
  progress('analytics: one practice, 100 concurrent');
  const uids = Array.from({ length: Math.min(32, shape.practices) }, (_, at) => 100 + at);
  const questions = await Promise.all(uids.map((uid) => asked(pool, { ...WIDE, practiceUids: [uid] })));
  const all = variants(who, questions);
  const names = ['aggregate', 'rows', 'json', 'seed', 'seedMonths'];
  return compare(chosen(all, names), { concurrency: 100, keys: questions.length, ...plan });
}

/**
 * The first question of a process: nothing of the index is in it yet. @param {Asked} who @param {() => Promise<import('../index.js').Engine>} open
 * @returns {Promise<number[]>} milliseconds
 */
export async function firstQuestions({ pool, shape, progress }, open) {
  progress('analytics: the first question of an engine');
  const question = await asked(pool, { ...WIDE, practiceUids: practicesOf(shape, 1_000).uids });
  const taken = [];
  for (let turn = 0; turn < 5; turn += 1) {
    const engine = await open();
    const from = performance.now();
    const answer = await new AnalyticsCacheV2(engine).queryColumns({
      datasourceId: DATA_SOURCE,
      ...question.filters,
    });
    taken.push(performance.now() - from);
    await engine.close();
    if (!rightRows('columns', [question])(answer, 0)) throw new Error('the first answer was wrong');
  }
  return taken;
}
