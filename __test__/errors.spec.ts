/**
 * Errors: the codes of Rust, TypeScript and the documentation are one list, each with one class, recognised also by
 * a second copy of the package. Not which function fails how: the other specs say that.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import * as api from '../index.js';
import { Engines, outcome } from './support/engines.js';

const root = join(__dirname, '..');
const text = (name: string) => readFileSync(join(root, name), 'utf8');
const load = createRequire(join(root, 'index.js'));
const codesIn = (source: string) =>
  [...new Set([...source.matchAll(/'(E_[A-Z_]+)'/g)].map(([, code]) => code ?? ''))].sort();

const engines = new Engines();
afterAll(() => engines[Symbol.asyncDispose]());

const classes = {
  E_CONFIG: api.ConfigError,
  E_INVALID_ARGUMENT: api.InvalidArgumentError,
  E_SOURCE_UNAVAILABLE: api.SourceUnavailableError,
  E_STORE_UNAVAILABLE: api.StoreUnavailableError,
  E_DEADLINE: api.DeadlineError,
  E_OVERLOADED: api.OverloadedError,
  E_SCOPE: api.ScopeError,
  E_NOT_FOUND: api.NotFoundError,
  E_CONFLICT: api.ConflictError,
  E_RATE_LIMITED: api.RateLimitedError,
  E_CLOSED: api.ClosedError,
} as const;
const each = Object.entries(classes) as [keyof typeof classes, (typeof classes)[keyof typeof classes]][];

describe('the codes', () => {
  const rust = text('crates/core/src/base/error.rs');
  /** `Code::Config => "E_CONFIG"`, by variant. */
  const texts = new Map(
    [...rust.matchAll(/Code::(\w+) => "(E_[A-Z_]+)"/g)].map(([, variant, code]) => [variant, code ?? '']),
  );
  const union = (source: string) => codesIn(/export type ErrorCode =([\s\S]*?);/.exec(source)?.[1] ?? '');
  const typescript = union(text('lib/errors.ts'));

  it('of Rust are all in its own list', () => {
    const listed = /pub const ALL[^=]*= \[([\s\S]*?)\];/.exec(rust)?.[1] ?? '';
    expect([...listed.matchAll(/Code::(\w+)/g)].map(([, variant]) => variant).sort()).toEqual(
      [...texts.keys()].sort(),
    );
    expect(texts.size).toBeGreaterThan(8);
  });

  it('of Rust are known to TypeScript, and back', () => {
    expect([...texts.values()].sort()).toEqual(typescript);
  });

  it('are declared and documented in index.d.ts', () => {
    const declared = text('index.d.ts');
    expect(union(declared)).toEqual(typescript);
    const table = [...declared.matchAll(/^ \* \| `(E_[A-Z_]+)` \|/gm)].map(([, code]) => code);
    expect([...table].sort()).toEqual(typescript);
  });

  it('have a class each, but for the defects of the package itself', () => {
    expect([...Object.keys(classes), 'E_INTERNAL'].sort()).toEqual(typescript);
  });
});

