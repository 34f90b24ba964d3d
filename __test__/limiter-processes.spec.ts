/**
 * Rate limits of several real processes on one real store that works: never more than the limit in any window, nothing
 * denied that fits, exactly the limit of a burst, a wait that is exact, and a denial that costs no command. The judge knows
 * only when each check was sent and answered, and it notices a limiter of fixed windows.
 *
 * Not about clocks that step: a server's clock is the machine's, so that is shown where the clock is a parameter, in
 * `crates/core/tests/limiter_bounds.rs`.
 */
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine, RateLimitResult } from '../index.js';
import { type Server, type ServerKind, startValkey } from './servers/index.mjs';
import { Engines, until } from './support/engines.js';
import {
  checksOf,
  costOf,
  type Lane,
  type Report,
  reportsOf,
  unexplained,
  worst,
} from './support/limiter-judge.js';
import { reaching } from './support/outage.js';
import { Peer } from './support/processes.js';
import { rounds } from './support/rounds.js';

const PROCESSES = 4;
/** A busy machine must not look like an outage. */
const PATIENT = { cacheDeadlineMs: 5_000, cacheConnectTimeoutMs: 5_000 };
/** Longer than any test. */
const LONG_MS = 600_000;

const lanes: readonly Lane[] = [
  { limit: 1, windowMs: 100, mostCost: 1, burst: 3, pauseMs: 150 },
  { limit: 3, windowMs: 150, mostCost: 3, burst: 4, pauseMs: 200 },
  { limit: 10, windowMs: 200, mostCost: 1, burst: 12, pauseMs: 300 },
  { limit: 50, windowMs: 250, mostCost: 3, burst: 40, pauseMs: 300 },
  { limit: 400, windowMs: 300, mostCost: 3, burst: 250, pauseMs: 300 },
  { limit: 1_000, windowMs: 400, mostCost: 1, burst: 900, pauseMs: 400 },
  { limit: 2_000, windowMs: 400, mostCost: 3, burst: 1_000, pauseMs: 400 },
].map((lane) => ({ type: `of-${lane.limit}`, identifier: 'everybody', ...lane }));

/** Larger limits count an admission up to a twentieth of the window too long. */
const countsMs = ({ limit, windowMs }: Lane): number => (limit > 1_000 ? windowMs * (1 + 1 / 20) : windowMs);

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

const kinds: readonly ServerKind[] = (['valkey', 'redis'] as const).slice(0, rounds(2, 1));

describe.each(kinds)('four processes on one %s', (kind) => {
  let store: Server;
  let peers: Peer[] = [];

  beforeAll(async () => {
    store = await startValkey({ kind });
    const task = {
      ...{ options: { ...PATIENT, ...reaching(store) }, storePort: store.port },
      startNs: process.hrtime.bigint(),
    };
    peers = Array.from({ length: PROCESSES }, () => new Peer('limiter-worker.mjs', task));
    await Promise.all(peers.map((peer) => peer.next('ready')));
  });

  afterAll(async () => {
    await Promise.all(peers.map((peer) => peer.kill()));
    await store?.stop();
  });

  async function play(requests: number, naive = false): Promise<Report[]> {
    for (const peer of peers)
      peer.send({ kind: 'run', lanes, naive, requests: Math.ceil(requests / PROCESSES) });
    return reportsOf(peers);
  }

  it('admit never more than the limit in any window, and deny nothing that fits', async () => {
    const requests = rounds(kind === 'valkey' ? 100_000 : 40_000, 8_000);
    const reports = await play(requests);
    expect(reports.map(({ errors }) => errors)).toEqual(peers.map(() => ({})));
    let answers = 0;
    const figures = lanes.map((lane, at) => {
      const checks = checksOf(reports, at);
      const admitted = checks.filter(({ allowed }) => allowed);
      answers += checks.length;
      return {
        ...{ limit: lane.limit, checks: checks.length, admitted: costOf(admitted) },
        worst: worst(admitted, lane.windowMs),
        degraded: checks.filter(({ degraded }) => degraded).length,
        unexplained: unexplained(checks, lane.limit, countsMs(lane)).length,
        // What it would look like if one more should have been admitted.
        tooFew: unexplained(checks, lane.limit + lane.mostCost, countsMs(lane)).length,
      };
    });
    const local = reports.reduce((sum, { metrics }) => sum + metrics.deniedNear, 0);
    console.info(
      `limiter, ${answers} checks on ${kind}, ${local} denied without a command: ${JSON.stringify(figures)}`,
    );
    expect(answers).toBe(requests);
    for (const [at, { limit, mostCost }] of lanes.entries()) {
      expect(figures[at]).toMatchObject({ degraded: 0, unexplained: 0 });
      expect(figures[at]?.worst).toBeLessThanOrEqual(limit);
      // It was not idle: somewhere the limit was used up, as far as costs allow.
      expect(figures[at]?.worst).toBeGreaterThan(limit - mostCost);
    }
    expect(figures.filter(({ tooFew }) => tooFew > 0).length).toBeGreaterThan(lanes.length / 2);
  });

  /** All of them at once, `count` times each. */
  async function burst(count: number, ...checks: readonly object[]): Promise<Burst> {
    const told = await Promise.all(
      peers.map((peer) => peer.ask({ kind: 'burst', count, checks }) as unknown as Promise<Burst>),
    );
    const of = (what: keyof Burst) => told.reduce((sum, one) => sum + one[what], 0);
    return { admitted: of('admitted'), degraded: of('degraded') };
  }

  it('admit exactly the limit of a burst that comes at once', async () => {
    for (const limit of [1, 7, 100, 1_000, 1_001, 5_000].slice(0, rounds(6, 5))) {
      for (let round = 0; round < rounds(5, 2); round += 1) {
        const whose = { type: 'burst', identifier: `${limit}-${round}`, limit, windowMs: LONG_MS };
        const told = await burst(Math.ceil(limit / PROCESSES) + 50, whose);
        expect({ limit, ...told }).toEqual({ limit, admitted: limit, degraded: 0 });
      }
    }
  });

  it('admit exactly what the smallest of several limits allows, and charge no other more than that', async () => {
    for (let round = 0; round < rounds(20, 4); round += 1) {
      const limits = [30, 12, 2_000].map((limit) => ({
        ...{ type: `of-${limit}`, identifier: `several-${limit}-${round}`, limit, windowMs: LONG_MS },
      }));
      expect(await burst(20, ...limits)).toEqual({ admitted: 12, degraded: 0 });
      // What is left of each.
      for (const one of limits) {
        expect(await burst(600, one)).toEqual({ admitted: one.limit - 12, degraded: 0 });
      }
    }
  });

  it('and the judge notices windows that begin on the clock', async () => {
    const reports = await play(rounds(30_000, 6_000), true);
    const guilty = lanes.map(({ limit, windowMs }, at) => {
      const admitted = checksOf(reports, at).filter(({ allowed }) => allowed);
      return { limit, worst: worst(admitted, windowMs) };
    });
    console.info(`limiter, fixed windows on ${kind}: ${JSON.stringify(guilty)}`);
    expect(guilty.filter((one) => one.worst > one.limit).length).toBeGreaterThan(0);
  });
});

