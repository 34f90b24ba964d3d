/**
 * The store is killed, stopped, slow, full, read-only or talks nonsense: the answer of a query always arrives, in time,
 * and no query is run twice for one call. Old results are not answered for want of a store.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DataSourceOptions, Engine } from '../index.js';
import { type FaultProxy, type Faults, type Server, startProxy, startValkey } from './servers/index.mjs';
import { CountedQuery, type VersionRow, versionOf } from './support/counted-query.js';
import { Engines, until } from './support/engines.js';
import { configured, FIRST_CALL_MS, pending, RECOVERY_MS, reaching } from './support/outage.js';
import { rounds } from './support/rounds.js';

/** A port on which nothing listens. */
const DEAD_PORT = 1;
const CHARTS = 6;
const QUERY_MS = 20;
const STALE_MS = 600_000;
/** A forced refresh waits for the store once more, and for the query. */
const WITHIN_MS = 2 * FIRST_CALL_MS + QUERY_MS;

interface Parts {
  readonly server: Server;
  readonly proxy: FaultProxy;
}

interface Outage {
  readonly name: string;
  /** Whether reads are answered all the same. */
  readonly reads: boolean;
  /** Answers how it ends. */
  begin(parts: Parts): Promise<() => Promise<unknown>>;
}

const throughProxy = (name: string, faults: Faults): Outage => ({
  name,
  reads: false,
  begin: async ({ proxy }) => {
    await proxy.set(faults);
    return () => proxy.reset();
  },
});

const outages: readonly Outage[] = [
  {
    name: 'killed and started again, empty',
    reads: false,
    begin: async ({ server }) => {
      await server.kill();
      return () => server.restart();
    },
  },
  {
    name: 'stopped and continued',
    reads: false,
    begin: async ({ server }) => {
      await server.pause();
      return () => server.resume();
    },
  },
  throughProxy('replies that come 10 s late', { delayMs: 10_000 }),
  throughProxy('replies cut in half', { truncateReplies: true }),
  throughProxy('garbage instead of replies', { garbageReplies: true }),
  throughProxy('a network that swallows everything', { blackhole: true }),
  throughProxy('refused and reset connections', { refuseConnections: true }),
  {
    name: 'OOM: it is full and evicts nothing',
    reads: true,
    begin: ({ server }) => configured(server, 'maxmemory', '1'),
  },
  {
    name: 'READONLY: it became the replica of a dead master',
    reads: false,
    begin: async ({ server }) => {
      await server.command('REPLICAOF', '127.0.0.1', DEAD_PORT);
      return () => server.command('REPLICAOF', 'NO', 'ONE');
    },
  },
];

type Call = (engine: Engine, source: CountedQuery) => Promise<{ version: number | undefined; ran: boolean }>;

const calling =
  (options: DataSourceOptions, force = false): Call =>
  async (engine, source) => {
    const result = await engine.queryDataSourceWithCache(source.params, ['a'], source.query, force, options);
    return { version: versionOf(result), ran: !result.fromCache };
  };

/** Every way to ask. */
const calls: readonly [how: string, call: Call][] = [
  ['as ever', calling({})],
  ['old results accepted', calling({ staleMs: STALE_MS })],
  ['refreshed early', calling({ earlyRefresh: { beta: 1e9 } })],
  ['a refresh', calling({ staleMs: STALE_MS }, true)],
  [
    'a response',
    async (engine, source) => {
      const headers = new Headers();
      const response = await engine.queryAsResponse({ headers }, source.params, ['a'], source.query);
      const ran = !['HIT', 'STALE'].includes(response.headers.get('x-cache-status') ?? '');
      return { version: versionOf((await response.json()) as { data: VersionRow[] }), ran };
    },
  ],
];

describe.each(outages)('$name', (outage) => {
  let parts: Parts;
  const engines = new Engines();
  let engine: Engine;
  let end: (() => Promise<unknown>) | undefined;
  /** Cached before, with what became of them since. */
  const warm = new Map<string, CountedQuery>();

  beforeAll(async () => {
    const server = await startValkey();
    parts = { server, proxy: await startProxy({ port: server.port }) };
    engine = engines.start(reaching(parts.proxy));
    await until('the store is in service', async () => {
      await engine.redisCacheService.get('contact');
      return engine.isRedisAvailable();
    });
    for (const [how, call] of calls) {
      const source = new CountedQuery();
      source.ms = QUERY_MS;
      await call(engine, source);
      source.version = 2;
      warm.set(how, source);
    }
    for (const key of (await server.command('KEYS', 'datasource:*')) as string[]) {
      // Those that are kept longer are past their time now.
      const left = Number(await server.command('PTTL', key));
      if (left > STALE_MS) await server.command('PEXPIRE', key, STALE_MS - 1_000);
    }
  });

  afterAll(async () => {
    await end?.();
    await engines[Symbol.asyncDispose]();
    await parts.proxy.stop();
    await parts.server.stop();
  });

  /** Six at once: what they got, how often the query ran for them, and how long it took. */
  async function six(call: Call, source: CountedQuery) {
    const [from, before] = [performance.now(), source.ran];
    const answers = await Promise.all(Array.from({ length: CHARTS }, () => call(engine, source)));
    const took = performance.now() - from;
    return { answers, took, ran: source.ran - before };
  }

  it('the answer of a query arrives in time, and it runs once', async () => {
    end = await outage.begin(parts);
    for (let round = 0; round < rounds(8, 3); round += 1) {
      for (const [how, call] of calls) {
        const source = new CountedQuery();
        source.ms = QUERY_MS;
        const { answers, took, ran } = await six(call, source);
        const times = how === 'a refresh' ? CHARTS : 1;
        expect([how, answers.map(({ version }) => version), ran]).toEqual([
          how,
          new Array(CHARTS).fill(1),
          times,
        ]);
        expect(took, how).toBeLessThan(how === 'a refresh' ? CHARTS * WITHIN_MS : WITHIN_MS);
      }
    }
    expect(engine.isRedisAvailable()).toBe(outage.reads);
  });

  it('what was cached before is asked for anew, or read where reading goes on', async () => {
    for (const [how, call] of calls) {
      const source = warm.get(how) as CountedQuery;
      const { answers, ran } = await six(call, source);
      for (const answer of answers) {
        // With reads alone nothing can be refreshed, so an old result stays as long as its caller takes it.
        const cached = outage.reads && how !== 'a refresh';
        expect([how, answer.version]).toEqual([how, cached ? 1 : 2]);
        if (cached) expect(answer.ran).toBe(false);
      }
      if (!outage.reads) expect(ran).toBeGreaterThan(0);
      expect(source.mostRunning).toBeLessThanOrEqual(how === 'a refresh' ? CHARTS : 1);
    }
  });

  it('what a query throws arrives as it is', async () => {
    const failure = new RangeError('no');
    for (const [, call] of calls.slice(0, 4)) {
      const source = new CountedQuery();
      source.failure = failure;
      await expect(call(engine, source)).rejects.toBe(failure);
      expect(source.ran).toBe(1);
    }
  });

  it('after its end results are cached again', async () => {
    await end?.();
    end = undefined;
    await until('the store is in service', () => engine.isRedisAvailable(), 10_000);
    await until('everything queued was applied', () => pending(engine) === 0, RECOVERY_MS);
    const source = new CountedQuery();
    const call = calling({ staleMs: STALE_MS });
    await until('a result is cached', async () => {
      await call(engine, source);
      return !(await call(engine, source)).ran;
    });
  });
});
