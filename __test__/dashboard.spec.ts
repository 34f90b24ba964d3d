/**
 * The dashboard of the option `dashboard` on a real Postgres and a real store: view, then queries; refresh, health, and
 * what is said when something is missing. What holds for every layered cache is in `layered.spec.ts`; outages are in
 * `dashboard-outage.spec.ts`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine, EngineOptions } from '../index.js';
import { type Server, startPgbouncer, startValkey } from './servers/index.mjs';
import {
  Counter,
  type DashboardOption,
  installExample,
  type Numbers,
  tenants,
} from './support/dashboards.js';
import { type Database, Databases } from './support/database.js';
import { Engines, outcome } from './support/engines.js';
import { reaching } from './support/outage.js';
import { rounds } from './support/rounds.js';

let databases: Databases;
let server: Server;
beforeAll(async () => {
  [databases, server] = await Promise.all([Databases.start(), startValkey()]);
});
afterAll(async () => {
  await server?.stop();
  await databases?.[Symbol.asyncDispose]();
});

let engines: Engines;
let database: Database;
beforeEach(async () => {
  engines = new Engines();
  database = await databases.create();
  await server.command('FLUSHALL');
});
afterEach(() => engines[Symbol.asyncDispose]());

/** Patient, so that a busy machine is no outage. */
async function start(dashboard: DashboardOption, more: EngineOptions = {}): Promise<Engine> {
  const options = {
    databaseUrl: database.url,
    cacheDeadlineMs: 2_000,
    cacheSourceDeadlineMs: 10_000,
    dashboard,
  };
  const engine = engines.start(reaching(server), options, more);
  await engine.getHealth();
  await engine.redisCacheService.get('contact');
  return engine;
}

const sent = (engine: Engine, name: string): number => engine.getMetrics().source.statementsByName[name] ?? 0;

describe('the example of the demo data', () => {
  it('its view and its nine queries say the same, in the same groups', async () => {
    const dashboard = await installExample(database);
    const engine = await start(dashboard);
    const { performance: ofView, ...view } = await engine.getDashboardMetrics(false);
    expect(ofView.cacheLayer).toBe('materialized_view');
    await database.query('DROP MATERIALIZED VIEW ih.practice_dashboard');
    const { performance: ofQueries, ...queries } = await engine.getDashboardMetrics(false);
    expect(ofQueries.cacheLayer).toBe('database');
    expect(ofQueries.tiers).toMatchObject([
      { layer: 'materialized_view', outcome: 'failed' },
      { layer: 'database', outcome: 'hit' },
    ]);
    const groups = 'charges organizations payments people providers roles tokens trend visits'.split(' ');
    expect(Object.keys(dashboard.queries).sort()).toEqual(groups);
    expect(Object.keys(view)).toEqual(groups);
    expect(Object.keys(queries)).toEqual(groups);
    expect(queries).toEqual(view);
    // Equal because both are right, not because both are empty.
    const [truth] = await database.query<Record<string, string>>(
      `SELECT (SELECT count(*) FROM users) AS people, (SELECT count(*) FROM token_blacklist) AS revoked,
              (SELECT sum(measure_value) FROM ih.agg_app_measures WHERE measure = 'Charges'
               AND frequency = 'Monthly' AND date_index = '2025-09-01') AS charges`,
    );
    expect(view).toMatchObject({
      people: { total: Number(truth?.['people']) },
      tokens: { revoked: Number(truth?.['revoked']) },
      charges: { month: '2025-09-01', total: Number(truth?.['charges']) },
      providers: { practices: 4, most_visits: expect.any(String) },
    });
    expect((view['trend'] as { months: unknown[] }).months).toHaveLength(12);
    for (const group of Object.values(view)) {
      expect(Object.values(group as object).filter((value) => value === null)).toEqual([]);
    }
    // Nine queries, one statement.
    expect([sent(engine, 'dashboard_view'), sent(engine, 'dashboard_queries')]).toEqual([2, 1]);
  });

  it('is healthy, and stays so through refreshes that others read meanwhile', async () => {
    const engine = await start(await installExample(database));
    expect(await engine.getCacheHealth()).toMatchObject({ overall: 'healthy' });
    const before = (await engine.getDashboardMetrics()).performance.lastUpdated;
    expect(await engine.refreshDashboardMetrics()).toMatchObject({ acknowledged: true, queued: false });
    const after = (await engine.getDashboardMetrics()).performance.lastUpdated;
    expect(Date.parse(after)).toBeGreaterThan(Date.parse(before));
  });
});

