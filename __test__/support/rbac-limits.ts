/**
 * Requests that count against limits: once, whatever else becomes of them, and beyond a limit nothing else happens.
 * Registered once per store. Not how a limit counts: that is `limiter.spec`. Invariant: a test has limits of its own.
 */
import { randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import type { AuthorizeRequest } from '../../index.js';
import { outcome, statementsOf, until } from './engines.js';
import { type Context, newPerson } from './rbac-behaviour.js';
import type { StoreKind } from './stores.js';
import { claimsOf, forged, signed, verified } from './tokens.js';

const WINDOW_SECONDS = 60;
const limitOf = (identifier: string, limit = 2, type = 'request') => ({
  type,
  identifier,
  limit,
  windowSeconds: WINDOW_SECONDS,
});

interface Way {
  readonly name: string;
  /** The next request of a user; called before each. */
  readonly next: (context: Context, userId: string) => AuthorizeRequest | Promise<AuthorizeRequest>;
  readonly says: object;
  /** How often the native side is asked, where near copies are kept. */
  readonly asks?: number;
}

const tokenOf = (userId: string): string => signed(claimsOf(userId));

/** Requests that take different ways: in one round trip, in several, with a second look for objects. */
const ways: readonly Way[] = [
  {
    name: 'of which everything is cached',
    next: async ({ engine }, userId) => {
      await engine.getCachedUserContext(userId);
      return { userId };
    },
    says: { ok: true },
  },
  {
    name: 'of which nothing is cached',
    next: async ({ engine }, userId) => {
      await engine.invalidateAllRolePermissions();
      return { userId, tokenId: randomUUID() };
    },
    says: { ok: true },
  },
  {
    name: 'whose token is verified first',
    next: (_, userId) => ({ token: tokenOf(userId), verify: verified }),
    says: { ok: true },
  },
  {
    name: 'whose context was lost on its way to whoever asked first',
    next: async ({ engine }, userId) => {
      await engine.invalidateUserContext(userId);
      const impatient = new AbortController();
      const lost = engine.getCachedUserContext(userId, { signal: impatient.signal });
      impatient.abort();
      await outcome(lost);
      const { bridge } = engine.getMetrics();
      await until(
        'it was answered all the same',
        () => engine.getMetrics().bridge.settled >= bridge.submitted,
      );
      return { userId };
    },
    says: { ok: true },
    // Its number is known there, but not the object: it is asked for in full.
    asks: 2,
  },
  {
    name: 'with a forged token',
    next: (_, userId) => ({ token: forged(tokenOf(userId)), verify: verified }),
    says: { ok: false, reason: 'token_invalid', status: 401 },
  },
  {
    name: 'without its token',
    next: () => ({ token: null, verify: verified }),
    says: { ok: false, reason: 'token_missing', status: 401 },
  },
];

export function limited(kind: StoreKind, context: () => Context): void {
  it.each(ways)('a request $name counts once', async ({ next, says, asks }) => {
    const { engine } = context();
    const { user } = await newPerson(context());
    const limit = limitOf(randomUUID());
    for (let current = 1; current <= limit.limit; current += 1) {
      const request = { ...(await next(context(), user)), limit } as AuthorizeRequest;
      const { submitted } = engine.getMetrics().bridge;
      const told = await engine.authorizeRequest(request);
      const asked = engine.getMetrics().bridge.submitted - submitted;
      if (asks !== undefined && kind.caches) expect(asked).toBe(asks);
      expect(told).toMatchObject({ ...says, rateLimit: { allowed: true, current, type: 'request' } });
    }
    // Beyond it: no other look at anything, and nothing that was charged.
    const request = { ...(await next(context(), user)), limit } as AuthorizeRequest;
    const careless = { ...request, ...('verify' in request ? { verify: () => expect.unreachable() } : {}) };
    for (let round = 0; round < 2; round += 1) {
      const cost = await statementsOf(engine, async () => {
        const told = await engine.authorizeRequest(careless as AuthorizeRequest);
        expect(told).toMatchObject({ ok: false, reason: 'rate_limited', status: 429 });
        expect(told).toMatchObject({ rateLimit: { allowed: false, current: limit.limit, remaining: 0 } });
        const { retryAfterMs = 0 } = told as { retryAfterMs?: number };
        expect(retryAfterMs > 0 && retryAfterMs <= WINDOW_SECONDS * 1_000).toBe(true);
      });
      expect(cost).toBe(0);
    }
    const { type, identifier } = limit;
    const peeked = await engine.peekRateLimit(type, identifier, limit.limit, WINDOW_SECONDS);
    expect(peeked).toMatchObject({ allowed: false, current: limit.limit });
  });

  it('of several limits, of different slots, all are charged or none', async () => {
    const { engine } = context();
    const { user } = await newPerson(context());
    await engine.getCachedUserContext(user);
    const [wide, narrow] = [limitOf(randomUUID(), 9, 'wide'), limitOf(randomUUID(), 1, 'narrow')];
    const ask = () => engine.authorizeRequest({ userId: user, limit: [wide, narrow] });
    expect(await ask()).toMatchObject({
      ok: true,
      rateLimit: { allowed: true, results: [{ current: 1 }, { current: 1 }] },
    });
    for (let round = 0; round < 3; round += 1) {
      expect(await ask()).toMatchObject({
        ok: false,
        reason: 'rate_limited',
        rateLimit: { allowed: false, type: 'narrow' },
      });
    }
    const charged = await engine.peekRateLimit('wide', wide.identifier, 9, WINDOW_SECONDS);
    expect(charged).toMatchObject({ allowed: true, current: 1 });
  });
}
