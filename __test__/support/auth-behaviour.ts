/**
 * What tokens, users and JWT payloads promise, whatever the store: registered once per store, and in a cluster once
 * per state of it. Invariant: a test uses ids of its own, so the whole list can run again on the same servers.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Engine, User } from '../../index.js';
import type { Database, UserRow } from './database.js';
import { outcome, statements, statementsOf, until } from './engines.js';
import type { StoreKind } from './stores.js';
import { claimsOf, forged, signed, verified } from './tokens.js';

export interface Context {
  readonly db: Database;
  /** Two engines with the same options: two instances of the application. */
  readonly engine: Engine;
  readonly second: Engine;
  /** A third one, to which Postgres replies a while after it has read. */
  readonly slow: Engine;
}

/** The object an application gets for a row. */
export function asUser(row: UserRow): User {
  return {
    user_id: row.user_id,
    email: row.email,
    first_name: row.first_name,
    last_name: row.last_name,
    is_active: true,
    email_verified: row.email_verified,
    provider_uid: row.provider_uid,
    created_at: row.created_at === null ? null : new Date(row.created_at).toISOString(),
    updated_at: row.updated_at === null ? null : new Date(row.updated_at).toISOString(),
  };
}

/** Ids that a careless key would merge or break; each must be its own entry. */
const hostileIds: readonly string[] = [
  'a:b',
  'a',
  'a%3Ab',
  'a*',
  'a?',
  '[a-z]',
  '{a}',
  '{a}b',
  '{',
  'a b',
  ' a',
  'a\nb',
  'a\r\nDEL x\r\n',
  'a\tb',
  '"a"',
  "a'; DROP TABLE token_blacklist; --",
  '../a',
  '%00',
  'é',
  'e\u0301',
  '\u{1F511}',
  'A',
  'user_basic:a',
  'x'.repeat(255),
  'é'.repeat(255),
  '\u{1F511}'.repeat(255),
];

