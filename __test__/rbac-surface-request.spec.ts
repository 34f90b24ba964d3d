/**
 * Who is let in by `authorizeRequest`, and what is refused as the application's mistake, with a native side that is
 * played. Not whether what that side says is true.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import * as api from '../index.js';
import { outcome } from './support/engines.js';
import {
  Engine,
  type Kept,
  load,
  Native,
  OTHER,
  permissionOf,
  plain,
  tokenOf,
  USER,
  verify,
} from './support/played-native.js';

let native: Native;
let engine: api.Engine;
beforeEach(() => {
  native = new Native();
  native.set(plain());
  engine = new Engine(native);
});

describe('authorizeRequest', () => {
  const token = tokenOf('j', USER);
  const ask = (request: object, options?: api.CallOptions) =>
    engine.authorizeRequest(request as api.AuthorizeRequest, options);

  it('lets a verified user in, with everything from one round trip', async () => {
    native.payload = { jti: 'j', user_id: USER };
    const result = await ask({ token });
    expect(result).toMatchObject({
      ok: true,
      userId: USER,
      tokenId: 'j',
      payload: { user_id: USER },
      user: { user_id: USER, email: 'ada@example.org' },
    });
    native.calls.length = 0;
    const again = await ask({ token, consistency: 'bounded' }, { deadlineMs: 9 });
    expect(native.calls).toEqual([['authorize', token, null, null, true, 1, false, 9]]);
    expect(again.ok && result.ok && again.context === result.context && again.user === result.user).toBe(
      true,
    );
    expect(result.ok && api.scopeOf(result.context).kind).toBe('nothing');
  });

  it('what the request says decides what is asked', async () => {
    native.payload = { user_id: USER };
    await ask({ token });
    native.calls.length = 0;
    await ask({ token, tokenId: 'mine', userId: USER, consistency: 'fresh' });
    await ask({ token, tokenId: null });
    await ask({ userId: USER, tokenId: 'session' });
    expect(native.calls).toEqual([
      ['authorize', token, 'mine', USER, true, 2, false, 0],
      ['authorize', token, null, null, false, 0, false, 0],
      ['authorize', null, 'session', USER, true, 0, false, 0],
    ]);
  });

  it('without a token and without a token id only a context is asked for, which may be near', async () => {
    native.bounded = true;
    await engine.getCachedUserContext(USER);
    native.calls.length = 0;
    const result = await ask({ userId: USER });
    expect(result).toMatchObject({ ok: true, userId: USER, tokenId: null, payload: null });
    expect(native.calls).toEqual([['peekContext', USER, false]]);
    expect(await ask({ userId: OTHER })).toMatchObject({ ok: false, reason: 'user_unknown', status: 401 });
  });

  describe('with limits', () => {
    const limit = { type: 'login', identifier: 'ip:a', limit: 5, windowSeconds: 60 };
    const native5 = ['login', 'ip:a', 5, 60_000, 1, 0];
    const counted = () => native.calls.flatMap((call) => call.filter(Array.isArray));

    it('counts in the same round trip, and says what is left', async () => {
      native.payload = { user_id: USER };
      const result = await ask({ token, limit });
      expect(result).toMatchObject({ ok: true, rateLimit: { allowed: true, remaining: 9, limit: 5 } });
      expect(counted()).toEqual([native5]);
      const other = await ask({
        token,
        permission: 'a:b:all',
        limit: [limit, { type: 'api', identifier: 'u' }],
      });
      expect(other).toMatchObject({ reason: 'forbidden', rateLimit: { results: [{}, { limit: 500 }] } });
      expect(native.count('authorize')).toBe(3);
    });

    it.each<[string, object]>([
      ['objects that are not known here', {}],
      ['a token that is verified first', { verify }],
      ['nothing else to ask', { token: undefined, userId: USER, tokenId: null }],
    ])('counts once: %s', async (_, more) => {
      native.careful = 'verify' in more;
      if (!native.careful) native.payload = { user_id: USER };
      const { token: given, ...rest } = { token, ...more } as { token?: string };
      const result = await ask({ ...(given === undefined ? {} : { token: given }), ...rest, limit });
      expect(result).toMatchObject({ ok: true, rateLimit: { allowed: true } });
      expect(native.count('authorize')).toBeGreaterThan(1);
      expect(counted()).toEqual([native5]);
    });

    it.each([
      ['without a token', { token: null }, 'token_missing'],
      ['with half a character', { token: 'a\ud800' }, 'token_invalid'],
    ])('counts a request %s', async (_, request, reason) => {
      expect(await ask({ ...request, limit })).toMatchObject({ reason, rateLimit: { allowed: true } });
      expect(native.calls).toEqual([['limits', native5, true]]);
      native.limits = [0, 0, 10, 20, 30];
      expect(await ask({ ...request, limit })).toMatchObject({ reason: 'rate_limited', status: 429 });
    });

    it('beyond them nothing else is said, and verify does not run', async () => {
      native.limits = [0, 0, 1_000, 2_000, 1_500];
      native.revoked = true;
      const result = await ask({ token, limit, verify: () => expect.unreachable() });
      expect(result).toMatchObject({ ok: false, reason: 'rate_limited', status: 429, retryAfterMs: 1_500 });
      expect(result.rateLimit).toMatchObject({ allowed: false, type: 'login', degraded: false });
      native.limits = [6, 0, 0, 0, 1_000];
      expect(await ask({ token, limit })).toMatchObject({
        reason: 'unavailable',
        status: 503,
        retryAfterMs: 1_000,
      });
    });

    it.each<[string, unknown]>([
      ['none', []],
      ['too many', Array.from({ length: 17 }, (_, at) => ({ ...limit, identifier: String(at) }))],
      ['no object', 'api'],
      ['an unknown name', { type: 'apis', identifier: 'u' }],
      ['no identifier', { type: 'api' }],
      ['half of it', { type: 'api', identifier: 'u', limit: 5 }],
      ['a misspelt property', { ...limit, costs: 2 }],
      ['no window', { ...limit, windowSeconds: 0 }],
      ['a fraction', { ...limit, limit: 1.5 }],
      ['no such policy', { ...limit, onStoreFailure: 'allow' }],
    ])('is refused before anything is counted: %s', async (_, wrong) => {
      await expect(ask({ token, limit: wrong })).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT' });
      expect(native.calls).toEqual([]);
    });
  });

  const shapes: [what: string, request: object, world: Partial<Native>, expected: string][] = [
    ['no cookie', { token: undefined, verify }, {}, 'token_missing'],
    ['null', { token: null, verify }, {}, 'token_missing'],
    ['an empty token', { token: '', verify, userId: USER }, {}, 'token_missing'],
    ['an empty token without verify', { token: '', userId: USER }, {}, 'token_missing'],
    ['half a character', { token: 'a\ud800', verify }, {}, 'token_invalid'],
    ['no jti', { token: tokenOf('', USER), verify }, {}, 'token_invalid'],
    ['no jti, no blacklist', { token: tokenOf('', USER), verify, tokenId: null }, {}, 'ok'],
    ['no jti, an id of the application', { token: tokenOf('', USER), verify, tokenId: 'x' }, {}, 'ok'],
    ['no user', { token: tokenOf('j', ''), verify }, {}, 'token_invalid'],
    ['no user, but named by verify', { token: tokenOf('j', ''), verify: () => ({ sub: USER }) }, {}, 'ok'],
    ['revoked', { token, verify }, { revoked: true }, 'token_revoked'],
    ['revoked and not verified', { token }, { revoked: true }, 'token_revoked'],
    ['revoked, blacklist not asked', { token, verify, tokenId: null }, { revoked: true }, 'ok'],
    ['nothing to verify with', { token }, {}, 'token_unverified'],
    ['verified before', { token }, { payload: { jti: 'j', user_id: USER } }, 'ok'],
    ['unverified, of nobody', { token: tokenOf('j', OTHER) }, {}, 'token_unverified'],
    ['unverified, of somebody deactivated', { token }, { denied: 'inactive' }, 'token_unverified'],
    ['of nobody', { token: tokenOf('j', OTHER), verify }, {}, 'user_unknown'],
    ['of somebody deactivated', { token, verify }, { denied: 'inactive' }, 'user_inactive'],
    ['of somebody deleted', { token, verify }, { denied: 'deleted' }, 'user_deleted'],
    ['denied in a word of tomorrow', { token, verify }, { denied: 'suspended' }, 'user_unknown'],
    ['of whom it must be', { token, verify, userId: USER.toUpperCase() }, {}, 'ok'],
    ['of another than it must be', { token, verify, userId: OTHER }, {}, 'token_mismatch'],
    ['verified as another', { token, verify: () => ({ user_id: OTHER }) }, {}, 'token_mismatch'],
    [
      'verified as another first',
      { token, verify: () => ({ user_id: OTHER, sub: USER }) },
      {},
      'token_mismatch',
    ],
    ['verified as nobody', { token, verify: () => ({ ok: true }) }, {}, 'token_mismatch'],
    ['verified as nobody, user given', { token, userId: USER, verify: () => ({}) }, {}, 'token_mismatch'],
    ['verified as a number', { token, verify: () => ({ user_id: 7, sub: [USER] }) }, {}, 'token_mismatch'],
    ['another token verified', { token, verify: () => ({ user_id: USER, jti: 'k' }) }, {}, 'token_mismatch'],
    ['cached as another', { token }, { payload: { user_id: OTHER } }, 'token_mismatch'],
    [
      'cached as another, user given',
      { token, userId: USER },
      { payload: { user_id: OTHER } },
      'token_mismatch',
    ],
    ['a permission missing', { token, verify, permission: 'a:read:own' }, {}, 'forbidden'],
    ['one of two missing', { token, verify, permission: ['b:read:own', 'a:read:own'] }, {}, 'forbidden'],
    ['no payload at all', { token, verify: () => null }, {}, 'token_invalid'],
    ['yes as a payload', { token, verify: () => true }, {}, 'token_invalid'],
  ];
  it.each(shapes)('%s', async (_, request, world, expected) => {
    native.set(plain({ all_permissions: [permissionOf('b:read:all')] }));
    Object.assign(native, world);
    const result = await ask(request);
    expect(result.ok ? 'ok' : result.reason).toBe(expected);
    if (result.ok) expect(result.userId).toBe(USER);
    else {
      expect(result.status).toBe(expected === 'forbidden' ? 403 : 401);
      expect(Object.keys(result)).not.toContain('context');
      expect(JSON.stringify(result)).not.toContain('ada@');
    }
  });

  it('the decision does not rely on the native side having used the id it was given', () => {
    interface Step {
      readonly go: string;
      readonly result?: api.AuthorizeDenied;
    }
    const { decide } = load('./dist/decide.js') as {
      decide: (asked: object, facts: object, claims: readonly string[]) => Step;
    };
    const asked = { token, verify, tokenId: null, checkToken: false, userId: null, permissions: [] };
    const facts = { revoked: null, payload: { sub: USER }, denied: null, tokenId: null, userId: USER };
    const known = { ...facts, context: plain(), failure: undefined };
    const rows: [more: object, other: object, expected: string][] = [
      [{}, {}, 'grant'],
      [{ userId: USER }, {}, 'grant'],
      [{ userId: OTHER }, {}, 'token_mismatch'],
      [{ userId: USER }, { userId: OTHER }, 'token_mismatch'],
      [{}, { userId: null }, 'grant'],
      [{}, { context: undefined }, 'load'],
      [{}, { context: undefined, payload: null }, 'verify'],
      [{}, { denied: 'deleted', payload: null }, 'verify'],
      [{}, { denied: 'deleted' }, 'user_deleted'],
      [{ checkToken: true }, {}, 'token_invalid'],
      [{ checkToken: true }, { tokenId: 'j', revoked: true }, 'token_revoked'],
      [{ checkToken: true }, { tokenId: 'j', revoked: false }, 'grant'],
      [{ checkToken: true }, { tokenId: 'j', revoked: null }, 'check'],
      [{ checkToken: true }, { tokenId: 'j', revoked: null, payload: null }, 'verify'],
      [{ checkToken: true, userId: OTHER }, { tokenId: 'j', revoked: null }, 'token_mismatch'],
      [{ permissions: ['a:read:own'] }, {}, 'forbidden'],
      [{ token: null, userId: USER }, { payload: null }, 'grant'],
    ];
    for (const [more, other, expected] of rows) {
      const step = decide({ ...asked, ...more }, { ...known, ...other }, ['user_id', 'sub']);
      expect([more, other, step.result?.reason ?? step.go]).toEqual([more, other, expected]);
    }
    expect(() => decide({ ...asked, token: null }, known, [])).toThrow(api.BcosCacheError);
  });

  it('what the cache does not know of a token is asked once it is verified, for the ids that are certain', async () => {
    native.careful = true;
    expect(await ask({ token, verify })).toMatchObject({ ok: true, userId: USER, tokenId: 'j' });
    const asked = native.calls.filter(([name]) => name === 'authorize').map((call) => call.slice(1, 5));
    expect(asked[0]).toEqual([token, null, null, true]);
    expect(asked.at(-1)).toEqual([null, 'j', USER, true]);
    native.revoked = true;
    expect(await ask({ token, verify })).toMatchObject({ reason: 'token_revoked' });
    native.calls.length = 0;
    const refuse = () => Promise.reject(new Error('forged'));
    expect(await ask({ token, verify: refuse })).toMatchObject({ reason: 'token_invalid' });
    expect(await ask({ token, verify: () => ({ user_id: OTHER }) })).toMatchObject({
      reason: 'token_mismatch',
    });
    expect(await ask({ token })).toMatchObject({ reason: 'token_unverified' });
    for (const [, text] of native.calls) expect(text).toBe(token);
  });

  it('a missing token is not asked about', async () => {
    await ask({ token: '', verify, userId: USER });
    expect(native.calls).toEqual([]);
  });

  it('all permissions that are asked for are needed, as they were when it was called', async () => {
    native.set(plain({ all_permissions: [permissionOf('a:read:all'), permissionOf('b:read:own')] }));
    expect(await ask({ userId: USER, permission: ['a:read:own', 'b:read:own'] })).toMatchObject({ ok: true });
    const needed = ['b:read:all'];
    const call = ask({ token, verify, permission: needed });
    needed[0] = 'b:read:own';
    expect(await call).toMatchObject({ ok: false, reason: 'forbidden' });
  });

  it('a payload is judged by what JSON carries of it, not by what it inherits or answers later', async () => {
    let asked = 0;
    const shifting = () => ({
      get user_id() {
        asked += 1;
        return asked > 1 ? OTHER : USER;
      },
    });
    expect(await ask({ token, verify: shifting })).toMatchObject({ ok: true, payload: { user_id: USER } });
    class Inherited {
      get user_id() {
        return USER;
      }
    }
    expect(await ask({ token, verify: () => new Inherited() })).toMatchObject({ reason: 'token_mismatch' });
    const polluted = JSON.parse(`{"__proto__":{"user_id":"${USER}"}}`) as object;
    expect(await ask({ token, verify: () => polluted })).toMatchObject({ reason: 'token_mismatch' });
    native.payload = polluted;
    expect(await ask({ token })).toMatchObject({ reason: 'token_mismatch' });
  });

  it('what verify throws is the cause, whatever it is', async () => {
    for (const cause of [new Error('expired'), 'no', new api.SourceUnavailableError('keys'), null]) {
      const refuse = async () => {
        throw cause;
      };
      expect(await ask({ token, verify: refuse })).toMatchObject({
        reason: 'token_invalid',
        status: 401,
        cause,
      });
    }
  });

  it.each([
    new api.SourceUnavailableError('x'),
    new api.StoreUnavailableError('x'),
    new api.DeadlineError('x'),
    new api.OverloadedError('x'),
  ])('%s is unavailable, not a refusal', async (cause) => {
    native.failure = cause;
    for (const request of [{ token, verify }, { token }, { userId: USER }]) {
      expect(await ask(request)).toEqual({
        ok: false,
        reason: 'unavailable',
        status: 503,
        message: expect.any(String),
        cause,
        retryAfterMs: 1_000,
      });
    }
  });

  it('a closed engine and a defect reject', async () => {
    for (const error of [
      new api.ClosedError('x'),
      new api.BcosCacheError('E_INTERNAL', 'x'),
      new TypeError('x'),
    ]) {
      native.failure = error;
      expect(await outcome(ask({ token, verify }))).toEqual({ error });
      expect(await outcome(ask({ userId: USER }))).toEqual({ error });
    }
    native.failure = undefined;
    native.revoked = null;
    expect(await outcome(ask({ token, verify }))).toMatchObject({ error: { code: 'E_INTERNAL' } });
  });

  it('an id that is none is the fault of whoever gave it', async () => {
    for (const field of ['token', 'tokenId', 'userId']) {
      native.failure = new api.InvalidArgumentError('x', { field });
      expect(await ask({ token, verify })).toMatchObject({ reason: 'token_invalid' });
    }
    const given: [field: string, request: object][] = [
      ['tokenId', { token, verify, tokenId: 'x' }],
      ['userId', { token, verify, userId: 'x' }],
      ['userId', { userId: 'x' }],
    ];
    for (const [field, request] of given) {
      native.failure = new api.InvalidArgumentError('x', { field });
      expect(await outcome(ask(request))).toMatchObject({ error: { code: 'E_INVALID_ARGUMENT', field } });
    }
  });

  it('the context of another user is a defect, not an answer', async () => {
    const [mine, foreign] = [plain(), plain({ user_id: OTHER })];
    native.set(foreign);
    native.kept.set(mine.user_id, native.kept.get(OTHER) as Kept);
    expect(await outcome(ask({ token, verify }))).toMatchObject({ error: { code: 'E_INTERNAL' } });
    expect(await outcome(ask({ userId: USER }))).toMatchObject({ error: { code: 'E_INTERNAL' } });
  });

  class Request {
    readonly token = token;
    readonly userId = USER;
  }
  const refused: [what: string, request: unknown, field: string][] = [
    ['nothing', undefined, 'request'],
    ['null', null, 'request'],
    ['a token alone', token, 'request'],
    ['a list', [token], 'request'],
    ['an object of a class', new Request(), 'request'],
    ['a request that inherits', Object.create({ userId: USER }), 'request'],
    ['neither token nor user', {}, 'userId'],
    ['a user that is undefined', { userId: undefined }, 'userId'],
    ['a user that is null', { userId: null }, 'userId'],
    ['a user that is empty', { userId: '' }, 'userId'],
    ['an empty user beside a token', { token, verify, userId: '' }, 'userId'],
    ['a null user beside a token', { token, verify, userId: null }, 'userId'],
    ['a user that is a number', { userId: 7 }, 'userId'],
    ['a token that is a number', { token: 7, verify }, 'token'],
    ['verify without a token', { userId: USER, verify }, 'token'],
    ['verify that is none', { token, verify: 'yes' }, 'verify'],
    ['an empty token id', { token, verify, tokenId: '' }, 'tokenId'],
    ['a token id that is a number', { token, verify, tokenId: 7 }, 'tokenId'],
    ['a limit', { token, verify, limit: 'api' }, 'limit'],
    ['an address', { userId: USER, ip: undefined }, 'ip'],
    ['a misspelt permission', { userId: USER, permissions: 'a:read:own' }, 'permissions'],
    ['a symbol', { userId: USER, [Symbol('limit')]: 1 }, 'Symbol(limit)'],
    ['half a permission', { userId: USER, permission: 'a:read' }, 'permission'],
    ['no permission', { userId: USER, permission: '' }, 'permission'],
    ['permission null', { userId: USER, permission: null }, 'permission'],
    ['an empty list', { userId: USER, permission: [] }, 'permission'],
    ['a list with a hole', { userId: USER, permission: new Array(1) }, 'permission'],
    ['a list in a list', { userId: USER, permission: [['a:read:own']] }, 'permission'],
    ['a set of permissions', { userId: USER, permission: new Set(['a:read:own']) }, 'permission'],
    ['a consistency', { userId: USER, consistency: 'eventual' }, 'consistency'],
  ];
  it.each(refused)('refuses %s before anything is asked', async (_, request, field) => {
    const ended = await outcome(engine.authorizeRequest(request as api.AuthorizeRequest));
    expect(ended).toMatchObject({ error: { code: 'E_INVALID_ARGUMENT', field } });
    expect(native.calls).toEqual([]);
  });

  it('names all unknown properties', async () => {
    await expect(ask({ userId: USER, ip: 'x', limits: 1 })).rejects.toThrow(/ip, limits/);
  });

  it('reads each property once', async () => {
    let reads = 0;
    const request = {
      token,
      verify,
      get userId() {
        reads += 1;
        return reads > 1 ? OTHER : USER;
      },
    };
    expect(await ask(request)).toMatchObject({ ok: true, userId: USER });
    expect(reads).toBe(1);
  });

  it('what everything inherits is nobody’s request', async () => {
    const everything = Object.prototype as unknown as Record<string, unknown>;
    try {
      everything['userId'] = USER;
      everything['tokenId'] = null;
      expect(await outcome(ask({}))).toMatchObject({ error: { field: 'userId' } });
      native.revoked = true;
      expect(await ask({ token, verify })).toMatchObject({ reason: 'token_revoked' });
      native.revoked = false;
      everything['user_id'] = USER;
      expect(await ask({ token, verify: () => ({ jti: 'j' }) })).toMatchObject({ reason: 'token_mismatch' });
    } finally {
      for (const name of ['userId', 'tokenId', 'user_id']) delete everything[name];
    }
  });

  it('an aborted signal rejects with its reason, also during verify', async () => {
    const controller = new AbortController();
    const slow = async () => {
      controller.abort('enough');
      await sleep(5);
      return verify(token);
    };
    const { signal } = controller;
    expect(await outcome(ask({ token, verify: slow }, { signal }))).toEqual({ error: 'enough' });
    expect(await outcome(ask({ token, verify }, { signal }))).toEqual({ error: 'enough' });
  });

  it('a deadline covers verify as well', async () => {
    const slow = async () => {
      await sleep(200);
      return verify(token);
    };
    const result = await ask({ token, verify: slow }, { deadlineMs: 30 });
    expect(result).toMatchObject({ reason: 'unavailable', status: 503, cause: { code: 'E_DEADLINE' } });
    native.gate = sleep(40);
    expect(await ask({ token, verify }, { deadlineMs: 30 })).toMatchObject({ reason: 'unavailable' });
  });
});
