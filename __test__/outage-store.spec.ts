/**
 * Issue 2, "outage": the store goes away under a running engine and comes back. Real servers, reached directly and
 * through a proxy with faults.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../index.js';
import * as api from '../index.js';
import {
  type FaultProxy,
  type Faults,
  type Server,
  type ServerKind,
  startProxy,
  startValkey,
} from './servers/index.mjs';
import { type Database, Databases, type UserRow } from './support/database.js';
import { Engines, until } from './support/engines.js';
import { complaints, functions, newWorld, type World } from './support/functions.js';
import { answered, FIRST_CALL_MS, pending, RECOVERY_MS, reaching, Witness } from './support/outage.js';
import { rounds } from './support/rounds.js';
import { claimsOf, signed, verified } from './support/tokens.js';

/** One way to lose the store: how it begins and ends, seen from an engine that reaches it by `path`. */
interface Outage {
  readonly name: string;
  readonly path: 'server' | 'proxy';
  /** How long it lasts at least. */
  readonly ms: number;
  begin(parts: Parts): Promise<unknown>;
  end(parts: Parts): Promise<unknown>;
}

interface Parts {
  readonly server: Server;
  readonly proxy: FaultProxy;
}

const throughProxy = (name: string, faults: Faults): Outage => ({
  name,
  path: 'proxy',
  ms: 0,
  begin: ({ proxy }) => proxy.set(faults),
  end: ({ proxy }) => proxy.reset(),
});

const outages: readonly Outage[] = [
  {
    name: 'killed with SIGKILL and started again, empty',
    path: 'server',
    ms: 0,
    begin: ({ server }) => server.kill(),
    end: ({ server }) => server.restart(),
  },
  {
    name: 'stopped with SIGSTOP and continued',
    path: 'server',
    ms: rounds(10_000, 1_000),
    begin: ({ server }) => server.pause(),
    end: ({ server }) => server.resume(),
  },
  throughProxy('replies that come 10 s late', { delayMs: 10_000 }),
  throughProxy('replies cut in half', { truncateReplies: true }),
  throughProxy('garbage instead of replies', { garbageReplies: true }),
  throughProxy('a network that swallows everything', { blackhole: true }),
  throughProxy('refused and reset connections', { refuseConnections: true }),
];

const both: readonly ServerKind[] = ['valkey', 'redis'];
const kinds = both.slice(0, rounds(2, 1));

let databases: Databases;
let database: Database;
beforeAll(async () => {
  databases = await Databases.start();
  database = await databases.create();
});
afterAll(() => databases[Symbol.asyncDispose]());

it('every asynchronous function of the package is in the table that the outages are held against', () => {
  const synchronous = [
    'createEngine',
    'configure',
    'getEngine',
    'isRedisAvailable',
    'getMetrics',
    'metricsText',
    'hasPermission',
    'scopeOf',
    'Scope',
    'RedisRateLimiter',
    'getRateLimitKey',
    'addRateLimitHeaders',
    'rateLimitResponse',
    'createLayeredCache',
    'recordCacheFallback',
    'calculateCacheHealth',
  ];
  // The service's, under other names: `values-outage.spec`. Analytics: `analytics-faults.spec`, `analytics-health.spec`.
  const analytics = ['AnalyticsCacheV2', 'getAnalyticsCacheStats', 'getAnalyticsCacheHealth'];
  const other = ['setLogger', 'close', 'redisGet', 'redisSet', 'redisDel', ...analytics];
  const exported = Object.entries(api)
    .filter(([name, value]) => typeof value === 'function' && !name.endsWith('Error'))
    .map(([name]) => name)
    .filter((name) => ![...synchronous, ...other].includes(name));
  expect([...new Set(functions.map((row) => row.name))].sort()).toEqual(exported.sort());
});

