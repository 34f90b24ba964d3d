/** Counters, lifetimes, tags, patterns and flush of the generic service, on every store. Reading and computing: `values.spec`. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CACHE_KEYS, CACHE_TTL, type Engine } from '../index.js';
import { Engines } from './support/engines.js';
import { rounds } from './support/rounds.js';
import { stores, type TestStore } from './support/stores.js';

describe.each(stores)('$name', (kind) => {
  const engines = new Engines();
  let store: TestStore;
  let engine: Engine;
  let second: Engine;
  beforeAll(async () => {
    store = await kind.start();
    [engine, second] = [engines.start(store.options), engines.start(store.options)];
    await Promise.all([engine.getHealth(), second.getHealth()]);
    await Promise.all([engine, second].map((one) => one.redisCacheService.get('contact')));
  });
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await store?.[Symbol.asyncDispose]();
  });
  const cache = () => engine.redisCacheService;
  const other = () => (kind.shared ? second : engine).redisCacheService;

  it('several at once, in one round trip, in order', async () => {
    const [a, b, c] = [randomUUID(), randomUUID(), randomUUID()];
    expect(
      await cache().mset([
        [a, 1, 60],
        [b, { deep: [2] }, 60],
      ]),
    ).toBe(kind.caches);
    await cache().mget([a, b, c]);
    const before = engine.getMetrics().store.roundTrips;
    expect(await cache().mget([b, c, a])).toEqual(
      kind.caches ? [{ deep: [2] }, null, 1] : [null, null, null],
    );
    expect(engine.getMetrics().store.roundTrips - before).toBeLessThanOrEqual(1);
    await expect(
      cache().mset([
        [a, 9, 60],
        [b, undefined, 60],
      ]),
    ).rejects.toMatchObject({ field: 'value' });
    expect(await cache().get(a)).toBe(kind.caches ? 1 : null);
  });

  it('counts exactly, over all processes', async () => {
    const key = randomUUID();
    const each = rounds(500, 100);
    const asked = Array.from({ length: each * 2 }, (_, n) => (n % 2 ? cache() : other()).incr(key, 2));
    const sums = await Promise.all(asked);
    if (!kind.caches) {
      expect(new Set(sums)).toEqual(new Set([0]));
      return;
    }
    expect([...sums].sort((a, b) => a - b)).toEqual(Array.from({ length: each * 2 }, (_, n) => 2 * n + 2));
    expect(await other().decr(key, 4 * each + 1)).toBe(-1);
    expect(await cache().get(key)).toBe(-1);
    expect(await other().get(key)).toBe(-1);
    expect(await cache().ttl(key)).toBeGreaterThan(86_000);
  });

  it('a counter ends when it was to end, and begins with an end', async () => {
    if (!kind.caches) return;
    const key = randomUUID();
    expect(await cache().incr(key, 5, { ttlSeconds: 0.6 })).toBe(5);
    await sleep(300);
    expect(await cache().incr(key, 1, { ttlSeconds: 600 })).toBe(6);
    await sleep(400);
    expect(await cache().get(key)).toBeNull();
    expect(await cache().incr(key, 1, { ttlSeconds: 50 })).toBe(1);
    expect(await cache().ttl(key)).toBeGreaterThan(45);
    expect(await cache().ttl(key)).toBeLessThanOrEqual(50);
  });

  it('adds to what set has stored, and refuses what is no whole number', async () => {
    if (!kind.caches) return;
    const key = randomUUID();
    await cache().set(key, 41, 60);
    expect(await other().get(key)).toBe(41);
    expect(await cache().incr(key)).toBe(42);
    expect(await other().get(key)).toBe(42);
    for (const value of [1.5, '1', { n: 1 }, 'x'.repeat(100_000)]) {
      await cache().set(key, value, 60);
      await expect(cache().incr(key)).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT', field: 'key' });
      expect(await cache().get(key)).toEqual(value);
    }
    await cache().set(key, Number.MAX_SAFE_INTEGER, 60);
    await expect(cache().incr(key)).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT', field: 'key' });
    expect(await cache().decr(key)).toBe(Number.MAX_SAFE_INTEGER - 1);
  });

  it('a counter ends a computation that runs: its result does not replace the count', async () => {
    if (!kind.caches) return;
    const key = randomUUID();
    let release = () => {};
    const slow = cache().getOrSet(
      key,
      () => new Promise<number>((resolve) => (release = () => resolve(1_000))),
      60,
    );
    await sleep(30);
    expect(await other().incr(key)).toBe(1);
    release();
    expect(await slow).toBe(1_000);
    expect(await cache().get(key)).toBe(1);
  });

  it('exists, ttl, expire', async () => {
    const key = randomUUID();
    expect(await cache().exists(key)).toBe(false);
    expect(await cache().ttl(key)).toBe(kind.caches ? -2 : -1);
    expect(await cache().expire(key, 10)).toBe(false);
    await cache().set(key, 'v', 60);
    if (!kind.caches) return;
    expect(await other().exists(key)).toBe(true);
    expect(await cache().ttl(key)).toBe(60);
    expect(await other().expire(key, 1_000)).toBe(true);
    expect(await cache().ttl(key)).toBeGreaterThan(990);
    expect(await cache().expire(key, 0.2)).toBe(true);
    await sleep(300);
    expect(await cache().exists(key)).toBe(false);
    expect(await cache().get(key)).toBeNull();
  });

  it('a running computation is no value, and is not prolonged', async () => {
    if (!kind.caches) return;
    const key = randomUUID();
    let release = () => {};
    const slow = cache().getOrSet(
      key,
      () => new Promise<number>((resolve) => (release = () => resolve(1))),
      60,
    );
    await sleep(30);
    expect(await other().exists(key)).toBe(false);
    expect(await other().ttl(key)).toBe(-2);
    expect(await other().expire(key, 1_000)).toBe(false);
    release();
    await slow;
    expect(await other().exists(key)).toBe(true);
  });

  it('a tag finds its values, and counts those that were there', async () => {
    const tag = randomUUID();
    const keys = Array.from({ length: 5 }, () => randomUUID());
    for (const key of keys)
      expect(await cache().setWithTags(key, { key }, 60, [tag, 'all', tag])).toBe(kind.caches);
    await cache().set(`${tag}-untagged`, 1, 60);
    await cache().del(keys[0] as string);
    expect(await other().get(keys[1] as string)).toEqual(kind.caches ? { key: keys[1] } : null);
    expect(await other().invalidateByTag(tag)).toBe(kind.caches ? 4 : 0);
    expect(await cache().mget(keys)).toEqual(keys.map(() => null));
    expect(await cache().get(`${tag}-untagged`)).toBe(kind.caches ? 1 : null);
    expect(await other().invalidateByTag(tag)).toBe(0);
    expect(await other().invalidateByTag('never used')).toBe(0);
  });

  it('tags outlast what prolongs and counts their values, and forget what has ended', async () => {
    if (!kind.caches) return;
    const tag = randomUUID();
    const [counter, short] = [randomUUID(), randomUUID()];
    await cache().setWithTags(counter, 1, 0.4, [tag]);
    await cache().setWithTags(short, 1, 0.3, [tag]);
    expect(await cache().incr(counter)).toBe(2);
    expect(await cache().expire(counter, 60)).toBe(true);
    await sleep(500);
    expect(await cache().exists(short)).toBe(false);
    expect(await cache().get(counter)).toBe(2);
    // What has ended is dropped with the next one that comes.
    await cache().setWithTags(randomUUID(), 1, 60, [tag]);
    expect(await other().invalidateByTag(tag)).toBe(2);
    expect(await cache().get(counter)).toBeNull();
  });

  it('more values than one command names', async () => {
    if (!kind.caches) return;
    const tag = randomUUID();
    const count = 2_300;
    const set = Array.from({ length: count }, (_, n) => cache().setWithTags(`${tag}:${n}`, n, 60, [tag]));
    expect(new Set(await Promise.all(set))).toEqual(new Set([true]));
    expect(await other().invalidateByTag(tag)).toBe(count);
  });

  it('a value that is put under a tag while the tag is voided is gone, or still found by it', async () => {
    if (!kind.caches) return;
    for (let round = 0; round < rounds(1_000, 60); round += 1) {
      const [tag, key] = [randomUUID(), randomUUID()];
      await cache().setWithTags(key, 'old', 60, [tag]);
      const wait = Math.random() < 0.5 ? sleep(Math.random() * 2) : undefined;
      const setting = cache().setWithTags(key, 'new', 60, [tag]);
      await wait;
      await other().invalidateByTag(tag);
      await setting;
      expect(['new', null]).toContain(await other().get(key));
      await other().invalidateByTag(tag);
      expect(await cache().get(key)).toBeNull();
    }
  });

  it('a pattern removes what fits, and counts it', async () => {
    const run = randomUUID();
    const set = (name: string) => cache().set(`${run}:${name}`, 1, 60);
    for (const name of ['a:1', 'a:2', 'b:1', 'A:*', 'a', 'ä', 'a:[x]', 'a:%2A']) await set(name);
    const of = (pattern: string) => other().delPattern(`${run}:${pattern}`);
    const counted = (count: number) => (kind.caches ? count : 0);
    expect(await of('a:?')).toBe(counted(2));
    expect(await of('A:\\*')).toBe(counted(1));
    expect(await of('?')).toBe(counted(2));
    expect(await of('a:\\[*')).toBe(counted(1));
    expect(await of('*')).toBe(counted(2));
    expect(await of('*')).toBe(0);
    expect(await cache().get(`${run}:b:1`)).toBeNull();
  });

  it('a pattern also ends the computation of what fits', async () => {
    if (!kind.caches) return;
    const run = randomUUID();
    let release = () => {};
    const slow = cache().getOrSet(
      `${run}:x`,
      () => new Promise<number>((done) => (release = () => done(1))),
      60,
    );
    await sleep(30);
    expect(await other().delPattern(`${run}:*`), 'a computation is not a value').toBe(0);
    release();
    await slow;
    expect(await cache().get(`${run}:x`)).toBeNull();
  });

  it('many keys', async () => {
    if (!kind.caches) return;
    const run = randomUUID();
    const count = 3_500;
    for (let n = 0; n < count; n += 500) {
      await cache().mset(Array.from({ length: 500 }, (_, at) => [`${run}:${n + at}`, n + at, 60]));
    }
    expect(await other().delPattern(`${run}:*`)).toBe(count);
  });

  it('flushAll removes copies; revocations, limits and keys of others stay', async () => {
    const jti = randomUUID();
    const limit = randomUUID();
    const params = { dataSourceId: randomUUID(), end_date: '2020-01-01' };
    let ran = 0;
    const query = async () => {
      ran += 1;
      return { data: [ran] };
    };
    await engine.queryDataSourceWithCache(params, [], query);
    await cache().setWithTags('flushed', 1, 60, ['flushed']);
    await engine.invalidateTokenCache(jti);
    for (let n = 0; n < 3; n += 1) await engine.checkRateLimit('flush', limit, 10, 600);
    const foreign = [`other:${jti}`, `cache:${jti}`] as const;
    if (kind.shared) for (const key of foreign) await store.command('SET', key, 'theirs');
    const neighbour = engines.start(store.options, { redisKeyPrefix: 'neighbour:' });
    await neighbour.redisCacheService.set('theirs', 1, 60);
    const removed = await other().flushAll();
    if (kind.caches) expect(removed).toBeGreaterThanOrEqual(2);
    else expect(removed).toBe(0);
    expect(await cache().get('flushed')).toBeNull();
    expect(await other().invalidateByTag('flushed')).toBe(0);
    await engine.queryDataSourceWithCache(params, [], query);
    expect(ran).toBe(2);
    if (kind.caches) expect(await engine.getCachedTokenBlacklistStatus(jti)).toBe(true);
    expect((await engine.peekRateLimit('flush', limit, 10, 600)).remaining).toBe(7);
    if (kind.shared) for (const key of foreign) expect(await store.command('GET', key)).toBe('theirs');
    if (kind.shared) expect(await neighbour.redisCacheService.get('theirs')).toBe(1);
    await neighbour.close();
  });

  it('info and metrics are counts', async () => {
    const info = await cache().info();
    expect(info.connected).toBe(kind.caches);
    if (kind.caches) {
      await cache().set(randomUUID(), 1, 60);
      expect((await cache().info()).keyCount).toBeGreaterThan(0);
      // A restricted server does not say.
      expect(info.memory).toMatch(kind.name.includes('serverless') ? /^N\/A$/ : /^\d+(\.\d)? [KMG]?B$/);
    } else {
      expect(info).toEqual({ connected: false, keyCount: 0, memory: 'N/A' });
    }
    cache().resetMetrics();
    const key = randomUUID();
    await cache().get(key);
    await cache().set(key, 1, 60);
    await cache().get(key);
    await cache().getOrSet(key, () => 2, 60);
    await cache().getOrSet(`${key}2`, () => 2, 60);
    await cache().del(key);
    const { lastReset, ...counts } = cache().getMetrics();
    expect(Date.now() - lastReset.getTime()).toBeLessThan(60_000);
    expect(counts).toEqual(
      kind.caches
        ? { hits: 2, misses: 2, sets: 1, deletes: 1, errors: 0, hitRate: 50, totalOperations: 6 }
        : { hits: 0, misses: 2, sets: 0, deletes: 1, errors: 2, hitRate: 0, totalOperations: 3 },
    );
  });

  it.each([
    ['delta', () => cache().incr('k', 0.5)],
    ['delta', () => cache().decr('k', Number.NaN)],
    ['delta', () => cache().incr('k', 2 ** 53)],
    ['ttl', () => cache().incr('k', 1, { ttlSeconds: 0 })],
    ['ttl', () => cache().expire('k', 0)],
    ['key', () => cache().ttl('')],
    ['keys', () => cache().mget('k' as never)],
    ['entries', () => cache().mset({} as never)],
    ['tags', () => cache().setWithTags('k', 1, 1, [])],
    ['tags', () => cache().setWithTags('k', 1, 1, [''])],
    ['tags', () => cache().setWithTags('k', 1, 1, [7 as never])],
    [
      'tags',
      () =>
        cache().setWithTags(
          'k',
          1,
          1,
          Array.from({ length: 65 }, (_, n) => `${n}`),
        ),
    ],
    ['tags', () => cache().invalidateByTag('')],
    ['pattern', () => cache().delPattern('')],
    ['pattern', () => cache().delPattern('x'.repeat(1_025))],
  ])('refuses what makes no sense, naming %s', async (field, action) => {
    await expect(action()).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT', field });
  });
});

it('the keys and lifetimes of the application that S5 describes', () => {
  expect(CACHE_KEYS.DASHBOARD_METRICS).toBe('dashboard:metrics:v3');
  expect(new Set(Object.values(CACHE_KEYS)).size).toBe(20);
  expect(CACHE_TTL).toEqual({
    DASHBOARD: 60,
    FLEET_STATS: 300,
    REFERENCE_DATA: 7_200,
    LEAVE_STATS: 120,
    RETIREMENT_FORECAST: 600,
  });
});
