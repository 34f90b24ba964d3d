/**
 * Plays the dashboard in the three phases and reads the counters around each, then the blocks that
 * stand below the table. Opens and closes engines; knows neither the terminal nor the command line.
 * Invariant: counters are read before and after a dashboard, never reset, and nothing that is
 * counted for the table runs outside `playOnce`.
 */
import pg from 'pg';
import { playAnalytics } from './analytics.mjs';
import { measureAuthorization } from './authorization.mjs';
import { checkAgainstPlan, checkRefusals, comparable } from './checks.mjs';
import { checkContexts } from './contexts.mjs';
import { cached, EXPECTED_STATEMENTS, inOneCall, openDashboard, uncached } from './dashboard.mjs';
import { withClient } from './database.mjs';
import { openEngines } from './engines.mjs';
import { percentiles, range } from './figures.mjs';
import { playLayered } from './layered.mjs';
import { playLimits } from './limits.mjs';
import { playResults } from './results.mjs';
import { playRevocations } from './revocation.mjs';
import { countingQuery } from './statements.mjs';
import { createSigner } from './tokens.mjs';

const ROUNDS = { uncached: 10, cold: 5, warm: 20, authorization: 20, call: 20, tail: 5 };
const QUICK_ROUNDS = { uncached: 3, cold: 2, warm: 5, authorization: 5, call: 5, tail: 2 };
const POOL_SIZE = 10;
/** Who is it and what may they do; `other` is what the cache sends for itself. */
const AUTHORIZATION = ['blacklist', 'user', 'rbac', 'other'];
const APPLICATION = [...AUTHORIZATION, 'page'];
const STEPS = [...APPLICATION, 'data'];
/** What is promised of the plan's 113, in which the rows of the charts are not counted. */
const MOST_STATEMENTS = { cold: 10, warm: 0 };
/**
 * @param {{ database: Awaited<ReturnType<import('./database.mjs').openDatabase>>, judge: ReturnType<typeof import('./judge.mjs').createJudge>, quick: boolean,
 *   env: NodeJS.ProcessEnv, prefix: string, say: (text: string, of?: { done: number, total: number }) => void }} input
 */
