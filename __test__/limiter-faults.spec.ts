/**
 * Rate limits while the store answers nonsense, late, or only refuses: every check is answered in time and asked once, and
 * what was admitted counts afterwards. Real servers, brought into each state by their own commands, and a proxy with
 * faults. What reaches a server is read from MONITOR.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine, RateLimitResult } from '../index.js';
import {
  type FaultProxy,
  type Faults,
  type Server,
  type ServerKind,
  startProxy,
  startValkey,
} from './servers/index.mjs';
import { Engines, until } from './support/engines.js';
import { timed } from './support/functions.js';
import { LimiterCommands } from './support/limiter-commands.js';
import {
  acquainted,
  allowed,
  counted,
  inTurns,
  LONG_SECONDS,
  limitKey,
  limitOf,
} from './support/limiter-engines.js';
import { configured, FIRST_CALL_MS, RECOVERY_MS, reaching } from './support/outage.js';
import { rounds } from './support/rounds.js';

const kinds: readonly ServerKind[] = (['valkey', 'redis'] as const).slice(0, rounds(2, 1));

interface Parts {
  readonly server: Server;
  readonly proxy: FaultProxy;
}

interface Fault {
  readonly name: string;
  /** Whether checks reach the store and its answers come back. */
  readonly answers: boolean;
  /** Begins it and answers how to end it. */
  begin(parts: Parts): Promise<() => Promise<unknown>>;
  /** Before each check of this key. */
  spoil?(parts: Parts, key: string): Promise<unknown>;
  /** What the server then says that it refused. */
  readonly errors?: string;
}

const throughProxy = (name: string, faults: Faults): Fault => ({
  name,
  answers: false,
  begin: async ({ proxy }) => {
    await proxy.set(faults);
    return () => proxy.reset();
  },
});

const nothing = async () => async () => undefined;

const faults: readonly Fault[] = [
  throughProxy('garbage instead of replies', { garbageReplies: true }),
  throughProxy('replies cut in half', { truncateReplies: true }),
  throughProxy('replies that come 10 s late', { delayMs: 10_000 }),
  throughProxy('connections cut', { refuseConnections: true }),
  throughProxy('a network that swallows everything', { blackhole: true }),
  {
    name: 'READONLY: it became the replica of a dead master',
    answers: false,
    errors: 'READONLY',
    begin: async ({ server }) => {
      await server.command('REPLICAOF', '127.0.0.1', 1);
      return () => server.command('REPLICAOF', 'NO', 'ONE');
    },
  },
  {
    name: 'OOM: it is full and evicts nothing',
    answers: false,
    errors: 'OOM',
    begin: ({ server }) => configured(server, 'maxmemory', '1'),
  },
  {
    name: 'NOPERM: it lets nobody run scripts',
    answers: false,
    errors: 'NOPERM',
    begin: async ({ server }) => {
      await server.command('ACL', 'SETUSER', 'default', '-eval', '-evalsha');
      return () => server.command('ACL', 'SETUSER', 'default', '+@all');
    },
  },
  {
    name: 'LOADING: it reads its data',
    answers: false,
    errors: 'LOADING',
    begin: async ({ server }) => {
      await Promise.all(Array.from({ length: 200 }, (_, at) => server.command('SET', `filler-${at}`, 'x')));
      // 2 ms for each key, and between some of them it says that it is busy.
      await server.command('CONFIG', 'SET', 'key-load-delay', 2_000);
      await server.command('CONFIG', 'SET', 'loading-process-events-interval-bytes', 1_024);
      const reloaded = server.command('DEBUG', 'RELOAD');
      return async () => {
        await reloaded;
        await server.command('CONFIG', 'SET', 'key-load-delay', 0);
      };
    },
  },
  {
    name: 'NOSCRIPT: it forgot every script',
    answers: true,
    errors: 'NOSCRIPT',
    begin: nothing,
    spoil: ({ server }) => server.command('SCRIPT', 'FLUSH'),
  },
  {
    name: 'WRONGTYPE: something else lies under the key',
    answers: true,
    begin: nothing,
    spoil: ({ server }, key) => server.command('HSET', key, 'some', 'thing'),
  },
];

