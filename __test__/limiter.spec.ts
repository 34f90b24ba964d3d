/**
 * Rate limits as an application uses them, on every store. Not their arithmetic (that is compared with two servers and
 * a plain list in Rust), and not what happens while a store is away.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CombinedRateLimitResult, Engine, RateLimitResult } from '../index.js';
import * as api from '../index.js';
import { Engines } from './support/engines.js';
import { stores, type TestStore } from './support/stores.js';

const admitted = (results: readonly RateLimitResult[]) => results.filter(({ allowed }) => allowed).length;

describe.each(stores)('$name', (kind) => {
  const engines = new Engines();
  let store: TestStore;
  let engine: Engine;
  /** Another process, where there can be one. */
  let other: Engine;
  beforeAll(async () => {
    store = await kind.start();
    const options = { ...store.options, rateLimits: { export: { limit: 2, windowSeconds: 60 } } };
    engine = engines.start(options);
    other = kind.shared ? engines.start(options) : engine;
    await Promise.all([engine, other].map((one) => one.checkRateLimit('first', 'contact', 5, 60)));
  });
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await store?.[Symbol.asyncDispose]();
  });
  const limiter = () => engine.getMetrics().limiter;

  it('says what is left, since when and until when', async () => {
    const id = randomUUID();
    const before = Date.now();
    const [first, second, third] = [
      await engine.checkRateLimit('api', id, 2, 60),
      await other.checkRateLimit('api', id, 2, 60),
      await engine.checkRateLimit('api', id, 2, 60),
    ];
    expect(first).toMatchObject({ allowed: true, current: 1, limit: 2, remaining: 1, retryAfterMs: 0 });
    expect(first).toMatchObject({ type: 'api', windowSeconds: 60, degraded: !kind.caches });
    expect(second).toMatchObject({ allowed: true, current: 2, remaining: 0 });
    expect(third).toMatchObject({ allowed: false, current: 2, remaining: 0 });
    for (const { resetTime, resetAt } of [first, second, third]) {
      expect(resetTime - before).toBeGreaterThan(59_000);
      expect(resetTime - Date.now()).toBeLessThanOrEqual(60_001);
      expect(resetAt).toBe(Math.ceil(resetTime / 1_000));
    }
    expect(third.retryAfterMs).toBeGreaterThan(59_000);
    expect(third.retryAfterMs).toBeLessThanOrEqual(60_000);
    expect(third.replenishAfterMs).toBe(third.retryAfterMs);
  });

  it('admits exactly the limit of a burst from two engines at once', async () => {
    const id = randomUUID();
    const burst = Array.from({ length: 400 }, (_, at) =>
      (at % 2 ? engine : other).checkRateLimit('burst', id, 37, 60),
    );
    const results = await Promise.all(burst);
    expect(admitted(results)).toBe(37);
    const left = results.filter(({ allowed }) => allowed).map(({ remaining }) => remaining);
    expect(left.sort((a, b) => a - b)).toEqual(Array.from({ length: 37 }, (_, at) => at));
  });

  it('slides: what was admitted is back a window after it was, not at a boundary', async () => {
    const id = randomUUID();
    const check = () => engine.checkRateLimit('sliding', id, 3, 0.4);
    expect(admitted([await check(), await check()])).toBe(2);
    await sleep(200);
    expect(admitted([await check(), await check()])).toBe(1);
    const denied = await check();
    expect(denied.retryAfterMs).toBeLessThanOrEqual(200);
    await sleep(denied.retryAfterMs + 30);
    // The two of the beginning are back, the one of the middle is not.
    expect(admitted([await check(), await check(), await check()])).toBe(2);
  });

  it('charges a cost as a whole or not at all, and tells later from never', async () => {
    const id = randomUUID();
    const ask = (cost: number) => engine.checkRateLimit('cost', id, 10, 60, { cost });
    expect(await ask(7)).toMatchObject({ allowed: true, remaining: 3 });
    expect(await ask(4)).toMatchObject({ allowed: false, remaining: 3 });
    expect(await ask(3)).toMatchObject({ allowed: true, remaining: 0 });
    const never = await ask(11);
    expect(never).toMatchObject({ allowed: false, retryAfterMs: Number.POSITIVE_INFINITY });
    expect(api.rateLimitResponse(never).headers.get('retry-after')).toBeNull();
  });

  it('a look charges nothing', async () => {
    const id = randomUUID();
    for (let at = 0; at < 3; at += 1) {
      expect(await other.peekRateLimit('peek', id, 1, 60)).toMatchObject({ allowed: true, current: 0 });
    }
    await engine.checkRateLimit('peek', id, 1, 60);
    const seen = await other.peekRateLimit('peek', id, 1, 60);
    expect(seen).toMatchObject({ allowed: false, current: 1, remaining: 0 });
  });

  it('a reset, a reward and a block are in effect for everybody when they resolve', async () => {
    const id = randomUUID();
    const check = (who: Engine) => who.checkRateLimit('changed', id, 2, 60);
    const used = async () => [
      await check(engine),
      await check(other),
      await check(engine),
      await check(other),
    ];
    expect(admitted(await used())).toBe(2);
    expect(await other.resetRateLimit('changed', id)).toEqual({ acknowledged: true, queued: false });
    expect((await check(other)).allowed).toBe(true);
    if (kind.caches) {
      await check(other);
      await other.rewardRateLimit('changed', id, 2, 60, 1);
      expect(admitted([await check(other), await check(other)])).toBe(1);
    }
    await engine.resetRateLimit('changed', id);
    await other.blockRateLimit('changed', id, 2, 60, 0.3);
    const blocked = await check(engine);
    expect(blocked).toMatchObject({ allowed: false, remaining: 0 });
    expect(blocked.retryAfterMs).toBeGreaterThan(200);
    await sleep(blocked.retryAfterMs + 5);
    expect((await check(engine)).allowed).toBe(true);
    await other.blockRateLimit('changed', id, 2, 60, 3_600);
    expect((await check(other)).allowed).toBe(false);
    await other.blockRateLimit('changed', id, 2, 60, 0);
    expect((await check(other)).allowed).toBe(true);
  });

  it('a reset elsewhere ends a denial that is known here', async () => {
    const id = randomUUID();
    const check = () => engine.checkRateLimit('elsewhere', id, 1, 60);
    expect(admitted([await check(), await check(), await check()])).toBe(1);
    const end = Date.now() + 2_000;
    await other.resetRateLimit('elsewhere', id);
    while (!(await check()).allowed) {
      expect(Date.now()).toBeLessThan(end);
      await sleep(5);
    }
  });

  it('a denial costs no command until it is over', async () => {
    if (!kind.caches) return;
    const id = randomUUID();
    const check = () => engine.checkRateLimit('attack', id, 1, 0.5);
    await check();
    const denied = await check();
    const { commands } = engine.getMetrics().store;
    const near = limiter().deniedNear;
    for (let at = 0; at < 50; at += 1) expect((await check()).allowed).toBe(false);
    expect(limiter().deniedNear - near).toBe(50);
    // Heartbeats apart, which are one in 400 ms.
    expect(engine.getMetrics().store.commands - commands).toBeLessThanOrEqual(2);
    // Another limit is another question.
    expect((await engine.checkRateLimit('attack', id, 2, 0.5)).allowed).toBe(true);
    await sleep(denied.retryAfterMs + 40);
    expect((await check()).allowed).toBe(true);
  });

  it('a limit may change and keeps what was counted, also across the size at which it is stored otherwise', async () => {
    const id = randomUUID();
    const ask = (limit: number, cost = 1) => engine.checkRateLimit('grown', id, limit, 60, { cost });
    expect(admitted([await ask(2), await ask(2), await ask(2)])).toBe(2);
    expect(await ask(5)).toMatchObject({ allowed: true, remaining: 2 });
    // What is written in another form counts at least as much.
    const { allowed, current } = await ask(5_000, 1_000);
    expect([allowed, current >= 1_003, current < 1_010]).toEqual([true, true, true]);
    expect((await ask(5)).allowed).toBe(false);
  });

  it('large limits never admit too much', async () => {
    const id = randomUUID();
    const burst = Array.from({ length: 300 }, (_, at) =>
      (at % 2 ? engine : other).checkRateLimit('large', id, 2_000, 60, { cost: 10 }),
    );
    expect(admitted(await Promise.all(burst))).toBe(200);
    expect((await other.checkRateLimit('large', id, 2_000, 60)).allowed).toBe(false);
    if (kind.name === 'Valkey, standalone') {
      const [[, value] = ['', '']] = (await store.dump()).filter(([key]) => key.includes(id));
      expect(value.length).toBeLessThan(600);
    }
  });

  it('checks of one turn travel together, those of one limit as one', async () => {
    const [one, two] = [randomUUID(), randomUUID()];
    const before = { ...engine.getMetrics().store, joined: limiter().joined };
    const checks = Array.from({ length: 200 }, (_, at) =>
      engine.checkRateLimit('turn', at % 2 ? one : two, 30, 60, { cost: 1 + (at % 3) }),
    );
    const results = await Promise.all(checks);
    for (const parity of [0, 1]) {
      // As if they had come one after the other: each is charged when it fits, also after a larger one did not.
      let left = 30;
      for (let at = parity; at < 200; at += 2) {
        const cost = 1 + (at % 3);
        expect(results[at]?.allowed).toBe(cost <= left);
        if (cost <= left) left -= cost;
        expect(results[at]?.remaining).toBe(left);
      }
    }
    if (!kind.caches || kind.mode === 'embedded') return;
    expect(engine.getMetrics().store.roundTrips - before.roundTrips).toBeLessThanOrEqual(2);
    expect(limiter().joined - before.joined).toBeGreaterThan(60);
  });

  it('checks of many limits in one turn are each their own, of either form, at any cost', async () => {
    // More than one script call takes, some of them of an identifier that was asked before, used up or blocked.
    const whose = Array.from({ length: 150 }, (_, at) => ({
      ...{ id: randomUUID(), limit: at % 3 === 0 ? 4_000 : 4, used: 0, blocked: at % 50 === 49 },
    }));
    for (const { id, limit, blocked } of whose)
      if (blocked && kind.caches) await engine.blockRateLimit('many', id, limit, 60, 30);
    for (let turn = 0; turn < 4; turn += 1) {
      const asked = whose.filter((_, at) => (at + turn) % 5 > 0);
      const unit = (limit: number) => (limit / 4) * (1 + (turn % 2));
      const told = await Promise.all(
        asked.map(({ id, limit }, at) =>
          (at % 2 ? engine : other).checkRateLimit('many', id, limit, 60, { cost: unit(limit) }),
        ),
      );
      for (const [at, one] of asked.entries()) {
        const allowed = one.used + unit(one.limit) <= one.limit && !(one.blocked && kind.caches);
        if (allowed) one.used += unit(one.limit);
        const remaining = one.blocked && kind.caches ? 0 : one.limit - one.used;
        expect(told[at]).toMatchObject({ allowed, remaining, degraded: !kind.caches });
        expect((told[at] as RateLimitResult).retryAfterMs > 0).toBe(!allowed);
      }
    }
  });

  describe('several at once', () => {
    const both = (id: string, who = id) => [
      { type: 'wide', identifier: id, limit: 10, windowSeconds: 60 },
      { type: 'narrow', identifier: who, limit: 3, windowSeconds: 60 },
    ];

    it('are charged all or none', async () => {
      const id = randomUUID();
      const results: CombinedRateLimitResult[] = [];
      for (let at = 0; at < 6; at += 1)
        results.push(await (at % 2 ? engine : other).checkRateLimits(both(id)));
      expect(admitted(results)).toBe(3);
      expect(results[0]).toMatchObject({ type: 'narrow', remaining: 2, results: [{ remaining: 9 }, {}] });
      expect(results[5]).toMatchObject({ allowed: false, type: 'narrow', limit: 3 });
      expect((await engine.checkRateLimit('wide', id, 10, 60)).current).toBe(4);
    });

    it('of different identifiers are charged all or none as well', async () => {
      const shared = randomUUID();
      const ids = Array.from({ length: 6 }, () => randomUUID());
      for (const [at, id] of ids.entries()) {
        expect((await engine.checkRateLimits(both(id, shared))).allowed).toBe(at < 3);
      }
      for (const [at, id] of ids.entries()) {
        const { current } = await other.peekRateLimit('wide', id, 10, 60);
        expect(current).toBe(at < 3 ? 1 : 0);
      }
    });

    it('at the same time admit exactly the smallest', async () => {
      const id = randomUUID();
      const burst = Array.from({ length: 60 }, (_, at) =>
        (at % 2 ? engine : other).checkRateLimits(both(id)),
      );
      expect(admitted(await Promise.all(burst))).toBe(3);
      expect((await engine.checkRateLimit('wide', id, 10, 60)).current).toBe(4);
    });

    it('may be named', async () => {
      const id = randomUUID();
      const named = [{ type: 'export', identifier: id }];
      for (const allowed of [true, true, false]) {
        expect(await engine.checkRateLimits(named)).toMatchObject({ allowed, limit: 2, windowSeconds: 60 });
      }
    });

    it('twice the same is refused before anything is charged', async () => {
      const id = randomUUID();
      const twice = [...both(id), ...both(id)];
      await expect(engine.checkRateLimits(twice)).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT' });
      expect((await engine.peekRateLimit('wide', id, 10, 60)).current).toBe(0);
    });
  });

  it('a limiter object is one limit, and two of them are two', async () => {
    const id = randomUUID();
    const [a, b] = [60_000, 30_000].map((windowMs) => new api.RedisRateLimiter(windowMs, 1, { engine }));
    const named = new api.RedisRateLimiter(60_000, 1, { engine: other, name: '1/60000ms' });
    expect(await a?.checkLimit(id)).toMatchObject({ success: true, remaining: 0, limit: 1 });
    expect(await b?.checkLimit(id)).toMatchObject({ success: true });
    expect((await named.checkLimit(id)).success).toBe(false);
    await named.resetLimit(id);
    expect((await named.checkLimit(id)).success).toBe(true);
  });

  it('types and identifiers that look alike do not collide, whatever they hold', async () => {
    const id = randomUUID();
    const hostile = ['a:b', 'a', 'a:{b}', '*', 'b\n', 'ä€😀', '', '{}', '%3A'];
    for (const type of hostile.filter((one) => one !== '')) {
      for (const suffix of hostile) {
        const result = await engine.checkRateLimit(`${type}`, `${id}${suffix}`, 1, 60);
        expect([type, suffix, result.allowed]).toEqual([type, suffix, true]);
      }
    }
  });

  it('a request is counted against a named limit, and the answer to a denied one is ready', async () => {
    const address = `2001:db8:${randomUUID().slice(0, 4)}::7`;
    const request = new Request('http://localhost/', {
      headers: { 'x-forwarded-for': `6.6.6.6, ${address}` },
    });
    const options = { trustedProxies: 1 };
    const first = await engine.applyRateLimit(request, 'export', options);
    expect(first).toMatchObject({ success: true, allowed: true, limit: 2, response: null });
    await other.applyRateLimit(request, 'export', options);
    const denied = await engine.applyRateLimit(request, 'export', options);
    expect(denied.success).toBe(false);
    expect(denied.response?.status).toBe(429);
    expect(denied.response?.headers.get('content-type')).toBe('application/problem+json');
    expect(Number(denied.response?.headers.get('retry-after'))).toBeGreaterThan(55);
    expect(await denied.response?.json()).toMatchObject({ status: 429, 'violated-policies': ['export'] });
    const spoofed = new Request(request, { headers: { 'x-forwarded-for': `9.9.9.9, ${address}` } });
    expect((await engine.applyRateLimit(spoofed, 'export', options)).success).toBe(false);
    const user = await engine.applyRateLimit(request, 'export', { identifier: randomUUID() });
    expect(user.success).toBe(true);
    const answer = api.addRateLimitHeaders(new Response('ok'), user);
    expect(answer.headers.get('ratelimit-policy')).toBe('"export";q=2;w=60');
    expect(answer.headers.get('x-ratelimit-remaining')).toBe('1');
  });

  it.each<[what: string, call: (engine: Engine) => Promise<unknown>, field: string]>([
    ['no type', (one) => one.checkRateLimit('', 'u', 1, 1), 'type'],
    ['no text', (one) => one.checkRateLimit('t', 7 as unknown as string, 1, 1), 'identifier'],
    ['half a character', (one) => one.checkRateLimit('t', '\ud800', 1, 1), 'identifier'],
    ['no identifier', (one) => one.checkRateLimit('t', '', 1, 1), 'identifier'],
    ['no user to reset', (one) => one.resetRateLimit('t', ''), 'identifier'],
    ['a long type', (one) => one.checkRateLimit('t'.repeat(1_025), 'u', 1, 1), 'type'],
    ['a limit of 0', (one) => one.checkRateLimit('t', 'u', 0, 1), 'limit'],
    ['a limit that is none', (one) => one.checkRateLimit('t', 'u', Number.NaN, 1), 'limit'],
    ['a limit beyond counting', (one) => one.checkRateLimit('t', 'u', 2 ** 32, 1), 'limit'],
    ['no window', (one) => one.checkRateLimit('t', 'u', 1, 0), 'windowSeconds'],
    ['a window of months', (one) => one.checkRateLimit('t', 'u', 1, 1e7), 'windowSeconds'],
    ['a cost of 0', (one) => one.checkRateLimit('t', 'u', 1, 1, { cost: 0 }), 'cost'],
    ['a cost of 0.5', (one) => one.checkRateLimit('t', 'u', 1, 1, { cost: 0.5 }), 'cost'],
    [
      'no policy',
      (one) => one.checkRateLimit('t', 'u', 1, 1, { onStoreFailure: 'x' as 'open' }),
      'onStoreFailure',
    ],
    ['no address', (one) => one.checkIpRateLimit('localhost', 1, 1), 'ip'],
    ['no limits', (one) => one.checkRateLimits([]), 'limits'],
    ['a negative block', (one) => one.blockRateLimit('t', 'u', 1, 1, -1), 'blockSeconds'],
    [
      'an endless block',
      (one) => one.blockRateLimit('t', 'u', 1, 1, Number.POSITIVE_INFINITY),
      'blockSeconds',
    ],
    ['no reward', (one) => one.rewardRateLimit('t', 'u', 1, 1, 0), 'cost'],
    ['an unknown name', (one) => one.applyRateLimit({ headers: {} }, 'constructor'), 'type'],
    [
      'no address at all',
      (one) => one.applyRateLimit({ headers: {} }, 'api', { trustedProxies: 1 }),
      'request',
    ],
    [
      'a deadline that is none',
      (one) => one.checkRateLimit('t', 'u', 1, 1, { deadlineMs: -1 }),
      'deadlineMs',
    ],
  ])('refuses %s', async (_, call, field) => {
    const before = limiter().admitted;
    await expect(call(engine)).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT', field });
    expect(limiter().admitted).toBe(before);
  });

  it('asks who stands in front of it when nobody said', async () => {
    const request = { headers: { 'x-forwarded-for': '203.0.113.9' } };
    await expect(engine.applyRateLimit(request)).rejects.toMatchObject({
      code: 'E_CONFIG',
      field: 'RATE_LIMIT_TRUSTED_PROXIES',
    });
    const told = engines.start(store.options, { rateLimitTrustedProxies: ['10.0.0.0/8'] });
    const [one, two] = [await told.applyRateLimit(request), await told.applyRateLimit(request)];
    expect([one.remaining, two.remaining]).toEqual([499, 498]);
  });

  it('an aborted check rejects and charges nothing', async () => {
    const id = randomUUID();
    const signal = AbortSignal.abort(new Error('gone'));
    await expect(engine.checkRateLimit('t', id, 9, 60, { signal })).rejects.toThrow('gone');
    const limits = [{ type: 't', identifier: id, limit: 9, windowSeconds: 60 }];
    await expect(engine.checkRateLimits(limits, { signal })).rejects.toThrow('gone');
    expect((await engine.peekRateLimit('t', id, 9, 60)).current).toBe(0);
  });

  it('identifiers of any length are counted, and addresses by their network, whatever is done with them', async () => {
    const long = `${randomUUID()}${'u'.repeat(100_000)}`;
    expect((await engine.checkRateLimit('long', long, 1, 60)).allowed).toBe(true);
    expect((await other.checkRateLimit('long', long, 1, 60)).allowed).toBe(false);
    expect((await other.checkRateLimit('long', `${long}x`, 1, 60)).allowed).toBe(true);
    const network = `2001:db8:${randomUUID().slice(0, 4)}:1`;
    const check = (host: string) => engine.checkIpRateLimit(`${network}::${host}`, 1, 60);
    expect((await check('a')).allowed).toBe(true);
    expect((await engine.peekRateLimit('ip', `${network}::b`, 1, 60)).allowed).toBe(false);
    await engine.resetRateLimit('ip', `${network}::c`);
    expect((await check('d')).allowed).toBe(true);
  });

  it('expires: nothing is left a window after it was used', async () => {
    if (!kind.shared) return;
    const id = randomUUID();
    await engine.checkRateLimit('ttl', id, 3, 0.2);
    await engine.checkRateLimit('ttl', id, 3_000, 0.2);
    await sleep(450);
    expect((await store.dump()).filter(([key]) => key.includes(id))).toEqual([]);
  });

  it('is counted, and health says whether limits are shared', async () => {
    const id = randomUUID();
    const before = limiter();
    await engine.checkRateLimit('counted', id, 1, 60);
    await engine.checkRateLimit('counted', id, 1, 60);
    expect(limiter().admitted - before.admitted).toBe(1);
    expect(limiter().denied - before.denied).toBe(1);
    expect(engine.metricsText()).toMatch(/^bcos_ratelimit_denied_total [1-9]/m);
    const { limiter: health } = await engine.getHealth();
    expect(health.status).toBe(kind.caches ? 'healthy' : 'degraded');
    expect(health.reason === null).toBe(kind.caches);
  });
});

describe('the prefix', () => {
  it('separates applications, and a reset finds its key under it', async () => {
    const valkey = stores.find(({ name }) => name === 'Valkey, standalone');
    await using store = (await valkey?.start()) as TestStore;
    await using engines = new Engines();
    const [a, b] = ['a:', 'b:'].map((redisKeyPrefix) => engines.start(store.options, { redisKeyPrefix }));
    const check = async (one: Engine | undefined) => (await one?.checkRateLimit('api', 'u', 1, 60))?.allowed;
    expect([await check(a), await check(a), await check(b)]).toEqual([true, false, true]);
    expect((await store.dump()).map(([key]) => key).sort()).toEqual([
      'a:ratelimit:api:{u}',
      'b:ratelimit:api:{u}',
    ]);
    await a?.resetRateLimit('api', 'u');
    expect([await check(a), await check(b)]).toEqual([true, false]);
  });
});
