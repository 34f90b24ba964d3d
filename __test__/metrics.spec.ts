/**
 * Figures are true: answers, statements and round trips are compared with what was asked, what Postgres got and what
 * the server ran; the log bridge delivers, drops and counts. Not a benchmark.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine, LogRecord, MetricsSnapshot, NamespaceMetrics } from '../index.js';
import { type Database, Databases } from './support/database.js';
import { Engines, outcome, until } from './support/engines.js';
import { parsePrometheus } from './support/prometheus.js';
import { StatementCounter } from './support/statement-counter.js';
import { type TestStore, valkey } from './support/stores.js';
import { claimsOf, signed, verified } from './support/tokens.js';

let databases: Databases;
let db: Database;
let store: TestStore;
let counter: StatementCounter;
let engines: Engines;
let engine: Engine;
let url: string;
beforeAll(async () => {
  databases = await Databases.start();
  db = await databases.create();
  store = await valkey.start();
  counter = await StatementCounter.start(databases.server.port);
  url = counter.through(db.url);
});
afterAll(async () => {
  await counter?.[Symbol.asyncDispose]();
  await store?.[Symbol.asyncDispose]();
  await databases?.[Symbol.asyncDispose]();
});
beforeEach(() => {
  engines = new Engines();
  engine = engines.start(store.options, { databaseUrl: url });
});
afterEach(async () => {
  engine.setLogger(null);
  await engines[Symbol.asyncDispose]();
});

type Name = keyof MetricsSnapshot['namespaces'];
/** The counters of a namespace that are not 0. */
function counted(name: Name, by: Engine = engine): Partial<Record<keyof NamespaceMetrics, number>> {
  const pairs = Object.entries(by.getMetrics().namespaces[name]);
  return Object.fromEntries(pairs.filter(([, value]) => typeof value === 'number' && value > 0));
}

/** Until it hears announcements: when it begins to, it forgets what it had near, since it may have missed some. */
const hears = (by: Engine): Promise<void> =>
  until('announcements are heard', async () => (await by.getHealth()).store.subscription === 'healthy');