describe('a class', () => {
  it.each(each)('%s: code, name and class agree', (code, type) => {
    const cause = new Error('why');
    const error = new type('a sentence', { field: 'jti', cause, retryable: true });
    expect(error).toBeInstanceOf(type);
    expect(error).toBeInstanceOf(api.BcosCacheError);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({
      code,
      field: 'jti',
      retryable: true,
      message: 'a sentence',
      name: type.name,
    });
    expect(error.cause).toBe(cause);
    expect(error.stack).toMatch(new RegExp(`^${type.name}: a sentence\n`));
    for (const [other, foreign] of each)
      expect([other, error instanceof foreign]).toEqual([other, other === code]);
  });

  it('shows only what is known', () => {
    const error = new api.DeadlineError('late');
    expect(Object.keys(error).sort()).toEqual(['code', 'retryable']);
    expect('cause' in error).toBe(false);
    expect(inspect(error)).not.toContain('undefined');
  });

  it('is not taken for what it is not', () => {
    for (const value of [null, undefined, 1, 'E_CONFIG', { code: 'E_CONFIG' }, new Error('x')]) {
      expect((value as unknown) instanceof api.BcosCacheError).toBe(false);
      expect((value as unknown) instanceof api.ConfigError).toBe(false);
    }
  });

  it('derived by an application keeps the rule of the language', () => {
    class Mine extends api.NotFoundError {}
    expect(new Mine('x')).toBeInstanceOf(Mine);
    expect(new Mine('x')).toBeInstanceOf(api.NotFoundError);
    expect(new api.NotFoundError('x')).not.toBeInstanceOf(Mine);
  });

  it('for a code this build does not know is E_INTERNAL that names it', () => {
    const { fromNative } = load('./dist/errors.js') as typeof import('../lib/errors.js');
    expect(fromNative('E_TOMORROW', 'a sentence', null)).toMatchObject({
      code: 'E_INTERNAL',
      message: 'E_TOMORROW: a sentence',
    });
    for (const [code, type] of each) {
      const error = fromNative(code, 'm', 'f');
      expect([error.code, error.field, error.constructor.name]).toEqual([code, 'f', type.name]);
    }
  });
});

describe('two copies of the package in one process', () => {
  const first = load('./index.js') as typeof api;
  // As a bundler or a hot reload does it: the JavaScript again, the add-on the same.
  for (const file of Object.keys(load.cache)) {
    if (dirname(file) === join(root, 'dist') || file === join(root, 'index.js')) delete load.cache[file];
  }
  const second = load('./index.js') as typeof api;

  it('are two', () => {
    expect(second.ConfigError).not.toBe(first.ConfigError);
  });

  it.each(each)('recognise each other: %s', (code, type) => {
    for (const [maker, judge] of [
      [first, second],
      [second, first],
    ] as const) {
      const name = type.name as 'ConfigError';
      const error = new maker[name]('m');
      expect(error instanceof judge[name]).toBe(true);
      expect(error instanceof judge.BcosCacheError).toBe(true);
      expect(error instanceof judge[code === 'E_SCOPE' ? 'ConfigError' : 'ScopeError']).toBe(false);
    }
  });

  it('both recognise what the engine throws and rejects with', async () => {
    for (const copy of [first, second]) {
      const engine = copy.createEngine();
      const source = await outcome(engine.isTokenBlacklisted('a'));
      const argument = await outcome(engine.isTokenBlacklisted(''));
      let config: unknown;
      try {
        copy.createEngine({ redisPort: 0 });
      } catch (error) {
        config = error;
      }
      await engine.close();
      for (const judge of [first, second]) {
        expect('error' in source && source.error instanceof judge.SourceUnavailableError).toBe(true);
        expect('error' in argument && argument.error instanceof judge.InvalidArgumentError).toBe(true);
        expect(config instanceof judge.ConfigError).toBe(true);
      }
    }
  });
});

