/**
 * Plays "one analyst opens one dashboard": five requests of the page, then six charts in parallel,
 * with plain SQL, through the cache step by step, and with one call per request. Not a benchmark
 * harness and not a check of the answers (`checks.mjs`); it only asks.
 * Invariant: all modes run the same code; they differ in nothing but the `steps` handed in.
 *
 * Where the 113 statements of the plan come from
 * ----------------------------------------------
 * The plan counted 113 queries for one dashboard, among them 22 reads of token_blacklist, 33 of users
 * and 55 of roles and permissions, and it names 6 parallel chart requests. 22, 33 and 55 share the
 * factor 11, so the sequence below has 11 requests: 6 charts and 5 of the page itself. Each is
 * authenticated twice, once in the middleware and once in the route:
 *
 *   token_blacklist    2 per request: middleware, route                        11 x 2 =  22
 *   users              3 per request: middleware, route, user context          11 x 3 =  33
 *   roles, permissions 5 per request: role assignments, permissions,
 *                      memberships, organization tree, permission check        11 x 5 =  55
 *   the page's own     data sources, their columns, practice filter                      3
 *                                                                     application:     113
 *   data source rows   1 per chart, on the analytics pool                                6
 *                                                                     total:           119
 *
 * The plan gives the three sums but not the remaining three statements, nor how the reads divide
 * among requests; both are our reading of it. Its six data source queries cannot be inside its 113
 * (22 + 33 + 55 + 6 is already 116), so they are counted apart, as the second pool they belong to.
 */

import { organizationIds, statements } from './statements.mjs';
import { TokenError } from './tokens.mjs';

/** Two years of five measures: what the analyst's dashboard shows. One of them as a line and as a table. */
export const CHARTS = [
  'Charges',
  'Payments',
  'New Patients',
  'Completed Visits',
  'Cancellation Rate',
  'Charges',
].map((measure) => ({ measure, frequency: 'Monthly', start_date: '2023-10-01', end_date: '2025-09-30' }));
export const REQUESTS = 5 + CHARTS.length;
/** What `uncached` must send; the run fails when the played sequence drifts from it. */
export const EXPECTED_STATEMENTS = {
  blacklist: 2 * REQUESTS,
  user: 3 * REQUESTS,
  rbac: 5 * REQUESTS,
  page: 3,
  data: CHARTS.length,
};
/** What every request of the dashboard needs. */
export const PERMISSION = 'analytics:read:organization';
export const DATA_SOURCE = 1;
/** How long the page's own reads are kept. */
const PAGE_SECONDS = 300;

/**
 * @typedef {import('./statements.mjs').Row} Row
 * @typedef {import('./statements.mjs').Context} Context
 * @typedef {{ jti: string, user_id: string, iat: number, exp: number }} Claims
 *
 * @typedef {{ ok: true, payload: Claims, user: Row, context: Context } | { ok: false, reason: string }} Admission
 *
 * @typedef {object} Steps
 * @property {'uncached' | 'cached' | 'one call'} mode
 * @property {(token: string) => Promise<Admission>} [authorize]  all of the next five at once
 * @property {(token: string) => Promise<Claims>} verify
 * @property {(jti: string) => Promise<boolean>} isRevoked
 * @property {(userId: string) => Promise<Row | null>} user
 * @property {(userId: string) => Promise<Context | null>} context  null for a user who may not act
 * @property {(context: Context, permission: string) => Promise<boolean>} isAllowed
 * @property {() => Promise<Row[]>} dataSources
 * @property {(dataSourceId: number) => Promise<Row[]>} dataSourceColumns
 * @property {(context: Context) => Promise<Row[]>} practiceChoices
 * @property {(filters: import('./statements.mjs').ChartFilters, context: Context) => Promise<Row[]>} chartRows
 */

/**
 * Every answer from Postgres, one SELECT per question.
 * @param {import('./statements.mjs').CountedQuery} query
 * @param {(token: string) => Claims} verify
 * @returns {Steps}
 */
export function uncached(query, verify) {
  const sql = statements(query);
  return {
    ...sql,
    mode: 'uncached',
    verify: async (token) => verify(token),
    context: async (userId) => {
      const user = await sql.user(userId);
      return user && sql.context(user);
    },
    chartRows: (filters, context) => sql.chartRows(filters, context.accessible_practices),
  };
}

/**
 * The same questions asked of an engine. One question is not asked any more: which practices the filter of the page
 * offers is in the context, whole organizations of which come with it.
 * @param {import('../index.js').Engine} engine
 * @param {import('./statements.mjs').CountedQuery} query
 * @param {(token: string) => Claims} verify
 * @returns {Steps}
 */
export function cached(engine, query, verify) {
  const sql = statements(query);
  const values = engine.redisCacheService;

  return {
    ...sql,
    mode: 'cached',
    verify: (token) => engine.verifyTokenCached(token, verify),
    isRevoked: (jti) => engine.isTokenBlacklisted(jti),
    user: (userId) => engine.getUserById(userId),
    context: (userId) => engine.getCachedUserContext(userId).catch(nullWhenNotFound),
    isAllowed: async (held, permission) => engine.hasPermission(held, permission),
    // The same for everybody, so their keys need no user in them.
    dataSources: () => values.getOrSet('data-sources', sql.dataSources, PAGE_SECONDS),
    dataSourceColumns: (id) =>
      values.getOrSet(`data-source-columns:${id}`, () => sql.dataSourceColumns(id), PAGE_SECONDS),
    practiceChoices: async (context) => practicesOf(context),
    chartRows: async (filters, held) => (await chart(engine, sql, filters, held)).data,
  };
}