describe('answers are counted where they came from', () => {
  it('a new engine has counted nothing', () => {
    const { namespaces, source, bridge, near } = engine.getMetrics();
    for (const name of Object.keys(namespaces)) expect([name, counted(name as Name)]).toEqual([name, {}]);
    expect(source).toMatchObject({ statements: 0, errors: 0, timeouts: 0, inFlight: 0, queued: 0 });
    expect(bridge).toMatchObject({ submitted: 0, settled: 0, rejectedOverload: 0 });
    expect(near).toMatchObject({ entries: 0 });
  });

  it('users: source, near, store, denials, invalidations', async () => {
    await hears(engine);
    const { user_id: id } = await db.addUser();
    const second = engines.start(store.options, { databaseUrl: url });
    await hears(second);
    await engine.getUserById(id);
    expect(counted('user_basic')).toEqual({ source: 1, loads: 1, fills: 1 });
    for (let round = 0; round < 5; round += 1) await engine.getUserById(id);
    expect(counted('user_basic')).toEqual({ source: 1, loads: 1, fills: 1, near: 5 });
    await second.getUserById(id);
    await second.getUserById(id);
    expect(counted('user_basic', second)).toEqual({ store: 1, near: 1 });
    await engine.invalidateUserCache(id);
    await second.getUserById(id);
    expect(counted('user_basic', second)).toEqual({ store: 1, near: 1, source: 1, loads: 1, fills: 1 });
    await engine.getUserById(randomUUID());
    expect(counted('user_basic')).toEqual({
      source: 2,
      loads: 2,
      fills: 2,
      near: 5,
      negative: 1,
      invalidations: 1,
    });
  });

  it('tokens: only revoked ones are near', async () => {
    await hears(engine);
    const [clean, revoked] = [randomUUID(), randomUUID()];
    for (let round = 0; round < 3; round += 1) await engine.isTokenBlacklisted(clean);
    expect(counted('token_bl')).toEqual({ source: 1, loads: 1, fills: 1, store: 2 });
    await engine.invalidateTokenCache(revoked);
    const before = engine.getMetrics().bridge.submitted;
    for (let round = 0; round < 4; round += 1) await engine.isTokenBlacklisted(revoked);
    expect(counted('token_bl')).toEqual({
      source: 1,
      loads: 1,
      fills: 1,
      store: 2,
      near: 4,
      invalidations: 1,
    });
    expect(engine.getMetrics().bridge.submitted - before).toBe(0);
  });

  it('payloads: the application as their source', async () => {
    await hears(engine);
    const token = signed(claimsOf(randomUUID()));
    for (let round = 0; round < 4; round += 1) await engine.verifyTokenCached(token, verified);
    expect(counted('jwt_payload')).toEqual({ source: 1, loads: 1, fills: 1, near: 3 });
  });

  it('bounded: an answer without a round trip is one answer, also a denial', async () => {
    const near = { user_basic: { mode: 'bounded', maxAgeMs: 60_000 } } as const;
    const bounded = engines.start({ cacheStore: 'embedded' }, { databaseUrl: url, near });
    const { user_id: id } = await db.addUser();
    const nobody = randomUUID();
    await bounded.getUserById(id);
    await bounded.getUserById(nobody);
    await until(
      'announcements are heard',
      async () => (await bounded.getHealth()).store.subscription === 'healthy',
    );
    const before = counted('user_basic', bounded).near ?? 0;
    for (let round = 0; round < 3; round += 1) await bounded.getUserById(id);
    expect((counted('user_basic', bounded).near ?? 0) - before).toBe(3);
    for (let round = 0; round < 3; round += 1) expect(await bounded.getUserById(nobody)).toBeNull();
    expect((counted('user_basic', bounded).near ?? 0) - before).toBe(6);
  });

  it('addresses: the index and the user behind it', async () => {
    await hears(engine);
    const { email } = await db.addUser();
    await engine.getUserByEmail(email);
    await engine.getUserByEmail(email);
    expect(counted('user_email')).toEqual({ source: 1, loads: 1, fills: 1, near: 1 });
    expect(counted('user_basic')).toEqual({ source: 1, loads: 1, fills: 1, near: 1 });
  });

  it('one load, and everybody else waited', async () => {
    const { user_id: id } = await db.addUser();
    const unlock = await db.lock('users');
    const calls = Array.from({ length: 20 }, () => engine.getUserById(id));
    await until('the load has begun', () => engine.getMetrics().source.inFlight === 1);
    await sleep(50);
    await unlock();
    await Promise.all(calls);
    expect(counted('user_basic')).toEqual({ source: 20, loads: 1, waits: 19, fills: 1 });
  });

  it('a fill refused because an invalidation came between', async () => {
    const { user_id: id } = await db.addUser();
    const unlock = await db.lock('users');
    const loading = engine.getUserById(id);
    await until('the load has begun', () => engine.getMetrics().source.inFlight === 1);
    await engine.invalidateUserCache(id);
    await unlock();
    await loading;
    expect(counted('user_basic')).toEqual({ source: 1, loads: 1, fillsRefused: 1, invalidations: 1 });
  });

  it('bytes that are no entry', async () => {
    const { user_id: id } = await db.addUser();
    await store.command('SET', `user_basic:${id}`, 'nonsense', 'PX', '60000');
    expect(await engine.getUserById(id)).not.toBeNull();
    expect(counted('user_basic')).toMatchObject({ source: 1, loads: 1, fills: 1, corrupt: 1 });
  });

  it('calls that rejected', async () => {
    const alone = engines.start({ cacheStore: 'embedded' });
    for (const call of [
      () => alone.getUserById(randomUUID()),
      () => alone.isTokenBlacklisted(randomUUID()),
      () => alone.getUserByEmail('a@b.test'),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: 'E_SOURCE_UNAVAILABLE' });
    }
    const errors = (['user_basic', 'token_bl', 'user_email'] as const).map(
      (name) => counted(name, alone).errors,
    );
    expect(errors).toEqual([1, 1, 1]);
  });

  it('latencies are those of the answers', async () => {
    const { user_id: id } = await db.addUser();
    for (let round = 0; round < 20; round += 1) await engine.getUserById(id);
    const { near, store: fromStore, source, latency } = engine.getMetrics().namespaces.user_basic;
    expect([latency.near.count, latency.store.count, latency.source.count]).toEqual([
      near,
      fromStore,
      source,
    ]);
    for (const summary of [latency.near, latency.source]) {
      expect(summary.p50Us).toBeGreaterThan(0);
      expect(summary.p90Us).toBeGreaterThanOrEqual(summary.p50Us);
      expect(summary.p99Us).toBeGreaterThanOrEqual(summary.p90Us);
      expect(summary.maxUs).toBeGreaterThanOrEqual(summary.p99Us);
    }
    expect(latency.store).toEqual({ count: 0, p50Us: 0, p90Us: 0, p99Us: 0, maxUs: 0 });
  });
});

