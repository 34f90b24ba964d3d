/**
 * The table of the analytics measurements: an application's measure rows, from 50,000 to 5,000,000 of them, and which of its
 * practices make so many practice-provider combinations. Not the demo's data, which is smaller and has people.
 * Invariant: the same number of rows is the same table, byte for byte, on every machine.
 */

/**
 * @typedef {import('pg').Pool} Pool
 *
 * @typedef {object} Shape
 * @property {number} rows of the whole table
 * @property {number} practices
 * @property {number} pairs practice-provider combinations of the wide measure, those without a provider included
 * @property {number} wideRows of the wide measure
 */

export const DATA_SOURCE = 1;
/** The measure that a dashboard's widest charts are of. */
export const WIDE = { measure: 'Charges', frequency: 'Monthly' };
/** At a million rows and more, this many rows are of the wide measure. */
const WIDE_ROWS = 281_000;
export const PERIODS = 36;
const OTHER_PERIODS = 24;
export const FIRST_MONTH = '2022-10-01';
export const LAST_MONTH = '2025-09-01';
const MEASURES = [
  ['Charges', 'currency'],
  ['Payments', 'currency'],
  ['New Patients', 'count'],
  ['Completed Visits', 'count'],
  ['Cancellation Rate', 'percent'],
  ['Work RVU', 'count'],
  ['Adjustments', 'currency'],
  ['No Shows', 'count'],
  ['Days in A/R', 'count'],
  ['Infusion Visits', 'count'],
  ['Telehealth Share', 'percent'],
  ['Referrals', 'count'],
];
const FREQUENCIES = ['Monthly', 'Weekly', 'Quarterly', 'Daily'];
/** Row number i of a statement; a statement holds no more. */
const BATCH_ROWS = 250_000;

/** Lines of a practice: one for the practice as a whole, the others for a provider each; ten on average. @param {number} practice */
const linesOf = (practice) => 3 + ((practice * 7) % 15);

/** @param {number} rows @returns {Shape & { series: { practice: number, line: number }[] }} */
function shapeOf(rows) {
  const wide = Math.min(WIDE_ROWS, Math.round(rows * 0.281));
  const wanted = Math.floor(wide / PERIODS);
  /** @type {{ practice: number, line: number }[]} */
  const series = [];
  let practices = 0;
  while (series.length < wanted) {
    for (let line = 0; line < linesOf(practices) && series.length < wanted; line += 1)
      series.push({ practice: 100 + practices, line });
    practices += 1;
  }
  return { rows, practices, pairs: series.length, wideRows: series.length * PERIODS, series };
}

/**
 * The practices that come first and have together at least so many combinations of the wide measure, and how many that are.
 * @param {Shape} shape @param {number} wanted
 */
export function practicesOf({ practices, pairs }, wanted) {
  /** @type {number[]} */
  const uids = [];
  let combinations = 0;
  for (let at = 0; at < practices && combinations < wanted; at += 1) {
    uids.push(100 + at);
    combinations += linesOf(at);
  }
  return { uids, combinations: Math.min(combinations, pairs) };
}

const COLUMNS = [
  ['practice', 'text', ''],
  ['practice_primary', 'text', ''],
  ['practice_uid', 'integer', ''],
  ['provider_name', 'text', ''],
  ['provider_uid', 'integer', ''],
  ['measure', 'text', ''],
  ['measure_type', 'text', ''],
  ['frequency', 'text', 'is_time_period'],
  ['date_index', 'date', 'is_date_field'],
  ['measure_value', 'numeric', 'is_measure'],
];

/**
 * Makes the table anew. @param {Pool} pool @param {number} rows
 * @param {(text: string) => void} progress @returns {Promise<Shape>}
 */
export async function fillTable(pool, rows, progress) {
  const { series, ...shape } = shapeOf(rows);
  await pool.query('TRUNCATE ih.agg_app_measures');
  await pool.query('DROP INDEX IF EXISTS ih.agg_app_measures_lookup');
  await pool.query('DELETE FROM chart_data_source_columns');
  await pool.query('DELETE FROM chart_data_sources');
  await pool.query(
    `INSERT INTO chart_data_sources (data_source_id, data_source_name, table_name, schema_name)
     VALUES ($1, 'Measures', 'agg_app_measures', 'ih')`,
    [DATA_SOURCE],
  );
  for (const [name, type, flag] of COLUMNS) {
    const flags = flag === '' ? ['', ''] : [`, ${flag}`, ', true'];
    await pool.query(
      `INSERT INTO chart_data_source_columns (data_source_id, column_name, display_name, data_type${flags[0]})
       VALUES ($1, $2, $2, $3${flags[1]})`,
      [DATA_SOURCE, name, type],
    );
  }
  const groups = MEASURES.length * FREQUENCIES.length;
  const others = Math.max(1, Math.round((rows - shape.wideRows) / (groups - 1) / OTHER_PERIODS));
  const practice = series.map((one) => one.practice);
  const line = series.map((one) => one.line);
  const narrow = Math.min(others, series.length);
  const all = PERIODS * shape.pairs + OTHER_PERIODS * narrow * (groups - 1);
  for (let from = 0; from < all; from += BATCH_ROWS) {
    progress(`analytics: writing ${rows} rows, ${Math.round((100 * from) / all)} %`);
    const given = [from, Math.min(all, from + BATCH_ROWS) - 1, practice, line, narrow];
    await pool.query(ROWS, [
      ...given,
      MEASURES.map(([name]) => name),
      MEASURES.map(([, type]) => type),
      FREQUENCIES,
    ]);
  }
  await pool.query(
    'CREATE INDEX agg_app_measures_lookup ON ih.agg_app_measures (measure, frequency, practice_uid, date_index)',
  );
  await pool.query('VACUUM ANALYZE ih.agg_app_measures');
  const counted = await pool.query('SELECT count(*)::int AS rows FROM ih.agg_app_measures');
  return { ...shape, rows: counted.rows[0].rows };
}

