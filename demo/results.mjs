/**
 * Charts that ask the same questions, and the refresh button: how many statements they cost, who sees a changed row and
 * when. Engines of its own, so that everybody is new.
 * Invariant: a statement is counted where it is sent; what a chart shows is compared with what Postgres says.
 */
import { CHARTS, chart, DATA_SOURCE } from './dashboard.mjs';
import { isShared } from './engines.mjs';
import { statements } from './statements.mjs';

/** As many as a large dashboard of the plan has. */
const LARGE = 11;
const QUESTIONS = new Set(CHARTS.map(({ measure }) => measure)).size;

/**
 * @param {{ engines: Awaited<ReturnType<typeof import('./engines.mjs').openEngines>>,
 *   query: import('./statements.mjs').CountedQuery, counts: () => Record<string, number>, pool: import('pg').Pool,
 *   database: Awaited<ReturnType<typeof import('./database.mjs').openDatabase>>,
 *   judge: ReturnType<typeof import('./judge.mjs').createJudge>,
 *   say: (text: string, of?: { done: number, total: number }) => void }} input
 */
export async function playResults({ engines, query, counts, pool, database, judge, say }) {
  say('charts that ask the same questions, and the refresh button');
  const first = await engines.open('results');
  const all = isShared(first) ? [first, await engines.open('results')] : [first];
  const sql = statements(query);
  const held = await first.getCachedUserContext(database.cast.analyst);
  const charts = Array.from({ length: LARGE }, (_, at) => CHARTS[at % CHARTS.length]);
  const open = (refresh = false, which = charts) =>
    Promise.all(which.map((filters, at) => chart(all[at % all.length], sql, filters, held, refresh)));
  const sent = async (/** @type {() => Promise<any>} */ play) => {
    const before = counts().data ?? 0;
    const shown = await play();
    return { shown, statements: (counts().data ?? 0) - before };
  };

  const cold = await sent(open);
  judge.equal('results: one statement for each question', cold.statements, QUESTIONS);
  const warm = await sent(open);
  judge.equal('results: asked again, none', warm.statements, 0);

  const same = charts.filter(({ measure }) => measure === CHARTS[0].measure);
  const change = await changedRow({ pool, database, practices: held.accessible_practices });
  try {
    const seen = (shown) => shown.filter(({ data }) => sumOf(data) !== sumOf(cold.shown[0].data)).length;
    const before = await sent(() => open(false, same));
    const refresh = await sent(() => open(true, [CHARTS[0]]));
    judge.equal('results: the refresh button runs its statement', refresh.statements, 1);
    judge.equal(
      'results: and shows the changed row',
      sumOf(refresh.shown[0].data),
      sumOf(cold.shown[0].data) + change.by,
    );
    const afterwards = await sent(() => open(false, same));
    judge.equal('results: and so does everybody else, without another', afterwards.statements, 0);
    judge.equal('results: nobody shows the old row any more', seen(afterwards.shown), same.length);
    await change.undo();
    const { acknowledged } = await first.invalidateDataSourceCaches(DATA_SOURCE);
    judge.equal('results: a data source is made void', acknowledged, true);
    const voided = await sent(open);
    judge.equal('results: which every question notices', voided.statements, QUESTIONS);
    judge.equal('results: as at the beginning', voided.shown.map(rowsOf), cold.shown.map(rowsOf));
    return {
      charts: charts.length,
      questions: QUESTIONS,
      engines: all.length,
      cold: cold.statements,
      warm: warm.statements,
      seenBefore: seen(before.shown),
      refresh: refresh.statements,
      afterwards: afterwards.statements,
      oldAfterwards: same.length - seen(afterwards.shown),
      voided: voided.statements,
    };
  } finally {
    await change.undo();
  }
}

const rowsOf = ({ data }) => data;
/** Cents, so that sums are exact. */
const sumOf = (rows) => rows.reduce((sum, row) => sum + Math.round(row.measure_value * 100), 0);

/** Adds to one row that the first chart shows, until it is undone. */
async function changedRow({ pool, database, practices }) {
  const { measure, frequency, start_date, end_date } = CHARTS[0];
  const by = 100;
  const { rows } = await pool.query(
    `UPDATE ih.agg_app_measures SET measure_value = measure_value + 1
     WHERE ctid = (SELECT ctid FROM ih.agg_app_measures
                   WHERE measure = $1 AND frequency = $2 AND date_index BETWEEN $3 AND $4 AND practice_uid = ANY($5)
                     AND measure_value IS NOT NULL LIMIT 1)
     RETURNING practice_uid, provider_uid, date_index::text AS date`,
    [measure, frequency, start_date, end_date, practices],
  );
  const [{ practice_uid, provider_uid, date }] = rows;
  const undo = database.owe(() =>
    pool.query(
      `UPDATE ih.agg_app_measures SET measure_value = measure_value - 1
       WHERE measure = $1 AND frequency = $2 AND date_index = $3 AND practice_uid = $4
         AND provider_uid IS NOT DISTINCT FROM $5`,
      [measure, frequency, date, practice_uid, provider_uid],
    ),
  );
  return { by, undo };
}