describe('cacheMetricsEnabled: false', () => {
  it('keeps no answers and no latencies; what was sent and what went wrong is counted all the same', async () => {
    const silent = engines.start(store.options, { databaseUrl: url, cacheMetricsEnabled: false });
    const { user_id: id } = await db.addUser();
    await silent.isTokenBlacklisted(randomUUID());
    const [before, wire] = [silent.getMetrics(), counter.statements];
    for (let round = 0; round < 5; round += 1) await silent.getUserById(id);
    expect(await silent.getUserById(randomUUID())).toBeNull();
    await silent.invalidateUserCache(id);
    await silent.invalidateTokenCache('revoked');
    for (let round = 0; round < 5; round += 1) expect(await silent.isTokenBlacklisted('revoked')).toBe(true);
    for (let round = 0; round < 3; round += 1) await silent.checkRateLimit('silent', id, 2, 60);

    const after = silent.getMetrics();
    expect([before.enabled, engine.getMetrics().enabled]).toEqual([false, true]);
    expect(counted('user_basic', silent)).toMatchObject({ loads: 2, fills: 2, invalidations: 1 });
    for (const [name, stats] of Object.entries(after.namespaces)) {
      const { near, store: fromStore, source, negative, latency } = stats;
      const counts = Object.values(latency).map(({ count }) => count);
      expect([name, near, fromStore, source, negative, ...counts]).toEqual([name, 0, 0, 0, 0, 0, 0, 0]);
    }
    expect(after.source.statements - before.source.statements).toBe(counter.statements - wire);
    expect(counter.statements - wire).toBe(2);
    expect(after.store.commands).toBeGreaterThan(before.store.commands);
    expect(after.bridge.submitted).toBeGreaterThan(before.bridge.submitted);
    expect(after.limiter).toMatchObject({ admitted: 2, denied: 1 });
    expect(await silent.getHealth()).toMatchObject({ status: 'healthy', limiter: { status: 'healthy' } });
  });

  it('has no series of them in the Prometheus text, instead of zeros', async () => {
    const silent = engines.start(store.options, { databaseUrl: url, cacheMetricsEnabled: false });
    const { user_id: id } = await db.addUser();
    await silent.getUserById(id);
    const metrics = parsePrometheus(silent.metricsText());
    expect(metrics.histograms).toEqual([]);
    expect(silent.metricsText()).not.toMatch(/bcos_cache_answer|negative/);
    expect(metrics.value('bcos_cache_events_total', { namespace: 'user_basic', event: 'fill' })).toBe(1);
    expect(metrics.value('bcos_source_statements_total')).toBe(1);
    expect(engine.metricsText()).toMatch(/bcos_cache_answers_total[\s\S]*bcos_cache_answer_seconds/);
  });
});

