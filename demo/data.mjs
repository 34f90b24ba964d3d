/**
 * Creates the demo's tables and fills them. It is not the plan of the rows (`plan.mjs`) and never
 * decides where to write: the caller hands in a `query` bound to a database made for this.
 * Invariant: application rows travel as parameters, measure rows are computed inside Postgres, so a
 * million of them cost seconds and no memory here.
 */
import { readFile } from 'node:fs/promises';
import { removeDashboard } from './dashboard/index.mjs';
import { FREQUENCIES, LAST_MONTH, MEASURES, PERIODS_MIN, plan } from './plan.mjs';

/**
 * @typedef {(text: string, params?: unknown[]) => Promise<Record<string, unknown>[]>} Query
 * @typedef {{ table: string, done: number, total: number }} Progress
 */

const BATCH_ROWS = 50_000;

/** Names are ours, never input, but they end up in SQL text: keep them boring. */
const TABLES_IN_ORDER = [
  'organizations',
  'users',
  'roles',
  'permissions',
  'role_permissions',
  'user_roles',
  'user_organizations',
  'token_blacklist',
  'chart_data_sources',
  'chart_data_source_columns',
];

/** @param {Query} query */
export async function installSchema(query) {
  await query(await readFile(new URL('./schema.sql', import.meta.url), 'utf8'));
}

/**
 * Removes what `installSchema` made and nothing else: anything foreign that depends on it stops this.
 * @param {Query} query
 */
export async function removeSchema(query) {
  await removeDashboard(query);
  await query(
    `DROP TABLE IF EXISTS ih.agg_app_measures, ih.agg_chart_data, ${TABLES_IN_ORDER.join(', ')};
     DROP SCHEMA IF EXISTS ih`,
  );
}

/**
 * Removes what runs that were killed have added for themselves. What is younger may belong to one that is running.
 * @param {Query} query
 */
export async function removeTraces(query) {
  const old = `< now() - interval '1 hour'`;
  await query(`DELETE FROM token_blacklist WHERE jti LIKE 'demo-live-%' AND blacklisted_at ${old}`);
  const people = `SELECT user_id FROM users WHERE email LIKE 'colleague-%@demo.invalid' AND created_at ${old}`;
  for (const table of ['user_roles', 'user_organizations', 'users'])
    await query(`DELETE FROM ${table} WHERE user_id IN (${people})`);
}

/**
 * @param {Query} query
 * @param {import('./plan.mjs').PlanOptions & { onProgress?: (progress: Progress) => void }} [options]
 * @returns {Promise<{ cast: import('./plan.mjs').Cast, counts: Record<string, number> }>}
 */
export async function generate(query, options = {}) {
  const { onProgress = () => {}, ...rest } = options;
  const planned = plan(rest);
  const counts = {};
  for (const table of TABLES_IN_ORDER) {
    const rows = planned.tables[table];
    onProgress({ table, done: 0, total: rows.length });
    await insertRows(query, table, rows);
    counts[table] = rows.length;
    onProgress({ table, done: rows.length, total: rows.length });
  }
  // Ids were given explicitly, so the sequences have to be moved past them.
  for (const [table, column] of [
    ['chart_data_sources', 'data_source_id'],
    ['chart_data_source_columns', 'column_id'],
  ]) {
    await query(
      `SELECT setval(pg_get_serial_sequence('${table}', '${column}'), (SELECT max(${column}) FROM ${table}))`,
    );
  }
  const { rows } = planned.options;
  counts['ih.agg_app_measures'] = await generateMeasures(query, planned, rows, onProgress);
  counts['ih.agg_chart_data'] = await copyToChartData(query, Math.ceil(rows / 10), onProgress);
  await query('ANALYZE');
  return { cast: planned.cast, counts };
}

/** @param {Query} query */
async function insertRows(query, table, rows) {
  const columns = Object.keys(rows[0]).join(', ');
  for (let at = 0; at < rows.length; at += 2000) {
    await query(
      `INSERT INTO ${table} (${columns}) SELECT ${columns} FROM jsonb_populate_recordset(NULL::${table}, $1::jsonb)`,
      [JSON.stringify(rows.slice(at, at + 2000))],
    );
  }
}

/**
 * Row number i counts periods fastest, then pairs, then (frequency, measure), monthly first: even a
 * small `rows` has complete monthly charts for every practice.
 */