interface Burst {
  readonly admitted: number;
  readonly degraded: number;
}

/** A call, and between which times it was decided. */
interface Timed {
  readonly told: RateLimitResult;
  readonly fromMs: number;
  readonly toMs: number;
}

async function timed(call: Promise<RateLimitResult>, fromMs = performance.now()): Promise<Timed> {
  return { told: await call, fromMs, toMs: performance.now() };
}

/** Timers come late: the last milliseconds are waited for turn by turn. */
async function at(ms: number): Promise<void> {
  const left = ms - performance.now() - 4;
  if (left > 0) await sleep(left);
  while (performance.now() < ms) await turn();
}

describe('three engines on one store', () => {
  const engines = new Engines();
  let store: Server;
  let [one, other, third]: Engine[] = [];

  beforeAll(async () => {
    store = await startValkey();
    [one, other, third] = [1, 2, 3].map(() => engines.start(PATIENT, reaching(store)));
    for (const engine of [one, other, third]) await engine?.checkRateLimit('warm-up', 'all', 9, 60);
    await until(
      'they have heard of each other',
      async () => (await (one as Engine).getHealth()).limiter.instances === 3,
    );
  });
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await store?.stop();
  });

  /** `one` uses up a limit, with pauses, until it is denied; answers that denial. */
  async function useUp(key: string, limit: number, windowSeconds: number, cost: number): Promise<Timed> {
    for (;;) {
      const last = await timed((one as Engine).checkRateLimit('wait', key, limit, windowSeconds, { cost }));
      if (!last.told.allowed) return last;
      if (Math.random() < 0.5) await sleep((Math.random() * windowSeconds * 1_000) / limit / 2);
    }
  }

  it('are told a wait that is exact: denied until it is over, admitted as soon as it is', async () => {
    const total = rounds(60, 12);
    let [decisive, peeks] = [0, 0];
    const late: number[] = [];
    for (let round = 0; round < total; round += 1) {
      const key = `round-${round}`;
      const limit = [1, 2, 5, 20][round % 4] as number;
      const cost = 1 + Math.floor(Math.random() * Math.min(3, limit));
      const windowSeconds = (60 + Math.floor(Math.random() * 100)) / 1_000;
      const given = ['wait', key, limit, windowSeconds, { cost }] as const;
      const first = await useUp(key, limit, windowSeconds, cost);
      expect(first.told.retryAfterMs).toBeGreaterThan(0);
      // The server reads whole milliseconds. The moment at which it fits lies in here, and at most 1 ms beside it, because
      // two clocks are compared.
      let low = first.fromMs + first.told.retryAfterMs - 2;
      let high = first.toMs + first.told.retryAfterMs + 1;
      const narrow = ({ told, fromMs, toMs }: Timed) => {
        low = Math.max(low, fromMs + told.retryAfterMs - 2);
        high = Math.min(high, toMs + told.retryAfterMs + 1);
        expect(low, `round ${round}: the waits contradict each other`).toBeLessThan(high);
      };
      // Just before, by one who was never denied and has to ask.
      await at(low - 2.5);
      const before = await timed((other as Engine).checkRateLimit(...given));
      if (before.toMs < low) {
        decisive += 1;
        expect(before.told).toMatchObject({ allowed: false, degraded: false });
        narrow(before);
      }
      // Around it, by one who only looks.
      let charged = before.told.allowed;
      while (!charged) {
        const look = await timed((third as Engine).peekRateLimit(...given));
        peeks += 1;
        if (look.toMs < low) expect(look.told.allowed, `round ${round}, before`).toBe(false);
        if (look.fromMs > high) expect(look.told.allowed, `round ${round}, after`).toBe(true);
        if (look.told.allowed) break;
        narrow(look);
      }
      // Just after, by the one who was denied and knew until when.
      await at(high);
      if (!charged) {
        const after = await timed((one as Engine).checkRateLimit(...given));
        expect(after.told).toMatchObject({ allowed: true, degraded: false });
        late.push(after.fromMs - high);
        charged = true;
      }
    }
    console.info(
      `limiter, waits: ${total} rounds, ${decisive} denied less than 5 ms before, ${late.length} admitted ` +
        `${median(late).toFixed(2)} ms after (median), ${peeks} looks between`,
    );
    expect(Math.min(decisive, late.length)).toBeGreaterThan(total / 3);
  });

  /** Commands of each kind that the server was sent, without those that tests and heartbeats need. */
  async function commands(): Promise<Record<string, number>> {
    const text = String(await store.command('INFO', 'commandstats'));
    const all = [...text.matchAll(/^cmdstat_(\S+?):calls=(\d+)/gm)];
    const ours = all.filter(([, name]) => !['info', 'publish', 'ping'].includes(name as string));
    return Object.fromEntries(ours.map(([, name, calls]) => [name as string, Number(calls)]));
  }

  it('ask nobody about an identifier that is known to be blocked', async () => {
    const spec = { type: 'login', identifier: 'attacker', limit: 5, windowSeconds: 60 };
    const given = ['login', 'attacker', 5, 60] as const;
    await (one as Engine).blockRateLimit(...given, 30);
    for (const engine of [one, other] as Engine[]) {
      expect(await engine.checkRateLimit(...given)).toMatchObject({ allowed: false, degraded: false });
      const before = await commands();
      const near = engine.getMetrics().limiter.deniedNear;
      for (let round = 0; round < 10; round += 1) {
        const told = await Promise.all([
          ...Array.from({ length: 80 }, () => engine.checkRateLimit(...given)),
          ...Array.from({ length: 10 }, () => engine.checkRateLimit(...given, { cost: 3 })),
          ...Array.from({ length: 10 }, () => engine.checkRateLimits([{ ...spec, type: 'other' }, spec])),
        ]);
        for (const { allowed, degraded, retryAfterMs } of told) {
          expect({ allowed, degraded }).toEqual({ allowed: false, degraded: false });
          expect(retryAfterMs > 20_000 && retryAfterMs <= 30_000, `${retryAfterMs} ms`).toBe(true);
        }
      }
      expect(await commands()).toEqual(before);
      expect(engine.getMetrics().limiter.deniedNear - near).toBe(1_000);
    }
    // The other limit was not charged.
    const untouched = await (third as Engine).peekRateLimit('other', 'attacker', 5, 60);
    expect(untouched.remaining).toBe(5);
  });

  const changes = {
    reset: (by: Engine, key: string) => by.resetRateLimit('near', key),
    reward: (by: Engine, key: string) => by.rewardRateLimit('near', key, 2, 60, 1),
    'lifted block': (by: Engine, key: string) => by.blockRateLimit('near', key, 2, 60, 0),
  };

  it.each(Object.entries(changes))('hear of a %s by another one', async (name, change) => {
    const tookMs: number[] = [];
    for (let round = 0; round < rounds(20, 6); round += 1) {
      const key = `${name}-${round}`;
      if (name === 'lifted block') await (other as Engine).blockRateLimit('near', key, 2, 60, 60);
      for (let more = 0; more < 3; more += 1) await (one as Engine).checkRateLimit('near', key, 2, 60);
      const near = (one as Engine).getMetrics().limiter.deniedNear;
      expect(await (one as Engine).checkRateLimit('near', key, 2, 60)).toMatchObject({ allowed: false });
      expect((one as Engine).getMetrics().limiter.deniedNear).toBe(near + 1);
      await change(other as Engine, key);
      const changed = performance.now();
      await until(
        'it is admitted again',
        async () => (await (one as Engine).checkRateLimit('near', key, 2, 60)).allowed,
        2_000,
      );
      tookMs.push(performance.now() - changed);
    }
    console.info(
      `limiter, ${name} heard of after ${median(tookMs).toFixed(1)} ms (median), ${Math.max(...tookMs).toFixed(1)} ms (most)`,
    );
    expect(median(tookMs)).toBeLessThan(50);
    expect(Math.max(...tookMs)).toBeLessThan(500);
  });
});