describe.each(kinds)('%s with', (kind) => {
  const LIMIT = 4;
  let server: Server;
  let proxy: FaultProxy;
  let engines: Engines;
  /** Meets the faults of the proxy. */
  let engine: Engine;
  let commands: LimiterCommands;

  beforeAll(async () => {
    server = await startValkey({ kind, args: ['--enable-debug-command', 'yes'] });
    proxy = await startProxy({ port: server.port });
  });
  afterAll(async () => {
    await proxy?.stop();
    await server?.stop();
  });
  beforeEach(async () => {
    await server.command('FLUSHALL');
    engines = new Engines();
    engine = engines.start(reaching(proxy));
    await counted(engine);
    // The server knows every script: otherwise it would be asked twice.
    await engine.checkRateLimit('warm-up', 'all', 9, 60);
    await engine.checkRateLimits([spec('warm-up', 'one'), spec('warm-up', 'other')]);
    commands = await LimiterCommands.watch(server);
  });
  afterEach(async () => {
    await commands[Symbol.asyncDispose]();
    await engines[Symbol.asyncDispose]();
    await proxy.reset();
  });

  const refusals = async (code: string): Promise<number> => {
    const text = String(await server.command('INFO', 'errorstats'));
    return Number(new RegExp(`errorstat_${code}:count=(\\d+)`).exec(text)?.[1] ?? 0);
  };
  const spec = (type: string, whose: string) => limitOf(type, whose, LIMIT);

  /** Checks limits that nobody asked for before, one or two at a time, and remembers what was wrong. */
  class Checks {
    /** Type and identifier of every limit that was checked. */
    readonly made: (readonly [type: string, whose: string])[] = [];
    readonly complaints: string[] = [];
    degraded = 0;

    constructor(private readonly fault: Fault) {}

    async several(count: number): Promise<void> {
      await Promise.all(Array.from({ length: count }, (_, at) => this.one(at % 4 === 3)));
    }

    async one(together: boolean): Promise<void> {
      const whose = randomUUID();
      const types = together ? ['fault', 'beside'] : ['fault'];
      for (const type of types) {
        await this.fault.spoil?.({ server, proxy }, limitKey(type, whose));
        this.made.push([type, whose]);
      }
      const ended = await timed(() =>
        together
          ? engine.checkRateLimits(types.map((type) => spec(type, whose)))
          : engine.checkRateLimit('fault', whose, LIMIT, LONG_SECONDS),
      );
      if (ended.ms > FIRST_CALL_MS) this.complaints.push(`answered after ${ended.ms.toFixed(0)} ms`);
      if ('error' in ended) {
        this.complaints.push(`rejected: ${String(ended.error)}`);
        return;
      }
      const told = ended.value as RateLimitResult;
      this.degraded += Number(told.degraded);
      if (!told.allowed || told.current !== 1) this.complaints.push(`told ${JSON.stringify(told)}`);
      if (told.degraded && this.fault.answers) this.complaints.push('degraded although the store answers');
    }

    /** How much counts of each limit. */
    async current(): Promise<number[]> {
      const all: number[] = [];
      for (const [type, whose] of this.made) {
        const look = await engine.peekRateLimit(type, whose, LIMIT, LONG_SECONDS);
        // Not by the store: nothing is known of what counts there.
        all.push(look.degraded ? 0 : look.current);
      }
      return all;
    }
  }

  it.each(faults)('$name: every check is answered in time, once, and service resumes', async (fault) => {
    const checks = new Checks(fault);
    const refused = fault.errors === undefined ? 0 : await refusals(fault.errors);
    await checks.several(20);
    expect({ ...checks, fault: undefined, made: undefined }).toEqual({ degraded: 0, complaints: [] });
    // It begins in the middle.
    const flying = checks.several(30);
    const end = await fault.begin({ server, proxy });
    await flying;
    const endMs = performance.now() + rounds(400, 150);
    do {
      await checks.several(5);
      await sleep(10);
    } while (performance.now() < endMs);
    await end();
    const ended = performance.now();
    await until('a check is answered by the store', async () => {
      const before = checks.degraded;
      await checks.one(false);
      return checks.degraded === before;
    });
    const resumedMs = performance.now() - ended;
    await checks.several(20);
    expect(checks.complaints).toEqual([]);
    expect(resumedMs).toBeLessThan(RECOVERY_MS);
    if (!fault.answers) expect(checks.degraded).toBeGreaterThan(0);
    if (fault.errors !== undefined) expect(await refusals(fault.errors)).toBeGreaterThan(refused);

    // Nothing was sent twice. A server that does not know the script was asked in vain: it is asked again with its text.
    await commands.settled();
    const [single, joint] = [commands.count('consume'), commands.count('all')];
    const sent = checks.made.map(([type, whose]) => {
      const key = limitKey(type, whose);
      return (single.get(key) ?? 0) + (joint.get(key) ?? 0);
    });
    expect(Math.max(...sent)).toBeLessThanOrEqual(fault.errors === 'NOSCRIPT' ? 2 : 1);

    // What was admitted counts afterwards, at most twice: what the store took and could not say is told again.
    let current: number[] = [];
    await until(
      'all of it counts',
      async () => {
        current = await checks.current();
        return !current.includes(0);
      },
      RECOVERY_MS,
    );
    const twice = current.filter((count) => count === 2).length;
    console.info(
      `limiter, ${kind}, ${fault.name}: ${checks.made.length} limits checked, ${checks.degraded} times without the store, ` +
        `${sent.reduce((sum, n) => sum + n, 0)} charges sent, ${twice} counted twice, back after ${resumedMs.toFixed(0)} ms`,
    );
    expect(Math.max(...current)).toBeLessThanOrEqual(fault.answers ? 1 : 2);
    expect(twice).toBeLessThanOrEqual(sent.filter((count) => count > 0).length);
  });
});

