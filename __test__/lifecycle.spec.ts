/**
 * Lifecycle: what importing, ending, reloading, threads and closing do to a process. Each promise is kept by a real
 * process that is watched from outside; what an engine alone decides is tested in this one.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEngine, type Engine } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { type Database, Databases } from './support/database.js';
import { outcome, until } from './support/engines.js';
import { rounds } from './support/rounds.js';
import { type Run, run } from './support/scripts.js';
import { SlowSource, slowSchema } from './support/slow-source.js';

let databases: Databases;
let database: Database;
let source: SlowSource;
let store: Server;
let env: Record<string, string>;

beforeAll(async () => {
  [databases, store] = await Promise.all([Databases.start(), startValkey()]);
  database = await databases.create();
  source = await SlowSource.in(database);
  env = { ...store.env, DATABASE_URL: database.url, CACHE_DEADLINE_MS: '2000' };
});

afterAll(async () => {
  await databases?.[Symbol.asyncDispose]();
  await store?.stop();
});

const script = (scenario: string, more: Record<string, string> = {}): Promise<Run> =>
  run('lifecycle-process.mjs', [scenario], { env: { ...env, ...more } });

const ended = ({ code, signal, stderr }: Run) => ({ code, signal, stderr });

describe('a process', () => {
  it('exits by itself after its work, without close()', async () => {
    await source.pace(0);
    const result = await script('work without close');
    expect(ended(result)).toEqual({ code: 0, signal: null, stderr: '' });
    expect(result.facts).toEqual({ revoked: false, user: null, store: 'healthy' });
    expect(result.endedAfterMs).toBeLessThan(2_000);
  });

  it.each(['await at the top level', 'promise nobody waits for'])(
    'is kept alive by a pending call: %s',
    async (how) => {
      await source.pace(500);
      await store.command('FLUSHALL');
      const result = await script(how);
      expect(ended(result)).toEqual({ code: 0, signal: null, stderr: '' });
      expect(result.facts).toEqual(
        how.startsWith('await') ? { answers: [false, false] } : { revoked: false },
      );
      expect(result.endedAfterMs).toBeLessThan(2_000);
    },
  );

  it.each(['exit at once', 'exit in the middle', 'exit a moment later', 'exit while closing'])(
    'may exit with 1,000 calls pending: %s',
    async (how) => {
      await source.pace(2_000);
      for (let round = 0; round < rounds(20, 3); round += 1) {
        await store.command('FLUSHALL');
        const result = await script(how);
        expect(ended(result)).toEqual({ code: 7, signal: null, stderr: '' });
        if (how !== 'exit at once') expect(result.facts['pending']).toBeGreaterThan(100);
      }
    },
  );

  it('may die of an exception of its own with 1,000 calls pending', async () => {
    await source.pace(2_000);
    for (let round = 0; round < rounds(5, 1); round += 1) {
      await store.command('FLUSHALL');
      const { code, signal, stderr, facts } = await script('uncaught exception');
      expect({ code, signal }).toEqual({ code: 1, signal: null });
      expect(stderr).toContain('thrown by the application');
      expect(facts['pending']).toBeGreaterThan(100);
    }
  });

  it('may replace its logger as often as it likes', async () => {
    const result = await script('loggers one after another');
    expect(ended(result)).toEqual({ code: 0, signal: null, stderr: '' });
    expect(result.facts).toEqual({ heard: true, heardWhileSilent: 0 });
  });
});

describe('importing the package', () => {
  const hostile = { REDIS_PORT: 'abc', CACHE_STORE: 'nothing', DATABASE_URL: 'not a url', CACHE_TTL: '-1' };

  it.each([
    { where: 'in an application', more: {} },
    { where: 'in next build', more: { NEXT_PHASE: 'phase-production-build' } },
    { where: 'with variables that make no sense', more: hostile },
  ])('opens no connection and starts no timer and no thread $where', async ({ more }) => {
    const result = await script('import alone', more);
    expect(ended(result)).toEqual({ code: 0, signal: null, stderr: '' });
    const { before, after, ...loaded } = result.facts;
    expect(after).toEqual(before);
    expect(loaded).toEqual({ loaded: 'function', esm: 'function' });
  });

  it('leaves bad variables to the first use: promises reject, the others throw', async () => {
    const result = await script('bad configuration', { REDIS_PORT: 'abc' });
    expect(ended(result)).toEqual({ code: 0, signal: null, stderr: '' });
    const refusal = { code: 'E_CONFIG', field: 'REDIS_PORT' };
    expect(result.facts).toEqual({
      promises: {
        isTokenBlacklisted: refusal,
        getUserById: refusal,
        verifyTokenCached: refusal,
        invalidateUserCache: refusal,
        getHealth: refusal,
      },
      throws: ['E_CONFIG', 'E_CONFIG', 'E_CONFIG', 'E_CONFIG'],
      close: {},
    });
  });

  it('gives import and require the same functions', async () => {
    const { facts } = await script('same functions');
    expect(facts['named']).toEqual(facts['names']);
    expect(facts).toMatchObject({ different: [], defaultIsTheSame: true });
    expect(facts['names']).toContain('isTokenBlacklisted');
  });
});

describe('one default engine', () => {
  it('for a module that is loaded again and for bundles that carry copies of it', async () => {
    await source.pace(0);
    const result = await run('lifecycle-reload.mjs', [], { env });
    expect(ended(result)).toEqual({ code: 0, signal: null, stderr: '' });
    expect(result.facts).toEqual({
      // The entry, dist/index.js, native.js, dist/native.js and the add-on: nothing of the package stayed loaded.
      forgotten: 5,
      differentCopies: 24,
      engines: 1,
      uncounted: 0,
      // The pool may have grown meanwhile: by one, not by one for each copy.
      moreConnections: { store: 0, source: expect.toSatisfy((more: number) => more <= 1) },
      recognised: true,
      closed: ['E_CLOSED'],
      left: { store: 0, source: 0 },
    });
  });

  it('for all threads, also while some are ended in the middle of their calls', async () => {
    await source.pace(5, 20);
    await store.command('FLUSHALL');
    const result = await run('lifecycle-threads.mjs', [], { env, withinMs: 90_000 });
    expect(ended(result)).toEqual({ code: 0, signal: null, stderr: '' });
    expect(result.facts).toEqual({
      ...{ wrong: 0, youngerEngines: 0, uncounted: 0, after: false },
      // Those of the default engine, one of them to listen; threads that are gone have left none.
      storeConnections: 2,
    });
  });
});

describe('a thread that is ended while it verifies a token for others', () => {
  it('keeps nobody waiting: another thread verifies', async () => {
    const result = await run('lifecycle-verifier.mjs', [], { env });
    expect(ended(result)).toEqual({ code: 0, signal: null, stderr: '' });
    const { tookMs, ...rest } = result.facts;
    expect(rest).toEqual({ waited: true, payloads: ['of the main thread'], verifications: 1 });
    // Far less than the ten seconds that the lease of a dead process would last.
    expect(tookMs).toBeLessThan(5_000);
  });
});

describe('closing', () => {
  const started: Engine[] = [];
  const slowEngine = (): Engine => {
    const engine = createEngine({
      ...{ redisHost: store.host, redisPort: store.port, databaseUrl: database.url, cacheDeadlineMs: 2_000 },
      ...slowSchema,
      cacheSourceDeadlineMs: 20_000,
    });
    started.push(engine);
    return engine;
  };
  afterAll(() => Promise.all(started.map((engine) => engine.close())));

  /** Calls that have reached the source and wait there. */
  async function pending(engine: Engine): Promise<Promise<boolean>[]> {
    const calls = Array.from({ length: 4 }, () => engine.isTokenBlacklisted(randomUUID()));
    for (const call of calls) call.catch(() => undefined);
    while (engine.getMetrics().source.inFlight < calls.length) await sleep(5);
    return calls;
  }

  /** Connections to the store, by the numbers it gave them. */
  const connections = async (): Promise<string[]> => {
    const list = String(await store.command('CLIENT', 'LIST'));
    return [...list.matchAll(/^id=\d+/gm)].map(([id]) => id);
  };

  it('is idempotent: all callers get the same end', async () => {
    await source.pace(0);
    const engine = slowEngine();
    await engine.isTokenBlacklisted('a token');
    expect(await Promise.all([engine.close(), engine.close({ drainMs: 1 }), engine.close()])).toEqual(
      Array.from({ length: 3 }, () => undefined),
    );
    await engine.close();
    await engine[Symbol.asyncDispose]();
  });

  it('lets running calls finish', async () => {
    const engine = slowEngine();
    await source.pace(300);
    const calls = await pending(engine);
    let answered = 0;
    for (const call of calls) void call.then(() => (answered += 1));
    await engine.close({ drainMs: 10_000 });
    expect(answered).toBe(calls.length);
    expect(await Promise.all(calls)).toEqual(calls.map(() => false));
  });

  it('rejects what is left after drainMs with E_CLOSED, by the time it resolves', async () => {
    const engine = slowEngine();
    await source.pace(5_000);
    const calls = await pending(engine);
    const ends = Promise.all(calls.map(outcome));
    const began = performance.now();
    await engine.close({ drainMs: 100 });
    const tookMs = performance.now() - began;
    const soon = await Promise.race([ends, sleep(500, 'still pending')]);
    expect(soon).toEqual(calls.map(() => ({ error: expect.objectContaining({ code: 'E_CLOSED' }) })));
    expect(tookMs).toBeLessThan(2_000);
  });

  it('also rejects calls that wait for somebody else or for a loader of the application', async () => {
    const engine = slowEngine();
    await source.pace(5_000);
    const user = randomUUID();
    const token = [{}, { jti: randomUUID(), user_id: user }, 'signature']
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.');
    const calls: Promise<unknown>[] = Array.from({ length: 50 }, () => engine.getUserById(user));
    const never = () => new Promise<never>(() => undefined);
    const leading = engine.verifyTokenCached(token, never);
    leading.catch(() => undefined);
    await sleep(100);
    calls.push(...Array.from({ length: 10 }, () => engine.verifyTokenCached(token, never)));
    await sleep(100);
    const ends = Promise.all(calls.map(outcome));
    await engine.close({ drainMs: 50 });
    const soon = await Promise.race([ends, sleep(500, 'still pending')]);
    expect(soon).toEqual(calls.map(() => ({ error: expect.objectContaining({ code: 'E_CLOSED' }) })));
  });

  it('refuses later calls with E_CLOSED', async () => {
    const engine = slowEngine();
    await source.pace(0);
    const user = randomUUID();
    await engine.getUserById(user);
    await engine.close();
    const calls: Promise<unknown>[] = [
      engine.isTokenBlacklisted('a token'),
      engine.getUserById(user),
      engine.getUserByEmail('a@b.example'),
      engine.invalidateUserCache(user),
      engine.verifyTokenCached('a.b.c', () => ({})),
      engine.getCachedUserBasic(user),
      engine.getHealth(),
    ];
    for (const call of calls) {
      await expect(call).rejects.toMatchObject({ code: 'E_CLOSED', name: 'ClosedError', retryable: false });
    }
    expect(engine.getMetrics().bridge.submitted).toBe(1);
  });

  it('happens at the end of `await using`', async () => {
    await source.pace(0);
    const before = new Set(await connections());
    let outlived: Engine;
    let opened: string[] = [];
    {
      await using engine = slowEngine();
      outlived = engine;
      expect(await engine.isTokenBlacklisted('a token')).toBe(false);
      // One to ask and one to listen.
      await until('both connections are there', async () => {
        opened = (await connections()).filter((id) => !before.has(id));
        return opened.length === 2;
      });
    }
    await expect(outlived.isTokenBlacklisted('a token')).rejects.toMatchObject({ code: 'E_CLOSED' });
    const gone = async () => (await connections()).every((id) => !opened.includes(id));
    await until('the connection is gone', gone, 2_000);
  });

  it('a hundred engines leaves no connection, no thread and no memory behind', async () => {
    await source.pace(0);
    const result = await run('lifecycle-cycles.mjs', ['closed'], { env });
    expect(ended(result)).toEqual({ code: 0, signal: null, stderr: '' });
    const { grownMb, ...left } = result.facts;
    expect(left).toEqual({ left: { store: 0, source: 0 }, moreThreads: 0 });
    expect(grownMb).toBeLessThan(40);
  });

  it('is not needed for engines that nobody holds any more', async () => {
    const result = await run('lifecycle-cycles.mjs', ['forgotten'], { env });
    expect(ended(result)).toEqual({ code: 0, signal: null, stderr: '' });
    expect(result.facts).toEqual({ left: { store: 0, source: 0 } });
  });
});