export function tokens(kind: StoreKind, context: () => Context): void {
  it('an unknown token is not revoked, and asking again asks only the store', async () => {
    const { engine } = context();
    const jti = randomUUID();
    expect(await engine.isTokenBlacklisted(jti)).toBe(false);
    const again = await statementsOf(engine, async () => {
      expect(await engine.isTokenBlacklisted(jti)).toBe(false);
    });
    expect(again).toBe(kind.caches ? 0 : 1);
  });

  it.each(['2001-01-01T00:00:00Z', '2099-01-01T00:00:00Z'])(
    'any row revokes, whatever its expires_at says (%s)',
    async (expiresAt) => {
      const { engine, db } = context();
      const jti = randomUUID();
      await db.revoke(jti, expiresAt);
      expect([await engine.isTokenBlacklisted(jti), await engine.isTokenBlacklisted(jti)]).toEqual([
        true,
        true,
      ]);
    },
  );

  it('blacklistToken writes the row once, as given, and revokes at once', async () => {
    const { engine, db } = context();
    const jti = randomUUID();
    const [userId, by] = [randomUUID(), randomUUID()];
    expect(await engine.isTokenBlacklisted(jti)).toBe(false);
    const revocation = {
      jti,
      userId,
      tokenType: 'refresh',
      expiresAt: new Date('2031-05-06T07:08:09.123Z'),
      reason: 'logout',
      blacklistedBy: by,
      ipAddress: '2001:db8::1',
      userAgent: 'agent/1 "x"',
    };
    expect(await engine.blacklistToken(revocation)).toEqual({
      acknowledged: true,
      queued: false,
      inserted: true,
    });
    expect(await engine.isTokenBlacklisted(jti)).toBe(true);
    const again = await engine.blacklistToken({ ...revocation, reason: 'another' });
    expect(again).toEqual({ acknowledged: true, queued: false, inserted: false });
    const columns = 'user_id, token_type, expires_at, reason, blacklisted_by, ip_address, user_agent';
    expect(await db.query(`SELECT ${columns} FROM token_blacklist WHERE jti = $1`, [jti])).toEqual([
      {
        user_id: userId,
        token_type: 'refresh',
        expires_at: revocation.expiresAt,
        reason: 'logout',
        blacklisted_by: by,
        ip_address: '2001:db8::1',
        user_agent: 'agent/1 "x"',
      },
    ]);
  });

  it('invalidateTokenCache revokes without a row', async () => {
    const { engine } = context();
    const jti = randomUUID();
    expect(await engine.isTokenBlacklisted(jti)).toBe(false);
    expect(await engine.invalidateTokenCache(jti)).toEqual({ acknowledged: true, queued: false });
    expect(await engine.isTokenBlacklisted(jti)).toBe(true);
  });

  it.each([
    ['invalidateTokenCache', (engine: Engine, jti: string) => engine.invalidateTokenCache(jti)],
    [
      'cacheTokenBlacklistStatus',
      (engine: Engine, jti: string) => engine.cacheTokenBlacklistStatus(jti, true),
    ],
  ])('a write of false never replaces what %s said', async (_, revoke) => {
    const { engine } = context();
    const jti = randomUUID();
    await engine.getCachedTokenBlacklistStatus(jti);
    await revoke(engine, jti);
    expect(await engine.cacheTokenBlacklistStatus(jti, false)).toBe(false);
    expect(await engine.isTokenBlacklisted(jti)).toBe(true);
    expect(await engine.getCachedTokenBlacklistStatus(jti)).toBe(true);
  });

  it('the primitives tell what is cached, and the source decides what is stored', async () => {
    const { engine } = context();
    const jti = randomUUID();
    const cost = await statementsOf(engine, async () => {
      expect(await engine.getCachedTokenBlacklistStatus(jti)).toBeNull();
      expect(await engine.cacheTokenBlacklistStatus(jti, false)).toBe(kind.caches);
      expect(await engine.getCachedTokenBlacklistStatus(jti)).toBe(kind.caches ? false : null);
    });
    expect(cost).toBe(kind.caches ? 1 : 0);
  });

  it('hostile ids are entries of their own', async () => {
    const { engine } = context();
    // A suffix within the width of the column keeps runs apart; the longest ids stay as they are.
    const run = randomUUID().slice(0, 8);
    const ids = hostileIds.map((id) => ([...id].length === 255 ? [...id].slice(8).join('') : id) + run);
    const [odd, even] = [ids.filter((_, at) => at % 2 === 1), ids.filter((_, at) => at % 2 === 0)];
    for (const id of ids) expect([id, await engine.isTokenBlacklisted(id)]).toEqual([id, false]);
    for (const id of odd) await engine.invalidateTokenCache(id);
    for (const id of odd) expect([id, await engine.isTokenBlacklisted(id)]).toEqual([id, true]);
    for (const id of even) expect([id, await engine.isTokenBlacklisted(id)]).toEqual([id, false]);
  });

  it('ids that only differ in a lone surrogate are not one entry', async () => {
    const { engine } = context();
    const run = randomUUID();
    const revoked = await outcome(engine.invalidateTokenCache(`\uD800${run}`));
    for (const other of [`\uD801${run}`, `\uDC00${run}`, `\uFFFD${run}`]) {
      const asked = await outcome(engine.isTokenBlacklisted(other));
      if ('error' in asked)
        expect(asked.error).toMatchObject({ code: 'E_INVALID_ARGUMENT', field: 'tokenId' });
      else expect(asked).toEqual({ value: false });
    }
    if ('error' in revoked)
      expect(revoked.error).toMatchObject({ code: 'E_INVALID_ARGUMENT', field: 'tokenId' });
  });

  it.each([
    ['empty', ''],
    ['of 256 characters', 'x'.repeat(256)],
    ['with NUL', 'a\0b'],
  ])('an id that is %s is refused', async (_, id) => {
    const { engine } = context();
    const refusal = { name: 'InvalidArgumentError', code: 'E_INVALID_ARGUMENT', field: 'tokenId' };
    await expect(engine.isTokenBlacklisted(id)).rejects.toMatchObject(refusal);
    await expect(engine.getCachedTokenBlacklistStatus(id)).rejects.toMatchObject(refusal);
    await expect(engine.cacheTokenBlacklistStatus(id, true)).rejects.toMatchObject(refusal);
    await expect(engine.invalidateTokenCache(id)).rejects.toMatchObject(refusal);
  });
}

