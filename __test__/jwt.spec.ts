/**
 * Cached JWT payloads are never given for another text, after `exp`, or after an invalidation, and `verify` runs as
 * the application wrote it. With real time and real signatures. Not the store's kinds: `auth.spec.ts` has those.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../index.js';
import { Engines, outcome, until } from './support/engines.js';
import { rounds } from './support/rounds.js';
import { type TestStore, valkey } from './support/stores.js';
import { type Claims, claimsOf, forged, nowSeconds, signed, verified } from './support/tokens.js';

const engines = new Engines();
let store: TestStore;
/** Two instances of the application on one store. */
let engine: Engine;
let second: Engine;
beforeAll(async () => {
  store = await valkey.start();
  engine = engines.start(store.options);
  second = engines.start(store.options);
});
afterAll(async () => {
  await engines[Symbol.asyncDispose]();
  await store?.[Symbol.asyncDispose]();
});

/** The application's verification, counted. */
function counting(): { verify: (token: string) => Record<string, unknown>; runs(): number } {
  let runs = 0;
  const verify = (token: string) => {
    runs += 1;
    return verified(token);
  };
  return { verify, runs: () => runs };
}

/** A verification that ends when the test says so. */
function held<T>(value: () => T): {
  verify: () => Promise<T>;
  started: Promise<void>;
  end(): void;
  runs(): number;
} {
  let start = (): void => undefined;
  let end = (): void => undefined;
  let runs = 0;
  const started = new Promise<void>((resolve) => {
    start = resolve;
  });
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const verify = async () => {
    runs += 1;
    start();
    await ended;
    return value();
  };
  return { verify, started, end: () => end(), runs: () => runs };
}

async function cached(claims: Claims, by: Engine = engine): Promise<string> {
  const token = signed(claims);
  await by.verifyTokenCached(token, verified);
  expect(await by.getCachedJWTPayload(token)).toEqual(claims);
  return token;
}

describe('another text with the same jti', () => {
  const claims = () => claimsOf(randomUUID());
  const others: readonly [string, (token: string, given: Claims) => string][] = [
    ['signature', (token) => forged(token)],
    ['no signature', (token) => `${token.split('.').slice(0, 2).join('.')}.`],
    ['header', (_, given) => signed(given, { alg: 'HS256', kid: '2' })],
    ['header alg none', (_, given) => signed(given, { alg: 'none' })],
    ['claim', (_, given) => signed({ ...given, role: 'admin' })],
    ['user', (_, given) => signed({ ...given, user_id: randomUUID() })],
    ['exp', (_, given) => signed({ ...given, exp: nowSeconds() + 7_200 })],
    ['order of claims', (_, given) => signed(Object.fromEntries(Object.entries(given).reverse()))],
  ];

  it.each(others)('is a miss: other %s', async (_, change) => {
    const given = claims();
    const token = await cached(given);
    const other = change(token, given);
    for (const instance of [engine, second]) {
      expect(await instance.getCachedJWTPayload(other)).toBeNull();
      const refusal = new Error('not this one');
      const verify = () => {
        throw refusal;
      };
      await expect(instance.verifyTokenCached(other, verify)).rejects.toBe(refusal);
      expect(await instance.getCachedJWTPayload(token)).toEqual(given);
    }
  });

  it('at the same time gets its own verification, never the other one', async () => {
    const given = claims();
    const token = signed(given);
    const slow = held(() => given);
    const good = engine.verifyTokenCached(token, slow.verify);
    await slow.started;
    const bad = outcome(engine.verifyTokenCached(forged(token), verified));
    expect(await bad).toMatchObject({ error: { message: 'invalid signature' } });
    slow.end();
    expect(await good).toEqual(given);
  });

  it('both valid: each is given its own payload', async () => {
    const given = claims();
    const one = signed(given);
    const two = signed({ ...given, scope: 'other' });
    for (let round = 0; round < 3; round += 1) {
      expect(await engine.verifyTokenCached(one, verified)).toEqual(given);
      expect(await engine.verifyTokenCached(two, verified)).toEqual({ ...given, scope: 'other' });
      expect(await engine.getCachedJWTPayload(one)).not.toMatchObject({ scope: 'other' });
    }
  });

  it('a forged one stored first does not get in the way of the real one', async () => {
    const given = claims();
    const token = signed(given);
    expect(await outcome(engine.verifyTokenCached(forged(token), verified))).toHaveProperty('error');
    const { verify, runs } = counting();
    await engine.verifyTokenCached(token, verify);
    await engine.verifyTokenCached(token, verify);
    expect(runs()).toBe(1);
  });
});