describe('getDashboardMetrics', () => {
  it('asks the view once, then the cache; when the view was refreshed is said and is not a metric', async () => {
    const counter = await Counter.in(database);
    const [here, there] = await Promise.all([start(counter.option()), start(counter.option())]);
    const asked = Array.from({ length: 20 }, (_, at) =>
      (at % 2 ? here : there).getDashboardMetrics<Numbers>(),
    );
    const answers = await Promise.all(asked);
    const [row] = await database.query<{ at: Date }>(`SELECT last_refreshed AS at FROM ${counter.view}`);
    for (const { performance, ...metrics } of answers) {
      expect(metrics).toEqual({ numbers: { n: 1 } });
      expect(performance.lastUpdated).toBe(row?.at.toISOString());
    }
    expect(sent(here, 'dashboard_view') + sent(there, 'dashboard_view')).toBe(1);
    const before = [here, there].map((engine) => engine.getMetrics().source.statements);
    const hit = await there.getDashboardMetrics();
    expect(hit.performance).toMatchObject({ cacheHit: true, cacheLayer: 'redis' });
    expect([here, there].map((engine) => engine.getMetrics().source.statements)).toEqual(before);
    // The entry that the application knows.
    expect(await here.redisCacheService.get('dashboard:metrics:v3')).toMatchObject({ numbers: { n: 1 } });
    await counter.set(2);
    await counter.refresh();
    await here.redisCacheService.del('dashboard:metrics:v3');
    expect((await there.getDashboardMetrics<Numbers>()).numbers.n).toBe(2);
    await counter.set(3);
    await counter.refresh();
    expect(await here.redisCacheService.delPattern('dashboard:*')).toBe(1);
    expect((await there.getDashboardMetrics<Numbers>()).numbers.n).toBe(3);
  });

  it('lives under the configured key for the configured time', async () => {
    const counter = await Counter.in(database);
    const engine = await start(counter.option({ key: 'mine', ttl: 5 }));
    await engine.getDashboardMetrics();
    const keys = (await server.command('KEYS', '*')) as string[];
    expect(keys).toContain('cache:mine');
    const left = Number(await server.command('PTTL', 'cache:mine'));
    expect(left).toBeGreaterThan(3_000);
    expect(left).toBeLessThanOrEqual(5_000);
  });

  it('falls back to the queries when the view cannot answer, whatever is wrong with it', async () => {
    const counter = await Counter.in(database, { populated: false, indexed: false });
    const engine = await start(counter.option());
    const says = async () => {
      const { numbers, performance } = await engine.getDashboardMetrics<Numbers>(false);
      return [numbers.n, performance.cacheLayer, performance.tiers[0]?.outcome];
    };
    await counter.set(5);
    // Never populated.
    expect(await says()).toEqual([5, 'database', 'failed']);
    // Gone.
    await counter.dropView();
    expect(await says()).toEqual([5, 'database', 'failed']);
    // Of another shape.
    await database.query(
      `CREATE MATERIALIZED VIEW ${counter.view} AS SELECT 1 AS other, now() AS last_refreshed`,
    );
    expect(await says()).toEqual([5, 'database', 'failed']);
    // Without a row.
    await counter.dropView();
    await counter.createView({ body: 'WHERE false' });
    expect(await says()).toEqual([5, 'database', 'miss']);
    // With a row too many: nobody could say whose the first one is.
    await counter.dropView();
    await counter.createView({ body: 'CROSS JOIN generate_series(1, 2)', indexed: false });
    expect(await says()).toEqual([5, 'database', 'failed']);
    // Of an age that nobody can tell.
    await counter.dropView();
    await database.query(
      `CREATE MATERIALIZED VIEW ${counter.view} AS
       SELECT json_build_object('n', 9) AS numbers, NULL::timestamptz AS last_refreshed`,
    );
    expect(await says()).toEqual([5, 'database', 'failed']);
    // In order again.
    await counter.dropView();
    await counter.createView();
    expect(await says()).toEqual([5, 'materialized_view', 'hit']);
  });

  it('says what is wrong with the queries when they are the last that was asked', async () => {
    const counter = await Counter.in(database);
    await counter.dropView();
    const queries = { numbers: 'SELECT n FROM no_such_table' };
    const engine = await start(counter.option({ queries }));
    const error = await engine.getDashboardMetrics().catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'E_CONFIG', field: 'dashboard.queries', retryable: false });
    expect(String(error)).toContain('no_such_table');
    const [ofView] = ((error as Error).cause as AggregateError).errors;
    expect(ofView).toMatchObject({ code: 'E_CONFIG', field: 'dashboard.view' });
    expect(String(ofView)).toContain(`there is no view "public"."${counter.view}"`);
  });

  it('a group whose query has no row is null; one with several gives its first', async () => {
    const counter = await Counter.in(database);
    await counter.dropView();
    const queries = {
      none: 'SELECT n FROM counter WHERE false',
      several: 'SELECT n, q FROM generate_series(1, 3) AS n, (SELECT 7 AS q) AS q ORDER BY n -- a comment',
    };
    const engine = await start(counter.option({ queries }));
    const { performance: _, ...metrics } = await engine.getDashboardMetrics();
    expect(metrics).toEqual({ none: null, several: { n: 1, q: 7 } });
  });
});