export function users(kind: StoreKind, context: () => Context): void {
  it.each([
    { created_at: '2024-02-29 23:59:59.999999+00', updated_at: '1999-12-31 23:59:59.0004+14' },
    { created_at: '2026-03-29 01:30:00.5+01', updated_at: '0099-01-01 00:00:00.001+00' },
    { created_at: null, updated_at: null, email_verified: null, provider_uid: 0 },
    { first_name: 'Zoë "Z" \\ \u{1F600}\n', last_name: "O'Neil", provider_uid: -1, email_verified: true },
  ])('a user is the row, with ISO dates, on a miss and on a hit alike: %j', async (columns) => {
    const { engine, db } = context();
    const row = await db.addUser(columns);
    const missed = await engine.getUserById(row.user_id);
    const hit = await engine.getUserById(row.user_id);
    expect(missed).toEqual(asUser(row));
    expect(hit).toEqual(asUser(row));
    expect(Object.isFrozen(missed) && Object.isFrozen(hit)).toBe(true);
  });

  it('asking again asks only the store, and gives the same object until the entry changes', async () => {
    const { engine, db } = context();
    const { user_id: id } = await db.addUser();
    const first = await engine.getUserById(id);
    const cost = await statementsOf(engine, async () => {
      const again = await engine.getUserById(id);
      if (kind.caches) expect(again).toBe(first);
    });
    expect(cost).toBe(kind.caches ? 0 : 1);
    await engine.invalidateUserCache(id);
    const fresh = await engine.getUserById(id);
    expect(fresh).not.toBe(first);
    expect(fresh).toEqual(first);
  });

  it.each([
    ['deactivated', { is_active: false }],
    ['with is_active NULL', { is_active: null }],
    ['deleted', { deleted_at: '2020-01-01' }],
  ])('a user who is %s is denied, and the denial is cached', async (_, columns) => {
    const { engine, db } = context();
    const { user_id: id, email } = await db.addUser(columns);
    expect(await engine.getUserById(id)).toBeNull();
    const cost = await statementsOf(engine, async () => expect(await engine.getUserById(id)).toBeNull());
    expect(cost).toBe(kind.caches ? 0 : 1);
    expect(await engine.getUserByEmail(email)).toBeNull();
    expect(await engine.getCachedUserBasic(id)).toBeNull();
  });

  it('an unknown user is denied until an invalidation says that there is one', async () => {
    const { engine, db } = context();
    const id = randomUUID();
    expect(await engine.getUserById(id)).toBeNull();
    const row = await db.addUser({ user_id: id });
    await engine.invalidateUserCache(id);
    expect(await engine.getUserById(id)).toEqual(asUser(row));
  });

  it('both spellings of a uuid are one entry', async () => {
    const { engine, db } = context();
    const row = await db.addUser();
    const upper = row.user_id.toUpperCase();
    const first = await engine.getUserById(upper);
    expect(first).toEqual(asUser(row));
    const cost = await statementsOf(engine, () => engine.getUserById(row.user_id));
    expect(cost).toBe(kind.caches ? 0 : 1);
    await db.query('UPDATE users SET first_name = $2 WHERE user_id = $1', [row.user_id, 'Grace']);
    await engine.invalidateUserCache(upper);
    expect((await engine.getUserById(row.user_id))?.first_name).toBe('Grace');
  });

  it.each(['', 'x', '3f2504e04f8911d39a0c0305e82c3301', '3f2504e0-4f89-11d3-9a0c-0305e82c330g', '\uD800'])(
    'the id %j is refused',
    async (id) => {
      const refusal = { code: 'E_INVALID_ARGUMENT', field: 'userId' };
      await expect(context().engine.getUserById(id)).rejects.toMatchObject(refusal);
      await expect(context().engine.invalidateUserCache(id)).rejects.toMatchObject(refusal);
    },
  );

  it('fifty callers of a cold entry are one statement', async () => {
    const { engine, db } = context();
    const { user_id: id } = await db.addUser();
    const unlock = await db.lock('users');
    const cost = await statementsOf(engine, async () => {
      const all = Promise.all(Array.from({ length: 50 }, () => engine.getUserById(id)));
      await sleep(50);
      await unlock();
      expect(new Set((await all).map((user) => user?.user_id))).toEqual(new Set([id]));
    });
    // Without a store a caller shares only a load that began after it: those who came while one ran share the next.
    expect(cost).toBeGreaterThan(0);
    expect(cost).toBeLessThanOrEqual(kind.caches ? 1 : 3);
  });

  it('by address, compared as the column holds it', async () => {
    const { engine, db } = context();
    const row = await db.addUser({ email: `Ada.${randomUUID()}@Example.test` });
    expect(await engine.getUserByEmail(row.email)).toEqual(asUser(row));
    const cost = await statementsOf(engine, async () => {
      expect(await engine.getUserByEmail(row.email)).toEqual(asUser(row));
    });
    expect(cost).toBe(kind.caches ? 0 : 2);
    expect(await engine.getUserByEmail(row.email.toLowerCase())).toBeNull();
  });

  it('an address that moves from one user to another leads to the new owner', async () => {
    const { engine, db } = context();
    const address = `moving-${randomUUID()}@example.test`;
    const one = await db.addUser({ email: address });
    const two = await db.addUser();
    expect((await engine.getUserByEmail(address))?.user_id).toBe(one.user_id);
    await engine.getUserById(two.user_id);
    await db.query('UPDATE users SET email = $2 WHERE user_id = $1', [one.user_id, `old-${address}`]);
    await db.query('UPDATE users SET email = $2 WHERE user_id = $1', [two.user_id, address]);
    await engine.invalidateUserCache(one.user_id);
    await engine.invalidateUserCache(two.user_id);
    expect((await engine.getUserByEmail(address))?.user_id).toBe(two.user_id);
    expect((await engine.getUserByEmail(`old-${address}`))?.user_id).toBe(one.user_id);
    await db.query('UPDATE users SET is_active = false WHERE user_id = $1', [two.user_id]);
    await engine.invalidateUserCache(two.user_id);
    expect(await engine.getUserByEmail(address)).toBeNull();
  });

  it('a user the application loaded is stored without what does not belong there', async () => {
    const { engine, db } = context();
    const row = await db.addUser();
    expect(await engine.getCachedUserBasic(row.user_id)).toBeNull();
    expect(await engine.cacheUserBasic(row.user_id, row)).toBe(kind.caches);
    expect(await engine.getCachedUserBasic(row.user_id)).toEqual(kind.caches ? asUser(row) : null);
  });

  it('cacheUserBasic says true only when what was given is what is cached', async () => {
    const { engine, db } = context();
    const row = await db.addUser();
    const stored = await engine.cacheUserBasic(row.user_id, { ...row, first_name: 'Given' });
    const cached = await engine.getCachedUserBasic(row.user_id);
    expect({ stored, given: cached?.first_name === 'Given' }).toEqual({ stored, given: stored });
  });

  it('a user given as not active is a denial', async () => {
    const { engine, db } = context();
    const row = await db.addUser({ is_active: null });
    await engine.getCachedUserBasic(row.user_id);
    expect(await engine.cacheUserBasic(row.user_id, row)).toBe(kind.caches);
    expect(await engine.getCachedUserBasic(row.user_id)).toBeNull();
    expect(await engine.getUserById(row.user_id)).toBeNull();
  });

  it('a user given under the id of another is refused', async () => {
    const { engine, db } = context();
    const row = await db.addUser();
    const refusal = { code: 'E_INVALID_ARGUMENT', field: 'user.user_id' };
    await expect(engine.cacheUserBasic(randomUUID(), row)).rejects.toMatchObject(refusal);
  });

  it('an invalidation between the application reading and storing wins', async () => {
    const { engine, db } = context();
    const old = await db.addUser();
    await engine.getCachedUserBasic(old.user_id);
    await db.query('UPDATE users SET first_name = $2 WHERE user_id = $1', [old.user_id, 'Grace']);
    await engine.invalidateUserCache(old.user_id);
    await engine.cacheUserBasic(old.user_id, old);
    expect((await engine.getUserById(old.user_id))?.first_name).toBe('Grace');
    expect((await engine.getCachedUserBasic(old.user_id))?.first_name ?? 'Grace').toBe('Grace');
  });
}