describe.each(kinds)('%s', (kind) => {
  describe.each(outages)('$name', (outage) => {
    let parts: Parts;
    let engines: Engines;
    /** Loses the store. */
    let near: Engine;
    /** Reaches the server directly, whatever the proxy does. */
    let other: Engine;
    let world: World;
    /** Not touched by the functions of the table, so that only what the test does to them counts. */
    let person: UserRow;
    let token: string;
    /** Not revoked at first; revoked during the outage, with a row and without one. */
    const written = randomUUID();
    const marked = randomUUID();
    let witness: Witness;

    beforeAll(async () => {
      const server = await startValkey({ kind });
      parts = { server, proxy: await startProxy({ port: server.port }) };
      engines = new Engines();
      const source = { databaseUrl: database.url };
      near = engines.start(source, reaching(parts[outage.path]));
      // A mark without a row is known to the store alone: this one must not give up on a busy machine.
      other = engines.start(source, reaching(server), { cacheDeadlineMs: 2_000 });
      world = await newWorld(database);
      await fill();
    });

    afterAll(async () => {
      await witness?.stop();
      await parts.proxy.reset();
      await engines[Symbol.asyncDispose]();
      await parts.proxy.stop();
      await parts.server.stop();
    });

    /** Everything is in the store and in both near caches. */
    async function fill(): Promise<void> {
      person = await database.addUser();
      token = signed(claimsOf(person.user_id));
      for (const engine of [near, other]) {
        await complaints(engine, world, { source: 'up', withinMs: 5_000 });
        await until('the store is in service', () => engine.isRedisAvailable());
        await engine.getUserById(person.user_id);
        await engine.verifyTokenCached(token, verified);
        for (const jti of [written, marked]) expect(await engine.isTokenBlacklisted(jti)).toBe(false);
      }
      await until(
        'the payload is in the store',
        async () => (await other.getCachedJWTPayload(token)) !== null,
      );
    }

    it('at its beginning every function answers in time, with the truth', async () => {
      await outage.begin(parts);
      expect(await complaints(near, world, { source: 'up', withinMs: FIRST_CALL_MS })).toEqual([]);
    });

    it('is noticed', async () => {
      await until('the store is out of service', () => !near.isRedisAvailable(), 1_000);
      const health = await near.getHealth();
      expect(health).toMatchObject({
        status: 'degraded',
        store: { status: 'down' },
        source: { status: 'healthy' },
      });
      expect(health.store.breaker).not.toBe('closed');
    });

    it('while it lasts every function answers with the truth', async () => {
      const until = Date.now() + outage.ms;
      do {
        expect(await complaints(near, world, { source: 'up', withinMs: FIRST_CALL_MS })).toEqual([]);
        await sleep(200);
      } while (Date.now() < until);
      expect(near.isRedisAvailable()).toBe(false);
    });

    it('while it lasts an invalidation is queued, and in effect here at once', async () => {
      await database.query('UPDATE users SET first_name = $2 WHERE user_id = $1', [person.user_id, 'Grace']);
      await database.revoke(written);
      const done = await Promise.all([
        near.invalidateUserCache(person.user_id),
        near.invalidateTokenCache(written),
        near.invalidateTokenCache(marked),
        near.invalidateAllUserTokens(person.user_id),
      ]);
      for (const one of done) expect(one).toEqual({ acknowledged: false, queued: true });
      expect(pending(near)).toBeGreaterThan(0);
      witness = new Witness([
        async () => {
          const name = (await near.getUserById(person.user_id))?.first_name;
          return name === 'Grace' ? undefined : `the user was called ${name}`;
        },
        async () => {
          const name = (await near.getCachedUserBasic(person.user_id))?.first_name ?? 'Grace';
          return name === 'Grace' ? undefined : `the cached user was called ${name}`;
        },
        async () => ((await near.isTokenBlacklisted(written)) ? undefined : 'a revoked token counted'),
        async () => ((await near.isTokenBlacklisted(marked)) ? undefined : 'a marked token counted'),
        async () =>
          (await near.getCachedJWTPayload(token)) === null ? undefined : 'a void payload came back',
      ]);
      await until('the witness has asked', () => witness.answers > 50);
      expect(witness.lies).toEqual([]);
    });

    it('after its end the store is in service within 2 s', async () => {
      await outage.end(parts);
      const start = performance.now();
      await until('the store is in service', () => near.isRedisAvailable(), 10_000);
      expect(performance.now() - start).toBeLessThan(RECOVERY_MS);
    });

    it('after its end nobody gets an old answer, from the first moment on', async () => {
      await until('everything queued was applied', () => pending(near) === 0, RECOVERY_MS);
      expect((await other.getUserById(person.user_id))?.first_name).toBe('Grace');
      expect(await other.isTokenBlacklisted(written)).toBe(true);
      // An engine that lost the store itself knows a mark without a row only after it found the store again.
      await answered(other, world.deactivated.user_id);
      expect(await other.isTokenBlacklisted(marked)).toBe(true);
      expect(await other.getCachedJWTPayload(token)).toBeNull();
      const asked = witness.answers;
      await until('the witness has asked the recovered store', () => witness.answers > asked + 200);
      expect(await witness.stop()).toEqual([]);
    });

    it('after its end the store answers again', async () => {
      for (const engine of [near, other]) {
        await answered(engine, world.user.user_id);
        expect(await complaints(engine, world, { source: 'up', withinMs: FIRST_CALL_MS })).toEqual([]);
      }
    });
  });
});
