/**
 * Reads that go past the store because it cannot be asked: which count, by what reason, what health makes of them, and
 * what an application may add. Not the window's arithmetic: that is tested by the thousand on the native side.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine, EngineOptions, LogRecord } from '../index.js';
import { type FaultProxy, type Server, startProxy, startValkey } from './servers/index.mjs';
import { type Database, Databases } from './support/database.js';
import { Engines, outcome, until } from './support/engines.js';
import { configured, pending, reaching } from './support/outage.js';
import { parsePrometheus } from './support/prometheus.js';
import { addRights } from './support/rbac-functions.js';
import { claimsOf, signed, verified } from './support/tokens.js';

let databases: Databases;
let db: Database;
let server: Server;
let proxy: FaultProxy;
let engines: Engines;
let engine: Engine;

const start = (...options: EngineOptions[]): Engine =>
  engines.start({ databaseUrl: db.url, cacheDeadlineMs: 2_000 }, ...options);

beforeAll(async () => {
  databases = await Databases.start();
  db = await databases.create();
  server = await startValkey();
  proxy = await startProxy({ port: server.port });
});
afterAll(async () => {
  await proxy?.stop();
  await server?.stop();
  await databases?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  engines = new Engines();
  engine = start(reaching(proxy));
  await engine.isTokenBlacklisted(randomUUID());
  await until('the store is in service', () => engine.isRedisAvailable());
});
afterEach(async () => {
  engine.setLogger(null);
  await proxy.reset();
  await engines[Symbol.asyncDispose]();
});

const counts = (by: Engine = engine): Record<string, number> =>
  Object.fromEntries(
    by.getMetrics().fallback.counts.map(({ operation, reason, count }) => [`${operation} ${reason}`, count]),
  );
const health = async (by: Engine = engine) => (await by.getHealth()).fallback;

async function outage(): Promise<void> {
  await proxy.set({ refuseConnections: true });
  await until('the outage is noticed', async () => {
    await outcome(engine.getCachedTokenBlacklistStatus('noticed'));
    return !engine.isRedisAvailable();
  });
}
async function end(): Promise<void> {
  await proxy.reset();
  await until('the store is back', () => engine.isRedisAvailable());
}
/** Reads of what nobody has asked for: ordinary misses while the store is there. */
async function read(count: number, by: Engine = engine): Promise<void> {
  for (let at = 0; at < count; at += 50) {
    const some = Array.from({ length: Math.min(50, count - at) }, () => by.isTokenBlacklisted(randomUUID()));
    await Promise.all(some);
  }
}

