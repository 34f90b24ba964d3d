/**
 * One request: what it sees of a changing world (its snapshot), and whether it may go on (`authorizeRequest`), decided
 * with real token texts. Not about outages. Invariant: a verdict is right about the source, or says that it cannot tell.
 */
import { AsyncResource } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { type AuthorizeRequest, type Engine, withRequestSnapshot } from '../../index.js';
import { outcome, statementsOf } from './engines.js';
import { type Context, newPerson } from './rbac-behaviour.js';
import { wrong } from './rbac-judge.js';
import type { Person } from './rbac-world.js';
import type { StoreKind } from './stores.js';
import { claimsOf, forged, nowSeconds, signed, verified } from './tokens.js';

/** Runs an action as another request would: not inside of the snapshot of the caller. */
function elsewhere(): <T>(action: () => T) => T {
  const outside = new AsyncResource('elsewhere');
  return (action) => outside.runInAsyncScope(action);
}

export function snapshots(kind: StoreKind, context: () => Context): void {
  const rename = ({ db }: Context, { user }: Person, name: string) =>
    db.query('UPDATE users SET first_name = $2 WHERE user_id = $1', [user, name]);

  it('a request sees one state, whatever changes elsewhere, and the next one sees the new', async () => {
    const { engine, second } = context();
    const person = await newPerson(context());
    const { user } = person;
    await engine.getCachedUserContext(user);
    const outside = elsewhere();
    const answer = await withRequestSnapshot(async () => {
      const first = await engine.getCachedUserContext(user);
      await rename(context(), person, 'Grace');
      await outside(() => (kind.shared ? second : engine).invalidateUserContext(user, 'renamed'));
      const [again, bounded] = await Promise.all([
        engine.getCachedUserContext(user),
        engine.getCachedUserContext(user, { consistency: 'bounded' }),
      ]);
      expect(again).toBe(first);
      expect(bounded).toBe(first);
      const fresh = await engine.getCachedUserContext(user, { consistency: 'fresh' });
      expect(fresh.first_name).toBe('Grace');
      expect(await engine.getCachedUserContext(user)).toBe(first);
      return first.first_name;
    });
    expect(answer).toBe('Ada');
    expect((await engine.getCachedUserContext(user)).first_name).toBe('Grace');
  });

  it('a request sees its own writes', async () => {
    const { engine } = context();
    const person = await newPerson(context());
    const invalidate: readonly ((by: Engine) => Promise<unknown>)[] = [
      (by) => by.invalidateUserContext(person.user),
      (by) => by.invalidateUserCache(person.user),
      (by) => by.invalidateUsersWithRole(person.viewer),
      (by) => by.invalidateAllRolePermissions(),
      (by) => by.invalidateOrganizationMembers(person.top),
    ];
    await withRequestSnapshot(async () => {
      for (const [index, invalidates] of invalidate.entries()) {
        const before = await engine.getCachedUserContext(person.user);
        await rename(context(), person, `Name ${index}`);
        await invalidates(engine);
        const after = await engine.getCachedUserContext(person.user);
        expect([before.first_name === `Name ${index}`, after.first_name]).toEqual([false, `Name ${index}`]);
      }
    });
  });

  it('its second read costs nothing, and calls at once share one object', async () => {
    const { engine } = context();
    const { user } = await newPerson(context());
    await withRequestSnapshot(async () => {
      const some = await Promise.all([1, 2, 3].map(() => engine.getCachedUserContext(user)));
      const { roundTrips } = engine.getMetrics().store;
      const cost = await statementsOf(engine, async () => {
        for (const one of some) expect(await engine.getCachedUserContext(user)).toBe(one);
      });
      expect([cost, engine.getMetrics().store.roundTrips - roundTrips]).toEqual([0, 0]);
    });
  });

  it('a refusal is not kept, two requests are two, and what the function throws comes back', async () => {
    const { world, engine, second, db } = context();
    const other = kind.shared ? second : engine;
    const outside = elsewhere();
    const id = randomUUID();
    await withRequestSnapshot(async () => {
      expect(await outcome(engine.getCachedUserContext(id))).toMatchObject({ error: { reason: 'unknown' } });
      await world.user({ user_id: id });
      await outside(() => other.invalidateUserContext(id));
      expect((await engine.getCachedUserContext(id)).user_id).toBe(id);
    });
    const requests = ['A', 'B', 'C'].map(async (name) => {
      await db.query('UPDATE users SET first_name = $2 WHERE user_id = $1', [id, name]);
      await engine.invalidateUserContext(id);
      return withRequestSnapshot(async () => {
        const { first_name: before } = await engine.getCachedUserContext(id);
        await sleep(20);
        return (await engine.getCachedUserContext(id)).first_name === before;
      });
    });
    expect(await Promise.all(requests)).toEqual([true, true, true]);
    const reason = new Error('the handler failed');
    await expect(withRequestSnapshot(() => Promise.reject(reason))).rejects.toBe(reason);
  });
}