describe('arguments of the wrong type', () => {
  const engine = engines.start({ cacheStore: 'embedded' });
  const wrong = [undefined, null, 7, true, {}, [], Symbol('x'), () => 'x', Buffer.from('x'), new String('x')];
  const one = (call: (value: never) => Promise<unknown>, field: string) => ({ call, field });
  const revocation = {
    jti: 'j',
    userId: '3f2504e0-4f89-11d3-9a0c-0305e82c3301',
    tokenType: 'access',
    expiresAt: 1,
    reason: 'r',
  };
  const calls = {
    isTokenBlacklisted: one((value) => engine.isTokenBlacklisted(value), 'tokenId'),
    getCachedTokenBlacklistStatus: one((value) => engine.getCachedTokenBlacklistStatus(value), 'tokenId'),
    cacheTokenBlacklistStatus: one((value) => engine.cacheTokenBlacklistStatus(value, true), 'tokenId'),
    invalidateTokenCache: one((value) => engine.invalidateTokenCache(value), 'tokenId'),
    'blacklistToken jti': one((value) => engine.blacklistToken({ ...revocation, jti: value }), 'jti'),
    'blacklistToken userId': one(
      (value) => engine.blacklistToken({ ...revocation, userId: value }),
      'userId',
    ),
    'blacklistToken tokenType': one(
      (value) => engine.blacklistToken({ ...revocation, tokenType: value }),
      'tokenType',
    ),
    'blacklistToken reason': one(
      (value) => engine.blacklistToken({ ...revocation, reason: value }),
      'reason',
    ),
    invalidateAllUserTokens: one((value) => engine.invalidateAllUserTokens(value), 'userId'),
    getUserById: one((value) => engine.getUserById(value), 'userId'),
    getUserByEmail: one((value) => engine.getUserByEmail(value), 'email'),
    invalidateUserCache: one((value) => engine.invalidateUserCache(value), 'userId'),
    getCachedUserBasic: one((value) => engine.getCachedUserBasic(value), 'userId'),
    cacheUserBasic: one((value) => engine.cacheUserBasic(value, {} as api.UserInput), 'userId'),
    getCachedJWTPayload: one((value) => engine.getCachedJWTPayload(value), 'token'),
    cacheJWTPayload: one((value) => engine.cacheJWTPayload(value, {}), 'token'),
    invalidateJWTPayload: one((value) => engine.invalidateJWTPayload(value), 'tokenId'),
    verifyTokenCached: one((value) => engine.verifyTokenCached(value, () => ({})), 'token'),
  };

  it.each(Object.entries(calls))('%s rejects and names the argument', async (_, { call, field }) => {
    for (const value of wrong) {
      const ended = await outcome(call(value as never));
      expect(ended).toMatchObject({ error: { code: 'E_INVALID_ARGUMENT', field, retryable: false } });
    }
  });

  it.each([
    ['cacheTokenBlacklistStatus', () => engine.cacheTokenBlacklistStatus('a', 1 as never), 'blacklisted'],
    ['cacheUserBasic', () => engine.cacheUserBasic(revocation.userId, [] as never), 'user'],
    ['cacheJWTPayload', () => engine.cacheJWTPayload('a.b.c', [] as never), 'payload'],
    ['blacklistToken', () => engine.blacklistToken(null as never), 'revocation'],
    [
      'blacklistToken expiresAt',
      () => engine.blacklistToken({ ...revocation, expiresAt: 'soon' }),
      'expiresAt',
    ],
    [
      'blacklistToken expiresAt',
      () => engine.blacklistToken({ ...revocation, expiresAt: Number.NaN }),
      'expiresAt',
    ],
    ['blacklistToken expiresAt', () => engine.blacklistToken({ ...revocation, expiresAt: -1 }), 'expiresAt'],
    [
      'blacklistToken expiresAt',
      () => engine.blacklistToken({ ...revocation, expiresAt: 1e18 }),
      'expiresAt',
    ],
    [
      'blacklistToken tokenType',
      () => engine.blacklistToken({ ...revocation, tokenType: 'x'.repeat(21) }),
      'tokenType',
    ],
    [
      'blacklistToken reason',
      () => engine.blacklistToken({ ...revocation, reason: 'x'.repeat(51) }),
      'reason',
    ],
    [
      'blacklistToken ipAddress',
      () => engine.blacklistToken({ ...revocation, ipAddress: 'x'.repeat(46) }),
      'ipAddress',
    ],
    [
      'blacklistToken userAgent',
      () => engine.blacklistToken({ ...revocation, userAgent: 'a\0' }),
      'userAgent',
    ],
    [
      'blacklistToken by',
      () => engine.blacklistToken({ ...revocation, blacklistedBy: 'x' }),
      'blacklistedBy',
    ],
    ['blacklistToken jti', () => engine.blacklistToken({ ...revocation, jti: 'x'.repeat(256) }), 'jti'],
    ['getUserByEmail', () => engine.getUserByEmail('x'.repeat(256)), 'email'],
    ['setLogger', async () => engine.setLogger(7 as never), 'logger'],
  ])('%s refuses what has no meaning', async (_, call, field) => {
    expect(await outcome<unknown>(call())).toMatchObject({ error: { code: 'E_INVALID_ARGUMENT', field } });
  });
});
