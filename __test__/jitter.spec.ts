/** Lifetimes of data are spread below what was promised: the arithmetic by the thousand, then the store's own clock. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../index.js';
import { shortened } from '../lib/jitter.js';
import { Engines } from './support/engines.js';
import { type TestStore, valkey } from './support/stores.js';

describe('the arithmetic', () => {
  it('is below the promised lifetime, never below 95 % of it, and the more the greater the number', () => {
    for (const ttlMs of [2, 10, 999, 60_000, 300_000, 3_600_000, 2_592_000_000]) {
      let last = Number.POSITIVE_INFINITY;
      for (let step = 0; step < 1_000; step += 1) {
        const ms = shortened(ttlMs, step / 1_000);
        expect(Number.isInteger(ms)).toBe(true);
        expect(ms).toBeLessThan(ttlMs);
        expect(ms).toBeGreaterThanOrEqual(Math.max(1, Math.floor(ttlMs * 0.95)));
        expect(ms).toBeLessThanOrEqual(last);
        last = ms;
      }
    }
    expect([shortened(60_000, 0), shortened(60_000, 0.5)]).toEqual([59_400, 58_200]);
  });

  it('leaves a millisecond of the shortest', () => {
    expect([0, 0.5, 0.999].map((random) => shortened(1, random))).toEqual([1, 1, 1]);
  });
});

describe('what is stored', () => {
  const engines = new Engines();
  let store: TestStore;
  let engine: Engine;
  beforeAll(async () => {
    store = await valkey.start();
    engine = engines.start(store.options);
    await engine.getHealth();
  });
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await store?.[Symbol.asyncDispose]();
  });
  /** When the server will forget it. */
  const endOf = async (key: string) => Date.now() + Number(await store.command('PTTL', key));
  const COUNT = 40;
  /** Reading the clock here and the remaining time there. */
  const ROOM_MS = 250;

  it('results end when they say, before the hour is over, and not together', async () => {
    const params = { dataSourceId: randomUUID(), end_date: '2020-01-31' };
    const lives = new Set<number>();
    for (let at = 0; at < COUNT; at += 1) {
      const query = async () => ({ data: [at] });
      const result = await engine.queryDataSourceWithCache({ ...params, at }, ['a'], query);
      const [from, until] = [Date.parse(result.cached_at), Date.parse(result.expires_at)];
      expect(until - from).toBeLessThan(3_600_000);
      expect(until - from).toBeGreaterThanOrEqual(3_600_000 * 0.95);
      const end = await endOf(result.cacheKey);
      expect(end).toBeLessThan(from + 3_600_000);
      expect(Math.abs(end - until)).toBeLessThanOrEqual(ROOM_MS);
      lives.add(until - from);
    }
    expect(lives.size).toBeGreaterThan(COUNT / 2);
  });

  it('computed values as well, while a value that was set lives as long as its caller said', async () => {
    const ends = new Set<number>();
    for (let at = 0; at < COUNT; at += 1) {
      const key = randomUUID();
      const from = Date.now();
      await engine.redisCacheService.getOrSet(key, () => at, 3_600);
      const end = await endOf(`cache:${key}`);
      expect(end).toBeLessThan(from + 3_600_000);
      expect(end).toBeGreaterThanOrEqual(from + 3_600_000 * 0.95);
      ends.add(Math.round((end - from) / 1_000));
    }
    expect(ends.size).toBeGreaterThan(COUNT / 4);
    const key = randomUUID();
    const from = Date.now();
    await engine.redisCacheService.set(key, 1, 3_600);
    expect(Math.abs((await endOf(`cache:${key}`)) - from - 3_600_000)).toBeLessThanOrEqual(ROOM_MS);
  });
});