describe('what was sent', () => {
  it('statements: what Postgres got, by name', async () => {
    const { user_id: id, email } = await db.addUser();
    // The connection itself may cost a statement, which is not one of ours.
    await engine.isTokenBlacklisted(randomUUID());
    const [before, wire] = [engine.getMetrics().source, counter.statements];
    await engine.getUserById(id);
    await engine.getUserByEmail(email);
    await engine.isTokenBlacklisted(randomUUID());
    await engine.blacklistToken({
      jti: randomUUID(),
      userId: id,
      tokenType: 'a',
      expiresAt: Date.now(),
      reason: 'r',
    });
    const after = engine.getMetrics().source;
    expect(after.statements - before.statements).toBe(4);
    expect(counter.statements - wire).toBe(4);
    expect(after.statementsByName).toMatchObject({
      user_by_id: 1,
      user_by_email: 1,
      token_is_blacklisted: 2,
      blacklist_token: 1,
    });
    const sum = Object.values(after.statementsByName).reduce((total, count) => total + count, 0);
    expect(sum).toBe(after.statements);
  });

  it('getHealth asks the database for nothing, and that is counted', async () => {
    await engine.isTokenBlacklisted(randomUUID());
    const [before, wire] = [engine.getMetrics().source.statements, counter.statements];
    for (let round = 0; round < 5; round += 1) await engine.getHealth();
    expect([engine.getMetrics().source.statements - before, counter.statements - wire]).toEqual([5, 5]);
    expect(engine.getMetrics().source.statementsByName['ping']).toBe(5);
  });

  it('commands: what the server ran', async () => {
    const { user_id: id } = await db.addUser();
    await engine.getUserById(id);
    await store.command('CONFIG', 'RESETSTAT');
    const before = engine.getMetrics().store;
    for (let round = 0; round < 10; round += 1) await engine.getUserById(id);
    const after = engine.getMetrics().store;
    expect([after.commands - before.commands, after.roundTrips - before.roundTrips]).toEqual([10, 10]);
    const stats = String(await store.command('INFO', 'commandstats'));
    // A small entry is read whole to validate the near copy: whole reads share one command.
    expect(stats).toContain('cmdstat_get:calls=10,');
    expect(stats).not.toMatch(/cmdstat_(getrange|mget|set|eval|evalsha):/);
  });

  it('a large near copy is validated by the header alone', async () => {
    const token = signed({ ...claimsOf(randomUUID()), wide: 'x'.repeat(2_000) });
    await engine.verifyTokenCached(token, () => ({ wide: 'x'.repeat(2_000) }));
    await engine.verifyTokenCached(token, () => ({}));
    await store.command('CONFIG', 'RESETSTAT');
    for (let round = 0; round < 10; round += 1) await engine.verifyTokenCached(token, () => ({}));
    expect(String(await store.command('INFO', 'commandstats'))).toContain('cmdstat_getrange:calls=10,');
  });

  it('round trips: calls of one turn share them', async () => {
    const ids = Array.from({ length: 100 }, () => randomUUID());
    await Promise.all(ids.map((id) => engine.isTokenBlacklisted(id)));
    const before = engine.getMetrics().store;
    await Promise.all(ids.map((id) => engine.isTokenBlacklisted(id)));
    const after = engine.getMetrics().store;
    expect(after.commands - before.commands).toBe(100);
    expect(after.roundTrips - before.roundTrips).toBeLessThanOrEqual(50);
    const { submitted, settled, batches } = engine.getMetrics().bridge;
    expect(settled).toBe(submitted);
    expect(batches).toBeLessThan(submitted);
  });

  it('gauges: running, waiting, near bytes', async () => {
    const narrow = engines.start(store.options, {
      databaseUrl: url,
      cacheBulkhead: 2,
      cacheNearBytes: 100_000,
    });
    const users = await Promise.all(Array.from({ length: 5 }, () => db.addUser()));
    const unlock = await db.lock('users');
    const calls = users.map((user) => narrow.getUserById(user.user_id));
    await until('two run and three wait', () => {
      const { inFlight, queued } = narrow.getMetrics().source;
      return inFlight === 2 && queued === 3;
    });
    await unlock();
    await Promise.all(calls);
    expect(narrow.getMetrics().source).toMatchObject({ inFlight: 0, queued: 0 });
    const { near } = narrow.getMetrics();
    expect([near.entries, near.capacityBytes]).toEqual([5, 100_000]);
    expect(near.bytes).toBeGreaterThan(5 * 100);
    expect(near.bytes).toBeLessThanOrEqual(near.capacityBytes);
  });
});

