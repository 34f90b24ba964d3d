/**
 * Plays the dashboard in the three phases and reads the counters around each. Opens and closes the
 * engine; knows neither the terminal nor the command line.
 * Invariant: counters are read before and after a dashboard, never reset, and nothing that is
 * counted runs outside `playOnce`.
 */
import pg from 'pg';
import { checkAgainstPlan, checkRefusals, comparable } from './checks.mjs';
import { cached, EXPECTED_STATEMENTS, openDashboard, uncached } from './dashboard.mjs';
import { DemoError } from './database.mjs';
import { countingQuery } from './statements.mjs';
import { createSigner } from './tokens.mjs';

const ROUNDS = { uncached: 10, cold: 5, warm: 20 };
const QUICK_ROUNDS = { uncached: 3, cold: 2, warm: 5 };
const POOL_SIZE = 10;
const STEPS = ['blacklist', 'user', 'rbac', 'page', 'data', 'other'];
const STORE_VARIABLES = [
  'CACHE_STORE',
  'REDIS_HOST',
  'REDIS_URL',
  'REDIS_CLUSTER_NODES',
  'UPSTASH_REDIS_REST_URL',
];
const CONNECT_LIMIT_MS = 10_000;

/**
 * @param {{ database: Awaited<ReturnType<import('./database.mjs').openDatabase>>, judge: ReturnType<typeof import('./checks.mjs').createJudge>, quick: boolean,
 *   env: NodeJS.ProcessEnv, prefix: string, say: (text: string) => void }} input
 */
export async function measure({ database, judge, quick, env, prefix, say }) {
  const createEngine = await loadPackage();
  const rounds = quick ? QUICK_ROUNDS : ROUNDS;
  const pool = new pg.Pool({ connectionString: database.url, max: POOL_SIZE });
  const engines = [];
  try {
    const postgres = await openConnections(pool);
    const { query, counts } = countingQuery(pool);
    const signer = createSigner();
    const { cast } = database;
    const analystToken = signer.sign({ userId: cast.analyst });
    const phases = { uncached: [], cold: [], warm: [] };
    const stores = [];

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
    await checkRefusals(judge, plain, {
      sign: signer.sign,
      cast,
      analystToken,
      revoke: ({ jti, userId, expiresAt }) =>
        pool.query(
          `INSERT INTO token_blacklist (jti, user_id, token_type, expires_at, reason)
           VALUES ($1, $2, 'access', $3, 'logout')`,
          [jti, userId, expiresAt],
        ),
    });

    say('with the cache, cold');
    let engine;
    let steps;
    for (let i = 0; i < rounds.cold; i += 1) {
      await engine?.close();
      engine = createEngine({ ...engineOptions(database.url, env), redisKeyPrefix: `${prefix}${i}:` });
      engines.push(engine);
      await openStore(engine);
      steps = cached(engine, query, signer.verify);
      const { figures, dashboard } = await play(steps, engine);
      phases.cold.push(figures);
      asBefore('cold', dashboard, reference);
    }
    say('with the cache, warm');
    for (let i = 0; i < rounds.warm; i += 1) {
      const { figures, dashboard } = await play(steps, engine);
      phases.warm.push(figures);
      asBefore('warm', dashboard, reference);
    }
    stores.push(engine.getMetrics().store.kind);
    await checkRefusals(judge, steps, {
      sign: signer.sign,
      cast,
      analystToken,
      revoke: ({ jti, userId, expiresAt }) =>
        engine.blacklistToken({ jti, userId, tokenType: 'access', expiresAt, reason: 'logout' }),
    });

    return {
      postgres,
      store: stores[0],
      notYetCached: steps.notYetCached,
      phases: Object.fromEntries(Object.entries(phases).map(([name, list]) => [name, summarize(list)])),
      origins: originsOf(rounds),
    };
  } finally {
    await Promise.all(engines.map((e) => e.close()));
    await pool.end();
  }
}