export async function measure({ database, judge, quick, env, prefix, say }) {
  const rounds = quick ? QUICK_ROUNDS : ROUNDS;
  const pool = new pg.Pool({ connectionString: database.url, max: POOL_SIZE });
  const engines = await openEngines({ url: database.url, env, prefix });
  /** @type {string[]} */
  const revoked = [];
  const forgetRevoked = database.owe(() =>
    withClient(database.url, (query) => query('DELETE FROM token_blacklist WHERE jti = ANY($1)', [revoked])),
  );
  try {
    const postgres = await openConnections(pool);
    const { query, counts } = countingQuery(pool);
    const signer = createSigner();
    const { cast } = database;
    const analystToken = signer.sign({ userId: cast.analyst });
    const phases = { uncached: [], cold: [], warm: [] };

    const play = (steps, engine) => playOnce(steps, analystToken, { counts, signer, engine });
    const asBefore = (name, dashboard, reference) => {
      for (const [i, answer] of dashboard.answers.entries()) {
        judge.equal(
          `${name}: request ${i + 1} answers as without the cache`,
          comparable(answer),
          reference[i],
        );
      }
    };

    /** @param {'cold' | 'warm'} name */
    const asPromised = (name, figures) => {
      const most = MOST_STATEMENTS[name];
      const sent = sum(APPLICATION)(figures);
      judge.equal(`${name}: statements of the application beyond ${most}`, Math.max(0, sent - most), 0);
    };

    say('without cache');
    const plain = uncached(query, signer.verify);
    const first = await openDashboard(plain, analystToken);
    await checkAgainstPlan(judge, first, { pool, cast, users: database.users });
    const reference = first.answers.map(comparable);
    for (let i = 0; i < rounds.uncached; i += 1) {
      const { figures, dashboard } = await play(plain);
      phases.uncached.push(figures);
      asBefore('without cache', dashboard, reference);
      const { other: _, ...sent } = figures.statements;
      judge.equal('without cache: statements as documented', sent, EXPECTED_STATEMENTS);
    }
    const refusals = (played, revoke) =>
      checkRefusals(judge, played, {
        sign: signer.sign,
        cast,
        analystToken,
        revoke,
        revoking: (jti) => revoked.push(jti),
      });
    await refusals(plain, ({ jti, userId, expiresAt }) =>
      pool.query(
        `INSERT INTO token_blacklist (jti, user_id, token_type, expires_at, reason)
         VALUES ($1, $2, 'access', $3, 'logout')`,
        [jti, userId, expiresAt],
      ),
    );

    say('with the cache, cold');
    let engine;
    let steps;
    for (let i = 0; i < rounds.cold; i += 1) {
      await engine?.close();
      engine = await engines.open(`${i}`);
      steps = cached(engine, query, signer.verify);
      const { figures, dashboard } = await play(steps, engine);
      phases.cold.push(figures);
      asBefore('cold', dashboard, reference);
      asPromised('cold', figures);
    }
    say('with the cache, warm');
    for (let i = 0; i < rounds.warm; i += 1) {
      const { figures, dashboard } = await play(steps, engine);
      phases.warm.push(figures);
      asBefore('warm', dashboard, reference);
      asPromised('warm', figures);
    }
    const store = engine.getMetrics().store.kind;
    const oneCall = inOneCall(engine, query, signer.verify);
    const authorization = await measureAuthorization({
      engine,
      counts,
      token: analystToken,
      rounds: rounds.authorization,
      separate: steps,
      oneCall,
      judge,
      judgeDashboard: (name, dashboard) => asBefore(name, dashboard, reference),
      say,
    });

    say('requests that must not get through');
    const revoke = ({ jti, userId, expiresAt }) =>
      engine.blacklistToken({ jti, userId, tokenType: 'access', expiresAt, reason: 'logout' });
    await refusals(steps, revoke);
    await refusals(oneCall, revoke);
    const contexts = await checkContexts(judge, { engine, query, cast, users: database.users, say });
    const revocation = await playRevocations({ database, pool, engines, signer, judge, rounds, say });
    const results = await playResults({ engines, query, counts, pool, database, judge, say });
    const analytics = await playAnalytics({ engines, pool, query, quick, database, judge, say });
    const layers = await playLayered({ database, pool, engines, quick, judge, say });
    const limits = await playLimits({ database, engines, judge, say });

    return {
      postgres,
      store,
      phases: Object.fromEntries(Object.entries(phases).map(([name, list]) => [name, summarize(list)])),
      authorization,
      revocation,
      results,
      analytics,
      layers,
      limits,
      contexts,
      origins: originsOf(rounds, contexts),
    };
  } finally {
    await engines.closeAll();
    await pool.end();
    await forgetRevoked();
  }
}

/** Connecting is not what is compared, so it happens before anything is measured. */
async function openConnections(pool) {
  const clients = await Promise.all(Array.from({ length: POOL_SIZE }, () => pool.connect()));
  const { rows } = await clients[0].query('SHOW server_version');
  for (const client of clients) client.release();
  return `Postgres ${rows[0].server_version.split(' ')[0]}`;
}

async function playOnce(steps, token, { counts, signer, engine }) {
  const read = () => ({ own: counts(), verifications: signer.verifications(), engine: engine?.getMetrics() });
  const before = read();
  const dashboard = await openDashboard(steps, token);
  const after = read();
  const statements = Object.fromEntries(
    STEPS.map((step) => [step, (after.own[step] ?? 0) - (before.own[step] ?? 0)]),
  );
  let roundTrips = 0;
  let commands = 0;
  if (engine) {
    roundTrips = after.engine.store.roundTrips - before.engine.store.roundTrips;
    commands = after.engine.store.commands - before.engine.store.commands;
    addEngineStatements(statements, before.engine.source, after.engine.source);
  }
  const figures = {
    statements,
    verifications: after.verifications - before.verifications,
    roundTrips,
    commands,
    dashboardMs: dashboard.totalMs,
    chartMs: dashboard.chartMs,
  };
  return { figures, dashboard };
}

/** The total is the engine's; a statement whose name tells no step, or that has no name, is `other`. */
function addEngineStatements(statements, before, after) {
  let named = 0;
  for (const [name, sent] of Object.entries(after.statementsByName)) {
    const delta = sent - (before.statementsByName[name] ?? 0);
    statements[stepOf(name)] += delta;
    named += delta;
  }
  statements.other += after.statements - before.statements - named;
}

