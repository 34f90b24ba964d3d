/**
 * What the dashboard decides without any server: how two layers are judged, and which calls share a refresh. By the
 * thousand.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { CacheHealth } from '../index.js';
import { load } from './support/played-native.js';
import { rounds } from './support/rounds.js';

interface Facts {
  readonly exists?: boolean | undefined;
  readonly populated?: boolean | undefined;
  readonly uniqueIndex?: boolean | undefined;
  readonly lastRefreshed?: string | null | undefined;
  readonly ageSeconds?: number | null | undefined;
  readonly error?: string | undefined;
}
const { judge } = load('./dist/dashboard/health.js') as {
  judge(
    store: { connected: boolean; keyCount: number; memory: string },
    view: { name: string; facts: Facts; maxAgeSeconds: number },
    now: Date,
  ): CacheHealth;
};
const { Turns } = load('./dist/dashboard/turns.js') as {
  Turns: new <T>(run: () => Promise<T>) => { join(): Promise<T> };
};

const AT = new Date('2026-11-20T09:50:26.667Z');
const fine: Facts = {
  exists: true,
  populated: true,
  uniqueIndex: true,
  lastRefreshed: '2026-11-20T09:50:00.000Z',
  ageSeconds: 26.4,
};
const judged = (facts: Facts, connected = true) =>
  judge({ connected, keyCount: 3, memory: '1.00M' }, { name: 'ih.view', facts, maxAgeSeconds: 60 }, AT);

describe('health', () => {
  it('both fine is healthy, one of them degraded, neither down', () => {
    expect(judged(fine)).toEqual({
      overall: 'healthy',
      redis: { healthy: true, connected: true, keyCount: 3, memory: '1.00M' },
      materializedView: { healthy: true, lastRefreshed: '2026-11-20T09:50:00.000Z', ageSeconds: 26 },
      timestamp: '2026-11-20T09:50:26.667Z',
      recommendation: 'All cache layers healthy',
    });
    expect(judged(fine, false).overall).toBe('degraded');
    expect(judged({}).overall).toBe('degraded');
    expect(judged({}, false).overall).toBe('down');
  });

  it.each<[string, Facts, RegExp]>([
    ['could not be asked', { error: 'the database is not reachable' }, /^the database is not reachable$/],
    ['is none', { exists: false }, /there is no materialized view ih.view/],
    ['was never populated', { ...fine, populated: false }, /never populated/],
    ['has no unique index', { ...fine, uniqueIndex: false }, /no unique index/],
    ['is one second too old', { ...fine, ageSeconds: 61 }, /older than 60 s/],
    ['has no age', { ...fine, ageSeconds: undefined }, /nobody can tell/],
    ['has an age that is null', { ...fine, ageSeconds: null }, /nobody can tell/],
    ['has an infinite age', { ...fine, ageSeconds: Number.POSITIVE_INFINITY }, /nobody can tell/],
    ['is from the future', { ...fine, ageSeconds: -61 }, /nobody can tell/],
    ['of which nothing is known', {}, /no materialized view/],
  ])('a view that %s is not healthy', (_, facts, error) => {
    const { materializedView, recommendation, overall } = judged(facts);
    expect(materializedView.healthy).toBe(false);
    expect(materializedView.error).toMatch(error);
    expect(overall).toBe('degraded');
    expect(recommendation).toContain(materializedView.error);
  });

  it('whatever is known, what is unknown is not healthy, and nothing in it is lost in JSON', () => {
    const any = <T>(...of: readonly T[]): T => of[Math.floor(Math.random() * of.length)] as T;
    for (let round = 0; round < rounds(20_000, 4_000); round += 1) {
      const facts: Facts = {
        exists: any(true, false, undefined),
        populated: any(true, false, undefined),
        uniqueIndex: any(true, false, undefined),
        lastRefreshed: any('2026-11-20T09:50:00.000Z', null, undefined),
        ageSeconds: any<number | null | undefined>(
          0,
          59,
          60,
          61,
          -1,
          -1e9,
          1e300,
          Number.NaN,
          null,
          undefined,
        ),
        error: any(undefined, undefined, 'no'),
      };
      const connected = any(true, false);
      const health = judged(facts, connected);
      const age = facts.ageSeconds;
      const right =
        facts.error === undefined &&
        facts.exists === true &&
        facts.populated === true &&
        facts.uniqueIndex === true &&
        typeof age === 'number' &&
        age >= -60 &&
        age <= 60;
      expect([facts, health.materializedView.healthy]).toEqual([facts, right]);
      expect(health.overall).toBe(right && connected ? 'healthy' : right || connected ? 'degraded' : 'down');
      expect(JSON.parse(JSON.stringify(health))).toEqual(health);
    }
  });
});

describe('calls that share a run', () => {
  it('whoever calls gets a run that began after the call, and there are never two at a time', async () => {
    let [clock, running] = [0, 0];
    const turns = new Turns(async () => {
      clock += 1;
      const begun = clock;
      running += 1;
      expect(running).toBe(1);
      await (Math.random() < 0.5 ? sleep(Math.random() * 2) : undefined);
      running -= 1;
      if (Math.random() < 0.2) throw begun;
      return begun;
    });
    let runs = 0;
    const calls: Promise<void>[] = [];
    for (let round = 0; round < rounds(2_000, 400); round += 1) {
      const called = clock;
      const begun = turns.join().catch((failed: number) => failed);
      calls.push(
        begun.then((at) => {
          expect(at).toBeGreaterThan(called);
          runs = Math.max(runs, at);
        }),
      );
      if (Math.random() < 0.4) await sleep(Math.random());
    }
    await Promise.all(calls);
    expect(runs).toBeLessThan(calls.length);
    expect(runs).toBe(clock);
  });

  it('calls of one turn are one run, and a call after its end is another', async () => {
    let runs = 0;
    const turns = new Turns(async () => {
      runs += 1;
      return runs;
    });
    expect(await Promise.all(Array.from({ length: 5 }, () => turns.join()))).toEqual([1, 1, 1, 1, 1]);
    expect(await turns.join()).toBe(2);
  });

  it('one that throws at once is a rejection, and the next run is another', async () => {
    let runs = 0;
    const turns = new Turns<number>(() => {
      runs += 1;
      if (runs === 1) throw new RangeError('at once');
      return Promise.resolve(runs);
    });
    await expect(turns.join()).rejects.toThrow('at once');
    expect(await turns.join()).toBe(2);
  });
});