async function generateMeasures(query, planned, rows, onProgress) {
  const pairs = planned.series;
  const groups = MEASURES.length * FREQUENCIES.length;
  const periods = Math.max(PERIODS_MIN, Math.ceil(rows / (pairs.length * groups)));
  for (let from = 0; from < rows; from += BATCH_ROWS) {
    const to = Math.min(rows, from + BATCH_ROWS);
    await query(MEASURES_SQL, [
      from,
      to - 1,
      periods,
      pairs.map((p) => p.uid),
      pairs.map((p) => p.name),
      pairs.map((p) => p.provider_uid),
      pairs.map((p) => p.provider_name),
      MEASURES.map(([name]) => name),
      MEASURES.map(([, type]) => type),
      FREQUENCIES,
      LAST_MONTH,
      planned.options.seed,
    ]);
    onProgress({ table: 'ih.agg_app_measures', done: to, total: rows });
  }
  return rows;
}

/** Noise is integer arithmetic, not random() or a hash: equal on every version of Postgres. */
const MEASURES_SQL = `
WITH pair AS (
  SELECT n - 1 AS n, uid, practice, provider_uid, provider_name
  FROM unnest($4::int[], $5::text[], $6::int[], $7::text[])
       WITH ORDINALITY AS t (uid, practice, provider_uid, provider_name, n)
), measure AS (
  SELECT n - 1 AS n, name, type FROM unnest($8::text[], $9::text[]) WITH ORDINALITY AS t (name, type, n)
), frequency AS (
  SELECT n - 1 AS n, name FROM unnest($10::text[]) WITH ORDINALITY AS t (name, n)
), size AS (
  SELECT (SELECT count(*) FROM pair) AS pairs, (SELECT count(*) FROM measure) AS measures
), numbered AS (
  SELECT i, i % $3::bigint AS period, (i / $3::bigint) % pairs AS pair_n,
         (i / $3::bigint / pairs) % measures AS measure_n, i / $3::bigint / pairs / measures AS frequency_n,
         ((i + 1) * 2654435761 + $12::bigint * 40503) % 10000 AS noise
  FROM generate_series($1::bigint, $2::bigint) AS i, size
)
INSERT INTO ih.agg_app_measures (practice, practice_primary, practice_uid, provider_name, provider_uid,
                                 measure, measure_type, frequency, date_index, measure_value)
SELECT p.practice, p.practice, p.uid, p.provider_name, p.provider_uid, m.name, m.type, f.name,
       CASE f.name
         WHEN 'Daily' THEN $11::date - x.period::int
         WHEN 'Weekly' THEN $11::date - 7 * x.period::int
         WHEN 'Quarterly' THEN ($11::date - make_interval(months => 3 * x.period::int))::date
         ELSE ($11::date - make_interval(months => x.period::int))::date
       END,
       CASE m.type
         WHEN 'percent' THEN x.noise / 100.0
         WHEN 'count' THEN 20 + x.noise % 480
         ELSE 8000 + x.noise * 3.17
       END::numeric(14, 2)
FROM numbered x
JOIN pair p ON p.n = x.pair_n
JOIN measure m ON m.n = x.measure_n
JOIN frequency f ON f.n = x.frequency_n
ORDER BY x.i`;

/** The second data source holds a part of the first under its own column names. */
async function copyToChartData(query, rows, onProgress) {
  onProgress({ table: 'ih.agg_chart_data', done: 0, total: rows });
  await query(
    `INSERT INTO ih.agg_chart_data
       SELECT practice_uid, practice, practice_primary, provider_uid, provider_name,
              CASE WHEN provider_uid IS NULL THEN 'practice' ELSE 'provider' END,
              coalesce(provider_uid, practice_uid)::text, coalesce(provider_name, practice),
              'Main office', measure, measure_type, frequency, date_index,
              to_char(date_index, 'YYYY-MM'), measure_value, NULL,
              jsonb_build_object('source', 'demo', 'practice_uid', practice_uid)
       FROM ih.agg_app_measures
       ORDER BY frequency, measure, practice_uid, provider_uid, date_index
       LIMIT $1`,
    [rows],
  );
  onProgress({ table: 'ih.agg_chart_data', done: rows, total: rows });
  return rows;
}