function stepOf(name) {
  if (/^rbac/.test(name)) return 'rbac';
  if (/blacklist|token/i.test(name)) return 'blacklist';
  if (/user/i.test(name)) return 'user';
  if (/data_?source|measure|chart/i.test(name)) return 'data';
  return 'other';
}

/** @param {string[]} steps */
const sum = (steps) => (f) => steps.reduce((total, step) => total + f.statements[step], 0);

/** @param {Awaited<ReturnType<typeof playOnce>>['figures'][]} list */
function summarize(list) {
  return {
    dashboards: list.length,
    statements: {
      ...Object.fromEntries(STEPS.map((step) => [step, range(list, (f) => f.statements[step])])),
      authorization: range(list, sum(AUTHORIZATION)),
      application: range(list, sum(APPLICATION)),
      total: range(list, sum(STEPS)),
    },
    verifications: range(list, (f) => f.verifications),
    roundTrips: range(list, (f) => f.roundTrips),
    commands: range(list, (f) => f.commands),
    chartMs: percentiles(list.flatMap((f) => f.chartMs)),
    dashboardMs: percentiles(list.map((f) => f.dashboardMs)),
  };
}

function originsOf(rounds, contexts) {
  return {
    'SQL statements':
      "the application's own: a counter around the pg pool that every statement passes; the cache's: " +
      'source.statements and source.statementsByName of engine.getMetrics(), before and after each dashboard. The ' +
      "plan's 113 are those of the application database: rows of the charts are not among them. " +
      'The sequence of requests is explained at the top of demo/dashboard.mjs.',
    "page's reads":
      'data sources, their columns, and the choices of the practice filter. With the cache the first two are kept by ' +
      'redisCacheService.getOrSet and the third is not asked: ' +
      'the context of the request holds the organizations with their practices, and the answers are compared.',
    'store figures':
      'store.roundTrips and store.commands of engine.getMetrics(); with the embedded store nothing leaves the process.',
    signatures: "calls of the demo's own HS256 verification.",
    latencies:
      `performance.now() around a request in this process, no HTTP and no browser; ` +
      `${rounds.uncached} / ${rounds.cold} / ${rounds.warm} dashboards of 6 charts; connections are open beforehand, ` +
      'and Postgres has answered one dashboard before the first is measured.',
    cold: 'a new engine and an unused key prefix for every dashboard; the keys expire by themselves, the last after a day.',
    'one call':
      `warm; ${rounds.authorization} rounds in which the ways take turns: every step in the middleware and in the route, as ` +
      'above; every step once; authorizeRequest. Each request alone, one after the other, with an empty response; round ' +
      'trips and statements from the counters before and after it. The dashboards send the same requests as the table ' +
      'above, in parallel where a browser does, and wait for the same SQL of the page and of the charts.',
    'role taken away':
      'an UPDATE of user_roles for a person made for it. Times begin with the call, or when Postgres has confirmed the ' +
      'commit, and end with the first refusal; while nobody is told, a request is sent about every millisecond.',
    'refresh button':
      'queryDataSourceWithCache: eleven charts with five questions at once; then a row is changed in Postgres, and one chart ' +
      'is asked for with forceRefresh; then invalidateDataSourceCaches. Rows are compared with those of the database.',
    'analytics index':
      'AnalyticsCacheV2 on data source 1, every row of the table; rows, sums by month and refusals are compared with SQL. ' +
      "Statements are the engine's own counter; targets are those that the plan of the index has for a million rows.",
    'three layers':
      'getDashboardMetrics: its own performance.queryTime, in an engine whose entry was made void before each answer, without and ' +
      'with the materialized view, and with the entry there; every answer is compared with the nine queries.',
    'rate limit':
      'counted from the answers to checks that two engines make at once; commands and denials from engine.getMetrics().',
    answers:
      'the first dashboard is compared with the plan of the generated data, all others with the first; the contexts, ' +
      `rights and scopes of ${contexts.compared} of ${contexts.users} users with SQL that shares nothing with the package.`,
  };
}