describe('metricsText', () => {
  it('is Prometheus text with the figures of the snapshot', async () => {
    const { user_id: id } = await db.addUser();
    for (let round = 0; round < 5; round += 1) await engine.getUserById(id);
    await engine.isTokenBlacklisted(randomUUID());
    const snapshot = engine.getMetrics();
    const metrics = parsePrometheus(engine.metricsText());
    expect(metrics.value('bcos_store_round_trips_total')).toBe(snapshot.store.roundTrips);
    expect(metrics.value('bcos_store_commands_total')).toBe(snapshot.store.commands);
    expect(metrics.value('bcos_source_statements_total')).toBe(snapshot.source.statements);
    expect(metrics.value('bcos_requests_settled_total')).toBe(snapshot.bridge.settled);
    expect(metrics.value('bcos_near_entries')).toBe(snapshot.near.entries);
    for (const [namespace, stats] of Object.entries(snapshot.namespaces)) {
      for (const tier of ['near', 'store', 'source'] as const) {
        expect(metrics.value('bcos_cache_answers_total', { namespace, tier })).toBe(stats[tier]);
        const series = { namespace, tier };
        expect(metrics.value('bcos_cache_answer_seconds_count', series)).toBe(stats.latency[tier].count);
      }
      for (const [event, count] of [
        ['fill', stats.fills],
        ['fill_refused', stats.fillsRefused],
        ['load', stats.loads],
      ] as const) {
        expect(metrics.value('bcos_cache_events_total', { namespace, event })).toBe(count);
      }
    }
  });

  it('histograms grow from bucket to bucket and end with all', () => {
    const metrics = parsePrometheus(engine.metricsText());
    expect(metrics.histograms.length).toBeGreaterThan(0);
    for (const { buckets, count } of metrics.histograms) {
      const bounds = buckets.map(({ le }) => le);
      expect(bounds).toEqual([...bounds].sort((a, b) => a - b));
      const counts = buckets.map((bucket) => bucket.count);
      expect(counts).toEqual([...counts].sort((a, b) => a - b));
      expect([bounds.at(-1), counts.at(-1)]).toEqual([Number.POSITIVE_INFINITY, count]);
    }
  });
});

