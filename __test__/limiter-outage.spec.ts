/**
 * Rate limits while the store is away, killed or stopped: every check is answered in time, limits go on, and what was
 * admitted meanwhile counts afterwards. Four real processes, and two engines next to a frozen server. The bound is the one
 * of `crates/core/src/limiter/share.rs`: in any window at most the limit through the store, and without it once more the
 * larger of the limit and the number of instances.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Engine, RateLimitResult } from '../index.js';
import { type Server, type ServerKind, startValkey } from './servers/index.mjs';
import { Engines, until } from './support/engines.js';
import { timed } from './support/functions.js';
import {
  acquainted,
  allowed,
  counted,
  inTurns,
  LONG_SECONDS,
  limitOf,
  quantile,
} from './support/limiter-engines.js';
import { checksOf, costOf, type Lane, reportsOf, worst } from './support/limiter-judge.js';
import { FIRST_CALL_MS, RECOVERY_MS, reaching } from './support/outage.js';
import { Peer } from './support/processes.js';
import { rounds } from './support/rounds.js';

const kinds: readonly ServerKind[] = (['valkey', 'redis'] as const).slice(0, rounds(2, 1));

// -------------------------------------------------------------------------------------------------------------------
// Four processes
// -------------------------------------------------------------------------------------------------------------------

describe('four processes and a store that goes away', () => {
  const PROCESSES = 4;
  /** Not 50: four processes and their server share few cores here, and only real outages shall be outages. */
  const DEADLINE_MS = 300;
  const IN_TIME_MS = DEADLINE_MS + 700;
  const AWAY_MS = 800;
  const THERE_MS = rounds(1_200, 600);

  /**
   * Windows are shorter than an outage, so a server that comes back empty has forgotten nothing that still counts; and one
   * that is longer than the run, of which it has forgotten everything each time.
   */
  const lanes: readonly (Lane & { onStoreFailure?: 'open'; long?: true })[] = [
    { limit: 2, windowMs: 300, mostCost: 1, burst: 3, pauseMs: 60 },
    { limit: 10, windowMs: 400, mostCost: 1, burst: 6, pauseMs: 60 },
    { limit: 100, windowMs: 500, mostCost: 3, burst: 40, pauseMs: 100 },
    { limit: 1_500, windowMs: 500, mostCost: 3, burst: 300, pauseMs: 100 },
    { limit: 400, windowMs: 600_000, mostCost: 1, burst: 3, pauseMs: 60, long: true as const },
    // The judge has to notice this one.
    { limit: 10, windowMs: 400, mostCost: 1, burst: 6, pauseMs: 60, onStoreFailure: 'open' as const },
  ].map((lane, at) => ({ type: `lane-${at}`, identifier: 'everybody', ...lane }));

  const startNs = process.hrtime.bigint();
  const nowUs = () => Number(process.hrtime.bigint() - startNs) / 1_000;

  interface Limiter {
    readonly status: string;
    readonly reason: string | null;
    readonly instances: number;
    /** What a check would be now. */
    readonly degraded: boolean;
  }

  let store: Server;
  let peers: Peer[] = [];

  beforeAll(async () => {
    store = await startValkey();
    const options = { ...reaching(store), cacheDeadlineMs: DEADLINE_MS, cacheConnectTimeoutMs: 1_000 };
    const task = { options, storePort: store.port, startNs };
    peers = Array.from({ length: PROCESSES }, () => new Peer('limiter-worker.mjs', task));
    await Promise.all(peers.map((peer) => peer.next('ready')));
  });
  afterAll(async () => {
    await Promise.all(peers.map((peer) => peer.kill()));
    await store?.stop();
  });

  const health = () =>
    Promise.all(peers.map((peer) => peer.ask({ kind: 'health' }) as unknown as Promise<Limiter>));
  const everywhere = (what: string, holds: (one: Limiter) => boolean, withinMs: number) =>
    until(what, async () => (await health()).every(holds), withinMs);

  /** The same check by every process, several times each. */
  async function each(identifier: string, limit: number, times: number): Promise<RateLimitResult[][]> {
    const checks = Array.from({ length: times }, () => ({
      ...{ type: 'kept', identifier, limit, windowMs: LONG_SECONDS * 1_000 },
    }));
    const ask = async (peer: Peer) => (await peer.ask({ kind: 'each', checks }))['told'] as RateLimitResult[];
    return Promise.all(peers.map(ask));
  }

  const outages = [
    {
      ...{ name: 'killed and started again, empty', forgets: true },
      ...{ begin: () => store.kill(), end: () => store.restart() },
    },
    {
      ...{ name: 'stopped and continued', forgets: false },
      ...{ begin: () => store.pause(), end: () => store.resume() },
    },
  ];

  it.each(outages)(
    '$name: every check is answered, within the bound, and what was admitted counts afterwards',
    async ({ name, forgets, begin, end }) => {
      await everywhere('they have heard of each other', (one) => one.instances === PROCESSES, 10_000);
      const played = lanes.map((lane) => ({ ...lane, identifier: name }));
      for (const peer of peers) peer.send({ kind: 'run', lanes: played, naive: false, requests: Infinity });
      const reports = reportsOf(peers);
      const away: { beforeUs: number; fromUs: number; toUs: number; againUs: number }[] = [];
      for (let round = 0; round < rounds(3, 1); round += 1) {
        const whose = `${name.replaceAll(/\W/g, '-')}-${round}`;
        await sleep(THERE_MS);
        // One of them uses up a limit, and all of them are told.
        await each(`${whose}-before`, 8, 8);
        const beforeUs = nowUs();
        await begin();
        const fromUs = nowUs();
        await everywhere('the outage is noticed', (one) => one.degraded, 2_000);
        for (const one of await health())
          expect(one).toMatchObject({
            status: 'degraded',
            reason: expect.any(String),
            instances: PROCESSES,
          });
        const [still, meanwhile, scarce] = [
          await each(`${whose}-before`, 8, 3),
          await each(`${whose}-meanwhile`, 8, 6),
          await each(`${whose}-scarce`, 3, 3),
        ];
        expect(allowed(still.flat())).toBe(0);
        expect(allowed(meanwhile.flat())).toBe(8);
        // One each is the least, however small the limit.
        expect(scarce.map(allowed)).toEqual([1, 1, 1, 1]);
        for (const one of [...meanwhile, ...scarce].flat()) expect(one.degraded).toBe(true);
        await sleep(Math.max(0, AWAY_MS - (nowUs() - fromUs) / 1_000));
        const toUs = nowUs();
        await end();
        await everywhere('the store counts again for everybody', (one) => !one.degraded, RECOVERY_MS);
        away.push({ beforeUs, fromUs, toUs, againUs: nowUs() });
        for (const [what, limit] of [
          ['meanwhile', 8],
          ['scarce', 3],
        ] as const) {
          for (const one of (await each(`${whose}-${what}`, limit, 1)).flat())
            expect(one).toMatchObject({ allowed: false, degraded: false, remaining: 0 });
        }
      }
      await sleep(THERE_MS);
      for (const peer of peers) peer.send({ kind: 'stop' });
      const told = await reports;

      expect(told.map(({ errors }) => errors)).toEqual(peers.map(() => ({})));
      // What a server that is empty has forgotten may be admitted once more, each time.
      const figures = lanes.map(({ limit, windowMs }, at) => {
        const checks = checksOf(told, at);
        const admitted = checks.filter((one) => one.allowed);
        const through = admitted.filter(({ degraded }) => !degraded);
        const without = admitted.filter(({ degraded }) => degraded);
        const inside = (one: { sentUs: number; answeredUs: number }) =>
          away.some(({ fromUs, toUs }) => one.sentUs > fromUs && one.answeredUs < toUs);
        const afterwards = (one: { sentUs: number; answeredUs: number }) =>
          away.some(
            ({ againUs }, nth) =>
              one.sentUs > againUs && one.answeredUs < (away[nth + 1]?.beforeUs ?? Number.POSITIVE_INFINITY),
          );
        const forgotten = forgets && lanes[at]?.long ? limit * away.length : 0;
        const bound = limit + Math.max(limit, PROCESSES) + forgotten;
        return {
          ...{ limit, windowMs, bound, forgotten, worst: worst(admitted, windowMs) },
          ...{ through: worst(through, windowMs), without: worst(without, windowMs) },
          ...{ checks: checks.length, admitted: costOf(admitted) },
          // A denial may be one that the store had told before.
          wronglyTrusted: admitted.filter((one) => inside(one) && !one.degraded).length,
          stillDegraded: checks.filter((one) => afterwards(one) && one.degraded).length,
          slowestMs: Math.ceil(
            checks.reduce((most, one) => Math.max(most, one.answeredUs - one.sentUs), 0) / 1_000,
          ),
        };
      });
      console.info(
        `limiter, the store is ${name}, ${away.length} times, in service again after ` +
          `${away.map(({ toUs, againUs }) => Math.round((againUs - toUs) / 1_000)).join(', ')} ms: ${JSON.stringify(figures)}`,
      );
      for (const [at, { limit, bound, forgotten, ...figure }] of figures.entries()) {
        expect(figure).toMatchObject({ wronglyTrusted: 0, stillDegraded: 0 });
        expect(figure.slowestMs).toBeLessThan(IN_TIME_MS);
        expect(figure.through).toBeLessThanOrEqual(limit + forgotten);
        expect(figure.through).toBeGreaterThan(0);
        expect(figure.without).toBeGreaterThan(0);
        if (lanes[at]?.onStoreFailure === 'open') {
          expect(figure.worst).toBeGreaterThan(bound);
          continue;
        }
        expect(figure.without).toBeLessThanOrEqual(Math.max(limit, PROCESSES));
        expect(figure.worst).toBeLessThanOrEqual(bound);
        // The exception is real: a limit of a long window is exceeded by what was forgotten.
        if (forgotten > 0) expect(figure.worst).toBeGreaterThan(limit);
      }
    },
  );
});

