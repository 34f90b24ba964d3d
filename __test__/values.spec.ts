/** Values of the application under its own keys, on every store: what a peer would do, and never a stale one. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../index.js';
import { Engines } from './support/engines.js';
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
  });
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await store?.[Symbol.asyncDispose]();
  });
  const cache = () => engine.redisCacheService;
  const other = () => (kind.shared ? second : engine).redisCacheService;

  it('computes once for all who ask, keeps it, and gives everybody the same form', async () => {
    const key = `k:${randomUUID()}*{x}`;
    let computed = 0;
    const compute = async () => {
      computed += 1;
      await sleep(50);
      return { at: new Date(0), list: [1, { deep: true }], gone: undefined };
    };
    const asked = Array.from({ length: 50 }, (_, n) =>
      (n % 2 ? cache() : other()).getOrSet(key, compute, 60),
    );
    const answers = await Promise.all(asked);
    const expected = { at: '1970-01-01T00:00:00.000Z', list: [1, { deep: true }] };
    for (const answer of answers) expect(answer).toEqual(expected);
    expect(answers.every((answer) => Object.isFrozen(answer))).toBe(true);
    // Without a shared store each process has flights of its own.
    expect(computed).toBe(kind.shared || kind.name === 'embedded' ? 1 : computed);
    expect(await cache().get(key)).toEqual(kind.caches ? expected : null);
    expect(await other().get(key)).toEqual(kind.caches ? expected : null);
    if (kind.caches) {
      const again = await cache().getOrSet(key, compute, 60);
      expect(await cache().getOrSet(key, compute, 60)).toBe(again);
      expect(computed).toBe(1);
    }
  });

  it.each([0, 1.5, '', 'text', false, [], {}, 'ä€😀'])('carries %j', async (value) => {
    const key = randomUUID();
    expect(await cache().getOrSet(key, () => value, 60)).toEqual(value);
    expect(await cache().getOrSet(key, () => 'another', 60)).toEqual(kind.caches ? value : 'another');
  });

  it('set replaces, del voids, everywhere and also under a running computation', async () => {
    const key = randomUUID();
    expect(await cache().set(key, { v: 1 }, 60)).toBe(kind.caches);
    expect(await other().get(key)).toEqual(kind.caches ? { v: 1 } : null);
    let release = () => {};
    const slow = cache().getOrSet(
      `${key}2`,
      () => new Promise<number>((resolve) => (release = () => resolve(1))),
      60,
    );
    await sleep(20);
    expect(await other().del(`${key}2`)).toEqual({ acknowledged: true, queued: false });
    release();
    expect(await slow).toBe(1);
    expect(await cache().get(`${key}2`)).toBeNull();
    expect(await other().getOrSet(`${key}2`, () => 2, 60)).toBe(2);
    await other().set(key, { v: 2 }, 60);
    expect(await cache().getOrSet(key, () => ({ v: 3 }), 60)).toEqual({ v: kind.caches ? 2 : 3 });
    await other().del(key);
    expect(await cache().get(key)).toBeNull();
  });

  it('passes a failure on unchanged, to all who wait, and keeps nothing of it', async () => {
    const key = randomUUID();
    const failure = new Error('mine');
    let computed = 0;
    const fail = async () => {
      computed += 1;
      await sleep(30);
      throw failure;
    };
    const asked = Array.from({ length: 5 }, () => cache().getOrSet(key, fail, 60));
    for (const result of await Promise.allSettled(asked)) {
      expect(result).toEqual({ status: 'rejected', reason: failure });
    }
    expect(computed).toBe(1);
    expect(await cache().getOrSet(key, () => 1, 60)).toBe(1);
  });

  it('ends after its time, and is not stored when it is too large', async () => {
    const key = randomUUID();
    await cache().set(key, 1, 0.3);
    await sleep(400);
    expect(await cache().get(key)).toBeNull();
    const large = 'x'.repeat(1_200_000);
    expect(await cache().getOrSet(key, () => large, 60)).toBe(large);
    expect(await cache().get(key)).toBeNull();
    expect(await cache().set(key, large, 60)).toBe(false);
  });

  it('runs in the context of its caller', async () => {
    const context = new AsyncLocalStorage<string>();
    const key = randomUUID();
    expect(await context.run('mine', () => cache().getOrSet(key, () => context.getStore() ?? '', 60))).toBe(
      'mine',
    );
  });

  it.each([
    ['key', () => cache().get('')],
    ['key', () => cache().get('x'.repeat(2_000))],
    ['key', () => cache().set(7 as never, 1, 1)],
    ['ttl', () => cache().set('k', 1, 0)],
    ['ttl', () => cache().getOrSet('k', () => 1, Number.NaN)],
    ['ttl', () => cache().set('k', 1, 2_592_001)],
    ['value', () => cache().set('k', null, 1)],
    ['value', () => cache().set('k', undefined, 1)],
    ['value', () => cache().set('k', 1n, 1)],
    ['compute', () => cache().getOrSet('k', 1 as never, 1)],
    ['the result of compute', () => cache().getOrSet(randomUUID(), () => undefined, 1)],
  ])('refuses what it cannot keep, naming %s', async (field, action) => {
    await expect(action()).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT', field });
  });
});