describe('exp', () => {
  it.each(['validated', 'bounded', 'off'] as const)('ends a payload in real time, near: %s', async (mode) => {
    const near = mode === 'bounded' ? { mode, maxAgeMs: 60_000 } : { mode };
    const mine = engines.start(store.options, { near: { jwt_payload: near } });
    const exp = nowSeconds() + 2;
    const claims = claimsOf(randomUUID(), { exp });
    const token = await cached(claims, mine);
    let given = 0;
    // A call made before the end may be answered with the payload; one made after must not be.
    for (;;) {
      const made = Date.now();
      const payload = await mine.getCachedJWTPayload(token);
      if (made >= exp * 1_000) {
        expect(payload).toBeNull();
        break;
      }
      if (payload !== null) given += 1;
      await sleep(3);
    }
    expect(given).toBeGreaterThan(0);
    await expect(mine.verifyTokenCached(token, verified)).rejects.toThrow('jwt expired');
    expect(await mine.cacheJWTPayload(token, claims)).toBe(false);
    expect(await second.getCachedJWTPayload(token)).toBeNull();
  });

  it('ends what the store keeps as well', async () => {
    const claims = claimsOf(randomUUID(), { exp: nowSeconds() + 100 });
    await cached(claims);
    const ttl = Number(await store.command('PTTL', `jwt_payload:${claims.jti}`));
    expect(ttl).toBeGreaterThan(90_000);
    expect(ttl).toBeLessThanOrEqual(100_000);
    const long = claimsOf(randomUUID(), { exp: nowSeconds() + 86_400 });
    await cached(long);
    expect(Number(await store.command('PTTL', `jwt_payload:${long.jti}`))).toBeLessThanOrEqual(300_000);
  });

  it.each([0, -1, '9999999999', null, Number.MAX_SAFE_INTEGER, 1e300, true, { a: 1 }])(
    'exp %j never makes a payload live on: verified each time, or given as verified',
    async (exp) => {
      const token = signed(claimsOf(randomUUID(), { exp }));
      const { verify, runs } = counting();
      const call = () => outcome(engine.verifyTokenCached(token, verify));
      await call();
      await call();
      expect(runs()).toBe(2);
      expect(await engine.getCachedJWTPayload(token)).toBeNull();
    },
  );
});