/**
 * The rows of one chart, by whoever asks first; `refresh` is the button beside it.
 * @param {import('../index.js').Engine} engine
 * @param {ReturnType<typeof statements>} sql
 * @param {import('./statements.mjs').ChartFilters} filters
 * @param {Context} held
 * @param {boolean} [refresh]
 */
export function chart(engine, sql, filters, held, refresh = false) {
  const params = { data_source_id: DATA_SOURCE, ...filters };
  const run = async () => {
    const from = performance.now();
    const data = await sql.chartRows(filters, held.accessible_practices);
    return { data, query_time_ms: performance.now() - from };
  };
  return engine.queryDataSourceWithCache(params, organizationIds(held), run, refresh);
}

/** The entries of the practice filter: the context has them already, in the order of their names. */
const practicesOf = (context) =>
  context.accessible_organizations
    .filter((o) => o.practice_uids.length > 0)
    .map(({ organization_id, name, practice_uids }) => ({ organization_id, name, practice_uids }));

/**
 * As `cached`, with one question per request instead of one per step.
 * @param {import('../index.js').Engine} engine
 * @param {import('./statements.mjs').CountedQuery} query
 * @param {(token: string) => Claims} verify
 * @returns {Steps}
 */
export function inOneCall(engine, query, verify) {
  return {
    ...cached(engine, query, verify),
    mode: 'one call',
    async authorize(token) {
      const result = await engine.authorizeRequest({ token, verify, permission: PERMISSION });
      if (result.ok) return result;
      if (result.reason === 'unavailable') throw result.cause;
      const refusal = result.cause instanceof TokenError ? `token_${result.cause.reason}` : result.reason;
      return { ok: false, reason: refusal };
    },
  };
}

function nullWhenNotFound(error) {
  if (error?.code === 'E_NOT_FOUND') return null;
  throw error;
}

/**
 * One authenticated request: in one call where the mode has one, otherwise step by step, in the
 * middleware and again in the route.
 * @template T
 * @param {Steps} steps
 * @param {string} token
 * @param {(context: Context) => Promise<T>} respond
 * @returns {Promise<(Admission & { ok: true } & { body: T }) | (Admission & { ok: false })>}
 */
export async function authenticated(steps, token, respond) {
  const admitted = steps.authorize ? await steps.authorize(token) : await twice(steps, token);
  return admitted.ok ? { ...admitted, body: await respond(admitted.context) } : admitted;
}

async function twice(steps, token) {
  const middleware = await authenticate(steps, token);
  return middleware.ok ? once(steps, token) : middleware;
}

/**
 * The steps of one request, each once. Only a definite "no" is a refusal; a question that could not
 * be answered stays an error.
 * @param {Steps} steps
 * @param {string} token
 * @returns {Promise<Admission>}
 */
export async function once(steps, token) {
  const route = await authenticate(steps, token);
  if (!route.ok) return route;
  const context = await steps.context(route.user.user_id);
  if (!context) return { ok: false, reason: 'user_inactive' };
  if (!(await steps.isAllowed(context, PERMISSION))) return { ok: false, reason: 'forbidden' };
  return { ...route, context };
}

async function authenticate(steps, token) {
  let payload;
  try {
    payload = await steps.verify(token);
  } catch (error) {
    const refusal = [error, error?.cause].find((e) => e instanceof TokenError);
    if (!refusal) throw error;
    return { ok: false, reason: `token_${refusal.reason}` };
  }
  if (await steps.isRevoked(payload.jti)) return { ok: false, reason: 'token_revoked' };
  const user = await steps.user(payload.user_id);
  if (!user) return { ok: false, reason: 'user_inactive' };
  return { ok: true, payload, user };
}

/**
 * The document first, then what the page asks for, then the charts, as a browser does.
 * @param {Steps} steps
 * @param {string} token
 */
export async function openDashboard(steps, token) {
  const started = performance.now();
  const chartMs = [];
  const document = await authenticated(steps, token, async () => ({ title: 'Practice overview' }));
  const page = await Promise.all([
    authenticated(steps, token, async (context) => ({
      name: context.first_name,
      practices: context.accessible_practices,
    })),
    authenticated(steps, token, () => steps.dataSources()),
    authenticated(steps, token, () => steps.dataSourceColumns(DATA_SOURCE)),
    authenticated(steps, token, (context) => steps.practiceChoices(context)),
  ]);
  const charts = await Promise.all(
    CHARTS.map(async (filters) => {
      const from = performance.now();
      const answer = await authenticated(steps, token, (context) => steps.chartRows(filters, context));
      chartMs.push(performance.now() - from);
      return answer;
    }),
  );
  return { answers: [document, ...page, ...charts], charts, totalMs: performance.now() - started, chartMs };
}
