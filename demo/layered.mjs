/**
 * The dual-layer dashboard: one question that the store, a materialized view and nine queries can answer. Which layer
 * answers and how long it takes: everything gone, the view alone, the store; then data change and the view is refreshed.
 * Invariant: every answer is compared with what the nine queries say to a connection of the demo's own.
 */
import { dashboardOptions, installDashboard, removeDashboard, VIEW } from './dashboard/index.mjs';
import { withClient } from './database.mjs';
import { isShared } from './engines.mjs';
import { percentiles } from './figures.mjs';

/**
 * @param {{ database: Awaited<ReturnType<typeof import('./database.mjs').openDatabase>>, pool: import('pg').Pool,
 *   engines: Awaited<ReturnType<typeof import('./engines.mjs').openEngines>>, quick: boolean,
 *   judge: ReturnType<typeof import('./judge.mjs').createJudge>,
 *   say: (text: string, of?: { done: number, total: number }) => void }} input
 */
export async function playLayered({ database, pool, engines, quick, judge, say }) {
  if (!database.mayCreate) return { skipped: 'a materialized view is only made with --install' };
  say('one dashboard from three layers');
  const dashboard = await dashboardOptions();
  const first = await engines.open('layered', { dashboard });
  const all = isShared(first) ? [first, await engines.open('layered', { dashboard })] : [first];
  const truth = () => groupsOf(pool, dashboard.queries);
  const rounds = quick ? 5 : 20;
  const play = async (name, layer, before) => {
    const seen = [];
    for (let round = 0; round < rounds; round += 1) {
      await before?.();
      const { performance, ...groups } = await all[round % all.length].getDashboardMetrics();
      judge.equal(`layers: ${name}: which one answered`, performance.cacheLayer, layer);
      seen.push({ performance, groups });
    }
    judge.equal(`layers: ${name}: every answer is what the queries say`, seen.at(-1)?.groups, await truth());
    return percentiles(seen.map(({ performance }) => performance.queryTime));
  };
  const forget = () => first.invalidateDashboardCache();

  const undo = database.owe(() => withClient(database.url, removeDashboard));
  try {
    const queries = await play('no view', 'database', forget);
    await withClient(database.url, installDashboard);
    const view = await play('the view', 'materialized_view', forget);
    await all[0].warmUpDashboardCache();
    const store = await play('the store', 'redis');
    const refreshed = await refresh({ pool, database, all, judge, truth });
    const health = await first.getCacheHealth();
    judge.equal('layers: the view is healthy', health.materializedView.healthy, true);
    return { view: VIEW, engines: all.length, rounds, queries, layers: { view, store }, refreshed };
  } finally {
    await undo();
  }
}

/** Somebody is deactivated: until the view is refreshed the dashboard says otherwise, and nobody after it does. */
async function refresh({ pool, database, all, judge, truth }) {
  const id = database.cast.provider;
  const set = (/** @type {boolean} */ active) =>
    pool.query('UPDATE users SET is_active = $2 WHERE user_id = $1', [id, active]);
  const undo = database.owe(() => set(true));
  try {
    await set(false);
    const before = await all[0].getDashboardMetrics();
    const expected = await truth();
    const old = before.people.active !== expected.people.active;
    judge.equal('layers: before the refresh the old figures', old, true);
    const from = performance.now();
    const { acknowledged } = await all[0].refreshDashboardMetrics();
    const ms = performance.now() - from;
    judge.equal('layers: the refresh is acknowledged', acknowledged, true);
    const answers = await Promise.all(all.map((engine) => engine.getDashboardMetrics()));
    for (const { performance: _, ...groups } of answers) {
      judge.equal('layers: after the refresh everybody sees the new figures', groups, expected);
    }
    return { ms };
  } finally {
    await undo();
  }
}

async function groupsOf(pool, queries) {
  const groups = {};
  for (const [group, sql] of Object.entries(queries)) {
    const { rows } = await pool.query(`SELECT to_json(q) AS it FROM (\n${sql}\n) AS q LIMIT 1`);
    groups[group] = rows[0]?.it ?? null;
  }
  return groups;
}
