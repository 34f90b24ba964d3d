/**
 * Caches in front of several layers, on every store: which layer answers, what is stored and what never is, whose value
 * it is, and that nothing old is answered after a refresh. The layers here are functions; a real view and real queries
 * are in `dashboard.spec.ts`.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  BcosCacheError,
  createLayeredCache,
  type Engine,
  type LayeredDefinition,
  NotFoundError,
  type Scope,
  SourceUnavailableError,
} from '../index.js';
import { Engines, outcome } from './support/engines.js';
import { load } from './support/played-native.js';
import { rounds } from './support/rounds.js';
import { stores, type TestStore } from './support/stores.js';

/** Only that module makes scopes; a context that has one needs a database. */
const { ALL, NOTHING, rows } = load('./dist/scope.js') as {
  ALL: Scope;
  NOTHING: Scope;
  rows(practices: readonly number[], providers: readonly number[] | null): Scope;
};

interface Figures {
  readonly version: number;
  readonly group: { readonly deep: readonly number[] };
}
const figures = (version: number): Figures => ({ version, group: { deep: [version] } });

describe.each(stores)('$name', (kind) => {
  const engines = new Engines();
  let store: TestStore;
  let engine: Engine;
  /** Another process, where there can be one. */
  let other: Engine;
  beforeAll(async () => {
    store = await kind.start();
    engine = engines.start(store.options);
    other = kind.shared ? engines.start(store.options) : engine;
    await Promise.all([engine, other].map((one) => one.getHealth()));
    await Promise.all([engine, other].map((one) => one.redisCacheService.get('contact')));
  });
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await store?.[Symbol.asyncDispose]();
  });

  /** A cache of a view in front of queries, on both engines, and what they were asked. */
  function both(more: Partial<LayeredDefinition<Figures>> = {}, viewMs = 5) {
    const state = { version: 1, view: 0, queries: 0, viewFails: undefined as unknown };
    const key = `layered:${randomUUID()}`;
    const definition: LayeredDefinition<Figures> = {
      key,
      ttl: 60,
      layers: [
        {
          name: 'view',
          load: async () => {
            state.view += 1;
            const { version } = state;
            await sleep(viewMs);
            if (state.viewFails !== undefined) throw state.viewFails;
            return figures(version);
          },
        },
        {
          name: 'queries',
          load: async () => {
            state.queries += 1;
            return figures(state.version);
          },
        },
      ],
      ...more,
    };
    return {
      key,
      state,
      here: engine.createLayeredCache(definition),
      there: other.createLayeredCache(definition),
    };
  }

  describe('what is answered', () => {
    it('the first layer, then the cache; every figure is of this call', async () => {
      const { state, here, there } = both({}, 30);
      const before = Date.now();
      const first = await here.get();
      expect(first).toEqual({ ...figures(1), performance: expect.anything() });
      expect(first.performance).toMatchObject({ cacheHit: false, cacheLayer: 'view' });
      const [cache, view] = first.performance.tiers;
      const missed = kind.caches ? 'miss' : 'unavailable';
      expect(first.performance.tiers).toMatchObject([
        { layer: 'redis', outcome: missed },
        { layer: 'view', outcome: 'hit' },
      ]);
      expect(view?.ms).toBeGreaterThanOrEqual(25);
      expect(first.performance.queryTime).toBeGreaterThanOrEqual((cache?.ms ?? 0) + (view?.ms ?? 0) - 0.01);
      expect(Date.parse(first.performance.lastUpdated)).toBeGreaterThanOrEqual(before);
      if (!kind.caches) return;

      for (const cache of [there, here, there]) {
        const hit = await cache.get();
        expect(hit).toEqual({ ...figures(1), performance: expect.anything() });
        const { queryTime, tiers, ...rest } = hit.performance;
        expect(rest).toEqual({
          cacheHit: true,
          cacheLayer: 'redis',
          lastUpdated: first.performance.lastUpdated,
        });
        expect(tiers).toEqual([{ layer: 'redis', ms: queryTime, outcome: 'hit' }]);
        expect(queryTime).toBeGreaterThan(0);
      }
      expect(state).toMatchObject({ view: 1, queries: 0 });
    });

    it('is frozen, all the way down, from every path', async () => {
      const { here } = both({ placeholder: () => figures(0) });
      const frozen = (value: unknown): boolean =>
        typeof value !== 'object' ||
        value === null ||
        (Object.isFrozen(value) && Object.values(value).every(frozen));
      for (const useCache of [true, true, false]) expect(frozen(await here.get({ useCache }))).toBe(true);
      const none = engine.createLayeredCache<Figures>({
        key: randomUUID(),
        ttl: 1,
        layers: [{ name: 'nothing', load: () => null }],
        placeholder: () => figures(0),
      });
      expect(frozen(await none.get())).toBe(true);
    });

    it('a hit is one round trip', async () => {
      if (!kind.caches || kind.name === 'embedded') return;
      for (const scoped of [false, true]) {
        const { here } = both({ scoped });
        const options = scoped ? { scopeKey: 'a' } : {};
        await here.get(options);
        await here.get(options);
        const before = engine.getMetrics().store.roundTrips;
        for (let round = 0; round < 20; round += 1) await here.get(options);
        // Heartbeats may travel meanwhile.
        expect(engine.getMetrics().store.roundTrips - before).toBeLessThanOrEqual(20 + 2);
      }
    });

    it('concurrent calls in two processes ask the layers once, and say that they shared', async () => {
      const { state, here, there } = both({}, 100);
      const asked = Array.from({ length: 24 }, (_, at) => (at % 2 ? here : there).get());
      const answers = await Promise.all(asked);
      expect(state.view).toBe(1);
      const own = answers.filter(({ performance }) => performance.tiers.length === 2);
      expect(own).toHaveLength(1);
      for (const { performance, version } of answers) {
        expect(version).toBe(1);
        // Who waited here was not answered by the cache.
        const [first] = performance.tiers;
        if (first?.outcome === 'shared') {
          expect(performance).toMatchObject({ cacheHit: false, cacheLayer: 'view' });
          expect(performance.queryTime).toBeGreaterThan(50);
        }
      }
      const shared = answers.filter(({ performance }) => performance.tiers[0]?.outcome === 'shared');
      expect(shared.length).toBeGreaterThanOrEqual(11);
    });

    it('a slow load of another process is waited for, not begun again', async () => {
      if (!kind.shared) return;
      const { state, here, there } = both({}, 1_600);
      const first = here.get();
      await sleep(100);
      expect((await there.get()).performance).toMatchObject({ cacheHit: true });
      await first;
      expect(state.view).toBe(1);
    });

    it('useCache: false neither reads nor writes', async () => {
      const { key, state, here } = both();
      const alone = await here.get({ useCache: false });
      expect(alone.performance).toMatchObject({ cacheHit: false, cacheLayer: 'view' });
      expect(alone.performance.tiers).toMatchObject([{ layer: 'view', outcome: 'hit' }]);
      expect(await engine.redisCacheService.get(key)).toBeNull();
      await here.get();
      state.version = 2;
      expect((await here.get({ useCache: false })).version).toBe(2);
      expect((await here.get()).version).toBe(kind.caches ? 1 : 2);
    });

    it('keeps the context of its caller', async () => {
      const context = new AsyncLocalStorage<number>();
      const cache = engine.createLayeredCache<Figures>({
        key: randomUUID(),
        ttl: 60,
        layers: [{ name: 'view', load: () => figures(context.getStore() ?? -1) }],
      });
      expect((await context.run(7, () => cache.get())).version).toBe(7);
    });

    it('a layer says of when its answer is', async () => {
      const at = new Date('2026-01-02T03:04:05.678Z');
      for (const given of [at, at.toISOString(), at.getTime()]) {
        const cache = engine.createLayeredCache<Figures>({
          key: randomUUID(),
          ttl: 60,
          layers: [
            {
              name: 'view',
              load: ({ setLastUpdated }) => {
                setLastUpdated(given);
                return figures(1);
              },
            },
          ],
        });
        for (let call = 0; call < 2; call += 1) {
          expect((await cache.get()).performance.lastUpdated).toBe('2026-01-02T03:04:05.678Z');
        }
      }
    });

    it('what is too large is answered and not stored', async () => {
      const cache = engine.createLayeredCache<{ text: string }>({
        key: randomUUID(),
        ttl: 60,
        layers: [{ name: 'view', load: () => ({ text: 'x'.repeat(1_200_000) }) }],
      });
      expect((await cache.get()).text).toHaveLength(1_200_000);
      expect((await cache.get()).performance.cacheHit).toBe(false);
      expect(await cache.warmUp()).toMatchObject({ loaded: true, stored: false, layer: 'view' });
    });

    it('a performance of the value itself gives way', async () => {
      const cache = engine.createLayeredCache<{ a: number; performance: number }>({
        key: randomUUID(),
        ttl: 60,
        layers: [{ name: 'view', load: () => ({ performance: 9, a: 1 }) }],
      });
      for (let call = 0; call < 2; call += 1) {
        const { performance, ...rest } = await cache.get();
        expect([rest, performance.cacheLayer]).toEqual([{ a: 1 }, call && kind.caches ? 'redis' : 'view']);
      }
    });
  });

  describe('layers that do not answer', () => {
    const other = { name: 'queries', load: () => figures(2) };
    it.each([
      ['throws', 'failed', () => Promise.reject(new RangeError('no view'))],
      [
        'throws at once',
        'failed',
        () => {
          throw new RangeError('no view');
        },
      ],
      ['has nothing', 'miss', () => null],
      ['answers undefined', 'miss', async () => undefined],
      ['answers a list', 'failed', () => [1] as never],
      ['answers text', 'failed', () => 'text' as never],
      ['answers what JSON cannot carry', 'failed', () => ({ version: 1n }) as never],
      ['answers what is no object in JSON', 'failed', () => new Date() as never],
    ])('one that %s is passed by', async (_, ended, answer) => {
      const cache = engine.createLayeredCache<Figures>({
        key: randomUUID(),
        ttl: 60,
        layers: [{ name: 'view', load: answer }, other],
      });
      const { version, performance } = await cache.get();
      expect([version, performance.cacheLayer]).toEqual([2, 'queries']);
      expect(performance.tiers.slice(1)).toMatchObject([
        { layer: 'view', outcome: ended },
        { layer: 'queries', outcome: 'hit' },
      ]);
    });

    it('one that hangs is told to stop and passed by when its time is over', async () => {
      let stopped: unknown;
      const cache = engine.createLayeredCache<Figures>({
        key: randomUUID(),
        ttl: 60,
        layers: [
          {
            name: 'view',
            timeoutMs: 60,
            load: ({ signal }) =>
              new Promise(() => signal.addEventListener('abort', () => (stopped = signal.reason))),
          },
          other,
        ],
      });
      const { performance } = await cache.get();
      expect(performance.cacheLayer).toBe('queries');
      expect(performance.tiers[1]).toMatchObject({ layer: 'view', outcome: 'failed' });
      expect(performance.tiers[1]?.ms).toBeGreaterThanOrEqual(55);
      expect(stopped).toMatchObject({ code: 'E_DEADLINE' });
    });

    it('all of them: the error of the last, with all of them behind it, for everybody who waits', async () => {
      const [first, last] = [
        new RangeError('the view is gone'),
        new NotFoundError('no row', { reason: 'none' }),
      ];
      let asked = 0;
      const cache = engine.createLayeredCache<Figures>({
        key: randomUUID(),
        ttl: 60,
        layers: [
          {
            name: 'view',
            load: async () => {
              asked += 1;
              await sleep(40);
              throw first;
            },
          },
          { name: 'queries', load: () => Promise.reject(last) },
        ],
      });
      for (const ended of await Promise.all(Array.from({ length: 8 }, () => outcome(cache.get())))) {
        const error = (ended as { error: NotFoundError }).error;
        expect(error).toBeInstanceOf(NotFoundError);
        expect(error).toMatchObject({ code: 'E_NOT_FOUND', reason: 'none' });
        expect(error.message).toContain('view, queries');
        expect((error.cause as AggregateError).errors).toEqual([first, last]);
      }
      expect(asked).toBe(1);
      const foreign = engine.createLayeredCache<Figures>({
        key: randomUUID(),
        ttl: 60,
        layers: [{ name: 'view', load: () => Promise.reject(first) }],
      });
      const error = await foreign.get().catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(SourceUnavailableError);
      expect((error as SourceUnavailableError).cause).toMatchObject({ errors: [first] });
    });
  });

  it('layers that were too slow for one are not asked again by each who waited', async () => {
    let asked = 0;
    const load = () => {
      asked += 1;
      return new Promise<Figures>(() => {});
    };
    const hang = { name: 'view', timeoutMs: 60, load };
    const cache = engine.createLayeredCache<Figures>({ key: randomUUID(), ttl: 60, layers: [hang] });
    for (const ended of await Promise.all(Array.from({ length: 8 }, () => outcome(cache.get())))) {
      expect(ended).toMatchObject({
        error: { code: 'E_DEADLINE', message: expect.stringContaining('no layer answered') },
      });
    }
    expect(asked).toBe(1);
  });

  describe('placeholders', () => {
    const failing = (more: Partial<LayeredDefinition<Figures>> = {}) => {
      const state = { fails: true, asked: 0 };
      const definition = {
        key: `placeholder:${randomUUID()}`,
        ttl: 60,
        layers: [
          {
            name: 'view',
            load: async () => {
              state.asked += 1;
              await sleep(Math.random() * 10);
              if (state.fails) throw new SourceUnavailableError('the database is away');
              return figures(1);
            },
          },
        ],
        placeholder: (error: BcosCacheError) => figures(error.code === 'E_SOURCE_UNAVAILABLE' ? -1 : -2),
        ...more,
      };
      return { definition, state };
    };

    it('stand in, say so, and are stored by no path: not of many, not of those who wait, not by a warm-up', async () => {
      const { definition, state } = failing();
      const caches = [engine, other].map((one) => one.createLayeredCache(definition));
      const asked = Array.from({ length: 40 }, (_, at) => caches[at % 2]?.get());
      for (const answer of await Promise.all(asked)) {
        expect(answer).toEqual({
          ...figures(-1),
          degraded: true,
          degradedReason: expect.stringContaining('the database is away'),
          performance: {
            queryTime: expect.any(Number),
            cacheHit: false,
            cacheLayer: 'none',
            lastUpdated: null,
            tiers: [],
          },
        });
      }
      const told = await caches[0]?.warmUp();
      expect(told).toMatchObject({ loaded: false, stored: false, layer: 'none' });
      expect(told?.error).toMatchObject({ code: 'E_SOURCE_UNAVAILABLE' });
      expect(await engine.redisCacheService.get(definition.key)).toBeNull();
      expect((await store.dump()).filter(([, value]) => value.includes('degraded'))).toEqual([]);
      state.fails = false;
      for (const cache of caches) {
        const answer = await cache.get();
        expect([answer.version, answer.degraded]).toEqual([1, undefined]);
      }
    });

    it('are gone with the trouble, whenever it begins and ends', async () => {
      const { definition, state } = failing();
      const caches = [engine, other].map((one) => one.createLayeredCache(definition));
      let degraded = 0;
      for (let round = 0; round < rounds(150, 30); round += 1) {
        state.fails = true;
        const early = Array.from({ length: 6 }, (_, at) => caches[at % 2]?.get());
        await sleep(Math.random() * 10);
        state.fails = false;
        const late = Array.from({ length: 6 }, (_, at) => caches[at % 2]?.get());
        for (const answer of await Promise.all([...early, ...late])) {
          expect(answer?.version).toBe(answer?.degraded ? -1 : 1);
          degraded += answer?.degraded ? 1 : 0;
        }
        const stored = await engine.redisCacheService.get<Figures>(definition.key);
        expect(stored === null ? 1 : stored.version).toBe(1);
        await caches[0]?.invalidate();
      }
      expect(degraded).toBeGreaterThan(0);
    });

    it('are not for a call that ran out of its own time', async () => {
      const { definition } = failing({
        layers: [{ name: 'view', load: () => sleep(300).then(() => figures(1)) }],
      });
      const cache = engine.createLayeredCache(definition);
      await expect(cache.get({ deadlineMs: 30 })).rejects.toMatchObject({ code: 'E_DEADLINE' });
      const signal = AbortSignal.timeout(30);
      await expect(cache.get({ signal })).rejects.toMatchObject({ name: 'TimeoutError' });
      expect((await cache.get()).version).toBe(1);
    });
  });

  describe('scopes', () => {
    const scopes: readonly (string | Scope)[] = [
      'a',
      'b',
      'A',
      'a ',
      'all',
      ALL,
      NOTHING,
      rows([1, 2], null),
      rows([1], null),
      rows([1, 2], [7]),
      JSON.stringify({ kind: 'all', practices: [], providers: null }),
      '*',
      'generation',
    ];

    /** A cache whose value says whose it is. */
    function scopedCache() {
      const asked: unknown[] = [];
      const definition = {
        key: `scoped:${randomUUID()}`,
        ttl: 60,
        scoped: true,
        layers: [
          {
            name: 'view',
            load: async ({ scopeKey }: { scopeKey: string | Scope | undefined }) => {
              asked.push(scopeKey);
              await sleep(1);
              return { of: JSON.stringify(scopeKey), at: asked.length };
            },
          },
        ],
      };
      const make = (one: Engine) => one.createLayeredCache<{ of: string; at: number }>(definition);
      return { asked, definition, here: make(engine), there: make(other) };
    }

    it.each([
      ['in one order', scopes],
      ['in the other', [...scopes].reverse()],
    ])('never share, %s, one after the other or together', async (_, order) => {
      const { asked, here, there } = scopedCache();
      for (const scopeKey of order) {
        expect((await here.get({ scopeKey })).of).toBe(JSON.stringify(scopeKey));
      }
      const again = order.flatMap((scopeKey) => [here, there].map((cache) => ({ scopeKey, cache })));
      const answers = await Promise.all(again.map(({ scopeKey, cache }) => cache.get({ scopeKey })));
      expect(answers.map(({ of }) => of)).toEqual(again.map(({ scopeKey }) => JSON.stringify(scopeKey)));
      if (kind.caches) expect(asked).toEqual(order);
    });

    it('no key tells whose it is', async () => {
      const { definition, here } = scopedCache();
      await here.get({ scopeKey: 'zebra-of-ada@example.org' });
      const keys = (await store.dump())
        .map(([key]) => key)
        .filter((key) => key.includes(definition.key.slice(-36)));
      expect(keys.filter((key) => /zebra|ada%40|example/.test(key))).toEqual([]);
      if (kind.shared) expect(keys.length).toBeGreaterThan(0);
    });

    it('a missing scope is E_SCOPE, one that has no place is E_INVALID_ARGUMENT', async () => {
      const { here, asked } = scopedCache();
      for (const given of [undefined, null, ''] as (string | undefined)[]) {
        for (const call of [() => here.get({ scopeKey: given }), () => here.warmUp({ scopeKey: given })]) {
          await expect(call()).rejects.toMatchObject({ code: 'E_SCOPE', field: 'scopeKey' });
        }
      }
      // Also without the cache, and not as "all of them" either.
      await expect(here.get({ useCache: false })).rejects.toMatchObject({ code: 'E_SCOPE' });
      await expect(here.invalidate('')).rejects.toMatchObject({ code: 'E_SCOPE' });
      await expect(here.invalidate(null as never)).rejects.toMatchObject({ code: 'E_SCOPE' });
      await expect(here.get({ scopeKey: 7 as never })).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT' });
      expect(asked).toEqual([]);
      const everybody = both();
      for (const scopeKey of ['a', '', null] as string[]) {
        const refused = { code: 'E_INVALID_ARGUMENT', field: 'scopeKey' };
        await expect(everybody.here.get({ scopeKey })).rejects.toMatchObject(refused);
        await expect(everybody.here.warmUp({ scopeKey })).rejects.toMatchObject(refused);
        await expect(everybody.here.invalidate(scopeKey)).rejects.toMatchObject(refused);
      }
      expect(everybody.state.view).toBe(0);
    });

    it('are confirmed on every read, also where near copies need not be', async () => {
      if (!kind.shared) return;
      const near = { cache: { mode: 'bounded', maxAgeMs: 60_000 } } as const;
      const bounded = engines.start(store.options, { near });
      await bounded.getHealth();
      const { definition, here } = scopedCache();
      const cache = bounded.createLayeredCache<{ at: number }>(definition);
      for (let round = 1; round <= 20; round += 1) {
        expect((await cache.get({ scopeKey: 'a' })).at).toBe(round);
        expect((await cache.get({ scopeKey: 'a' })).at).toBe(round);
        await here.refresh();
      }
    });

    it('are counted and removed by a pattern like every other value', async () => {
      if (!kind.caches) return;
      const { definition, here, asked } = scopedCache();
      for (const scopeKey of ['a', 'b']) await here.get({ scopeKey });
      expect(await engine.redisCacheService.delPattern(`${definition.key}:*`)).toBe(2);
      await here.get({ scopeKey: 'a' });
      expect(asked).toHaveLength(3);
    });

    it('are void one by one or all at once', async () => {
      if (!kind.caches) return;
      const { here, there, asked } = scopedCache();
      const all = ['a', 'b', 'c'];
      const hits = async () => {
        const answers = await Promise.all(all.map((scopeKey) => there.get({ scopeKey })));
        return answers.map(({ performance }) => performance.cacheHit);
      };
      await hits();
      expect(await hits()).toEqual([true, true, true]);
      expect(await here.invalidate('b')).toEqual({ acknowledged: true, queued: false });
      expect(await hits()).toEqual([true, false, true]);
      const before = engine.getMetrics().store.commands;
      expect(await here.invalidate()).toEqual({ acknowledged: true, queued: false });
      if (kind.shared) expect(engine.getMetrics().store.commands - before).toBeLessThanOrEqual(4);
      expect(await hits()).toEqual([false, false, false]);
      expect(asked).toHaveLength(7);
      expect(await hits()).toEqual([true, true, true]);
      await here.refresh();
      expect(await hits()).toEqual([false, false, false]);
    });
  });

  describe('refresh', () => {
    it('refreshes, then voids; a refresh that fails leaves everything as it is', async () => {
      const state = { version: 1, fails: false };
      const during: number[] = [];
      const cache = engine.createLayeredCache<Figures>({
        key: randomUUID(),
        ttl: 60,
        layers: [{ name: 'view', load: () => figures(state.version) }],
        refresh: async () => {
          during.push((await cache.get()).version);
          if (state.fails) throw new RangeError('no unique index');
          state.version += 1;
          during.push((await cache.get()).version);
        },
      });
      await cache.get();
      const done = await cache.refresh();
      expect(done).toMatchObject({ acknowledged: true, queued: false });
      expect(done.refreshMs).toBeGreaterThan(0);
      // Not void before it was committed, or somebody would have stored the old value for longer.
      expect(during).toEqual(kind.caches ? [1, 1] : [1, 2]);
      expect((await cache.get()).version).toBe(2);
      state.fails = true;
      await expect(cache.refresh()).rejects.toThrow('no unique index');
      expect((await cache.get()).performance.cacheHit).toBe(kind.caches);
    });

    it('of one turn is one; of those who come while it runs, the next one', async () => {
      let [ran, running] = [0, 0];
      const cache = engine.createLayeredCache<Figures>({
        key: randomUUID(),
        ttl: 60,
        layers: [{ name: 'view', load: () => figures(1) }],
        refresh: async () => {
          running += 1;
          expect(running).toBe(1);
          ran += 1;
          await sleep(40);
          running -= 1;
        },
      });
      const first = Array.from({ length: 10 }, () => cache.refresh());
      await sleep(15);
      expect(ran).toBe(1);
      const later = Array.from({ length: 10 }, () => cache.refresh());
      await Promise.all([...first, ...later]);
      expect(ran).toBe(2);
      await cache.refresh();
      expect(ran).toBe(3);
    });

    it('without a function of its own only voids', async () => {
      const { state, here } = both();
      await here.get();
      state.version = 2;
      expect(await here.refresh()).toMatchObject({ acknowledged: true });
      expect((await here.get()).version).toBe(2);
    });

    it.each([false, true])(
      'nothing old is answered once it resolved, whatever loads meanwhile (scoped: %s)',
      async (scoped) => {
        let [source, view] = [0, 0];
        const definition = {
          key: `race:${randomUUID()}`,
          ttl: 60,
          scoped,
          layers: [
            {
              name: 'view',
              load: async () => {
                await sleep(Math.random() * 3);
                const version = view;
                await sleep(Math.random() * 6);
                return figures(version);
              },
            },
          ],
          refresh: async () => {
            const version = source;
            await sleep(Math.random() * 2);
            view = Math.max(view, version);
          },
        };
        const caches = [engine, other].map((one) => one.createLayeredCache<Figures>(definition));
        const scopeKeys = ['a', 'b'];
        const read = (at: number) =>
          caches[at % 2]?.get(scoped ? { scopeKey: scopeKeys[(at >> 1) % 2] } : {}) as Promise<Figures>;
        const lies: string[] = [];
        let stopped = false;
        let floor = 0;
        const readers = Array.from({ length: 8 }, async (_, at) => {
          while (!stopped) {
            const least = floor;
            const { version } = await read(at);
            if (version < least) lies.push(`${version} after ${least}`);
            await sleep(Math.random() * 2);
          }
        });
        for (let round = 1; round <= rounds(400, 60); round += 1) {
          source = round;
          const done = await caches[round % 2]?.refresh();
          expect(done).toMatchObject({ acknowledged: true });
          floor = round;
          const now = await Promise.all([0, 1, 2, 3].map(read));
          lies.push(
            ...now.filter(({ version }) => version < round).map(({ version }) => `${version} < ${round}`),
          );
        }
        stopped = true;
        await Promise.all(readers);
        expect(lies).toEqual([]);
      },
    );
  });

  describe('the entry', () => {
    it('is the value itself, under the key that the application knows', async () => {
      const { key, here, there, state } = both();
      const { performance } = await here.get();
      const stored = await engine.redisCacheService.get(key);
      const { lastUpdated } = performance;
      const origin = { cacheHit: false, cacheLayer: 'view', lastUpdated };
      expect(stored).toEqual(
        kind.caches ? { ...figures(1), performance: expect.objectContaining(origin) } : null,
      );
      state.version = 2;
      await engine.redisCacheService.del(key);
      expect((await there.get()).version).toBe(2);
    });

    it('gives way when it is not one of a layered cache', async () => {
      if (!kind.caches) return;
      const { key, here } = both();
      for (const foreign of [7, 'text', [1], { version: 9 }, { version: 9, performance: null }]) {
        await engine.redisCacheService.set(key, foreign, 60);
        expect((await here.get()).version).toBe(1);
        expect((await here.get()).performance.cacheHit).toBe(true);
        await here.invalidate();
      }
    });

    it('is written by a warm-up, which says so', async () => {
      const { state, here, there } = both();
      const told = await here.warmUp();
      expect(told).toEqual({
        loaded: true,
        stored: kind.caches,
        layer: 'view',
        queryTime: expect.any(Number),
      });
      expect((await there.get()).performance.cacheHit).toBe(kind.caches);
      expect(await there.warmUp()).toMatchObject({
        loaded: !kind.caches,
        stored: kind.caches,
        layer: 'view',
      });
      expect(state.view).toBe(kind.caches ? 1 : 3);
      await here.invalidate();
      const together = await Promise.all(Array.from({ length: 6 }, () => here.warmUp()));
      expect(together.filter(({ loaded }) => loaded)).toHaveLength(1);
      expect(together.every(({ stored }) => stored === kind.caches)).toBe(true);
    });

    it('lives for its time', async () => {
      const { state, here } = both({ ttl: 0.3 });
      await here.get();
      state.version = 2;
      await sleep(450);
      expect((await here.get()).version).toBe(2);
    });
  });

  describe('a caller who goes away', () => {
    it('leaves the load to the others', async () => {
      const { state, here } = both({}, 120);
      const leaving = new AbortController();
      const gone = outcome(here.get({ signal: leaving.signal }));
      await sleep(20);
      const late = outcome(here.get({ deadlineMs: 40 }));
      const stays = here.get();
      leaving.abort(new Error('left'));
      expect(await gone).toMatchObject({ error: { message: 'left' } });
      expect(await late).toMatchObject({ error: { code: 'E_DEADLINE' } });
      expect((await stays).version).toBe(1);
      // Without a store, who came later cannot know that nothing was invalidated since, and asks again.
      expect(state.view).toBe(kind.caches ? 1 : 2);
    });

    it('ends layers that are asked for it alone', async () => {
      const ended: unknown[] = [];
      const hang = {
        name: 'view',
        load: ({ signal }: { signal: AbortSignal }) =>
          new Promise<Figures>(() => signal.addEventListener('abort', () => ended.push(signal.reason))),
      };
      const next = { name: 'queries', load: () => figures(Number(ended.push('asked'))) };
      const cache = engine.createLayeredCache<Figures>({ key: randomUUID(), ttl: 60, layers: [hang, next] });
      const leaving = new AbortController();
      const asked = outcome(cache.get({ useCache: false, signal: leaving.signal }));
      await sleep(20);
      const reason = new Error('left');
      leaving.abort(reason);
      expect(await asked).toEqual({ error: reason });
      expect(ended).toEqual([reason]);
      await expect(cache.get({ signal: leaving.signal })).rejects.toBe(reason);
      await expect(cache.refresh({ signal: leaving.signal })).rejects.toBe(reason);
    });
  });
});