describe('log records', () => {
  /** Each call of it is one refused statement, which is one record at level error. */
  const refused = (by: Engine) => outcome(by.isTokenBlacklisted(randomUUID()));
  const isRefusal = (record: LogRecord) => record.message === 'a statement was refused';
  let broken: Engine;
  beforeEach(async () => {
    const empty = await databases.server.createDatabase(`empty_${randomUUID().replaceAll('-', '')}`);
    broken = engines.start({
      databaseUrl: empty,
      redisLog: 'trace',
      cacheSourceDeadlineMs: 20_000,
      cacheBulkheadQueue: 100_000,
    });
    await refused(broken);
  });
  const settled = () =>
    until('all are settled', () => {
      const { submitted, settled: done } = broken.getMetrics().bridge;
      return submitted === done;
    });

  it('are delivered later, in order, with their time', async () => {
    const records: LogRecord[] = [];
    const from = Date.now();
    broken.setLogger((record) => records.push(record));
    for (let round = 0; round < 20; round += 1) await refused(broken);
    await until('all have come', () => records.filter(isRefusal).length === 20);
    for (const record of records.filter(isRefusal)) {
      expect(record).toMatchObject({ level: 'error', component: 'source', fields: { sqlstate: '42P01' } });
      expect(Date.parse(record.time)).toBeGreaterThanOrEqual(from);
    }
    const times = records.map((record) => record.time);
    expect(times).toEqual([...times].sort());
  });

  it('are bounded while nobody takes them, and what is lost is counted', async () => {
    let seen = 0;
    broken.setLogger((record) => {
      seen += isRefusal(record) ? 1 : 0;
    });
    const before = broken.getMetrics().logs.dropped;
    const calls = Array.from({ length: 4_000 }, () => refused(broken));
    // Calls are handed over when the code that makes them has come to its end.
    await undefined;
    // The thread of the logger is busy; the others go on.
    const end = Date.now() + 20_000;
    let { errors } = broken.getMetrics().source;
    while (errors < 4_001 && Date.now() < end) ({ errors } = broken.getMetrics().source);
    expect(errors).toBe(4_001);
    expect(seen).toBe(0);
    await Promise.all(calls);
    await settled();
    await until('what waited has come', () => seen > 0);
    await sleep(50);
    const dropped = broken.getMetrics().logs.dropped - before;
    expect(seen).toBeLessThanOrEqual(1_024);
    expect(seen + dropped).toBe(4_000);
  });

  it('another number of worker threads is ignored, and that is said', async () => {
    const records: LogRecord[] = [];
    engine.setLogger((record) => records.push(record));
    const said = () => records.filter(({ message }) => message.startsWith('CACHE_WORKER_THREADS is ignored'));
    engines.start({ cacheStore: 'embedded' });
    engines.start({ cacheStore: 'embedded', cacheWorkerThreads: 1 });
    engines.start({ cacheStore: 'embedded', cacheWorkerThreads: 3 });
    await until('it was said', () => said().length > 0);
    await sleep(50);
    expect(said()).toMatchObject([{ level: 'warn', component: 'config', fields: { asked: 3, running: 1 } }]);
  });

  it('a logger that throws is harmless, and is called again', async () => {
    let calls = 0;
    broken.setLogger(() => {
      calls += 1;
      throw new Error('the logger is broken');
    });
    for (let round = 0; round < 10; round += 1) {
      expect(await refused(broken)).toMatchObject({ error: { code: 'E_SOURCE_UNAVAILABLE' } });
    }
    await until('all have come', () => calls >= 10);
  });

  it('setLogger(null) ends them, another logger replaces the first', async () => {
    const [first, second]: [LogRecord[], LogRecord[]] = [[], []];
    broken.setLogger((record) => first.push(record));
    await refused(broken);
    await until('the first has one', () => first.length === 1);
    broken.setLogger((record) => second.push(record));
    await refused(broken);
    await until('the second has one', () => second.length === 1);
    broken.setLogger(null);
    await refused(broken);
    await sleep(50);
    expect([first.length, second.length]).toEqual([1, 1]);
  });

  it('redisLog is the least severe level that is delivered', async () => {
    const quiet = engines.start({
      redisHost: '127.0.0.1',
      redisPort: 1,
      redisLog: 'error',
      cacheConnectTimeoutMs: 100,
    });
    const records: LogRecord[] = [];
    quiet.setLogger((record) => records.push(record));
    await quiet.getCachedTokenBlacklistStatus('a');
    await sleep(300);
    expect(records).toEqual([]);
    const chatty = engines.start({
      redisHost: '127.0.0.1',
      redisPort: 1,
      redisLog: 'debug',
      cacheConnectTimeoutMs: 100,
    });
    await chatty.getCachedTokenBlacklistStatus('a');
    await until('it says that nobody answers', () => records.some((record) => record.level === 'debug'));
  });
});
