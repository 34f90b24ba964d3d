/**
 * Results past their time and shortly before its end, on every store that processes share: who gets an old one, who runs
 * the query again, and what wins over it. An entry is made older by moving its end in the store. The decision itself is
 * tested by the thousand where it is made, in `crates/core`.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  type DataSourceOptions,
  type DataSourceResponseOptions,
  type Engine,
  type LogRecord,
  setLogger,
} from '../index.js';
import { CountedQuery, versionOf } from './support/counted-query.js';
import { Engines, outcome, until } from './support/engines.js';
import { type StoreKind, stores, type TestStore } from './support/stores.js';

/** How long a result without an end date is current. */
const CURRENT_MS = 60_000;
const LEASE_MS = 1_000;
const patient = { staleMs: 600_000 } satisfies DataSourceOptions;
/** With a query of a few milliseconds practically every hit is one that refreshes. */
const eager = { earlyRefresh: { beta: 1e9 } } satisfies DataSourceOptions;

const shared = stores.filter((kind) => kind.shared);

/** What every case here needs. */
class World implements AsyncDisposable {
  readonly #engines = new Engines();
  #store!: TestStore;
  engine!: Engine;
  /** Another process. */
  other!: Engine;

  async start(kind: StoreKind): Promise<this> {
    this.#store = await kind.start();
    this.engine = await this.another();
    this.other = await this.another();
    return this;
  }

  async another(): Promise<Engine> {
    const options = { cacheDatasourceMaxBytes: 20_000, cacheLeaseMs: LEASE_MS };
    const engine = this.#engines.start(this.#store.options, options);
    await until('the store is in service', async () => {
      await engine.redisCacheService.get('contact');
      return engine.isRedisAvailable();
    });
    return engine;
  }

  /** As the store has it. */
  key(cacheKey: string): string {
    return `${this.#store.options.redisKeyPrefix ?? ''}${cacheKey}`;
  }

