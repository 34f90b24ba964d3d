/**
 * `getHealth` says of every part how it is, why, and since when. Each trouble is a real one: a killed server, refused
 * writes, a right taken away. Not what functions do meanwhile: the outage specs show that.
 */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine, EngineHealth, EngineOptions } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { type Database, Databases } from './support/database.js';
import { Engines, until } from './support/engines.js';
import { configured, reaching } from './support/outage.js';

const STORE_PASSWORD = 'store-Passw0rd-of-this-test';
const BOUNDED: EngineOptions = { near: { user_basic: { mode: 'bounded', maxAgeMs: 60_000 } } };
/** The wall clock of a report is read twice, a moment apart. */
const CLOCK_MS = 5;

let databases: Databases;
let database: Database;
let server: Server;
let engines: Engines;
let startedMs: number;
beforeAll(async () => {
  databases = await Databases.start();
  database = await databases.create();
  server = await startValkey({ acl: { username: 'app', password: STORE_PASSWORD } });
});
afterAll(async () => {
  await server?.stop();
  await databases?.[Symbol.asyncDispose]();
});
beforeEach(() => {
  engines = new Engines();
  startedMs = Date.now();
});
afterEach(() => engines[Symbol.asyncDispose]());

const valkey = (): EngineOptions => ({
  ...reaching(server),
  redisUsername: 'app',
  redisPassword: STORE_PASSWORD,
  cacheDeadlineMs: 500,
});

type Part = 'store' | 'source' | 'near' | 'limiter';
const PARTS: readonly Part[] = ['store', 'source', 'near', 'limiter'];
const statuses = (health: EngineHealth) => PARTS.map((part) => health[part].status);

/** Whatever is not healthy has a reason, and nothing else has; every moment lies in the life of the engine. */
function sound(health: EngineHealth): EngineHealth {
  for (const part of [health, ...PARTS.map((name) => health[name])]) {
    const troubled = part.status === 'degraded' || part.status === 'down';
    expect([part, part.reason !== null]).toEqual([part, troubled]);
    expect(new Date(part.since).toISOString()).toBe(part.since);
    expect(Date.parse(part.since)).toBeGreaterThanOrEqual(startedMs - CLOCK_MS);
    expect(Date.parse(part.since)).toBeLessThanOrEqual(Date.now() + CLOCK_MS);
  }
  return health;
}

/** The first report of which this is true. */
async function report(
  engine: Engine,
  what: string,
  holds: (health: EngineHealth) => boolean,
): Promise<EngineHealth> {
  let health = await engine.getHealth();
  await until(what, async () => {
    health = await engine.getHealth();
    return holds(health);
  });
  return sound(health);
}

/** Between two moments of this process. */
function within(since: string, fromMs: number, untilMs = Date.now()): void {
  expect(Date.parse(since)).toBeGreaterThanOrEqual(fromMs - CLOCK_MS);
  expect(Date.parse(since)).toBeLessThanOrEqual(untilMs + CLOCK_MS);
}

it('all is well: since the engine was ready, whoever asks and however late', async () => {
  const engine = engines.start(valkey(), BOUNDED, { databaseUrl: database.url });
  const first = await report(engine, 'all is well', ({ status }) => status === 'healthy');
  const seenMs = Date.now();
  expect(statuses(first)).toEqual(['healthy', 'healthy', 'healthy', 'healthy']);
  await new Promise((resolve) => setTimeout(resolve, 700));
  const later = sound(await engine.getHealth());
  for (const part of [later, ...PARTS.map((name) => later[name])]) within(part.since, startedMs, seenMs);
});

it('what is not configured is not in trouble', async () => {
  const alone = engines.start({ databaseUrl: database.url });
  const health = sound(await alone.getHealth());
  expect(health.status).toBe('healthy');
  expect(statuses(health)).toEqual(['not-configured', 'healthy', 'not-configured', 'degraded']);
  expect(health.limiter.reason).toMatch(/no store is configured/);
  const bare = engines.start({ cacheStore: 'embedded', cacheNearBytes: 0 });
  const ready = await report(bare, 'the embedded store is there', ({ status }) => status === 'healthy');
  expect(statuses(ready)).toEqual(['healthy', 'not-configured', 'not-configured', 'healthy']);
});

it('the store killed: it is down, the rest is degraded since the same moment; then since its return', async () => {
  const engine = engines.start(valkey(), { databaseUrl: database.url });
  await report(engine, 'all is well', ({ status }) => status === 'healthy');
  const killedMs = Date.now();
  await server.kill();
  await engine.isTokenBlacklisted(randomUUID());
  const noticedMs = Date.now();
  const down = await report(engine, 'it is down', ({ store }) => store.status === 'down');
  expect(down.status).toBe('degraded');
  expect(statuses(down)).toEqual(['down', 'healthy', 'degraded', 'degraded']);
  for (const part of [down, down.store, down.near, down.limiter]) within(part.since, killedMs, noticedMs);
  within(down.source.since, startedMs, killedMs);
  expect(down.near.reason).toMatch(/no copy can be confirmed/);
  const returnedMs = Date.now();
  await server.restart();
  const back = await report(engine, 'all is well again', ({ status }) => status === 'healthy');
  expect(statuses(back)).toEqual(['healthy', 'healthy', 'healthy', 'healthy']);
  for (const part of [back, back.store, back.near, back.limiter]) within(part.since, returnedMs);
});