describe('an invalidation', () => {
  type Voids = (by: Engine, claims: Claims & { jti: string }) => Promise<unknown>;
  const voidings: readonly [string, Voids][] = [
    ['invalidateJWTPayload', (by, { jti }) => by.invalidateJWTPayload(jti)],
    ['invalidateAllUserTokens', (by, claims) => by.invalidateAllUserTokens(String(claims.user_id))],
    [
      'invalidateAllUserTokens, upper case',
      (by, claims) => by.invalidateAllUserTokens(String(claims.user_id).toUpperCase()),
    ],
  ];
  /** Issued before the invalidation. */
  const issuedBefore = () => claimsOf(randomUUID(), { iat: nowSeconds() - 10 });
  const cases = voidings.flatMap(([name, voids]) =>
    (['the same instance', 'another instance'] as const).map((by) => [name, by, voids] as const),
  );

  it.each(cases)('%s by %s voids a cached payload', async (_, by, voids) => {
    const claims = issuedBefore();
    const token = await cached(claims);
    await voids(by === 'the same instance' ? engine : second, claims);
    for (const instance of [engine, second]) {
      expect(await instance.getCachedJWTPayload(token)).toBeNull();
      const refusal = new Error('logged out');
      await expect(instance.verifyTokenCached(token, () => Promise.reject(refusal))).rejects.toBe(refusal);
    }
  });

  it.each(cases)('%s by %s while verify runs keeps its result out of the cache', async (_, by, voids) => {
    const claims = issuedBefore();
    const token = signed(claims);
    const slow = held(() => claims);
    const running = engine.verifyTokenCached(token, slow.verify);
    await slow.started;
    await voids(by === 'the same instance' ? engine : second, claims);
    const refusal = new Error('logged out');
    // A call made after the invalidation must not get what an earlier one is still verifying.
    const later = outcome(engine.verifyTokenCached(token, () => Promise.reject(refusal)));
    expect(await Promise.race([later, sleep(3_000, 'waits for the earlier one')])).toEqual({
      error: refusal,
    });
    slow.end();
    expect(await running).toEqual(claims);
    for (const instance of [engine, second]) expect(await instance.getCachedJWTPayload(token)).toBeNull();
    await expect(engine.verifyTokenCached(token, () => Promise.reject(refusal))).rejects.toBe(refusal);
  });

  it.each(cases)('%s by %s between getCached and cache refuses the write', async (_, by, voids) => {
    const claims = issuedBefore();
    const token = signed(claims);
    expect(await engine.getCachedJWTPayload(token)).toBeNull();
    await voids(by === 'the same instance' ? engine : second, claims);
    expect(await engine.cacheJWTPayload(token, claims)).toBe(false);
    for (const instance of [engine, second]) expect(await instance.getCachedJWTPayload(token)).toBeNull();
  });

  it('never loses against random reads, verifications and writes of two instances', async () => {
    // A verification notes when it began, on a clock that only counts.
    let clock = 0;
    for (let round = 0; round < rounds(400, 40); round += 1) {
      const claims = issuedBefore();
      const token = signed(claims);
      const verify = async () => {
        clock += 1;
        const payload = { ...claims, began: clock };
        await sleep(Math.random() * 4);
        return payload;
      };
      const noise = Array.from({ length: 8 }, async (_, at) => {
        const by = at % 2 === 0 ? engine : second;
        await sleep(Math.random() * 4);
        if (at % 4 < 2) await by.verifyTokenCached<object>(token, verify);
        else if ((await by.getCachedJWTPayload(token)) === null)
          await by.cacheJWTPayload(token, await verify());
      });
      await sleep(Math.random() * 6);
      clock += 1;
      const voided = clock;
      const [, voids] = voidings[round % voidings.length] ?? ['', async () => undefined];
      await voids(round % 2 === 0 ? engine : second, claims);
      for (const instance of [engine, second, engine]) {
        const kept = await instance.getCachedJWTPayload(token);
        expect(Number(kept?.began ?? clock)).toBeGreaterThanOrEqual(voided);
        const given = await instance.verifyTokenCached<{ began: number }>(token, verify);
        expect(given.began).toBeGreaterThan(voided);
      }
      await Promise.all(noise);
      for (const instance of [engine, second]) {
        const kept = await instance.getCachedJWTPayload(token);
        expect(Number(kept?.began ?? clock)).toBeGreaterThan(voided);
      }
    }
    expect(engine.getMetrics().namespaces.jwt_payload.corrupt).toBe(0);
  });

  it('invalidateAllUserTokens leaves other users and later tokens alone', async () => {
    const [mine, other] = [issuedBefore(), issuedBefore()];
    const [voided, kept] = [await cached(mine), await cached(other)];
    await second.invalidateAllUserTokens(String(mine.user_id));
    expect(await engine.getCachedJWTPayload(kept)).toEqual(other);
    expect(await engine.getCachedJWTPayload(voided)).toBeNull();
    const { verify, runs } = counting();
    await engine.verifyTokenCached(voided, verify);
    await engine.verifyTokenCached(voided, verify);
    expect(runs()).toBe(2);
    const later = claimsOf(String(mine.user_id), { iat: nowSeconds() + 1 });
    await cached(later);
  });

  it('invalidateJWTPayload keeps a token out for as long as the entry could have lived', async () => {
    const claims = issuedBefore();
    const token = await cached(claims);
    await engine.invalidateJWTPayload(claims.jti);
    const { verify, runs } = counting();
    for (let round = 0; round < 3; round += 1) await second.verifyTokenCached(token, verify);
    expect(runs()).toBe(3);
    expect(Number(await store.command('PTTL', `jwt_payload:${claims.jti}`))).toBeGreaterThan(290_000);
  });

  it('of somebody else leaves the payload in place', async () => {
    const claims = issuedBefore();
    const token = await cached(claims);
    await engine.invalidateJWTPayload(randomUUID());
    await engine.invalidateAllUserTokens(randomUUID());
    expect(await engine.getCachedJWTPayload(token)).toEqual(claims);
  });
});

