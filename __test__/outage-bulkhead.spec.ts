/**
 * Issue 2, "outage": what protects Postgres when every read comes to it, and an engine that has no Postgres at all.
 * Connections are counted by Postgres itself.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { BcosCacheError, type Engine, type EngineOptions } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { type Database, Databases } from './support/database.js';
import { Engines, outcome, statementsOf } from './support/engines.js';
import { timed } from './support/functions.js';
import { reaching } from './support/outage.js';
import { rounds } from './support/rounds.js';
import { claimsOf, signed, verified } from './support/tokens.js';

/** `CACHE_SOURCE_DEADLINE_MS` of the engines here: shorter than the default, so that a slow source is soon late. */
const SOURCE_DEADLINE_MS = 400;

let databases: Databases;
let database: Database;
let server: Server;
beforeAll(async () => {
  databases = await Databases.start();
  database = await databases.create();
  server = await startValkey();
});
afterAll(async () => {
  await server.stop();
  await databases[Symbol.asyncDispose]();
});

let engines: Engines;
beforeEach(() => {
  engines = new Engines();
});
afterEach(async () => {
  await engines[Symbol.asyncDispose]();
});

const start = (options: EngineOptions = {}): Engine =>
  engines.start(
    { databaseUrl: database.url, cacheSourceDeadlineMs: SOURCE_DEADLINE_MS },
    reaching(server),
    options,
  );

const code = (ended: object): unknown =>
  'error' in ended && ended.error instanceof BcosCacheError ? ended.error.code : ended;

describe('the bulkhead', () => {
  const POOL = 4;

  /** Most connections of an engine at a time, sampled over and over while something runs. */
  async function peakConnections(during: () => Promise<unknown>): Promise<number> {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    const sql = "SELECT count(*)::int AS count FROM pg_stat_activity WHERE application_name = 'bcos-cache'";
    let peak = 0;
    let running = true;
    const sampling = (async () => {
      while (running) peak = Math.max(peak, (await client.query<{ count: number }>(sql)).rows[0]?.count ?? 0);
    })();
    try {
      await during();
    } finally {
      running = false;
      await sampling;
      await client.end();
    }
    return peak;
  }

  it('without the store 500 cold reads at once are 500 statements on no more connections than allowed', async () => {
    await server.pause();
    try {
      const one = start({ databasePoolMax: POOL, cacheSourceDeadlineMs: 20_000 });
      await outcome(one.getUserById(randomUUID()));
      const ids = await database.query<{ user_id: string }>(
        `INSERT INTO users (user_id, email, first_name, last_name)
         SELECT id, id || '@example.test', 'a', 'b' FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, 500)) AS new
         RETURNING user_id`,
      );
      let answers: (string | undefined)[] = [];
      let statements = 0;
      const peak = await peakConnections(async () => {
        statements = await statementsOf(one, async () => {
          const users = await Promise.all(ids.map(({ user_id }) => one.getUserById(user_id)));
          answers = users.map((user) => user?.user_id);
        });
      });
      expect(answers).toEqual(ids.map(({ user_id }) => user_id));
      expect(statements).toBe(ids.length);
      expect(peak).toBeGreaterThan(0);
      expect(peak).toBeLessThanOrEqual(POOL);
    } finally {
      await server.resume();
    }
  });

  it('a slow source does not get more connections than allowed, however many calls run out of time', async () => {
    const one = start({ databasePoolMax: POOL });
    await one.getUserById(randomUUID());
    const unlock = await database.lock('users');
    try {
      const peak = await peakConnections(async () => {
        const end = Date.now() + rounds(5_000, 2_000);
        while (Date.now() < end) {
          await Promise.all(Array.from({ length: 50 }, () => outcome(one.getUserById(randomUUID()))));
          await sleep(50);
        }
      });
      expect(peak).toBeLessThanOrEqual(POOL);
    } finally {
      await unlock();
    }
  });

  it('refuses with E_OVERLOADED what finds its queue full, at once', async () => {
    const one = start({ databasePoolMax: 1, cacheBulkhead: 1, cacheBulkheadQueue: 2 });
    await one.getUserById(randomUUID());
    const unlock = await database.lock('users');
    try {
      const ended = await Promise.all(
        Array.from({ length: 10 }, () => timed(() => one.getUserById(randomUUID()))),
      );
      const overloaded = ended.filter((call) => code(call) === 'E_OVERLOADED');
      expect(overloaded).toHaveLength(7);
      expect(Math.max(...overloaded.map(({ ms }) => ms))).toBeLessThan(SOURCE_DEADLINE_MS / 2);
    } finally {
      await unlock();
    }
  });
});

describe('an engine without a database', () => {
  const stores: readonly { name: string; options: () => EngineOptions }[] = [
    { name: 'with a store', options: () => reaching(server) },
    { name: 'with an embedded store', options: () => ({ cacheStore: 'embedded' }) },
    { name: 'without a store', options: () => ({ cacheStore: 'none' }) },
    { name: 'with a store that is not there', options: () => reaching({ host: '127.0.0.1', port: 1 }) },
  ];

  it.each(stores)('$name says which variable to set', async ({ options }) => {
    const one = engines.start(options());
    const calls = [
      () => one.isTokenBlacklisted(randomUUID()),
      () => one.getUserById(randomUUID()),
      () => one.getUserByEmail('somebody@example.test'),
      () =>
        one.blacklistToken({
          jti: randomUUID(),
          userId: randomUUID(),
          tokenType: 'access',
          expiresAt: Date.now() + 60_000,
          reason: 'logout',
        }),
    ];
    for (const call of calls) {
      const ended = await outcome<unknown>(call());
      expect(ended).toMatchObject({
        error: { code: 'E_SOURCE_UNAVAILABLE', message: expect.stringContaining('DATABASE_URL') },
      });
    }
    const claims = claimsOf(randomUUID());
    expect(await one.verifyTokenCached(signed(claims), verified)).toEqual(claims);
  });
});