describe('what counts', () => {
  it('misses and hits are reads and no fallbacks, one each', async () => {
    const { user_id: id } = await db.addUser();
    const token = signed(claimsOf(id));
    const before = (await health()).reads;
    await engine.getUserById(id);
    await engine.getUserById(id);
    await engine.getCachedUserBasic(randomUUID());
    await engine.verifyTokenCached(token, verified);
    await engine.getCachedJWTPayload(token);
    await engine.redisCacheService.get('nothing');
    await engine.queryDataSourceWithCache({ dataSourceId: randomUUID() }, null, async () => ({ data: [] }));
    await engine.getCachedUserContext(id);
    await engine.getCachedUserContext(id);
    expect(await health()).toEqual({
      status: 'healthy',
      reason: null,
      since: null,
      reads: before + 9,
      fallbacks: 0,
      share: 0,
    });
    expect(counts()).toEqual({});
    // Asked for the source, so not past the store.
    await engine.getCachedUserContext(id, { consistency: 'fresh' });
    await engine.checkRateLimit('a', 'b', 1, 60);
    await engine.invalidateUserCache(id);
    expect((await health()).reads).toBe(before + 9);
  });

  it('in an outage every read counts once, whatever it is', async () => {
    const { user_id: id, email } = await db.addUser();
    const { role } = await addRights(db, id);
    const token = signed(claimsOf(id));
    await outage();
    const before = counts();
    const { reads, fallbacks } = await health();
    await engine.isTokenBlacklisted(randomUUID());
    await engine.getCachedTokenBlacklistStatus(randomUUID());
    await engine.getUserById(id);
    await engine.getUserByEmail(email);
    await engine.getCachedUserBasic(id);
    await engine.verifyTokenCached(token, verified);
    await engine.getCachedUserContext(id);
    await engine.getCachedRolePermissions(role);
    await engine.redisCacheService.get('a');
    await engine.redisCacheService.getOrSet('a', async () => 1, 60);
    await engine.queryDataSourceWithCache({ dataSourceId: randomUUID() }, null, async () => ({ data: [] }));
    // The blacklist, the payload, the context; what depends on a token is asked again once it was verified.
    await engine.authorizeRequest({ token, verify: verified });
    const after = await health();
    const more = Object.entries(counts()).map(([name, count]) => [name, count - (before[name] ?? 0)]);
    const expected = {
      'token_bl unavailable': 4,
      'user_basic unavailable': 3,
      'user_email unavailable': 1,
      'jwt_payload unavailable': 3,
      'user_context unavailable': 2,
      'role_perms unavailable': 1,
      'cache unavailable': 2,
      'datasource unavailable': 1,
    };
    expect(Object.fromEntries(more.filter(([, count]) => count !== 0))).toEqual(expected);
    expect(after.fallbacks - fallbacks).toBe(after.reads - reads);
    expect(after.fallbacks - fallbacks).toBe(more.reduce((sum, [, count]) => sum + Number(count), 0));
  });

  it('callers who share one load have each gone past the store', async () => {
    await outage();
    const before = counts()['user_basic unavailable'] ?? 0;
    const id = randomUUID();
    await Promise.all(Array.from({ length: 30 }, () => engine.getUserById(id)));
    expect((counts()['user_basic unavailable'] ?? 0) - before).toBe(30);
  });

  it('a command that the store refuses has failed', async () => {
    const { user_id: id } = await db.addUser();
    await proxy.set({ refuse: ['GET', 'MGET'] });
    expect(await engine.getUserById(id)).toMatchObject({ user_id: id });
    expect(await engine.getCachedUserContext(id)).toMatchObject({ user_id: id });
    expect(engine.isRedisAvailable()).toBe(true);
    expect(counts()).toEqual({ 'user_basic failed': 1, 'user_context failed': 1 });
  });

  it('and so has one that is not answered in time', async () => {
    const impatient = start(reaching(proxy), { cacheDeadlineMs: 100 });
    await impatient.isTokenBlacklisted(randomUUID());
    await proxy.set({ delayMs: 400 });
    expect(await impatient.isTokenBlacklisted(randomUUID())).toBe(false);
    expect(counts(impatient)).toEqual({ 'token_bl failed': 1 });
  });

  it('an invalidation that waits for the store makes it worthless about this entry, and no other', async () => {
    const [mine, other] = [await db.addUser(), await db.addUser()];
    await Promise.all([engine.getUserById(mine.user_id), engine.getUserById(other.user_id)]);
    const restore = await configured(server, 'min-replicas-to-write', '1');
    try {
      expect(await engine.invalidateUserCache(mine.user_id)).toMatchObject({ queued: true });
      expect(pending(engine)).toBeGreaterThan(0);
      await engine.getUserById(mine.user_id);
      await engine.getUserById(other.user_id);
      expect(counts()).toEqual({ 'user_basic pending': 1 });
    } finally {
      await restore();
    }
  });

  it('a key of a foreign type is in the way, and no outage', async () => {
    const { user_id: id } = await db.addUser();
    await server.command('RPUSH', `user_basic:${id}`, 'a list');
    expect(await engine.getUserById(id)).toMatchObject({ user_id: id });
    expect(counts()).toEqual({});
  });

  it('without a store there is nothing to go past', async () => {
    const none = start({ cacheStore: 'none' });
    await read(150, none);
    expect(await health(none)).toMatchObject({ status: 'healthy', reads: 150, fallbacks: 0 });
    expect(counts(none)).toEqual({});
  });

  it('reads that this thread answers by itself are reads', async () => {
    const near = { user_basic: { mode: 'bounded', maxAgeMs: 60_000 } } as const;
    const bounded = start({ cacheStore: 'embedded' }, { near });
    const { user_id: id } = await db.addUser();
    await bounded.getUserById(id);
    await until('announcements are heard', async () => {
      const { store } = await bounded.getHealth();
      return store.subscription === 'healthy';
    });
    await bounded.getUserById(id);
    const [{ reads }, { submitted }] = [await health(bounded), bounded.getMetrics().bridge];
    for (let round = 0; round < 20; round += 1) await bounded.getUserById(id);
    expect(bounded.getMetrics().bridge.submitted).toBe(submitted);
    expect((await health(bounded)).reads - reads).toBe(20);
  });
});