/** What `authorizeRequest` must say about a request of this person. */
interface Case {
  readonly name: string;
  readonly given: (subject: Subject) => AuthorizeRequest;
  /** What is changed before. */
  readonly first?: ((context: Context, subject: Subject) => Promise<unknown>) | undefined;
  readonly says: Readonly<Record<string, unknown>> | 'ok';
}

interface Subject extends Person {
  readonly token: string;
  readonly jti: string;
  readonly session: string;
}

const refused = (reason: string, status: number) => ({ ok: false, reason, status });
const verify = verified;
const on =
  (sql: string, value: keyof Subject): Case['first'] =>
  ({ db }, subject) =>
    db.query(sql, [subject[value]]);
const tokenOf = (user: string, more: Record<string, unknown> = {}): string => signed(claimsOf(user, more));
const withoutJti = (user: string): string => {
  const { jti: _, ...claims } = claimsOf(user);
  return signed(claims);
};

const cases: readonly Case[] = [
  { name: 'a good token', given: ({ token }) => ({ token, verify }), says: 'ok' },
  {
    name: 'a good token and its user',
    given: ({ token, user }) => ({ token, verify, userId: user }),
    says: 'ok',
  },
  { name: 'a session', given: ({ user }) => ({ userId: user }), says: 'ok' },
  {
    name: 'a session with an id',
    given: ({ user, session }) => ({ userId: user, tokenId: session }),
    says: 'ok',
  },
  {
    name: 'a session that ended',
    first: ({ engine }, { session }) => engine.invalidateTokenCache(session),
    given: ({ user, session }) => ({ userId: user, tokenId: session }),
    says: refused('token_revoked', 401),
  },
  { name: 'null for a token', given: () => ({ token: null, verify }), says: refused('token_missing', 401) },
  { name: 'undefined for a token', given: () => ({ token: undefined }), says: refused('token_missing', 401) },
  {
    name: 'an empty token',
    given: ({ user }) => ({ token: '', userId: user }),
    says: refused('token_missing', 401),
  },
  {
    name: 'no token text',
    given: () => ({ token: 'nonsense', verify }),
    says: refused('token_invalid', 401),
  },
  {
    name: 'a forged signature',
    given: ({ token }) => ({ token: forged(token), verify }),
    says: { ...refused('token_invalid', 401), cause: new Error('invalid signature') },
  },
  {
    name: 'an expired token',
    given: ({ user }) => ({ token: tokenOf(user, { exp: nowSeconds() - 5 }), verify }),
    says: { ...refused('token_invalid', 401), cause: new Error('jwt expired') },
  },
  {
    name: 'a token without an id',
    given: ({ user }) => ({ token: withoutJti(user), verify }),
    says: refused('token_invalid', 401),
  },
  {
    name: 'a token without an id that is not checked for one',
    given: ({ user }) => ({ token: withoutJti(user), tokenId: null, verify }),
    says: 'ok',
  },
  { name: 'nobody to verify', given: ({ token }) => ({ token }), says: refused('token_unverified', 401) },
  {
    name: 'a forged token and nobody to verify, while the genuine one is cached',
    first: ({ engine }, { token }) => engine.verifyTokenCached(token, verify),
    given: ({ token }) => ({ token: forged(token) }),
    says: refused('token_unverified', 401),
  },
  {
    name: 'a forged token while the genuine one is cached',
    first: ({ engine }, { token }) => engine.verifyTokenCached(token, verify),
    given: ({ token }) => ({ token: forged(token), verify }),
    says: { ...refused('token_invalid', 401), cause: new Error('invalid signature') },
  },
  {
    name: 'a revoked token',
    first: ({ db }, { jti }) => db.revoke(jti),
    given: ({ token }) => ({ token, verify }),
    says: refused('token_revoked', 401),
  },
  {
    name: 'a revoked token that is looked for under another id',
    first: ({ db }, { jti }) => db.revoke(jti),
    given: ({ token, session }) => ({ token, tokenId: session, verify }),
    says: 'ok',
  },
  {
    name: 'a revoked token that is not looked for',
    first: ({ db }, { jti }) => db.revoke(jti),
    given: ({ token }) => ({ token, tokenId: null, verify }),
    says: 'ok',
  },
  {
    name: 'the token of somebody else',
    given: ({ token }) => ({ token, userId: randomUUID(), verify }),
    says: refused('token_mismatch', 401),
  },
  {
    name: 'a verification that names somebody else than the token',
    given: ({ token }) => ({ token, verify: (text) => ({ ...verified(text), user_id: randomUUID() }) }),
    says: refused('token_mismatch', 401),
  },
  {
    name: 'an unknown user',
    given: () => ({ token: tokenOf(randomUUID()), verify }),
    says: refused('user_unknown', 401),
  },
  {
    name: 'an inactive user',
    first: on('UPDATE users SET is_active = NULL WHERE user_id = $1', 'user'),
    given: ({ token }) => ({ token, verify }),
    says: refused('user_inactive', 401),
  },
  {
    name: 'a deleted user',
    first: on('UPDATE users SET deleted_at = now() WHERE user_id = $1', 'user'),
    given: ({ user }) => ({ userId: user }),
    says: refused('user_deleted', 401),
  },
  {
    name: 'a permission that is held',
    given: ({ token }) => ({ token, verify, permission: 'analytics:read:own' }),
    says: 'ok',
  },
  {
    name: 'permissions that are held',
    given: ({ token }) => ({
      token,
      verify,
      permission: ['analytics:read:organization', 'settings:read:own'],
    }),
    says: 'ok',
  },
  {
    name: 'a permission that is not held so broadly',
    given: ({ token }) => ({ token, verify, permission: 'analytics:read:all' }),
    says: refused('forbidden', 403),
  },
  {
    name: 'permissions of which one is not held',
    given: ({ user }) => ({ userId: user, permission: ['analytics:read:own', 'settings:write:all'] }),
    says: refused('forbidden', 403),
  },
  {
    name: 'a permission that was held',
    first: async ({ db, engine }, { user, viewer }) => {
      await engine.getCachedUserContext(user);
      await db.query('DELETE FROM user_roles WHERE role_id = $1', [viewer]);
      await engine.invalidateUserContext(user, 'role_removed');
    },
    given: ({ token }) => ({ token, verify, permission: 'analytics:read:own' }),
    says: refused('forbidden', 403),
  },
];