export function payloads(kind: StoreKind, context: () => Context): void {
  it('a token is verified once and its payload is the same afterwards', async () => {
    const { engine } = context();
    const token = signed(claimsOf(randomUUID(), { nested: { list: [1, { deep: true }] } }));
    let runs = 0;
    const verify = (text: string) => {
      runs += 1;
      return verified(text);
    };
    const first = await engine.verifyTokenCached(token, verify);
    const second = await engine.verifyTokenCached(token, verify);
    const third = await engine.verifyTokenCached(token, verify);
    expect(first).toEqual(verified(token));
    expect(second).toEqual(first);
    expect(runs).toBe(kind.caches ? 1 : 3);
    if (kind.caches) expect(third).toBe(second);
    expect(await engine.getCachedJWTPayload(token)).toEqual(kind.caches ? first : null);
    expect(await engine.getCachedJWTPayload(forged(token))).toBeNull();
    await expect(engine.verifyTokenCached(forged(token), verify)).rejects.toThrow('invalid signature');
  });

  it('invalidateJWTPayload and invalidateAllUserTokens void it', async () => {
    const { engine } = context();
    const userId = randomUUID();
    const claims = claimsOf(userId, { iat: Math.floor(Date.now() / 1_000) - 60 });
    const [one, two] = [signed(claims), signed({ ...claims, jti: randomUUID() })];
    for (const token of [one, two]) {
      await engine.getCachedJWTPayload(token);
      expect(await engine.cacheJWTPayload(token, verified(token))).toBe(kind.caches);
    }
    expect(await engine.invalidateJWTPayload(claims.jti)).toEqual({ acknowledged: true, queued: false });
    expect(await engine.getCachedJWTPayload(one)).toBeNull();
    expect(await engine.getCachedJWTPayload(two)).toEqual(kind.caches ? verified(two) : null);
    expect(await engine.invalidateAllUserTokens(userId)).toEqual({ acknowledged: true, queued: false });
    expect(await engine.getCachedJWTPayload(two)).toBeNull();
  });
}