describe('verify', () => {
  it('runs once for concurrent callers of one token, who all get its result', async () => {
    const claims = claimsOf(randomUUID());
    const token = signed(claims);
    const slow = held(() => claims);
    const calls = Array.from({ length: 100 }, () => engine.verifyTokenCached(token, slow.verify));
    await slow.started;
    await sleep(50);
    slow.end();
    for (const payload of await Promise.all(calls)) {
      expect(payload).toEqual(claims);
      expect(Object.isFrozen(payload)).toBe(true);
    }
    expect(slow.runs()).toBe(1);
  });

  it.each<[string, unknown]>([
    ['an error', Object.assign(new Error('expired'), { code: 'ERR_JWT_EXPIRED' })],
    ['a text', 'no'],
    ['undefined', undefined],
    ['null', null],
    ['a frozen object', Object.freeze({ a: 1 })],
  ])(
    'rejecting with %s: passed unchanged to all concurrent callers, not cached, run once',
    async (_, reason) => {
      const token = signed(claimsOf(randomUUID()));
      const slow = held<object>(() => {
        throw reason;
      });
      const calls = Array.from({ length: 20 }, () => outcome(engine.verifyTokenCached(token, slow.verify)));
      await slow.started;
      await sleep(50);
      slow.end();
      for (const ended of await Promise.all(calls)) {
        expect('error' in ended && Object.is(ended.error, reason)).toBe(true);
      }
      expect(slow.runs()).toBe(1);
      const { verify, runs } = counting();
      expect(await engine.verifyTokenCached(token, verify)).toEqual(verified(token));
      expect(runs()).toBe(1);
    },
  );

  it('throwing synchronously is a rejection', async () => {
    const reason = new TypeError('no key');
    const verify = () => {
      throw reason;
    };
    await expect(engine.verifyTokenCached(signed(claimsOf(randomUUID())), verify)).rejects.toBe(reason);
  });

  it('keeps the AsyncLocalStorage of its caller, and every caller keeps its own', async () => {
    const storage = new AsyncLocalStorage<number>();
    const tokens = Array.from({ length: 10 }, () => signed(claimsOf(randomUUID())));
    const seen: (readonly [number, number | undefined, number | undefined])[] = [];
    const after = await Promise.all(
      Array.from({ length: 30 }, (_, request) =>
        storage.run(request, async () => {
          // Three requests share a token, so some callers lead and others wait.
          await engine.verifyTokenCached(tokens[request % 10] ?? '', async (text) => {
            const first = storage.getStore();
            await sleep(5);
            seen.push([request, first, storage.getStore()]);
            return verified(text);
          });
          return storage.getStore();
        }),
      ),
    );
    expect(after).toEqual(Array.from({ length: 30 }, (_, request) => request));
    expect(seen).toHaveLength(10);
    expect(seen).toEqual(seen.map(([request]) => [request, request, request]));
  });

  it.each<[string, unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['a text', 'payload'],
    ['a number', 7],
    ['a list', [{}]],
    ['a Date', new Date()],
    ['a function', () => ({})],
    [
      'a cycle',
      (() => {
        const a: Record<string, unknown> = {};
        a.a = a;
        return a;
      })(),
    ],
    ['a bigint inside', { a: 1n }],
  ])('returning %s is refused and not cached', async (_, result) => {
    const token = signed(claimsOf(randomUUID()));
    const verify = () => result as object;
    await expect(engine.verifyTokenCached(token, verify)).rejects.toMatchObject({
      code: 'E_INVALID_ARGUMENT',
    });
    expect(await engine.getCachedJWTPayload(token)).toBeNull();
  });

  it('gives the payload as JSON carries it, the first time and later alike', async () => {
    const token = signed(claimsOf(randomUUID()));
    const result = {
      at: new Date(0),
      gone: undefined,
      deep: { list: [1, undefined, Number.NaN] },
      text: '\uD800 \u2028"',
    };
    const expected = JSON.parse(JSON.stringify(result)) as object;
    const first = await engine.verifyTokenCached<object>(token, () => result);
    const [hit, elsewhere] = [
      await engine.getCachedJWTPayload(token),
      await second.getCachedJWTPayload(token),
    ];
    expect([first, hit, elsewhere]).toEqual([expected, expected, expected]);
    const deep = (hit as unknown as { deep: { list: number[] } }).deep;
    expect([Object.isFrozen(hit), Object.isFrozen(deep), Object.isFrozen(deep.list)]).toEqual([
      true,
      true,
      true,
    ]);
    expect(Object.isFrozen(result)).toBe(false);
  });

  it('deadlineMs and a signal end the waiting for it, not verify itself', async () => {
    const claims = claimsOf(randomUUID());
    const token = signed(claims);
    const slow = held(() => claims);
    const reason = new Error('left');
    const controller = new AbortController();
    const leader = outcome(engine.verifyTokenCached(token, slow.verify, { signal: controller.signal }));
    await slow.started;
    const follower = outcome(engine.verifyTokenCached(token, slow.verify, { deadlineMs: 100 }));
    const stays = engine.verifyTokenCached(token, slow.verify);
    controller.abort(reason);
    expect(await leader).toEqual({ error: reason });
    expect(await follower).toMatchObject({ error: { code: 'E_DEADLINE' } });
    slow.end();
    expect(await stays).toEqual(claims);
    expect(slow.runs()).toBe(1);
  });

  it('deadlineMs also ends the waiting of the caller whose verify it is', async () => {
    const slow = held(() => ({}));
    const call = outcome(
      engine.verifyTokenCached(signed(claimsOf(randomUUID())), slow.verify, { deadlineMs: 100 }),
    );
    const first = await Promise.race([call, sleep(2_000, 'still waiting')]);
    slow.end();
    await call;
    expect(first).toMatchObject({ error: { code: 'E_DEADLINE' } });
  });

  it('that never ends does not hold up others for ever', async () => {
    const mine = engines.start(store.options, { cacheLeaseMs: 500 });
    const claims = claimsOf(randomUUID());
    const token = signed(claims);
    void mine.verifyTokenCached(token, () => new Promise<object>(() => undefined));
    await sleep(50);
    const { verify, runs } = counting();
    expect(await mine.verifyTokenCached(token, verify, { deadlineMs: 10_000 })).toEqual(claims);
    expect(await second.verifyTokenCached(token, verify, { deadlineMs: 10_000 })).toEqual(claims);
    expect(runs()).toBeGreaterThanOrEqual(1);
  });

  it.each([undefined, null, 'x', {}])('given as %j is refused', async (verify) => {
    const call = engine.verifyTokenCached('a.b.c', verify as never);
    await expect(call).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT', field: 'verify' });
  });
});

