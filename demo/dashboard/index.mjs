/**
 * The example dashboard of the demo data: a materialized view and the nine queries that answer when it cannot. Only
 * reads the SQL beside it; the product asks both.
 * Invariant: a group of the metrics is a file in `queries/` and a column of the view, under one name.
 */
import { readdir, readFile } from 'node:fs/promises';

export const SCHEMA = 'ih';
export const VIEW = 'practice_dashboard';

const read = (name) => readFile(new URL(name, import.meta.url), 'utf8');

/** The option `dashboard` of an engine on the demo's database. */
export async function dashboardOptions() {
  const names = (await readdir(new URL('queries/', import.meta.url))).filter((name) => name.endsWith('.sql'));
  const queries = await Promise.all(
    names.sort().map(async (name) => [name.replace(/\.sql$/, ''), await read(`queries/${name}`)]),
  );
  return { schema: SCHEMA, view: VIEW, queries: Object.fromEntries(queries) };
}

/** @param {import('../data.mjs').Query} query bound to a database with the demo's tables */
export async function installDashboard(query) {
  await query(await read('view.sql'));
}

/** @param {import('../data.mjs').Query} query */
export async function removeDashboard(query) {
  await query(`DROP MATERIALIZED VIEW IF EXISTS ${SCHEMA}.${VIEW}`);
}