/** Refusals that leave the store in service for everything else. */
const refusals = faults.filter(({ errors }) => errors === 'OOM' || errors === 'NOPERM');

describe('two engines and a store that refuses', () => {
  /** Longer than others are remembered that are not heard of. */
  const SILENCE_MS = 3_300;
  const LIMIT = 8;

  it.concurrent.each(refusals)('for long, $name: they still share, and say so', async ({ begin }) => {
    const server = await startValkey();
    const proxy = await startProxy({ port: server.port });
    await using engines = new Engines();
    try {
      const both = [engines.start(reaching(server)), engines.start(reaching(server))];
      await acquainted(both);
      const end = await begin({ server, proxy });
      const atOnce = await inTurns(both, LIMIT, limitOf('refused', randomUUID(), LIMIT));
      const health = await Promise.all(both.map((engine) => engine.getHealth()));
      await sleep(SILENCE_MS);
      const later = await inTurns(both, LIMIT, limitOf('refused', randomUUID(), LIMIT));
      const reasons = await Promise.all(both.map(async (one) => (await one.getHealth()).limiter.reason));
      for (const reason of reasons) expect(reason).toContain('does not take rate limits');
      for (const one of [...atOnce, ...later]) expect(one.degraded).toBe(true);
      expect({ atOnce: allowed(atOnce), later: allowed(later) }).toEqual({ atOnce: LIMIT, later: LIMIT });
      for (const { limiter } of health) {
        expect(limiter).toEqual({
          status: 'degraded',
          reason: expect.any(String),
          since: expect.any(String),
          instances: 2,
        });
      }
      await end();
      for (const engine of both) {
        await until(
          'the store counts',
          async () => !(await engine.checkRateLimit('back', randomUUID(), 1, 60)).degraded,
          RECOVERY_MS,
        );
      }
    } finally {
      await proxy.stop();
      await server.stop();
    }
  });
});