/** Only where two engines share a store. */
export function twoInstances(context: () => Context): void {
  it('a token revoked on one instance is revoked on the other at once', async () => {
    const { engine, second } = context();
    for (const revoke of [
      (jti: string) => engine.invalidateTokenCache(jti),
      (jti: string) => engine.cacheTokenBlacklistStatus(jti, true),
      (jti: string) =>
        engine.blacklistToken({
          jti,
          userId: randomUUID(),
          tokenType: 'access',
          expiresAt: Date.now(),
          reason: 'x',
        }),
    ]) {
      const jti = randomUUID();
      expect(await second.isTokenBlacklisted(jti)).toBe(false);
      await revoke(jti);
      expect(await second.isTokenBlacklisted(jti)).toBe(true);
      expect(await second.cacheTokenBlacklistStatus(jti, false)).toBe(false);
      expect(await second.isTokenBlacklisted(jti)).toBe(true);
    }
  });

  it('a user changed on one instance is changed on the other at once', async () => {
    const { engine, second, db } = context();
    const { user_id: id } = await db.addUser();
    for (const name of ['Grace', 'Barbara', 'Hedy']) {
      await Promise.all([engine.getUserById(id), second.getUserById(id)]);
      await db.query('UPDATE users SET first_name = $2 WHERE user_id = $1', [id, name]);
      await engine.invalidateUserCache(id);
      expect((await second.getUserById(id))?.first_name).toBe(name);
      expect((await second.getCachedUserBasic(id))?.first_name).toBe(name);
    }
  });

  it('what one instance loaded costs the other no statement', async () => {
    const { engine, second, db } = context();
    const row = await db.addUser();
    await engine.getUserByEmail(row.email);
    const cost = await statementsOf(second, async () => {
      expect(await second.getUserById(row.user_id)).toEqual(asUser(row));
      expect(await second.getUserByEmail(row.email)).toEqual(asUser(row));
    });
    expect(cost).toBe(0);
  });

  it('a payload voided on one instance is void on the other at once', async () => {
    const { engine, second } = context();
    const userId = randomUUID();
    for (const voids of [
      (jti: string) => engine.invalidateJWTPayload(jti),
      () => engine.invalidateAllUserTokens(userId),
    ]) {
      const claims = claimsOf(userId);
      const token = signed(claims);
      await second.verifyTokenCached(token, verified);
      expect(await second.getCachedJWTPayload(token)).toEqual(verified(token));
      await voids(claims.jti);
      expect(await second.getCachedJWTPayload(token)).toBeNull();
    }
  });
}