describe('a definition', () => {
  const good = { key: 'k', ttl: 1, layers: [{ name: 'view', load: () => figures(1) }] };
  const view = good.layers[0];
  it.each([
    ['definition', null],
    ['key', { ...good, key: '' }],
    ['key', { ...good, key: 'k'.repeat(897) }],
    ['key', { ...good, key: 7 }],
    ['ttl', { ...good, ttl: 0 }],
    ['ttl', { ...good, ttl: Number.NaN }],
    ['ttl', { ...good, ttl: 2_592_001 }],
    ['ttl', { ...good, ttl: '60' }],
    ['layers', { ...good, layers: [] }],
    ['layers', { ...good, layers: Array.from({ length: 17 }, (_, at) => ({ ...view, name: `v${at}` })) }],
    ['layers', { ...good, layers: view }],
    ['layers[0]', { ...good, layers: [null] }],
    ['layers[0].name', { ...good, layers: [{ ...view, name: 'redis' }] }],
    ['layers[0].name', { ...good, layers: [{ ...view, name: 'none' }] }],
    ['layers[0].name', { ...good, layers: [{ ...view, name: 'a b' }] }],
    ['layers[1].name', { ...good, layers: [view, view] }],
    ['layers[0].load', { ...good, layers: [{ name: 'view' }] }],
    ['layers[0].timeoutMs', { ...good, layers: [{ ...view, timeoutMs: 0 }] }],
    ['scoped', { ...good, scoped: 'yes' }],
    ['refresh', { ...good, refresh: 'REFRESH' }],
    ['placeholder', { ...good, placeholder: {} }],
  ])('that is not accepted is refused at once, naming %s', async (field, definition) => {
    await using engines = new Engines();
    const engine = engines.start({ cacheStore: 'none' });
    for (const make of [engine.createLayeredCache.bind(engine), createLayeredCache]) {
      expect(() => make(definition as never)).toThrow(
        expect.objectContaining({ code: 'E_INVALID_ARGUMENT', field }),
      );
    }
  });

  it('of the default engine makes no engine before it is used', async () => {
    const { existingEngine } = load('./native.js') as { existingEngine(): unknown };
    const cache = createLayeredCache<Figures>(good);
    expect(existingEngine()).toBeNull();
    await expect(cache.get({ useCache: 1 as never })).rejects.toMatchObject({ field: 'useCache' });
    expect((await cache.get()).version).toBe(1);
    expect(existingEngine()).not.toBeNull();
    expect(await cache.warmUp()).toMatchObject({ stored: false });
    expect(await cache.invalidate()).toMatchObject({ acknowledged: true });
    expect(await cache.refresh()).toMatchObject({ acknowledged: true });
  });

  it('of a closed engine is E_CLOSED, not a placeholder', async () => {
    await using engines = new Engines();
    const engine = engines.start({ cacheStore: 'embedded' });
    const cache = engine.createLayeredCache<Figures>({ ...good, placeholder: () => figures(0) });
    await engine.close();
    const error = await cache.get().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(BcosCacheError);
    expect(error).toMatchObject({ code: 'E_CLOSED' });
  });
});