describe('a dashboard with one row per scope', () => {
  it('never shows the row of another, from the view, the queries or the cache, in any order', async () => {
    const dashboard = await tenants(database);
    const all = await Promise.all([start(dashboard), start(dashboard)]);
    const scopes = ['a', 'b', 'A', "a ' OR true", 'late'];
    for (const order of [scopes, [...scopes].reverse()]) {
      for (const useCache of [true, true, false]) {
        const asked = order.flatMap((scopeKey) => all.map((engine) => ({ scopeKey, engine })));
        const answers = await Promise.all(
          asked.map(({ scopeKey, engine }) =>
            engine.getDashboardMetrics<{ figures: { secret: string } }>(useCache, { scopeKey }),
          ),
        );
        expect(answers.map(({ figures }) => figures.secret)).toEqual(
          asked.map(({ scopeKey }) => `canary-of-${scopeKey}`),
        );
      }
      await all[0]?.invalidateDashboardCache();
    }
    const [engine] = all;
    // Not in the view yet.
    const late = await engine?.getDashboardMetrics(false, { scopeKey: 'late' });
    expect(late?.performance.tiers.map(({ layer, outcome }) => [layer, outcome])).toEqual([
      ['materialized_view', 'miss'],
      ['database', 'hit'],
    ]);
    // Nobody's: the queries have no row either.
    const nobody = await engine?.getDashboardMetrics(true, { scopeKey: "x' OR true --" });
    expect(nobody).toMatchObject({ figures: null });
  });

  it('needs a scope in every call, and only there', async () => {
    const engine = await start(await tenants(database));
    const missing = { code: 'E_SCOPE', field: 'scopeKey' };
    for (const useCache of [true, false]) {
      await expect(engine.getDashboardMetrics(useCache)).rejects.toMatchObject(missing);
      await expect(engine.getDashboardMetrics(useCache, { scopeKey: '' })).rejects.toMatchObject(missing);
    }
    await expect(engine.warmUpDashboardCache()).rejects.toMatchObject(missing);
    await expect(engine.getDashboardMetrics(true, { scopeKey: 7 as never })).rejects.toMatchObject({
      code: 'E_INVALID_ARGUMENT',
      field: 'scopeKey',
    });
    expect(engine.getMetrics().source.statementsByName['dashboard_view']).toBe(0);
    const counter = await Counter.in(database);
    const everybody = await start(counter.option());
    await expect(everybody.getDashboardMetrics(true, { scopeKey: 'a' })).rejects.toMatchObject({
      code: 'E_INVALID_ARGUMENT',
      field: 'scopeKey',
    });
  });

  it('is refreshed for all scopes at once', async () => {
    const dashboard = await tenants(database);
    const [here, there] = [await start(dashboard), await start(dashboard)];
    const read = async (engine: Engine, scopeKey: string) =>
      (await engine.getDashboardMetrics<{ figures: { secret: string } }>(true, { scopeKey })).figures.secret;
    for (const scopeKey of ['a', 'b']) await read(there, scopeKey);
    await database.query(`UPDATE tenant_figures SET secret = 'new-' || tenant`);
    expect(await read(here, 'a')).toBe('canary-of-a');
    await here.refreshDashboardMetrics();
    for (const scopeKey of ['a', 'b']) expect(await read(there, scopeKey)).toBe(`new-${scopeKey}`);
    expect(await here.warmUpDashboardCache({ scopeKey: 'a' })).toMatchObject({ loaded: false, stored: true });
    expect(await here.invalidateDashboardCache({ scopeKey: 'a' })).toMatchObject({ acknowledged: true });
    expect(await here.warmUpDashboardCache({ scopeKey: 'a' })).toMatchObject({ loaded: true, stored: true });
    expect(await here.getCacheHealth()).toMatchObject({ overall: 'healthy' });
  });
});

