/**
 * The dashboard while the store, Postgres or both are away: answers or typed errors in time, nothing that stands in for
 * data is stored, and what was voided meanwhile stays void.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine, EngineOptions } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { Counter, type Numbers } from './support/dashboards.js';
import { type Database, Databases } from './support/database.js';
import { Engines, outcome, until } from './support/engines.js';
import { timed } from './support/functions.js';
import { FIRST_CALL_MS, pending, RECOVERY_MS, reaching } from './support/outage.js';

/** Shorter than the default, so that a slow source is soon late. */
const SOURCE_DEADLINE_MS = 400;
/** View and queries may both be late, and each command of the store once; the rest is room for a busy machine. */
const IN_TIME_MS = 2 * SOURCE_DEADLINE_MS + FIRST_CALL_MS + 400;

let databases: Databases;
let database: Database;
let server: Server;
let counter: Counter;
beforeAll(async () => {
  [databases, server] = await Promise.all([Databases.start(), startValkey()]);
  database = await databases.create();
  counter = await Counter.in(database);
});
afterAll(async () => {
  await server?.stop();
  await databases?.[Symbol.asyncDispose]();
});

let engines: Engines;
beforeEach(async () => {
  engines = new Engines();
  await server.command('FLUSHALL');
  await counter.set(1);
  await counter.refresh();
});
afterEach(async () => {
  await engines[Symbol.asyncDispose]();
});

async function start(more: EngineOptions = {}): Promise<Engine> {
  const options = { databaseUrl: database.url, cacheSourceDeadlineMs: SOURCE_DEADLINE_MS };
  const engine = engines.start(reaching(server), options, { dashboard: counter.option(), ...more });
  await until('the store is in service', async () => {
    await engine.getHealth();
    return engine.isRedisAvailable();
  });
  return engine;
}

interface Trouble {
  readonly name: string;
  begin(what: { kill(): Promise<void>; pause(): Promise<void> }): Promise<void>;
  end(what: { restart(): Promise<void>; resume(): Promise<void> }): Promise<void>;
}
const troubles: readonly Trouble[] = [
  { name: 'killed', begin: (what) => what.kill(), end: (what) => what.restart() },
  { name: 'stopped with SIGSTOP', begin: (what) => what.pause(), end: (what) => what.resume() },
];