describe('health', () => {
  it('a few of a few are no alarm', async () => {
    await outage();
    await read(20);
    await end();
    const { status, fallback } = await engine.getHealth();
    expect(fallback.fallbacks).toBeGreaterThanOrEqual(20);
    expect([status, fallback.status]).toEqual(['healthy', 'healthy']);
  });

  it('is degraded above a tenth, says why and since when, and healthy again below', async () => {
    const began = Date.now();
    await outage();
    await read(120);
    const during = await engine.getHealth();
    expect(during.status).toBe('degraded');
    expect(during.reason).toContain('the store does not answer');
    expect(during.fallback.status).toBe('degraded');
    await end();
    const after = await engine.getHealth();
    const { fallback } = after;
    expect(after).toMatchObject({ status: 'degraded', store: { status: 'healthy' } });
    expect(after.reason).toMatch(/10 %/);
    expect(fallback).toMatchObject({ status: 'degraded', reason: after.reason, since: after.since });
    expect(Date.parse(fallback.since ?? '')).toBeGreaterThanOrEqual(began - 1);
    expect(fallback.share).toBeCloseTo(fallback.fallbacks / fallback.reads);
    // Ordinary reads thin them out: nine to one and it is over.
    await read(fallback.fallbacks * 10 - fallback.reads);
    const healthy = await engine.getHealth();
    expect(healthy.fallback.share).toBeLessThanOrEqual(0.1);
    expect(healthy).toMatchObject({ status: 'healthy', reason: null, fallback: { status: 'healthy' } });
  });

  it('is in the metrics, with the same figures', async () => {
    await outage();
    await read(30);
    const { fallback } = engine.getMetrics();
    expect(fallback).toMatchObject({ reads: (await health()).reads, share: (await health()).share });
    const metrics = parsePrometheus(engine.metricsText());
    for (const { operation, reason, count } of fallback.counts) {
      expect(metrics.value('bcos_cache_fallback_total', { operation, reason })).toBe(count);
    }
    expect(metrics.value('bcos_cache_fallback_window_reads')).toBe(fallback.reads);
    expect(metrics.value('bcos_cache_fallback_window_ratio')).toBeCloseTo(fallback.share ?? -1);
  });
});

describe('recordCacheFallback', () => {
  it('adds what the application knows, as a read that fell back', async () => {
    const { reads, fallbacks } = await health();
    for (let round = 0; round < 3; round += 1) engine.recordCacheFallback('exportRows', 'cache_timeout');
    engine.recordCacheFallback('exportRows', 'http.503');
    expect(counts()).toEqual({ 'exportRows cache_timeout': 3, 'exportRows http.503': 1 });
    const after = await health();
    expect([after.reads - reads, after.fallbacks - fallbacks]).toEqual([4, 4]);
    const metrics = parsePrometheus(engine.metricsText());
    const labels = { operation: 'exportRows', reason: 'cache_timeout' };
    expect(metrics.value('bcos_cache_fallback_total', labels)).toBe(3);
  });

  it('makes health say so like any other', async () => {
    for (let round = 0; round < 150; round += 1) engine.recordCacheFallback('exportRows', 'timeout');
    expect(await engine.getHealth()).toMatchObject({ status: 'degraded', fallback: { status: 'degraded' } });
  });

  it('takes words only, and takes anything', () => {
    const odd: unknown[] = [
      'ada@example.org',
      'user 17 not found',
      '203.0.113.77',
      randomUUID(),
      '',
      'a"}\nbcos_forged_total{a="b',
      '\ud800',
      'x'.repeat(1_000_000),
      undefined,
      null,
      5,
      {},
      Symbol('s'),
      () => 1,
    ];
    for (const one of odd) {
      engine.recordCacheFallback(one as string, 'down');
      engine.recordCacheFallback('export', one as string);
    }
    expect(counts()).toEqual({ 'other down': odd.length, 'export other': odd.length });
    expect(() => parsePrometheus(engine.metricsText())).not.toThrow();
  });

  it('does not make series without end', () => {
    const letters = 'abcdefghijklmnopqrstuvwxyz';
    for (const first of letters) {
      for (const second of letters) engine.recordCacheFallback(`op_${first}${second}`, 'down');
    }
    const { counts: all } = engine.getMetrics().fallback;
    expect(all).toHaveLength(65);
    expect(all.find(({ operation }) => operation === 'other')).toMatchObject({ count: 26 * 26 - 64 });
  });
});

describe('log records', () => {
  it('one a minute for each pair, at level warn', async () => {
    const records: LogRecord[] = [];
    engine.setLogger((record) => records.push(record));
    const ours = () => records.filter(({ component }) => component === 'cache-fallback');
    for (let round = 0; round < 500; round += 1) engine.recordCacheFallback('export', 'timeout');
    engine.recordCacheFallback('export', 'refused');
    await outage();
    await read(200);
    await until('all have come', () => ours().length >= 3);
    await sleep(100);
    const told = ours().map(({ level, fields }) => [level, fields['operation'], fields['reason']]);
    expect(told).toContainEqual(['warn', 'export', 'timeout']);
    expect(told).toContainEqual(['warn', 'export', 'refused']);
    expect(told).toContainEqual(['warn', 'token_bl', 'unavailable']);
    expect(new Set(told.map((pair) => pair.join(' '))).size).toBe(told.length);
    expect(ours()[0]?.fields['count']).toBe(1);
  });
});