describe('refreshDashboardMetrics', () => {
  it('what was committed before is in every answer after, on every instance, also while others load', async () => {
    const counter = await Counter.in(database);
    const all = [await start(counter.option()), await start(counter.option())] as const;
    const lies: string[] = [];
    let [floor, stopped] = [1, false];
    const readers = Array.from({ length: 6 }, async (_, at) => {
      while (!stopped) {
        const least = floor;
        const { numbers } = await all[(at % 2) as 0 | 1].getDashboardMetrics<Numbers>();
        if (numbers.n < least) lies.push(`${numbers.n} after ${least}`);
        await sleep(Math.random() * 3);
      }
    });
    for (let round = 2; round < rounds(150, 30); round += 1) {
      await counter.set(round);
      // Entries vanish at any time.
      if (round % 3 === 0) await server.command('DEL', 'cache:dashboard%3Ametrics%3Av3');
      const done = await all[(round % 2) as 0 | 1].refreshDashboardMetrics();
      expect(done.acknowledged).toBe(true);
      floor = round;
      const now = await Promise.all(all.map((engine) => engine.getDashboardMetrics<Numbers>()));
      lies.push(
        ...now.filter(({ numbers }) => numbers.n < round).map(({ numbers }) => `${numbers.n} < ${round}`),
      );
    }
    stopped = true;
    await Promise.all(readers);
    expect(lies).toEqual([]);
  });

  it('calls of one turn are one refresh; those who come while it runs share the next', async () => {
    const counter = await Counter.in(database, { body: ', pg_sleep(0.15)' });
    const engine = await start(counter.option());
    const first = Array.from({ length: 5 }, () => engine.refreshDashboardMetrics());
    await sleep(60);
    await counter.set(2);
    const later = Array.from({ length: 5 }, () => engine.refreshDashboardMetrics());
    await Promise.all(first);
    await Promise.all(later);
    expect(sent(engine, 'dashboard_refresh')).toBe(2);
    expect((await engine.getDashboardMetrics<Numbers>()).numbers.n).toBe(2);
  });

  it('a view that was never populated is populated', async () => {
    const counter = await Counter.in(database, { populated: false });
    const engine = await start(counter.option());
    expect(await engine.getCacheHealth()).toMatchObject({
      overall: 'degraded',
      materializedView: { healthy: false, error: expect.stringContaining('never populated') },
    });
    await engine.refreshDashboardMetrics();
    expect((await engine.getDashboardMetrics()).performance.cacheLayer).toBe('materialized_view');
    expect(await engine.getCacheHealth()).toMatchObject({ overall: 'healthy' });
  });

  it('without a unique index says to create one, and works once it is there', async () => {
    const counter = await Counter.in(database, { indexed: false });
    const engine = await start(counter.option());
    await engine.getDashboardMetrics();
    const error = await engine.refreshDashboardMetrics().catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'E_CONFIG', field: 'dashboard.view', retryable: false });
    expect(String(error)).toContain(`CREATE UNIQUE INDEX ON "public"."${counter.view}"`);
    expect(await engine.getCacheHealth()).toMatchObject({
      overall: 'degraded',
      materializedView: { healthy: false, error: expect.stringContaining('unique index') },
      recommendation: expect.stringContaining('Create one'),
    });
    // Nothing was void: the cached answer is as good as before.
    expect((await engine.getDashboardMetrics()).performance.cacheHit).toBe(true);
    // One that leaves rows out does not count.
    await database.query(`CREATE UNIQUE INDEX ON ${counter.view} (one) WHERE one > 0`);
    expect(await engine.getCacheHealth()).toMatchObject({ materializedView: { healthy: false } });
    await expect(engine.refreshDashboardMetrics()).rejects.toMatchObject({ code: 'E_CONFIG' });
    await counter.createIndex();
    await engine.refreshDashboardMetrics();
    expect(await engine.getCacheHealth()).toMatchObject({ overall: 'healthy' });
  });

  it('what else can be wrong with a view is named', async () => {
    const counter = await Counter.in(database);
    const said = async (dashboard: DashboardOption, more: EngineOptions = {}) =>
      String(
        await (await start(dashboard, more)).refreshDashboardMetrics().catch((reason: unknown) => reason),
      );
    expect(await said(counter.option({ view: 'nowhere' }))).toContain('there is no view "public"."nowhere"');
    expect(await said(counter.option({ view: 'users' }))).toContain('is not a materialized view');
    await database.query(
      `DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN; GRANT SELECT ON ${counter.view} TO reader`,
    );
    const databaseUrl = database.url.replace('postgres@', 'reader@');
    expect(await said(counter.option(), { databaseUrl })).toContain('may not refresh');
  });

  describe.each([
    ['directly', false],
    ['behind a transaction pooler', true],
  ])('its time limit, %s', (_, databasePgbouncer) => {
    it('is its own: longer than a statement of the pool may take, and in nobody’s way', async () => {
      const counter = await Counter.in(database, { body: ', pg_sleep(1.6)' });
      const pooler = await startPgbouncer({ port: databases.server.port, poolSize: 2 });
      try {
        const databaseUrl = databasePgbouncer ? pooler.through(database.url) : database.url;
        const options = { databasePgbouncer, databaseUrl, cacheSourceDeadlineMs: 500, databasePoolMax: 1 };
        const engine = await start(counter.option(), options);
        await counter.set(2);
        const refreshed = engine.refreshDashboardMetrics();
        await sleep(300);
        // The only connection of the pool is free for those who read, and the view can be read.
        const during = await engine.getDashboardMetrics<Numbers>(false);
        expect([during.numbers.n, during.performance.cacheLayer]).toEqual([1, 'materialized_view']);
        expect(during.performance.queryTime).toBeLessThan(450);
        expect((await refreshed).refreshMs).toBeGreaterThan(1_500);
        expect((await engine.getDashboardMetrics<Numbers>()).numbers.n).toBe(2);

        const hasty = await start(counter.option({ refreshTimeoutMs: 400 }), options);
        const begun = performance.now();
        await expect(hasty.refreshDashboardMetrics()).rejects.toMatchObject({
          code: 'E_DEADLINE',
          message: expect.stringContaining('dashboard.refreshTimeoutMs (400 ms)'),
        });
        expect(performance.now() - begun).toBeLessThan(1_400);
        // The server has ended it: nothing waits, and the next one is not held up.
        const [left] = await database.query(
          `SELECT count(*)::int AS n FROM pg_stat_activity WHERE query LIKE 'REFRESH%' AND state = 'active'`,
        );
        expect(left).toEqual({ n: 0 });
        await engine.refreshDashboardMetrics();
      } finally {
        await pooler.stop();
      }
    });
  });

  it('a caller who does not want to wait leaves the refresh to the others', async () => {
    const counter = await Counter.in(database, { body: ', pg_sleep(0.2)' });
    const engine = await start(counter.option());
    await counter.set(2);
    const all = [engine.refreshDashboardMetrics({ deadlineMs: 30 }), engine.refreshDashboardMetrics()];
    const [hasty, patient] = await Promise.all(all.map(outcome));
    expect(hasty).toMatchObject({ error: { code: 'E_DEADLINE' } });
    expect(patient).toMatchObject({ value: { acknowledged: true } });
    expect((await engine.getDashboardMetrics<Numbers>()).numbers.n).toBe(2);
  });
});