  async left(cacheKey: string): Promise<number> {
    return Number(await this.#store.command('PTTL', this.key(cacheKey)));
  }

  /** Leaves an entry so long to live. */
  async leave(cacheKey: string, ms: number): Promise<void> {
    expect(await this.#store.command('PEXPIRE', this.key(cacheKey), ms)).toBe(1);
  }

  /** Past its time by so much, for an entry that is kept as `patient` says. */
  past(cacheKey: string, ms: number): Promise<void> {
    return this.leave(cacheKey, patient.staleMs - ms);
  }

  command(...args: (string | number)[]): Promise<unknown> {
    return this.#store.command(...args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engines[Symbol.asyncDispose]();
    await this.#store?.[Symbol.asyncDispose]();
  }
}

const asking =
  (source: CountedQuery, options?: DataSourceOptions) =>
  (engine: Engine, force = false, more: DataSourceOptions = {}) =>
    engine.queryDataSourceWithCache(source.params, ['a'], source.query, force, { ...options, ...more });

const refreshed = async (source: CountedQuery, ran: number) => {
  await until('the query ran again', () => source.ran === ran && source.running === 0);
  // The result of the last one is on its way to the store.
  await sleep(50);
};

const unhandled: unknown[] = [];
const note = (reason: unknown) => unhandled.push(reason);
beforeAll(() => void process.on('unhandledRejection', note));
afterAll(() => void process.off('unhandledRejection', note));
afterEach(() => expect(unhandled).toEqual([]));

describe.each(shared)('$name', (kind) => {
  let world: World;
  let engine: Engine;
  let other: Engine;
  beforeAll(async () => {
    world = await new World().start(kind);
    ({ engine, other } = world);
  });
  afterAll(() => world?.[Symbol.asyncDispose]());

  /** A result that is in the store, and in both processes, past its time by `pastMs`. */
  async function old(pastMs = 1_000) {
    const source = new CountedQuery();
    const ask = asking(source, patient);
    const { cacheKey } = await ask(engine);
    expect(await ask(other)).toMatchObject({ fromCache: true, stale: false });
    await world.past(cacheKey, pastMs);
    source.version = 2;
    return { source, ask, cacheKey };
  }

  it('without the options nothing is kept longer, said, or run again', async () => {
    const source = new CountedQuery();
    const ask = asking(source);
    const first = await ask(engine);
    expect(await world.left(first.cacheKey)).toBeLessThanOrEqual(CURRENT_MS);
    await world.leave(first.cacheKey, 5_000);
    const hits = await Promise.all(Array.from({ length: 200 }, (_, at) => ask(at % 2 ? engine : other)));
    for (const hit of hits) expect('stale' in hit).toBe(false);
    const { dataSources } = engine.getMetrics();
    await sleep(50);
    expect(source.ran).toBe(1);
    expect(engine.getMetrics().dataSources).toEqual(dataSources);
  });

  it('an old result is answered at once and says so; the query runs again, once for all', async () => {
    const { source, ask, cacheKey } = await old();
    const release = source.hold();
    const before = engine.getMetrics().dataSources;
    const asked = Array.from({ length: 40 }, (_, at) => ask(at % 2 ? engine : other));
    for (const result of await Promise.all(asked)) {
      expect(result).toMatchObject({ data: [{ version: 1 }], fromCache: true, stale: true });
      expect(Object.isFrozen(result.data)).toBe(true);
    }
    await until('the query runs', () => source.ran === 2);
    expect(await ask(engine)).toMatchObject({ stale: true });
    release();
    await refreshed(source, 2);
    for (const who of [engine, other]) {
      expect(await ask(who)).toMatchObject({ data: [{ version: 2 }], fromCache: true, stale: false });
    }
    expect([source.ran, source.mostRunning]).toEqual([2, 1]);
    expect(await world.left(cacheKey)).toBeGreaterThan(patient.staleMs);
    const counted = [engine, other].map((one) => one.getMetrics().dataSources);
    expect(counted.reduce((sum, one) => sum + one.stale, -before.stale)).toBeGreaterThan(40);
    expect(counted.map((one) => one.refreshing)).toEqual([0, 0]);
  });

  it('the end of its time, and of the time after it, are kept', async () => {
    const source = new CountedQuery();
    const { cacheKey } = await asking(source, patient)(engine);
    const ask = async (leftMs: number, staleMs: number) => {
      await world.leave(cacheKey, leftMs);
      const ran = source.ran;
      const result = await asking(source, { staleMs })(other);
      if (result.stale === true) await refreshed(source, ran + 1);
      return [result.stale, result.fromCache, source.ran - ran > 0];
    };
    expect(await ask(patient.staleMs + 2_000, patient.staleMs)).toEqual([false, true, false]);
    expect(await ask(patient.staleMs - 1, patient.staleMs)).toEqual([true, true, true]);
    // Somebody else keeps it for longer than this caller takes it.
    expect(await ask(patient.staleMs - 10_000, 60_000)).toEqual([true, true, true]);
    await asking(source, patient)(engine, true);
    expect(await ask(patient.staleMs - 10_000, 9_000)).toEqual([false, false, true]);
  });

  it('who does not accept old results waits for a new one, and for a refresh that runs already', async () => {
    const { source, ask, cacheKey } = await old();
    const strict = asking(source);
    expect(versionOf(await strict(other))).toBe(2);
    expect([source.ran, (await ask(engine)).stale]).toEqual([2, false]);
    await asking(source, patient)(engine, true);
    await world.past(cacheKey, 1_000);
    source.version = 3;
    const release = source.hold();
    const ran = source.ran;
    expect(await ask(engine)).toMatchObject({ stale: true });
    await until('the query runs', () => source.running === 1);
    const waiting = [engine, other].map((who) => strict(who));
    await sleep(100);
    release();
    for (const result of await Promise.all(waiting)) {
      expect([versionOf(result), result.fromCache]).toEqual([3, true]);
    }
    expect([source.ran - ran, source.mostRunning]).toEqual([1, 1]);
  });

  it.each(['one', 'all'])('an invalidation of %s wins over a refresh that runs', async (what) => {
    const { source, ask, cacheKey } = await old();
    const release = source.hold();
    expect(versionOf(await ask(engine))).toBe(1);
    await until('the query runs', () => source.running === 1);
    const { refreshesRefused } = engine.getMetrics().dataSources;
    source.version = 3;
    const done = await (what === 'one'
      ? other.invalidateDataSourceCache(cacheKey)
      : other.invalidateDataSourceCaches(source.params.dataSourceId));
    expect(done).toEqual({ acknowledged: true, queued: false });
    // Nobody waits for the refresh, and nobody gets the old result, as old as it may be.
    const held = [engine, other].map((who) => ask(who));
    await until('it is loaded anew', () => source.running === 2);
    release();
    for (const result of await Promise.all(held)) {
      expect(result).toMatchObject({ data: [{ version: 3 }], stale: false });
    }
    await refreshed(source, 3);
    for (const who of [engine, other]) {
      expect(await ask(who)).toMatchObject({ data: [{ version: 3 }], stale: false, fromCache: true });
    }
    expect(engine.getMetrics().dataSources.refreshesRefused).toBe(refreshesRefused + 1);
  });

  it('a forced refresh wins over one in the background', async () => {
    const { source, ask } = await old();
    const release = source.hold();
    await ask(engine);
    await until('the query runs', () => source.running === 1);
    source.version = 3;
    const forced = ask(other, true);
    await until('both run', () => source.running === 2);
    release();
    expect(await forced).toMatchObject({ data: [{ version: 3 }], fromCache: false, stale: false });
    await refreshed(source, 3);
    expect(await ask(engine)).toMatchObject({ data: [{ version: 3 }], fromCache: true, stale: false });
  });

  it('a query that fails in the background is counted and logged, and nobody hears of it', async () => {
    const { source, ask } = await old();
    const records: LogRecord[] = [];
    setLogger((record) => records.push(record));
    try {
      source.failure = new RangeError('ada@example.org is not allowed');
      const { refreshesFailed } = engine.getMetrics().dataSources;
      expect(await ask(engine)).toMatchObject({ data: [{ version: 1 }], stale: true });
      await until('it is counted', () => engine.getMetrics().dataSources.refreshesFailed > refreshesFailed);
      // A source in trouble is left alone for a while, by everybody.
      for (let round = 0; round < 20; round += 1) {
        expect(await ask(round % 2 ? engine : other)).toMatchObject({ data: [{ version: 1 }], stale: true });
      }
      await sleep(100);
      expect(source.ran).toBe(2);
      await until('it is logged', () => records.some(({ component }) => component === 'datasource'));
      expect(JSON.stringify(records)).not.toContain('ada@');
    } finally {
      setLogger(null);
    }
    // Who needs a new one does not wait for the end of the pause, and is told what is wrong.
    expect(await outcome(asking(source)(other))).toEqual({ error: source.failure });
    source.failure = undefined;
    expect(versionOf(await asking(source)(other))).toBe(2);
  });

  it('the query in the background has the async context of the caller who was answered', async () => {
    const { source, cacheKey } = await old();
    const context = new AsyncLocalStorage<string>();
    const seen: (string | undefined)[] = [];
    const query = async () => {
      await source.query();
      seen.push(context.getStore());
      return { data: [{ version: 9 }] };
    };
    const { stale } = await context.run('mine', () =>
      engine.queryDataSourceWithCache(source.params, ['a'], query, false, patient),
    );
    expect(stale).toBe(true);
    await until('it ran', () => seen.length > 0);
    expect(seen).toEqual(['mine']);
    expect(await world.left(cacheKey)).toBeGreaterThan(0);
  });

  it('is not begun, or not stored, for a caller who went away', async () => {
    const { source, ask, cacheKey } = await old();
    const release = source.hold();
    const caller = new AbortController();
    expect(await ask(engine, false, { signal: caller.signal })).toMatchObject({ stale: true });
    await until('the query runs', () => source.running === 1);
    caller.abort();
    release();
    await refreshed(source, 2);
    expect(await world.left(cacheKey)).toBeLessThan(patient.staleMs);
    // The right was given back: the next one has it at once.
    expect(await ask(other)).toMatchObject({ data: [{ version: 1 }], stale: true });
    await refreshed(source, 3);
    expect(await ask(engine)).toMatchObject({ data: [{ version: 2 }], stale: false });
  });

  it('close() waits for no query in the background, and gives the right to it back', async () => {
    const { source, ask } = await old();
    const mine = await world.another();
    source.hold();
    expect(await ask(mine)).toMatchObject({ stale: true });
    await until('the query runs', () => source.running === 1);
    const from = performance.now();
    await mine.close({ drainMs: 5_000 });
    expect(performance.now() - from).toBeLessThan(1_000);
    expect(await ask(other)).toMatchObject({ stale: true });
    await until('another one runs', () => source.running === 2);
  });

  it('a query that takes several leases keeps its right to them', async () => {
    const { source, ask } = await old();
    const release = source.hold();
    expect(await ask(engine)).toMatchObject({ stale: true });
    await until('the query runs', () => source.running === 1);
    for (let round = 0; round < 10; round += 1) {
      await sleep(LEASE_MS / 4);
      for (const who of [engine, other])
        expect(await ask(who)).toMatchObject({ data: [{ version: 1 }], stale: true });
    }
    release();
    await refreshed(source, 2);
    expect(await ask(other)).toMatchObject({ data: [{ version: 2 }], stale: false });
    expect(source.mostRunning).toBe(1);
  });

  it('a result that has become too large to be stored takes the old one away', async () => {
    const { source, ask, cacheKey } = await old();
    source.filler = 5_000;
    expect(await ask(engine)).toMatchObject({ data: [{ version: 1 }], stale: true });
    await refreshed(source, 2);
    expect(await world.left(cacheKey)).toBe(-2);
    const result = await ask(other);
    expect([versionOf(result), result.fromCache, result.stale]).toEqual([2, false, false]);
  });

  it('an entry that somebody wrote in place of the old one is left alone', async () => {
    const { source, ask, cacheKey } = await old();
    const release = source.hold();
    await ask(engine);
    await until('the query runs', () => source.running === 1);
    await world.command('SET', world.key(cacheKey), 'something else', 'PX', 60_000);
    release();
    await refreshed(source, 2);
    expect(await world.command('GET', world.key(cacheKey))).toBe('something else');
    expect(versionOf(await ask(other))).toBe(2);
  });

  it('is a response that says so, also without a body', async () => {
    const { source } = await old(5_000);
    const respond = (headers: Record<string, string> = {}, options: DataSourceResponseOptions = patient) =>
      engine.queryAsResponse(
        new Request('http://x/', { headers }),
        source.params,
        ['a'],
        source.query,
        options,
      );
    const release = source.hold();
    const first = await respond();
    expect([first.status, first.headers.get('x-cache-status')]).toEqual([200, 'STALE']);
    expect(first.headers.get('cache-control')).toMatch(/^private/);
    expect(versionOf((await first.json()) as { data: { version: number }[] })).toBe(1);
    const again = await respond({ 'if-none-match': first.headers.get('etag') ?? '' });
    expect([again.status, again.headers.get('x-cache-status')]).toEqual([304, 'STALE']);
    const raw = { ...patient, raw: true } as const;
    const { json, stale } = await engine.queryDataSourceWithCache(
      source.params,
      ['a'],
      source.query,
      false,
      raw,
    );
    expect([Buffer.isBuffer(json), stale]).toEqual([true, true]);
    release();
    await refreshed(source, 2);
    const fresh = await respond({ 'if-none-match': first.headers.get('etag') ?? '' });
    expect([fresh.status, fresh.headers.get('x-cache-status')]).toEqual([200, 'HIT']);
  });

  it('of an early refresh nobody notices anything but that results are new', async () => {
    const source = new CountedQuery();
    source.ms = 20;
    const ask = asking(source, eager);
    const { cacheKey } = await ask(engine);
    expect(await world.left(cacheKey)).toBeLessThanOrEqual(CURRENT_MS);
    source.version = 2;
    const release = source.hold();
    for (const result of await Promise.all(Array.from({ length: 20 }, () => ask(other)))) {
      expect([versionOf(result), result.fromCache, 'stale' in result]).toEqual([1, true, false]);
    }
    release();
    await refreshed(source, 2);
    expect(versionOf(await asking(source)(engine))).toBe(2);
  });

  it('without a wish for it nothing is refreshed early, and with the usual one rarely long before the end', async () => {
    const source = new CountedQuery();
    source.ms = 20;
    const usual = asking(source, { earlyRefresh: true });
    const { cacheKey } = await usual(engine);
    const ask = (how: typeof usual) => Promise.all(Array.from({ length: 500 }, () => how(engine)));
    // exp(-60000 / 20) of them.
    await ask(usual);
    await world.leave(cacheKey, 1_000);
    await ask(asking(source, { earlyRefresh: false }));
    await ask(asking(source, {}));
    await sleep(50);
    expect(source.ran).toBe(1);
  });
});

describe.each(stores.filter((kind) => !kind.shared))('$name', ({ start, caches }) => {
  it('takes the options', async () => {
    await using store = await start();
    await using engines = new Engines();
    const engine = engines.start(store.options);
    await engine.redisCacheService.get('contact');
    const source = new CountedQuery();
    source.ms = 5;
    const ask = asking(source, { ...patient, ...eager });
    expect(await ask(engine)).toMatchObject({ fromCache: false, stale: false });
    const again = await ask(engine);
    expect([again.fromCache, again.stale]).toEqual([caches, false]);
    // In the background with a store, for the caller without one.
    await refreshed(source, 2);
  });
});

describe('what is refused', () => {
  const engines = new Engines();
  afterAll(() => engines[Symbol.asyncDispose]());

  it.each<[options: object, field: string]>([
    [{ staleMs: -1 }, 'staleMs'],
    [{ staleMs: 1.5 }, 'staleMs'],
    [{ staleMs: 86_400_001 }, 'staleMs'],
    [{ staleMs: '5m' }, 'staleMs'],
    [{ staleMs: Number.NaN }, 'staleMs'],
    [{ staleMs: null }, 'staleMs'],
    [{ earlyRefresh: 1 }, 'earlyRefresh'],
    [{ earlyRefresh: null }, 'earlyRefresh'],
    [{ earlyRefresh: { beta: 0 } }, 'earlyRefresh.beta'],
    [{ earlyRefresh: { beta: -1 } }, 'earlyRefresh.beta'],
    [{ earlyRefresh: { beta: Number.POSITIVE_INFINITY } }, 'earlyRefresh.beta'],
    [{ earlyRefresh: { beta: '2' } }, 'earlyRefresh.beta'],
  ])('%j', async (options, field) => {
    const engine = engines.start({ cacheStore: 'none' });
    const source = new CountedQuery();
    const asked = engine.queryDataSourceWithCache(source.params, [], source.query, false, options as never);
    await expect(asked).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT', field });
    expect(source.ran).toBe(0);
  });
});
