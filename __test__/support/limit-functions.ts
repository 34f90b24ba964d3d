/**
 * The functions about rate limits, for the table of `functions.ts`. A limit is answered whatever is broken: by the
 * store, or by the process within its share. Invariant: as there, no call changes what is true.
 */
import { randomUUID } from 'node:crypto';
import type { AppliedRateLimit, CombinedRateLimitResult, RateLimitResult } from '../../index.js';
import type { Row } from './functions.js';

/**
 * Whether so much of a limit nobody else has used is gone. Without the store a process admits its share: what it leaves to
 * the others, of whom it may know some, counts as gone.
 */
const isUsed = (value: unknown, used: number): boolean => {
  const { limit, remaining, current, degraded } = value as RateLimitResult;
  return remaining + current === limit && (degraded ? current >= used : current === used);
};

/** Admitted, of a limit nobody else has used. */
const isFirst = (value: unknown): boolean => {
  const { allowed, retryAfterMs } = value as RateLimitResult;
  return allowed && retryAfterMs === 0 && isUsed(value, 1);
};

/** How many of five checks of a limit of two were admitted. */
async function ofFive(check: () => Promise<RateLimitResult>): Promise<number> {
  let admitted = 0;
  for (let at = 0; at < 5; at += 1) admitted += (await check()).allowed ? 1 : 0;
  return admitted;
}

const isVoided = (value: unknown): boolean => {
  const { acknowledged, queued } = value as { acknowledged: boolean; queued: boolean };
  return acknowledged !== queued;
};

export const limitFunctions: readonly Row[] = [
  {
    name: 'checkRateLimit',
    of: 'somebody new',
    asks: 'cache',
    call: (engine) => engine.checkRateLimit('first', randomUUID(), 5, 60),
    right: isFirst,
  },
  {
    name: 'checkRateLimit',
    of: 'somebody who asks five times for what is allowed twice',
    asks: 'cache',
    call: (engine) => {
      const id = randomUUID();
      return ofFive(() => engine.checkRateLimit('second', id, 2, 60));
    },
    // Another process may be known, and then the share without the store is one.
    right: (value) => value === 2 || value === 1,
  },
  {
    name: 'checkIpRateLimit',
    of: 'an address',
    asks: 'cache',
    call: (engine) => {
      const part = () => Math.floor(Math.random() * 65_536).toString(16);
      return engine.checkIpRateLimit(`2001:db8:${part()}:${part()}::1`, 5, 60);
    },
    right: isFirst,
  },
  {
    name: 'checkUserRateLimit',
    of: 'a user',
    asks: 'cache',
    call: (engine) => engine.checkUserRateLimit(randomUUID(), 5, 60),
    right: isFirst,
  },
  {
    name: 'checkEndpointRateLimit',
    of: 'an endpoint',
    asks: 'cache',
    call: (engine) => engine.checkEndpointRateLimit(`/${randomUUID()}`, 5, 60),
    right: isFirst,
  },
  {
    name: 'checkGlobalRateLimit',
    of: 'everything',
    asks: 'cache',
    call: (engine) => engine.checkGlobalRateLimit(1_000_000, 60),
    right: (value) => (value as RateLimitResult).allowed,
  },
  {
    name: 'checkRateLimits',
    of: 'two limits, of which one is used up',
    asks: 'cache',
    call: async (engine) => {
      const id = randomUUID();
      const wide = { type: 'wide', identifier: id, limit: 9, windowSeconds: 60 };
      const both = [wide, { type: 'narrow', identifier: id, limit: 2, windowSeconds: 60 }];
      const admitted = await ofFive(() => engine.checkRateLimits(both));
      const last: CombinedRateLimitResult = await engine.checkRateLimits([wide]);
      return { admitted, last };
    },
    right: (value) => {
      const { admitted, last } = value as { admitted: number; last: CombinedRateLimitResult };
      return [1, 2].includes(admitted) && isUsed(last, admitted + 1);
    },
  },
  {
    name: 'peekRateLimit',
    of: 'somebody new, twice',
    asks: 'cache',
    call: async (engine) => {
      const id = randomUUID();
      await engine.peekRateLimit('peeked', id, 5, 60);
      return engine.peekRateLimit('peeked', id, 5, 60);
    },
    right: (value) => (value as RateLimitResult).allowed && isUsed(value, 0),
  },
  {
    name: 'applyRateLimit',
    of: 'a request by its user',
    asks: 'cache',
    call: (engine) => engine.applyRateLimit({ headers: {} }, 'api', { identifier: randomUUID() }),
    right: (value) => isFirst(value) && (value as AppliedRateLimit).response === null,
  },
  {
    name: 'resetRateLimit',
    of: 'somebody new',
    asks: 'invalidation',
    call: (engine) => engine.resetRateLimit('reset', randomUUID()),
    right: isVoided,
  },
  {
    name: 'blockRateLimit',
    of: 'somebody new, who is then denied whatever the answer was',
    asks: 'store',
    call: async (engine) => {
      const id = randomUUID();
      const ended = await engine.blockRateLimit('blocked', id, 5, 60, 30).then(
        () => undefined,
        (error: unknown) => error,
      );
      if ((await engine.checkRateLimit('blocked', id, 5, 60)).allowed) return 'admitted although blocked';
      if (ended !== undefined) throw ended;
      return 'denied';
    },
    right: (value) => value === 'denied',
  },
  {
    name: 'rewardRateLimit',
    of: 'somebody new',
    asks: 'store',
    call: (engine) => engine.rewardRateLimit('rewarded', randomUUID(), 5, 60, 1),
    right: (value) => value === undefined,
  },
];