describe('getCacheHealth', () => {
  it('both layers are fine', async () => {
    const counter = await Counter.in(database);
    const engine = await start(counter.option());
    await engine.getDashboardMetrics();
    await sleep(1_100);
    const before = Date.now();
    const health = await engine.getCacheHealth();
    const [row] = await database.query<{ at: Date }>(`SELECT last_refreshed AS at FROM ${counter.view}`);
    expect(health).toEqual({
      overall: 'healthy',
      redis: {
        healthy: true,
        connected: true,
        keyCount: 1,
        memory: expect.stringMatching(/^[\d.]+ [KMG]?B$/),
      },
      materializedView: {
        healthy: true,
        lastRefreshed: row?.at.toISOString(),
        ageSeconds: expect.any(Number),
      },
      timestamp: expect.any(String),
      recommendation: 'All cache layers healthy',
    });
    expect(health.materializedView.ageSeconds).toBeGreaterThanOrEqual(1);
    expect(health.materializedView.ageSeconds).toBeLessThan(30);
    expect(Date.parse(health.timestamp)).toBeGreaterThanOrEqual(before);
  });

  it.each([
    ['is too old', `now() - interval '11 minutes'`, /older than 600 s/],
    ['says nothing of its age', 'NULL::timestamptz', /nobody can tell how old/],
    ['is of all times', `'-infinity'::timestamptz`, /nobody can tell how old/],
    ['is from the future', `now() + interval '1 hour'`, /nobody can tell how old/],
  ])('a view that %s is not healthy', async (_, at, error) => {
    await database.query(
      `CREATE MATERIALIZED VIEW aged AS SELECT json_build_object('n', 1) AS numbers, ${at} AS last_refreshed, 1 AS one;
       CREATE UNIQUE INDEX ON aged (one)`,
    );
    const engine = await start({ view: 'aged', queries: { numbers: 'SELECT 1 AS n' } });
    expect(await engine.getCacheHealth()).toMatchObject({
      overall: 'degraded',
      redis: { healthy: true },
      materializedView: { healthy: false, error: expect.stringMatching(error) },
    });
  });

  it('a view without that column, one that is none, and none at all', async () => {
    const counter = await Counter.in(database);
    const said = async (more: Partial<DashboardOption>) => {
      const { overall, materializedView } = await (await start(counter.option(more))).getCacheHealth();
      expect(overall).toBe('degraded');
      expect(materializedView.healthy).toBe(false);
      expect(materializedView.ageSeconds).toBeUndefined();
      return materializedView.error;
    };
    expect(await said({ lastRefreshedColumn: 'refreshed_at' })).toContain('refreshed_at');
    expect(await said({ view: 'users' })).toContain('no materialized view public.users');
    expect(await said({ view: 'nowhere' })).toContain('no materialized view public.nowhere');
  });
});