describe.each(troubles)('$name', ({ begin, end }) => {
  it('the store: the view answers, in time, and health says so', async () => {
    const engine = await start();
    await engine.getDashboardMetrics();
    await begin(server);
    try {
      for (let call = 0; call < 5; call += 1) {
        const ended = await timed(() => engine.getDashboardMetrics<Numbers>());
        expect(ended.ms).toBeLessThan(FIRST_CALL_MS + SOURCE_DEADLINE_MS);
        expect(ended).toMatchObject({
          value: { numbers: { n: 1 }, performance: { cacheHit: false, cacheLayer: 'materialized_view' } },
        });
      }
      await until('the breaker is open', () => !engine.isRedisAvailable(), 2_000);
      const { performance } = await engine.getDashboardMetrics();
      expect(performance.tiers[0]).toMatchObject({ layer: 'redis', outcome: 'unavailable' });
      expect(performance.tiers[0]?.ms).toBeLessThan(30);
      expect(await engine.warmUpDashboardCache()).toMatchObject({ loaded: true, stored: false });
      expect(await engine.getCacheHealth()).toMatchObject({
        overall: 'degraded',
        redis: { healthy: false, connected: false },
        materializedView: { healthy: true },
        recommendation: expect.stringContaining('The cache does not answer'),
      });
    } finally {
      await end(server);
    }
    await until(
      'a hit',
      async () => (await engine.getDashboardMetrics()).performance.cacheHit,
      RECOVERY_MS + 1_000,
    );
    expect(await engine.getCacheHealth()).toMatchObject({ overall: 'healthy' });
  });

  it('Postgres: the cache answers; without it a typed error in time, and nothing of it is stored', async () => {
    const [warm, cold] = [await start(), await start({ dashboard: counter.option({ key: 'cold' }) })];
    await warm.getDashboardMetrics();
    await begin(databases.server);
    try {
      expect((await warm.getDashboardMetrics<Numbers>()).numbers.n).toBe(1);
      const ended = await Promise.all(
        Array.from({ length: 10 }, () => timed(() => cold.getDashboardMetrics())),
      );
      for (const one of ended) {
        expect(one).toMatchObject({ error: { code: 'E_SOURCE_UNAVAILABLE', retryable: true } });
        expect(one.ms).toBeLessThan(IN_TIME_MS);
      }
      const told = await cold.warmUpDashboardCache();
      expect(told).toMatchObject({ loaded: false, stored: false, layer: 'none' });
      expect(told.error).toMatchObject({ code: 'E_SOURCE_UNAVAILABLE' });
      await expect(warm.refreshDashboardMetrics()).rejects.toMatchObject({ code: 'E_SOURCE_UNAVAILABLE' });
      // The refresh has not happened: what is cached is as good as before.
      expect((await warm.getDashboardMetrics()).performance.cacheHit).toBe(true);
      const health = await timed(() => cold.getCacheHealth());
      expect(health.ms).toBeLessThan(IN_TIME_MS + 1_500);
      expect(health).toMatchObject({
        value: {
          overall: 'degraded',
          redis: { healthy: true },
          materializedView: { healthy: false, error: expect.any(String) },
        },
      });
      expect(await server.command('KEYS', '*cold*')).toEqual([]);
    } finally {
      await end(databases.server);
    }
    await until(
      'the view answers',
      async () => 'value' in (await outcome(cold.getDashboardMetrics())),
      5_000,
    );
    expect((await cold.getDashboardMetrics<Numbers>()).numbers.n).toBe(1);
  });

  it('both: a typed error in time, health is down, and both come back', async () => {
    const engine = await start();
    await engine.getDashboardMetrics();
    await Promise.all([begin(server), begin(databases.server)]);
    try {
      for (let call = 0; call < 3; call += 1) {
        const ended = await timed(() => engine.getDashboardMetrics());
        expect(ended).toMatchObject({ error: { code: 'E_SOURCE_UNAVAILABLE' } });
        expect(ended.ms).toBeLessThan(IN_TIME_MS);
      }
      expect(await engine.getCacheHealth()).toMatchObject({ overall: 'down' });
    } finally {
      await Promise.all([end(server), end(databases.server)]);
    }
    await until('it answers', async () => 'value' in (await outcome(engine.getDashboardMetrics())), 5_000);
    await until(
      'all is well',
      async () => (await engine.getCacheHealth()).overall === 'healthy',
      RECOVERY_MS + 1_000,
    );
  });
});

it('a refresh while the store hangs is queued: this process never answers the old value again', async () => {
  const [engine, witness] = [await start(), await start()];
  await engine.getDashboardMetrics();
  await server.pause();
  let done: { acknowledged: boolean; queued: boolean };
  try {
    await counter.set(2);
    done = await engine.refreshDashboardMetrics();
    expect([done.acknowledged, done.queued]).toEqual([false, true]);
    expect((await engine.getDashboardMetrics<Numbers>()).numbers.n).toBe(2);
  } finally {
    await server.resume();
  }
  // The old entry is still there when the store comes back.
  const lies: number[] = [];
  await until('the queue is empty', async () => {
    const { n } = (await engine.getDashboardMetrics<Numbers>()).numbers;
    if (n !== 2) lies.push(n);
    return engine.isRedisAvailable() && pending(engine) === 0;
  });
  expect(lies).toEqual([]);
  await until(
    'the other process has heard of it',
    async () => (await witness.getDashboardMetrics<Numbers>()).numbers.n === 2,
    2_000,
  );
});