/** A load reads the source, then an invalidation is acknowledged, then the load's answer arrives. */
export function races(kind: StoreKind, context: () => Context): void {
  const invalidators = kind.shared ? (['slow', 'engine'] as const) : (['slow'] as const);

  /** Starts a load and resolves when Postgres has read, but not replied. */
  async function reading<T>(
    slow: Engine,
    load: () => Promise<T>,
  ): Promise<{ loading: Promise<T>; flying(): boolean }> {
    const before = statements(slow);
    let flying = true;
    const loading = load().finally(() => {
      flying = false;
    });
    await until('the statement is sent', () => statements(slow) > before);
    await sleep(40);
    return { loading, flying: () => flying };
  }

  it.each(invalidators)(
    'a user loaded before an invalidation (by %s) is not given afterwards',
    async (by) => {
      const { slow, engine, db, [by]: invalidator } = context();
      await slow.getUserById((await db.addUser()).user_id);
      const { user_id: id } = await db.addUser({ first_name: 'Old' });
      const { loading, flying } = await reading(slow, () => slow.getUserById(id));
      await db.query('UPDATE users SET first_name = $2 WHERE user_id = $1', [id, 'New']);
      await invalidator.invalidateUserCache(id);
      expect(flying()).toBe(true);
      expect((await slow.getUserById(id))?.first_name).toBe('New');
      await loading;
      expect((await slow.getUserById(id))?.first_name).toBe('New');
      expect((await engine.getUserById(id))?.first_name).toBe('New');
    },
  );

  it.each(invalidators)(
    'a token read as clean before it was revoked (by %s) is revoked afterwards',
    async (by) => {
      const { slow, [by]: invalidator } = context();
      await slow.isTokenBlacklisted(randomUUID());
      const jti = randomUUID();
      const { loading, flying } = await reading(slow, () => slow.isTokenBlacklisted(jti));
      await invalidator.invalidateTokenCache(jti);
      expect(flying()).toBe(true);
      expect(await slow.isTokenBlacklisted(jti)).toBe(true);
      await loading;
      expect(await slow.isTokenBlacklisted(jti)).toBe(true);
      expect(await invalidator.isTokenBlacklisted(jti)).toBe(true);
    },
  );
}

export function limits(context: () => Context): void {
  it('an aborted signal ends the waiting with its reason, and the work goes on for others', async () => {
    const { engine, db } = context();
    const row = await db.addUser();
    const reason = new Error('the visitor left');
    await expect(engine.getUserById(row.user_id, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await engine.invalidateUserCache(row.user_id);
    const unlock = await db.lock('users');
    const controller = new AbortController();
    const gone = engine.getUserById(row.user_id, { signal: controller.signal });
    const stays = engine.getUserById(row.user_id);
    controller.abort(reason);
    await expect(gone).rejects.toBe(reason);
    await unlock();
    expect(await stays).toEqual(asUser(row));
  });

  it('deadlineMs ends the call with E_DEADLINE, and the work goes on for others', async () => {
    const { engine, db } = context();
    const row = await db.addUser();
    const unlock = await db.lock('users');
    const stays = engine.getUserById(row.user_id);
    const started = performance.now();
    const short = await outcome(engine.getUserById(row.user_id, { deadlineMs: 100 }));
    const took = performance.now() - started;
    await unlock();
    expect(short).toMatchObject({ error: { name: 'DeadlineError', code: 'E_DEADLINE', retryable: true } });
    expect(took).toBeGreaterThanOrEqual(95);
    expect(took).toBeLessThan(500);
    expect(await stays).toEqual(asUser(row));
  });

  it.each([0, -1, 0.5, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 600_001, '50', null])(
    'deadlineMs %s is refused',
    async (deadlineMs) => {
      const options = { deadlineMs } as { deadlineMs: number };
      const refusal = { code: 'E_INVALID_ARGUMENT', field: 'deadlineMs' };
      await expect(context().engine.getUserById(randomUUID(), options)).rejects.toMatchObject(refusal);
    },
  );

  it('options are checked and a signal is heard on a near hit as on a miss', async () => {
    const { engine } = context();
    const jti = randomUUID();
    await engine.invalidateTokenCache(jti);
    const reason = new Error('left');
    const signal = AbortSignal.abort(reason);
    await expect(engine.isTokenBlacklisted(jti, { signal })).rejects.toBe(reason);
    const refusal = { code: 'E_INVALID_ARGUMENT', field: 'deadlineMs' };
    await expect(engine.isTokenBlacklisted(jti, { deadlineMs: -1 })).rejects.toMatchObject(refusal);
  });
}