describe('the option', () => {
  it('is missing: every function says so, and which', async () => {
    const engine = engines.start({ databaseUrl: database.url });
    const calls = [
      () => engine.getDashboardMetrics(),
      () => engine.getDashboardMetrics(false),
      () => engine.refreshDashboardMetrics(),
      () => engine.warmUpDashboardCache(),
      () => engine.getCacheHealth(),
      () => engine.invalidateDashboardCache(),
    ];
    for (const call of calls) {
      await expect(call()).rejects.toMatchObject({
        code: 'E_CONFIG',
        field: 'dashboard',
        message: expect.stringContaining('set the option dashboard'),
      });
    }
    expect(engine.getMetrics().source.statements).toBe(0);
  });

  it.each([
    ['dashboard', 'metrics'],
    ['dashboard.view', { queries: { a: 'SELECT 1' } }],
    ['dashboard.view', { view: 'a; DROP TABLE users', queries: { a: 'SELECT 1' } }],
    ['dashboard.schema', { view: 'v', schema: 'pg_catalog', queries: { a: 'SELECT 1' } }],
    ['dashboard.queries', { view: 'v' }],
    ['dashboard.queries', { view: 'v', queries: {} }],
    ['dashboard.queries.a b', { view: 'v', queries: { 'a b': 'SELECT 1' } }],
    ['dashboard.queries.a', { view: 'v', queries: { a: 'SELECT 1' }, scopeColumn: 'tenant' }],
    ['dashboard.queries.a', { view: 'v', queries: { a: 'SELECT $1' } }],
    ['dashboard.refreshTimeoutMs', { view: 'v', queries: { a: 'SELECT 1' }, refreshTimeoutMs: 1 }],
    ['dashboard.refreshTimeout', { view: 'v', queries: { a: 'SELECT 1' }, refreshTimeout: 1 }],
  ])('a mistake in %s is found when the engine is made', (field, dashboard) => {
    expect(() => engines.start({ cacheStore: 'none', dashboard: dashboard as never })).toThrow(
      expect.objectContaining({ code: 'E_CONFIG', field }),
    );
  });

  it('fifty groups are one statement', async () => {
    const groups = Array.from({ length: 50 }, (_, at) => `g${at}`);
    const queries = Object.fromEntries(groups.map((group, at) => [group, `SELECT ${at} AS n`]));
    const engine = await start({ view: 'nowhere', queries });
    const metrics = await engine.getDashboardMetrics<Record<string, { n: number }>>();
    for (const [at, group] of groups.entries()) expect(metrics[group]).toEqual({ n: at });
    expect(sent(engine, 'dashboard_queries')).toBe(1);
  });
});

it('counts every statement, by name', async () => {
  const counter = await Counter.in(database);
  const engine = await start(counter.option());
  const before = engine.getMetrics().source.statements;
  await engine.getDashboardMetrics(false);
  await engine.refreshDashboardMetrics();
  await engine.getCacheHealth();
  await counter.dropView();
  await engine.getDashboardMetrics(false);
  const { statementsByName, statements } = engine.getMetrics().source;
  const names = ['view', 'queries', 'refresh', 'health', 'age'].map((name) => `dashboard_${name}`);
  expect(names.map((name) => statementsByName[name])).toEqual([2, 1, 1, 2, 1]);
  expect(statements - before).toBe(7);
});