it('a store that refuses writes is degraded, and says so while it serves', async () => {
  const engine = engines.start(valkey(), { databaseUrl: database.url });
  await report(engine, 'all is well', ({ status }) => status === 'healthy');
  const fullMs = Date.now();
  const restore = await configured(server, 'maxmemory', '1');
  try {
    expect(await engine.isTokenBlacklisted(randomUUID())).toBe(false);
    const full = await report(engine, 'it is degraded', ({ store }) => store.status === 'degraded');
    const firstMs = Date.now();
    expect(full.status).toBe('degraded');
    expect(full.store.reason).toMatch(/refuses writes/);
    expect(full.reason).toBe(full.store.reason);
    expect(full.store.breaker).toBe('closed');
    within(full.store.since, fullMs, firstMs);
    // The same trouble is not newer for being met again.
    await engine.isTokenBlacklisted(randomUUID());
    const later = sound(await engine.getHealth());
    expect(Math.abs(Date.parse(later.store.since) - Date.parse(full.store.since))).toBeLessThanOrEqual(
      CLOCK_MS,
    );
  } finally {
    await restore();
  }
});

it('announcements that do not arrive: copies of bounded namespaces are degraded, others are not', async () => {
  await server.command('ACL', 'SETUSER', 'app', 'resetchannels');
  try {
    const bounded = engines.start(valkey(), BOUNDED, { databaseUrl: database.url });
    const deaf = await report(bounded, 'it is deaf', ({ near, store }) => {
      return near.status === 'degraded' && store.status === 'degraded';
    });
    expect(deaf.near.reason).toMatch(/announcements of other processes do not arrive/);
    expect(deaf.store.reason).toMatch(/refuses a command/);
    expect(deaf.store.subscription).toBe('unhealthy');
    const validated = engines.start(valkey(), { databaseUrl: database.url });
    await report(validated, 'all is well', ({ status }) => status === 'healthy');
    const heardMs = Date.now();
    await server.command('ACL', 'SETUSER', 'app', 'allchannels');
    const hears = await report(bounded, 'it hears', ({ near }) => near.status === 'healthy');
    within(hears.near.since, heardMs);
  } finally {
    await server.command('ACL', 'SETUSER', 'app', 'allchannels');
  }
});

it('the source stopped and resumed', async () => {
  const engine = engines.start(valkey(), { databaseUrl: database.url });
  await report(engine, 'all is well', ({ status }) => status === 'healthy');
  const pausedMs = Date.now();
  await databases.server.pause();
  try {
    const down = await report(engine, 'the source is down', ({ source }) => source.status === 'down');
    expect(down).toMatchObject({ status: 'degraded', store: { status: 'healthy' } });
    within(down.source.since, pausedMs);
    expect(down.since).toBe(down.source.since);
    const later = sound(await engine.getHealth());
    expect(Math.abs(Date.parse(later.since) - Date.parse(down.since))).toBeLessThanOrEqual(CLOCK_MS);
  } finally {
    await databases.server.resume();
  }
  const resumedMs = Date.now();
  const back = await report(engine, 'all is well again', ({ status }) => status === 'healthy');
  within(back.source.since, resumedMs);
});

describe('another database for analytics', () => {
  const connections = async (url: string) => {
    const [row] = await databases.server.query<{ count: string }>(
      'SELECT count(*) FROM pg_stat_activity WHERE datname = $1',
      [new URL(url).pathname.slice(1)],
    );
    return Number(row?.count);
  };

  it('is connected to when it is first asked, is part of the source, and is closed with the engine', async () => {
    const analyticsDatabaseUrl = await databases.server.createDatabase(`analytics_${process.pid}`);
    const engine = engines.start({ databaseUrl: database.url, analyticsDatabaseUrl });
    expect(await engine.isTokenBlacklisted(randomUUID())).toBe(false);
    expect(await connections(analyticsDatabaseUrl)).toBe(0);
    expect(sound(await engine.getHealth()).source.status).toBe('healthy');
    expect(await connections(analyticsDatabaseUrl)).toBe(1);
    await engine.close();
    await until('its connections are gone', async () => (await connections(analyticsDatabaseUrl)) === 0);
  });

  it('out of reach: the source is degraded, the application goes on, and its return is seen', async () => {
    const url = new URL(await databases.server.createDatabase(`later_${process.pid}`));
    const name = url.pathname.slice(1);
    const admin = new pg.Client({ connectionString: databases.server.url });
    await admin.connect();
    try {
      await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
      const engine = engines.start({ databaseUrl: database.url, analyticsDatabaseUrl: url.href });
      const health = sound(await engine.getHealth());
      expect(health).toMatchObject({ status: 'degraded', source: { status: 'degraded' } });
      expect(health.reason).toMatch(/^the analytics database is not reachable/);
      expect(health.reason).not.toContain(name);
      expect(await engine.isTokenBlacklisted(randomUUID())).toBe(false);
      const openedMs = Date.now();
      await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
      const back = await report(engine, 'it is there', ({ status }) => status === 'healthy');
      within(back.source.since, openedMs);
    } finally {
      await admin.end();
    }
  });
});