async function aSubject(context: Context): Promise<Subject> {
  const person = await newPerson(context);
  const claims = claimsOf(person.user);
  return { ...person, token: signed(claims), jti: claims.jti, session: randomUUID() };
}

export function authorized(kind: StoreKind, context: () => Context): void {
  it.each(cases)('authorizeRequest with $name', async ({ first, given, says }) => {
    const { engine, oracle } = context();
    const subject = await aSubject(context());
    await first?.(context(), subject);
    const request = given(subject);
    // Cold, then warm: the verdict is the same.
    for (let round = 0; round < 3; round += 1) {
      const verdict = await engine.authorizeRequest(request);
      if (says !== 'ok') {
        expect(verdict).toMatchObject(says);
        expect('message' in verdict && verdict.message.length > 0).toBe(true);
        continue;
      }
      if (!verdict.ok) throw new Error(`${verdict.reason}: ${verdict.message}`, { cause: verdict.cause });
      expect(wrong({ value: verdict.context }, await oracle.one(subject.user))).toBeUndefined();
      const { token } = request;
      const tokenId = request.tokenId !== undefined || token === undefined ? request.tokenId : subject.jti;
      expect([verdict.userId, verdict.tokenId]).toEqual([subject.user, tokenId ?? null]);
      expect(verdict.payload).toEqual(typeof token === 'string' ? verified(token) : null);
      expect(verdict.user).toEqual(await engine.getUserById(subject.user));
      if (kind.caches) expect(await engine.getCachedUserContext(subject.user)).toBe(verdict.context);
    }
  });

  it('a payload that was verified once needs nobody to verify it again', async () => {
    if (!kind.caches) return;
    const { engine } = context();
    const { token, user } = await aSubject(context());
    let runs = 0;
    const counted = (text: string) => {
      runs += 1;
      return verified(text);
    };
    for (let round = 0; round < 3; round += 1) {
      expect(await engine.authorizeRequest({ token, verify: counted })).toMatchObject({
        ok: true,
        userId: user,
      });
    }
    expect(runs).toBe(1);
    expect(await engine.authorizeRequest({ token })).toMatchObject({ ok: true, payload: verified(token) });
  });

  it.each(['validated', 'bounded', 'fresh'] as const)('with consistency %s', async (consistency) => {
    const { engine, db } = context();
    const { user, viewer } = await aSubject(context());
    const asked = { userId: user, permission: 'analytics:read:own', consistency };
    expect(await engine.authorizeRequest(asked)).toMatchObject({ ok: true });
    await db.query('DELETE FROM user_roles WHERE role_id = $1', [viewer]);
    if (consistency !== 'fresh') await engine.invalidateUserContext(user, 'role_removed');
    expect(await engine.authorizeRequest(asked)).toMatchObject({ ok: false, reason: 'forbidden' });
  });

  it.each([
    ['neither a token nor a user', {}, 'userId'],
    ['a permission without a scope', { userId: randomUUID(), permission: 'analytics:read' }, 'permission'],
    ['an unknown scope', { userId: randomUUID(), permission: ['analytics:read:none'] }, 'permission'],
    ['an empty list of permissions', { userId: randomUUID(), permission: [] }, 'permission'],
    ['something to verify without a token', { userId: randomUUID(), verify }, 'token'],
    ['no permission text', { userId: randomUUID(), permission: [7] }, 'permission'],
    ['an unknown consistency', { userId: randomUUID(), consistency: 'eventual' }, 'consistency'],
    ['a user id that is none', { userId: 'x' }, 'userId'],
    ['something that is no function to verify', { token: 'a.b.c', verify: true }, 'verify'],
  ])('%s is refused as an argument', async (_, request, field) => {
    const refusal = { code: 'E_INVALID_ARGUMENT', field };
    const given = request as AuthorizeRequest;
    await expect(context().engine.authorizeRequest(given)).rejects.toMatchObject(refusal);
  });

  it.each(['ip', 'limits', 'permissions', 'userid'])(
    '%s is refused by its name, not ignored',
    async (name) => {
      const request = { userId: randomUUID(), [name]: 'x' } as AuthorizeRequest;
      const ended = await outcome(context().engine.authorizeRequest(request));
      expect(ended).toMatchObject({ error: { code: 'E_INVALID_ARGUMENT' } });
      expect(String('error' in ended && ended.error)).toContain(name);
    },
  );
}
