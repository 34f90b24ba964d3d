/**
 * What the limiter specs share: windows that do not end during a test, sums of answers, and waiting until engines count
 * together. Invariant: nothing here charges a limit that a test looks at.
 */
import type { Engine, RateLimitCheck, RateLimitResult } from '../../index.js';
import { until } from './engines.js';

/** Longer than any test. */
export const LONG_SECONDS = 600;

export const limitOf = (type: string, identifier: string, limit: number, cost = 1): RateLimitCheck => ({
  ...{ type, identifier, limit, windowSeconds: LONG_SECONDS, cost },
});

/** Under which a limit is stored. */
export const limitKey = (type: string, identifier: string): string => `ratelimit:${type}:{${identifier}}`;

export const allowed = (told: readonly RateLimitResult[]): number => told.filter((one) => one.allowed).length;

/** Resolves when the answers of an engine are those of the store. */
export const counted = (engine: Engine, withinMs = 10_000): Promise<void> =>
  until(
    'the store counts',
    async () => !(await engine.peekRateLimit('nobody', 'asks', 1, 1)).degraded,
    withinMs,
  );

/** Resolves when they know of each other and the store counts for all of them. */
export async function acquainted(engines: readonly Engine[]): Promise<void> {
  for (const engine of engines) await counted(engine);
  await until('they have heard of each other', async () => {
    const health = await Promise.all(engines.map((engine) => engine.getHealth()));
    return health.every(({ limiter }) => limiter.instances === engines.length);
  });
}

/** Checks one limit by all of them in turns, so often each. */
export async function inTurns(
  engines: readonly Engine[],
  times: number,
  { type, identifier, limit = 1, windowSeconds = LONG_SECONDS, cost }: RateLimitCheck,
): Promise<RateLimitResult[]> {
  const told: RateLimitResult[] = [];
  for (let more = 0; more < times; more += 1) {
    for (const engine of engines) {
      told.push(await engine.checkRateLimit(type, identifier, limit, windowSeconds, { cost }));
    }
  }
  return told;
}

export const quantile = (values: readonly number[], of: number): number =>
  [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) * of)] ?? Number.NaN;