/**
 * By period, as a warehouse appends them: rows of one practice do not lie together. First the wide measure, then the others.
 * Noise is integer arithmetic.
 */
const ROWS = `
WITH pair AS (
  SELECT n - 1 AS n, uid, line FROM unnest($3::int[], $4::int[]) WITH ORDINALITY AS t (uid, line, n)
), measure AS (
  SELECT n - 1 AS n, name, type FROM unnest($6::text[], $7::text[]) WITH ORDINALITY AS t (name, type, n)
), frequency AS (
  SELECT n - 1 AS n, name FROM unnest($8::text[]) WITH ORDINALITY AS t (name, n)
), size AS (
  SELECT cardinality($3::int[]) AS pairs, cardinality($6::text[]) AS measures, ${PERIODS} * cardinality($3::int[]) AS wide
), numbered AS (
  SELECT i, i < wide AS is_wide, pairs, measures, CASE WHEN i < wide THEN i ELSE i - wide END AS at
  FROM generate_series($1::bigint, $2::bigint) AS i, size
), placed AS (
  SELECT i, ((i + 1) * 2654435761) % 10000 AS noise,
         CASE WHEN is_wide THEN at % pairs ELSE at % $5::int END AS pair_n,
         CASE WHEN is_wide THEN at / pairs ELSE at / $5::int % ${OTHER_PERIODS} END AS period,
         CASE WHEN is_wide THEN 0 ELSE at / $5::int / ${OTHER_PERIODS} + 1 END AS group_n, measures
  FROM numbered
)
INSERT INTO ih.agg_app_measures (practice, practice_primary, practice_uid, provider_name, provider_uid,
                                 measure, measure_type, frequency, date_index, measure_value)
SELECT 'Practice ' || p.uid || ' of the Northern Group', 'Practice ' || p.uid || ' of the Northern Group', p.uid,
       CASE WHEN p.line > 0 THEN 'Firstname-' || p.line || ' Lastname-' || p.uid || ', MD' END,
       CASE WHEN p.line > 0 THEN p.uid * 100 + p.line END, m.name, m.type, f.name,
       CASE f.name
         WHEN 'Daily' THEN date '${LAST_MONTH}' - x.period::int
         WHEN 'Weekly' THEN date '${LAST_MONTH}' - 7 * x.period::int
         WHEN 'Quarterly' THEN (date '${LAST_MONTH}' - make_interval(months => 3 * x.period::int))::date
         ELSE (date '${LAST_MONTH}' - make_interval(months => x.period::int))::date
       END,
       CASE m.type
         WHEN 'percent' THEN x.noise / 100.0
         WHEN 'count' THEN 20 + x.noise % 480
         ELSE 8000 + x.noise * 3.17
       END::numeric(14, 2)
FROM placed x
JOIN pair p ON p.n = x.pair_n
JOIN measure m ON m.n = x.group_n % x.measures
JOIN frequency f ON f.n = x.group_n / x.measures
ORDER BY x.i`;

/**
 * Changes about one row in a hundred. `together`: of the first practices, as when one site corrects its books; else every
 * hundredth row of all. @param {Pool} pool @param {boolean} together
 */
export async function changeRows(pool, together) {
  const { rows } = await pool.query(
    together
      ? `WITH counted AS (SELECT practice_uid, sum(count(*)) OVER (ORDER BY practice_uid) AS upTo, sum(count(*)) OVER () AS total
                          FROM ih.agg_app_measures GROUP BY practice_uid),
              chosen AS (SELECT practice_uid FROM counted WHERE upTo <= total / 100
                         UNION SELECT min(practice_uid) FROM counted),
              changed AS (UPDATE ih.agg_app_measures SET measure_value = measure_value + 1
                          WHERE practice_uid IN (SELECT practice_uid FROM chosen) RETURNING 1)
         SELECT count(*)::int AS changed FROM changed`
      : `WITH chosen AS (SELECT ctid FROM (SELECT ctid, row_number() OVER () AS n FROM ih.agg_app_measures) q WHERE n % 100 = 0),
              changed AS (UPDATE ih.agg_app_measures SET measure_value = measure_value + 1
                          WHERE ctid = ANY(ARRAY(SELECT ctid FROM chosen)) RETURNING 1)
         SELECT count(*)::int AS changed FROM changed`,
  );
  return Number(rows[0].changed);
}