describe('tokens that cannot be cached are verified every time', () => {
  const good = () => claimsOf(randomUUID());
  const without = (...names: string[]) =>
    Object.fromEntries(Object.entries(good()).filter(([name]) => !names.includes(name)));
  const part = (value: string) => Buffer.from(value).toString('base64url');
  const odd: readonly [string, () => string][] = [
    ['without jti', () => signed(without('jti'))],
    ['with an empty jti', () => signed({ ...good(), jti: '' })],
    ['with a number as jti', () => signed({ ...good(), jti: 7 })],
    ['without a user', () => signed(without('user_id'))],
    ['with a number as user', () => signed({ ...good(), user_id: 7 })],
    ['expired', () => signed({ ...good(), exp: nowSeconds() - 1 })],
    ['that is no JWT', () => 'opaque-session-id'],
    ['of two parts', () => 'a.b'],
    ['of four parts', () => `${signed(good())}.x`],
    ['of five parts', () => 'a.b.c.d.e'],
    ['with claims that are not base64url', () => 'a.!!!.c'],
    ['with padded claims', () => `a.${Buffer.from('{"jti":"a","sub":"b"}').toString('base64')}=.c`],
    ['with claims that are no JSON', () => `a.${part('{"jti":')}.c`],
    ['with claims that are a list', () => `a.${part('["jti"]')}.c`],
    ['with claims that are not UTF-8', () => `a.${Buffer.from([0x7b, 0xff, 0x7d]).toString('base64url')}.c`],
    [
      'with claims nested a thousand deep',
      () => `a.${part(`{"jti":"a","sub":"b","x":${'['.repeat(1_000)}${']'.repeat(1_000)}}`)}.c`,
    ],
    ['with a jti of a lone surrogate', () => `a.${part('{"jti":"\\ud800","sub":"b"}')}.c`],
  ];

  it.each(odd)('%s', async (_, make) => {
    const token = make();
    let runs = 0;
    const verify = () => {
      runs += 1;
      return { runs };
    };
    expect(await engine.verifyTokenCached<object>(token, verify)).toEqual({ runs: 1 });
    expect(await engine.verifyTokenCached<object>(token, verify)).toEqual({ runs: 2 });
    expect(await engine.getCachedJWTPayload(token)).toBeNull();
    expect(await engine.cacheJWTPayload(token, { a: 1 })).toBe(false);
    const reason = new Error('no');
    await expect(engine.verifyTokenCached(token, () => Promise.reject(reason))).rejects.toBe(reason);
  });

  it('without exp it is cached for five minutes, as any other', async () => {
    const claims = without('exp') as Claims & { jti: string };
    await cached(claims);
    const ttl = Number(await store.command('PTTL', `jwt_payload:${claims.jti}`));
    expect(ttl).toBeGreaterThan(290_000);
    expect(ttl).toBeLessThanOrEqual(300_000);
  });

  it.each(['user_id', 'userId', 'sub'])('the user may be in the claim %s', async (claim) => {
    const userId = randomUUID();
    const token = await cached({ ...without('user_id'), [claim]: userId, iat: nowSeconds() - 10 });
    await second.invalidateAllUserTokens(userId);
    expect(await engine.getCachedJWTPayload(token)).toBeNull();
  });

  it('jwtUserClaims names other claims', async () => {
    const mine = engines.start(store.options, { jwtUserClaims: ['https://example.test/uid'] });
    const userId = randomUUID();
    const token = await cached({ ...without('user_id'), 'https://example.test/uid': userId }, mine);
    expect(await engine.getCachedJWTPayload(token)).toBeNull();
    await mine.invalidateAllUserTokens(userId);
    expect(await mine.getCachedJWTPayload(token)).toBeNull();
  });

  it.each([
    ['empty', ''],
    ['larger than any header', `${'x'.repeat(20_000)}`],
    ['huge', `a.${'x'.repeat(8 << 20)}.c`],
  ])('a text that is %s is refused at once', async (_, token) => {
    const refusal = { code: 'E_INVALID_ARGUMENT', field: 'token' };
    const { verify, runs } = counting();
    await expect(engine.verifyTokenCached(token, verify)).rejects.toMatchObject(refusal);
    await expect(engine.getCachedJWTPayload(token)).rejects.toMatchObject(refusal);
    await expect(engine.cacheJWTPayload(token, {})).rejects.toMatchObject(refusal);
    expect(runs()).toBe(0);
  });

  it('a token as large as a header may be is cached like any other', async () => {
    const claims = claimsOf(randomUUID(), { groups: 'g'.repeat(11_000) });
    const token = await cached(claims);
    expect(token.length).toBeGreaterThan(14_000);
  });

  it('a payload too large for an entry is given and not cached', async () => {
    const token = signed(claimsOf(randomUUID()));
    const large = { data: 'x'.repeat(2 << 20) };
    expect(await engine.verifyTokenCached<object>(token, () => large)).toEqual(large);
    expect(await engine.getCachedJWTPayload(token)).toBeNull();
  });

  it('a jti that looks like another key is only a jti', async () => {
    const shared = randomUUID();
    const claims = claimsOf(randomUUID(), { jti: `x:{${shared}}*\n${shared}` });
    await cached(claims);
    const keys = (await store.dump()).map(([key]) => key).filter((key) => key.includes(shared));
    expect(keys).toEqual([`jwt_payload:x%3A%7B${shared}%7D%2A%0A${shared}`]);
  });
});

it('nothing of a token or its signature is stored', async () => {
  const token = await cached(claimsOf(randomUUID()));
  const [, , signature = ''] = token.split('.');
  await until('stored', async () => (await store.dump()).length > 0);
  for (const [key, value] of await store.dump()) {
    expect(key.includes(signature) || value.includes(signature) || value.includes(token)).toBe(false);
  }
});