// -------------------------------------------------------------------------------------------------------------------
// Two engines, one frozen server
// -------------------------------------------------------------------------------------------------------------------

describe.each(kinds)('two engines and a %s that is stopped with SIGSTOP', (kind) => {
  /** The promises. */
  const FIRST_MS = 60;
  const AFTERWARDS_MS = 1;
  const ENGINES = 2;

  const named = {
    strict: { limit: 5, windowSeconds: LONG_SECONDS, onStoreFailure: 'closed' },
    lax: { limit: 5, windowSeconds: LONG_SECONDS, onStoreFailure: 'open' },
    usual: { limit: 5, windowSeconds: LONG_SECONDS },
  } as const;
  const request = { headers: {} };

  let engines: Engines;
  let store: Server;
  let both: [Engine, Engine];
  let stopped = false;

  const pause = async () => {
    await store.pause();
    stopped = true;
  };
  const resume = async () => {
    if (stopped) await store.resume();
    stopped = false;
    for (const engine of both) await counted(engine);
  };
  /** Both have noticed. */
  const notice = () => inTurns(both, 1, limitOf('notice', randomUUID(), 1));

  beforeAll(async () => {
    store = await startValkey({ kind });
    engines = new Engines();
    both = [0, 1].map(() => engines.start(reaching(store), { rateLimits: named })) as [Engine, Engine];
    await acquainted(both);
  });
  afterEach(resume);
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await store?.stop();
  });

  it('the first checks are answered in time, later ones at once', async () => {
    const [engine] = both;
    const one = (limit: number) => timed(() => engine.checkRateLimit('time', randomUUID(), limit, 60));
    const [firsts, batches]: [number[], number[][]] = [[], []];
    for (let round = 0; round < rounds(8, 4); round += 1) {
      await pause();
      // Alone, and as one of many.
      const together = round % 2 === 0 ? 1 : 100;
      const first = await Promise.all(Array.from({ length: together }, () => one(5)));
      const batch = [];
      for (let more = 0; more < 200; more += 1) batch.push(await one(more % 2 === 0 ? 5 : 5_000));
      for (const told of [...first, ...batch])
        expect(told).toMatchObject({ value: { allowed: true, degraded: true } });
      firsts.push(Math.max(...first.map(({ ms }) => ms)));
      batches.push(batch.map(({ ms }) => ms));
      await resume();
    }
    const figures = {
      first: { median: quantile(firsts, 0.5), most: Math.max(...firsts) },
      next: { median: quantile(batches.flat(), 0.5), p95: quantile(batches.flat(), 0.95) },
      bestP95: Math.min(...batches.map((batch) => quantile(batch, 0.95))),
    };
    console.info(`limiter, ${kind} stopped, milliseconds of a check: ${JSON.stringify(figures)}`);
    expect(figures.first.median).toBeLessThan(FIRST_MS);
    expect(figures.first.most).toBeLessThan(FIRST_CALL_MS);
    expect(figures.next.median).toBeLessThan(AFTERWARDS_MS);
    // A busy machine is slow at times; the product would be slow always.
    expect(figures.bestP95).toBeLessThan(AFTERWARDS_MS);
  });

  const shares = [
    { limit: 5, cost: 1, admitted: 5 },
    { limit: 1, cost: 1, admitted: ENGINES },
    // 5 each, so one of 3 each.
    { limit: 10, cost: 3, admitted: 2 },
    { limit: 2_000, cost: 100, admitted: 20 },
  ];

  it.each(shares)(
    'they share a limit of $limit when a check costs $cost',
    async ({ limit, cost, admitted }) => {
      await pause();
      for (let round = 0; round < 3; round += 1) {
        const spec = limitOf('shared', randomUUID(), limit, cost);
        const told = await inTurns(both, 25, spec);
        expect(allowed(told)).toBe(admitted);
        expect(admitted * cost).toBeLessThanOrEqual(Math.max(limit, ENGINES));
        for (const one of told) {
          expect(one).toMatchObject({ degraded: true, limit });
          expect(one.retryAfterMs > 0).toBe(!one.allowed);
        }
        for (const never of await inTurns(both, 1, { ...spec, cost: limit + 1 })) {
          expect(never).toMatchObject({
            allowed: false,
            degraded: true,
            retryAfterMs: Number.POSITIVE_INFINITY,
          });
        }
      }
    },
  );

  it('several limits are charged together or not at all', async () => {
    await pause();
    for (let round = 0; round < 5; round += 1) {
      const [wide, narrow] = [limitOf('wide', randomUUID(), 6), limitOf('narrow', randomUUID(), 4)];
      const together: RateLimitResult[] = [];
      for (let more = 0; more < 8; more += 1) {
        for (const engine of both) together.push(await engine.checkRateLimits([wide, narrow]));
      }
      expect(together.every(({ degraded }) => degraded)).toBe(true);
      // Two of four each; of six, one each is left.
      expect(allowed(together)).toBe(4);
      expect(allowed(await inTurns(both, 4, wide))).toBe(2);
    }
  });

  it('each limit goes by its own policy', async () => {
    const [engine] = both;
    const whose = randomUUID();
    const given = ['policy', whose, 5, LONG_SECONDS] as const;
    const closed = { allowed: false, degraded: true, unavailable: true };
    await pause();
    // Also the very first one, which still asks the store.
    expect(await engine.checkRateLimit(...given, { onStoreFailure: 'closed' })).toMatchObject(closed);
    for (let round = 0; round < 20; round += 1) {
      const open = await engine.checkRateLimit(...given, { onStoreFailure: 'open' });
      expect(open).toMatchObject({ allowed: true, degraded: true, retryAfterMs: 0 });
      expect(open.unavailable).toBeUndefined();
      const told = await engine.checkRateLimit(...given, { onStoreFailure: 'closed' });
      expect(told).toMatchObject(closed);
      expect(told.retryAfterMs > 0 && told.retryAfterMs <= 60_000).toBe(true);
    }
    const strict = await engine.applyRateLimit(request, 'strict', { identifier: whose });
    expect(strict.response?.status).toBe(503);
    expect(Number(strict.response?.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(strict.response?.headers.get('content-type')).toContain('application/problem+json');
    const lax = await engine.applyRateLimit(request, 'lax', { identifier: whose });
    expect(lax).toMatchObject({ success: true, degraded: true, response: null });
    const types = ['lax', 'strict'].map((type) => ({ type, identifier: whose }));
    expect(await engine.checkRateLimits(types)).toMatchObject(closed);
    // A limit that is used up is not a store that is missing.
    for (let round = 0; round < 5; round += 1)
      await engine.applyRateLimit(request, 'usual', { identifier: whose });
    const denied = await engine.applyRateLimit(request, 'usual', { identifier: whose });
    expect(denied.response?.status).toBe(429);
    expect(denied.unavailable).toBeUndefined();
  });

  it.each(['local', 'open', 'closed'] as const)(
    'who only looks is told what a check would be: %s',
    async (onStoreFailure) => {
      const [engine] = both;
      const given = ['look', randomUUID(), 2, LONG_SECONDS, { onStoreFailure }] as const;
      await pause();
      await notice();
      for (let round = 0; round < 4; round += 1) {
        const { allowed, unavailable, degraded } = await engine.peekRateLimit(...given);
        expect(await engine.checkRateLimit(...given)).toMatchObject({ allowed, degraded });
        expect((await engine.checkRateLimit(...given)).unavailable).toBe(unavailable);
      }
    },
  );

  it('health says so', async () => {
    const [engine] = both;
    expect((await engine.getHealth()).limiter).toEqual({
      status: 'healthy',
      reason: null,
      since: expect.any(String),
      instances: ENGINES,
    });
    await pause();
    await notice();
    const { limiter } = await engine.getHealth();
    const text = expect.any(String);
    expect(limiter).toEqual({ status: 'degraded', reason: text, since: text, instances: ENGINES });
    expect(limiter.reason).not.toBe('');
    const before = engine.getMetrics().limiter.degraded;
    await engine.checkRateLimit('health', randomUUID(), 5, 60);
    expect(engine.getMetrics().limiter.degraded).toBe(before + 1);
    await resume();
    expect((await engine.getHealth()).limiter.status).toBe('healthy');
  });

  it('a limit can be looked at, reset and blocked', async () => {
    const [engine] = both;
    const given = ['rare', randomUUID(), 4, LONG_SECONDS] as const;
    const unavailable = { code: 'E_STORE_UNAVAILABLE' };
    const admitted = async (yes: boolean) =>
      expect(await engine.checkRateLimit(...given)).toMatchObject({ allowed: yes, degraded: true });
    await pause();
    await notice();
    await admitted(true);
    await admitted(true);
    await admitted(false);
    // In effect here at once, elsewhere later.
    expect(await engine.resetRateLimit(given[0], given[1])).toEqual({ acknowledged: false, queued: true });
    await admitted(true);
    await expect(engine.blockRateLimit(...given, 60)).rejects.toMatchObject(unavailable);
    await admitted(false);
    await expect(engine.rewardRateLimit(...given, 1)).rejects.toMatchObject(unavailable);
    await resume();
    await until(
      'the reset was replayed',
      () => engine.getMetrics().store.pendingInvalidations === 0,
      RECOVERY_MS,
    );
  });

  /** Checks one limit in both, again and again, until the store counts for both; answers what was admitted without it. */
  async function storm(limit: number): Promise<number> {
    const whose = randomUUID();
    const ask = async (engine: Engine) => {
      let without = 0;
      for (let end = false; !end; await turn()) {
        const checks = Array.from({ length: 10 }, () =>
          engine.checkRateLimit('storm', whose, limit, LONG_SECONDS),
        );
        const told = await Promise.all(checks);
        without += told.filter((one) => one.allowed && one.degraded).length;
        end = told.some(({ degraded }) => !degraded);
      }
      return without;
    };
    const sums = await Promise.all(both.map(ask));
    return sums.reduce((sum, one) => sum + one, 0);
  }

  it('after an outage in which nobody was heard of, they still share', async () => {
    /** Longer than others are remembered that are not heard of. */
    const SILENCE_MS = 3_300;
    const LIMIT = 8;
    await acquainted(both);
    await pause();
    await notice();
    await sleep(SILENCE_MS);
    for (const engine of both) {
      // Much to tell, so that it takes a while.
      const keys = Array.from({ length: 3_000 }, () => randomUUID());
      await Promise.all(keys.map((key) => engine.checkRateLimit('much', key, 5, LONG_SECONDS)));
    }
    const telling = storm(LIMIT);
    await resume();
    const whileTold = await telling;
    // And gone again, before anybody is heard of.
    await pause();
    await notice();
    const again = storm(LIMIT);
    await sleep(100);
    await resume();
    const goneAgain = await again;
    console.info(
      `limiter, ${kind}: of ${LIMIT}, admitted by two without the store, while it is told ${whileTold}, gone again ${goneAgain}`,
    );
    expect(whileTold).toBeLessThanOrEqual(LIMIT);
    expect(goneAgain).toBeLessThanOrEqual(LIMIT);
  });

  it('an engine that starts meanwhile answers, with the whole limit, because it knows of nobody', async () => {
    await pause();
    await notice();
    await using late = new Engines();
    const engine = late.start(reaching(store));
    const first = await timed(() => engine.checkRateLimit('late', randomUUID(), 5, 60));
    expect(first).toMatchObject({ value: { allowed: true, degraded: true } });
    expect(first.ms).toBeLessThan(FIRST_CALL_MS);
    expect(allowed(await inTurns([engine], 9, limitOf('late', randomUUID(), 5)))).toBe(5);
    expect((await engine.getHealth()).limiter).toMatchObject({ status: 'degraded', instances: 1 });
    await resume();
    await counted(engine, RECOVERY_MS);
  });
});

// -------------------------------------------------------------------------------------------------------------------
// Engines that have not limited anything yet
// -------------------------------------------------------------------------------------------------------------------

describe('engines that have never checked a limit when the store goes away', () => {
  const ENGINES = 4;
  let store: Server;
  const engines = new Engines();

  beforeAll(async () => {
    store = await startValkey();
  });
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await store?.stop();
  });

  it('know each other, and so their share', async () => {
    const all = Array.from({ length: ENGINES }, () => engines.start(reaching(store)));
    await until('they have heard of each other', async () => {
      const health = await Promise.all(all.map((engine) => engine.getHealth()));
      return health.every(({ limiter }) => limiter.instances === ENGINES);
    });
    await store.pause();
    const told = await inTurns(all, 10, limitOf('fresh', randomUUID(), 10));
    await store.resume();
    expect(allowed(told)).toBe(10);
    for (const one of told) expect(one.degraded).toBe(true);
  });
});
