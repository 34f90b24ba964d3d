/**
 * Results of data sources on every store: who runs a query, who shares its result, and what makes it void. Not the keys
 * and lifetimes, which are pure and have specs of their own.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { DataSourceOptions, Engine, Scope } from '../index.js';
import { Engines, until } from './support/engines.js';
import { load } from './support/played-native.js';
import { stores, type TestStore } from './support/stores.js';

/** Only that module makes scopes; a context that has one needs a database. */
const { ALL, NOTHING, rows } = load('./dist/scope.js') as {
  ALL: Scope;
  NOTHING: Scope;
  rows(practices: readonly number[], providers: readonly number[] | null): Scope;
};

describe.each(stores)('$name', (kind) => {
  const engines = new Engines();
  let store: TestStore;
  let engine: Engine;
  /** Another process, where there can be one. */
  let other: Engine;
  beforeAll(async () => {
    store = await kind.start();
    engine = engines.start(store.options, { cacheDatasourceMaxBytes: 200_000 });
    other = kind.shared ? engines.start(store.options, { cacheDatasourceMaxBytes: 200_000 }) : engine;
    await Promise.all([engine, other].map((one) => one.getHealth()));
    await Promise.all([engine, other].map((one) => one.redisCacheService.get('contact')));
  });
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await store?.[Symbol.asyncDispose]();
  });

  /** A data source of its own, whose query counts how often it ran. */
  function source(count = 3, ms = 20) {
    const params = { dataSourceId: randomUUID(), measure: 'Charges', end_date: '2020-01-31' };
    const state = { ran: 0, version: 1 };
    const query = async () => {
      state.ran += 1;
      const { version } = state;
      await sleep(ms);
      const row = (at: number) => ({ at, version, text: 'x'.repeat(50), gone: undefined });
      return { data: Array.from({ length: count }, (_, at) => row(at)), query_time_ms: 7 };
    };
    const ask = (who = engine, force = false, organizations: readonly string[] = ['a', 'b']) =>
      who.queryDataSourceWithCache(params, organizations, query, force);
    return { params, state, query, ask };
  }
  const versionOf = (result: { data: readonly { version: number }[] }) => result.data[0]?.version;

  it('runs once, then answers from the cache, frozen and with its times', async () => {
    const { params, state, ask } = source();
    const before = Date.now();
    const first = await ask();
    expect(first).toMatchObject({
      fromCache: false,
      query_time_ms: 7,
      data: [{ at: 0 }, { at: 1 }, { at: 2 }],
    });
    const shape = ['cacheKey', 'cached_at', 'data', 'expires_at', 'fromCache', 'query_time_ms'];
    expect(Object.keys(first).sort()).toEqual(shape);
    expect(first.cacheKey).toMatch(new RegExp(`^datasource:${params.dataSourceId}:[A-Za-z0-9_-]{43,64}$`));
    const lives = Date.parse(first.expires_at) - Date.parse(first.cached_at);
    expect([lives < 3_600_000, lives >= 3_420_000]).toEqual([true, true]);
    expect(Date.parse(first.cached_at)).toBeGreaterThanOrEqual(before);
    expect('gone' in (first.data[0] ?? {})).toBe(false);
    const again = await ask(other);
    expect(state.ran).toBe(kind.caches ? 1 : 2);
    expect(again.data).toEqual(first.data);
    for (const { data } of [first, again]) {
      expect(Object.isFrozen(data) && data.every((row) => Object.isFrozen(row))).toBe(true);
    }
    if (!kind.caches) return;
    expect(Object.keys(again).sort()).toEqual(shape);
    expect(again).toMatchObject({
      fromCache: true,
      cached_at: first.cached_at,
      expires_at: first.expires_at,
    });
    expect((await ask(other)).data).toBe(again.data);
  });

  it('a hit is one round trip, with the generation in it', async () => {
    if (!kind.caches || kind.clustered) return;
    const { ask } = source();
    await ask();
    const trips = async () => {
      const before = other.getMetrics().store.roundTrips;
      expect((await ask(other)).fromCache).toBe(true);
      return other.getMetrics().store.roundTrips - before;
    };
    // From the store, and confirmed by it.
    expect([await trips(), await trips()]).toEqual([1, 1]);
  });

  it('is parsed once per version, and as the text of a response never', async () => {
    const { params, query, ask } = source(400, 0);
    const parse = vi.spyOn(JSON, 'parse');
    try {
      const parsed = async (work: () => Promise<unknown>) => {
        parse.mockClear();
        await work();
        return parse.mock.calls.filter(([text]) => text.length > 10_000).length;
      };
      // In the form that it will have later, also for the first.
      expect(await parsed(() => ask(engine))).toBe(1);
      if (!kind.caches) return;
      expect(await parsed(() => ask(other))).toBe(kind.shared ? 1 : 0);
      for (const who of [engine, other]) {
        const often = () => Promise.all(Array.from({ length: 20 }, () => ask(who)));
        expect(await parsed(often)).toBe(0);
      }
      const raw = { raw: true } as const;
      const text = () => other.queryDataSourceWithCache(params, ['a'], query, false, raw);
      expect(await parsed(text)).toBe(0);
      expect(await parsed(() => ask(engine, true))).toBe(1);
      expect(await parsed(() => ask(other))).toBe(kind.shared ? 1 : 0);
    } finally {
      parse.mockRestore();
    }
  });

  it('an entry that is ours by all that can be seen and yet cannot be read is passed by, and removed', async () => {
    if (!kind.shared) return;
    for (const body of ['z 00000000 00000001 no block', '- 00000000 00000001 {"data":']) {
      const { state, ask, params } = source();
      const { cacheKey } = await ask();
      const prefix = store.options.redisKeyPrefix ?? '';
      const generation = `${prefix}datasource_gen:${params.dataSourceId}`;
      const version = String(await store.command('GET', generation)).slice(15, 31);
      const payload = `${version} ${body}`;
      const check = crc32(`${prefix}${cacheKey}${payload}`).toString(16).padStart(8, '0');
      const entry = `b1v-01.${check}00000000000000aa ${payload}`;
      await store.command('SET', `${prefix}${cacheKey}`, entry, 'PX', 60_000);
      state.version = 2;
      const ran = state.ran;
      expect(versionOf(await ask(other))).toBe(2);
      expect(state.ran).toBe(ran + 1);
      await until(
        'it is removed',
        async () => (await store.command('GET', `${prefix}${cacheKey}`)) !== entry,
      );
      expect(versionOf(await ask(engine))).toBe(2);
    }
  });

  it('six charts in each of two processes on a cold key are one query', async () => {
    const { state, ask } = source(3, 150);
    const asked = Array.from({ length: 12 }, (_, at) => ask(at % 2 ? engine : other));
    const results = await Promise.all(asked);
    expect(state.ran).toBe(1);
    expect(results.filter(({ fromCache }) => !fromCache)).toHaveLength(1);
    expect(new Set(results.map(({ cached_at }) => cached_at)).size).toBe(1);
  });

  it('a slow query of another process is waited for, not run again', async () => {
    if (!kind.shared) return;
    const { state, ask } = source(1, 1_600);
    const first = ask(engine);
    await sleep(100);
    expect(await ask(other)).toMatchObject({ fromCache: true });
    await first;
    expect(state.ran).toBe(1);
  });

  it('callers who may see different rows never share, in whichever order they come', async () => {
    const { state, ask } = source();
    const sets = [['a'], ['a', 'b'], [], ['b', 'a', 'a'], ['A'], ['a,b'], ['a', 'b', 'c']];
    const keys: string[] = [];
    for (const set of sets) {
      const frozen = Object.freeze([...set]);
      keys.push((await ask(engine, false, frozen)).cacheKey);
    }
    // The same set in another order, and with one twice.
    expect(keys[3]).toBe(keys[1]);
    expect(new Set(keys).size).toBe(sets.length - 1);
    expect(state.ran).toBe(kind.caches ? sets.length - 1 : sets.length);
  });

  it('scopes that differ in anything do not share, equal ones do', async () => {
    const { params, query, state } = source(1, 0);
    const scopes: readonly (Scope | string)[] = [
      ALL,
      NOTHING,
      rows([1, 2], null),
      rows([1], null),
      rows([1, 2], [7]),
      'all',
    ];
    for (const scopeKey of [...scopes, rows([1, 2], null)]) {
      await engine.queryDataSourceWithCache(params, ['a'], query, false, { scopeKey });
    }
    expect(state.ran).toBe(scopes.length + (kind.caches ? 0 : 1));
    const ran = state.ran;
    await engine.queryDataSourceWithCache(params, ['a'], query);
    expect(state.ran).toBe(ran + 1);
    const missing = engine.queryDataSourceWithCache(params, undefined, query);
    await expect(missing).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT', field: 'userOrganizations' });
  });

  it('what the query throws reaches everybody who waits, is not cached and not tried again', async () => {
    const { params } = source();
    const failure = new RangeError('the database said no');
    let ran = 0;
    const query = async (): Promise<{ data: [] }> => {
      ran += 1;
      await sleep(50);
      throw failure;
    };
    const asked = Array.from({ length: 6 }, () => engine.queryDataSourceWithCache(params, ['a'], query));
    for (const ended of await Promise.allSettled(asked)) {
      expect(ended.status === 'rejected' && ended.reason).toBe(failure);
    }
    expect(ran).toBe(1);
    const good = await engine.queryDataSourceWithCache(params, ['a'], async () => ({ data: [1] }));
    expect(good).toMatchObject({ data: [1], fromCache: false });
    expect(good.query_time_ms).toBeGreaterThanOrEqual(0);
  });

  it('the query keeps its async context', async () => {
    const { params } = source();
    const context = new AsyncLocalStorage<string>();
    const query = async () => ({ data: [context.getStore()] });
    const { data } = await context.run('mine', () => engine.queryDataSourceWithCache(params, [], query));
    expect(data).toEqual(['mine']);
  });

  it('a refresh always runs, and everybody has its result', async () => {
    const { state, ask } = source();
    await ask();
    state.version = 2;
    if (kind.caches) expect(versionOf(await ask(other))).toBe(1);
    const refreshed = await ask(other, true);
    expect([versionOf(refreshed), refreshed.fromCache]).toEqual([2, false]);
    expect(versionOf(await ask(engine))).toBe(2);
    const ran = state.ran;
    await Promise.all([ask(engine, true), ask(other, true), ask(engine, true)]);
    expect(state.ran).toBe(ran + 3);
  });

  it('an invalidated result is void everywhere, and only it', async () => {
    const { state, ask } = source();
    const mine = await ask(engine, false, ['a']);
    const theirs = await ask(engine, false, ['b']);
    state.version = 2;
    expect(await other.invalidateDataSourceCache(mine.cacheKey)).toEqual({
      acknowledged: true,
      queued: false,
    });
    expect(versionOf(await ask(engine, false, ['a']))).toBe(2);
    expect(versionOf(await ask(engine, false, ['b']))).toBe(kind.caches ? 1 : 2);
    expect(theirs.cacheKey).not.toBe(mine.cacheKey);
  });

  it('all results of a source are void at once, with as many commands for a hundred as for one', async () => {
    const { params, state, ask } = source(1, 0);
    const sets = Array.from({ length: 100 }, (_, at) => [`organization-${at}`]);
    await Promise.all(sets.map((set) => ask(engine, false, set)));
    state.version = 2;
    const { commands } = engine.getMetrics().store;
    const done = await engine.invalidateDataSourceCaches(params.dataSourceId);
    expect(done).toEqual({ acknowledged: true, queued: false });
    expect(engine.getMetrics().store.commands - commands).toBeLessThanOrEqual(3);
    for (const result of await Promise.all(sets.map((set) => ask(other, false, set)))) {
      expect(versionOf(result)).toBe(2);
    }
    const another = source();
    await another.ask();
    await engine.invalidateDataSourceCaches(params.dataSourceId);
    expect((await another.ask()).fromCache).toBe(kind.caches);
  });

  it.each(['one', 'all'])(
    'an invalidation of %s meets a running query: its result is not kept',
    async (what) => {
      const { params, state, ask } = source(1, 200);
      const { cacheKey } = await ask();
      await engine.invalidateDataSourceCache(cacheKey);
      const running = ask(engine);
      await sleep(80);
      state.version = 2;
      if (what === 'one') await other.invalidateDataSourceCache(cacheKey);
      else await other.invalidateDataSourceCaches(params.dataSourceId);
      expect(versionOf(await ask(other))).toBe(2);
      expect(versionOf(await running)).toBe(1);
      expect(versionOf(await ask(engine))).toBe(2);
    },
  );

  it('what is too large is returned, not stored, and counted', async () => {
    const { state, ask } = source(3_000, 0);
    const [one, two] = [await ask(), await ask(other)];
    expect([one.data.length, two.data.length, state.ran]).toEqual([3_000, 3_000, 2]);
    expect(engine.metricsText()).toMatch(/^bcos_datasource_too_large_total [1-9]/m);
    expect([engine, other].map((one) => one.getMetrics().dataSources.tooLarge > 0)).toEqual([true, true]);
  });

  it('large results are stored compressed, small ones readable', async () => {
    if (!kind.shared) return;
    const [large, small] = [source(800, 0), source(2, 0)];
    await Promise.all([large.ask(), small.ask()]);
    const found = new Map(await store.dump());
    const storedOf = (id: string) => [...found].find(([key]) => key.includes(`datasource:${id}:`))?.[1] ?? '';
    expect(storedOf(small.params.dataSourceId)).toContain('"version":1');
    expect(storedOf(large.params.dataSourceId).length).toBeLessThan(30_000);
    expect((await large.ask(other)).data).toHaveLength(800);
  });

  it.each([2, 800])('hands out the text of %i rows unparsed', async (count) => {
    const { params, query, state } = source(count, 0);
    const raw: DataSourceOptions & { raw: true } = { raw: true };
    const ask = (who: Engine) => who.queryDataSourceWithCache(params, ['a'], query, false, raw);
    const [first, second, third] = [await ask(engine), await ask(other), await ask(other)];
    expect(Buffer.isBuffer(first.json)).toBe(true);
    expect(JSON.parse(first.json.toString()).data).toHaveLength(count);
    if (!kind.caches) return;
    expect([first.fromCache, second.fromCache, third.fromCache]).toEqual([false, true, true]);
    expect(second.json.equals(first.json) && third.json.equals(first.json)).toBe(true);
    const parsed = await engine.queryDataSourceWithCache(params, ['a'], query);
    expect(parsed).toMatchObject(JSON.parse(first.json.toString()));
    expect(state.ran).toBe(1);
  });

  it.each([1_000, 65_000, 70_000, 3_500_000])("of %i bytes is nobody else's buffer", async (size) => {
    // Whatever this process shares of it: small ones are kept as they are stored, large ones are unpacked each time.
    const noise = randomBytes(size).toString('base64').slice(0, size);
    const params = { dataSourceId: randomUUID() };
    const ask = () =>
      engine.queryDataSourceWithCache(params, ['a'], async () => ({ data: [noise] }), false, {
        raw: true,
      } as const);
    const said = ({ json }: { json: Buffer }) => JSON.parse(json.toString()).data[0] === noise;
    for (const told of await Promise.all([ask(), ask(), ask()])) {
      expect(said(told)).toBe(true);
      told.json.fill(120);
    }
    for (let again = 0; again < 3; again += 1) {
      const told = await ask();
      expect(said(told)).toBe(true);
      told.json.fill(120);
    }
  });

  it('is a response, which a browser need not get twice', async () => {
    const { params, query, state } = source(500, 0);
    const respond = (headers: Record<string, string> = {}, forceRefresh = false) => {
      const request = new Request('http://localhost/chart', { headers });
      return other.queryAsResponse(request, params, ['a'], query, { forceRefresh });
    };
    const first = await respond();
    expect(first.status).toBe(200);
    expect(first.headers.get('x-cache-status')).toBe('MISS');
    expect(first.headers.get('cache-control')).toMatch(/^private/);
    expect(Number(first.headers.get('age'))).toBeLessThan(5);
    expect(((await first.json()) as { data: unknown[] }).data).toHaveLength(500);
    const etag = first.headers.get('etag') ?? '';
    if (kind.caches) {
      const second = await respond({ 'if-none-match': `"x", W/${etag}` });
      expect([second.status, await second.text(), second.headers.get('etag')]).toEqual([304, '', etag]);
      expect(second.headers.get('x-cache-status')).toBe('HIT');
    }
    state.version = 2;
    await sleep(5);
    const fresh = await respond({ 'if-none-match': etag }, true);
    expect([fresh.status, fresh.headers.get('x-cache-status')]).toEqual([200, 'REFRESH']);
    expect(versionOf((await fresh.json()) as { data: { version: number }[] })).toBe(2);
  });

  it('is a response of its own also when its times do not come first', async () => {
    const { params } = source();
    const respond = (value: string, forceRefresh: boolean, tag = '') => {
      const request = new Request('http://localhost/', { headers: { 'if-none-match': tag } });
      const query = async () => ({ data: [value], 1: 'a name like a number' });
      return engine.queryAsResponse(request, params, ['a'], query, { forceRefresh });
    };
    const first = await respond('x', true);
    const tag = first.headers.get('etag') ?? '';
    expect([first.status, first.headers.get('age')]).toEqual([200, null]);
    if (kind.caches) expect((await respond('y', false, tag)).status).toBe(304);
    expect((await respond('y', true, tag)).status).toBe(200);
  });

  it.each<[what: string, call: (engine: Engine) => Promise<unknown>]>([
    ['no function', (one) => one.queryDataSourceWithCache({ dataSourceId: 1 }, [], 7 as never)],
    ['no parameters', (one) => one.queryDataSourceWithCache(null as never, [], async () => ({ data: [] }))],
    [
      'a bigint',
      (one) => one.queryDataSourceWithCache({ dataSourceId: 1, a: 1n }, [], async () => ({ data: [] })),
    ],
    [
      'a wrong date',
      (one) => one.queryDataSourceWithCache({ end_date: 'soon' }, [], async () => ({ data: [] })),
    ],
    [
      'no object',
      (one) => one.queryDataSourceWithCache({ dataSourceId: randomUUID() }, [], async () => 5 as never),
    ],
    ['a key of its own', (one) => one.invalidateDataSourceCache('user_basic:1')],
    ['a key with a wildcard', (one) => one.invalidateDataSourceCache('datasource:3:*')],
    ['half an escape', (one) => one.invalidateDataSourceCache('datasource:%E0%A4%A:abc')],
    ['no source', (one) => one.invalidateDataSourceCaches('')],
    ['a wrong flag', (one) => one.queryDataSourceWithCache({}, [], async () => ({ data: [] }), 1 as never)],
  ])('refuses %s', async (_, call) => {
    await expect(call(engine)).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT' });
  });
});