async function loadPackage() {
  try {
    const { createEngine } = await import('../index.js');
    return createEngine;
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND' && error.code !== 'MODULE_NOT_FOUND') throw error;
    throw new DemoError(
      `The package is not built (${error.message.split('\n')[0]}). "npm run demo" builds it first.`,
    );
  }
}

/** Both pools go to the demo's database, whatever the environment names: the demo reads nothing else. */
function engineOptions(url, env) {
  const configured = STORE_VARIABLES.some((name) => env[name]);
  return { databaseUrl: url, analyticsDatabaseUrl: url, ...(configured ? {} : { cacheStore: 'embedded' }) };
}

/** Connecting is not what is compared, so it happens before anything is measured. */
async function openConnections(pool) {
  const clients = await Promise.all(Array.from({ length: POOL_SIZE }, () => pool.connect()));
  const { rows } = await clients[0].query('SHOW server_version');
  for (const client of clients) client.release();
  return `Postgres ${rows[0].server_version.split(' ')[0]}`;
}

/** The same for the engine: questions about ids nobody has open its connections and touch no entry we measure. */
async function openStore(engine) {
  const until = performance.now() + CONNECT_LIMIT_MS;
  for (let n = 0; ; n += 1) {
    await Promise.all(
      Array.from({ length: POOL_SIZE }, (_, i) => engine.isTokenBlacklisted(`demo-connect-${n}-${i}`)),
    );
    const { kind, connected } = engine.getMetrics().store;
    if (connected || kind === 'none') return;
    if (performance.now() > until)
      throw new DemoError(`The ${kind} store did not connect within ${CONNECT_LIMIT_MS / 1000} s.`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
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
  if (/blacklist|token/i.test(name)) return 'blacklist';
  if (/context|role|permission|organi/i.test(name)) return 'rbac';
  if (/user/i.test(name)) return 'user';
  if (/data_?source|measure|chart/i.test(name)) return 'data';
  return 'other';
}

/** @param {Awaited<ReturnType<typeof playOnce>>['figures'][]} list */
function summarize(list) {
  const range = (of) => ({ min: Math.min(...list.map(of)), max: Math.max(...list.map(of)) });
  const application = (f) => STEPS.reduce((sum, s) => sum + (s === 'data' ? 0 : f.statements[s]), 0);
  return {
    dashboards: list.length,
    statements: {
      ...Object.fromEntries(STEPS.map((step) => [step, range((f) => f.statements[step])])),
      application: range(application),
      total: range((f) => application(f) + f.statements.data),
    },
    verifications: range((f) => f.verifications),
    roundTrips: range((f) => f.roundTrips),
    commands: range((f) => f.commands),
    chartMs: percentiles(list.flatMap((f) => f.chartMs)),
    dashboardMs: percentiles(list.map((f) => f.dashboardMs)),
  };
}

/** Nearest rank: every figure shown is one that was measured. */
function percentiles(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  return { samples: sorted.length, p50: at(0.5), p95: at(0.95) };
}

function originsOf(rounds) {
  return {
    'SQL statements':
      "the application's own: a counter around the pg pool that every statement passes; the cache's: " +
      'source.statements and source.statementsByName of engine.getMetrics(), before and after each dashboard. ' +
      'The sequence of requests is explained at the top of demo/dashboard.mjs.',
    'store figures':
      'store.roundTrips and store.commands of engine.getMetrics(); with the embedded store nothing leaves the process.',
    signatures: "calls of the demo's own HS256 verification.",
    latencies:
      `performance.now() around a request in this process, no HTTP and no browser; ` +
      `${rounds.uncached} / ${rounds.cold} / ${rounds.warm} dashboards of 6 charts; connections are open beforehand, ` +
      'and Postgres has answered one dashboard before the first is measured.',
    cold: 'a new engine and an unused key prefix for every dashboard; the keys expire by themselves.',
    answers:
      'the first dashboard is compared with the plan of the generated data, all others with the first.',
  };
}
